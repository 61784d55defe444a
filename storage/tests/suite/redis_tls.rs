//! The online store over TLS.

use std::path::Path;
use std::process::Command;

use asofdb_storage::Error;
use asofdb_storage::online::Redis;

use crate::conformance::test_cell::TestCell;
use crate::conformance::{event, live, ready, sum};
use crate::redis_faults::{options, writer};
use crate::redis_server::{RedisServer, free_port};

/// Where the child of the test below finds its server: URLs.
const CHILD: &str = "ASOFDB_TEST_TLS_URLS";

/// A certificate for this machine, and the authority that made it.
fn make_certificates(dir: &Path) {
    let openssl = |args: &str| {
        let args = args.split(' ').map(|arg| arg.replace("DIR", &dir.display().to_string()));
        let output = Command::new("openssl").args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -days 2 -subj /CN=ca -keyout DIR/ca.key -out DIR/ca.pem"));
    openssl(&format!("req -new {key} -subj /CN=localhost -keyout DIR/key.pem -out DIR/csr"));
    openssl(
        "x509 -req -in DIR/csr -CA DIR/ca.pem -CAkey DIR/ca.key -CAcreateserial -days 2 \
         -extfile DIR/san -out DIR/cert.pem",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_checked() {
    if let Ok(urls) = std::env::var(CHILD) {
        for url in urls.split(' ').map(str::to_owned) {
            let store = Redis::<TestCell>::open_writer(&options(url), &writer("a")).await.unwrap();
            ready(&store, 1, 1).await;
            live(&store, 1, (1, 2), &[event(b"k", 1, 1, 1)]).await.unwrap();
            assert_eq!(sum(&store, 1, b"k").await, Some(1));
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    make_certificates(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    // The plain port stays open, for the tests' own connections.
    let mut server = RedisServer::start();
    let settings = |port: &str| {
        [
            ("tls-cert-file", file("cert.pem")),
            ("tls-key-file", file("key.pem")),
            ("tls-ca-cert-file", file("ca.pem")),
            ("tls-auth-clients", "no".to_owned()),
            ("tls-port", port.to_owned()),
        ]
    };
    let port = free_port().to_string();
    for (name, value) in settings(&port) {
        server.command(&["CONFIG", "SET", name, &value]);
    }
    let sentinel_port = free_port().to_string();
    let mut lines = format!("sentinel monitor main 127.0.0.1 {port} 1\ntls-replication yes\n");
    for (name, value) in settings(&sentinel_port) {
        lines += &format!("{name} {value}\n");
    }
    let _sentinel = RedisServer::sentinel(&lines);
    let through_sentinel = format!("rediss+sentinel://127.0.0.1:{sentinel_port}/main");
    let url = format!("rediss://127.0.0.1:{port}/");
    for url in [&url, &through_sentinel] {
        let refused = Redis::<TestCell>::open_writer(&options(url.clone()), &writer("a")).await;
        assert!(
            matches!(&refused, Err(Error::StoreUnavailable { reason }) if reason.contains("certificate")),
            "{refused:?}"
        );
    }
    // Who is trusted is read from the environment once in a process: another one is needed.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "redis_tls::a_certificate_is_checked", "--nocapture"])
        .env("SSL_CERT_FILE", file("ca.pem"))
        .env(CHILD, format!("{url} {through_sentinel}"))
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    server.kill();
}

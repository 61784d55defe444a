//! The history over the protocol of S3, against the server of `moto` in a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use asofdb_storage::{Error, History, Owner};
use object_store::ObjectStoreExt;
use url::Url;

use crate::rows::{OWNER, Row, batch, data_files, read, read_all, rows, write_file, writer};

/// How long a server that is gone may keep a call waiting.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that ends with the test.
struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    fn start() -> Moto {
        let mut child = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("moto_server: {error}; pip install 'moto[server]'"));
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut port) = (String::new(), None);
        while port.is_none() {
            let from = said.len();
            let read = log.read_line(&mut said).unwrap();
            assert!(read > 0, "moto_server did not start; pip install 'moto[server]'\n{said}");
            let address = said[from..].split_once("http://127.0.0.1:");
            port = address.and_then(|(_, rest)| rest.trim().parse().ok());
        }
        // It writes a line for each request, and must not wait for somebody to read it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Moto { child, port: port.unwrap() }
    }

    fn create_bucket(&self, name: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!("PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n", self.port);
        let rest = "Content-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all((head + rest).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    fn options(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [
            ("aws_endpoint", endpoint.as_str()),
            ("aws_allow_http", "true"),
            ("aws_access_key_id", "test"),
            ("aws_secret_access_key", "test"),
            ("aws_region", "eu-central-1"),
            ("timeout", "10 seconds"),
            ("of_another_store", "ignored"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
    }

    async fn open(&self, url: &str, owner: Owner<'_>) -> Result<History, Error> {
        History::open_url(&Url::parse(url).unwrap(), self.options(), owner).await
    }

    fn kill(&mut self) {
        // An error: it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.kill();
    }
}

const URL: &str = "s3://bucket/some/prefix";

/// Values that do not compress.
fn scattered(index: u64) -> i64 {
    let value = |index: u64| index.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    value(value(index) ^ index) as i64
}

#[tokio::test]
async fn a_history_in_a_bucket() {
    let mut moto = Moto::start();
    let missing = moto.open("s3://bucket/some/prefix", OWNER).await;
    assert!(matches!(missing, Err(Error::Store { .. })), "no such bucket: {missing:?}");
    moto.create_bucket("bucket");
    let history = moto.open(URL, OWNER).await.unwrap();
    history.append(2, vec![rows(1, &[&[(1, 1, 1)]]), rows(2, &[])]).await.unwrap();
    let old = history.append(3, vec![rows(1, &[&[(2, 2, 2)]])]).await.unwrap();
    assert_eq!(read_all(&history, 1).await, [[(1, 1, 1)], [(2, 2, 2)]]);

    let merged = write_file(&history, 1, &[(1, 1, 1), (2, 2, 2)]).await;
    history.replace(1, old.files(1), vec![merged], Some(1)).await.unwrap();
    assert_eq!(history.delete_retired().await.unwrap(), 0);
    assert_eq!(read(&history, &old.files(1)[1]).await, [(2, 2, 2)]);
    drop(old);
    assert_eq!(history.delete_retired().await.unwrap(), 2);
    write_file(&history, 1, &[(9, 9, 9)]).await;
    assert_eq!(data_files(&*history.store()).await.len(), 2, "one is garbage");
    let streams = history.manifest().streams.clone();
    drop(history);

    let history = moto.open(URL, OWNER).await.unwrap();
    assert_eq!((&history.manifest().streams, history.manifest().covered), (&streams, 3));
    assert_eq!(read_all(&history, 1).await, [[(1, 1, 1), (2, 2, 2)]]);
    let files = data_files(&*history.store()).await;
    assert_eq!(files, [history.location(&streams[&1].files[0]).to_string()]);
    let bucket = moto.open("s3://bucket", OWNER).await.unwrap();
    let whole = format!("some/prefix/{}", files[0]);
    assert!(bucket.store().head(&whole.as_str().into()).await.is_ok(), "below the prefix");

    let stranger = moto.open(URL, Owner("another")).await;
    assert!(matches!(stranger, Err(Error::ForeignHistory { .. })), "{stranger:?}");
    moto.kill();
    gone(&history, &moto).await;
}

/// What a server that is gone does to `history`: it fails, and soon.
async fn gone(history: &History, moto: &Moto) {
    let present = history.manifest();
    let start = Instant::now();
    let failed = history.append(9, vec![rows(1, &[&[(5, 5, 5)]])]).await;
    assert!(matches!(failed, Err(Error::Store { .. })), "the file: {failed:?}");
    let failed = history.append(9, vec![]).await;
    assert!(matches!(failed, Err(Error::Store { .. })), "the manifest: {failed:?}");
    let failed = moto.open(URL, OWNER).await;
    assert!(matches!(failed, Err(Error::Store { .. })), "{failed:?}");
    assert_eq!(history.manifest(), present);
    assert!(start.elapsed() < 4 * PATIENCE, "{:?}", start.elapsed());
}

#[tokio::test]
async fn two_writers_of_a_bucket_conflict() {
    let moto = Moto::start();
    moto.create_bucket("bucket");
    let (first, second) =
        (moto.open(URL, OWNER).await.unwrap(), moto.open(URL, OWNER).await.unwrap());
    let (before, won) =
        (second.manifest(), first.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap());
    for covered in [2, 2, 6] {
        let lost = second.append(covered, vec![]).await;
        assert!(matches!(lost, Err(Error::ManifestConflict { generation: 0, .. })), "{lost:?}");
        assert_eq!(second.manifest(), before);
    }
    first.append(3, vec![]).await.unwrap();
    let third = moto.open(URL, OWNER).await.unwrap();
    assert_eq!((third.manifest().covered, &third.manifest().streams), (3, &won.streams));
    third.append(5, vec![]).await.unwrap();
    let lost = first.append(6, vec![]).await;
    assert!(matches!(lost, Err(Error::ManifestConflict { generation: 2, .. })), "{lost:?}");
    assert_eq!(moto.open(URL, OWNER).await.unwrap().manifest().covered, 5);
}

#[tokio::test]
async fn a_large_file_goes_to_a_bucket_in_parts() {
    let moto = Moto::start();
    moto.create_bucket("bucket");
    let history = moto.open(URL, OWNER).await.unwrap();
    let large: Vec<Row> =
        (0..600_000).map(|index| (scattered(index), scattered(!index), index)).collect();
    let mut kept = writer(&history, 1);
    let mut given_up = writer(&history, 1);
    for piece in large.chunks(150_000) {
        kept.write(&batch(piece)).await.unwrap();
        given_up.write(&batch(piece)).await.unwrap();
    }
    given_up.abandon().await;
    let file = kept.finish().await.unwrap().unwrap();
    assert!(file.bytes > 10 << 20, "{} bytes", file.bytes);
    assert!(read(&history, &file).await == large);
    let small = history.append(2, vec![rows(1, &[&[(1, 1, 1)]])]).await.unwrap();
    let manifest = history.replace(1, small.files(1), vec![file], None).await.unwrap();
    drop(small);
    assert_eq!(history.delete_retired().await.unwrap(), 1);
    assert_eq!(data_files(&*history.store()).await, [manifest.files(1)[0].path.clone()]);
    assert_eq!(moto.open(URL, OWNER).await.unwrap().manifest(), manifest);
}

#[tokio::test]
async fn damage_of_an_object_is_noticed() {
    let moto = Moto::start();
    moto.create_bucket("bucket");
    let history = moto.open(URL, OWNER).await.unwrap();
    let many: Vec<Row> = (1..40_000).map(|index| (scattered(index), 0, index)).collect();
    let manifest = history.append(40_000, vec![rows(1, &[&many])]).await.unwrap();
    let (file, store) = (&manifest.files(1)[0], history.store());
    let location = history.location(file);
    assert!(read_all(&history, 1).await == [many]);
    let good = store.get(&location).await.unwrap().bytes().await.unwrap();
    for position in [0, 140_000, good.len() - 1] {
        let mut changed = good.to_vec();
        changed[position] ^= 4;
        store.put(&location, changed.into()).await.unwrap();
        let checked = history.check(file).await;
        assert!(matches!(checked, Err(Error::Damaged { .. })), "{checked:?}");
        let position = position as u64;
        let part = store.get_range(&location, position..position + 1).await.unwrap_err();
        assert!(part.to_string().contains(&file.path), "{part}");
        let end = file.bytes - 9..file.bytes;
        let parts = store.get_ranges(&location, &[position..position + 1, end]).await.unwrap_err();
        assert!(parts.to_string().contains(&file.path), "{parts}");
    }
    store.put(&location, good.into()).await.unwrap();
    history.check(file).await.unwrap();
}

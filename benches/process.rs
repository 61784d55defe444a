//! The systems that are measured, as processes of their own: AsofDB, PostgreSQL and floors.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use asofdb_tests::process::ServerProcess;
use asofdb_tests::redis::RedisServer;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::Error;

/// A running AsofDB on a database of its own, which was empty when it was first started.
pub struct AsofDb {
    command: Command,
    process: ServerProcess,
    folder: TempDir,
}

impl AsofDb {
    /// Starts it; it may read and write files in `files`.
    pub fn start(binary: &Path, files: &Path) -> Result<AsofDb, Error> {
        AsofDb::with(binary, [OsStr::new("--import-dir"), files.as_os_str()])
    }

    /// Starts it with more arguments.
    pub fn with(
        binary: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<AsofDb, Error> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(folder.path()).args(arguments);
        let process = ServerProcess::start(&mut command)?;
        Ok(AsofDb { command, process, folder })
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`AsofDb::kill`], on what it left on the disk.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.process = ServerProcess::start(&mut self.command)?;
        Ok(())
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Client, Error> {
        connect(&self.url()).await
    }

    /// How to connect.
    pub fn url(&self) -> String {
        format!("host=127.0.0.1 port={} user=asofdb dbname=asofdb", self.process.port())
    }

    /// The port that it serves on.
    pub fn port(&self) -> u16 {
        self.process.port()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage, Error> {
        Usage::of(self.process.id())
    }

    /// Lets the peak of its memory start anew.
    pub fn reset_peak(&self) -> Result<(), Error> {
        // 5 resets the peak resident set size: proc(5), clear_refs.
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5")?;
        Ok(())
    }

    /// Bytes below a folder in it: `log` or `history`.
    pub fn bytes_in(&self, part: &str) -> Result<u64, Error> {
        bytes_below(&self.folder.path().join(part))
    }
}

/// Bytes of the files below a folder.
pub fn bytes_below(folder: &Path) -> Result<u64, Error> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        sum += match entry.file_type()?.is_dir() {
            true => bytes_below(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(sum)
}

/// What a process has used: seconds of CPU, megabytes of memory.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub user_s: f64,
    pub system_s: f64,
    pub peak_mb: f64,
    pub resident_mb: f64,
}

impl Usage {
    /// Reads a process's counters.
    pub fn of(process: u32) -> Result<Usage, Error> {
        let process = procfs::process::Process::new(process as i32)?;
        let (stat, status) = (process.stat()?, process.status()?);
        let ticks = procfs::ticks_per_second() as f64;
        let mb = |kb: Option<u64>| kb.unwrap_or(0) as f64 / 1000.0;
        Ok(Usage {
            user_s: stat.utime as f64 / ticks,
            system_s: stat.stime as f64 / ticks,
            peak_mb: mb(status.vmhwm),
            resident_mb: mb(status.vmrss),
        })
    }

    /// Adds up the CPU of a process, of its children and of those that it has waited for. Memory is
    /// what they hold by themselves, and the shared part once.
    pub fn of_family(parent: u32) -> Result<Usage, Error> {
        let parent = parent as i32;
        let ticks = procfs::ticks_per_second() as f64;
        let (mut sum, mut shared_kb) = (Usage::default(), 0);
        for process in procfs::process::all_processes()?.flatten() {
            // One that ends meanwhile is counted by its parent the next time.
            let (Ok(stat), Ok(status)) = (process.stat(), process.status()) else { continue };
            if stat.pid != parent && stat.ppid != parent {
                continue;
            }
            sum.user_s += stat.utime as f64 / ticks;
            sum.system_s += stat.stime as f64 / ticks;
            if stat.pid == parent {
                sum.user_s += stat.cutime as f64 / ticks;
                sum.system_s += stat.cstime as f64 / ticks;
            }
            sum.resident_mb += status.rssanon.unwrap_or(0) as f64 / 1000.0;
            shared_kb = shared_kb.max(status.rssshmem.unwrap_or(0));
        }
        sum.resident_mb += shared_kb as f64 / 1000.0;
        sum.peak_mb = sum.resident_mb;
        Ok(sum)
    }

    /// Two processes that make one system.
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            user_s: self.user_s + other.user_s,
            system_s: self.system_s + other.system_s,
            peak_mb: self.peak_mb + other.peak_mb,
            resident_mb: self.resident_mb + other.resident_mb,
        }
    }
}

/// What a Redis has used.
pub fn redis_usage(redis: &RedisServer) -> Result<Usage, Error> {
    Usage::of(redis.info("server", "process_id")?.trim().parse()?)
}

/// A floor: a server of this binary that does no more than speak a protocol. See `floor.rs`.
pub struct Floor {
    child: Child,
    port: u16,
}

impl Floor {
    /// Starts `asofdb-bench floor` with these arguments; its first line is its port.
    pub fn start(arguments: &[&str]) -> Result<Floor, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        // It ends when its standard input does.
        command.arg("floor").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        let out = child.stdout.take().ok_or("the floor's output is piped")?;
        BufReader::new(out).read_line(&mut line)?;
        let mut floor = Floor { child, port: 0 };
        floor.port = line.trim().parse().map_err(|_| format!("the floor says {line:?}"))?;
        Ok(floor)
    }

    /// The port that it serves on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage, Error> {
        Usage::of(self.child.id())
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running PostgreSQL on an empty cluster.
pub struct Postgres {
    bin: PathBuf,
    data: PathBuf,
    port: u16,
    /// Whom it runs as: it refuses to be root.
    user: Option<&'static str>,
    _folder: TempDir,
}

/// Enough memory to keep the workload, durable commits as by default, no pauses by checkpoints.
const POSTGRES_SETTINGS: &str = "shared_buffers = 2GB\neffective_cache_size = 8GB\nwork_mem = 64MB\n\
    maintenance_work_mem = 1GB\nmax_wal_size = 8GB\njit = off\nrandom_page_cost = 1.1\n\
    max_connections = 300\nunix_socket_directories = ''\nlisten_addresses = '127.0.0.1'\ntimezone = 'UTC'\n";

impl Postgres {
    /// Makes a cluster in a temporary folder and starts it.
    pub fn start() -> Result<Postgres, Error> {
        let output = Command::new("pg_config").arg("--bindir").output();
        let bin = match output {
            Ok(output) if output.status.success() => {
                PathBuf::from(String::from_utf8(output.stdout)?.trim())
            }
            _ => newest_debian_bin().ok_or("PostgreSQL's server is not installed")?,
        };
        let root = procfs::process::Process::myself()?.uid()? == 0;
        let folder = tempfile::tempdir()?;
        // Free now, and in all likelihood still when the server starts.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let data = folder.path().join("data");
        let server =
            Postgres { bin, data, port, user: root.then_some("postgres"), _folder: folder };
        if let Some(user) = server.user {
            let folder = server._folder.path().to_owned();
            run(Command::new("chown").arg(user).arg(folder))?;
        }
        let data = server.data.display().to_string();
        server.call(
            "initdb",
            &["-D", &data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C"],
        )?;
        let settings = format!("port = {port}\n{POSTGRES_SETTINGS}");
        let config = server.data.join("postgresql.conf");
        std::fs::write(&config, std::fs::read_to_string(&config)? + &settings)?;
        let log = server.data.join("log").display().to_string();
        server.call("pg_ctl", &["-D", &data, "-l", &log, "-w", "start"])?;
        Ok(server)
    }

    /// How to connect.
    pub fn url(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port)
    }

    /// The port that it serves on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What all its processes have used so far.
    pub fn usage(&self) -> Result<Usage, Error> {
        let file = std::fs::read_to_string(self.data.join("postmaster.pid"))?;
        let parent = file.lines().next().ok_or("postmaster.pid is empty")?;
        Usage::of_family(parent.trim().parse()?)
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Client, Error> {
        connect(&self.url()).await
    }

    fn call(&self, program: &str, arguments: &[&str]) -> Result<(), Error> {
        let program = self.bin.join(program);
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        run(command.args(arguments).current_dir("/"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.data.display().to_string();
        if let Err(error) = self.call("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]) {
            eprintln!("PostgreSQL goes on: {error}");
        }
    }
}

/// Where Debian keeps the server, which is not on the path there.
fn newest_debian_bin() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let bins = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    bins.filter(|bin| bin.join("initdb").exists()).max()
}

fn run(command: &mut Command) -> Result<(), Error> {
    // Not piped: a server that stays would keep the pipe open.
    let status = command.stdout(std::process::Stdio::null()).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {status}").into()),
    }
}

/// Connects; the connection ends when the client is dropped.
pub async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Lets the disk come to rest between two measurements.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

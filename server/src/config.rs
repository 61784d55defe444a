//! Configuration: command line, environment, file, defaults; the first that says something counts.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;
use url::Url;

/// What the listener is bound to if nothing is said.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:5433";
const DEFAULT_DATA: &str = "asofdb-data";
const DEFAULT_ONLINE_PREFIX: &str = "asofdb";
const DEFAULT_FLIGHTS: &str = "tests/data";
const DEFAULT_MAX_CONNECTIONS: usize = 1000;
const DEFAULT_MEMORY: ByteSize = ByteSize(2 << 30);
const DEFAULT_CHECKPOINT_INTERVAL_S: u64 = 15 * 60;
const DEFAULT_CHECKPOINT_SIZE: ByteSize = ByteSize(256 << 20);

/// A SQL feature database that speaks PostgreSQL's protocol.
#[derive(Debug, Parser)]
#[command(name = "asofdb", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `asofdb` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server until it is told to stop.
    Serve(ServeArgs),
    /// Load real flights, declare features, build a training set and check it.
    Quickstart(QuickstartArgs),
}

/// The flags of `asofdb serve`.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Folder of the database; made if it does not exist [default: asofdb-data]
    #[arg(long, env = "ASOFDB_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the history's files go, s3://bucket/prefix for instance; the environment's AWS_
    /// variables say with which keys, region and endpoint [default: the folder history in --data]
    #[arg(long, env = "ASOFDB_HISTORY", value_name = "URL")]
    pub history: Option<String>,
    /// Redis that holds the online state: redis://[user:password@]host:port/db, rediss:// with TLS,
    /// redis+cluster://host:port,host:port for a cluster, redis+sentinel://host:port,…/name for the
    /// master of that name, which sentinels know [default: the memory of this process]
    #[arg(long, env = "ASOFDB_ONLINE", value_name = "URL", hide_env_values = true)]
    pub online: Option<OnlineUrl>,
    /// What the names of this database's keys in Redis begin with [default: asofdb]
    #[arg(long, env = "ASOFDB_ONLINE_PREFIX", value_name = "PREFIX")]
    pub online_prefix: Option<String>,
    /// Serve lookups of the online state in Redis that another server writes; --data is not used
    #[arg(long, env = "ASOFDB_READ_ONLY")]
    pub read_only: bool,
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:5433]
    #[arg(long, env = "ASOFDB_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Folder that COPY and parquet sources may read; may be given several times [default: none]
    #[arg(long, env = "ASOFDB_IMPORT_DIR", value_name = "DIR", value_delimiter = ':')]
    pub import_dir: Vec<PathBuf>,
    /// How much is logged to stderr [default: info]
    #[arg(long, env = "ASOFDB_LOG_LEVEL", value_name = "LEVEL", value_enum)]
    pub log_level: Option<LogLevel>,
    /// Sessions at the same time; more are refused [default: 1000]
    #[arg(long, env = "ASOFDB_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Memory that queries may use together, such as 512MiB or 4GiB [default: 2GiB]
    #[arg(long, env = "ASOFDB_MEMORY_LIMIT", value_name = "SIZE")]
    pub memory_limit: Option<ByteSize>,
    /// Seconds that rows stay only in the log and in memory, at most [default: 900]
    #[arg(long, env = "ASOFDB_CHECKPOINT_INTERVAL", value_name = "SECONDS")]
    pub checkpoint_interval: Option<u64>,
    /// Memory of such rows at which they move to the history's files [default: 256MiB]
    #[arg(long, env = "ASOFDB_CHECKPOINT_SIZE", value_name = "SIZE")]
    pub checkpoint_size: Option<ByteSize>,
    /// TOML file with any of these settings; flags and environment win over it
    #[arg(long, env = "ASOFDB_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen on other addresses than this machine's own although there is no authentication
    #[arg(long, env = "ASOFDB_INSECURE_ALLOW_REMOTE")]
    pub insecure_allow_remote: bool,
}

/// The flags of `asofdb quickstart`.
#[derive(Debug, Default, Args)]
pub struct QuickstartArgs {
    /// Folder of the database to make; without it, one that is removed at the end
    #[arg(long, env = "ASOFDB_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder with the flights to load [default: tests/data]
    #[arg(long, env = "ASOFDB_FLIGHTS", value_name = "DIR")]
    pub flights: Option<PathBuf>,
    /// Redis that holds the online state, as for serve [default: the memory of this process]
    #[arg(long, env = "ASOFDB_ONLINE", value_name = "URL", hide_env_values = true)]
    pub online: Option<OnlineUrl>,
    /// Go on as a server afterwards
    #[arg(long)]
    pub serve: bool,
    /// Address and port to listen on with --serve [default: 127.0.0.1:5433]
    #[arg(long, env = "ASOFDB_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
}

/// A URL that may hold a password, which is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct OnlineUrl(pub String);

impl std::fmt::Debug for OnlineUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnlineUrl(…)")
    }
}

impl FromStr for OnlineUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(OnlineUrl(text.to_owned()))
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what the server does.
    #[default]
    Info,
    /// And what connections do.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level's name.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// A number of bytes, written as `512MiB`, `4GB` or `1073741824`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SizeInFile")]
pub struct ByteSize(pub usize);

#[derive(Deserialize)]
#[serde(untagged)]
enum SizeInFile {
    Bytes(usize),
    Text(String),
}

impl TryFrom<SizeInFile> for ByteSize {
    type Error = String;

    fn try_from(size: SizeInFile) -> Result<Self, String> {
        match size {
            SizeInFile::Bytes(bytes) => Ok(ByteSize(bytes)),
            SizeInFile::Text(text) => text.parse(),
        }
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let invalid =
            || format!("\"{text}\" is no size; write it as 512MiB, 4GiB or a number of bytes");
        let number: usize = text[..end].parse().map_err(|_| invalid())?;
        let unit: usize = match text[end..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            "t" | "tb" | "tib" => 1 << 40,
            _ => return Err(invalid()),
        };
        number.checked_mul(unit).map(ByteSize).ok_or_else(invalid)
    }
}

/// What a configuration file may hold; the names are those of the flags.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    data: Option<PathBuf>,
    history: Option<String>,
    online: Option<OnlineUrl>,
    online_prefix: Option<String>,
    read_only: Option<bool>,
    listen: Option<String>,
    import_dir: Option<Vec<PathBuf>>,
    log_level: Option<LogLevel>,
    max_connections: Option<usize>,
    memory_limit: Option<ByteSize>,
    checkpoint_interval: Option<u64>,
    checkpoint_size: Option<ByteSize>,
    insecure_allow_remote: Option<bool>,
}

/// A configuration file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// It does not say what it should.
    #[error("the configuration file {} is not valid: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        message: String,
    },
    /// A value that makes no sense.
    #[error("{0}")]
    Value(&'static str),
}

/// The whole configuration of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// Folder of the database.
    pub data: PathBuf,
    /// Where the history's files go; `None` for a folder in `data`.
    pub history: Option<Url>,
    /// The Redis that holds the online state; `None` for the memory of this process.
    pub online: Option<OnlineUrl>,
    /// What the names of its keys begin with.
    pub online_prefix: String,
    /// Serve only lookups of online state, which another server writes.
    pub read_only: bool,
    /// Address and port to listen on.
    pub listen: String,
    /// Folders that `COPY` and parquet sources may read.
    pub import_dirs: Vec<PathBuf>,
    /// How much is logged.
    pub log_level: LogLevel,
    /// Sessions at the same time.
    pub max_connections: usize,
    /// Memory that queries may use together.
    pub memory_limit_bytes: usize,
    /// How long rows stay only in the log and in memory.
    pub checkpoint_interval: Duration,
    /// How much memory such rows take before they move to the history's files.
    pub checkpoint_bytes: usize,
    /// Listen on other addresses than loopback ones.
    pub insecure_allow_remote: bool,
}

impl ServeConfig {
    /// The defaults, with a database in `data`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        ServeConfig {
            data: data.into(),
            history: None,
            online: None,
            online_prefix: DEFAULT_ONLINE_PREFIX.to_owned(),
            read_only: false,
            listen: DEFAULT_LISTEN.to_owned(),
            import_dirs: Vec::new(),
            log_level: LogLevel::default(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            memory_limit_bytes: DEFAULT_MEMORY.0,
            checkpoint_interval: Duration::from_secs(DEFAULT_CHECKPOINT_INTERVAL_S),
            checkpoint_bytes: DEFAULT_CHECKPOINT_SIZE.0,
            insecure_allow_remote: false,
        }
    }

    /// Puts flags and environment over the file that they name.
    pub fn resolve(args: ServeArgs) -> Result<Self, ConfigError> {
        let file = match &args.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let import_dirs = match args.import_dir.is_empty() {
            true => file.import_dir.unwrap_or_default(),
            false => args.import_dir,
        };
        let history = args.history.or(file.history).map(|url| history_url(&url)).transpose()?;
        let config = ServeConfig {
            history,
            online: args.online.or(file.online),
            online_prefix: args
                .online_prefix
                .or(file.online_prefix)
                .unwrap_or_else(|| DEFAULT_ONLINE_PREFIX.to_owned()),
            read_only: args.read_only || file.read_only.unwrap_or(false),
            data: args.data.or(file.data).unwrap_or_else(|| DEFAULT_DATA.into()),
            listen: args.listen.or(file.listen).unwrap_or_else(|| DEFAULT_LISTEN.into()),
            import_dirs,
            log_level: args.log_level.or(file.log_level).unwrap_or_default(),
            max_connections: args
                .max_connections
                .or(file.max_connections)
                .unwrap_or(DEFAULT_MAX_CONNECTIONS),
            memory_limit_bytes: args.memory_limit.or(file.memory_limit).unwrap_or(DEFAULT_MEMORY).0,
            checkpoint_interval: Duration::from_secs(
                args.checkpoint_interval
                    .or(file.checkpoint_interval)
                    .unwrap_or(DEFAULT_CHECKPOINT_INTERVAL_S),
            ),
            checkpoint_bytes: args
                .checkpoint_size
                .or(file.checkpoint_size)
                .unwrap_or(DEFAULT_CHECKPOINT_SIZE)
                .0,
            insecure_allow_remote: args.insecure_allow_remote
                || file.insecure_allow_remote.unwrap_or(false),
        };
        if !(1..=1_000_000).contains(&config.max_connections) {
            return Err(ConfigError::Value("max-connections must be from 1 to 1000000"));
        }
        if config.read_only && config.online.is_none() {
            return Err(ConfigError::Value("read-only needs online: the Redis to read"));
        }
        if config.memory_limit_bytes < 64 << 20 {
            return Err(ConfigError::Value("memory-limit must be 64MiB at least"));
        }
        if config.checkpoint_interval.is_zero() || config.checkpoint_bytes == 0 {
            return Err(ConfigError::Value("checkpoint-interval, checkpoint-size: more than 0"));
        }
        Ok(config)
    }
}

fn history_url(text: &str) -> Result<Url, ConfigError> {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "s3" && url.has_host() => Ok(url),
        _ => Err(ConfigError::Value("history must be a URL such as s3://bucket/prefix")),
    }
}

/// The whole configuration of a quickstart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuickstartConfig {
    /// Folder of the database to make; `None` for a temporary one.
    pub data: Option<PathBuf>,
    /// Folder with the flights.
    pub flights: PathBuf,
    /// The Redis that holds the online state; `None` for the memory of this process.
    pub online: Option<OnlineUrl>,
    /// Go on as a server.
    pub serve: bool,
    /// Address and port to listen on.
    pub listen: String,
}

impl From<QuickstartArgs> for QuickstartConfig {
    fn from(args: QuickstartArgs) -> Self {
        QuickstartConfig {
            data: args.data,
            flights: args.flights.unwrap_or_else(|| DEFAULT_FLIGHTS.into()),
            online: args.online,
            serve: args.serve,
            listen: args.listen.unwrap_or_else(|| DEFAULT_LISTEN.to_owned()),
        }
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| ConfigError::Invalid {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, args: ServeArgs) -> Result<ServeConfig, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("asofdb.toml");
        std::fs::write(&path, text).unwrap();
        ServeConfig::resolve(ServeArgs { config: Some(path), ..args })
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let args = ServeArgs { listen: Some("127.0.0.1:1".into()), ..ServeArgs::default() };
        let text = "listen = '127.0.0.1:2'\nmax-connections = 7\nmemory-limit = '1GiB'\n\
                    import-dir = ['/a', '/b']\nlog-level = 'debug'";
        let config = with_file(text, args).unwrap();
        assert_eq!(config.listen, "127.0.0.1:1");
        assert_eq!((config.max_connections, config.memory_limit_bytes), (7, 1 << 30));
        assert_eq!(config.import_dirs.len(), 2);
        assert_eq!(config.log_level, LogLevel::Debug);
        assert_eq!(config.data, PathBuf::from(DEFAULT_DATA));
        assert_eq!(
            ServeConfig::resolve(ServeArgs::default()).unwrap(),
            ServeConfig::new(DEFAULT_DATA)
        );
    }

    #[test]
    fn unknown_keys_and_values_are_errors() {
        let error = with_file("lisen = 'x'", ServeArgs::default()).unwrap_err().to_string();
        assert!(error.contains("lisen") && error.contains("listen"), "{error}");
        assert!(with_file("memory-limit = 'much'", ServeArgs::default()).is_err());
        assert!(with_file("max-connections = 0", ServeArgs::default()).is_err());
        for bad in ["/folder", "file:///folder", "s3:bucket", "https://host/bucket"] {
            assert!(with_file(&format!("history = '{bad}'"), ServeArgs::default()).is_err());
        }
        let config = with_file("history = 's3://bucket/some/prefix'", ServeArgs::default());
        assert_eq!(config.unwrap().history.unwrap().path(), "/some/prefix");
        assert!(with_file("read-only = true", ServeArgs::default()).is_err());
        assert!(with_file("memory-limit = 1", ServeArgs::default()).is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!("512MiB".parse(), Ok(ByteSize(512 << 20)));
        assert_eq!(" 4 gb ".parse(), Ok(ByteSize(4 << 30)));
        assert_eq!("100".parse(), Ok(ByteSize(100)));
        for bad in ["", "GiB", "1.5GiB", "-1", "99999999999TiB", "4x"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        let cli =
            Cli::try_parse_from(["asofdb", "serve", "--import-dir", "/a", "--import-dir", "/b"]);
        let Command::Serve(args) = cli.unwrap().command else { panic!("not serve") };
        assert_eq!(args.import_dir.len(), 2);
    }
}

//! The features of the workload, as AsofDB, PostgreSQL and DuckDB take them.

/// A window of the features: all events of the last `interval`, both ends included.
pub struct Window {
    pub name: &'static str,
    pub interval: &'static str,
    pub micros: i64,
}

/// The windows of the features, the longest last.
pub const WINDOWS: [Window; 5] = [
    Window { name: "5m", interval: "5 minutes", micros: 300_000_000 },
    Window { name: "1h", interval: "1 hour", micros: 3_600_000_000 },
    Window { name: "1d", interval: "24 hours", micros: 86_400_000_000 },
    Window { name: "7d", interval: "168 hours", micros: 604_800_000_000 },
    Window { name: "30d", interval: "720 hours", micros: 2_592_000_000_000 },
];

/// Windows over which merchants are counted, too.
const DISTINCT_WINDOWS: [&str; 2] = ["7d", "30d"];

/// The option of features that are trained on alone.
const OFFLINE: &str = " WITH (online = false)";

const COLUMNS: &str =
    "user_id BIGINT, merchant_id BIGINT, amount DOUBLE PRECISION, category TEXT, ts TIMESTAMPTZ";

/// Six aggregates of the amount, each a call and a name.
fn aggregates() -> [(&'static str, &'static str); 6] {
    [
        ("sum(amount)", "sum"),
        ("count(amount)", "cnt"),
        ("avg(amount)", "avg"),
        ("min(amount)", "min"),
        ("max(amount)", "max"),
        ("stddev_samp(amount)", "std"),
    ]
}

/// `sum(amount)<over>w5m AS sum_5m, …`: 30 features over five windows.
fn windowed(over: impl Fn(&Window) -> String) -> Vec<String> {
    let of = |window| {
        aggregates()
            .map(|(call, name)| format!("{call} {} AS {name}_{}", over(window), window.name))
    };
    WINDOWS.iter().flat_map(of).collect()
}

/// The names of the 30 windowed features.
pub fn windowed_names() -> Vec<String> {
    WINDOWS
        .iter()
        .flat_map(|w| aggregates().map(|(_, name)| format!("{name}_{}", w.name)))
        .collect()
}

/// The names of 32 features, the windowed ones and the latest values, and of all 34 if the distinct
/// counts are wanted.
pub fn names(distinct: bool) -> Vec<String> {
    let mut names = windowed_names();
    names.extend(["last_category", "last_amount"].map(str::to_owned));
    if distinct {
        names.extend(DISTINCT_WINDOWS.map(|window| format!("merchants_{window}")));
    }
    names
}

/// AsofDB: the source of events, filled by whoever asked.
pub fn create_events(options: &str) -> String {
    format!("CREATE SOURCE events ({COLUMNS}) EVENT TIME ts{options}")
}

/// AsofDB: the entity with its 30 windowed features.
pub fn create_windowed() -> String {
    format!(
        "CREATE ENTITY users (user_id BIGINT); {}",
        create_features(&windowed(|w| format!("OVER w{}", w.name)))
    )
}

/// AsofDB: the entity with all 34 features, for training alone.
pub fn create_all() -> String {
    let mut features = windowed(|w| format!("OVER w{}", w.name));
    features.push("last_value(category) AS last_category".to_owned());
    features.push("last_value(amount) AS last_amount".to_owned());
    features.extend(
        DISTINCT_WINDOWS.map(|w| format!("count(DISTINCT merchant_id) OVER w{w} AS merchants_{w}")),
    );
    format!("CREATE ENTITY users (user_id BIGINT); {}{OFFLINE}", create_features(&features))
}

/// AsofDB: the entity with seven features: a sum over each window, sum and count of all events.
pub fn create_sums() -> String {
    let sum = |w: &Window| format!("sum(amount) OVER w{0} AS sum_{0}", w.name);
    let mut features: Vec<String> = WINDOWS.iter().map(sum).collect();
    features.push("sum(amount) OVER () AS sum_all".to_owned());
    features.push("count(amount) OVER () AS cnt_all".to_owned());
    format!("CREATE ENTITY users (user_id BIGINT); {}", create_features(&features))
}

fn create_features(features: &[String]) -> String {
    let windows = WINDOWS.iter().map(|w| (w.name.to_owned(), w.interval.to_owned()));
    create_features_over(features, windows)
}

/// Features over windows, each of which has a name, before which a `w` is written, and an interval.
fn create_features_over(
    features: &[String],
    windows: impl Iterator<Item = (String, String)>,
) -> String {
    let window = |(name, interval)| format!("w{name} AS (RANGE INTERVAL '{interval}' PRECEDING)");
    let windows: Vec<String> = windows.map(window).collect();
    format!(
        "CREATE FEATURES ON users AS SELECT {} FROM events WINDOW {}",
        features.join(", "),
        windows.join(", ")
    )
}

/// AsofDB: labels, read in place.
pub fn create_labels(options: &str) -> String {
    format!(
        "CREATE SOURCE labels (label_id BIGINT, user_id BIGINT, ts TIMESTAMPTZ) \
         EVENT TIME ts{options}"
    )
}

/// AsofDB: a training set of an entity's features, written to a file.
pub fn training_set(entity: &str, names: &[String], file: &str) -> String {
    let features: Vec<String> = names.iter().map(|name| format!("u.{name}")).collect();
    format!(
        "COPY (SELECT l.label_id, {} FROM labels AS l \
         LEFT JOIN {entity} FOR SYSTEM_TIME AS OF l.ts AS u ON u.user_id = l.user_id) TO '{file}'",
        features.join(", ")
    )
}

/// DuckDB: the latest profiles as of each label, over `profiles.parquet` and `labels.parquet`.
pub fn duckdb_latest(folder: &str, file: &str) -> String {
    let features = PROFILE.map(|name| format!("p.{name}")).join(", ");
    format!(
        "COPY (SELECT l.label_id, {features} FROM read_parquet('{folder}/labels.parquet') AS l
         ASOF LEFT JOIN read_parquet('{folder}/profiles.parquet') AS p
         ON p.user_id = l.user_id AND p.ts <= l.ts) TO '{file}' (FORMAT parquet)"
    )
}

/// DuckDB: the same as AsofDB's over `events.parquet` and `labels.parquet`, as standard SQL windows
/// over both; with the distinct counts or without.
pub fn duckdb_training_set(folder: &str, file: &str, distinct: bool) -> String {
    let mut features = windowed(|w| format!("OVER w{}", w.name));
    features.push("last_value(category IGNORE NULLS) OVER ever AS last_category".to_owned());
    features.push("last_value(amount IGNORE NULLS) OVER ever AS last_amount".to_owned());
    if distinct {
        let count = |w| format!("count(DISTINCT merchant_id) OVER w{w} AS merchants_{w}");
        features.extend(DISTINCT_WINDOWS.map(count));
    }
    let windows = WINDOWS.iter().map(|w| (w.name.to_owned(), w.interval.to_owned()));
    duckdb_over(&features, windows, folder, file)
}

fn duckdb_over(
    features: &[String],
    windows: impl Iterator<Item = (String, String)>,
    folder: &str,
    file: &str,
) -> String {
    let frame = |name: &str, start: &str| {
        format!(
            "{name} AS (PARTITION BY user_id ORDER BY ts \
             RANGE BETWEEN {start} PRECEDING AND CURRENT ROW)"
        )
    };
    let mut frames = vec![frame("ever", "UNBOUNDED")];
    frames.extend(
        windows
            .map(|(name, interval)| frame(&format!("w{name}"), &format!("INTERVAL '{interval}'"))),
    );
    format!(
        "COPY (WITH merged AS (
           SELECT NULL::BIGINT AS label_id, user_id, ts::TIMESTAMP AS ts, amount, category,
                  merchant_id
           FROM read_parquet('{folder}/events.parquet')
           UNION ALL
           SELECT label_id, user_id, ts::TIMESTAMP, NULL, NULL, NULL
           FROM read_parquet('{folder}/labels.parquet'))
         SELECT label_id, {} FROM merged WINDOW {} QUALIFY label_id IS NOT NULL)
         TO '{file}' (FORMAT parquet)",
        features.join(", "),
        frames.join(", ")
    )
}

/// The longest window of [`grown`] features, in seconds: 30 days.
const GROWN_SECONDS: usize = 2_592_000;

/// Features as many as wanted: the six aggregates over 30 days, over a half of them, a third, and so
/// on; and the names and intervals of their windows.
fn grown(count: usize) -> (Vec<String>, impl Iterator<Item = (String, String)>) {
    let calls = aggregates();
    let feature = |i: usize| {
        let ((call, _), window) = (calls[i % calls.len()], i / calls.len() + 1);
        format!("{call} OVER w{window} AS f{i}")
    };
    let windows = 1..=count.div_ceil(calls.len());
    let window = |w: usize| (w.to_string(), format!("{} seconds", GROWN_SECONDS / w));
    ((0..count).map(feature).collect(), windows.map(window))
}

/// The names of [`create_grown`] features.
pub fn grown_names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("f{i}")).collect()
}

/// AsofDB: the entity with so many features, for training alone.
pub fn create_grown(count: usize) -> String {
    let (features, windows) = grown(count);
    let create = create_features_over(&features, windows);
    format!("CREATE ENTITY users (user_id BIGINT); {create}{OFFLINE}")
}

/// DuckDB: the training set of [`create_grown`].
pub fn duckdb_grown(count: usize, folder: &str, file: &str) -> String {
    let (features, windows) = grown(count);
    duckdb_over(&features, windows, folder, file)
}

/// AsofDB: the 30 windowed features of a user as of an instant.
pub fn lookup_windowed(instant: &str) -> String {
    let names = windowed_names().join(", ");
    format!(
        "SELECT {names} FROM users FOR SYSTEM_TIME AS OF TIMESTAMPTZ '{instant}' WHERE user_id = $1"
    )
}

/// AsofDB: the features of [`create_sums`] of many users as of an instant, in the users' order.
pub fn lookup_sums(instant: &str) -> String {
    let sums = WINDOWS.map(|w| format!("sum_{}", w.name)).join(", ");
    format!(
        "SELECT {sums}, sum_all, cnt_all FROM users \
         FOR SYSTEM_TIME AS OF TIMESTAMPTZ '{instant}' WHERE user_id = ANY($1) ORDER BY user_id"
    )
}

/// AsofDB: how many users there are as of an instant, and the sums of their counts and of their sums.
pub fn total_of_sums(instant: &str) -> String {
    format!(
        "SELECT count(*), sum(cnt_all), sum(sum_all) FROM users \
         FOR SYSTEM_TIME AS OF TIMESTAMPTZ '{instant}'"
    )
}

/// PostgreSQL: the events, with an index that alone answers the lookups, or with none.
pub fn postgres_events(index: bool) -> String {
    let index = match index {
        true => "; CREATE INDEX events_user_ts ON events (user_id, ts) INCLUDE (amount)",
        false => "",
    };
    format!("DROP TABLE IF EXISTS events; CREATE TABLE events ({COLUMNS}){index}")
}

/// PostgreSQL: the same 30 values, computed from the user's last 30 days.
pub fn postgres_windowed(instant: &str) -> String {
    let since = |w: &Window| format!("ts >= TIMESTAMPTZ '{instant}' - INTERVAL '{}'", w.interval);
    let longest = since(&WINDOWS[WINDOWS.len() - 1]);
    let features = windowed(|w| format!("FILTER (WHERE {})", since(w))).join(", ");
    format!(
        "SELECT {features} FROM events WHERE user_id = $1 AND {longest} AND ts <= TIMESTAMPTZ '{instant}'"
    )
}

/// The columns of a profile: what is known of a user, looked up as it is.
pub const PROFILE: [&str; 10] = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9"];

fn profile_columns() -> String {
    PROFILE.map(|name| format!("{name} DOUBLE PRECISION")).join(", ")
}

/// AsofDB: profiles as a source whose latest values are features, online or for training alone.
pub fn create_profiles(options: &str, online: bool) -> String {
    let offline = if online { "" } else { OFFLINE };
    format!(
        "CREATE SOURCE profile_events (user_id BIGINT, {}, ts TIMESTAMPTZ) EVENT TIME ts{options}; \
         CREATE ENTITY profiles (user_id BIGINT); \
         CREATE FEATURES ON profiles AS SELECT {} FROM profile_events{offline}",
        profile_columns(),
        PROFILE.join(", ")
    )
}

/// PostgreSQL: profiles as a table with a primary key.
pub fn postgres_profiles() -> String {
    format!(
        "DROP TABLE IF EXISTS profiles; \
         CREATE TABLE profiles (user_id BIGINT PRIMARY KEY, {}, ts TIMESTAMPTZ)",
        profile_columns()
    )
}

/// Both: the profile of a user.
pub fn lookup_profile() -> String {
    format!("SELECT {} FROM profiles WHERE user_id = $1", PROFILE.join(", "))
}

/// Both: the profiles of many users.
pub fn lookup_profiles() -> String {
    format!("SELECT user_id, {} FROM profiles WHERE user_id = ANY($1)", PROFILE.join(", "))
}

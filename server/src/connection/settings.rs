//! The settings of a session: `SET`, `SHOW` and `RESET` over one table.

use std::collections::BTreeMap;
use std::time::Duration;

use pgwire::error::ErrorInfo;

use crate::sqlstate;

/// The PostgreSQL version whose behaviour clients may expect.
pub const SERVER_VERSION: &str = "16.6";

/// What values a setting takes.
#[derive(Clone, Copy)]
enum Kind {
    /// Any text.
    Text,
    /// A truth value.
    Bool,
    /// One of some words, lower case.
    Word(&'static [&'static str]),
    /// A whole number.
    Integer(i64, i64),
    /// A time in milliseconds, with or without a unit.
    Time,
    /// Can't be set.
    ReadOnly,
    /// Only spellings of UTC.
    TimeZone,
    /// Only `ISO` with any order of day and month.
    DateStyle,
    /// Only UTF-8.
    Encoding,
}

struct Setting {
    name: &'static str,
    default: &'static str,
    kind: Kind,
    /// Whether clients are told of changes.
    reported: bool,
    description: &'static str,
}

const fn setting(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    description: &'static str,
) -> Setting {
    Setting { name, default, kind, reported: false, description }
}

const fn reported(
    name: &'static str,
    default: &'static str,
    kind: Kind,
    description: &'static str,
) -> Setting {
    Setting { name, default, kind, reported: true, description }
}

const ISOLATION: Kind =
    Kind::Word(&["serializable", "repeatable read", "read committed", "read uncommitted"]);
const LEVELS: Kind = Kind::Word(&[
    "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "info", "notice", "warning",
    "error",
]);
const BOUND: i64 = i32::MAX as i64;

/// All settings, by name in lower case order.
const SETTINGS: &[Setting] = &[
    reported("application_name", "", Kind::Text, "The name of the client's program."),
    reported("asofdb_version", env!("CARGO_PKG_VERSION"), Kind::ReadOnly, "AsofDB's version."),
    setting("bytea_output", "hex", Kind::Word(&["hex"]), "How bytea is shown."),
    reported("client_encoding", "UTF8", Kind::Encoding, "The client's encoding."),
    setting("client_min_messages", "notice", LEVELS, "Which notices are sent."),
    reported("DateStyle", "ISO, MDY", Kind::DateStyle, "How dates are shown."),
    setting("default_transaction_isolation", "read committed", ISOLATION, "Accepted, no effect."),
    reported("default_transaction_read_only", "off", Kind::Bool, "Accepted, no effect."),
    setting("extra_float_digits", "1", Kind::Integer(-15, 3), "Floats are always exact."),
    setting("idle_in_transaction_session_timeout", "0", Kind::Time, "Ends idle transactions."),
    reported("in_hot_standby", "off", Kind::ReadOnly, "Always off."),
    reported("integer_datetimes", "on", Kind::ReadOnly, "Instants are whole microseconds."),
    reported("IntervalStyle", "postgres", Kind::Word(&["postgres"]), "How intervals are shown."),
    reported("is_superuser", "off", Kind::ReadOnly, "There are no superusers."),
    setting("jit", "off", Kind::Bool, "Accepted, no effect."),
    setting("lc_messages", "C", Kind::Text, "Accepted, no effect."),
    setting("lc_monetary", "C", Kind::Text, "Accepted, no effect."),
    setting("lc_numeric", "C", Kind::Text, "Accepted, no effect."),
    setting("lc_time", "C", Kind::Text, "Accepted, no effect."),
    setting("lock_timeout", "0", Kind::Time, "Accepted; statements wait for no locks."),
    setting("max_identifier_length", "63", Kind::ReadOnly, "The longest name in bytes."),
    setting("plan_cache_mode", "auto", Kind::Text, "Accepted, no effect."),
    setting("row_security", "on", Kind::Bool, "Accepted, no effect."),
    setting("search_path", "\"$user\", public", Kind::Text, "There is one schema, public."),
    reported("server_encoding", "UTF8", Kind::ReadOnly, "Texts are UTF-8."),
    reported("server_version", SERVER_VERSION, Kind::ReadOnly, "The PostgreSQL spoken."),
    setting("server_version_num", "160006", Kind::ReadOnly, "The same as a number."),
    reported("session_authorization", "", Kind::ReadOnly, "The user."),
    reported("standard_conforming_strings", "on", Kind::Word(&["on"]), "Backslashes are plain."),
    setting("statement_timeout", "0", Kind::Time, "Ends statements that run longer."),
    setting(
        "synchronous_commit",
        "on",
        Kind::Word(&["on", "off", "local", "remote_write", "remote_apply"]),
        "Whether a commit waits for the disk.",
    ),
    reported("TimeZone", "UTC", Kind::TimeZone, "Instants are shown in UTC."),
    setting("transaction_deferrable", "off", Kind::Bool, "Accepted, no effect."),
    setting("transaction_isolation", "read committed", ISOLATION, "Accepted, no effect."),
    setting("transaction_read_only", "off", Kind::Bool, "Accepted, no effect."),
    setting("work_mem", "4MB", Kind::Text, "Accepted; see --memory-limit."),
    setting("xmloption", "content", Kind::Text, "Accepted, no effect."),
];

/// The settings of one session.
pub struct Settings {
    /// Values other than the defaults, by the setting's place in the table.
    values: BTreeMap<usize, String>,
    /// What `RESET` goes back to where that isn't the table's default.
    initial: BTreeMap<usize, String>,
}

/// A value that a client is to be told of.
pub struct Changed {
    /// The setting as clients know it.
    pub name: &'static str,
    /// Its new value.
    pub value: String,
}

impl Settings {
    /// The defaults, with `user` as session authorization.
    pub fn new(user: &str) -> Self {
        let mut settings = Settings { values: BTreeMap::new(), initial: BTreeMap::new() };
        if let Ok(at) = find("session_authorization") {
            settings.initial.insert(at, user.to_owned());
        }
        settings
    }

    /// Sets a value of the startup packet, which `RESET` goes back to.
    pub fn set_initial(&mut self, name: &str, value: &str) -> Result<(), Box<ErrorInfo>> {
        let at = find(name)?;
        let value = accept(&SETTINGS[at], value)?;
        self.initial.insert(at, value);
        Ok(())
    }

    /// Sets a value, `None` for the default; gives back what the client is to be told.
    pub fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<Option<Changed>, Box<ErrorInfo>> {
        let at = find(name)?;
        let setting = &SETTINGS[at];
        match value {
            Some(value) => {
                let value = accept(setting, value)?;
                self.values.insert(at, value);
            }
            None if matches!(setting.kind, Kind::ReadOnly) => return Err(read_only(setting)),
            None => {
                self.values.remove(&at);
            }
        }
        Ok(setting.reported.then(|| self.changed(at)))
    }

    /// All values back to the start; gives back what the client is to be told.
    pub fn reset_all(&mut self) -> Vec<Changed> {
        let changed = std::mem::take(&mut self.values);
        let reported = changed.keys().filter(|at| SETTINGS[**at].reported);
        reported.map(|at| self.changed(*at)).collect()
    }

    /// All values that clients are told of at the start.
    pub fn reported(&self) -> Vec<Changed> {
        let all = 0..SETTINGS.len();
        all.filter(|at| SETTINGS[*at].reported).map(|at| self.changed(at)).collect()
    }

    /// A setting's name as it is shown, and its value.
    pub fn show(&self, name: &str) -> Result<(&'static str, &str), Box<ErrorInfo>> {
        let at = find(name)?;
        Ok((SETTINGS[at].name, self.value(at)))
    }

    /// All settings: name, value, description.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str, &'static str)> {
        let rows = SETTINGS.iter().enumerate();
        rows.map(|(at, setting)| (setting.name, self.value(at), setting.description))
    }

    /// How long a statement may run.
    pub fn statement_timeout(&self) -> Option<Duration> {
        self.timeout("statement_timeout")
    }

    /// How long a session may be idle in a transaction.
    pub fn idle_in_transaction_timeout(&self) -> Option<Duration> {
        self.timeout("idle_in_transaction_session_timeout")
    }

    fn timeout(&self, name: &str) -> Option<Duration> {
        if self.values.is_empty() && self.initial.len() <= 1 {
            return None;
        }
        let (_, value) = self.show(name).ok()?;
        let millis = milliseconds(value)?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    fn value(&self, at: usize) -> &str {
        let set = self.values.get(&at).or_else(|| self.initial.get(&at));
        set.map_or(SETTINGS[at].default, String::as_str)
    }

    fn changed(&self, at: usize) -> Changed {
        Changed { name: SETTINGS[at].name, value: self.value(at).to_owned() }
    }
}

fn find(name: &str) -> Result<usize, Box<ErrorInfo>> {
    let name = if name.eq_ignore_ascii_case("time zone") { "TimeZone" } else { name };
    if let Some(at) = SETTINGS.iter().position(|s| s.name.eq_ignore_ascii_case(name)) {
        return Ok(at);
    }
    let message = format!("unrecognized configuration parameter \"{name}\"");
    let mut info = sqlstate::error("42704", message);
    let lower = name.to_ascii_lowercase();
    let distance = |s: &Setting| strsim::damerau_levenshtein(&lower, &s.name.to_ascii_lowercase());
    let nearest = SETTINGS.iter().min_by_key(|s| distance(s));
    info.hint = nearest
        .filter(|s| distance(s) <= 2.max(s.name.len() / 3))
        .map(|s| format!("Did you mean \"{}\"?", s.name));
    Err(Box::new(info))
}

fn read_only(setting: &Setting) -> Box<ErrorInfo> {
    let message = format!("parameter \"{}\" cannot be changed", setting.name);
    Box::new(sqlstate::error("55P02", message))
}

/// The value as it is kept, or why it is refused.
fn accept(setting: &Setting, value: &str) -> Result<String, Box<ErrorInfo>> {
    let value = value.trim();
    let lower = value.to_ascii_lowercase();
    let invalid = |hint: Option<String>| {
        let message = format!("invalid value for parameter \"{}\": \"{value}\"", setting.name);
        let mut info = sqlstate::error("22023", message);
        info.hint = hint;
        Box::new(info)
    };
    match setting.kind {
        Kind::Text => Ok(value.to_owned()),
        Kind::Bool => match crate::input::boolean(&lower) {
            Ok(true) => Ok("on".to_owned()),
            Ok(false) => Ok("off".to_owned()),
            Err(_) => Err(invalid(None)),
        },
        Kind::Word(words) => {
            let alias = match (lower.as_str(), words.contains(&"on")) {
                ("true" | "yes" | "1", true) => "on",
                ("false" | "no" | "0", true) => "off",
                (word, _) => word,
            };
            let known = words.contains(&alias);
            let hint = || format!("Available values: {}.", words.join(", "));
            if known { Ok(alias.to_owned()) } else { Err(invalid(Some(hint()))) }
        }
        Kind::Integer(min, max) => match value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number.to_string()),
            _ => Err(invalid(Some(format!("Valid values are {min} to {max}.")))),
        },
        Kind::Time => match milliseconds(&lower) {
            Some(millis) if millis <= BOUND as u64 => Ok(shown_time(millis)),
            _ => Err(invalid(Some(
                "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \
                 \"d\"."
                    .to_owned(),
            ))),
        },
        Kind::ReadOnly => Err(read_only(setting)),
        Kind::TimeZone => time_zone(value),
        Kind::DateStyle => date_style(&lower)
            .ok_or_else(|| invalid(Some("Only the style ISO is supported.".to_owned()))),
        Kind::Encoding => match lower.trim_matches(['\'', '"']) {
            "utf8" | "utf-8" | "unicode" | "default" | "sql_ascii" | "auto" => {
                Ok("UTF8".to_owned())
            }
            _ => Err(invalid(Some("Only UTF8 is supported.".to_owned()))),
        },
    }
}

/// `UTC` for its many names; other zones are refused, for instants are never shown in them.
fn time_zone(value: &str) -> Result<String, Box<ErrorInfo>> {
    const UTC: &[&str] = &[
        "utc",
        "uct",
        "gmt",
        "zulu",
        "z",
        "universal",
        "greenwich",
        "0",
        "+0",
        "-0",
        "+00",
        "+00:00",
        "00:00",
        "utc0",
        "gmt0",
        "<+00>-00",
        "<+00>+00",
        "local",
        "default",
    ];
    let lower = value.to_ascii_lowercase();
    if UTC.contains(&lower.strip_prefix("etc/").unwrap_or(&lower)) {
        return Ok("UTC".to_owned());
    }
    let message = format!("time zone \"{value}\" is not supported: only UTC is");
    let mut info = sqlstate::error("0A000", message);
    info.hint = Some(
        "Instants are stored and shown in UTC; convert them with AT TIME ZONE or in the client."
            .to_owned(),
    );
    Err(Box::new(info))
}

/// `ISO` with the order of day and month that was asked for, which only input would need.
fn date_style(lower: &str) -> Option<String> {
    let known = ["iso", "mdy", "dmy", "ymd", "us", "european", "default"];
    let words = || lower.split(',').map(str::trim);
    if words().any(|word| !known.contains(&word)) {
        return None;
    }
    let order = words().find_map(|word| match word {
        "dmy" | "european" => Some("DMY"),
        "ymd" => Some("YMD"),
        _ => None,
    });
    Some(format!("ISO, {}", order.unwrap_or("MDY")))
}

/// `1500`, `1500ms`, `1.5s`, `2min` in milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic() || c == ' ').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = match text[end..].trim() {
        "us" => 0.001,
        "" | "ms" => 1.0,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let millis = (number * unit).round();
    (0.0..=BOUND as f64).contains(&millis).then_some(millis as u64)
}

fn shown_time(millis: u64) -> String {
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)] {
        if millis > 0 && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 { "0".to_owned() } else { format!("{millis}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_first_statements() {
        let mut settings = Settings::new("me");
        settings.set("extra_float_digits", Some("3")).unwrap();
        let changed = settings.set("application_name", Some("psql")).unwrap().unwrap();
        assert_eq!((changed.name, changed.value.as_str()), ("application_name", "psql"));
        settings.set("datestyle", Some("ISO")).unwrap();
        settings.set("client_encoding", Some("'utf-8'")).unwrap();
        assert_eq!(settings.show("time zone").unwrap(), ("TimeZone", "UTC"));
        assert_eq!(settings.show("session_authorization").unwrap().1, "me");
        assert!(settings.set("timezone", Some("Etc/UTC")).is_ok());
        let refused = settings.set("timezone", Some("Europe/Berlin")).err().unwrap();
        assert_eq!(refused.code, "0A000");
    }

    #[test]
    fn unknown_names_have_a_hint() {
        let error = Settings::new("me").set("statement_timeuot", Some("1")).err().unwrap();
        assert_eq!(error.code, "42704");
        assert_eq!(error.hint.as_deref(), Some("Did you mean \"statement_timeout\"?"));
        assert!(find("zzzzzzzzzzzzzzzzzzzzzz").unwrap_err().hint.is_none());
    }

    #[test]
    fn timeouts() {
        let mut settings = Settings::new("me");
        assert_eq!(settings.statement_timeout(), None);
        settings.set("statement_timeout", Some("1.5s")).unwrap();
        assert_eq!(settings.show("statement_timeout").unwrap().1, "1500ms");
        assert_eq!(settings.statement_timeout(), Some(Duration::from_millis(1500)));
        settings.set("statement_timeout", None).unwrap();
        assert_eq!(settings.statement_timeout(), None);
        assert!(settings.set("statement_timeout", Some("-1")).is_err());
    }

    #[test]
    fn reset_goes_back_to_the_startup_packet() {
        let mut settings = Settings::new("me");
        settings.set_initial("application_name", "a").unwrap();
        settings.set("application_name", Some("b")).unwrap();
        let told = settings.reset_all();
        assert_eq!((told.len(), told[0].value.as_str()), (1, "a"));
        assert_eq!(settings.set("server_version", Some("1")).err().unwrap().code, "55P02");
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::HashSet<_> =
            SETTINGS.iter().map(|s| s.name.to_ascii_lowercase()).collect();
        assert_eq!(names.len(), SETTINGS.len());
    }
}

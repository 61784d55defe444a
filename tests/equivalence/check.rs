//! Runs a case: fills the database, reads every feature both ways, compares with the oracle.

use std::collections::HashMap;
use std::pin::pin;

use asofdb_server::config::OnlineUrl;
use asofdb_tests::TestServer;
use asofdb_tests::oracle::{Event, Value};
use asofdb_tests::redis::RedisServer;
use bytes::Bytes;
use futures::SinkExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::case::{Case, SqlType, text};
use super::generate::STAGES;
use super::judge::{Judge, Tally, Triple, describe};

/// Changes the history that the oracle sees, to show that differences are noticed.
pub type Tamper = fn(&mut Vec<Event>);

/// Runs a case in a database of its own, with its online state in `redis` if there is one.
pub async fn run(case: &Case, redis: Option<&RedisServer>, tamper: Tamper, tally: &mut Tally) {
    let mut server = TestServer::start(|config| {
        // In every other case checkpoints come by themselves, as fast as they can.
        if case.seed.is_multiple_of(2) {
            config.checkpoint_bytes = 1;
        }
        config.online = redis.map(|redis| OnlineUrl(redis.url()));
        config.online_prefix = format!("seed{}", case.seed);
    })
    .await;
    let mut runner = Runner {
        case,
        client: server.connect().await,
        rng: StdRng::seed_from_u64(case.seed ^ 0x5eed),
        statements: HashMap::new(),
        features: Vec::new(),
        labels: Vec::new(),
        stage: "",
    };
    runner.execute(&case.create_source()).await;
    runner.execute(&case.create_entity()).await;
    runner.place_labels().await;
    let mut history = Vec::new();
    let mut seen = Vec::new();
    for stage in 0..STAGES {
        runner.stage = match stage {
            0 => "before CHECKPOINT",
            1 => "after CHECKPOINT",
            2 => "after late events and VACUUM",
            3 => "after restart",
            _ => "after CHECKPOINT and restart",
        };
        runner.create_features(stage, true).await;
        for batch in &case.arrivals[stage] {
            runner.ingest(batch).await;
            history.extend(batch.iter().cloned());
        }
        runner.create_features(stage, false).await;
        match stage {
            1 | 4 => runner.execute("CHECKPOINT").await,
            2 => runner.execute("VACUUM").await,
            _ => {}
        }
        if stage >= 3 {
            if let Some(redis) = redis.filter(|_| stage == 4) {
                redis.command("FLUSHALL").expect("the state is lost");
            }
            server.restart().await;
            runner.client = server.connect().await;
            runner.statements.clear();
        }
        seen.clone_from(&history);
        tamper(&mut seen);
        runner.compare(&seen, tally).await;
    }
    drop(runner);
    server.stop().await;
}

/// A row of the labels: its number, its key, its instant.
struct Label {
    id: i64,
    key: Vec<Value>,
    instant: Option<i64>,
}

struct Runner<'a> {
    case: &'a Case,
    client: Client,
    rng: StdRng,
    statements: HashMap<String, Statement>,
    /// The features that exist by now.
    features: Vec<usize>,
    labels: Vec<Label>,
    stage: &'static str,
}

/// What a query gives: rows, or the SQLSTATE and the message.
type Answer = Result<Vec<Row>, (String, String)>;

impl Runner<'_> {
    async fn execute(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("seed {}: {}\n{sql}", self.case.seed, message(&error));
        }
    }

    /// Creates the stage's features, some before its events come and some after.
    async fn create_features(&mut self, stage: usize, before: bool) {
        for (index, (sql, created_at)) in self.case.statements.iter().enumerate() {
            let is_derived = sql.starts_with("CREATE FEATURE derived");
            let is_before = index % 2 == 0 && !is_derived;
            if *created_at != stage || is_before != before {
                continue;
            }
            self.execute(sql).await;
            let created = 0..self.case.definitions.len();
            self.features.extend(created.filter(|f| self.case.definitions[*f].statement == index));
        }
    }

    async fn ingest(&mut self, events: &[Event]) {
        if events.len() > 40 || self.rng.random() {
            self.copy("events", self.case.copy_text(events)).await;
        } else if !events.is_empty() {
            self.execute(&self.case.insert(events)).await;
        }
    }

    async fn copy(&self, table: &str, text: String) {
        let copied = async {
            let sink = self.client.copy_in(&format!("COPY {table} FROM STDIN")).await?;
            let mut sink = pin!(sink);
            sink.send(Bytes::from(text.clone())).await?;
            sink.finish().await
        };
        if let Err(error) = copied.await {
            panic!("seed {}: {}\nCOPY {table}\n{text}", self.case.seed, message(&error));
        }
    }

    /// Every key at every instant, keys and instants that are NULL, and duplicates.
    async fn place_labels(&mut self) {
        let mut next = 0;
        let mut labels = Vec::new();
        let mut add = |key: Vec<Value>, instant: Option<i64>| {
            next += 1;
            labels.push(Label { id: next, key, instant });
        };
        for key in &self.case.keys {
            for instant in &self.case.instants {
                add(key.clone(), Some(*instant));
                if self.rng.random_ratio(1, 10) {
                    add(key.clone(), Some(*instant));
                }
            }
            add(key.clone(), None);
            let mut null = key.clone();
            let part = self.rng.random_range(0..key.len());
            null[part] = Value::Null;
            add(null.clone(), self.case.instants.choose(&mut self.rng).copied());
            add(null, None);
        }
        let keys: Vec<String> = (0..self.case.key_types.len())
            .map(|i| format!("k{i} {}", self.case.key_types[i].name()))
            .collect();
        let columns = keys.join(", ");
        self.execute(&format!(
            "CREATE SOURCE labels (id BIGINT, {columns}, at TIMESTAMPTZ, noted TIMESTAMPTZ) \
             EVENT TIME noted"
        ))
        .await;
        let mut lines = String::new();
        for label in &labels {
            let field = |value: &Value, sql_type| match value {
                Value::Null => "\\N".to_owned(),
                value => escape(&text(value, sql_type)),
            };
            let mut fields = vec![label.id.to_string()];
            let types = self.case.key_types.iter();
            fields.extend(label.key.iter().zip(types).map(|(v, t)| field(v, *t)));
            let instant = label.instant.map_or(Value::Null, Value::Timestamp);
            fields.push(field(&instant, SqlType::Timestamptz));
            fields.push("2024-01-01 00:00:00+00".into());
            lines += &(fields.join("\t") + "\n");
        }
        self.copy("labels", lines).await;
        self.labels = labels;
    }

    async fn compare(&mut self, history: &[Event], tally: &mut Tally) {
        let mut judge = Judge::new(self.case, history);
        let trained = self.compare_training(&mut judge, tally).await;
        for instant in self.case.instants.clone() {
            self.compare_online(instant, (&mut judge, &trained), tally).await;
        }
    }

    async fn query(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Answer {
        if !self.statements.contains_key(sql) {
            let prepared = self.client.prepare(sql).await.map_err(failure)?;
            self.statements.insert(sql.to_owned(), prepared);
        }
        self.client.query(&self.statements[sql], parameters).await.map_err(failure)
    }

    fn names(&self, features: &[usize]) -> Vec<String> {
        features.iter().map(|f| format!("u.{}", self.case.definitions[*f].name)).collect()
    }

    /// The point-in-time join over all labels; gives the values that it read.
    async fn compare_training(
        &mut self,
        judge: &mut Judge<'_>,
        tally: &mut Tally,
    ) -> HashMap<Triple, Value> {
        let mut trained = HashMap::new();
        let features = self.features.clone();
        let mut safe = Vec::new();
        for feature in features {
            let overflows = |label: &Label| {
                judge.value(feature, &label.key, label.instant) == Value::OutOfRange
            };
            let failing: Vec<bool> = self.labels.iter().map(overflows).collect();
            if !failing.contains(&true) {
                safe.push(feature);
                continue;
            }
            let answer = self.training(&[feature], "LEFT JOIN", None).await;
            self.expect_overflow(answer, feature, tally);
            tally.training += 1;
            let whole = self.labels.iter().zip(&failing).filter(|(_, failing)| !**failing);
            let ids: Vec<i64> = whole.map(|(label, _)| label.id).collect();
            let answer = self.training(&[feature], "LEFT JOIN", Some(&ids)).await;
            self.judge_training(answer, &[feature], (judge, &mut trained), &ids, tally);
        }
        let all: Vec<i64> = self.labels.iter().map(|label| label.id).collect();
        let answer = self.training(&safe, "LEFT JOIN", None).await;
        self.judge_training(answer, &safe, (judge, &mut trained), &all, tally);
        // An inner join differs by the labels whose key is NULL.
        let with_key = self.labels.iter().filter(|label| !label.key.contains(&Value::Null));
        let ids: Vec<i64> = with_key.map(|label| label.id).collect();
        let few: Vec<usize> = safe.choose_multiple(&mut self.rng, 3).copied().collect();
        let answer = self.training(&few, "JOIN", None).await;
        self.judge_training(answer, &few, (judge, &mut trained), &ids, tally);
        trained
    }

    async fn training(&mut self, features: &[usize], join: &str, ids: Option<&[i64]>) -> Answer {
        let mut columns = vec!["l.id".to_owned()];
        columns.extend(self.names(features));
        let width = self.case.key_types.len();
        let on: Vec<String> = (0..width).map(|i| format!("u.k{i} = l.k{i}")).collect();
        let order = if self.rng.random() { " ORDER BY l.id" } else { "" };
        let (filter, ids): (_, Vec<&(dyn ToSql + Sync)>) = match &ids {
            None => ("", vec![]),
            Some(ids) => (" WHERE l.id = ANY ($1)", vec![ids]),
        };
        let sql = format!(
            "SELECT {} FROM labels AS l {join} things FOR SYSTEM_TIME AS OF l.at AS u ON {}\
             {filter}{order}",
            columns.join(", "),
            on.join(" AND ")
        );
        self.query(&sql, &ids).await
    }

    fn expect_overflow(&self, answer: Answer, feature: usize, tally: &mut Tally) {
        tally.overflows += 1;
        let code = match &answer {
            Err((code, _)) => code.clone(),
            Ok(rows) => format!("{} rows", rows.len()),
        };
        if code != SqlState::NUMERIC_VALUE_OUT_OF_RANGE.code() {
            tally.differ(self.kind(feature, "overflow"), || {
                let statement = self.case.definitions[feature].statement;
                format!(
                    "seed: {}, {}: feature {} overflows, expected 22003, got {code}: {:?}\n{}",
                    self.case.seed,
                    self.stage,
                    self.case.definitions[feature].name,
                    answer.err(),
                    self.case.statements[statement].0
                )
            });
        }
    }

    /// Differences of a feature on a path are described once.
    fn kind(&self, feature: usize, path: &str) -> String {
        format!("{} {feature} {path}", self.case.seed)
    }

    fn rows(&self, answer: Answer, what: &str, tally: &mut Tally) -> Vec<Row> {
        answer.unwrap_or_else(|(code, message)| {
            let (seed, stage) = (self.case.seed, self.stage);
            tally.differ(message.clone(), || {
                format!("seed: {seed}, {stage}: {what} failed with {code}: {message}")
            });
            Vec::new()
        })
    }

    fn judge_training(
        &self,
        answer: Answer,
        features: &[usize],
        (judge, trained): (&mut Judge<'_>, &mut HashMap<Triple, Value>),
        expected_ids: &[i64],
        tally: &mut Tally,
    ) {
        let failed = answer.is_err();
        let rows = self.rows(answer, "a training query", tally);
        let mut ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        ids.sort_unstable();
        let mut expected_ids = expected_ids.to_vec();
        expected_ids.sort_unstable();
        if ids != expected_ids && !failed {
            tally.differ("labels".into(), || {
                let (seed, stage) = (self.case.seed, self.stage);
                format!("seed: {seed}, {stage}: labels {expected_ids:?} came out as {ids:?}")
            });
        }
        for row in &rows {
            let id: i64 = row.get(0);
            let Some(label) = self.labels.iter().find(|label| label.id == id) else { continue };
            for (place, feature) in features.iter().enumerate() {
                let got = self.cell(row, place + 1, *feature, tally);
                let expected = judge.value(*feature, &label.key, label.instant);
                tally.training += 1;
                tally.nulls += usize::from(expected == Value::Null);
                let triple = (*feature, label.key.clone(), label.instant.unwrap_or(i64::MIN));
                if got != expected {
                    tally.differ(self.kind(*feature, "training"), || {
                        let at = if label.instant.is_none() { " (of a NULL instant)" } else { "" };
                        format!(
                            "{}\n{}: training{at}: oracle {expected:?}, training {got:?}",
                            describe(self.case, judge.history, &triple),
                            self.stage
                        )
                    });
                }
                if label.instant.is_some() {
                    trained.insert(triple, got);
                }
            }
        }
    }

    /// A value; its type on the wire must be the feature's.
    fn cell(&self, row: &Row, column: usize, feature: usize, tally: &mut Tally) -> Value {
        let definition = &self.case.definitions[feature];
        let (got, wanted) = (row.columns()[column].type_(), definition.output.wire());
        if *got != wanted {
            let (seed, name) = (self.case.seed, &definition.name);
            tally.differ("type".into(), || {
                format!("seed: {seed}: {name} is sent as {got}, not {wanted}")
            });
        }
        row.try_get(column).unwrap_or(Value::OutOfRange)
    }

    /// The keys by one of the ways to ask for them, all features as of the instant.
    async fn compare_online(
        &mut self,
        instant: i64,
        (judge, trained): (&mut Judge<'_>, &HashMap<Triple, Value>),
        tally: &mut Tally,
    ) {
        let lookup = self.lookup(judge, instant);
        let (mut safe, mut failing) = (Vec::new(), Vec::new());
        for feature in self.features.clone() {
            let overflows =
                |key: &Vec<Value>| judge.value(feature, key, Some(instant)) == Value::OutOfRange;
            if lookup.keys.iter().any(overflows) {
                failing.push(feature)
            } else {
                safe.push(feature)
            }
        }
        for feature in failing {
            let answer = self.online(&[feature], &lookup, instant).await;
            self.expect_overflow(answer, feature, tally);
            tally.online += 1;
        }
        let answer = self.online(&safe, &lookup, instant).await;
        let failed = answer.is_err();
        let rows = self.rows(answer, &format!("a lookup with{}", lookup.condition), tally);
        let width = self.case.key_types.len();
        let mut missing = lookup.keys.clone();
        for row in &rows {
            let key: Vec<Value> = (0..width).map(|i| row.get(i)).collect();
            match missing.iter().position(|k| *k == key) {
                Some(index) => drop(missing.swap_remove(index)),
                None => tally.differ("keys".into(), || {
                    let (seed, stage, by) = (self.case.seed, self.stage, &lookup.condition);
                    format!("seed: {seed}, {stage}: key {key:?} is not asked for or twice{by}")
                }),
            }
            for (place, feature) in safe.iter().enumerate() {
                let got = self.cell(row, width + place, *feature, tally);
                let expected = judge.value(*feature, &key, Some(instant));
                tally.online += 1;
                tally.nulls += usize::from(expected == Value::Null);
                let triple = (*feature, key.clone(), instant);
                if got != expected {
                    tally.differ(self.kind(*feature, "online"), || {
                        format!(
                            "{}\n{}: online{}: oracle {expected:?}, online {got:?}, training {:?}",
                            describe(self.case, judge.history, &triple),
                            self.stage,
                            lookup.condition,
                            trained.get(&triple)
                        )
                    });
                }
            }
        }
        if !missing.is_empty() && !failed {
            tally.differ("keys".into(), || {
                let (seed, stage, by) = (self.case.seed, self.stage, &lookup.condition);
                format!("seed: {seed}, {stage}: no row for {missing:?} as of {instant}{by}")
            });
        }
    }

    async fn online(&mut self, features: &[usize], lookup: &Lookup, instant: i64) -> Answer {
        let mut columns: Vec<String> =
            self.case.key_names().iter().map(|name| format!("u.{name}")).collect();
        columns.extend(self.names(features));
        let sql = format!(
            "SELECT {} FROM things FOR SYSTEM_TIME AS OF $1 AS u{}",
            columns.join(", "),
            lookup.condition
        );
        let instant = Value::Timestamp(instant);
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&instant];
        for parameter in &lookup.parameters {
            parameters.push(match parameter {
                Parameter::One(value) => value,
                Parameter::Array(values) => values,
            });
        }
        self.query(&sql, &parameters).await
    }

    fn lookup(&mut self, judge: &Judge<'_>, instant: i64) -> Lookup {
        let way = self.rng.random_range(0..8);
        if way == 0 {
            let keys = judge.known_keys(&self.features, instant);
            return Lookup { condition: String::new(), parameters: Vec::new(), keys };
        }
        // With IN and ANY, every combination of the parts is asked for.
        let most = match (way, self.case.key_types.len()) {
            (1 | 2, _) => 1,
            (_, 1) => self.case.keys.len(),
            (_, width) => 5 - width,
        };
        let chosen: Vec<Vec<Value>> =
            self.case.keys.choose_multiple(&mut self.rng, most).cloned().collect();
        let mut conditions = Vec::new();
        let mut parameters = Vec::new();
        let mut keys: Vec<Vec<Value>> = vec![Vec::new()];
        for (index, name) in self.case.key_names().iter().enumerate() {
            let values: Vec<Value> = chosen.iter().map(|key| key[index].clone()).collect();
            let first = parameters.len() + 2;
            let mut different = Vec::new();
            for value in &values {
                if !different.contains(value) {
                    different.push(value.clone());
                }
            }
            keys = keys
                .iter()
                .flat_map(|key| {
                    different.iter().map(|v| [key.as_slice(), std::slice::from_ref(v)].concat())
                })
                .collect();
            match way {
                1 | 2 => {
                    conditions.push(format!("u.{name} = ${first}"));
                    parameters.extend(values.into_iter().map(Parameter::One));
                }
                3..=5 => {
                    let places: Vec<_> =
                        (0..values.len()).map(|i| format!("${}", first + i)).collect();
                    conditions.push(format!("u.{name} IN ({})", places.join(", ")));
                    parameters.extend(values.into_iter().map(Parameter::One));
                }
                _ => {
                    conditions.push(format!("u.{name} = ANY (${first})"));
                    parameters.push(Parameter::Array(values));
                }
            }
        }
        Lookup { condition: format!(" WHERE {}", conditions.join(" AND ")), parameters, keys }
    }
}

/// A way to ask for keys, and the keys that must come.
struct Lookup {
    condition: String,
    parameters: Vec<Parameter>,
    keys: Vec<Vec<Value>>,
}

enum Parameter {
    One(Value),
    Array(Vec<Value>),
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

fn failure(error: tokio_postgres::Error) -> (String, String) {
    let code = error.code().map_or("no SQLSTATE", SqlState::code).to_owned();
    (code, message(&error))
}

fn message(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{db} (hint: {:?})", db.hint()),
        None => format!("{error:?}"),
    }
}

//! Runs the script of the drivers, `drivers/script.json`, in tokio-postgres: extended protocol,
//! typed parameters, values in binary. What a step is, is in `drivers/script.py`.

mod parameter;

use bytes::Bytes;
use futures::SinkExt;
use serde::Deserialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use crate::fresh::{self, Fresh};
use crate::value;
use parameter::{Given, column_type, parameter};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(rename = "about")]
    _about: Vec<String>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default)]
    about: String,
    statement: Option<Sql>,
    query: Option<Sql>,
    copy: Option<Sql>,
    error: Option<Sql>,
    #[serde(default)]
    params: Vec<(String, Given)>,
    #[serde(default)]
    data: Vec<String>,
    count: Option<u64>,
    columns: Option<Vec<String>>,
    rows: Option<Vec<Vec<Option<String>>>>,
    #[serde(default)]
    contains: String,
    sqlstate: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Sql {
    Line(String),
    Lines(Vec<String>),
}

impl Step {
    fn sql(&self) -> String {
        let sql = [&self.statement, &self.query, &self.copy, &self.error];
        match sql.into_iter().flatten().next().expect("a step has SQL") {
            Sql::Line(line) => line.clone(),
            Sql::Lines(lines) => lines.join("\n"),
        }
    }

    async fn check(&self, client: &Client) -> Result<(), fresh::Error> {
        let done = self.run(client).await;
        let Some(sqlstate) = &self.sqlstate else { return done };
        let error = done.err().ok_or("no error")?;
        let error = error.downcast::<tokio_postgres::Error>()?;
        let error = error.as_db_error().ok_or("an error of the driver")?;
        same("SQLSTATE", error.code().code(), sqlstate.as_str())?;
        self.check_text(error.message())
    }

    async fn run(&self, client: &Client) -> Result<(), fresh::Error> {
        let written = if !self.data.is_empty() {
            copy(client, &self.sql(), &self.data).await?
        } else {
            self.run_prepared(client).await?
        };
        match self.count {
            Some(count) => same("rows written", written, count),
            None => Ok(()),
        }
    }

    async fn run_prepared(&self, client: &Client) -> Result<u64, fresh::Error> {
        let statement = client.prepare(&self.sql()).await?;
        let values: Vec<_> = self.params.iter().map(parameter).collect::<Result<_, _>>()?;
        let declared: Vec<_> =
            self.params.iter().map(|(declared, _)| column_type(declared)).collect();
        if self.sqlstate.is_none() {
            same("parameters", statement.params(), declared.as_slice())?;
        }
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| v.as_ref() as _).collect();
        if self.query.is_none() {
            return Ok(client.execute(&statement, &values).await?);
        }
        for _ in 0..2 {
            let rows = client.query(&statement, &values).await?;
            self.check_rows(&statement, &rows)?;
        }
        Ok(0)
    }

    fn check_rows(&self, statement: &Statement, rows: &[Row]) -> Result<(), fresh::Error> {
        let cells =
            |row| (0..statement.columns().len()).map(move |i| value::text(row, i)).collect();
        let rows: Vec<Vec<Option<String>>> = rows.iter().map(cells).collect::<Result<_, _>>()?;
        let (Some(columns), Some(expected)) = (&self.columns, &self.rows) else {
            return self.check_text(&rows.concat().into_iter().flatten().collect::<String>());
        };
        let found = statement.columns().iter().map(|c| (c.name().to_owned(), c.type_().clone()));
        let described = columns.iter().filter_map(|column| column.split_once(' '));
        let described = described.map(|(name, declared)| (name.to_owned(), column_type(declared)));
        same("columns", found.collect::<Vec<_>>(), described.collect())?;
        same("rows", &rows, expected)
    }

    fn check_text(&self, text: &str) -> Result<(), fresh::Error> {
        match text.contains(&self.contains) {
            true => Ok(()),
            false => Err(format!("{:?} is not in {text:?}", self.contains).into()),
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: T,
    expected: T,
) -> Result<(), fresh::Error> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found:?}\nexpected: {expected:?}").into()),
    }
}

async fn copy(client: &Client, sql: &str, data: &[String]) -> Result<u64, fresh::Error> {
    let sink = client.copy_in::<_, Bytes>(sql).await?;
    futures::pin_mut!(sink);
    for line in data {
        sink.send(Bytes::from(format!("{line}\n"))).await?;
    }
    Ok(sink.finish().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step() -> Result<(), fresh::Error> {
    let script: Script = serde_json::from_str(include_str!("drivers/script.json"))?;
    let database = Fresh::start().await?;
    let client = fresh::connect(database.port()).await?;
    for step in &script.steps {
        let done = step.check(&client).await;
        done.map_err(|error| format!("{}\n{}\n{error}", step.about, step.sql()))?;
    }
    database.stop().await;
    Ok(())
}

/// What only this driver has: rows in portions, and queries sent before the first is answered.
#[tokio::test(flavor = "multi_thread")]
async fn portals_and_pipelines() -> Result<(), fresh::Error> {
    let database = Fresh::start().await?;
    let mut client = fresh::connect(database.port()).await?;
    let source = "CREATE SOURCE t (id BIGINT, ts TIMESTAMPTZ) EVENT TIME ts";
    client.batch_execute(source).await?;
    let rows = "(1, '2025-03-01'), (2, '2025-03-01'), (3, '2025-03-01')";
    client.batch_execute(&format!("INSERT INTO t VALUES {rows}")).await?;

    let ids = |rows: &[Row]| rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>();
    let transaction = client.transaction().await?;
    let portal = transaction.bind("SELECT id FROM t ORDER BY id", &[]).await?;
    assert_eq!(ids(&transaction.query_portal(&portal, 2).await?), [1, 2]);
    assert_eq!(ids(&transaction.query_portal(&portal, 2).await?), [3]);
    transaction.commit().await?;

    let by_id = client.prepare("SELECT id FROM t WHERE id = $1").await?;
    let (first, none, third) = futures::try_join!(
        client.query(&by_id, &[&1_i64]),
        client.query(&by_id, &[&9_i64]),
        client.query(&by_id, &[&3_i64])
    )?;
    assert_eq!((ids(&first), ids(&none), ids(&third)), (vec![1], vec![], vec![3]));
    database.stop().await;
    Ok(())
}

/// A driver reads a value's bytes as the type that it was told when it prepared the statement.
#[tokio::test(flavor = "multi_thread")]
async fn a_feature_of_another_type() -> Result<(), fresh::Error> {
    let database = Fresh::start().await?;
    let client = fresh::connect(database.port()).await?;
    let feature = "CREATE OR REPLACE FEATURE f ON e AS SELECT";
    let source = "CREATE SOURCE t (id BIGINT, ts TIMESTAMPTZ) EVENT TIME ts";
    client.batch_execute(&format!("{source}; CREATE ENTITY e (id BIGINT)")).await?;
    client.batch_execute(&format!("{feature} count(*) OVER () FROM t")).await?;
    let read = "SELECT f FROM e WHERE id = $1";
    let prepared = client.prepare(read).await?;
    assert_eq!(client.query_one(&prepared, &[&1_i64]).await?.get::<_, i64>(0), 0);
    client.batch_execute(&format!("{feature} avg(id) OVER () FROM t")).await?;
    let refused =
        client.query_one(&prepared, &[&1_i64]).await.expect_err("the type is another one");
    assert_eq!(refused.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
    assert_eq!(client.query_one(read, &[&1_i64]).await?.get::<_, Option<f64>>(0), None);
    database.stop().await;
    Ok(())
}

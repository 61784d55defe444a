//! Rows without a plan are those that the plan gives, of literals and parameters of all kinds into
//! columns of all types; and what is refused here is left to it.

use arrow::compute::concat_batches;
use asofdb_sql::{Parsed, Statement};
use futures::TryStreamExt;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;
use crate::database::{Database, DatabaseOptions};
use crate::error::Result;
use crate::parameters::parameter_types;
use crate::statement::copy::complete;

const SOURCE: &str = "CREATE SOURCE t (b BOOLEAN, i2 SMALLINT, i4 INTEGER, i8 BIGINT, f4 REAL, \
     f8 DOUBLE PRECISION, n NUMERIC(8, 3), n38 NUMERIC(38, 10), s TEXT, d DATE, tz TIMESTAMPTZ, \
     ts TIMESTAMP) EVENT TIME tz";
const COLUMNS: &[&str] = &["b", "i2", "i4", "i8", "f4", "f8", "n", "n38", "s", "d", "tz", "ts"];

struct Fixture {
    runtime: Runtime,
    database: Database,
    _folder: tempfile::TempDir,
}

fn insert(parsed: &Parsed) -> &Insert {
    let Statement::Insert(insert) = &parsed.statement else { panic!("{}", parsed.text) };
    insert
}

fn parse(sql: &str) -> Parsed {
    asofdb_sql::parse(sql).unwrap().remove(0)
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = DatabaseOptions::of_tests(folder.path());
        let runtime = Runtime::new().unwrap();
        let database = runtime.block_on(async {
            let database = Database::open(options).await.unwrap();
            let create = parse(SOURCE);
            let session = database.session();
            let prepared = session.prepare(&create, &[]).await.unwrap();
            session.execute(&prepared, Vec::new()).await.map(drop).unwrap();
            database
        });
        Fixture { runtime, database, _folder: folder }
    }

    /// What the plan gives: the parameters' types, and the rows with these parameters.
    fn planned(
        &self,
        sql: &str,
        declared: &[Option<DataType>],
        parameters: &[ScalarValue],
    ) -> (Result<Vec<DataType>>, Result<RecordBatch>) {
        let catalog = self.database.inner.catalog();
        let planning = &self.database.inner.planning;
        let parsed = parse(sql);
        self.runtime.block_on(async {
            let plan = match super::super::plan(planning, &catalog, insert(&parsed)).await {
                Ok(plan) => plan,
                Err(error) => {
                    let message = error.to_string();
                    return (Err(error), Err(crate::Error::Internal(message)));
                }
            };
            let types = parameter_types(&plan, declared);
            let state = planning.state(&catalog);
            let rows = async {
                let plan = planning.physical_plan(&state, plan, parameters.to_vec()).await?;
                let stream = planning.run(plan, &state)?;
                let batches: Vec<_> = stream.try_collect().await?;
                let source = catalog.source("t")?;
                let complete = batches.iter().map(|batch| complete(source, batch));
                let complete = complete.collect::<crate::Result<Vec<_>>>()?;
                Ok(concat_batches(&nullable(&source.schema), &complete)?)
            };
            (types, rows.await)
        })
    }

    /// What comes of it without a plan.
    fn direct(
        &self,
        sql: &str,
        declared: &[Option<DataType>],
        parameters: &[ScalarValue],
    ) -> (Option<Vec<DataType>>, Option<RecordBatch>) {
        let catalog = self.database.inner.catalog();
        let parsed = parse(sql);
        match LiteralRows::of(&catalog, insert(&parsed)) {
            None => (None, None),
            Some(rows) => (rows.parameter_types(declared), rows.batch(parameters)),
        }
    }

    /// Both ways agree, and what the plan takes is taken without it.
    fn compare(&self, sql: &str) {
        let (types, rows) = self.agree(sql, &[], &[]);
        assert!(types && rows, "{sql}: not without a plan");
    }

    /// Both ways agree where there is a way without a plan. Says whether the types, and the rows,
    /// are either had without a plan or refused by it.
    fn agree(
        &self,
        sql: &str,
        declared: &[Option<DataType>],
        parameters: &[ScalarValue],
    ) -> (bool, bool) {
        let (types, planned) = self.planned(sql, declared, parameters);
        let (direct_types, direct) = self.direct(sql, declared, parameters);
        let types = match (types, direct_types) {
            (Ok(types), Some(direct)) => {
                assert_eq!(types, direct, "{sql}");
                true
            }
            (types, None) => types.is_err(),
            (Err(error), Some(_)) => panic!("{sql}: the plan has {error}"),
        };
        let rows = match (planned, direct) {
            (Ok(planned), Some(direct)) => {
                assert_eq!(bits(&planned), bits(&direct), "{sql}");
                true
            }
            (planned, None) => planned.is_err(),
            (Err(error), Some(_)) => panic!("{sql}: the plan has {error}"),
        };
        (types, rows)
    }
}

/// Columns of floats by their bits, in which NaN is itself.
fn bits(batch: &RecordBatch) -> Vec<arrow::array::ArrayData> {
    batch.columns().iter().map(|column| column.to_data()).collect()
}

/// Literals at the edges of types, and such as are of none.
const LITERALS: &[&str] = &[
    "NULL",
    "TRUE",
    "FALSE",
    "0",
    "-0",
    "1",
    "-0.0",
    "1.5",
    "2.5",
    "-2.5",
    "0.0005",
    "0.1",
    "1e3",
    "1e-3",
    "123456.7891",
    "99999.9995",
    "100000",
    "32767",
    "32768",
    "-32768",
    "2147483648",
    "-2147483649",
    "16777217",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551616",
    "1e39",
    "1e400",
    "3.4028236e38",
    "''",
    "' 1 '",
    "'1'",
    "'1.5'",
    "'1e3'",
    "'-12345.6785'",
    "'123456789012345678901234567890.1234567891'",
    "'NaN'",
    "'Infinity'",
    "'-inf'",
    "'t'",
    "'yes'",
    "'off'",
    "'TRUE'",
    "'abc'",
    "'é😀'",
    "E'a\\nb'",
    "'2025-03-01'",
    "'2025-03-01 12:00:00'",
    "'2025-03-01T12:00:00.1234567Z'",
    "'2025-03-01 12:00:00.123456789+05:30'",
    "'2025-03-01 12:00:00 Europe/Berlin'",
    "'2025-02-30'",
    "'0001-01-01'",
    "'-0044-03-15 00:00:00Z'",
    "'9999-12-31 23:59:60Z'",
    "'infinity'",
    "'12:00'",
    "DATE '2025-03-01'",
    "TIMESTAMP '2025-03-01 12:00:00.5'",
    "TIMESTAMPTZ '2025-03-01 12:00:00+01'",
    "TIMESTAMP WITH TIME ZONE '2025-03-01 12:00:00'",
    "INTEGER '7'",
    "'2025-03-01'::date",
    "'7'::bigint",
    "'7'::numeric(5, 2)",
    "CAST('x' AS text)",
    "CAST(1.5 AS integer)",
    "CAST(NULL AS double precision)",
    "CAST(-7 AS smallint)",
    "70000::smallint",
];

#[test]
fn every_literal_in_every_column() {
    let fixture = Fixture::new();
    for literal in LITERALS {
        for column in COLUMNS {
            fixture.compare(&format!("INSERT INTO t ({column}) VALUES ({literal})"));
        }
    }
}

#[test]
fn what_needs_a_plan_is_left_to_it() {
    let fixture = Fixture::new();
    for sql in [
        "INSERT INTO t (i8) VALUES (1 + 1)",
        "INSERT INTO t (i8) VALUES (abs(1)), (1)",
        "INSERT INTO t (i8) VALUES ((1))",
        "INSERT INTO t (i8) VALUES (+1)",
        "INSERT INTO t (i8) VALUES ('abc')",
        "INSERT INTO t (i8) VALUES (1), (1, 2)",
        "INSERT INTO t (i8, i8) VALUES (1, 2)",
        "INSERT INTO t (nothing) VALUES (1)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO nothing VALUES (1)",
        "INSERT INTO other.t (i8) VALUES (1)",
        "INSERT INTO t (i8) VALUES (1) LIMIT 1",
        "INSERT INTO t (i8) VALUES (1) RETURNING i8",
        "INSERT INTO t (i8) SELECT 1",
        "INSERT INTO t (i8) VALUES ($1)",
        "INSERT INTO t (i8) VALUES (now())",
        "INSERT INTO t (s) VALUES ($$x$$)",
        "INSERT INTO t (s) VALUES (X'ff')",
        "INSERT INTO t (i8) VALUES (DATE '2025-01-01'::timestamp)",
    ] {
        let (_, batch) = fixture.direct(sql, &[], &[]);
        assert!(batch.is_none(), "{sql}");
    }
}

#[test]
fn columns_that_are_not_named_are_null() {
    let fixture = Fixture::new();
    for sql in [
        "INSERT INTO public.\"t\" (TZ, i8) VALUES ('2025-01-01', 1), (NULL, NULL), (5, 1.5)",
        "INSERT INTO t VALUES (true, 1, 1, 1, 1, 1, 1, 1, 'x', '2025-01-01', 0, 0), \
         (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    ] {
        fixture.compare(sql);
        assert!(fixture.direct(sql, &[], &[]).1.is_some(), "{sql}");
    }
}

fn any_scalar() -> impl Strategy<Value = ScalarValue> {
    prop_oneof![
        any::<Option<i64>>().prop_map(ScalarValue::Int64),
        any::<Option<i16>>().prop_map(ScalarValue::Int16),
        any::<Option<f64>>().prop_map(ScalarValue::Float64),
        any::<Option<bool>>().prop_map(ScalarValue::Boolean),
        prop::option::of("[0-9a-z:-]{0,5}").prop_map(ScalarValue::Utf8),
        any::<Option<i32>>().prop_map(|v| ScalarValue::Decimal128(v.map(i128::from), 12, 4)),
        (-80_000..80_000).prop_map(|day| ScalarValue::Date32(Some(day))),
        any::<i32>().prop_map(|v| {
            ScalarValue::TimestampMicrosecond(Some(i64::from(v) << 20), Some("+00:00".into()))
        }),
    ]
}

fn any_literal() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(LITERALS).prop_map(str::to_owned),
        1 => any::<i64>().prop_map(|v| v.to_string()),
        1 => any::<i16>().prop_map(|v| format!("'{v}'")),
        1 => any::<f64>().prop_map(|v| format!("{v:e}")),
        1 => any::<f32>().prop_map(|v| format!("'{v}'")),
        1 => (-99_999_999..99_999_999, 0..6).prop_map(|(v, s)| format!("{v}e-{s}")),
        1 => "[0-9]{4}-[01][0-9]-[0-3][0-9]( [0-2][0-9]:[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,9})?)?)?\
              (Z|[+-][01][0-9](:?[0-5][0-9])?)?"
            .prop_map(|text| format!("'{text}'")),
    ]
}

/// A value that may be a parameter, cast or not.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any_literal(),
        (1..4).prop_map(|n| format!("${n}")),
        ((1..4), prop::sample::select(vec!["bigint", "text", "timestamptz", "numeric(9, 2)"]))
            .prop_map(|(n, of)| format!("${n}::{of}")),
    ]
}

fn rows(
    value: impl Strategy<Value = String> + Clone,
) -> impl Strategy<Value = (Vec<&'static str>, Vec<Vec<String>>)> {
    let columns = prop::sample::subsequence(COLUMNS, 1..=3).prop_shuffle();
    columns.prop_flat_map(move |columns| {
        let row = prop::collection::vec(value.clone(), columns.len());
        (Just(columns), prop::collection::vec(row, 1..5))
    })
}

fn text((columns, rows): (Vec<&'static str>, Vec<Vec<String>>)) -> String {
    let rows: Vec<_> = rows.iter().map(|row| format!("({})", row.join(", "))).collect();
    format!("INSERT INTO t ({}) VALUES {}", columns.join(", "), rows.join(", "))
}

#[test]
fn rows_of_any_literals() {
    let fixture = Fixture::new();
    let literals = any_literal().boxed();
    proptest!(|(rows in rows(literals))| fixture.compare(&text(rows)));
}

#[test]
fn rows_with_any_parameters() {
    let fixture = Fixture::new();
    let declared = prop::collection::vec(
        prop::option::of(prop::sample::select(vec![DataType::Int64, DataType::Utf8])),
        0..4,
    );
    let values = any_value().boxed();
    let given = [any_scalar(), any_scalar(), any_scalar()];
    proptest!(|(rows in rows(values), declared in declared, given in given)| {
        let sql = text(rows);
        let (types, _) = fixture.planned(&sql, &declared, &[]);
        if let Ok(types) = types {
            // As the server does, which gives values of these types.
            let cast = |(of, value): (&DataType, &ScalarValue)| match of {
                DataType::Null => Ok(value.clone()),
                of => value.cast_to(of).or_else(|_| ScalarValue::try_from(of)),
            };
            let given: Vec<_> = types.iter().zip(&given).map(cast).collect::<Result<_, _>>().unwrap();
            // One that stands for values of types that cannot be cast is left to the plan.
            fixture.agree(&sql, &declared, &given);
        }
    });
}

//! Rows read here are those that sqlparser reads.

use proptest::prelude::*;
use sqlparser::tokenizer::{TokenWithSpan, Tokenizer};

use super::*;
use crate::dialect::AsofDialect;
use crate::parser::with_parser;
use crate::statement;

fn tokens(sql: &str) -> Vec<TokenWithSpan> {
    let dialect = AsofDialect::default();
    Tokenizer::new(&dialect, sql).tokenize_with_location().unwrap()
}

fn by_sqlparser(tokens: &[TokenWithSpan]) -> Result<Statement, Error> {
    with_parser(tokens, statement::parse)
}

fn here(sql: &str) -> Option<Statement> {
    insert_of_literals(&tokens(sql), by_sqlparser)
}

#[test]
fn rows_of_literals_are_read_here() {
    for sql in [
        "INSERT INTO t VALUES (1), (2)",
        "insert into public.\"T\" (a, \"values\") values\n(1, -2.5e3) , (null, 'it''s') -- end\n",
        "INSERT INTO t VALUES (now(), CAST($1 AS DATE)), ($2, NULL), (TRUE, false)",
        "INSERT INTO t VALUES (1), (DATE '2025-01-01'), (timestamptz 'x'), ('x'::timestamp)",
        "INSERT INTO t VALUES (1), (1::date), (- 5), (18446744073709551616), (.5), ($1::date)",
        "INSERT INTO t VALUES (1, 2), (3)",
    ] {
        let slow = by_sqlparser(&tokens(sql));
        match sql.contains("now()") {
            // The first row is not cut at the parenthesis within it.
            true => assert_eq!(here(sql), None),
            false => assert_eq!(here(sql).unwrap(), slow.unwrap(), "{sql}"),
        }
    }
}

#[test]
fn others_are_left_to_sqlparser() {
    for sql in [
        "SELECT 1",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (1), (2) ON CONFLICT DO NOTHING",
        "INSERT INTO t VALUES (1), (2) RETURNING *",
        "INSERT INTO t VALUES (1), (2),",
        "INSERT INTO t VALUES (1), (2",
        "INSERT INTO t VALUES (1), ()",
        "INSERT INTO t VALUES (1), (2) ORDER BY 1",
        "INSERT INTO t VALUES (1), (1 + 1)",
        "INSERT INTO t VALUES (1), ('a' 'b')",
        "INSERT INTO t VALUES (1), (-'a')",
        "INSERT INTO t VALUES (1), (-1::date)",
        "INSERT INTO t VALUES (1), (\"null\")",
        "INSERT INTO t VALUES (1), (1::bigint)",
        "INSERT INTO t VALUES (1), (1::date::date)",
        "INSERT INTO t VALUES (1), ('x'::timestamp with time zone)",
        "INSERT INTO t VALUES ((1), (2), (3))",
        "INSERT INTO t VALUES ((1), (2)",
        "INSERT INTO t SELECT 1 UNION VALUES (1), (2)",
        "INSERT INTO t SELECT * FROM (VALUES (1), (2))",
        "INSERT INTO values (1), (2)",
        "INSERT INTO t VALUE (1), (2)",
    ] {
        assert_eq!(here(sql), None, "{sql}");
    }
}

fn any_value() -> impl Strategy<Value = String> {
    let type_name = prop::sample::select(vec!["date", "timestamp", "timestamptz", "\"date\""]);
    let base = prop_oneof![
        "-?[0-9]{1,22}",
        "-?[0-9]{0,4}\\.[0-9]{1,4}(e-?[0-9]{1,2})?",
        "'[a-z' é]{0,6}'".prop_map(|text| format!("'{}'", text[1..].replace('\'', ""))),
        "\\$[0-9]{1,2}",
        prop::sample::select(vec!["NULL", "true", "FALSE", "x", "DATE", "- 1", "''''", "E'\\n'"])
            .prop_map(str::to_owned),
    ];
    (base, prop::option::weighted(0.2, (type_name, any::<bool>()))).prop_map(
        |(base, of)| match of {
            None => base,
            Some((name, true)) => format!("{base}::{name}"),
            Some((name, false)) => format!("{name} {base}"),
        },
    )
}

proptest! {
    #[test]
    fn as_sqlparser_reads_them(
        rows in prop::collection::vec(prop::collection::vec(any_value(), 1..4), 1..5),
    ) {
        let rows: Vec<_> = rows.iter().map(|row| format!("({})", row.join(", "))).collect();
        let sql = format!("INSERT INTO t VALUES {}", rows.join(","));
        if let Some(statement) = here(&sql) {
            prop_assert_eq!(by_sqlparser(&tokens(&sql)).unwrap(), statement);
        }
    }
}

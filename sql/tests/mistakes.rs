//! What a user reads after a typical mistake: the message, the place and the hint.

#![allow(clippy::unwrap_used, clippy::panic)] // The helpers of tests, too.

use asofdb_sql::{Error, NameProblem, OptionValue, Options, Statement, ident, parse};

/// `^` in the text marks the place that the error must name; none means no place.
fn mistake(marked: &str, message: &str, hint: &str) {
    let sql = marked.replacen('^', "", 1);
    let place = marked.chars().position(|ch| ch == '^').map(|index| index + 1);
    let error = match parse(&sql) {
        Err(error) => error,
        Ok(parsed) => panic!("{sql}: {parsed:?}"),
    };
    assert!(error.to_string().contains(message), "{sql}\n{error}\nexpected: {message}");
    let found = error.hint().unwrap_or_default();
    assert!(found.contains(hint) && found.is_empty() == hint.is_empty(), "{sql}\n{found}");
    assert_eq!(error.position(&sql), place, "{sql}\n{error}");
}

#[test]
fn sources_and_entities() {
    mistake(
        "CREATE SOURCE s (a INT)^",
        "expected EVENT TIME, found end of statement",
        "EVENT TIME column",
    );
    mistake(
        "CREATE SOURCE s (a INT) ^WITH (b = 1)",
        "expected EVENT TIME, found WITH",
        "CREATE SOURCE",
    );
    mistake("CREATE SOURCE s (tz INT) EVENT TIME ^ts", "not a column", "Did you mean tz");
    mistake("CREATE SOURCE s (a INT, ^a TEXT) EVENT TIME a", "column a is given twice", "");
    mistake("CREATE SOURCE s (a^, b INT) EVENT TIME a", "the data type of a", "");
    mistake(
        "CREATE SOURCE s (a INT ^PRIMARY KEY) EVENT TIME a",
        "PRIMARY on a column",
        "log of events",
    );
    mistake("CREATE SOURCE ^user (a INT) EVENT TIME a", "reserved word user", "\"user\"");
    mistake("CREATE SOURCE s (a INT) EVENT TIME a WITH (b = 1, ^B = 2)", "more than once", "once");
    mistake(
        "CREATE SOURCE s (a INT) EVENT TIME a WITH (b = ^(1))",
        "an option's value",
        "WITH (name",
    );
    mistake("CREATE SOURCE other^.s (a INT) EVENT TIME a", "no schema other", "public");
    mistake("CREATE ENTITY users^", "expected (, found end", "columns of the key");
    mistake(
        "CREATE ENTITY users ^user_id BIGINT",
        "expected (, found user_id",
        "columns of the key",
    );
}

#[test]
fn features() {
    mistake("CREATE FEATURE f ^AS SELECT 1", "expected ON, found AS", "CREATE FEATURE name ON");
    mistake("CREATE FEATURE f ON users^", "AS SELECT or a data type", "CREATE FEATURE name ON");
    mistake("CREATE FEATURES ON users AS SELECT ^count(*) FROM t", "no name", "AS name");
    mistake("CREATE FEATURES ON users AS SELECT ^* FROM t", "is an expression, found *", "");
    mistake(
        "CREATE FEATURES ON u AS SELECT a AS x, b AS ^X FROM t",
        "feature X is given twice",
        "",
    );
    mistake(
        "CREATE FEATURE f ON users AS ^SELECT a, b FROM t",
        "one expression, found 2",
        "FEATURES",
    );
    mistake("CREATE FEATURE f ON users AS SELECT a AS ^b FROM t", "second name, b", "before ON");
    for (sql, clause) in [
        ("^SELECT sum(a) FROM t GROUP BY b", "GROUP BY"),
        ("^SELECT sum(a) FROM t HAVING true", "HAVING"),
        ("^SELECT DISTINCT a FROM t", "DISTINCT"),
        ("^SELECT a FROM t ORDER BY b", "ORDER BY"),
        ("^SELECT a FROM t LIMIT 1", "LIMIT"),
        ("^WITH x AS (SELECT 1) SELECT a FROM x", "WITH"),
        ("^SELECT a FROM t UNION SELECT b FROM t", "UNION"),
        ("SELECT a FROM t JOIN ^u ON true", "JOIN"),
        ("SELECT a FROM t, ^u", "more than one relation"),
        ("^SELECT a FROM (SELECT 1) AS x", "a subquery in FROM"),
        ("^SELECT a FROM t FOR SYSTEM_TIME AS OF now()", "FOR SYSTEM_TIME"),
        ("^SELECT a WHERE true", "WHERE without FROM"),
        ("^VALUES (1)", "VALUES"),
    ] {
        let sql = format!("CREATE FEATURE f ON e AS {sql} WITH (staleness = '1 s')");
        mistake(&sql, &format!("{clause} is not allowed"), "A definition is SELECT");
    }
    mistake("DROP FEATURE f^", "expected ON, found end", "features belong to an entity");
}

#[test]
fn leading_words() {
    mistake("^SELCT 1", "expected a statement, found SELCT", "SELECT?");
    mistake("SELECT 1; ^CRATE ENTITY x (a INT)", "found CRATE", "CREATE?");
    mistake("CREATE ^SOUCE s (a INT) EVENT TIME a", "found SOUCE", "SOURCE?");
    mistake("CREATE OR REPLACE ^FEATRUE f ON e AS SELECT 1", "found FEATRUE", "FEATURE?");
    mistake("DROP ^ENTTY e", "found ENTTY", "ENTITY?");
    mistake("^gibberish", "expected a statement", "");
    mistake("COMMENT ON ^FEATURES f IS 'x'", "expected SOURCE", "FEATURE?");
    mistake("^'x'", "expected a statement, found 'x'", "");
}

#[test]
fn statements_of_other_databases() {
    mistake("^CREATE TABLE t (a INT)", "CREATE TABLE is not supported", "CREATE SOURCE");
    mistake("^CREATE TEMP TABLE t (a INT)", "CREATE TEMP TABLE is not", "WITH name AS");
    mistake("^CREATE MATERIALIZED VIEW v AS SELECT 1", "MATERIALIZED VIEW is not", "FEATURES");
    mistake("^CREATE INDEX i ON t (a)", "CREATE INDEX is not", "key");
    mistake("^DROP TABLE t", "DROP TABLE is not supported", "");
    mistake("SELECT 1;\n ^UPDATE t SET a = 1", "UPDATE is not supported", "appended");
    mistake("^DELETE FROM t", "DELETE is not supported", "retention");
    mistake("^ALTER TABLE t ADD a INT", "ALTER is not supported", "OR REPLACE");
    mistake("^GRANT ALL ON t TO x", "GRANT is not supported", "configuration");
    mistake("SELECT 1 INTO ^t", "SELECT INTO is not supported", "INSERT INTO");
    mistake("SELECT * FROM ^t TIMESTAMP AS OF now()", "is not supported", "FOR SYSTEM_TIME AS OF");
    mistake("COPY t FROM ^PROGRAM 'ls'", "PROGRAM is not supported", "STDIN");
}

#[test]
fn queries_and_the_rest() {
    mistake("SELECT a FROM^", "found end of statement", "");
    mistake("SELECT a FROM t WHERE ^)", "expected an expression, found )", "");
    mistake("SELECT 'ü',\n  a ^b c FROM t".replace("^b ", "b ^").as_str(), "found c", "");
    mistake("SELECT ^'abc", "Unterminated string literal", "");
    mistake("SELECT 1 ^1", "expected end of statement, found 1", "");
    mistake(
        "SELECT * FROM u AS x FOR ^SYSTEM_TIME AS OF now()",
        "found SYSTEM_TIME",
        "before its alias",
    );
    mistake("EXPLAIN ^EXPLAIN SELECT 1", "EXPLAIN cannot explain itself", "");
    mistake("EXPLAIN ^DROP SOURCE x", "expects a query", "");
    mistake("EXPLAIN (^FORMAT JSON) SELECT 1", "FORMAT cannot be JSON", "text");
    mistake("SET x ^1", "expected TO or =", "");
    mistake("SET TRANSACTION^", "a transaction mode", "");
    mistake("COPY ^(SELECT 1) FROM STDIN", "not a query", "INSERT INTO");
    mistake("COPY t FROM ^STDOUT", "STDIN or the path", "");
    mistake("COPY t FROM STDIN WITH (^DELIMTER ',')", "unknown option", "\"delimiter\"");
    mistake("COPY t FROM STDIN WITH (FORMAT ^xml)", "a format, found xml", "csv");
    mistake("COPY t FROM STDIN WITH (FORMAT csv, ^FORMAT csv)", "more than once", "once");
    mistake("COPY t FROM STDIN WITH (DELIMITER ^'ab')", "one ASCII character", "");
    mistake("COPY ^t FROM STDIN (FORMAT parquet)", "needs a file", "csv");
    mistake("INSERT ^t VALUES (1)", "expected INTO, found t", "");
    mistake("SELECT 'a', ^\0", "NUL", "");
}

#[test]
fn names_are_checked() {
    let long = "é".repeat(32);
    mistake(&format!("SELECT a AS ^{long}"), "64 bytes are longer than 63", "");
    let ok = format!("SELECT a AS {}, \"{}\"", "é".repeat(31), "x".repeat(63));
    assert!(parse(&ok).is_ok());
    let problem = |sql: &str| match parse(sql) {
        Err(Error::InvalidName { problem, .. }) => problem,
        other => panic!("{sql}: {other:?}"),
    };
    assert_eq!(
        problem(&format!("DROP VIEW \"{}\"", "x".repeat(64))),
        NameProblem::TooLong { bytes: 64 }
    );
    assert_eq!(problem("SELECT \"\""), NameProblem::Empty);
    assert_eq!(problem("SELECT \"a\"\"\"\"b\""), NameProblem::Quotes);
}

#[test]
fn unknown_options_name_the_nearest() {
    let sql = "CREATE SOURCE s (a INT) EVENT TIME a WITH (connector = 'x', Retantion = '1')";
    let Statement::CreateSource(source) = parse(sql).unwrap().remove(0).statement else { panic!() };
    assert_eq!(source.options.check(&["connector", "retantion"]), Ok(()));
    let error = source.options.check(&["connector", "retention"]).unwrap_err();
    assert_eq!(error.to_string(), "unknown option \"retantion\"");
    assert_eq!(
        error.hint().unwrap(),
        "Did you mean \"retention\"? Known options: connector, retention."
    );
    assert_eq!(error.position(sql), sql.find("Retantion").map(|at| at + 1));
    assert_eq!(source.options.get("connector"), Some(&OptionValue::String("x".to_owned())));
    let options = Options(vec![(ident("zzz"), OptionValue::Boolean(true))]);
    let error = options.check(&[]).unwrap_err();
    assert_eq!(error.hint().unwrap(), "This statement takes no options.");
    assert_eq!(error.position("anything"), None);
}

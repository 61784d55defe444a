//! Texts made to break the parser: each gives an answer or an error, on a small stack.

#![allow(clippy::unwrap_used, clippy::panic)] // The helpers of tests, too.

use asofdb_sql::{Error, MAX_TEXT_BYTES, Statement, parse};

/// Parses, prints, copies, compares and drops in a thread with the stack of a server's worker.
fn survive(sql: String) -> Result<usize, Error> {
    let work = move || {
        let parsed = parse(&sql)?;
        for one in &parsed {
            let text = one.statement.to_string();
            assert!(!text.is_empty());
            assert!(format!("{:?}", one.statement).len() > 1);
            assert_eq!(one.clone(), *one);
        }
        Ok(parsed.len())
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap();
    thread.join().unwrap()
}

fn too_complex(sql: String) {
    let start: String = sql.chars().take(60).collect();
    match survive(sql) {
        Err(Error::TooComplex { .. }) => {}
        other => panic!("{start}: {other:?}"),
    }
}

#[test]
fn deep_nesting_is_too_complex() {
    for depth in [200, 100_000] {
        let nest = |open: &str, inner: &str, close: &str| {
            format!("SELECT {}{inner}{}", open.repeat(depth), close.repeat(depth))
        };
        too_complex(nest("(", "1", ")"));
        too_complex(nest("(SELECT ", "1", ")"));
        too_complex(nest("f(", "1", ")"));
        too_complex(nest("[", "1", "]"));
        too_complex(nest("ARRAY[", "1", "]"));
        too_complex(format!("{}1", nest("1 IN (", "1", ")")));
        too_complex(nest("EXISTS (SELECT 1 WHERE ", "true", ")"));
        too_complex(format!("SELECT * FROM {}t{}", "(".repeat(depth), ")".repeat(depth)));
        too_complex(format!("{}SELECT 1{}", "(".repeat(depth), ")".repeat(depth)));
        too_complex("(".repeat(depth));
        too_complex(format!("CREATE FEATURE f ON e AS SELECT {}", "(".repeat(depth)));
    }
}

#[test]
fn nesting_within_the_limit_passes() {
    let nest = |depth: usize, open: &str, inner: &str, close: &str| {
        format!("SELECT {}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    for (open, close) in
        [("(", ")"), ("f(", ")"), ("1 + (", ")"), ("1 IN (", ")"), ("CASE WHEN a THEN ", " END")]
    {
        survive(nest(80, open, "1", close)).unwrap();
    }
    for (open, close) in [("(SELECT ", ")"), ("EXISTS (SELECT 1 WHERE ", ")")] {
        survive(nest(30, open, "1", close)).unwrap();
        drop(survive(nest(45, open, "1", close)));
        drop(survive(nest(95, open, "1", close)));
    }
    let joins = format!("SELECT * FROM {}a JOIN b ON true{}", "(".repeat(80), ")".repeat(80));
    drop(survive(joins));
}

#[test]
fn long_chains_are_too_complex() {
    for count in [2_100, 20_000] {
        let chain = |link: &str| format!("SELECT 1{}", link.repeat(count));
        for link in [
            " + 1",
            " OR true",
            " AND x = 1",
            " || 'a'",
            "::int",
            " IS NULL",
            " = 1",
            " AT TIME ZONE 'UTC'",
            "[1]",
            " UNION SELECT 1",
            " UNION SELECT 1, 2",
            " EXCEPT SELECT 1",
            " NOTNULL",
            " -> 'a'",
            " COLLATE c",
            " NOT IN (1)",
            " BETWEEN 1 AND 2",
            " LIKE 'a'",
        ] {
            let result = survive(chain(link));
            assert!(result.is_err(), "{link} {result:?}");
        }
        for prefix in ["NOT ", "- ", "-", "+", "~", "CASE WHEN ", "INTERVAL ", "PRIOR ", "@ ", "!"]
        {
            let result = survive(format!("SELECT {}1", prefix.repeat(count)));
            assert!(result.is_err() || prefix == "-", "{prefix} {result:?}");
        }
        too_complex(format!("SELECT * FROM a{}", " JOIN b ON true".repeat(count)));
        too_complex(format!("SELECT * FROM a{}", " CROSS JOIN b".repeat(count)));
        too_complex(format!("SELECT * FROM a{}", ", b".repeat(count)));
        survive(format!("CREATE SOURCE s (a int{}) EVENT TIME a", "[]".repeat(count))).unwrap_err();
        survive(format!("{}SELECT 1", "EXPLAIN ".repeat(count))).unwrap_err();
        survive(format!("{}SELECT 1", "PREPARE p AS ".repeat(count))).unwrap_err();
        survive(format!("SELECT {}1", "ARRAY<".repeat(count))).unwrap_err();
        survive(format!("SELECT CAST(1 AS {}int", "ARRAY<".repeat(count))).unwrap_err();
    }
}

#[test]
fn chains_within_the_limit_pass() {
    let chain = |link: &str, count| format!("SELECT 1{}", link.repeat(count));
    survive(chain(" + 1", 250)).unwrap();
    survive(chain(" OR true", 250)).unwrap();
    survive(chain(" AND x = 1", 240)).unwrap();
    survive(chain("::int", 250)).unwrap();
    survive(chain(" UNION SELECT 1, 2", 60)).unwrap();
    survive(format!("SELECT * FROM a{}", " JOIN b ON true".repeat(240))).unwrap();
    // Refused by the tree's depth only after the tree was built.
    too_complex(chain(" + 1", 1_990));
    too_complex(chain("::int", 1_990));
}

#[test]
fn long_lists_pass() {
    let row = "(1, -2.5, 'abc', TIMESTAMPTZ '2026-01-01 00:00:00Z', now() - INTERVAL '1 day')";
    let rows = vec![row; 10_000].join(", ");
    assert_eq!(survive(format!("INSERT INTO t VALUES {rows}")), Ok(1));
    let numbers: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    assert_eq!(survive(format!("SELECT * FROM t WHERE a IN ({})", numbers.join(","))), Ok(1));
    let names: Vec<String> = (0..1_600).map(|n| format!("c{n}")).collect();
    assert_eq!(survive(format!("SELECT {} FROM t", names.join(", "))), Ok(1));
    assert_eq!(survive("SELECT 1;".repeat(10_000)), Ok(10_000));
    assert_eq!(survive(format!("SELECT 1{}", ";".repeat(1_000_000))), Ok(1));
    let wide: Vec<String> = (0..2_000).map(|n| format!("avg(x) OVER w AS f{n}")).collect();
    let windows = "FROM t WINDOW w AS (RANGE INTERVAL '1 day' PRECEDING)";
    let sql = format!("CREATE FEATURES ON e AS SELECT {} {windows}", wide.join(", "));
    assert_eq!(survive(sql), Ok(1));
}

#[test]
fn texts_are_bounded() {
    assert!(matches!(
        survive(" ".repeat(MAX_TEXT_BYTES + 1)),
        Err(Error::TooLarge { limit: MAX_TEXT_BYTES, .. })
    ));
    let long = "a".repeat(1 << 20);
    assert!(matches!(survive(format!("SELECT {long}")), Err(Error::InvalidName { .. })));
    assert!(matches!(survive(format!("SELECT \"{long}\"")), Err(Error::InvalidName { .. })));
    assert!(matches!(survive(long.clone()), Err(Error::InvalidName { .. })));
    assert_eq!(survive(format!("SELECT '{long}'")), Ok(1));
    assert_eq!(survive(format!("SELECT 1 /* {long} */")), Ok(1));
    assert!(survive(format!("SELECT {}", "/*".repeat(1 << 20))).is_err());
    assert_eq!(survive(String::new()), Ok(0));
    assert_eq!(survive(" -- nothing\n/* at all */ ;; ".to_owned()), Ok(0));
}

#[test]
fn invalid_texts_are_refused() {
    for sql in ["SELECT \0", "SELECT 'a\0b'", "\0", "SELECT E'\\000'"] {
        let result = survive(sql.to_owned());
        assert!(result.is_err(), "{sql:?} {result:?}");
    }
    assert!(matches!(survive("SELECT 'a\0'".to_owned()), Err(Error::InvalidText { .. })));
    for sql in [
        "SELECT E'\\u00'",
        "SELECT E'\\xZZ'",
        "SELECT E'\\U00110000'",
        "SELECT U&'\\'",
        "SELECT U&'\\D800'",
        "SELECT 'abc",
        "SELECT \"abc",
        "SELECT $$abc",
        "SELECT $a$b",
        "SELECT E'",
        "SELECT /* ",
        "SELECT \"\"",
        "SELECT x'",
        "SELECT 1e",
        "SELECT \u{FEFF}1",
        "SELECT \u{202E}",
        "SELECT $99999999999999999999",
        "SELECT ?",
        "SELECT :a",
        "SELECT 1.2.3",
        "é",
        "SELECT 'é",
        ")",
        "]",
        "}",
        "(",
        "SELECT )",
        "SELECT (]",
        ",",
        ".",
        ";,",
        "CREATE",
        "DROP",
        "SET",
        "COPY",
        "CREATE FEATURE",
        "CREATE FEATURES ON",
        "EXPLAIN",
        "EXPLAIN (",
        "WITH",
        "INSERT INTO",
        "COMMENT ON",
        "SHOW",
        "DESCRIBE",
        "PREPARE",
        "CREATE SOURCE s (",
        "VALUES",
        "SELECT",
    ] {
        drop(survive(sql.to_owned()));
    }
}

#[test]
fn hostile_names_stay_names() {
    for name in ["a\"; DROP SOURCE t; --", "DROP", "a:b", "a'b", "ü\u{1F600}", " ", "a\nb", "\\"] {
        let sql = format!("SHOW CREATE ENTITY \"{}\"", name.replace('"', "\"\""));
        let parsed = parse(&sql).unwrap();
        let [one] = parsed.as_slice() else { panic!("{sql}") };
        let Statement::ShowCreate(show) = &one.statement else { panic!("{sql}") };
        assert_eq!(asofdb_sql::fold(&show.name), name);
        assert_eq!(parse(&one.statement.to_string()).unwrap()[0].statement, one.statement);
    }
}

/// Words that sqlparser tries as one thing and then as another must not double the work each time.
#[test]
fn backtracking_is_bounded() {
    let start = std::time::Instant::now();
    for word in [
        "case",
        "interval",
        "current_user(",
        "cast(",
        "date ",
        "array(",
        "array[",
        "(select (",
        "not exists(",
        "extract(",
        "position(",
        "trim(",
        "map{",
        "struct(",
        "lambda ",
        "any(",
        "(values(",
        "exists(",
        "convert(",
        "(a,",
        "substring(",
        "overlay(",
        "ceil(",
        "floor(",
        "grouping sets(",
        "timestamp ",
        "row(",
        "try_cast(",
        "listagg(",
        "{fn ",
        "a->",
        "prior ",
        "connect_by_root ",
        "x ->",
    ] {
        for count in [30, 95] {
            drop(survive(format!("SELECT {}", format!("{word} ").repeat(count))));
            drop(survive(format!("SELECT * FROM {}", format!("{word} ").repeat(count))));
            drop(survive(format!("SELECT * FROM t WHERE {}", format!("{word} ").repeat(count))));
            drop(survive(format!("{word} ").repeat(count)));
        }
        assert!(start.elapsed().as_secs() < 20, "{word}");
    }
}

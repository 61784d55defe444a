//! Joins with entities become relations of their own; versions and relations are found.

#![allow(clippy::unwrap_used, clippy::panic)] // The helpers of tests, too.

use asofdb_sql::rewrite::{find_relations, find_versions, nest_versioned_joins};
use asofdb_sql::sqlparser::ast::{ObjectName, Query};
use asofdb_sql::{Statement, canonical, fold_name, parse};

fn query(sql: &str) -> Box<Query> {
    match parse(sql).unwrap().remove(0).statement {
        Statement::Query(query) => query,
        other => panic!("{other}"),
    }
}

fn is_entity(name: &ObjectName) -> bool {
    matches!(fold_name(name).last().map(String::as_str), Some("users" | "merchants"))
}

fn names(found: Vec<ObjectName>) -> String {
    found.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" ")
}

/// Compares as text, and checks that a second rewrite changes nothing.
fn rewritten(sql: &str, expected: &str) {
    let mut query = query(sql);
    nest_versioned_joins(&mut query, &is_entity);
    assert_eq!(canonical(query.as_ref()), expected);
    let once = query.clone();
    nest_versioned_joins(&mut query, &is_entity);
    assert_eq!(query, once);
}

fn unchanged(sql: &str) {
    rewritten(sql, sql);
}

#[test]
fn joins_with_entities_are_nested() {
    rewritten(
        "SELECT * FROM l JOIN users FOR SYSTEM_TIME AS OF l.ts AS u ON u.id = l.id",
        "SELECT * FROM (l JOIN users FOR SYSTEM_TIME AS OF l.ts AS u ON u.id = l.id)",
    );
    rewritten(
        "SELECT * FROM l LEFT JOIN Users u USING (id)",
        "SELECT * FROM (l LEFT JOIN Users u USING(id))",
    );
    rewritten(
        "SELECT * FROM a JOIN b ON x JOIN users ON y JOIN c ON z JOIN merchants ON w JOIN d ON v",
        "SELECT * FROM (((a JOIN b ON x) JOIN users ON y) JOIN c ON z JOIN merchants ON w) JOIN d ON v"
            .replace("FROM (((a JOIN b ON x) JOIN users ON y) JOIN c ON z JOIN",
                     "FROM ((((a JOIN b ON x) JOIN users ON y) JOIN c ON z) JOIN").as_str(),
    );
    rewritten(
        "SELECT * FROM a JOIN users ON x JOIN merchants ON y",
        "SELECT * FROM ((a JOIN users ON x) JOIN merchants ON y)",
    );
    rewritten("SELECT * FROM a, l JOIN users ON x", "SELECT * FROM a, (l JOIN users ON x)");
    rewritten("SELECT * FROM l CROSS JOIN users", "SELECT * FROM (l CROSS JOIN users)");
}

#[test]
fn other_joins_are_left_alone() {
    unchanged("SELECT * FROM a JOIN b ON x LEFT JOIN c ON y");
    unchanged("SELECT * FROM users JOIN b ON x");
    unchanged("SELECT * FROM users, merchants");
    unchanged("SELECT * FROM (l JOIN users ON x)");
    unchanged("SELECT * FROM a JOIN (SELECT 1) AS users ON x");
    unchanged("SELECT * FROM a JOIN users(1) ON x");
}

#[test]
fn nested_queries_are_rewritten() {
    for frame in [
        "SELECT * FROM ({}) AS t",
        "SELECT (SELECT 1 FROM ({}) AS t) FROM x",
        "SELECT * FROM x WHERE EXISTS ({})",
        "WITH c AS ({}) SELECT * FROM c",
        "SELECT 1 UNION ALL {}",
        "(SELECT 1) UNION ({})",
        "SELECT * FROM x JOIN LATERAL ({}) AS t ON true",
        "SELECT * FROM x ORDER BY ({})",
        "SELECT * FROM x JOIN y ON x.a IN ({})",
    ] {
        let sql = frame.replace("{}", "SELECT 1 FROM l JOIN users ON x");
        rewritten(&sql, &frame.replace("{}", "SELECT 1 FROM (l JOIN users ON x)"));
    }
    rewritten(
        "SELECT * FROM (a JOIN b ON x JOIN users ON y) AS t",
        "SELECT * FROM (((a JOIN b ON x) JOIN users ON y)) AS t",
    );
}

#[test]
fn common_table_expressions_hide_entities() {
    unchanged("WITH users AS (SELECT 1) SELECT * FROM a JOIN users ON x");
    unchanged(
        "WITH users AS (SELECT 1) SELECT * FROM b WHERE EXISTS (SELECT 1 FROM a JOIN users ON x)",
    );
    unchanged("WITH users AS (SELECT 1), c AS (SELECT * FROM a JOIN users ON x) SELECT 1");
    unchanged("WITH RECURSIVE users AS (SELECT * FROM a JOIN users ON x) SELECT 1");
    rewritten(
        "WITH users AS (SELECT * FROM a JOIN users ON x) SELECT * FROM a JOIN users ON x",
        "WITH users AS (SELECT * FROM (a JOIN users ON x)) SELECT * FROM a JOIN users ON x",
    );
    rewritten(
        "WITH c AS (SELECT * FROM a JOIN users ON x), users AS (SELECT 1) SELECT * FROM a JOIN users ON x",
        "WITH c AS (SELECT * FROM (a JOIN users ON x)), users AS (SELECT 1) SELECT * FROM a JOIN users ON x",
    );
    rewritten(
        "SELECT * FROM (WITH users AS (SELECT 1) SELECT 1) AS t, a JOIN users ON x",
        "SELECT * FROM (WITH users AS (SELECT 1) SELECT 1) AS t, (a JOIN users ON x)",
    );
    rewritten(
        "WITH users AS (SELECT 1) SELECT * FROM a JOIN public.users ON x",
        "WITH users AS (SELECT 1) SELECT * FROM (a JOIN public.users ON x)",
    );
}

#[test]
fn versions_are_found() {
    let sql = "WITH c AS (SELECT * FROM a FOR SYSTEM_TIME AS OF now()) \
               SELECT * FROM b, c FOR SYSTEM_TIME AS OF x AS y \
               WHERE EXISTS (SELECT 1 FROM public.d FOR SYSTEM_TIME AS OF $1)";
    assert_eq!(names(find_versions(&query(sql))), "a c public.d");
    assert_eq!(names(find_versions(&query("SELECT * FROM a"))), "");
}

#[test]
fn relations_are_found() {
    let sql = "WITH c AS (SELECT * FROM a JOIN c ON x) SELECT * FROM b, c, public.c \
               WHERE x IN (SELECT y FROM c, d) UNION SELECT 1 FROM f(1), e";
    assert_eq!(names(find_relations(&query(sql))), "a c b public.c d e");
}

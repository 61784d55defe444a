//! Every statement's `Display` reads back as an equal tree.

#![allow(clippy::unwrap_used, clippy::panic)] // The helpers of tests, too.

use asofdb_sql::sqlparser::ast::{DataType, Expr, Ident, Value};
use asofdb_sql::{
    ColumnDef, Comment, CommentObject, Copy, CopyDirection, CopyEndpoint, CopyFormat, CopyTarget,
    CreateEntity, CreateFeatures, CreateSource, Drop, DropObject, FeatureDef, From, KeyColumn,
    OptionValue, Options, SessionStatement, SetScope, SetVariable, SettingValue, Statement, parse,
};
use proptest::prelude::*;

fn one(sql: &str) -> Statement {
    let mut parsed = parse(sql).unwrap_or_else(|error| panic!("{sql}: {error} {error:?}"));
    assert_eq!(parsed.len(), 1, "{sql}");
    parsed.remove(0).statement
}

fn round_trip(statement: &Statement) {
    let text = statement.to_string();
    assert_eq!(&one(&text), statement, "{text}");
}

#[test]
fn listed_statements() {
    let list = include_str!("statements.sql");
    let mut count = 0;
    for sql in list.split(";\n").map(str::trim).filter(|sql| !sql.is_empty()) {
        let statement = one(sql);
        round_trip(&statement);
        count += 1;
    }
    assert!(count > 150, "{count}");
}

#[test]
fn canonical_text_is_as_expected() {
    for (sql, canonical) in [
        (
            "create source T(a bigint not null,b text) event time a with(Retention='2 years',n=-1,x)",
            "CREATE SOURCE T (a BIGINT NOT NULL, b TEXT) EVENT TIME a \
             WITH (Retention = '2 years', n = -1, x = true)",
        ),
        ("desc x", "DESCRIBE x"),
        ("drop features if exists a,b on public.e restrict", "DROP FEATURE IF EXISTS a, b ON e"),
        ("set time zone 'UTC'", "SET timezone TO 'UTC'"),
        ("copy t from stdin csv header", "COPY t FROM STDIN WITH (FORMAT csv, HEADER true)"),
        (
            "start transaction read only, isolation level serializable",
            "START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY",
        ),
        (
            "select * from users for system_time as of now() as u",
            "SELECT * FROM users FOR SYSTEM_TIME AS OF now() AS u",
        ),
    ] {
        assert_eq!(one(sql).to_string(), canonical);
    }
}

#[test]
fn texts_of_statements() {
    let parsed = parse(" SELECT 1 ;; -- c\n ü;SELECT ';' ;\nCHECKPOINT -- x\n").map(|_| ());
    assert!(parsed.is_err());
    let parsed = parse(" SELECT 'ü' ;; -- c\n SELECT ';' /* ; */ ;\nCHECKPOINT\n").unwrap();
    let texts: Vec<&str> = parsed.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(texts, ["SELECT 'ü'", "SELECT ';' /* ; */", "CHECKPOINT"]);
}

fn name() -> impl Strategy<Value = Ident> {
    let awkward = "[a-zA-Z \"'\\\\é😀.;:$0-9-]{1,12}"
        .prop_filter("quotes", |text: &String| !text.contains("\"\"") && !text.contains("\\\""));
    let word = prop::sample::select(vec![
        "select", "User", "from", "WITH", "event", "time", "on", "as", "feature", "source", "order",
    ]);
    prop_oneof![
        "[a-z_][a-zA-Z0-9_$]{0,10}"
            .prop_filter("keyword", |text| {
                asofdb_sql::ident(&text.to_ascii_lowercase()).quote_style.is_none()
                    || text.contains('$')
            })
            .prop_map(Ident::new),
        awkward.prop_map(|text| Ident::with_quote('"', text)),
        word.prop_map(|text| Ident::with_quote('"', text)),
    ]
}

fn names() -> impl Strategy<Value = Vec<Ident>> {
    prop::collection::vec(name(), 1..4).prop_filter("unique", |names| {
        let folded: std::collections::HashSet<_> = names.iter().map(asofdb_sql::fold).collect();
        folded.len() == names.len()
    })
}

fn text() -> impl Strategy<Value = String> {
    "[a-z '\"\\\\\n$é;\u{FDD0}-]{0,12}"
}

fn data_type() -> impl Strategy<Value = DataType> {
    prop::sample::select(vec![
        "BIGINT",
        "TEXT",
        "DOUBLE PRECISION",
        "TIMESTAMPTZ",
        "TIMESTAMP WITH TIME ZONE",
        "NUMERIC(10,2)",
        "BOOLEAN",
        "VARCHAR(20)",
        "INT[]",
        "REAL",
        "UUID",
        "DATE",
        "BYTEA",
    ])
    .prop_map(|text| match one(&format!("CREATE ENTITY e (k {text})")) {
        Statement::CreateEntity(mut entity) => entity.key.remove(0).data_type,
        other => panic!("{other}"),
    })
}

fn expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        name().prop_map(Expr::Identifier),
        text().prop_map(|text| Expr::value(Value::SingleQuotedString(text))),
        (0_u32..1000).prop_map(|n| Expr::value(Value::Number(n.to_string(), false))),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        let form = prop::sample::select(vec![
            "(x + y)",
            "(x AND NOT y)",
            "sum(x) FILTER (WHERE y) OVER (RANGE INTERVAL '1 hour' PRECEDING)",
            "coalesce(x, y)",
            "CASE WHEN x THEN y END",
            "(x)::text",
            "count(*) OVER w",
            "(x IN (y, 'a'))",
            "last_value(x) OVER (PARTITION BY y ORDER BY ts ROWS 9 PRECEDING)",
        ]);
        (form, inner.clone(), inner).prop_map(|(form, x, y)| {
            let mut tree = asofdb_sql::parse_expr(form).unwrap();
            let _ = asofdb_sql::sqlparser::ast::visit_expressions_mut(&mut tree, |expr| {
                let to = match expr {
                    Expr::Identifier(ident) if ident.value == "x" => x.clone(),
                    Expr::Identifier(ident) if ident.value == "y" => y.clone(),
                    _ => return std::ops::ControlFlow::<()>::Continue(()),
                };
                *expr = Expr::Nested(Box::new(to));
                std::ops::ControlFlow::Continue(())
            });
            tree
        })
    })
}

fn options() -> impl Strategy<Value = Options> {
    let value = prop_oneof![
        text().prop_map(OptionValue::String),
        (-5_i32..500).prop_map(|n| OptionValue::Number(n.to_string())),
        any::<bool>().prop_map(OptionValue::Boolean),
    ];
    prop_oneof![
        Just(Options::default()),
        (names(), prop::collection::vec(value, 3))
            .prop_map(|(names, values)| Options(names.into_iter().zip(values).collect())),
    ]
}

fn source() -> impl Strategy<Value = Statement> {
    let columns = (names(), prop::collection::vec((data_type(), any::<bool>()), 3));
    (name(), any::<(bool, bool)>(), columns, options()).prop_map(
        |(name, (if_not_exists, or_replace), (names, types), options)| {
            let event_time = names[0].clone();
            let column = |(name, (data_type, not_null))| ColumnDef { name, data_type, not_null };
            let columns = names.into_iter().zip(types).map(column).collect();
            Statement::CreateSource(CreateSource {
                name,
                if_not_exists,
                or_replace,
                columns,
                event_time,
                options,
            })
        },
    )
}

fn entity() -> impl Strategy<Value = Statement> {
    let key = (names(), prop::collection::vec(data_type(), 3));
    (name(), any::<(bool, bool)>(), key, options()).prop_map(
        |(name, (if_not_exists, or_replace), (names, types), options)| {
            let column = |(name, data_type)| KeyColumn { name, data_type };
            let key = names.into_iter().zip(types).map(column).collect();
            Statement::CreateEntity(CreateEntity { name, if_not_exists, or_replace, key, options })
        },
    )
}

fn features() -> impl Strategy<Value = Statement> {
    let from =
        prop::option::of((name(), prop::option::of(name()), prop::option::of(expr())).prop_map(
            |(source, alias, selection)| From { source, alias, selection, windows: Vec::new() },
        ));
    let list = (names(), prop::collection::vec(expr(), 3));
    (name(), any::<(bool, bool, bool)>(), list, from, options()).prop_map(
        |(entity, (or_replace, if_not_exists, plural), (mut names, exprs), from, options)| {
            names.truncate(if plural { 3 } else { 1 });
            let features = names
                .into_iter()
                .zip(exprs)
                .map(|(name, expr)| FeatureDef { name, expr })
                .collect();
            Statement::CreateFeatures(Box::new(CreateFeatures {
                entity,
                or_replace,
                if_not_exists,
                plural,
                arguments: Vec::new(),
                features,
                from,
                options,
            }))
        },
    )
}

fn others() -> impl Strategy<Value = Statement> {
    let object = prop_oneof![
        Just(DropObject::Source),
        Just(DropObject::View),
        name().prop_map(|entity| DropObject::Feature { entity }),
    ];
    let drop = (object, any::<(bool, bool)>(), names()).prop_map(|(object, flags, names)| {
        Statement::Drop(Drop { object, if_exists: flags.0, names, cascade: flags.1 })
    });
    let comment = (name(), name(), prop::option::of(text())).prop_map(|(name, entity, text)| {
        Statement::Comment(Comment { object: CommentObject::Feature { name, entity }, text })
    });
    let copy = (name(), names(), text(), prop::option::of(text())).prop_map(
        |(name, columns, path, null)| {
            Statement::Copy(Copy {
                target: CopyTarget::Table { name, columns },
                direction: CopyDirection::From,
                endpoint: CopyEndpoint::File(path),
                format: Some(CopyFormat::Csv),
                header: Some(true),
                delimiter: Some('\''),
                null,
                quote: Some('"'),
                escape: None,
            })
        },
    );
    let value = prop_oneof![
        text().prop_map(SettingValue::String),
        name().prop_map(|name| SettingValue::Word(asofdb_sql::fold(&name))),
        (-5..5).prop_map(|n: i32| SettingValue::Number(n.to_string())),
    ];
    let values = prop::collection::vec(value, 0..3);
    let set = ("[a-z_]{1,9}(\\.[a-z]{1,5})?", values).prop_map(|(name, values)| {
        Statement::Session(SessionStatement::Set(SetVariable {
            scope: SetScope::Local,
            name,
            values,
        }))
    });
    prop_oneof![drop, comment, copy, set]
}

proptest! {
    #[test]
    fn generated_statements(statement in prop_oneof![source(), entity(), features(), others()]) {
        let text = statement.to_string();
        let parsed = parse(&text);
        let parsed = parsed.unwrap_or_else(|error| panic!("{text}: {error}"));
        prop_assert_eq!(parsed.len(), 1, "{}", text);
        prop_assert_eq!(&parsed[0].statement, &statement, "{}", text);
        prop_assert_eq!(&parsed[0].text, text.trim_end());
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,60}") {
        drop(parse(&text));
    }

    #[test]
    fn any_tokens_are_answered(words in prop::collection::vec(prop::sample::select(vec![
        "CREATE", "SOURCE", "FEATURE", "FEATURES", "ON", "AS", "SELECT", "FROM", "(", ")", ",", ";", "'a'",
        "1", "x", "\"q\"", "WITH", "=", "EVENT", "TIME", "COPY", "STDIN", "SET", "TO", "OVER", "WINDOW",
        "FOR", "SYSTEM_TIME", "OF", "JOIN", "WHERE", "INSERT", "INTO", "VALUES", ".", "*", "-", "E'\\n'",
        "EXPLAIN", "DROP", "SHOW", "CASE", "END", "INTERVAL", "::", "[", "]", "$1",
    ]), 0..25)) {
        if let Ok(parsed) = parse(&words.join(" ")) {
            for one in parsed {
                prop_assert!(!one.statement.to_string().is_empty());
            }
        }
    }
}

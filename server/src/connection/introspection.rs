//! Queries on PostgreSQL's type catalog that a driver asks before it uses a type. There is no such
//! catalog here; what they ask for is answered by a query of our own with the same columns.

use postgres_types::Type;

/// A query that takes the place of a driver's.
pub(super) struct Substitute {
    /// The statement to run.
    pub sql: String,
    /// Its parameters' types, as the driver's cast them.
    pub parameters: Vec<u32>,
}

/// The types with an array type that values can have here.
const ARRAYS: &[(Type, Type)] = &[
    (Type::BOOL_ARRAY, Type::BOOL),
    (Type::INT2_ARRAY, Type::INT2),
    (Type::INT4_ARRAY, Type::INT4),
    (Type::INT8_ARRAY, Type::INT8),
    (Type::FLOAT4_ARRAY, Type::FLOAT4),
    (Type::FLOAT8_ARRAY, Type::FLOAT8),
    (Type::NUMERIC_ARRAY, Type::NUMERIC),
    (Type::TEXT_ARRAY, Type::TEXT),
    (Type::VARCHAR_ARRAY, Type::VARCHAR),
    (Type::BYTEA_ARRAY, Type::BYTEA),
    (Type::DATE_ARRAY, Type::DATE),
    (Type::TIME_ARRAY, Type::TIME),
    (Type::TIMESTAMP_ARRAY, Type::TIMESTAMP),
    (Type::TIMESTAMPTZ_ARRAY, Type::TIMESTAMPTZ),
    (Type::INTERVAL_ARRAY, Type::INTERVAL),
];

/// The substitute for a statement, if it is one that a driver is known to ask.
pub(super) fn substitute(sql: &str) -> Option<Substitute> {
    let mut words = sql.split_ascii_whitespace();
    let start = [words.next(), words.next(), words.next()].map(Option::unwrap_or_default);
    match start {
        // asyncpg, for every array type that it meets: its element's type.
        ["WITH", "RECURSIVE", third] if third.starts_with("typeinfo_tree(") => {
            Some(Substitute { sql: array_types(), parameters: vec![Type::OID_ARRAY.oid()] })
        }
        // asyncpg, before that: it turns a just-in-time compiler off if there is one.
        ["SELECT", "current_setting('jit')", "AS"] => Some(Substitute {
            sql: "SELECT 'off' AS cur, 'off' AS new".into(),
            parameters: Vec::new(),
        }),
        _ => None,
    }
}

fn array_types() -> String {
    let row = |(array, element): &(Type, Type)| {
        format!("({}, '{}', {})", array.oid(), array.name(), element.oid())
    };
    let rows: Vec<String> = ARRAYS.iter().map(row).collect();
    format!(
        "SELECT t.oid, 'pg_catalog' AS ns, t.name, 'b' AS kind, CAST(NULL AS BIGINT) AS \
         basetype, t.elemtype, ',' AS elemdelim, CAST(NULL AS BIGINT) AS range_subtype, \
         CAST(NULL AS TEXT) AS attrtypoids, CAST(NULL AS TEXT) AS attrnames, 0 AS depth, \
         CAST(NULL AS TEXT) AS basetype_name, CAST(NULL AS TEXT) AS elemtype_name, \
         CAST(NULL AS TEXT) AS range_subtype_name \
         FROM (VALUES {}) AS t(oid, name, elemtype) WHERE t.oid = ANY($1)",
        rows.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_queries_are_replaced() {
        assert!(substitute("SELECT 1").is_none());
        assert!(substitute("").is_none());
        assert!(substitute("\n SELECT\n current_setting('jit') AS cur").is_some());
        let found = substitute("WITH RECURSIVE typeinfo_tree(oid) AS (SELECT 1)").unwrap();
        assert!(found.sql.contains("(1016, '_int8', 20)"));
        assert!(asofdb_sql::parse(&found.sql).is_ok());
    }
}

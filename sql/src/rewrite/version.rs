//! Entities without `FOR SYSTEM_TIME AS OF` are read as of now, and say so.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArgumentList, FunctionArguments, Ident, ObjectName, Statement,
    TableVersion, VisitMut,
};

use super::{Nester, Scopes};

/// Gives every entity that has no clause `FOR SYSTEM_TIME AS OF now()`, and nests its joins as
/// [`super::nest_versioned_joins`] does. Afterwards the clause alone tells an entity from a common
/// table expression of the same name.
pub fn version_entities(statement: &mut Statement, is_entity: &dyn Fn(&ObjectName) -> bool) {
    let mut nester = Nester { scopes: Scopes::default(), is_entity, versions: true };
    let _: ControlFlow<()> = statement.visit(&mut nester);
}

/// `FOR SYSTEM_TIME AS OF now()`
pub(super) fn now() -> TableVersion {
    TableVersion::ForSystemTimeAsOf(Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("now")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: Vec::new(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(sql: &str) -> String {
        let parsed = crate::parse(sql).unwrap();
        let crate::Statement::Query(query) = parsed[0].statement.clone() else { panic!() };
        let mut statement = Statement::Query(query);
        version_entities(&mut statement, &|name| name.to_string() == "users");
        statement.to_string()
    }

    #[test]
    fn entities_are_read_as_of_now() {
        assert_eq!(
            rewritten("SELECT * FROM users WHERE id = 1"),
            "SELECT * FROM users FOR SYSTEM_TIME AS OF now() WHERE id = 1"
        );
    }

    #[test]
    fn a_common_table_expression_hides_an_entity() {
        let sql = "WITH users AS (SELECT 1 AS id) SELECT * FROM users";
        assert_eq!(rewritten(sql), sql);
    }

    #[test]
    fn a_given_instant_stays() {
        let sql = "SELECT * FROM users FOR SYSTEM_TIME AS OF t";
        assert_eq!(rewritten(sql), sql);
    }
}

//! Entities without `FOR SYSTEM_TIME AS OF` are read as of now, and say so.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, ObjectName, Query, Statement, TableFactor, TableVersion, VisitMut, VisitorMut,
};

use super::{Nester, Scopes};
use crate::name::fold_name;

/// Gives every entity that has no clause `FOR SYSTEM_TIME AS OF now()`, and nests its joins as
/// [`super::nest_versioned_joins`] does. Afterwards the clause alone tells an entity from a common
/// table expression of the same name.
pub fn version_entities(statement: &mut Statement, is_entity: &dyn Fn(&ObjectName) -> bool) {
    let mut versioner = Versioner { scopes: Scopes::default(), is_entity };
    let _: ControlFlow<()> = statement.visit(&mut versioner);
    let mut nester = Nester { scopes: Scopes::default(), is_entity };
    let _: ControlFlow<()> = statement.visit(&mut nester);
}

struct Versioner<'f> {
    scopes: Scopes,
    is_entity: &'f dyn Fn(&ObjectName) -> bool,
}

impl VisitorMut for Versioner<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.scopes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, version: version @ None, args: None, .. } = factor
            && !self.scopes.shadows(&fold_name(name))
            && (self.is_entity)(name)
        {
            *version = Some(TableVersion::ForSystemTimeAsOf(now()));
        }
        ControlFlow::Continue(())
    }
}

fn now() -> Expr {
    use sqlparser::ast::{Function, FunctionArgumentList, FunctionArguments};
    Expr::Function(Function {
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
    })
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

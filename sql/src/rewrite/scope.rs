//! Which names of common table expressions are in scope while a visitor walks a query.
//!
//! A visitor enters the expressions of a `WITH` in order before the rest of its query. An
//! expression sees those before it, and with `RECURSIVE` all of them; the rest of the query sees
//! all. So in `WITH users AS (SELECT .. FROM users) SELECT .. FROM users` the inner name is the
//! relation and the outer one is the expression.

use sqlparser::ast::Query;

use crate::name::fold;

#[derive(Default)]
pub(super) struct Scopes(Vec<Scope>);

struct Scope {
    names: Vec<String>,
    recursive: bool,
    /// Expressions of the `WITH` that were entered.
    entered: usize,
    /// How many of `names` can be seen now.
    visible: usize,
    /// This query is an expression of the `WITH` of the scope below.
    is_expression: bool,
}

impl Scopes {
    /// Call before the parts of a query are visited.
    pub(super) fn enter(&mut self, query: &Query) {
        let mut is_expression = false;
        if let Some(outer) = self.0.last_mut()
            && outer.entered < outer.names.len()
        {
            outer.visible = if outer.recursive { outer.names.len() } else { outer.entered };
            outer.entered += 1;
            is_expression = true;
        }
        let with = query.with.as_ref();
        let tables = with.map(|with| with.cte_tables.as_slice()).unwrap_or_default();
        let names: Vec<String> = tables.iter().map(|table| fold(&table.alias.name)).collect();
        let recursive = with.is_some_and(|with| with.recursive);
        self.0.push(Scope { names, recursive, entered: 0, visible: 0, is_expression });
    }

    /// Call after the parts of a query were visited.
    pub(super) fn leave(&mut self) {
        let left = self.0.pop();
        if let Some(outer) = self.0.last_mut()
            && left.is_some_and(|scope| scope.is_expression)
            && outer.entered == outer.names.len()
        {
            outer.visible = outer.names.len();
        }
    }

    /// Whether a folded name is that of an expression in scope.
    pub(super) fn shadows(&self, name: &[String]) -> bool {
        let [name] = name else {
            return false;
        };
        self.0.iter().any(|scope| scope.names[..scope.visible].contains(name))
    }
}

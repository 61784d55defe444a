//! Rewrites and questions about queries that the planner needs before DataFusion sees them.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Join, ObjectName, Query, Select, TableFactor, TableWithJoins, Visit, VisitMut, Visitor,
    VisitorMut,
};

use crate::name::fold_name;

mod scope;
mod version;

pub use version::version_entities;

use scope::Scopes;

/// Makes each join with an entity a relation of its own.
///
/// A join's right side is planned without its left side, so a point-in-time join must reach the
/// planner as one piece: in `a JOIN b ON .. JOIN users FOR SYSTEM_TIME AS OF a.ts ON .. JOIN c ON
/// ..` everything up to and including the join with the entity becomes one nested join without an
/// alias, `((a JOIN b ON ..) JOIN users .. ON ..) JOIN c ON ..`. Joins with other relations are
/// left alone. A name that a common table expression in scope gives is no entity.
///
/// The rewrite is applied everywhere in the query, and a second time it changes nothing.
pub fn nest_versioned_joins(query: &mut Query, is_entity: &dyn Fn(&ObjectName) -> bool) {
    let mut nester = Nester { scopes: Scopes::default(), is_entity, versions: false };
    let _: ControlFlow<()> = query.visit(&mut nester);
}

/// The relations with a clause `FOR SYSTEM_TIME AS OF` (or another version), anywhere in the
/// query, in the order in which they stand there.
pub fn find_versions(query: &Query) -> Vec<ObjectName> {
    let mut found = Versions(Vec::new());
    let _: ControlFlow<()> = query.visit(&mut found);
    found.0
}

/// The names of all relations in the query that no common table expression in scope gives, in the
/// order in which they stand there; a name may come more than once.
pub fn find_relations(query: &Query) -> Vec<ObjectName> {
    let mut finder = Relations { scopes: Scopes::default(), found: Vec::new() };
    let _: ControlFlow<()> = query.visit(&mut finder);
    finder.found
}

struct Versions(Vec<ObjectName>);

impl Visitor for Versions {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, version: Some(_), .. } = factor {
            self.0.push(name.clone());
        }
        ControlFlow::Continue(())
    }
}

struct Relations {
    scopes: Scopes,
    found: Vec<ObjectName>,
}

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.scopes.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = factor
            && !self.scopes.shadows(&fold_name(name))
        {
            self.found.push(name.clone());
        }
        ControlFlow::Continue(())
    }
}

struct Nester<'f> {
    scopes: Scopes,
    is_entity: &'f dyn Fn(&ObjectName) -> bool,
    /// Whether entities are given the version that they lack.
    versions: bool,
}

impl VisitorMut for Nester<'_> {
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
            && self.versions
            && !self.scopes.shadows(&fold_name(name))
            && (self.is_entity)(name)
        {
            *version = Some(version::now());
        }
        ControlFlow::Continue(())
    }

    // After its parts, so that what is made here is not visited again.
    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        select.from.iter_mut().for_each(|from| self.nest(from));
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        // A nested join of one join already has the form.
        if let TableFactor::NestedJoin { table_with_joins, .. } = factor
            && table_with_joins.joins.len() > 1
        {
            self.nest(table_with_joins);
        }
        ControlFlow::Continue(())
    }
}

impl Nester<'_> {
    fn nest(&self, from: &mut TableWithJoins) {
        if !from.joins.iter().any(|join| self.joins_entity(join)) {
            return;
        }
        let joins = std::mem::take(&mut from.joins);
        let mut before = TableWithJoins { relation: take(&mut from.relation), joins: Vec::new() };
        for join in joins {
            if !self.joins_entity(&join) {
                before.joins.push(join);
                continue;
            }
            let relation = match before.joins.is_empty() {
                true => before.relation,
                false => nested(before),
            };
            let one = TableWithJoins { relation, joins: vec![join] };
            before = TableWithJoins { relation: nested(one), joins: Vec::new() };
        }
        *from = before;
    }

    fn joins_entity(&self, join: &Join) -> bool {
        match &join.relation {
            TableFactor::Table { name, args: None, .. } => {
                !self.scopes.shadows(&fold_name(name)) && (self.is_entity)(name)
            }
            _ => false,
        }
    }
}

fn nested(table_with_joins: TableWithJoins) -> TableFactor {
    TableFactor::NestedJoin { table_with_joins: Box::new(table_with_joins), alias: None }
}

/// Moves a relation out; an empty one stays behind.
fn take(relation: &mut TableFactor) -> TableFactor {
    let empty = TableFactor::Table {
        name: ObjectName(Vec::new()),
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    };
    std::mem::replace(relation, empty)
}

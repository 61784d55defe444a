//! The query of a feature definition, held to one plain `SELECT` over at most one source.

use sqlparser::ast::{
    Expr, GroupByExpr, Ident, NamedWindowExpr, ObjectName, Query, Select, SelectItem, SetExpr,
    Spanned, TableFactor, WindowSpec,
};
use sqlparser::tokenizer::Span;

use super::{FeatureDef, From};
use crate::error::Error;
use crate::name::fold;
use crate::token;

/// A valid body: the select list and where the events come from.
pub(super) struct Body {
    items: Vec<SelectItem>,
    from: Option<From>,
    span: Span,
}

const ONE_SELECT: &str = "A definition is SELECT ... FROM source [WHERE ...] [WINDOW ...]; \
                          windows and the entity's key do the grouping.";

impl Body {
    /// Checks a query; `span` is where it starts.
    pub(super) fn of(query: Query, span: Span) -> Result<Body, Error> {
        for (given, clause) in [
            (query.with.is_some(), "WITH"),
            (query.order_by.is_some(), "ORDER BY"),
            (query.limit_clause.is_some(), "LIMIT"),
            (query.fetch.is_some(), "FETCH"),
            (!query.locks.is_empty() || query.for_clause.is_some(), "FOR"),
        ] {
            refuse(given, clause, span)?;
        }
        let select = match *query.body {
            SetExpr::Select(select) => *select,
            SetExpr::SetOperation { op, .. } => return Err(not_allowed(&op.to_string(), span)),
            SetExpr::Values(_) => return Err(not_allowed("VALUES", span)),
            _ => return Err(not_allowed("anything but one SELECT", span)),
        };
        Body::of_select(select, span)
    }

    fn of_select(select: Select, span: Span) -> Result<Body, Error> {
        let grouped = match &select.group_by {
            GroupByExpr::All(_) => true,
            GroupByExpr::Expressions(exprs, modifiers) => {
                !exprs.is_empty() || !modifiers.is_empty()
            }
        };
        for (given, clause) in [
            (select.distinct.is_some(), "DISTINCT"),
            (select.into.is_some(), "INTO"),
            (grouped, "GROUP BY"),
            (select.having.is_some(), "HAVING"),
            (select.qualify.is_some(), "QUALIFY"),
            (select.top.is_some(), "TOP"),
            (!select.sort_by.is_empty(), "SORT BY"),
            (!select.cluster_by.is_empty(), "CLUSTER BY"),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
            (!select.lateral_views.is_empty(), "LATERAL VIEW"),
            (select.prewhere.is_some(), "PREWHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY"),
            (select.exclude.is_some(), "EXCLUDE"),
        ] {
            refuse(given, clause, span)?;
        }
        let has_from = !select.from.is_empty();
        refuse(!has_from && select.selection.is_some(), "WHERE without FROM", span)?;
        refuse(!has_from && !select.named_window.is_empty(), "WINDOW without FROM", span)?;
        let windows = select.named_window.into_iter().map(window).collect::<Result<_, _>>()?;
        let mut relations = select.from.into_iter();
        let from = match relations.next() {
            None => None,
            Some(first) => {
                let second = relations.next().map(|relation| relation.relation.span());
                refuse(second.is_some(), "more than one relation", second.unwrap_or(span))?;
                let join = first.joins.first().map(|join| join.relation.span());
                refuse(join.is_some(), "JOIN", join.unwrap_or(span))?;
                let (source, alias) = source(first.relation, span)?;
                Some(From { source, alias, selection: select.selection, windows })
            }
        };
        Ok(Body { items: select.projection, from, span })
    }

    /// The one expression of `CREATE FEATURE name`.
    pub(super) fn single(self, name: &Ident) -> Result<(Expr, Option<From>), Error> {
        let count = self.items.len();
        let mut items = self.items.into_iter();
        let item = items.next().filter(|_| count == 1).ok_or_else(|| {
            Error::syntax(format!("CREATE FEATURE has one expression, found {count}"), self.span)
                .with_hint("CREATE FEATURES ON entity AS SELECT ... AS name, ... makes several.")
        })?;
        match item {
            SelectItem::UnnamedExpr(expr) => Ok((expr, self.from)),
            SelectItem::ExprWithAlias { expr, alias } if fold(&alias) == fold(name) => {
                Ok((expr, self.from))
            }
            SelectItem::ExprWithAlias { alias, .. } => {
                let message = format!("the feature {name} is given a second name, {alias}");
                Err(Error::syntax(message, alias.span)
                    .with_hint("Leave the alias out: the name stands before ON."))
            }
            other => Err(not_an_expression(&other, self.span)),
        }
    }

    /// The named expressions of `CREATE FEATURES`.
    pub(super) fn several(self) -> Result<(Vec<FeatureDef>, Option<From>), Error> {
        if self.items.is_empty() {
            return Err(Error::syntax("CREATE FEATURES selects nothing", self.span));
        }
        let span = self.span;
        let feature = |item| feature(item, span);
        let features = self.items.into_iter().map(feature).collect::<Result<Vec<_>, _>>()?;
        token::unique("feature", features.iter().map(|feature| &feature.name))?;
        Ok((features, self.from))
    }
}

fn feature(item: SelectItem, span: Span) -> Result<FeatureDef, Error> {
    match item {
        SelectItem::ExprWithAlias { expr, alias } => Ok(FeatureDef { name: alias, expr }),
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => {
            Ok(FeatureDef { name: ident.clone(), expr: Expr::Identifier(ident) })
        }
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) if !parts.is_empty() => {
            let name = parts[parts.len() - 1].clone();
            Ok(FeatureDef { name, expr: Expr::CompoundIdentifier(parts) })
        }
        SelectItem::UnnamedExpr(expr) => {
            let place = if expr.span() == Span::empty() { span } else { expr.span() };
            Err(Error::syntax("a feature has no name", place)
                .with_hint("Write expression AS name; only a plain column names itself."))
        }
        other => Err(not_an_expression(&other, span)),
    }
}

fn not_an_expression(item: &SelectItem, span: Span) -> Error {
    let place = if item.span() == Span::empty() { span } else { item.span() };
    Error::syntax(format!("a feature is an expression, found {item}"), place)
}

/// The source and its alias, of a relation that is nothing but a name.
fn source(relation: TableFactor, span: Span) -> Result<(Ident, Option<Ident>), Error> {
    let TableFactor::Table {
        name,
        alias,
        args: None,
        with_hints,
        version: None,
        with_ordinality: false,
        partitions,
        json_path: None,
        sample: None,
        index_hints,
    } = relation
    else {
        let what = match &relation {
            TableFactor::Table { version: Some(_), .. } => "FOR SYSTEM_TIME",
            TableFactor::Table { sample: Some(_), .. } => "TABLESAMPLE",
            TableFactor::Derived { .. } => "a subquery in FROM",
            TableFactor::NestedJoin { .. } => "JOIN",
            _ => "anything but a source in FROM",
        };
        return Err(not_allowed(what, span));
    };
    let plain = with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty();
    refuse(!plain, "hints", span)?;
    let alias = match alias {
        Some(alias) => {
            refuse(!alias.columns.is_empty() || alias.at.is_some(), "column aliases", span)?;
            Some(alias.name)
        }
        None => None,
    };
    Ok((source_name(&name)?, alias))
}

fn source_name(name: &ObjectName) -> Result<Ident, Error> {
    let parts: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
    match parts.as_slice() {
        [source] => Ok((*source).clone()),
        [schema, source] if fold(schema) == "public" => Ok((*source).clone()),
        _ => {
            Err(Error::syntax(format!("expected the name of a source, found {name}"), name.span()))
        }
    }
}

fn window(definition: sqlparser::ast::NamedWindowDefinition) -> Result<(Ident, WindowSpec), Error> {
    match definition.1 {
        NamedWindowExpr::WindowSpec(spec) => Ok((definition.0, spec)),
        NamedWindowExpr::NamedWindow(name) => {
            Err(Error::syntax(format!("expected (, found {name}"), name.span))
        }
    }
}

fn refuse(given: bool, clause: &str, span: Span) -> Result<(), Error> {
    match given {
        true => Err(not_allowed(clause, span)),
        false => Ok(()),
    }
}

fn not_allowed(clause: &str, span: Span) -> Error {
    Error::syntax(format!("{clause} is not allowed in a feature's definition"), span)
        .with_hint(ONE_SELECT)
}

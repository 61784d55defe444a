//! From a feature's definition to what computes it.
//!
//! 1. Each aggregate call of the expression is taken out and replaced by a column `__call_i`;
//!    a plain column of the source counts as `last_value` of it ([`calls`]).
//! 2. Arguments and filters are resolved against the source, the rest against the calls' types.
//! 3. Calls over the same rows with the same key become one track ([`assemble`]).

pub mod assemble;
mod calls;
mod frame;
mod resolve;

use std::collections::{HashMap, HashSet};

use asofdb_sql::{CreateFeatures, FeatureDef, fold};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use sqlparser::ast::{self, VisitMut};

use crate::catalog::{Catalog, Entity};
use crate::error::{Error, ObjectKind, Result, nearest};
use crate::track::{CallSpec, Stream, column, key_exprs};
use calls::CallTaker;
use resolve::Resolver;

/// The options that a feature takes.
pub const OPTIONS: &[&str] = &["staleness", "online"];

/// A definition whose names and types are resolved.
#[derive(Clone, Debug)]
pub enum Compiled {
    /// Computed from events: `expr` is over columns [`local_call_name`].
    Windowed {
        /// Which events.
        stream: Stream,
        /// The aggregate calls.
        calls: Vec<CallSpec>,
        /// The value.
        expr: Expr,
    },
    /// Computed from other features, which `expr` names.
    Derived {
        /// The value.
        expr: Expr,
        /// The features read.
        inputs: Vec<String>,
    },
}

/// The column of a call in [`Compiled::Windowed`].
pub fn local_call_name(index: usize) -> String {
    format!("__call_{index}")
}

/// One definition for each feature of a statement, `CREATE FEATURE` each.
pub fn split(statement: &CreateFeatures) -> Vec<CreateFeatures> {
    let single = |feature: &FeatureDef| CreateFeatures {
        plural: false,
        or_replace: false,
        if_not_exists: false,
        features: vec![feature.clone()],
        from: statement.from.as_ref().map(|from| asofdb_sql::From {
            windows: used_windows(feature, &from.windows),
            ..from.clone()
        }),
        ..statement.clone()
    };
    statement.features.iter().map(single).collect()
}

/// The named windows that a feature's calls use, with those that these build on.
fn used_windows(
    feature: &FeatureDef,
    windows: &[(ast::Ident, ast::WindowSpec)],
) -> Vec<(ast::Ident, ast::WindowSpec)> {
    let mut used = HashSet::new();
    let _ = ast::visit_expressions(&feature.expr, |expr| {
        if let ast::Expr::Function(ast::Function { over: Some(over), .. }) = expr {
            match over {
                ast::WindowType::NamedWindow(name) => used.insert(fold(name)),
                ast::WindowType::WindowSpec(spec) => {
                    spec.window_name.as_ref().is_some_and(|name| used.insert(fold(name)))
                }
            };
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    // A window builds on one that stands before it.
    for (name, spec) in windows.iter().rev() {
        if let (true, Some(base)) = (used.contains(&fold(name)), &spec.window_name) {
            used.insert(fold(base));
        }
    }
    windows.iter().filter(|(name, _)| used.contains(&fold(name))).cloned().collect()
}

/// Resolves the definition of one feature of `entity`.
pub fn compile(
    definition: &CreateFeatures,
    entity: &Entity,
    catalog: &Catalog,
    state: &SessionState,
) -> Result<Compiled> {
    definition.options.check(OPTIONS)?;
    if !definition.arguments.is_empty() {
        return Err(Error::unsupported("features with arguments are not supported yet"));
    }
    let [feature] = definition.features.as_slice() else {
        return Err(Error::Internal("a definition has one feature".into()));
    };
    match &definition.from {
        None if definition.options.get("online").is_some() => Err(Error::definition(
            "a derived feature is online if what it reads is: it has no option \"online\"",
        )),
        None => compile_derived(feature, entity, state),
        Some(from) => compile_windowed(feature, from, definition, entity, catalog, state),
    }
}

fn compile_derived(
    feature: &FeatureDef,
    entity: &Entity,
    state: &SessionState,
) -> Result<Compiled> {
    let schema = DFSchema::try_from_qualified_schema(entity.name.as_str(), &entity.schema())?;
    let expr = Resolver { state, schema: &schema }.value(&feature.expr)?;
    let mut inputs: Vec<String> = expr.column_refs().iter().map(|c| c.name.clone()).collect();
    inputs.sort();
    if let Some(key) = inputs.iter().find(|name| entity.feature(name).is_none()) {
        return Err(Error::unsupported(format!(
            "a derived feature reads features; \"{key}\" is a key column"
        )));
    }
    if inputs.is_empty() {
        return Err(Error::definition(format!(
            "feature \"{}\" reads neither events nor features",
            fold(&feature.name)
        )));
    }
    Ok(Compiled::Derived { expr: unqualified(expr)?, inputs })
}

fn compile_windowed(
    feature: &FeatureDef,
    from: &asofdb_sql::From,
    definition: &CreateFeatures,
    entity: &Entity,
    catalog: &Catalog,
    state: &SessionState,
) -> Result<Compiled> {
    let source = catalog.source(&fold(&from.source))?;
    let qualifier = fold(from.alias.as_ref().unwrap_or(&from.source));
    let schema = DFSchema::try_from_qualified_schema(qualifier, &source.schema)?;
    let resolver = Resolver { state, schema: &schema };
    let staleness = definition
        .options
        .get("staleness")
        .map(|value| frame::interval_text(value.text(), &resolver))
        .transpose()?;
    let mut expr = feature.expr.clone();
    let mut taker = CallTaker::new(source, from, staleness, &resolver);
    if let std::ops::ControlFlow::Break(error) = VisitMut::visit(&mut expr, &mut taker) {
        return Err(error);
    }
    let (calls, partition) = taker.finish(&fold(&feature.name))?;
    let fields: Vec<_> = calls
        .iter()
        .enumerate()
        .map(|(i, c)| arrow::datatypes::Field::new(local_call_name(i), c.aggregate.output(), true))
        .collect();
    let call_schema = DFSchema::from_unqualified_fields(fields.into(), HashMap::new())?;
    let expr = Resolver { state, schema: &call_schema }.value(&expr)?;
    let selection = from.selection.as_ref().map(|s| resolver.condition(s)).transpose()?;
    let columns = match partition {
        Some(columns) => columns,
        None => default_partition(entity, &schema, &source.name)?,
    };
    if columns.len() != entity.key.len() {
        return Err(Error::definition(format!(
            "PARTITION BY has {} columns, the key of entity \"{}\" has {}",
            columns.len(),
            entity.name,
            entity.key.len()
        )));
    }
    let keys = key_exprs(entity, &columns, &schema)?;
    let stream = Stream {
        source: source.clone(),
        online: online(definition)?,
        selection: selection.map(unqualified).transpose()?,
        keys: keys.into_iter().map(unqualified).collect::<Result<_>>()?,
    };
    let calls = calls
        .into_iter()
        .map(|call| {
            Ok(CallSpec {
                argument: call.argument.map(unqualified).transpose()?,
                filter: call.filter.map(unqualified).transpose()?,
                ..call
            })
        })
        .collect::<Result<_>>()?;
    Ok(Compiled::Windowed { stream, calls, expr })
}

/// Whether online state is kept of a feature: unless it is declared otherwise.
fn online(definition: &CreateFeatures) -> Result<bool> {
    let Some(value) = definition.options.get("online") else { return Ok(true) };
    value.boolean().ok_or_else(|| Error::Definition {
        message: format!("online '{}' is neither true nor false", value.text()),
        hint: Some("For instance WITH (online = false).".into()),
    })
}

/// Without `PARTITION BY`, the source's columns that are called like the key's.
fn default_partition(entity: &Entity, schema: &DFSchema, source: &str) -> Result<Vec<Expr>> {
    let find = |field: &arrow::datatypes::Field| {
        let (qualifier, found) =
            schema.qualified_field_with_unqualified_name(field.name()).map_err(|_| {
                let names = schema.fields().iter().map(|f| f.name().as_str());
                Error::Definition {
                    message: format!(
                        "{} \"{source}\" has no {} \"{}\", the key of entity \"{}\"",
                        ObjectKind::Source,
                        ObjectKind::Column,
                        field.name(),
                        entity.name
                    ),
                    hint: Some(match nearest(field.name(), names) {
                        Some(name) => format!("Write OVER (PARTITION BY {name} …)."),
                        None => "Name the column of the key with OVER (PARTITION BY …).".into(),
                    }),
                }
            })?;
        Ok(Expr::Column(datafusion::common::Column::new(qualifier.cloned(), found.name())))
    };
    entity.key.iter().map(find).collect()
}

/// Definitions that differ in the alias of the source are the same.
fn unqualified(expr: Expr) -> Result<Expr> {
    let plain = expr.transform(|expr| match expr {
        Expr::Column(c) if c.relation.is_some() => Ok(Transformed::yes(column(&c.name))),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plain.data)
}

/// The identifier that stands for a call in the syntax tree.
fn call_identifier(index: usize) -> ast::Expr {
    ast::Expr::Identifier(ast::Ident::with_quote('"', local_call_name(index)))
}

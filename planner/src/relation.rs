//! `FROM` clauses with `FOR SYSTEM_TIME AS OF`: sources up to an instant, entities as of one, and
//! the point-in-time join. Every reference to an entity has the clause when it comes here: one
//! without was given `AS OF now()` ([`asofdb_sql::rewrite`]).

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, Operator, cast,
    try_cast, when,
};
use sqlparser::ast::{
    self, Ident, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor,
    TableVersion,
};

use crate::catalog::Entity;
use crate::error::Error;
use crate::logical::as_of_join::AsOfJoin;
use crate::logical::entity_scan::{EntityTable, as_of_marker};
use crate::source_table::SourceTable;
use crate::types::{instant_type, sql_name};

/// Plans versioned relations; leaves all others to DataFusion.
#[derive(Debug)]
pub struct VersionedRelations;

impl RelationPlanner for VersionedRelations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        match relation {
            TableFactor::Table { ref name, ref alias, version: Some(ref version), .. } => {
                let instant = version_instant(version)?;
                let plan = plan_versioned(name, alias.as_ref(), instant, &relation, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
            }
            TableFactor::NestedJoin { ref table_with_joins, alias: None } => {
                let [join] = table_with_joins.joins.as_slice() else {
                    return Ok(RelationPlanning::Original(Box::new(relation)));
                };
                let Some(right) = entity_of(&join.relation, context)? else {
                    return Ok(RelationPlanning::Original(Box::new(relation)));
                };
                let left = context.plan(table_with_joins.relation.clone())?;
                let plan = plan_entity_join(left, join, right, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

fn version_instant(version: &TableVersion) -> Result<&ast::Expr> {
    match version {
        TableVersion::ForSystemTimeAsOf(instant) => Ok(instant),
        other => Err(Error::unsupported(format!("\"{other}\" is not supported")).into()),
    }
}

/// The entity on the right side of a join.
struct EntityRelation {
    entity: Arc<Entity>,
    alias: TableReference,
    instant: ast::Expr,
}

fn entity_of(
    relation: &TableFactor,
    context: &mut dyn RelationPlannerContext,
) -> Result<Option<EntityRelation>> {
    let TableFactor::Table { name, alias, version: Some(version), .. } = relation else {
        return Ok(None);
    };
    let provider = provider_of(name, context)?;
    let any: &dyn Any = provider.as_ref();
    let Some(table) = any.downcast_ref::<EntityTable>() else { return Ok(None) };
    if alias.as_ref().is_some_and(|a| !a.columns.is_empty()) {
        return Err(Error::unsupported("column aliases of an entity are not supported").into());
    }
    let alias = match alias {
        Some(alias) => TableReference::bare(context.normalize_ident(alias.name.clone())),
        None => TableReference::bare(table.entity.name.clone()),
    };
    let instant = version_instant(version)?.clone();
    Ok(Some(EntityRelation { entity: Arc::clone(&table.entity), alias, instant }))
}

fn provider_of(
    name: &ObjectName,
    context: &mut dyn RelationPlannerContext,
) -> Result<Arc<dyn datafusion::catalog::TableProvider>> {
    let reference = context.object_name_to_table_reference(name.clone())?;
    let source = context.context_provider().get_table_source(reference)?;
    source_as_provider(&source)
}

/// A source's events up to an instant, or an entity as of one that no other relation names.
fn plan_versioned(
    name: &ObjectName,
    alias: Option<&TableAlias>,
    instant: &ast::Expr,
    relation: &TableFactor,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let provider = provider_of(name, context)?;
    let any: &dyn Any = provider.as_ref();
    let instant = plan_instant(instant, &DFSchema::empty(), context)?;
    if let Some(table) = any.downcast_ref::<EntityTable>() {
        let entity = Arc::clone(&table.entity);
        let scan = LogicalPlanBuilder::scan_with_filters(
            TableReference::bare(entity.name.clone()),
            provider_as_source(Arc::new(EntityTable::new(Arc::clone(&entity)))),
            None,
            vec![as_of_marker(instant)],
        )?;
        return match alias {
            None => scan.build(),
            Some(alias) => scan.alias(context.normalize_ident(alias.name.clone()))?.build(),
        };
    }
    let Some(table) = any.downcast_ref::<SourceTable>() else {
        return Err(Error::Unsupported {
            what: format!("FOR SYSTEM_TIME AS OF is not supported on \"{name}\""),
            hint: Some("It applies to sources and entities.".into()),
        }
        .into());
    };
    let time = table.source().schema.field(table.source().event_time).name().clone();
    let mut plain = relation.clone();
    if let TableFactor::Table { version, .. } = &mut plain {
        *version = None;
    }
    let plan = context.plan(plain)?;
    let (qualifier, _) = plan.schema().qualified_field_with_unqualified_name(&time)?;
    let time = Expr::Column(Column::new(qualifier.cloned(), time));
    LogicalPlanBuilder::from(plan).filter(time.lt_eq(instant))?.build()
}

/// The instant of a clause as microseconds in UTC.
fn plan_instant(
    instant: &ast::Expr,
    schema: &DFSchema,
    context: &mut dyn RelationPlannerContext,
) -> Result<Expr> {
    let expr =
        context.sql_to_expr(instant.clone(), schema).map_err(|error| match error.find_root() {
            DataFusionError::SchemaError(..) if schema.fields().is_empty() => {
                DataFusionError::from(Error::Definition {
                    message: format!("FOR SYSTEM_TIME AS OF {instant} names an unknown column"),
                    hint: Some(
                        "It may name columns of the relations that it is joined to: \
                         FROM labels AS l JOIN users FOR SYSTEM_TIME AS OF l.ts AS u ON …"
                            .into(),
                    ),
                })
            }
            _ => error,
        })?;
    if let Expr::Placeholder(Placeholder { id, field: None }) = expr {
        let field = arrow::datatypes::Field::new("", instant_type(), true);
        return Ok(Expr::Placeholder(Placeholder::new_with_field(id, Some(Arc::new(field)))));
    }
    match expr.get_type(schema)? {
        data_type if data_type == instant_type() => Ok(expr),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Utf8 | DataType::Null => {
            Ok(cast(expr, instant_type()))
        }
        other => Err(Error::Type {
            message: format!("FOR SYSTEM_TIME AS OF needs an instant, not {}", sql_name(&other)),
        }
        .into()),
    }
}

/// `left JOIN entity FOR SYSTEM_TIME AS OF instant ON key = …`.
fn plan_entity_join(
    left: LogicalPlan,
    join: &Join,
    right: EntityRelation,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let (inner, constraint) = join_kind(join, &right.entity)?;
    let instant = plan_instant(&right.instant, left.schema(), context)?;
    let JoinKeys { keys, using, rest } = join_keys(&left, &right, constraint, context)?;
    if !inner && !rest.is_empty() {
        return Err(Error::Unsupported {
            what: format!("LEFT JOIN of entity \"{}\" takes only its key in ON", right.entity.name),
            hint: Some("Move the other conditions to WHERE.".into()),
        }
        .into());
    }
    let mut plan = left;
    if inner {
        for key in &keys {
            plan = LogicalPlanBuilder::from(plan).filter(key.clone().is_not_null())?.build()?;
        }
    }
    let plan = join_entity(plan, (&right.entity, &right.alias), (&keys, &instant), using)?;
    match conjunction(rest) {
        None => Ok(plan),
        Some(rest) => LogicalPlanBuilder::from(plan).filter(rest)?.build(),
    }
}

/// The rows of `spine` with the columns of an entity, called `alias`, for the key and as of the
/// instant of each row. With `using` the key columns of the entity are left out.
pub fn join_entity(
    spine: LogicalPlan,
    (entity, alias): (&Arc<Entity>, &TableReference),
    (keys, instant): (&[Expr], &Expr),
    using: bool,
) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = spine.schema().columns().into_iter().map(Expr::Column).collect();
    let mut plan = spine;
    for track in &entity.tracks {
        let calls: Vec<usize> = (0..track.calls.len()).collect();
        let table = SourceTable::with_position(Arc::clone(&track.stream.source));
        let events = track
            .events_plan(&calls, provider_as_source(Arc::new(table)))
            .map_err(DataFusionError::from)?;
        let node = AsOfJoin::try_new(
            plan,
            events,
            keys.to_vec(),
            instant.clone(),
            (Arc::clone(track), calls),
        )?;
        plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    }
    let outputs = entity_columns((entity, alias), keys, instant, using)?;
    LogicalPlanBuilder::from(plan).project(columns.into_iter().chain(outputs))?.build()
}

fn join_kind<'a>(join: &'a Join, entity: &Entity) -> Result<(bool, &'a JoinConstraint)> {
    match &join.join_operator {
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => Ok((true, constraint)),
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
            Ok((false, constraint))
        }
        _ => Err(Error::Unsupported {
            what: format!("entity \"{}\" can't be joined this way", entity.name),
            hint: Some("An entity is joined by its key, on the right of JOIN or LEFT JOIN.".into()),
        }
        .into()),
    }
}

/// The key columns and the features, as columns of the entity's relation.
fn entity_columns(
    (entity, alias): (&Entity, &TableReference),
    keys: &[Expr],
    instant: &Expr,
    using: bool,
) -> Result<Vec<Expr>> {
    let mut columns = Vec::new();
    for (index, field) in entity.key.iter().enumerate() {
        if using {
            break;
        }
        // A key with a NULL in it is none: then each of its columns is NULL.
        let others = keys.iter().enumerate().filter(|(other, _)| *other != index);
        let value = match conjunction(others.map(|(_, key)| key.clone().is_not_null())) {
            None => keys[index].clone(),
            Some(whole) => when(whole, keys[index].clone()).end()?,
        };
        columns.push(value.alias_qualified(Some(alias.clone()), field.name()));
    }
    let present = keys.iter().chain([instant]).map(|part| part.clone().is_not_null());
    let present = conjunction(present);
    for feature in &entity.features {
        // Without a key or an instant the calls are NULL, and so is what is made of them.
        let value = match (&feature.expr, &present) {
            (Expr::Column(_), _) | (_, None) => feature.expr.clone(),
            (expr, Some(present)) => when(present.clone(), expr.clone()).end()?,
        };
        columns.push(value.alias_qualified(Some(alias.clone()), &feature.name));
    }
    Ok(columns)
}

/// What a join's condition says.
struct JoinKeys {
    /// For each key column the spine's expression, of its type.
    keys: Vec<Expr>,
    /// `USING`: the key columns appear once.
    using: bool,
    /// Conditions beyond the key.
    rest: Vec<Expr>,
}

fn join_keys(
    left: &LogicalPlan,
    right: &EntityRelation,
    constraint: &JoinConstraint,
    context: &mut dyn RelationPlannerContext,
) -> Result<JoinKeys> {
    let entity = &right.entity;
    let mut keys: Vec<Option<Expr>> = vec![None; entity.key.len()];
    let mut rest = Vec::new();
    let using = matches!(constraint, JoinConstraint::Using(_));
    match constraint {
        JoinConstraint::On(condition) => {
            let entity_schema =
                DFSchema::try_from_qualified_schema(right.alias.clone(), &entity.schema())?;
            let schema = left.schema().join(&entity_schema)?;
            let condition = context.sql_to_expr(condition.clone(), &schema)?;
            for part in split_conjunction_owned(condition) {
                match key_equality(&part, right) {
                    Some((index, value)) if keys[index].is_none() => keys[index] = Some(value),
                    _ => rest.push(part),
                }
            }
        }
        JoinConstraint::Using(names) => {
            for name in names {
                let name = using_name(name, context)?;
                let Some(index) = entity.key.iter().position(|f| *f.name() == name) else {
                    return Err(missing_key(entity).into());
                };
                let (qualifier, _) = left.schema().qualified_field_with_unqualified_name(&name)?;
                keys[index] = Some(Expr::Column(Column::new(qualifier.cloned(), name)));
            }
        }
        JoinConstraint::Natural | JoinConstraint::None => return Err(missing_key(entity).into()),
    }
    let keys = keys.into_iter().zip(&entity.key).map(|(key, field)| {
        let key = key.ok_or_else(|| DataFusionError::from(missing_key(entity)))?;
        fit_key(key, field, left.schema())
    });
    Ok(JoinKeys { keys: keys.collect::<Result<_>>()?, using, rest })
}

fn using_name(name: &ObjectName, context: &mut dyn RelationPlannerContext) -> Result<String> {
    let ident: Option<Ident> = name.0.last().and_then(|part| part.as_ident()).cloned();
    match ident {
        Some(ident) => Ok(context.normalize_ident(ident)),
        None => Err(Error::unsupported(format!("USING ({name}) is not supported")).into()),
    }
}

fn missing_key(entity: &Entity) -> Error {
    let names: Vec<_> = entity.key.iter().map(|f| f.name().as_str()).collect();
    Error::Definition {
        message: format!(
            "a join of entity \"{}\" gives each of its key columns a value: {}",
            entity.name,
            names.join(", ")
        ),
        hint: Some(format!("Join it ON {0}.{1} = …", entity.name, names[0])),
    }
}

/// `entity.key = value` or the reverse, where `value` names no column of the entity.
fn key_equality(part: &Expr, right: &EntityRelation) -> Option<(usize, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right: other }) = part else {
        return None;
    };
    let index = |expr: &Expr| match expr {
        Expr::Column(column) if column.relation.as_ref() == Some(&right.alias) => {
            right.entity.key.iter().position(|f| *f.name() == column.name)
        }
        _ => None,
    };
    let (index, value) = match (index(left), index(other)) {
        (Some(index), None) => (index, other),
        (None, Some(index)) => (index, left),
        _ => return None,
    };
    let foreign = value.column_refs().iter().all(|c| c.relation.as_ref() != Some(&right.alias));
    foreign.then(|| (index, value.as_ref().clone()))
}

/// A key value of the key column's type. One that its type can't hold becomes NULL: no entity
/// has it.
fn fit_key(key: Expr, field: &arrow::datatypes::Field, schema: &DFSchema) -> Result<Expr> {
    let given = key.get_type(schema)?;
    let wanted = field.data_type();
    if given == *wanted {
        return Ok(key);
    }
    let comparable = match wanted {
        DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            given.is_integer() || given == DataType::Null
        }
        DataType::Utf8 => {
            matches!(given, DataType::Utf8View | DataType::LargeUtf8 | DataType::Null)
        }
        DataType::Timestamp(..) | DataType::Date32 => given.is_temporal(),
        _ => given == DataType::Null,
    };
    match comparable {
        true => Ok(try_cast(key, wanted.clone())),
        false => Err(Error::Type {
            message: format!(
                "key column \"{}\" has type {}, it can't be compared with {}",
                field.name(),
                sql_name(wanted),
                sql_name(&given)
            ),
        }
        .into()),
    }
}

//! `DESCRIBE relation` and `DESCRIBE FEATURE name ON entity`.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use asofdb_sql::{Describe, fold};

use crate::catalog::{Entity, Relation, Source};
use crate::database::Database;
use crate::error::{Error, ObjectKind, Result, nearest};
use crate::session::{Outcome, text_schema};
use crate::types::sql_name;

/// The columns of a description.
pub fn schema() -> SchemaRef {
    text_schema(&["column", "type", "kind", "definition"])
}

type Row = [Option<String>; 4];

/// Describes the columns of a relation.
pub fn run(database: &Database, describe: &Describe) -> Result<Outcome> {
    let catalog = database.inner.catalog();
    let name = fold(&describe.name);
    let rows = match &describe.entity {
        Some(entity) => vec![feature(catalog.entity(&fold(entity))?, &name)?],
        None => match catalog.relation(&name)? {
            Relation::Source(source) => describe_source(source),
            Relation::Entity(entity) => describe_entity(entity),
            Relation::View(view) => {
                let query = asofdb_sql::canonical(view.definition.query.as_ref());
                vec![[Some(name), None, Some("view".into()), Some(query)]]
            }
        },
    };
    let column = |index: usize| -> arrow::array::ArrayRef {
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row[index].as_deref())))
    };
    let columns = (0..4).map(column).collect();
    Outcome::rows("DESCRIBE", RecordBatch::try_new(schema(), columns)?)
}

fn describe_source(source: &Source) -> Vec<Row> {
    let kind = |index: usize| match index == source.event_time {
        true => "event time",
        false => "column",
    };
    let fields = source.schema.fields().iter().enumerate();
    fields
        .map(|(index, field)| {
            let not_null = (!field.is_nullable()).then(|| "NOT NULL".to_owned());
            let data_type = sql_name(field.data_type());
            [Some(field.name().clone()), Some(data_type), Some(kind(index).into()), not_null]
        })
        .collect()
}

fn describe_entity(entity: &Entity) -> Vec<Row> {
    let key = entity.key.iter().map(|field| {
        let data_type = sql_name(field.data_type());
        [Some(field.name().clone()), Some(data_type), Some("key".into()), None]
    });
    let features = entity.features.iter().map(|f| {
        let data_type = sql_name(&f.data_type);
        let definition = f.definition.to_string();
        [Some(f.name.clone()), Some(data_type), Some("feature".into()), Some(definition)]
    });
    key.chain(features).collect()
}

fn feature(entity: &Entity, name: &str) -> Result<Row> {
    let found = describe_entity(entity).into_iter().find(|row| row[0].as_deref() == Some(name));
    found.ok_or_else(|| Error::Undefined {
        kind: ObjectKind::Feature,
        name: name.to_owned(),
        nearest: nearest(name, entity.features.iter().map(|f| f.name.as_str())),
    })
}

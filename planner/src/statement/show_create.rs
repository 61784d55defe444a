//! `SHOW CREATE`: the statement that makes an object as it is.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use asofdb_sql::{ShowCreate, fold};

use crate::catalog::Relation;
use crate::database::Database;
use crate::error::{Error, ObjectKind, Result, nearest};
use crate::session::{Outcome, text_schema};

/// The columns of the answer.
pub fn schema() -> SchemaRef {
    text_schema(&["statement"])
}

/// Writes the statement.
pub fn run(database: &Database, show: &ShowCreate) -> Result<Outcome> {
    let catalog = database.inner.catalog();
    let name = fold(&show.name);
    let statement = match &show.entity {
        Some(entity) => {
            let entity = catalog.entity(&fold(entity))?;
            let feature = entity.feature(&name).ok_or_else(|| Error::Undefined {
                kind: ObjectKind::Feature,
                name: name.clone(),
                nearest: nearest(&name, entity.features.iter().map(|f| f.name.as_str())),
            })?;
            feature.definition.to_string()
        }
        None => match catalog.relation(&name)? {
            Relation::Source(source) => source.definition.to_string(),
            Relation::Entity(entity) => entity.definition.to_string(),
            Relation::View(view) => view.definition.to_string(),
        },
    };
    let column = Arc::new(StringArray::from_iter_values([statement]));
    Outcome::rows("SHOW", RecordBatch::try_new(schema(), vec![column])?)
}

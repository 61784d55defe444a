//! `CREATE ENTITY`.

use std::sync::Arc;

use asofdb_sql::{CreateEntity, fold};

use crate::catalog::Relation;
use crate::catalog::document::build_entity;
use crate::database::Database;
use crate::error::{ObjectKind, Result};
use crate::session::Outcome;
use crate::statement::drop;

const TAG: &str = "CREATE ENTITY";

/// Declares an entity, without features yet.
pub async fn run(database: &Database, create: &CreateEntity) -> Result<Outcome> {
    let inner = &database.inner;
    let _ddl = inner.writing()?.ddl.lock().await;
    let mut catalog = inner.catalog().as_ref().clone();
    let name = fold(&create.name);
    if create.if_not_exists && catalog.relations.contains_key(&name) {
        return Ok(Outcome::notice(TAG, format!("relation \"{name}\" already exists, skipping")));
    }
    if create.or_replace && catalog.entity(&name).is_ok() {
        drop::check_unused(&catalog, ObjectKind::Entity, &name)?;
    }
    let definition = CreateEntity { if_not_exists: false, or_replace: false, ..create.clone() };
    let entity = build_entity(catalog.take_id(), definition)?;
    let replaced = catalog.entity(&name).ok().map(|e| e.tracks.clone()).unwrap_or_default();
    catalog.add(&name, Relation::Entity(Arc::new(entity)), create.or_replace)?;
    inner.publish_catalog(catalog)?;
    for track in replaced {
        inner.timelines.remove(&track);
    }
    Ok(Outcome::done(TAG))
}

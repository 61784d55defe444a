//! `CREATE FEATURE` and `CREATE FEATURES`.

use std::sync::Arc;

use asofdb_sql::{CreateFeatures, fold};

use crate::backfill::backfill;
use crate::catalog::document::check_name;
use crate::catalog::{Catalog, Entity, Relation};
use crate::database::{Database, Inner};
use crate::error::{Error, ObjectKind, Result};
use crate::feature::{assemble::assemble, split};
use crate::session::Outcome;
use crate::statement::{create_view, drop};
use crate::task::Caller;
use crate::track::Track;

/// Declares features: all of the statement or none. If the caller leaves while they are filled, none.
pub async fn run(database: &Database, create: &CreateFeatures, caller: Caller) -> Result<Outcome> {
    let tag = if create.plural { "CREATE FEATURES" } else { "CREATE FEATURE" };
    let inner = &database.inner;
    let _ddl = inner.writing()?.ddl.lock().await;
    let catalog = inner.catalog();
    let entity = Arc::clone(catalog.entity(&fold(&create.entity))?);
    let mut definitions: Vec<_> = entity.features.iter().map(|f| f.definition.clone()).collect();
    let mut notices = Vec::new();
    for definition in split(create) {
        let name = fold(&definition.features[0].name);
        check_name(&name)?;
        let taken = definitions.iter().position(|d| fold(&d.features[0].name) == name);
        match taken {
            _ if entity.key.iter().any(|field| *field.name() == name) => {
                return Err(Error::Duplicate { kind: ObjectKind::Column, name });
            }
            None => definitions.push(definition),
            Some(place) if create.or_replace => definitions[place] = definition,
            Some(_) if create.if_not_exists => {
                notices.push(format!("feature \"{name}\" already exists, skipping"));
            }
            Some(_) => return Err(Error::Duplicate { kind: ObjectKind::Feature, name }),
        }
    }
    let rows = change(inner, &catalog, &entity, &definitions, caller).await?;
    if rows > 0 {
        notices.push(format!("online state was filled from {rows} rows"));
    }
    Ok(Outcome::Done { tag: tag.into(), notices })
}

/// Fails if a view on `entity` has no plan under `next`, for a feature that it reads went.
async fn check_views(inner: &Arc<Inner>, entity: &str, next: &Arc<Catalog>) -> Result<()> {
    let mut broken = Vec::new();
    for view in drop::views_on(next, entity) {
        if create_view::plan(inner, next, &view).await.is_err() {
            broken.push(format!("view {view}"));
        }
    }
    match broken.is_empty() {
        true => Ok(()),
        false => Err(Error::InUse {
            kind: ObjectKind::Entity,
            name: entity.to_owned(),
            dependents: broken,
        }),
    }
}

/// Makes `definitions` the features of an entity. New tracks are filled first, then the catalog
/// changes, then old tracks go: a reader sees the old features or the new ones, each whole. Returns
/// the number of rows that tracks were filled from.
pub async fn change(
    inner: &Arc<Inner>,
    catalog: &Arc<Catalog>,
    entity: &Arc<Entity>,
    definitions: &[CreateFeatures],
    mut caller: Caller,
) -> Result<u64> {
    let mut next = catalog.as_ref().clone();
    let state = inner.planning.state(catalog);
    let assembled = assemble(entity, definitions, catalog, &state, &mut |_| next.take_id())?;
    let is_new = |track: &&Arc<Track>| !entity.tracks.iter().any(|old| old.id == track.id);
    let added: Vec<_> = assembled.tracks.iter().filter(is_new).cloned().collect();
    let is_gone = |track: &&Arc<Track>| !assembled.tracks.iter().any(|new| new.id == track.id);
    let removed: Vec<_> = entity.tracks.iter().filter(is_gone).cloned().collect();
    if !added.is_empty() {
        // The ids of new tracks are never given again, whatever becomes of this change: state that
        // an online store has under an id is of one definition for ever.
        let mut taken = catalog.as_ref().clone();
        taken.next_id = next.next_id;
        inner.publish_catalog(taken)?;
        next.version = inner.catalog().version;
    }
    let fill = async {
        let mut rows = 0;
        for track in &added {
            rows += backfill(inner, catalog, (&entity.name, track)).await?;
        }
        Ok(rows)
    };
    let filled = tokio::select! {
        filled = fill => filled,
        () = caller.gone() => Err(Error::Cancelled),
    };
    let rows = match filled {
        Ok(rows) => rows,
        Err(error) => {
            for track in &added {
                inner.timelines.remove(track);
            }
            return Err(error);
        }
    };
    fail::fail_point!("features::filled");
    let changed = async {
        next.add(&entity.name, Relation::Entity(Arc::new(assembled)), true)?;
        check_views(inner, &entity.name, &Arc::new(next.clone())).await?;
        inner.publish_catalog(next)
    };
    if let Err(error) = changed.await {
        for track in &added {
            inner.timelines.remove(track);
        }
        return Err(error);
    }
    fail::fail_point!("features::published");
    for track in removed {
        inner.timelines.remove(&track);
    }
    Ok(rows)
}

//! `DROP SOURCE`, `DROP ENTITY`, `DROP VIEW` and `DROP FEATURE`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use asofdb_sql::{Drop, DropObject, fold};

use crate::catalog::{Catalog, Entity, Relation};
use crate::database::{Database, Inner};
use crate::error::{Error, ObjectKind, Result, nearest};
use crate::session::Outcome;
use crate::statement::create_features::change;
use crate::task::Caller;

/// Drops objects, each with what depends on it if the statement says `CASCADE`.
pub async fn run(database: &Database, drop: &Drop) -> Result<Outcome> {
    let inner = &database.inner;
    let _ddl = inner.writing()?.ddl.lock().await;
    let (kind, tag) = match &drop.object {
        DropObject::Source => (ObjectKind::Source, "DROP SOURCE"),
        DropObject::Entity => (ObjectKind::Entity, "DROP ENTITY"),
        DropObject::View => (ObjectKind::View, "DROP VIEW"),
        DropObject::Feature { .. } => (ObjectKind::Feature, "DROP FEATURE"),
    };
    let mut notices = Vec::new();
    if let DropObject::Feature { entity } = &drop.object {
        drop_features(inner, &fold(entity), drop, &mut notices).await?;
        return Ok(Outcome::Done { tag: tag.into(), notices });
    }
    let catalog = inner.catalog();
    let mut names = Vec::new();
    for name in drop.names.iter().map(fold) {
        match catalog.relations.get(&name) {
            Some(relation) if relation.kind() == kind => names.push(name),
            _ if drop.if_exists => {
                notices.push(format!("{kind} \"{name}\" does not exist, skipping"));
            }
            _ => return Err(undefined(&catalog, kind, &name)),
        }
    }
    for name in names {
        drop_relation(inner, kind, &name, drop.cascade).await?;
    }
    Ok(Outcome::Done { tag: tag.into(), notices })
}

fn undefined(catalog: &Catalog, kind: ObjectKind, name: &str) -> Error {
    let same_kind = catalog.relations.iter().filter(|(_, r)| r.kind() == kind);
    let nearest = nearest(name, same_kind.map(|(n, _)| n.as_str()));
    Error::Undefined { kind, name: name.to_owned(), nearest }
}

/// Fails if something depends on the relation.
pub fn check_unused(catalog: &Catalog, kind: ObjectKind, name: &str) -> Result<()> {
    let views = views_on(catalog, name).into_iter().map(|v| format!("view {v}"));
    let features =
        features_on(catalog, name).into_iter().map(|(e, f)| format!("feature {f} on {e}"));
    let dependents: Vec<_> = features.chain(views).collect();
    match dependents.is_empty() {
        true => Ok(()),
        false => Err(Error::InUse { kind, name: name.to_owned(), dependents }),
    }
}

/// The features that read source `name`, with their entities.
fn features_on(catalog: &Catalog, name: &str) -> Vec<(String, String)> {
    let all = catalog.entities().flat_map(|e| e.features.iter().map(move |f| (e, f)));
    all.filter(|(_, f)| f.source.as_deref() == Some(name))
        .map(|(e, f)| (e.name.clone(), f.name.clone()))
        .collect()
}

/// The views that name a relation, directly.
pub fn views_on(catalog: &Catalog, name: &str) -> Vec<String> {
    let reads = |view: &crate::catalog::View| {
        asofdb_sql::rewrite::find_relations(&view.definition.query)
            .iter()
            .any(|relation| asofdb_sql::fold_name(relation).last().is_some_and(|n| n == name))
    };
    catalog.views().filter(|v| reads(v)).map(|v| v.name.clone()).collect()
}

async fn drop_relation(
    inner: &Arc<Inner>,
    kind: ObjectKind,
    name: &str,
    cascade: bool,
) -> Result<()> {
    if !cascade {
        check_unused(&inner.catalog(), kind, name)?;
    }
    // All of an entity's at once: each change fills the tracks of what is left anew.
    let mut features = BTreeMap::<String, BTreeSet<String>>::new();
    for (entity, feature) in features_on(&inner.catalog(), name) {
        features.entry(entity).or_default().insert(feature);
    }
    for (entity, gone) in features {
        let catalog = inner.catalog();
        let entity = Arc::clone(catalog.entity(&entity)?);
        remove_features(inner, &catalog, &entity, &gone, true).await?;
    }
    for view in views_on(&inner.catalog(), name) {
        Box::pin(drop_relation(inner, ObjectKind::View, &view, true)).await?;
    }
    let mut next = inner.catalog().as_ref().clone();
    let Some(relation) = next.relations.remove(name) else { return Ok(()) };
    inner.publish_catalog(next)?;
    fail::fail_point!("drop::published");
    match relation {
        Relation::Source(source) => {
            inner.writing()?.history.drop_stream(source.id).await?;
        }
        Relation::Entity(entity) => {
            for track in &entity.tracks {
                inner.timelines.remove(track);
            }
        }
        Relation::View(_) => {}
    }
    Ok(())
}

async fn drop_features(
    inner: &Arc<Inner>,
    entity: &str,
    drop: &Drop,
    notices: &mut Vec<String>,
) -> Result<()> {
    let catalog = inner.catalog();
    let entity = match catalog.entity(entity) {
        Ok(entity) => Arc::clone(entity),
        Err(_) if drop.if_exists => {
            notices.push(format!("entity \"{entity}\" does not exist, skipping"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut names = BTreeSet::new();
    for name in drop.names.iter().map(fold) {
        if entity.feature(&name).is_some() {
            names.insert(name);
        } else if drop.if_exists {
            notices.push(format!("feature \"{name}\" does not exist, skipping"));
        } else {
            let nearest = nearest(&name, entity.features.iter().map(|f| f.name.as_str()));
            return Err(Error::Undefined { kind: ObjectKind::Feature, name, nearest });
        }
    }
    remove_features(inner, &catalog, &entity, &names, drop.cascade).await
}

async fn remove_features(
    inner: &Arc<Inner>,
    catalog: &Arc<Catalog>,
    entity: &Arc<Entity>,
    names: &BTreeSet<String>,
    cascade: bool,
) -> Result<()> {
    let mut gone = names.clone();
    loop {
        let reads_gone = |f: &&Arc<crate::catalog::Feature>| {
            !gone.contains(&f.name) && f.inputs.iter().any(|i| gone.contains(i))
        };
        let dependents: Vec<_> =
            entity.features.iter().filter(reads_gone).map(|f| f.name.clone()).collect();
        match (dependents.is_empty(), cascade) {
            (true, _) => break,
            (false, true) => gone.extend(dependents),
            (false, false) => {
                return Err(Error::InUse {
                    kind: ObjectKind::Feature,
                    name: names.iter().next().cloned().unwrap_or_default(),
                    dependents: dependents.iter().map(|d| format!("feature {d}")).collect(),
                });
            }
        }
    }
    let kept = entity.features.iter().filter(|f| !gone.contains(&f.name));
    let definitions: Vec<_> = kept.map(|f| f.definition.clone()).collect();
    let changed = match change(inner, catalog, entity, &definitions, Caller::staying()).await {
        Err(Error::InUse { dependents, .. }) if cascade => {
            for view in dependents.iter().filter_map(|d| d.strip_prefix("view ")) {
                Box::pin(drop_relation(inner, ObjectKind::View, view, true)).await?;
            }
            change(inner, &inner.catalog(), entity, &definitions, Caller::staying()).await
        }
        Err(Error::InUse { dependents, .. }) => {
            let name = names.iter().cloned().collect::<Vec<_>>().join(", ");
            Err(Error::InUse { kind: ObjectKind::Feature, name, dependents })
        }
        done => done,
    };
    changed.map(drop)
}

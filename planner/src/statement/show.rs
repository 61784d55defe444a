//! `SHOW SOURCES`, `SHOW ENTITIES`, `SHOW FEATURES`, `SHOW VIEWS` and the like.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use asofdb_sql::{Show, ShowKind, fold};

use crate::catalog::{Catalog, Connector, Relation};
use crate::database::Database;
use crate::error::Result;
use crate::jobs::Job;
use crate::session::Outcome;
use crate::types::sql_name;

/// The columns of a listing.
pub fn schema(kind: ShowKind) -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(match kind {
        ShowKind::Sources => {
            vec![text("source"), text("event_time"), text("connector"), number("rows")]
        }
        ShowKind::Entities => {
            vec![text("entity"), text("key"), number("features"), number("keys")]
        }
        ShowKind::Features => {
            vec![text("entity"), text("feature"), text("type"), text("source"), text("definition")]
        }
        ShowKind::Views => vec![text("view"), text("definition")],
        ShowKind::Tables => vec![text("name"), text("kind")],
        ShowKind::Jobs => vec![
            number("job"),
            text("kind"),
            text("target"),
            number("rows"),
            number("rows_total"),
            Field::new("seconds", DataType::Float64, true),
        ],
    }))
}

/// Lists what is declared.
pub async fn run(database: &Database, show: &Show) -> Result<Outcome> {
    let catalog = database.inner.catalog();
    let columns = match show.kind {
        ShowKind::Sources => sources(&catalog),
        ShowKind::Entities => entities(database, &catalog).await?,
        ShowKind::Features => features(&catalog, show.entity.as_ref().map(fold))?,
        ShowKind::Views => vec![
            text(catalog.views().map(|v| Some(v.name.clone()))),
            text(catalog.views().map(|v| Some(asofdb_sql::canonical(v.definition.query.as_ref())))),
        ],
        ShowKind::Tables => vec![
            text(catalog.relations.keys().map(|name| Some(name.clone()))),
            text(catalog.relations.values().map(|r| Some(r.kind().to_string()))),
        ],
        ShowKind::Jobs => jobs(&database.inner.jobs.running()),
    };
    Outcome::rows("SHOW", RecordBatch::try_new(schema(show.kind), columns)?)
}

fn text(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values))
}

fn sources(catalog: &Catalog) -> Vec<ArrayRef> {
    let sources: Vec<_> = catalog.sources().collect();
    let time = |s: &crate::catalog::Source| s.schema.field(s.event_time).name().clone();
    let connector = |connector: &Connector| match connector {
        Connector::Log | Connector::Elsewhere => None,
        Connector::Parquet { .. } => Some("parquet".to_owned()),
    };
    let rows = |s: &crate::catalog::Source| match s.connector {
        Connector::Log => Some(s.data.snapshot().rows() as i64),
        Connector::Parquet { .. } | Connector::Elsewhere => None,
    };
    vec![
        text(sources.iter().map(|s| Some(s.name.clone()))),
        text(sources.iter().map(|s| Some(time(s)))),
        text(sources.iter().map(|s| connector(&s.connector))),
        Arc::new(Int64Array::from_iter(sources.iter().map(|s| rows(s)))),
    ]
}

fn jobs(jobs: &[Arc<Job>]) -> Vec<ArrayRef> {
    vec![
        Arc::new(Int64Array::from_iter_values(jobs.iter().map(|job| job.id as i64))),
        text(jobs.iter().map(|job| Some(job.kind.name().to_owned()))),
        text(jobs.iter().map(|job| Some(job.target.clone()))),
        Arc::new(Int64Array::from_iter_values(jobs.iter().map(|job| job.rows() as i64))),
        Arc::new(Int64Array::from_iter(jobs.iter().map(|job| job.rows_total.map(|n| n as i64)))),
        Arc::new(Float64Array::from_iter_values(
            jobs.iter().map(|job| job.elapsed().as_secs_f64()),
        )),
    ]
}

async fn entities(database: &Database, catalog: &Catalog) -> Result<Vec<ArrayRef>> {
    let entities: Vec<_> = catalog.entities().collect();
    let key = |e: &crate::catalog::Entity| {
        let columns = e.key.iter().map(|f| format!("{} {}", f.name(), sql_name(f.data_type())));
        columns.collect::<Vec<_>>().join(", ")
    };
    let mut keys = Vec::new();
    for entity in &entities {
        // Without online state only a scan of the events would tell.
        keys.push(match entity.tracks.iter().all(|track| track.stream.online) {
            false => None,
            true => {
                let timelines = &database.inner.timelines;
                Some(timelines.known_keys(&entity.tracks, i64::MAX).await?.len() as i64)
            }
        });
    }
    Ok(vec![
        text(entities.iter().map(|e| Some(e.name.clone()))),
        text(entities.iter().map(|e| Some(key(e)))),
        Arc::new(Int64Array::from_iter_values(entities.iter().map(|e| e.features.len() as i64))),
        Arc::new(Int64Array::from(keys)),
    ])
}

fn features(catalog: &Catalog, entity: Option<String>) -> Result<Vec<ArrayRef>> {
    if let Some(name) = &entity
        && !matches!(catalog.relation(name)?, Relation::Entity(_))
    {
        catalog.entity(name)?;
    }
    let all: Vec<_> = catalog
        .entities()
        .filter(|e| entity.as_ref().is_none_or(|name| *name == e.name))
        .flat_map(|e| e.features.iter().map(move |f| (e, f)))
        .collect();
    Ok(vec![
        text(all.iter().map(|(e, _)| Some(e.name.clone()))),
        text(all.iter().map(|(_, f)| Some(f.name.clone()))),
        text(all.iter().map(|(_, f)| Some(sql_name(&f.data_type)))),
        text(all.iter().map(|(_, f)| f.source.clone())),
        text(all.iter().map(|(_, f)| Some(f.definition.to_string()))),
    ])
}

//! The catalog as one document: the statements that make it, with the ids they were given.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use arrow::datatypes::{Field, Schema};
use asofdb_sql::{CreateEntity, CreateFeatures, CreateSource, Parsed, Statement, fold};
use asofdb_udfs::Interval;
use datafusion::execution::SessionState;
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Connector, Entity, POSITION, Relation, Source, View};
use crate::data::SourceData;
use crate::error::{Error, ObjectKind, Result};
use crate::feature::assemble::assemble;
use crate::planning::COLUMNS_MAX;
use crate::track::Track;
use crate::types::arrow_type;

/// The format of [`Document`]. Others are refused.
const FORMAT: u32 = 1;

/// What is stored.
#[derive(Debug, Serialize, Deserialize)]
pub struct Document {
    format: u32,
    version: u64,
    next_id: u32,
    objects: Vec<Object>,
}

/// One declared object.
#[derive(Debug, Serialize, Deserialize)]
struct Object {
    /// The id of a source or an entity.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    /// The statement.
    sql: String,
    /// The tracks of an entity: state in an online store has their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tracks: Vec<StoredTrack>,
}

/// Which definition a track's id stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredTrack {
    id: u32,
    fingerprint: String,
}

impl Object {
    fn new(id: Option<u32>, definition: &impl ToString) -> Self {
        Object { id, sql: definition.to_string(), tracks: Vec::new() }
    }
}

impl Document {
    /// The document of a catalog.
    pub fn of(catalog: &Catalog) -> Self {
        let mut objects = Vec::new();
        for source in catalog.sources() {
            objects.push(Object::new(Some(source.id), &source.definition));
        }
        for entity in catalog.entities() {
            let stored = |t: &Arc<Track>| StoredTrack { id: t.id, fingerprint: t.fingerprint() };
            let tracks = entity.tracks.iter().map(stored).collect();
            objects.push(Object { tracks, ..Object::new(Some(entity.id), &entity.definition) });
            for feature in &entity.features {
                objects.push(Object::new(None, &feature.definition));
            }
        }
        for view in catalog.views() {
            objects.push(Object::new(None, &view.definition));
        }
        Document { format: FORMAT, version: catalog.version, next_id: catalog.next_id, objects }
    }

    /// The bytes to store.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|e| Error::Internal(e.to_string()))
    }

    /// Reads the bytes that `file` holds.
    pub fn from_bytes(bytes: &[u8], file: &Path) -> Result<Self> {
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|e| Error::definition(format!("the catalog can't be read: {e}")))?;
        match document.format {
            FORMAT => Ok(document),
            other => Err(Error::Storage(asofdb_storage::Error::UnknownVersion {
                file: file.to_owned(),
                found: other.into(),
                supported: FORMAT.into(),
            })),
        }
    }

    /// The next id, when this was stored.
    pub fn next_id(&self) -> u32 {
        self.next_id
    }

    /// The catalog. `data` gives each source its rows.
    pub fn catalog(
        &self,
        state: &SessionState,
        data: &dyn Fn(u32) -> Arc<SourceData>,
        files: &dyn Fn(&CreateSource) -> Result<Connector>,
    ) -> Result<Catalog> {
        let mut catalog =
            Catalog { version: self.version, next_id: self.next_id, ..Catalog::default() };
        let mut features: BTreeMap<String, Vec<CreateFeatures>> = BTreeMap::new();
        let mut stored: BTreeMap<(u32, &str), u32> = BTreeMap::new();
        for object in &self.objects {
            let id = object.id.unwrap_or_default();
            let tracks = object.tracks.iter();
            stored.extend(tracks.map(|track| ((id, track.fingerprint.as_str()), track.id)));
            match statement(&object.sql)? {
                Statement::CreateSource(definition) => {
                    let connector = files(&definition)?;
                    let source = build_source(id, definition, connector, data(id))?;
                    let name = source.name.clone();
                    catalog.relations.insert(name, Relation::Source(Arc::new(source)));
                }
                Statement::CreateEntity(definition) => {
                    let entity = build_entity(id, definition)?;
                    let name = entity.name.clone();
                    catalog.relations.insert(name, Relation::Entity(Arc::new(entity)));
                }
                Statement::CreateFeatures(definition) => {
                    features.entry(fold(&definition.entity)).or_default().push(*definition);
                }
                Statement::CreateView(definition) => {
                    let name = fold(&definition.name);
                    let view = View { name: name.clone(), definition };
                    catalog.relations.insert(name, Relation::View(Arc::new(view)));
                }
                other => {
                    return Err(Error::Internal(format!("the catalog holds a statement {other}")));
                }
            }
        }
        for (name, definitions) in features {
            let entity = Arc::clone(catalog.entity(&name)?);
            let snapshot = catalog.clone();
            let mut new_id = |fingerprint: &str| match stored.get(&(entity.id, fingerprint)) {
                Some(id) => *id,
                None => catalog.take_id(),
            };
            let entity = assemble(&entity, &definitions, &snapshot, state, &mut new_id)?;
            catalog.relations.insert(name, Relation::Entity(Arc::new(entity)));
        }
        Ok(catalog)
    }
}

fn statement(sql: &str) -> Result<Statement> {
    let parsed: Result<[Parsed; 1], _> = asofdb_sql::parse(sql)?.try_into();
    match parsed {
        Ok([parsed]) => Ok(parsed.statement),
        Err(_) => Err(Error::Internal("an object of the catalog is one statement".into())),
    }
}

/// A source from its definition.
pub fn build_source(
    id: u32,
    definition: CreateSource,
    connector: Connector,
    data: Arc<SourceData>,
) -> Result<Source> {
    let name = fold(&definition.name);
    check_name(&name)?;
    if definition.columns.len() > COLUMNS_MAX {
        let count = definition.columns.len();
        return Err(Error::TooManyColumns { count, limit: COLUMNS_MAX });
    }
    let mut fields = Vec::new();
    for column in &definition.columns {
        let name = fold(&column.name);
        check_name(&name)?;
        let data_type = arrow_type(&column.data_type)?;
        if !is_column_type(&data_type) {
            return Err(Error::unsupported(format!(
                "column \"{name}\" can't have type {}",
                column.data_type
            )));
        }
        fields.push(Field::new(name, data_type, !column.not_null));
    }
    let time = fold(&definition.event_time);
    let event_time = fields.iter().position(|f| *f.name() == time).ok_or_else(|| {
        let nearest = crate::error::nearest(&time, fields.iter().map(|f| f.name().as_str()));
        Error::Undefined { kind: ObjectKind::Column, name: time.clone(), nearest }
    })?;
    if *fields[event_time].data_type() != crate::types::instant_type() {
        return Err(Error::Definition {
            message: format!(
                "the event time \"{time}\" has type {}",
                crate::types::sql_name(fields[event_time].data_type())
            ),
            hint: Some("Declare it TIMESTAMPTZ.".into()),
        });
    }
    let schema = Arc::new(Schema::new(fields));
    let retention = definition.options.get("retention").map(|value| retention(value.text()));
    let retention = retention.transpose()?;
    if retention.is_some() && matches!(connector, Connector::Parquet { .. }) {
        return Err(Error::definition("files that are read in place have no retention"));
    }
    Ok(Source { id, name, schema, event_time, connector, retention, definition, data })
}

/// An interval, more than nothing, to the microsecond.
fn retention(text: &str) -> Result<Interval> {
    let wrong = |message: String| Error::Definition {
        message,
        hint: Some("For instance retention = '2 years'.".into()),
    };
    let parsed = parse_interval_month_day_nano(text)
        .map_err(|_| wrong(format!("retention '{text}' is no interval")))?;
    let micros = parsed.nanoseconds / 1000;
    let positive = parsed.months >= 0 && parsed.days >= 0 && micros >= 0;
    match positive && (parsed.months, parsed.days, micros) > (0, 0, 0) {
        true => Ok(Interval { months: parsed.months, days: parsed.days, micros }),
        false => Err(wrong(format!("retention '{text}' keeps nothing"))),
    }
}

fn is_column_type(data_type: &arrow::datatypes::DataType) -> bool {
    use arrow::datatypes::DataType;
    !matches!(data_type, DataType::List(_) | DataType::Interval(_) | DataType::Binary)
}

/// An entity without features from its definition.
pub fn build_entity(id: u32, definition: CreateEntity) -> Result<Entity> {
    definition.options.check(&[])?;
    let name = fold(&definition.name);
    check_name(&name)?;
    let mut key = Vec::new();
    for column in &definition.key {
        let name = fold(&column.name);
        check_name(&name)?;
        let data_type = arrow_type(&column.data_type)?;
        if !crate::key::is_key_type(&data_type) {
            return Err(Error::Definition {
                message: format!(
                    "key column \"{name}\" can't have type {}",
                    crate::types::sql_name(&data_type)
                ),
                hint: Some(
                    "Keys are SMALLINT, INTEGER, BIGINT, TEXT, BOOLEAN, DATE or TIMESTAMP[TZ]."
                        .into(),
                ),
            });
        }
        key.push(Field::new(name, data_type, true));
    }
    Ok(Entity { id, name, key, definition, features: Vec::new(), tracks: Vec::new() })
}

/// Names that begin with two underscores are ours.
pub fn check_name(name: &str) -> Result<()> {
    match name.starts_with("__") {
        false => Ok(()),
        true => Err(Error::Definition {
            message: format!("name \"{name}\" is reserved"),
            hint: Some(format!("Names that begin with \"__\" are internal, like {POSITION}.")),
        }),
    }
}

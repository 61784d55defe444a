//! The catalog: an immutable snapshot of everything declared. A change makes a new snapshot; a
//! statement sees one snapshot from its planning to its last row.

pub mod document;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use asofdb_sql::{CreateEntity, CreateFeatures, CreateSource, CreateView};
use asofdb_udfs::Interval;
use datafusion::logical_expr::Expr;

use crate::data::SourceData;
use crate::error::{Error, ObjectKind, Result, nearest};
use crate::track::Track;

/// The hidden column of every source: the row's position in the log.
pub const POSITION: &str = "__position";

/// A table of events.
#[derive(Debug)]
pub struct Source {
    /// Never reused; names the source in the log and the history.
    pub id: u32,
    /// The name as folded.
    pub name: String,
    /// The declared columns.
    pub schema: SchemaRef,
    /// The index of the event time column.
    pub event_time: usize,
    /// Where the rows live.
    pub connector: Connector,
    /// How old events may become; `None` for any age.
    pub retention: Option<Interval>,
    /// The statement that made it.
    pub definition: CreateSource,
    /// The rows.
    pub data: Arc<SourceData>,
}

impl Source {
    /// The declared columns and, after them, [`POSITION`].
    pub fn schema_with_position(&self) -> SchemaRef {
        with_position(&self.schema)
    }
}

/// `schema` with the position column after its own.
pub fn with_position(schema: &Schema) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(POSITION, DataType::UInt64, false)));
    Arc::new(Schema::new(fields))
}

/// Where the rows of a source live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connector {
    /// In the log and the history.
    Log,
    /// In Parquet files that others wrote, read in place.
    Parquet {
        /// The files, in the order that gives rows their positions.
        files: Vec<PathBuf>,
    },
    /// With the server that writes; this one only reads online state.
    Elsewhere,
}

/// A relation with exactly one row for every key at every instant.
#[derive(Debug)]
pub struct Entity {
    /// Never reused.
    pub id: u32,
    /// The name as folded.
    pub name: String,
    /// The key columns.
    pub key: Vec<Field>,
    /// The statement that made it.
    pub definition: CreateEntity,
    /// The features in the order of their declaration.
    pub features: Vec<Arc<Feature>>,
    /// The streams of events that the features are computed from.
    pub tracks: Vec<Arc<Track>>,
}

impl Entity {
    /// The key columns and the features, as a relation's columns.
    pub fn schema(&self) -> SchemaRef {
        let key = self.key.iter().cloned();
        let features = self.features.iter().map(|f| Field::new(&f.name, f.data_type.clone(), true));
        Arc::new(Schema::new(key.chain(features).collect::<Vec<_>>()))
    }

    /// The part of it that lookups find in online state: without tracks that have none, and features
    /// that need them.
    pub fn online_part(&self) -> Entity {
        let (online, offline): (Vec<_>, Vec<_>) =
            self.tracks.iter().cloned().partition(|track| track.stream.online);
        let needs = |feature: &Feature, track: &Track| {
            let reads = |call| feature.expr.column_refs().iter().any(|c| c.name == call);
            (0..track.calls.len()).any(|call| reads(track.call_name(call)))
        };
        let in_state = |f: &&Arc<Feature>| !offline.iter().any(|track| needs(f, track));
        Entity {
            id: self.id,
            name: self.name.clone(),
            key: self.key.clone(),
            definition: self.definition.clone(),
            features: self.features.iter().filter(in_state).cloned().collect(),
            tracks: online,
        }
    }

    /// The feature of this name.
    pub fn feature(&self, name: &str) -> Option<&Arc<Feature>> {
        self.features.iter().find(|f| f.name == name)
    }
}

/// A column of an entity that is computed from events.
#[derive(Debug)]
pub struct Feature {
    /// The name as folded.
    pub name: String,
    /// The statement that made it, with this one feature in it.
    pub definition: CreateFeatures,
    /// The source it reads; `None` for one derived from other features.
    pub source: Option<String>,
    /// The features that it is derived from.
    pub inputs: Vec<String>,
    /// Its value, over the columns of the entity's tracks ([`Track::call_name`]).
    pub expr: Expr,
    /// The type of its value.
    pub data_type: DataType,
}

/// A named query.
#[derive(Debug)]
pub struct View {
    /// The name as folded.
    pub name: String,
    /// The statement that made it.
    pub definition: CreateView,
}

/// Something that a `FROM` clause can name.
#[derive(Clone, Debug)]
pub enum Relation {
    /// A table of events.
    Source(Arc<Source>),
    /// An entity.
    Entity(Arc<Entity>),
    /// A named query.
    View(Arc<View>),
}

impl Relation {
    /// What kind of object it is.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Relation::Source(_) => ObjectKind::Source,
            Relation::Entity(_) => ObjectKind::Entity,
            Relation::View(_) => ObjectKind::View,
        }
    }
}

/// Everything declared.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Grows with each change; plans made under another version are made anew.
    pub version: u64,
    /// The id that the next source, entity or track gets.
    pub next_id: u32,
    /// By name; sources, entities and views share one namespace.
    pub relations: BTreeMap<String, Relation>,
}

impl Catalog {
    /// The relation of this name.
    pub fn relation(&self, name: &str) -> Result<&Relation> {
        self.relations.get(name).ok_or_else(|| Error::Undefined {
            kind: ObjectKind::Relation,
            name: name.to_owned(),
            nearest: nearest(name, self.relations.keys().map(String::as_str)),
        })
    }

    /// The source of this name.
    pub fn source(&self, name: &str) -> Result<&Arc<Source>> {
        match self.relations.get(name) {
            Some(Relation::Source(source)) => Ok(source),
            _ => Err(Error::Undefined {
                kind: ObjectKind::Source,
                name: name.to_owned(),
                nearest: nearest(name, self.sources().map(|s| s.name.as_str())),
            }),
        }
    }

    /// The entity of this name.
    pub fn entity(&self, name: &str) -> Result<&Arc<Entity>> {
        match self.relations.get(name) {
            Some(Relation::Entity(entity)) => Ok(entity),
            _ => Err(Error::Undefined {
                kind: ObjectKind::Entity,
                name: name.to_owned(),
                nearest: nearest(name, self.entities().map(|e| e.name.as_str())),
            }),
        }
    }

    /// All sources, by name.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.relations.values().filter_map(|r| match r {
            Relation::Source(source) => Some(source),
            _ => None,
        })
    }

    /// All entities, by name.
    pub fn entities(&self) -> impl Iterator<Item = &Arc<Entity>> {
        self.relations.values().filter_map(|r| match r {
            Relation::Entity(entity) => Some(entity),
            _ => None,
        })
    }

    /// The tracks of all entities.
    pub fn tracks(&self) -> impl Iterator<Item = &Arc<Track>> {
        self.entities().flat_map(|entity| &entity.tracks)
    }

    /// All views, by name.
    pub fn views(&self) -> impl Iterator<Item = &Arc<View>> {
        self.relations.values().filter_map(|r| match r {
            Relation::View(view) => Some(view),
            _ => None,
        })
    }

    /// An id that nothing had before.
    pub fn take_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Adds a relation. With `replace`, one of the same kind gives way.
    pub fn add(&mut self, name: &str, relation: Relation, replace: bool) -> Result<()> {
        if let Some(present) = self.relations.get(name)
            && !(replace && present.kind() == relation.kind())
        {
            return Err(Error::Duplicate { kind: present.kind(), name: name.to_owned() });
        }
        self.relations.insert(name.to_owned(), relation);
        Ok(())
    }
}

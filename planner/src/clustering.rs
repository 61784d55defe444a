//! In which order the history holds a source's rows: by the key of the entity whose features read
//! it most, so that a point-in-time join with that entity need not sort them.

use std::collections::BTreeMap;

use datafusion::logical_expr::Expr;

use crate::catalog::{Catalog, Source};
use crate::key::is_key_type;
use crate::track::Track;

/// The columns that the rows of `source` should be sorted by before (time, position), as indices.
///
/// Those of its largest file stay as long as some entity has that key: otherwise files would be
/// laid out anew whenever features come and go.
pub fn sort_columns(catalog: &Catalog, source: &Source) -> Vec<usize> {
    let mut calls: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
    let tracks = catalog.entities().flat_map(|entity| &entity.tracks);
    for track in tracks.filter(|track| track.stream.source.id == source.id) {
        if let Some(columns) = key_columns(track, source) {
            *calls.entry(columns).or_default() += track.calls.len();
        }
    }
    let snapshot = source.data.snapshot();
    let largest = snapshot.files.iter().max_by_key(|file| file.rows);
    let present = largest.and_then(|file| {
        let index = |name: &String| source.schema.index_of(name).ok();
        file.layout.sorted_by.iter().map(index).collect::<Option<Vec<_>>>()
    });
    match present {
        Some(present) if calls.contains_key(&present) => present,
        // Of those with the most calls the first, so that the choice does not waver.
        _ => {
            let most = calls.into_iter().rev().max_by_key(|(_, calls)| *calls);
            most.map_or_else(Vec::new, |(columns, _)| columns)
        }
    }
}

/// The key of a track if it is columns of the source as they are.
fn key_columns(track: &Track, source: &Source) -> Option<Vec<usize>> {
    let index = |key: &Expr| match key {
        Expr::Column(column) => {
            let index = source.schema.index_of(&column.name).ok()?;
            is_key_type(source.schema.field(index).data_type()).then_some(index)
        }
        _ => None,
    };
    track.stream.keys.iter().map(index).collect()
}

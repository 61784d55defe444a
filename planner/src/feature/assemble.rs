//! Puts an entity together from the definitions of its features: calls over the same events share
//! a track, so that one sweep computes them all.

use std::sync::Arc;

use asofdb_sql::{CreateFeatures, fold};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;

use super::{Compiled, compile, local_call_name};
use crate::catalog::{Catalog, Entity, Feature};
use crate::error::Result;
use crate::track::{CallSpec, Stream, Track, column, expr_type, fingerprint};

/// The entity with exactly these features.
///
/// Tracks of `previous` that compute what is needed go on; `new_id` names new ones, given their
/// fingerprint.
pub fn assemble(
    previous: &Entity,
    definitions: &[CreateFeatures],
    catalog: &Catalog,
    state: &SessionState,
    new_id: &mut dyn FnMut(&str) -> u32,
) -> Result<Entity> {
    let mut entity = Entity {
        id: previous.id,
        name: previous.name.clone(),
        key: previous.key.clone(),
        definition: previous.definition.clone(),
        features: Vec::new(),
        tracks: Vec::new(),
    };
    let mut drafts: Vec<Draft> = Vec::new();
    let mut compiled = Vec::new();
    for definition in definitions {
        let value = compile(definition, &entity, catalog, state)?;
        let (expr, source, inputs) = match &value {
            Compiled::Windowed { stream, calls, expr } => {
                let expr = place(&mut drafts, stream, calls, expr)?;
                (expr, Some(stream.source.name.clone()), Vec::new())
            }
            Compiled::Derived { expr, inputs } => (inline(expr, &entity)?, None, inputs.clone()),
        };
        let data_type = value_type(&value, &entity)?;
        let name = fold(&definition.features[0].name);
        let definition = definition.clone();
        entity.features.push(Arc::new(Feature {
            name: name.clone(),
            definition,
            source,
            inputs: inputs.clone(),
            expr: expr.clone(),
            data_type: data_type.clone(),
        }));
        compiled.push(value);
    }
    // Drafts are numbered from zero; now each gets its track's id.
    entity.tracks = drafts
        .into_iter()
        .map(|draft| {
            let same = |t: &&Arc<Track>| t.same_definition(&draft.stream, &draft.calls);
            match previous.tracks.iter().find(same) {
                Some(track) => Ok(Arc::clone(track)),
                None => {
                    let id = new_id(&fingerprint(&draft.stream, &draft.calls));
                    Ok(Arc::new(Track::new(id, draft.stream, draft.calls)?))
                }
            }
        })
        .collect::<Result<_>>()?;
    let features = std::mem::take(&mut entity.features);
    for feature in features {
        let expr = rename_calls(feature.expr.clone(), |name| {
            let (draft, call) = parse_draft_name(name)?;
            Some(entity.tracks[draft].call_name(call))
        })?;
        entity.features.push(Arc::new(Feature {
            name: feature.name.clone(),
            definition: feature.definition.clone(),
            source: feature.source.clone(),
            inputs: feature.inputs.clone(),
            expr,
            data_type: feature.data_type.clone(),
        }));
    }
    Ok(entity)
}

/// A track in the making.
struct Draft {
    stream: Stream,
    calls: Vec<CallSpec>,
}

/// Drafts have ids that no track has: their place.
fn draft_name(draft: usize, call: usize) -> String {
    format!("__draft_{draft}_{call}")
}

fn parse_draft_name(name: &str) -> Option<(usize, usize)> {
    let (draft, call) = name.strip_prefix("__draft_")?.split_once('_')?;
    Some((draft.parse().ok()?, call.parse().ok()?))
}

/// Finds or makes the draft for `stream` and puts the calls into it.
fn place(
    drafts: &mut Vec<Draft>,
    stream: &Stream,
    calls: &[CallSpec],
    expr: &Expr,
) -> Result<Expr> {
    let draft = drafts.iter().position(|d| d.stream == *stream).unwrap_or_else(|| {
        drafts.push(Draft { stream: stream.clone(), calls: Vec::new() });
        drafts.len() - 1
    });
    let placed: Vec<usize> = calls
        .iter()
        .map(|call| {
            let known = &mut drafts[draft].calls;
            known.iter().position(|c| c == call).unwrap_or_else(|| {
                known.push(call.clone());
                known.len() - 1
            })
        })
        .collect();
    rename_calls(expr.clone(), |name| {
        let call = (0..placed.len()).find(|i| local_call_name(*i) == name)?;
        Some(draft_name(draft, placed[call]))
    })
}

fn rename_calls(expr: Expr, rename: impl Fn(&str) -> Option<String>) -> Result<Expr> {
    let renamed = expr.transform(|node| match &node {
        Expr::Column(c) => match rename(&c.name) {
            Some(name) => Ok(Transformed::yes(column(&name))),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(renamed.data)
}

/// Replaces the features that a derived one names by their own expressions.
fn inline(expr: &Expr, entity: &Entity) -> Result<Expr> {
    let inlined = expr.clone().transform_up(|node| match &node {
        Expr::Column(c) => match entity.feature(&c.name) {
            Some(feature) => Ok(Transformed::yes(feature.expr.clone())),
            None => Ok(Transformed::no(node)),
        },
        _ => Ok(Transformed::no(node)),
    })?;
    Ok(inlined.data)
}

fn value_type(value: &Compiled, entity: &Entity) -> Result<arrow::datatypes::DataType> {
    match value {
        Compiled::Windowed { calls, expr, .. } => {
            let fields: Vec<_> = calls
                .iter()
                .enumerate()
                .map(|(i, c)| {
                    arrow::datatypes::Field::new(local_call_name(i), c.aggregate.output(), true)
                })
                .collect();
            let schema = DFSchema::from_unqualified_fields(fields.into(), Default::default())?;
            expr_type(expr, &schema)
        }
        Compiled::Derived { expr, .. } => {
            expr_type(expr, &DFSchema::try_from(entity.schema().as_ref().clone())?)
        }
    }
}

//! The point-in-time join: every row of the spine gets the values of aggregate calls over the
//! events of its key, as of its own instant.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::{DFSchema, DFSchemaRef, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::track::Track;

/// Adds to each row of `input` the values of a track's calls. Rows are neither dropped nor
/// duplicated; a row whose key or instant is NULL gets NULLs.
#[derive(Clone, Debug)]
pub struct AsOfJoin {
    /// The spine.
    pub input: LogicalPlan,
    /// The events, a [`Track::events_plan`].
    pub events: LogicalPlan,
    /// The spine's key, of the entity's key types.
    pub keys: Vec<Expr>,
    /// The spine's instant.
    pub as_of: Expr,
    /// What is computed.
    pub track: Arc<Track>,
    /// Which of the track's calls.
    pub calls: Vec<usize>,
    schema: DFSchemaRef,
}

impl AsOfJoin {
    /// The node; its columns are the spine's and one for each call.
    pub fn try_new(
        input: LogicalPlan,
        events: LogicalPlan,
        keys: Vec<Expr>,
        as_of: Expr,
        (track, calls): (Arc<Track>, Vec<usize>),
    ) -> Result<Self> {
        let mut fields: Vec<_> = input
            .schema()
            .iter()
            .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
            .collect();
        for &call in &calls {
            let output = track.layout.calls()[call].aggregate.output();
            fields.push((None, Arc::new(Field::new(track.call_name(call), output, true))));
        }
        let metadata = input.schema().metadata().clone();
        let schema = Arc::new(DFSchema::new_with_metadata(fields, metadata)?);
        Ok(AsOfJoin { input, events, keys, as_of, track, calls, schema })
    }

    fn identity(&self) -> (&LogicalPlan, &LogicalPlan, &[Expr], &Expr, u32, &[usize]) {
        (&self.input, &self.events, &self.keys, &self.as_of, self.track.id, &self.calls)
    }
}

impl PartialEq for AsOfJoin {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for AsOfJoin {}

impl PartialOrd for AsOfJoin {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.identity()
            .partial_cmp(&other.identity())
            .filter(|o| *o != Ordering::Equal || self == other)
    }
}

impl Hash for AsOfJoin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl UserDefinedLogicalNodeCore for AsOfJoin {
    fn name(&self) -> &str {
        "AsOfJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input, &self.events]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.keys.iter().cloned().chain([self.as_of.clone()]).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(ToString::to_string).collect();
        write!(
            f,
            "AsOfJoin: key=[{}], as_of={}, source={}, calls={}",
            keys.join(", "),
            self.as_of,
            self.track.stream.source.name,
            self.calls.len()
        )
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<Expr>,
        inputs: Vec<LogicalPlan>,
    ) -> Result<Self> {
        let Ok([input, events]) = <[LogicalPlan; 2]>::try_from(inputs) else {
            return internal_err!("AsOfJoin has two inputs");
        };
        let Some(as_of) = exprs.pop() else {
            return internal_err!("AsOfJoin has an instant");
        };
        AsOfJoin::try_new(
            input,
            events,
            exprs,
            as_of,
            (Arc::clone(&self.track), self.calls.clone()),
        )
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let spine_width = self.input.schema().fields().len();
        let spine = output_columns.iter().copied().filter(|i| *i < spine_width).collect();
        let events = (0..self.events.schema().fields().len()).collect();
        Some(vec![spine, events])
    }
}

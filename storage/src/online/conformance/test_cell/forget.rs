//! How the test cell forgets: it keeps no event before the time but the last of all.

use asofdb_storage::online::CellError;

use super::{Held, TestCell};

impl TestCell {
    /// Drops the events before `time` but the last of all; says whether there were any.
    pub(super) fn forget(&mut self, time: i64) -> Result<bool, CellError> {
        let Some(root) = self.nodes.get(&0) else { return Ok(false) };
        let kept = root.as_child(0).entry.last.min((time, 0));
        let changed = self.drop_before(0, kept)?;
        while let Some(Held::Inner(children)) = self.nodes.get(&0)
            && let [only] = &children[..]
        {
            let child = self.drop_one(only.entry.child)?;
            self.nodes.insert(0, child);
        }
        Ok(changed)
    }

    /// Drops all events before an order, which is not after the last, below a node; says whether
    /// there were any.
    fn drop_before(&mut self, id: u32, order: (i64, u64)) -> Result<bool, CellError> {
        let (gone, first) = match self.nodes.get_mut(&id).ok_or_else(|| missing(id))? {
            Held::Leaf(events) => {
                let before = events.len();
                events.retain(|e| (e.time, e.position) >= order);
                let changed = events.len() < before;
                self.changed.extend(changed.then_some(id));
                return Ok(changed);
            }
            Held::Inner(children) => {
                let old = children.partition_point(|child| child.entry.last < order);
                (children.drain(..old).collect::<Vec<_>>(), children[0].entry.child)
            }
        };
        for child in &gone {
            self.drop_all(child.entry.child)?;
        }
        let changed = self.drop_before(first, order)? || !gone.is_empty();
        if changed {
            self.changed.insert(id);
            let child = self.nodes[&first].as_child(first);
            if let Some(Held::Inner(children)) = self.nodes.get_mut(&id) {
                children[0] = child;
            }
        }
        Ok(changed)
    }

    /// Drops a node and all below it.
    fn drop_all(&mut self, id: u32) -> Result<(), CellError> {
        if let Held::Inner(children) = self.drop_one(id)? {
            children.iter().try_for_each(|child| self.drop_all(child.entry.child))?;
        }
        Ok(())
    }

    fn drop_one(&mut self, id: u32) -> Result<Held, CellError> {
        let node = self.nodes.remove(&id).ok_or_else(|| missing(id))?;
        self.changed.remove(&id);
        self.removed.insert(id);
        Ok(node)
    }
}

fn missing(id: u32) -> CellError {
    CellError::new(format!("node {id} is not loaded"))
}

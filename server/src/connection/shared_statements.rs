//! Queries that are prepared once for all sessions: drivers prepare the same text in every session,
//! many of them anew at each call, and texts of the simple protocol differ only in the keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use asofdb_planner::Session;
use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use super::prepared_statement::PreparedStatement;

/// Statements that are kept.
const STATEMENTS: usize = 1024;
/// Longer texts are not kept.
const TEXT_BYTES: usize = 16 << 10;

/// The statements. Clones of an entry stay valid when it goes. All go when the catalog changes: a
/// plan holds the catalog that it was made under, and what that has in memory.
pub struct SharedStatements {
    /// The version of the catalog that they were prepared under.
    catalog_version: AtomicU64,
    prepared: Cache<Key, Arc<PreparedStatement>>,
    /// `None` for shapes that are planned for each text.
    shapes: Cache<String, Option<Arc<PreparedStatement>>>,
}

/// A text and the parameters' types as declared.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    sql: String,
    types: Vec<u32>,
}

#[derive(Hash)]
struct KeyRef<'a> {
    sql: &'a str,
    types: &'a [u32],
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.sql == key.sql && self.types == key.types
    }
}

impl SharedStatements {
    /// None yet.
    pub fn new() -> Self {
        SharedStatements {
            catalog_version: AtomicU64::new(0),
            prepared: Cache::new(STATEMENTS),
            shapes: Cache::new(STATEMENTS),
        }
    }

    /// Forgets all statements if the catalog is another one than before.
    fn follow_catalog(&self, session: &Session) {
        let version = session.catalog_version();
        if self.catalog_version.load(Ordering::Relaxed) != version
            && self.catalog_version.swap(version, Ordering::Relaxed) != version
        {
            self.prepared.clear();
            self.shapes.clear();
        }
    }

    /// The statement of a text, if it is prepared under the present catalog.
    pub(super) fn get(
        &self,
        session: &Session,
        sql: &str,
        types: &[u32],
    ) -> Option<Arc<PreparedStatement>> {
        self.follow_catalog(session);
        // One that was prepared beside the change may have come after it.
        self.prepared.get(&KeyRef { sql, types }).filter(|found| found.is_current(session))
    }

    /// Keeps a statement for other sessions, if its text is likely to come again.
    pub(super) fn keep(&self, (sql, types): (String, &[u32]), statement: &Arc<PreparedStatement>) {
        if sql.len() <= TEXT_BYTES && statement.is_reusable() {
            let key = Key { sql, types: types.to_vec() };
            self.prepared.insert(key, Arc::clone(statement));
        }
    }

    /// What is known of a shape: `None` if nothing is, `Some(None)` if it is of no use.
    pub(super) fn shape(
        &self,
        session: &Session,
        text: &str,
    ) -> Option<Option<Arc<PreparedStatement>>> {
        self.follow_catalog(session);
        let current = |found: &PreparedStatement| found.is_current(session);
        self.shapes.get(text).filter(|known| known.as_deref().is_none_or(current))
    }

    /// Says what a shape is prepared as.
    pub(super) fn keep_shape(&self, text: String, statement: Option<Arc<PreparedStatement>>) {
        if text.len() <= TEXT_BYTES {
            self.shapes.insert(text, statement);
        }
    }
}

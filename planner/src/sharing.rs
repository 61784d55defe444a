//! What servers that only read online state have to know: the catalog, and since when events are
//! kept. The server that writes keeps it as a document beside the state; the others look at that
//! from time to time.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::catalog::document::Document;
use crate::catalog::{Catalog, Connector};
use crate::data::SourceData;
use crate::database::Inner;
use crate::error::{Error, Result};

/// The version of the document; another one is refused.
const FORMAT: u32 = 1;

/// How often it is looked at: others know of a change after this time.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Serialize, Deserialize)]
struct Shared {
    format: u32,
    catalog: Document,
    /// By source; those of which nothing has expired are left out.
    kept_from: BTreeMap<u32, i64>,
}

impl Shared {
    fn of(catalog: &Catalog) -> Self {
        let (catalog, kept_from) = (Document::of(catalog), kept_from(catalog));
        Shared { format: FORMAT, catalog, kept_from }
    }
}

fn kept_from(catalog: &Catalog) -> BTreeMap<u32, i64> {
    let kept = catalog.sources().map(|source| (source.id, source.data.kept_from()));
    kept.filter(|(_, time)| *time > i64::MIN).collect()
}

/// A document, and the version of the catalog and the times that it tells of.
#[derive(Default)]
struct Told {
    of: Option<(u64, BTreeMap<u32, i64>)>,
    document: Vec<u8>,
}

/// Keeps the document what it should be, as long as the database is open.
pub async fn share(inner: Weak<Inner>, changed: Arc<Notify>) {
    let mut told = Told::default();
    loop {
        let Some(open) = still_open(&inner) else { return };
        if let Err(error) = store(&open, &mut told).await {
            tracing::debug!(%error, "servers that only read have not been told of the catalog");
        }
        drop(open);
        // Late is as good as told.
        let _ = timeout(LOOK, changed.notified()).await;
    }
}

/// Stores the document unless the store has it, for the store may have lost it.
async fn store(inner: &Inner, told: &mut Told) -> Result<()> {
    let catalog = inner.catalog();
    let of = (catalog.version, kept_from(&catalog));
    if told.of.as_ref() != Some(&of) {
        told.document = serde_json::to_vec(&Shared::of(&catalog))
            .map_err(|error| Error::Internal(error.to_string()))?;
        told.of = Some(of);
    }
    let store = inner.timelines.store();
    if store.document().await?.as_ref() != Some(&told.document) {
        store.store_document(&told.document).await?;
    }
    Ok(())
}

/// Makes the database what the document says, again and again, as long as it is open.
pub async fn follow(inner: Weak<Inner>) {
    let (mut seen, mut failure) = (None, String::new());
    loop {
        let Some(open) = still_open(&inner) else { return };
        let reason = look(&open, &mut seen).await.err().map_or_else(String::new, |e| e.to_string());
        // Twice a second the same reason would be noise.
        if reason != failure && !reason.is_empty() {
            tracing::warn!(reason, "the catalog was not read");
        }
        failure = reason;
        drop(open);
        sleep(LOOK).await;
    }
}

/// Looks at the document once; returns whether there is one. `seen` is what it was before.
pub async fn look(inner: &Inner, seen: &mut Option<Vec<u8>>) -> Result<bool> {
    let Some(bytes) = inner.timelines.store().document().await? else { return Ok(false) };
    if seen.as_ref() == Some(&bytes) {
        return Ok(true);
    }
    let shared: Shared = serde_json::from_slice(&bytes)
        .map_err(|error| Error::definition(format!("the shared catalog can't be read: {error}")))?;
    if shared.format != FORMAT {
        let found = shared.format;
        let what = format!("the shared catalog has format {found}, this version reads {FORMAT}");
        return Err(Error::unsupported(what));
    }
    let old = inner.catalog();
    let data = |id: u32| match old.sources().find(|source| source.id == id) {
        Some(source) => Arc::clone(&source.data),
        None => Arc::new(SourceData::default()),
    };
    let state = inner.planning.state(&Arc::default());
    let catalog = shared.catalog.catalog(&state, &data, &|_| Ok(Connector::Elsewhere))?;
    if catalog.next_id != shared.catalog.next_id() {
        return Err(Error::unsupported("the server that writes has another version"));
    }
    for source in catalog.sources() {
        let kept_from = shared.kept_from.get(&source.id);
        kept_from.into_iter().for_each(|time| source.data.keep_from(*time));
    }
    inner.adopt(catalog).await?;
    *seen = Some(bytes);
    Ok(true)
}

fn still_open(inner: &Weak<Inner>) -> Option<Arc<Inner>> {
    inner.upgrade().filter(|inner| !inner.closing.load(Ordering::SeqCst))
}

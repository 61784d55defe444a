//! Giving up a history that others still hold.

use super::History;

impl History {
    /// Gives up the history after the change that is under way: from now on changes fail with
    /// [`Error::HistoryClosed`](crate::Error::HistoryClosed), on any handle, and a local directory may be
    /// opened again. What holds the history can go on reading.
    pub async fn close(&self) {
        let mut writer = self.inner.writer.lock().await;
        writer.closed = true;
        writer.lock = None;
    }
}

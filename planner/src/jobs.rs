//! Jobs: work that takes long, as `SHOW JOBS` lists it and the log reports it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often the log reports a job that takes long.
const REPORT: Duration = Duration::from_secs(10);

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Online state is filled from the events that are there.
    Fill,
    /// Rows move from the log to the history.
    Checkpoint,
    /// Files of the history become fewer.
    Merge,
    /// The database is copied.
    Backup,
}

impl JobKind {
    /// The kind as users read it.
    pub fn name(self) -> &'static str {
        match self {
            JobKind::Fill => "fill",
            JobKind::Checkpoint => "checkpoint",
            JobKind::Merge => "merge",
            JobKind::Backup => "backup",
        }
    }
}

/// A job, and how far it has come.
#[derive(Debug)]
pub struct Job {
    /// Numbers the jobs of this server from 1.
    pub id: u64,
    /// What it does.
    pub kind: JobKind,
    /// What it does it to.
    pub target: String,
    /// The rows that it goes through; `None` if that is not known.
    pub rows_total: Option<u64>,
    started: Instant,
    rows: AtomicU64,
    /// How many times [`REPORT`] had passed when it was last reported.
    reported: AtomicU64,
}

impl Job {
    /// The rows that it has gone through.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// The time since it began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The jobs that run.
#[derive(Debug, Default)]
pub struct Jobs {
    begun: AtomicU64,
    running: Mutex<BTreeMap<u64, Arc<Job>>>,
}

impl Jobs {
    /// Begins a job. It is listed until what this returns is dropped.
    pub fn begin(
        self: &Arc<Self>,
        kind: JobKind,
        target: impl Into<String>,
        rows_total: Option<u64>,
    ) -> RunningJob {
        let id = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let job = Arc::new(Job {
            id,
            kind,
            target: target.into(),
            rows_total,
            started: Instant::now(),
            rows: AtomicU64::new(0),
            reported: AtomicU64::new(0),
        });
        self.running.lock().insert(id, Arc::clone(&job));
        RunningJob { jobs: Arc::clone(self), job }
    }

    /// The jobs that run now, in the order in which they began.
    pub fn running(&self) -> Vec<Arc<Job>> {
        self.running.lock().values().cloned().collect()
    }
}

/// A job that runs.
#[derive(Debug)]
pub struct RunningJob {
    jobs: Arc<Jobs>,
    job: Arc<Job>,
}

impl RunningJob {
    /// The job.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Says that it has gone through more rows.
    pub fn advance(&self, rows: usize) {
        let job = &self.job;
        let rows = job.rows.fetch_add(rows as u64, Ordering::Relaxed) + rows as u64;
        let periods = job.elapsed().as_secs() / REPORT.as_secs();
        if job.reported.fetch_max(periods, Ordering::Relaxed) < periods {
            let (kind, target) = (job.kind.name(), &job.target);
            tracing::info!(job = job.id, kind, target, rows, of = job.rows_total, "in progress");
        }
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        self.jobs.running.lock().remove(&self.job.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_listed_while_it_runs() {
        let jobs = Arc::new(Jobs::default());
        let fill = jobs.begin(JobKind::Fill, "users from tx", Some(10));
        let merge = jobs.begin(JobKind::Merge, "tx", None);
        fill.advance(3);
        fill.advance(4);
        let seen: Vec<_> = jobs.running().iter().map(|job| (job.id, job.rows())).collect();
        assert_eq!(seen, [(1, 7), (2, 0)]);
        drop(fill);
        assert_eq!(jobs.running()[0].target, "tx");
        drop(merge);
        assert!(jobs.running().is_empty());
    }
}

//! What the generator knows of the events and of the features over them, and whether it is so.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

use crate::definition::{WINDOWS, lookup_sums, total_of_sums};
use crate::workload::{END, Events, instant};
use crate::{Error, agree};

/// Users that a lookup asks for, so many that every shard of the online state is read.
const SAMPLED: usize = 1000;

/// How long state may take until it is complete again.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Events, and features as of the end of the workload.
#[derive(Clone)]
pub struct Known {
    pub events: usize,
    /// Users that have events.
    pub users: usize,
    /// The greatest user that may have events.
    pub last_user: i64,
    sum: f64,
    sampled: Vec<i64>,
    /// The columns of [`lookup_sums`] for each sampled user.
    features: Vec<Vec<Option<f64>>>,
}

impl Known {
    /// Adds up the events of `users` users.
    pub fn of(events: &Events, users: usize) -> Known {
        let sampled = SAMPLED.min(users);
        let sampled: Vec<i64> = (0..sampled).map(|i| (1 + i * users / sampled) as i64).collect();
        let mut features = vec![vec![None; WINDOWS.len() + 2]; sampled.len()];
        features.iter_mut().for_each(|row| row[WINDOWS.len() + 1] = Some(0.0));
        let mut seen = vec![false; users + 1];
        for ((user, ts), amount) in events.user_id.iter().zip(&events.ts).zip(&events.amount) {
            seen[*user as usize] = true;
            let Ok(place) = sampled.binary_search(user) else { continue };
            let within = WINDOWS.iter().map(|window| *ts >= END - window.micros);
            // Sums over the windows, sum of all, count of all.
            let terms = within.map(|within| within.then_some(*amount));
            for (value, term) in
                features[place].iter_mut().zip(terms.chain([Some(*amount), Some(1.0)]))
            {
                *value = term.map_or(*value, |term| Some(value.unwrap_or(0.0) + term));
            }
        }
        Known {
            events: events.len(),
            users: seen.into_iter().filter(|seen| *seen).count(),
            last_user: users as i64,
            sum: events.amount.iter().sum(),
            sampled,
            features,
        }
    }

    /// Adds `events` events of the amount 1 of `users` users that have no others.
    pub fn add(&mut self, users: usize, events: usize) {
        self.users += users;
        self.events += events;
        self.sum += events as f64;
    }

    /// The events and the features of all users and of the sampled ones.
    pub async fn check(&self, client: &Client) -> Result<(), Error> {
        let (events, users) = (Some(self.events as f64), Some(self.users as f64));
        let row = client.query_one("SELECT count(*), sum(amount) FROM events", &[]).await?;
        compare(&row, &[events, Some(self.sum)])?;
        let row = client.query_one(&total_of_sums(&instant(END)), &[]).await?;
        compare(&row, &[users, events, Some(self.sum)])?;
        self.look_up(client).await
    }

    /// A lookup of the sampled users.
    pub async fn look_up(&self, client: &Client) -> Result<(), Error> {
        let rows = client.query(&lookup_sums(&instant(END)), &[&self.sampled]).await?;
        if rows.len() != self.sampled.len() {
            return Err(format!("{} rows of {} users", rows.len(), self.sampled.len()).into());
        }
        rows.iter().zip(&self.features).try_for_each(|(row, features)| compare(row, features))
    }

    /// The same as soon as online state is complete; until then the server may say that it is not.
    pub async fn look_up_when_complete(&self, client: &Client) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let Err(error) = self.look_up(client).await else { return Ok(()) };
            let code = error.downcast_ref().and_then(tokio_postgres::Error::code);
            if code != Some(&SqlState::CANNOT_CONNECT_NOW) || start.elapsed() > PATIENCE {
                return Err(error);
            }
        }
    }
}

/// Whether a row has the numbers that it should. Counts below 100 million are compared exactly: two
/// of them are farther apart than what [`agree::near`] forgives.
fn compare(row: &Row, expected: &[Option<f64>]) -> Result<(), Error> {
    let got = agree::numbers(row)?;
    match got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| agree::near(*a, *b))
    {
        true => Ok(()),
        false => Err(format!("{got:?} instead of {expected:?}").into()),
    }
}

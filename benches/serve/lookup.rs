//! What is looked up: the statements, the keys, and the answers compared.

use rand::rngs::StdRng;
use rand::seq::index::sample;
use rand::{Rng, SeedableRng};

use super::systems::{Running, System};
use crate::definition::{self, PROFILE};
use crate::load;
use crate::wire::{Client, Request};
use crate::workload::{END, Shape, Users, instant};
use crate::{Error, agree};

/// Keys of a lookup of many.
const BATCH: usize = 100;
/// Lookups whose answers are compared before anything is measured.
const CHECKED: usize = 300;
/// What the keys of the profiles in Redis begin with.
pub const REDIS_PREFIX: &str = "profile:";

/// What is looked up.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Lookup {
    /// Ten latest values of a user
    Profile,
    /// Ten latest values of each of a hundred users
    Profiles,
    /// 30 aggregates over five windows of a user
    Windows,
}

/// How it is asked for.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Protocol {
    /// A prepared statement, values binary
    Prepared,
    /// A text for each lookup
    Simple,
}

impl Lookup {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Lookup::Profile => "profile",
            Lookup::Profiles => "profiles ×100",
            Lookup::Windows => "windows",
        }
    }

    /// How a system is asked, if it can be.
    pub fn request(self, protocol: Protocol, system: System) -> Option<Request> {
        let floor = matches!(system, System::Floor | System::FloorRedis | System::Redis);
        let redis = matches!(system, System::FloorRedis | System::Redis);
        if (floor && protocol == Protocol::Simple) || (redis && self == Lookup::Windows) {
            return None;
        }
        if system == System::Redis {
            let fields = match self {
                Lookup::Profiles => [&["user_id"], PROFILE.as_slice()].concat(),
                _ => PROFILE.to_vec(),
            };
            return Some(Request::Redis { prefix: REDIS_PREFIX, fields });
        }
        let sql = match self {
            Lookup::Profile => definition::lookup_profile(),
            Lookup::Profiles => definition::lookup_profiles(),
            Lookup::Windows if system == System::Postgresql => {
                definition::postgres_windowed(&instant(END))
            }
            Lookup::Windows => definition::lookup_windowed(&instant(END)),
        };
        Some(match protocol {
            Protocol::Prepared => Request::Prepared { sql, array: self == Lookup::Profiles },
            Protocol::Simple => Request::Simple { sql: sql.replace("= ANY($1)", "IN ($1)") },
        })
    }
}

/// The keys that a client asks for: by activity for windows, else uniformly.
pub struct Keys {
    lookup: Lookup,
    users: Users,
    count: usize,
    rng: StdRng,
}

impl Keys {
    /// The keys of a lookup; each seed gives others.
    pub fn new(shape: &Shape, lookup: Lookup, seed: u64) -> Result<Keys, Error> {
        let rng = StdRng::seed_from_u64(shape.seed.wrapping_mul(1000).wrapping_add(seed));
        Ok(Keys { lookup, users: Users::new(shape)?, count: shape.users, rng })
    }
}

impl load::Keys for Keys {
    fn draw(&mut self, keys: &mut Vec<i64>) {
        keys.clear();
        match self.lookup {
            Lookup::Windows => keys.push(self.users.draw(&mut self.rng)),
            Lookup::Profile => keys.push(self.rng.random_range(1..=self.count as i64)),
            Lookup::Profiles => {
                let distinct = sample(&mut self.rng, self.count, BATCH.min(self.count));
                keys.extend(distinct.iter().map(|user| user as i64 + 1));
            }
        }
    }
}

/// Compares the answers of all systems with the first one's, the most active users' among them.
/// A floor that does not read answers with as many rows.
pub async fn check(
    shape: &Shape,
    lookup: Lookup,
    protocol: Protocol,
    systems: &[Running],
) -> Result<(), Error> {
    let mut clients = Vec::new();
    for running in systems {
        let Some(request) = lookup.request(protocol, running.system) else { continue };
        clients.push((running.system, Client::connect(&running.address(), request).await?));
    }
    let mut drawn = Keys::new(shape, lookup, 0)?;
    let (mut keys, mut values) = (Vec::new(), 0);
    for i in 0..CHECKED {
        load::Keys::draw(&mut drawn, &mut keys);
        if i < 10 && lookup == Lookup::Windows {
            keys = vec![1 + (i % shape.users) as i64];
        }
        let mut expected: Option<Vec<Option<f64>>> = None;
        for (system, client) in &mut clients {
            let mut rows = client.values(&keys).await?;
            if rows.len() != keys.len() {
                let name = system.name();
                return Err(format!("{} rows of {} keys: {name}", rows.len(), keys.len()).into());
            }
            if *system == System::Floor {
                continue;
            }
            rows.sort_by(|a, b| a[0].partial_cmp(&b[0]).unwrap_or(std::cmp::Ordering::Equal));
            let row = rows.concat();
            let first = expected.get_or_insert_with(|| row.clone());
            let near = first.iter().zip(&row).all(|(a, b)| agree::near(*a, *b));
            if first.len() != row.len() || !near {
                let (lookup, name) = (lookup.name(), system.name());
                return Err(format!("{lookup} of {keys:?}: {first:?}, {row:?} from {name}").into());
            }
            values += row.len();
        }
    }
    println!("\n{values} values of {} agree", lookup.name());
    Ok(())
}

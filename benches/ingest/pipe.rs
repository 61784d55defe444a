//! `redis-cli --pipe`: each event is added to a sum in each of five hashes, one for each window's
//! tile of time. That is what one keeps by hand for sums that are rounded to tiles.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use asofdb_tests::redis::RedisServer;

use super::Sample;
use crate::definition::WINDOWS;
use crate::process::redis_usage;
use crate::workload::Events;
use crate::{Error, agree};

/// Tiles of each window.
const TILES: i64 = 30;

/// Adds the first `count` events.
pub fn measure(redis: &RedisServer, events: &Events, count: usize) -> Result<Sample, Error> {
    let count = count.min(events.len());
    let flushed = redis.command("FLUSHALL")?;
    if flushed != "+OK" {
        return Err(format!("FLUSHALL: {flushed}").into());
    }
    // The commands are made beforehand: that is no work of Redis.
    let file = tempfile::NamedTempFile::new()?;
    let mut out = BufWriter::new(File::create(file.path())?);
    for i in 0..count {
        for window in 0..WINDOWS.len() {
            let words =
                ["HINCRBYFLOAT", &key(events, i, window), "sum", &events.amount[i].to_string()];
            write!(out, "*{}\r\n", words.len())?;
            for word in words {
                write!(out, "${}\r\n{word}\r\n", word.len())?;
            }
        }
    }
    out.flush()?;
    drop(out);

    let (before, start) = (redis_usage(redis)?, Instant::now());
    let mut command = Command::new("redis-cli");
    command
        .args(["-p", &redis.port().to_string(), "--pipe"])
        .stdin(Stdio::from(File::open(file.path())?));
    let output = command.output()?;
    let seconds = start.elapsed().as_secs_f64();
    let after = redis_usage(redis)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !said.contains(&format!("errors: 0, replies: {}", count * WINDOWS.len())) {
        return Err(format!("redis-cli --pipe: {said}").into());
    }
    check(redis, events, count)?;
    let of_million = |seconds: f64| seconds * 1e6 / count as f64;
    Ok(Sample {
        per_second: count as f64 / seconds,
        user_s: of_million(after.user_s - before.user_s),
        system_s: of_million(after.system_s - before.system_s),
        resident_mb: after.resident_mb,
    })
}

/// The hash of an event's tile of a window.
fn key(events: &Events, event: usize, window: usize) -> String {
    let tile = events.ts[event] / (WINDOWS[window].micros / TILES);
    format!("{}:{}:{tile}", WINDOWS[window].name, events.user_id[event])
}

/// The sums of the first event's tiles are right.
fn check(redis: &RedisServer, events: &Events, count: usize) -> Result<(), Error> {
    for window in 0..WINDOWS.len() {
        let wanted = key(events, 0, window);
        let same = (0..count).filter(|i| key(events, *i, window) == wanted);
        let sum: f64 = same.map(|i| events.amount[i]).sum();
        let got = redis.command(&format!("HGET {wanted} sum"))?;
        if !agree::near(got.parse().ok(), Some(sum)) {
            return Err(format!("{wanted} is {got} instead of {sum}").into());
        }
    }
    Ok(())
}

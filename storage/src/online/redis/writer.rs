//! Who writes: the database's record, with the writer's lease and epoch.
//!
//! Fields of the hash `<prefix>:{database}`: `format`, `database` (the id), `shards`, `generation`
//! (16 bytes), `epoch`, `token` (of the one process that has this epoch), `holder` (its name),
//! `until` (when its lease ends, in milliseconds of Redis's clock) and `document` (what the writer
//! has to tell the readers; the catalog, say).
//!
//! 1. A writer opens: the record is another's, or a lease of another holder is alive: refused.
//!    Otherwise it gets the next epoch. A holder may follow itself: it is one server restarted.
//! 2. It stamps its epoch on every shard. From then on the earlier writer changes nothing.
//! 3. It renews its lease. If the record was lost with everything else, renewing restores it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use redis::Value;

use super::Redis;
use super::layout::{FORMAT, Generation};
use super::script::{Call, Code};
use super::witness::Change;
use crate::error::Error;
use crate::online::cell::Cell;

/// Who wants to write.
#[derive(Debug, Clone)]
pub struct Writer {
    /// The id of the database; the state of another one is refused.
    pub database: String,
    /// A name for this server that stays the same when it is restarted, and that no other server
    /// has: say, its host and its data directory.
    pub holder: String,
    /// How long others wait after this writer was last heard of.
    pub lease: Duration,
}

/// A writer that was let in.
#[derive(Debug)]
pub(super) struct Writing {
    writer: Writer,
    token: String,
    pub(super) epoch: u64,
    pub(super) generation: Generation,
}

/// What to do with the record.
enum Keep {
    Renew,
    Release,
    Add(u32),
    Remove(u32),
    Document(Vec<u8>),
}

impl<C: Cell> Redis<C> {
    /// This writer's epoch; `None` for a reader.
    pub fn epoch(&self) -> Option<u64> {
        self.writing.as_ref().map(|writing| writing.epoch)
    }

    /// How many connections were made for writing. After a new one Redis may be another, or have
    /// forgotten something: a writer that sees this number grow asks for the coverage of its
    /// spaces. It grows at the latest at a [`renew`](Self::renew).
    pub fn connections(&self) -> u64 {
        self.writes.made()
    }

    /// Makes the lease last as long as it did at first, from now on. To be called a few times in
    /// every lease.
    ///
    /// # Errors
    /// [`Error::StateFenced`] if another process has taken over; then writing has to stop.
    pub async fn renew(&self) -> Result<(), Error> {
        self.keep(Keep::Renew).await
    }

    /// Ends the lease, so that another server need not wait for it.
    ///
    /// # Errors
    /// As [`renew`](Self::renew).
    pub async fn release(&self) -> Result<(), Error> {
        self.keep(Keep::Release).await
    }

    /// The spaces that may have state in Redis, also those this process has not created: the
    /// caller drops those that it does not know.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`], [`Error::StoreDenied`].
    pub async fn stored_spaces(&self) -> Result<Vec<u32>, Error> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(self.names.spaces());
        let value = self.writes.call(Call::Plain(command)).await?;
        let mut spaces = Vec::new();
        for member in texts(&value)? {
            let unexpected = |_| Error::StoreAnswer { reason: format!("a space named {member:?}") };
            spaces.push(member.parse().map_err(unexpected)?);
        }
        spaces.sort_unstable();
        Ok(spaces)
    }

    /// Registers a space whose shards are about to be written.
    pub(super) async fn keep_with_space(&self, space: u32) -> Result<(), Error> {
        self.keep(Keep::Add(space)).await
    }

    pub(super) async fn keep_without_space(&self, space: u32) -> Result<(), Error> {
        self.keep(Keep::Remove(space)).await
    }

    /// Keeps a document in the record.
    pub(super) async fn store_document(&self, document: &[u8]) -> Result<(), Error> {
        self.keep(Keep::Document(document.to_vec())).await
    }

    /// A field of the record.
    pub(super) async fn record_field(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut command = redis::cmd("HGET");
        command.arg(self.names.database()).arg(name);
        match self.reads.call(Call::Plain(command)).await? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(bytes)),
            other => Err(unexpected(&other)),
        }
    }

    async fn keep(&self, what: Keep) -> Result<(), Error> {
        let writing = self.writing()?;
        let (what, subject) = match what {
            Keep::Renew => ("keep", Vec::new()),
            Keep::Release => ("release", Vec::new()),
            Keep::Add(space) => ("add", space.to_string().into_bytes()),
            Keep::Remove(space) => ("remove", space.to_string().into_bytes()),
            Keep::Document(document) => ("document", document),
        };
        let mut args = self.record_args(what, &writing.writer, &writing.token);
        args.push(writing.epoch.to_string().into_bytes());
        args.push(writing.generation.to_vec());
        args.push(subject);
        let value = self.writes.call(self.record_call(args)).await?;
        self.record_answer(&value, &writing.writer, writing.epoch).map(drop)
    }

    /// Takes the next epoch; the shards have yet to be stamped with it.
    pub(super) async fn take_over(&self, writer: &Writer) -> Result<(Writing, Generation), Error> {
        let token = random().map(|byte| format!("{byte:02x}")).concat();
        let mut args = self.record_args("open", writer, &token);
        args.push(b"0".to_vec());
        args.push(random().to_vec());
        args.push(b"0".to_vec());
        let value = self.writes.call(self.record_call(args)).await?;
        let (epoch, generation) = self.record_answer(&value, writer, 0)?;
        Ok((Writing { writer: writer.clone(), token, epoch, generation }, generation))
    }

    pub(super) async fn stamp_everything(&self) -> Result<(), Error> {
        for space in self.stored_spaces().await? {
            let shards: Vec<u32> = (0..self.names.shards()).collect();
            self.change_witnesses(space, &shards, &Change::Stamp).await?;
        }
        Ok(())
    }

    /// What the record says the generation is; `None` if nobody has written yet.
    pub(super) async fn recorded_generation(&self) -> Result<Option<Generation>, Error> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.names.database()).arg(&["format", "database", "shards", "generation"]);
        let value = self.reads.call(Call::Plain(command)).await?;
        let fields = array(&value)?;
        let [format, database, shards, generation] = fields else {
            return Err(unexpected(&value));
        };
        let Value::BulkString(generation) = generation else { return Ok(None) };
        let expected = [
            ("format", format, FORMAT.to_string()),
            ("database", database, self.database.clone()),
            ("shards", shards, self.names.shards().to_string()),
        ];
        for (what, found, expected) in expected {
            let found = text(found)?;
            if found != expected {
                let prefix = self.names.prefix().to_owned();
                return Err(Error::ForeignState { prefix, what, found, expected });
            }
        }
        let generation = generation.as_slice().try_into().map_err(|_| unexpected(&value))?;
        Ok(Some(generation))
    }

    /// Refuses a server that may evict our keys. Policies for keys that expire are none of ours.
    pub(super) async fn refuse_eviction(&self) -> Result<(), Error> {
        let mut command = redis::cmd("INFO");
        command.arg("memory");
        let value = self.writes.call(Call::Plain(command)).await?;
        let mut found = String::new();
        collect_text(&value, &mut found);
        let policies =
            found.lines().filter_map(|line| line.trim().strip_prefix("maxmemory_policy:"));
        match policies.into_iter().find(|policy| policy.starts_with("allkeys")) {
            Some(policy) => Err(Error::StoreEvicts { policy: policy.to_owned() }),
            None => Ok(()),
        }
    }

    fn record_call(&self, args: Vec<Vec<u8>>) -> Call {
        Call::script(Code::Writer, [self.names.database(), self.names.spaces()], args)
    }

    fn record_args(&self, what: &str, writer: &Writer, token: &str) -> Vec<Vec<u8>> {
        let lease_ms = writer.lease.as_millis().to_string();
        let format = FORMAT.to_string();
        let shards = self.names.shards().to_string();
        let args = [what, &format, &writer.database, &shards, token, &writer.holder, &lease_ms];
        args.map(|arg| arg.as_bytes().to_vec()).to_vec()
    }

    fn record_answer(
        &self,
        value: &Value,
        writer: &Writer,
        epoch: u64,
    ) -> Result<(u64, Generation), Error> {
        let fields = array(value)?;
        let field = |index: usize| text(fields.get(index).unwrap_or(&Value::Nil));
        let number = |index| field(index)?.parse::<u64>().map_err(|_| unexpected(value));
        let prefix = self.names.prefix().to_owned();
        let foreign = |what, found, expected| Error::ForeignState {
            prefix: prefix.clone(),
            what,
            found,
            expected,
        };
        match field(0)?.as_str() {
            "OK" => match fields.get(2) {
                Some(Value::BulkString(bytes)) if bytes.len() == 16 => {
                    let mut generation = [0; 16];
                    generation.copy_from_slice(bytes);
                    Ok((number(1)?, generation))
                }
                _ => Err(unexpected(value)),
            },
            "FORMAT" => Err(foreign("format", field(1)?, FORMAT.to_string())),
            "DATABASE" => Err(foreign("database", field(1)?, writer.database.clone())),
            "SHARDS" => Err(foreign("shards", field(1)?, self.names.shards().to_string())),
            "LEASED" => Err(Error::WriterLeased { prefix, holder: field(1)?, left_ms: number(2)? }),
            "FENCED" => Err(Error::StateFenced { prefix, epoch, present: number(1)? }),
            _ => Err(unexpected(value)),
        }
    }
}

/// Random bytes from the operating system, as the standard library takes them for its hash tables:
/// enough to tell generations and processes apart, no secret.
pub(super) fn random() -> [u8; 16] {
    let mut out = [0; 16];
    for half in out.chunks_mut(8) {
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_be_bytes());
    }
    out
}

pub(super) fn unexpected(value: &Value) -> Error {
    // Only the shape: values are users' data.
    let shape = match value {
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::BulkString(bytes) => format!("{} bytes", bytes.len()),
        Value::Nil => "nothing".to_owned(),
        _ => "another type".to_owned(),
    };
    Error::StoreAnswer { reason: format!("{shape}, which a script of ours does not answer") }
}

pub(super) fn array(value: &Value) -> Result<&[Value], Error> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        _ => Err(unexpected(value)),
    }
}

pub(super) fn text(value: &Value) -> Result<String, Error> {
    match value {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Ok(text.clone()),
        Value::Okay => Ok("OK".to_owned()),
        Value::Int(number) => Ok(number.to_string()),
        _ => Err(unexpected(value)),
    }
}

fn texts(value: &Value) -> Result<Vec<String>, Error> {
    array(value)?.iter().map(text).collect()
}

/// Everything that is text in the answers of one or many nodes.
fn collect_text(value: &Value, out: &mut String) {
    match value {
        Value::BulkString(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => out.push_str(text),
        Value::Array(items) => items.iter().for_each(|item| collect_text(item, out)),
        Value::Map(pairs) => pairs.iter().for_each(|(_, item)| collect_text(item, out)),
        _ => {}
    }
    out.push('\n');
}

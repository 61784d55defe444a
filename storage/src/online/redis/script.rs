//! The scripts, and calls of them. A script runs in Redis as one step; it names its keys, which
//! share a slot, so a call goes to one node of a cluster.

use std::sync::LazyLock;

use redis::{Cmd, Script};

/// A script of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Apply,
    Fold,
    Keys,
    Lookup,
    Witness,
    Writer,
}

static APPLY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("apply.lua")));
static FOLD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("fold.lua")));
static KEYS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("keys.lua")));
static LOOKUP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lookup.lua")));
static WITNESS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("witness.lua")));
static WRITER: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("writer.lua")));

/// The text of each, for a node that does not have it yet.
const fn source(code: Code) -> &'static str {
    match code {
        Code::Apply => include_str!("apply.lua"),
        Code::Fold => include_str!("fold.lua"),
        Code::Keys => include_str!("keys.lua"),
        Code::Lookup => include_str!("lookup.lua"),
        Code::Witness => include_str!("witness.lua"),
        Code::Writer => include_str!("writer.lua"),
    }
}

fn script(code: Code) -> &'static Script {
    match code {
        Code::Apply => &APPLY,
        Code::Fold => &FOLD,
        Code::Keys => &KEYS,
        Code::Lookup => &LOOKUP,
        Code::Witness => &WITNESS,
        Code::Writer => &WRITER,
    }
}

/// Something to send to Redis, and to send again: every one is idempotent.
#[derive(Debug)]
pub(super) enum Call {
    /// A command.
    Plain(Cmd),
    /// A script. In a cluster its keys have one slot.
    Script { code: Code, keys: Vec<Vec<u8>>, args: Vec<Vec<u8>> },
}

impl Call {
    pub(super) fn script(code: Code, keys: [Vec<u8>; 2], args: Vec<Vec<u8>>) -> Call {
        Call::Script { code, keys: keys.into(), args }
    }

    /// The command; `whole` sends a script's text instead of its hash, which also loads it.
    pub(super) fn command(&self, whole: bool) -> Cmd {
        let (code, keys, args) = match self {
            Call::Plain(command) => return command.clone(),
            Call::Script { code, keys, args } => (*code, keys, args),
        };
        let mut command = if whole {
            let mut command = redis::cmd("EVAL");
            command.arg(source(code));
            command
        } else {
            let mut command = redis::cmd("EVALSHA");
            command.arg(script(code).get_hash());
            command
        };
        command.arg(keys.len());
        keys.iter().chain(args).for_each(|arg| {
            command.arg(arg);
        });
        command
    }
}

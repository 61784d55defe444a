//! The rules of the tree that a machine can check, one test each.
//!
//! A test names every place that breaks its rule. Exceptions stand in the tables below with their
//! reasons; one that is not needed any more is reported, too. Files are read as text, so nothing is
//! linked. Rules about code skip comments, and this file, which has to name what it forbids.

#[path = "tidy/document.rs"]
mod document;
#[path = "tidy/manifest.rs"]
mod manifest;
#[path = "tidy/tree.rs"]
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use document::{anchors, documents, join, links, paths};
use manifest::{dependencies, manifest, members};
use tree::{File, TREE, glob, mentions, products, sources, within};

/// The most lines of a file, and the most without a reason.
const LINES_MAX: usize = 800;
const LINES_USUAL: usize = 500;

/// Longer than usual, and why.
const LONG: &[(&str, &str)] = &[
    ("tests/equivalence/generate.rs", "every type, aggregate and frame, drawn at random"),
    ("tests/equivalence/check.rs", "one runner: it fills a database and reads it both ways"),
];

/// Columns beyond rustfmt's width for what it cannot break: texts, macros.
const WIDTH_SLACK: usize = 20;

/// Names that say nothing of what a file is about.
const EMPTY_NAMES: &[&str] = &["mod", "common", "util", "utils", "helper", "helpers", "misc"];

/// For each package of the workspace, by its folder, those that it may depend on.
const EDGES: &[(&str, &[&str])] = &[
    ("sql", &[]),
    ("udfs", &[]),
    ("storage", &[]),
    ("planner", &["sql", "udfs", "storage"]),
    // `sql` for parsed statements; `udfs` and `storage` for their errors only: see MENTIONS;
    // `tests` for its crash test, which cargo would refuse elsewhere, as a cycle.
    ("server", &["planner", "sql", "udfs", "storage", "tests"]),
    ("tests", &["server"]),
    // What is measured apart from the whole.
    ("benches", &["server", "tests", "sql", "udfs", "storage"]),
];

/// Packages of others that only some of ours may depend on.
const OWNERS: &[(&str, &[&str])] = &[
    // The benchmarks' floors are what these can do by themselves.
    ("pgwire", &["server", "benches"]),
    ("postgres-types", &["server"]),
    // DataFusion hands `FROM` clauses to the planner as sqlparser's trees.
    ("sqlparser", &["sql", "planner"]),
    ("datafusion", &["planner", "server", "benches"]),
    ("redis", &["storage", "benches"]),
    ("object_store", &["storage", "planner"]),
    ("parquet", &["storage", "planner", "server", "tests", "benches"]),
    ("tokio", &["storage", "planner", "server", "tests", "benches"]),
    ("rand", &["server", "tests", "benches"]),
];

/// Names that only some files (or folders, with a `/` at the end) may mention in their code.
const MENTIONS: &[(&str, &[&str])] = &[
    // DataFusion reads the history through the store; Parquet files of others come and go here.
    (
        "object_store::",
        &[
            "storage/",
            "planner/src/planning.rs",
            "planner/src/reading.rs",
            "planner/src/source_table.rs",
        ],
    ),
    (
        "parquet::",
        &[
            "storage/",
            "planner/src/reading.rs",
            "planner/src/source_file.rs",
            "planner/src/statement/copy.rs",
            "server/src/quickstart/check.rs",
            "tests/",
            "benches/",
        ],
    ),
    ("asofdb_udfs::", &["udfs/", "planner/src/", "server/src/sqlstate.rs", "benches/"]),
    ("asofdb_storage::", &["storage/", "planner/src/", "server/src/sqlstate.rs", "benches/"]),
    ("CatalogFile", &["storage/", "planner/src/database.rs", "planner/src/statement/backup.rs"]),
    ("std::net", &["server/", "storage/tests/", "tests/", "benches/"]),
    ("tokio::net", &["server/", "storage/tests/", "tests/", "benches/"]),
    ("std::fs", &["storage/", "planner/src/", "server/", "tests/", "benches/"]),
    ("RandomState", &["storage/src/"]),
];

/// What reads the clock of the wall: nothing but this. All else is told the time.
const WALL_CLOCK: &[&str] =
    &["Utc::now", "Local::now", "SystemTime", "UNIX_EPOCH", "mark_start_execution"];
const READS_WALL_CLOCK: &[(&str, &str)] =
    &[("planner/src/planning.rs", "the one now() of a statement, which DataFusion takes")];

/// What measures durations.
const STOPWATCH: &[&str] = &["Instant::now"];
const READS_STOPWATCH: &[(&str, &str)] = &[
    ("planner/src/jobs.rs", "how long a job has taken"),
    ("server/src/connection/rows.rs", "the deadline that statement_timeout sets"),
    ("server/src/quickstart.rs", "the seconds in front of the story's lines"),
];

/// What starts a task or a thread.
const SPAWN: &[&str] = &[
    "tokio::spawn",
    "task::spawn",
    "spawn_blocking",
    "spawn_local",
    "JoinSet",
    "thread::spawn",
    "thread::scope",
    "thread::Builder",
];
const SPAWNS: &[(&str, &str)] = &[
    ("sql/src/parser.rs", "nested text is parsed on a large stack, and waited for"),
    ("storage/src/online/embedded_store.rs", "cells of a large batch are changed side by side"),
    ("storage/src/log.rs", "the log's writer, which the log joins when it closes"),
    ("storage/src/history/target.rs", "the history's one place for work that blocks"),
    ("planner/src/task.rs", "the planner's one place"),
    ("planner/src/parquet_scan.rs", "DataFusion's stream owns the reader and ends it when dropped"),
    ("server/src/task.rs", "the server's one place"),
];

/// Left-overs.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];

#[test]
fn files_say_what_they_are() {
    let silent = sources().filter(|file| !file.text.starts_with("//! "));
    let broken = silent.map(|file| file.at(1, "the first line is not a `//!` comment"));
    report("Every .rs file begins with `//!`: what it is, and what it does not know.", broken);
}

#[test]
fn file_names_have_a_meaning() {
    let stem = |part: &str| part.strip_suffix(".rs").unwrap_or(part).to_owned();
    let broken = sources().filter_map(|file| {
        let name = file.path.split('/').map(stem).find(|s| EMPTY_NAMES.contains(&s.as_str()))?;
        Some(file.at(1, &format!("`{name}` says nothing of what is in it")))
    });
    report("`foo.rs` beside `foo/`; no mod.rs, no common, no utils, no helpers.", broken);
}

#[test]
fn files_are_short() {
    let mut unused: BTreeSet<&str> = LONG.iter().map(|(path, _)| *path).collect();
    let mut broken = Vec::new();
    for file in sources() {
        let lines = file.text.lines().count();
        let excused = lines > LINES_USUAL && unused.remove(file.path.as_str());
        if lines > LINES_MAX || (lines > LINES_USUAL && !excused) {
            broken.push(file.at(lines, &format!("{lines} lines; split it, or list it in LONG")));
        }
    }
    broken.extend(unused.iter().map(|path| format!("{path}: not long, take it off LONG")));
    let rule = format!("At most {LINES_USUAL} lines, with a reason {LINES_MAX}.");
    report(&rule, broken);
}

#[test]
fn lines_are_short() {
    let width = TREE.get("rustfmt.toml").and_then(|file| {
        let lines = file.text.lines();
        lines.filter_map(|line| line.strip_prefix("max_width = ")?.parse().ok()).next()
    });
    let limit = width.unwrap_or(100) + WIDTH_SLACK;
    let broken = sources().flat_map(|file| {
        let lines = file.text.lines().zip(1..).map(|(line, number)| (line.chars().count(), number));
        lines.filter(move |(columns, _)| *columns > limit).map(|(columns, number)| {
            file.at(number, &format!("{columns} columns; break the text with `\\`"))
        })
    });
    report(&format!("At most {limit} columns: rustfmt's width and {WIDTH_SLACK} more."), broken);
}

#[test]
fn packages_depend_one_way() {
    let edges: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut broken = Vec::new();
    let listed: BTreeSet<String> = edges.keys().map(|name| (*name).to_owned()).collect();
    for member in members().symmetric_difference(&listed) {
        broken.push(format!("Cargo.toml: \"{member}\" is a member or in EDGES, but not both"));
    }
    for (member, allowed) in edges {
        for dependency in dependencies(member) {
            let Some(other) = dependency.package.strip_prefix("asofdb-") else { continue };
            if !allowed.contains(&other) {
                broken.push(dependency.at(&format!("{member} must not know {other}")));
            }
        }
    }
    report("server → planner → {sql, udfs, storage}; the last three know no other.", broken);
}

#[test]
fn packages_of_others_have_owners() {
    let mut broken = Vec::new();
    for member in members() {
        for dependency in dependencies(&member).into_iter().filter(|d| !d.for_tests) {
            let package = &dependency.package;
            let owners = OWNERS.iter().find(|(owned, _)| *owned == package);
            if owners.is_some_and(|(_, owners)| !owners.contains(&member.as_str())) {
                broken.push(dependency.at(&format!("{member} must not know {package}")));
            }
        }
    }
    report("Only storage knows Redis, only server the protocol, and so on: see OWNERS.", broken);
}

#[test]
fn packages_take_the_lints() {
    let manifests = members().into_iter().filter_map(|member| manifest(&member));
    let broken = manifests
        .filter(|file| !file.text.contains("[lints]\nworkspace = true\n"))
        .map(|file| file.at(1, "there is no `[lints] workspace = true`"));
    report("Every package takes the lints of the workspace.", broken);
}

#[test]
fn names_stay_where_they_belong() {
    let mut broken = Vec::new();
    for (name, allowed) in MENTIONS {
        let mut unused: BTreeSet<&str> =
            allowed.iter().copied().filter(|path| path.ends_with(".rs")).collect();
        for file in sources().filter(|file| file.path != THIS) {
            for (line, _) in file.code().iter().filter(|(_, code)| mentions(code, name)) {
                unused.remove(file.path.as_str());
                let inside = |place: &&str| match place.ends_with('/') {
                    true => file.path.starts_with(*place),
                    false => file.path == **place,
                };
                if !allowed.iter().any(inside) {
                    broken.push(file.at(*line, &format!("`{name}` is named in {allowed:?} only")));
                }
            }
        }
        let gone = unused.iter().map(|path| format!("{path}: does not name `{name}` any more"));
        broken.extend(gone);
    }
    report("A library is named only where MENTIONS says.", broken);
}

#[test]
fn time_is_told() {
    let everywhere: Vec<&File> = sources().filter(|file| file.path != THIS).collect();
    let broken = found_elsewhere(WALL_CLOCK, READS_WALL_CLOCK, File::code, everywhere);
    report("Nothing reads the clock but what READS_WALL_CLOCK lists.", broken);
}

#[test]
fn durations_are_measured_in_few_places() {
    let broken = found_elsewhere(STOPWATCH, READS_STOPWATCH, File::product, products());
    report("Outside of tests durations are measured only where READS_STOPWATCH says.", broken);
}

#[test]
fn tasks_are_spawned_in_few_places() {
    let broken = found_elsewhere(SPAWN, SPAWNS, File::product, products());
    report("Outside of tests tasks are spawned in one file of a package; see SPAWNS.", broken);
}

#[test]
fn nothing_is_left_unfinished() {
    let everywhere: Vec<&File> = sources().filter(|file| file.path != THIS).collect();
    let broken = found_elsewhere(UNFINISHED, &[], File::code, everywhere);
    report("No todo!, no dbg!, no ignored test.", broken);
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for file in documents() {
        for (line, target) in links(&file.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if path.is_empty() { file.path.clone() } else { join(&file.path, path) };
            let page = TREE.get(path.as_str());
            let folder = || TREE.keys().any(|other| within(other, path.trim_end_matches('/')));
            if page.is_none() && !folder() {
                broken.push(file.at(line, &format!("there is no {path}")));
            } else if !anchor.is_empty()
                && page.is_none_or(|page| !anchors(&page.text).contains(anchor))
            {
                broken.push(file.at(line, &format!("{path} has no heading #{anchor}")));
            }
        }
    }
    report("Relative links of documents lead to files and headings that exist.", broken);
}

#[test]
fn documents_are_linked() {
    let mut linked: BTreeSet<String> = BTreeSet::from(["README.md".to_owned()]);
    for file in documents() {
        let targets = links(&file.text).into_iter().map(|(_, target)| target);
        linked.extend(targets.map(|t| join(&file.path, t.split('#').next().unwrap_or(&t))));
    }
    let broken = documents().filter(|file| !linked.contains(&file.path));
    let broken = broken.map(|file| file.at(1, "no other document links to it"));
    report("Every document can be reached from another one.", broken);
}

#[test]
fn documents_name_files_that_exist() {
    let packages = members();
    let mut broken = Vec::new();
    for file in documents() {
        for (line, section, path) in paths(&file.text, &packages) {
            let known = TREE.keys().any(|other| match &section {
                _ if glob(path.as_bytes(), other.as_bytes()) => true,
                Some(package) => glob(format!("{package}/src/{path}").as_bytes(), other.as_bytes()),
                None => glob(format!("**/{path}").as_bytes(), other.as_bytes()),
            });
            if !known {
                broken.push(file.at(line, &format!("there is no file {path}")));
            }
        }
    }
    report("Files that documents name in backticks exist.", broken);
}

#[test]
fn make_knows_its_targets() {
    let file = &TREE["Makefile"];
    let mut phony = BTreeMap::new();
    let mut rules = BTreeMap::new();
    for (line, number) in file.text.lines().zip(1..) {
        let Some((targets, rest)) = line.split_once(':') else { continue };
        if targets == ".PHONY" {
            phony.extend(rest.split_whitespace().map(|name| (name, number)));
        } else if !line.starts_with(['\t', '#', '.']) && !rest.starts_with('=') {
            rules.extend(targets.split_whitespace().map(|name| (name, number)));
        }
    }
    let ruleless = phony.iter().filter(|(name, _)| !rules.contains_key(*name));
    let mut broken: Vec<String> = ruleless
        .map(|(name, line)| file.at(*line, &format!("there is no rule for `{name}`")))
        .collect();
    let files = rules.iter().filter(|(name, _)| !phony.contains_key(*name));
    broken.extend(files.map(|(name, line)| file.at(*line, &format!("`{name}` is not .PHONY"))));
    report("Every phony target has a rule, and the other way round.", broken);
}

/// This file, as `File::path` has it.
const THIS: &str = "tests/tidy.rs";

/// Fails with the places that break a rule.
#[track_caller]
fn report(rule: &str, broken: impl IntoIterator<Item = String>) {
    let broken: Vec<String> = broken.into_iter().collect();
    assert!(broken.is_empty(), "{rule}\n{}", broken.join("\n"));
}

/// Where one of `patterns` is found in a file that is not listed; files listed for nothing.
fn found_elsewhere<'a>(
    patterns: &[&str],
    listed: &[(&str, &str)],
    code: fn(&'a File) -> Vec<(usize, &'a str)>,
    files: Vec<&'a File>,
) -> Vec<String> {
    let mut unused: BTreeSet<&str> = listed.iter().map(|(path, _)| *path).collect();
    let mut broken = Vec::new();
    for file in files {
        for (line, code) in code(file) {
            let Some(found) = patterns.iter().find(|pattern| mentions(code, pattern)) else {
                continue;
            };
            unused.remove(file.path.as_str());
            if !listed.iter().any(|(path, _)| *path == file.path) {
                broken.push(file.at(line, &format!("`{found}`")));
            }
        }
    }
    broken.extend(unused.iter().map(|path| format!("{path}: listed, but has none any more")));
    broken
}

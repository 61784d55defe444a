//! Markdown, as far as the rules ask: links, headings, names of files.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{File, TREE};

/// What a path ends with if it names a file of this repository.
const PATH_ENDS: &[&str] = &[".rs", ".slt", ".sql", ".md", ".toml", ".sh", ".py"];

/// The pages for readers.
pub fn documents() -> impl Iterator<Item = &'static File> {
    TREE.values().filter(|file| {
        let path = file.path.as_str();
        matches!(path, "README.md" | "CHANGELOG.md")
            || (path.starts_with("docs/") && path.ends_with(".md"))
    })
}

/// The lines of a document that are not in a fenced block, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((number, line))
    })
}

/// The targets of a document's links `[text](target)` and `[text]: target`.
pub fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // Code spans have no links in them.
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let inline = plain.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        found.extend(inline.map(|target| (number, target.to_owned())));
        let reference = plain.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        found.extend(reference.map(|(_, target)| (number, target.trim().to_owned())));
    }
    found
}

/// The anchors that a document's headings make, as GitHub names them.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(text).filter_map(|(_, line)| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| title.strip_prefix(' '))?
    });
    let slug = |title: &str| -> String {
        let kept = title.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    let numbered = headings.map(|title| {
        let slug = slug(title);
        let times = seen.entry(slug.clone()).and_modify(|times| *times += 1).or_insert(0);
        if *times == 0 { slug } else { format!("{slug}-{times}") }
    });
    numbered.collect()
}

/// The path of a link in the document `from`, from the root.
pub fn join(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." => {}
            // Beyond the root there is nothing to link to.
            ".." if parts.last().is_none_or(|last| *last == "..") => parts.push(".."),
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The files that a document names in backticks: line, the one of `packages` whose section it is
/// in, path. Names without a `/` count if they are sources; patterns such as `<name>.rs` do not.
pub fn paths(text: &str, packages: &BTreeSet<String>) -> Vec<(usize, Option<String>, String)> {
    let mut found = Vec::new();
    let mut section = None;
    for (number, line) in prose(text) {
        if line.starts_with('#') {
            let title = line.trim_start_matches('#').trim();
            section = packages.get(title).cloned();
        }
        for word in line.split('`').skip(1).step_by(2).flat_map(str::split_whitespace) {
            let is_path = PATH_ENDS.iter().any(|end| word.ends_with(end))
                && (word.contains('/') || word.ends_with(".rs"))
                && !word.contains(['<', '$', '\'', '"']);
            if is_path {
                found.push((number, section.clone(), word.to_owned()));
            }
        }
    }
    found
}

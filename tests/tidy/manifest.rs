//! The workspace's manifests, as far as the rules ask: members and dependencies.

use std::collections::BTreeSet;

use crate::tree::{File, TREE};

/// The folders of the workspace's packages.
pub fn members() -> BTreeSet<String> {
    let text = TREE.get("Cargo.toml").map_or("", |file| &file.text);
    let list = text.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
    let quoted = list.unwrap_or_default().split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// A package's manifest.
pub fn manifest(member: &str) -> Option<&'static File> {
    TREE.get(&format!("{member}/Cargo.toml"))
}

/// A line of a manifest that names another package.
pub struct Dependency {
    manifest: &'static File,
    line: usize,
    /// The package's name.
    pub package: String,
    /// Whether only tests have it.
    pub for_tests: bool,
}

impl Dependency {
    /// The line and what is wrong there.
    pub fn at(&self, what: &str) -> String {
        self.manifest.at(self.line, what)
    }
}

/// What a package's manifest depends on: `name = …` in a section of dependencies, or a section
/// `[dependencies.name]`; a `package = "name"` that renames comes first.
pub fn dependencies(member: &str) -> Vec<Dependency> {
    let Some(manifest) = manifest(member) else { return Vec::new() };
    let mut found = Vec::new();
    let mut section = "";
    for (text, line) in manifest.text.lines().zip(1..) {
        if let Some(header) = text.strip_prefix('[') {
            section = header.trim_end_matches(']');
        }
        let Some(at) = section.rfind("dependencies") else { continue };
        let for_tests = section[..at].ends_with("dev-");
        let own_section = section[at..].strip_prefix("dependencies.");
        let renamed = text.split("package = \"").nth(1).and_then(|rest| rest.split('"').next());
        let package = match (own_section, renamed) {
            (_, Some(package)) => package,
            (Some(name), None) if text.starts_with('[') => name,
            (None, None) if !text.starts_with(['[', '#', ' ']) => {
                text.split(['=', '.']).next().unwrap_or_default().trim()
            }
            _ => continue,
        };
        if !package.is_empty() {
            found.push(Dependency { manifest, line, package: package.to_owned(), for_tests });
        }
    }
    found
}

//! The repository as files of text, and what a line of code is.
//!
//! It knows no rule.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Ends of the names of files whose text the rules read.
const READ: &[&str] = &[".rs", ".md", ".toml"];

/// A file of the repository.
pub struct File {
    /// From the root, with `/`.
    pub path: String,
    /// Empty if it is no text that a rule reads.
    pub text: String,
}

/// All files by their paths.
pub static TREE: LazyLock<BTreeMap<String, File>> = LazyLock::new(|| {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from);
    let root = package.parent().unwrap_or(Path::new("."));
    let mut tree = BTreeMap::new();
    read_folder(root, "", &mut tree);
    // Rules about nothing would hold.
    assert!(tree.contains_key("tests/tidy.rs"), "{} is not the repository", root.display());
    tree
});

/// Reads what is below `folder`, but nothing hidden and no build products.
fn read_folder(folder: &Path, prefix: &str, tree: &mut BTreeMap<String, File>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if name.starts_with('.') || path == "target" {
            continue;
        }
        if entry.path().is_dir() {
            // Cargo marks folders of build products with this file, wherever they are.
            if !entry.path().join("CACHEDIR.TAG").exists() {
                read_folder(&entry.path(), &format!("{path}/"), tree);
            }
            continue;
        }
        let is_read = name == "Makefile" || READ.iter().any(|end| name.ends_with(end));
        let bytes = if is_read { fs::read(entry.path()) } else { Ok(Vec::new()) };
        // A file that goes while the folder is read is none.
        let Ok(bytes) = bytes else { continue };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        tree.insert(path.clone(), File { path, text });
    }
}

impl File {
    /// A place in it and what is wrong there.
    pub fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// Lines with their numbers, without comments. A `//` in a text ends the line, too.
    pub fn code(&self) -> Vec<(usize, &str)> {
        let code = |line| str::split(line, "//").next().unwrap_or(line);
        self.text.lines().zip(1..).map(|(line, number)| (number, code(line))).collect()
    }

    /// The code without modules of tests, which end with the first `}` that is not indented.
    pub fn product(&self) -> Vec<(usize, &str)> {
        let mut code = self.code();
        let mut in_tests = false;
        let mut previous = "";
        code.retain(|(_, line)| {
            in_tests |= previous == "#[cfg(test)]" && line.ends_with('{');
            let kept = !in_tests;
            in_tests &= *line != "}";
            previous = line;
            kept
        });
        code
    }
}

/// All Rust.
pub fn sources() -> impl Iterator<Item = &'static File> {
    TREE.values().filter(|file| file.path.ends_with(".rs"))
}

/// The sources of what is shipped: no tests, no benchmarks.
pub fn products() -> Vec<&'static File> {
    let mut tests = vec!["tests".to_owned(), "benches".to_owned()];
    for file in sources() {
        let home = file.path.trim_end_matches(".rs");
        let home = home.strip_suffix("/lib").or(home.strip_suffix("/main")).unwrap_or(home);
        let lines: Vec<&str> = file.text.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let module = pair[1].strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
            tests.extend(module.map(|name| format!("{home}/{name}")));
        }
    }
    let is_test = |path: &str| {
        path.contains("/tests/") || tests.iter().any(|t| within(path.trim_end_matches(".rs"), t))
    };
    sources().filter(|file| !is_test(&file.path)).collect()
}

/// Whether `path` is `folder` or below it.
pub fn within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether `code` has `name`, not as the end of a longer name.
pub fn mentions(code: &str, name: &str) -> bool {
    let in_word = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    code.match_indices(name).any(|(at, _)| !in_word(&code[..at]))
}

/// Whether `path` matches `pattern`: `*` is anything within a name, `**` anything.
pub fn glob(pattern: &[u8], path: &[u8]) -> bool {
    match (pattern, path) {
        ([b'*', b'*', b'/', rest @ ..], _) if glob(rest, path) => true,
        ([b'*', b'*', rest @ ..], _) => (0..=path.len()).any(|at| glob(rest, &path[at..])),
        ([b'*', rest @ ..], _) => {
            let name = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
            (0..=name).any(|at| glob(rest, &path[at..]))
        }
        ([first, rest @ ..], [other, others @ ..]) => first == other && glob(rest, others),
        (pattern, path) => pattern.is_empty() && path.is_empty(),
    }
}

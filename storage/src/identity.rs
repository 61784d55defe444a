//! Who a database is: a random name, given once, that its parts elsewhere are marked with.
//!
//! A restored copy is the same database; two servers on two copies are told apart by what they
//! write conditionally, not by this name.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use crate::durable;
use crate::error::Error;

/// The first line of the file: these words, and the version of its format.
const HEADER: &str = "asofdb identity";
const VERSION: u64 = 1;

/// The identity in `file`, 32 hexadecimal digits; a new one if there is no such file yet.
///
/// # Errors
///
/// [`Error::Damaged`] if the file is not what this wrote; [`Error::UnknownVersion`];
/// [`Error::Io`].
pub fn identity(file: &Path) -> Result<String, Error> {
    let content = match fs::read_to_string(file) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let half = || RandomState::new().hash_one(0u8);
            let identity = format!("{:016x}{:016x}", half(), half());
            durable::replace_file(file, format!("{HEADER} {VERSION}\n{identity}\n").as_bytes())?;
            return Ok(identity);
        }
        Err(error) => return Err(Error::io("read", file)(error)),
    };
    let stated = content.strip_prefix(HEADER).and_then(|rest| rest.split_once('\n'));
    let stated =
        stated.and_then(|(version, text)| Some((version.trim().parse().ok()?, text.trim())));
    let is_one = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match stated {
        Some((VERSION, identity)) if is_one(identity) => Ok(identity.to_owned()),
        Some((found, _)) if found != VERSION => {
            Err(Error::UnknownVersion { file: file.to_owned(), found, supported: VERSION })
        }
        _ => Err(Error::damaged(file, 0, "it is no identity of a database")),
    }
}

/// Gives a copy of a database its identity.
///
/// # Errors
///
/// [`Error::Io`].
pub fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let content = fs::read(from).map_err(Error::io("read", from))?;
    durable::replace_file(to, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_given_once_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        let first = identity(&one).unwrap();
        assert_eq!(identity(&one).unwrap(), first);
        assert_ne!(identity(&other).unwrap(), first);
        fs::write(&one, "asofdb identity 1\n12\n").unwrap();
        assert!(matches!(identity(&one), Err(Error::Damaged { .. })));
    }
}

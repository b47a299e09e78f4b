//! Names: what a segment or an object may be called, and which file stands for it.

use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result};

/// Where named segments live unless the caller says otherwise.
pub(crate) const DEFAULT_DIR: &str = "/dev/shm";
/// What the file names of segments begin with, so that pagemate never touches what is not its own.
const PREFIX: &str = "pagemate.";
/// Longest name in bytes: the file system's 255 less the prefix, rounded down.
const LEN_MAX: usize = 200;

/// Refuses names that can never work, and says why.
pub(crate) fn check(name: &str) -> Result<()> {
    let fault = if name.is_empty() {
        "is empty"
    } else if name.len() > LEN_MAX {
        "is longer than 200 bytes"
    } else if name == "." || name == ".." {
        "means a directory"
    } else if name.contains('/') {
        "contains a '/': names are not paths; another directory is given apart (Place::in_dir, or --dir of the program)"
    } else if name.chars().any(char::is_control) {
        "contains a control character"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("the name {name:?} {fault}")))
}

/// The file of the segment `name` in `dir`.
pub(crate) fn path(dir: &Path, name: &str) -> Result<PathBuf> {
    check(name)?;
    Ok(dir.join(format!("{PREFIX}{name}")))
}

/// The name of the segment whose file this is; `None` if the file is not one of pagemate's.
pub(crate) fn of_file(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "a b", "ünï", "..a", &"x".repeat(200)] {
            assert!(check(good).is_ok(), "{good:?}");
            assert_eq!(of_file(&path(Path::new("/d"), good).unwrap()), Some(good));
        }
        for bad in ["", ".", "..", "a/b", "a\0b", "a\nb", &"x".repeat(201)] {
            assert_eq!(check(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
        assert_eq!(of_file(Path::new("/dev/shm/other")), None);
    }
}

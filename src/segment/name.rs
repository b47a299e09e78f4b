//! Names: valid names of segments and objects, and the file of a named segment.

use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result};

/// The default directory of named segments.
pub(crate) const DEFAULT_DIR: &str = "/dev/shm";
/// The prefix of the file names of segments, so that pagemate never touches another program's
/// files.
const PREFIX: &str = "pagemate.";
/// The prefix of the names of objects that no user has named: the heap's parts, unnamed objects.
pub(crate) const RESERVED: char = '/';
/// Longest name in bytes: the file system's 255 less the prefix, rounded down.
const LEN_MAX: usize = 200;

/// Returns an error, with the reason, if the name is not valid.
pub(crate) fn check(name: &str) -> Result<()> {
    let fault = if name.is_empty() {
        "is empty"
    } else if name.len() > LEN_MAX {
        "is longer than 200 bytes"
    } else if name == "." || name == ".." {
        "means a directory"
    } else if name.contains('/') {
        "contains a '/': names are not paths; another directory is given separately \
         (Place::in_dir, or --dir of the program)"
    } else if name.chars().any(char::is_control) {
        "contains a control character"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("the name {name:?} {fault}")))
}

/// Returns the file of the segment `name` in `dir`.
pub(crate) fn path(dir: &Path, name: &str) -> Result<PathBuf> {
    check(name)?;
    Ok(dir.join(format!("{PREFIX}{name}")))
}

/// Returns the name of the segment whose file this is, or `None` if the file is not one of
/// pagemate.
pub(crate) fn of_file(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)
}

/// Returns whether a segment's file may have this name.
pub(crate) fn is_file(file: &std::ffi::OsStr) -> bool {
    of_file(Path::new(file)).is_some_and(|name| check(name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad_names() {
        for good in ["a", "a b", "ünï", "..a", &"x".repeat(200)] {
            assert!(check(good).is_ok(), "{good:?}");
            assert_eq!(of_file(&path(Path::new("/d"), good).unwrap()), Some(good));
        }
        for bad in ["", ".", "..", "a/b", "a\0b", "a\nb", &"x".repeat(201)] {
            assert_eq!(check(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
        assert_eq!(of_file(Path::new("/dev/shm/other")), None);
        for (file, is) in
            [("pagemate.a", true), ("pagemate.", false), ("pagemate.a/b", false), ("other", false)]
        {
            assert_eq!(is_file(std::ffi::OsStr::new(file)), is, "{file:?}");
        }
    }
}

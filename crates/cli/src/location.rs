//! The location of segments: their directory, and the names in it.

use std::path::{Path, PathBuf};

use clap::Args;
use pagemate::Place;

use crate::Failure;

/// The options of every command except `demo`.
#[derive(Debug, Args)]
pub(crate) struct Location {
    /// Directory of the segments [default: the shared-memory directory, /dev/shm]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The trusted users, as in chmod: only they may open a segment that is created, and a segment
    /// that others can write to is not opened. 0660 trusts its group, 0666 everybody [default:
    /// 0600, this user only]
    #[arg(long, value_name = "MODE", value_parser = octal)]
    mode: Option<u32>,
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text.trim_start_matches("0o"), 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("not a mode such as 0660".to_string()),
    }
}

impl Location {
    /// Returns the directory, if it is not the default.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Returns the place called `name` in the directory.
    pub(crate) fn place(&self, name: &str) -> Place {
        let place = match &self.dir {
            Some(dir) => Place::in_dir(dir, name),
            None => Place::from(name),
        };
        match self.mode {
            Some(mode) => place.mode(mode),
            None => place,
        }
    }

    /// Splits `name` into the segment and the name of an object in it: `SEGMENT/OBJECT`, or the
    /// object that has the segment's name. Names have no '/'.
    pub(crate) fn object<'a>(&self, name: &'a str) -> Result<(Place, &'a str), Failure> {
        let (segment, object) = name.split_once('/').unwrap_or((name, ""));
        if segment.is_empty() && !name.is_empty() {
            return Err(format!(
                "{name:?} is not a name: it is SEGMENT or SEGMENT/OBJECT, not a path (see --dir)"
            )
            .into());
        }
        Ok((self.place(segment), object))
    }
}

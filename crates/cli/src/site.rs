//! Where a command looks: the directory of its segments, and the names in it.

use std::path::{Path, PathBuf};

use clap::Args;
use pagemate::Place;

/// The option that every command has.
#[derive(Debug, Args)]
pub(crate) struct Site {
    /// Directory of the segments [default: the shared-memory directory, /dev/shm]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Site {
    /// The directory, if it is not the usual one.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// The place called `name` there.
    pub(crate) fn place(&self, name: &str) -> Place {
        match &self.dir {
            Some(dir) => Place::in_dir(dir, name),
            None => Place::from(name),
        }
    }

    /// The segment and the name of the object in it that `name` means: `SEGMENT/OBJECT`, or the object that has the segment's
    /// name. Names have no '/'.
    pub(crate) fn object<'a>(&self, name: &'a str) -> (Place, &'a str) {
        let (segment, object) = name.split_once('/').unwrap_or((name, ""));
        (self.place(segment), object)
    }
}

//! `pagemate set`: gives a key of a dict or a namespace a value.

use std::time::Duration;

use clap::Args;
use pagemate::{untyped, Segment};

use crate::site::Site;
use crate::Outcome;

/// So long a process may be stopped in the middle of writing the same part of the dict.
const PATIENCE: Duration = Duration::from_secs(10);

/// Give a key of a dict or namespace a value
///
/// The value is text as it is, bytes as hexadecimal digits, numbers, `true`, `[1, 2]`, `Point { x: 1, y: 2 }`: what `pagemate get`
/// prints. Others see the old value or the new one.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// SEGMENT/OBJECT, or the name of a dict or namespace that has a name of its own
    name: String,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// The value; after `--` if it begins with a hyphen and is no number
    #[arg(allow_negative_numbers = true)]
    value: String,
    /// Type of the value: `str`, `[u8]`, or a message's schema, as `f64`. What a namespace needs for a key that it does not have
    #[arg(long = "type", value_name = "TYPE")]
    of: Option<String>,
    #[command(flatten)]
    site: Site,
}

impl Set {
    pub(crate) fn run(self) -> Outcome {
        let (place, object) = self.site.object(&self.name);
        let set = Segment::open(place).and_then(|segment| {
            untyped::set(&segment, object, (&self.key, &self.value), self.of.as_deref(), PATIENCE)
        });
        set.map(drop).map_err(|error| format!("{}: {error}", self.name).into())
    }
}

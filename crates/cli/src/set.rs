//! `pagemate set`: stores a value under a key of a dict or a namespace.

use std::time::Duration;

use clap::Args;
use pagemate::{untyped, Segment};

use crate::location::Location;
use crate::Outcome;

/// The longest wait for a process that is stopped while it writes the same part of the dict.
const PATIENCE: Duration = Duration::from_secs(10);

/// Store a value under a key of a dict or namespace
///
/// The value is text as it is, bytes as hexadecimal digits, numbers, `true`, `[1, 2]`, `Point { x:
/// 1, y: 2 }`: the form that `pagemate get` prints. A number that its type cannot hold is refused.
/// Other processes see the old value or the new one.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// SEGMENT/OBJECT, or the name of a dict or namespace that has a name of its own
    name: String,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// The value; after `--` if it is an option, as `--type`
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Type of the value: `str`, `[u8]`, or a message's schema, such as `f64`. Required for a new
    /// key of a namespace
    #[arg(long = "type", value_name = "TYPE")]
    of: Option<String>,
    #[command(flatten)]
    location: Location,
}

impl Set {
    pub(crate) fn run(self) -> Outcome {
        let (place, object) = self.location.object(&self.name)?;
        let set = Segment::open(place).and_then(|segment| {
            untyped::set(&segment, object, (&self.key, &self.value), self.of.as_deref(), PATIENCE)
        });
        set.map(drop).map_err(|error| format!("{}: {error}", self.name).into())
    }
}

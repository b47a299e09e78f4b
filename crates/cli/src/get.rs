//! `pagemate get`: the value of a key of a dict or a namespace.

use std::io::IsTerminal;

use clap::Args;
use pagemate::inspect;
use serde_json::json;

use crate::location::Location;
use crate::output::{print, print_json, shown, typed};
use crate::{stdio, Outcome};

/// Print the value of a key of a dict or namespace; status 1 if it has none
///
/// Prints text as it is, bytes as hexadecimal digits, and everything else by its schema: all of it,
/// in the form that `pagemate set` takes. Fields whose names begin with `_` are left out where they
/// are zero. Never blocks.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// SEGMENT/OBJECT, or the name of a dict or namespace that has a name of its own
    name: String,
    /// The key
    #[arg(allow_negative_numbers = true)]
    key: String,
    /// Write the bytes of the value as they are, and nothing else
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: Location,
}

impl Get {
    pub(crate) fn run(self) -> Outcome {
        let (place, object) = self.location.object(&self.name)?;
        let found =
            inspect::item(place, object, &self.key).map_err(|error| format!("{}: {error}", self.name))?;
        let Some(item) = found else {
            return Err(format!("{} has no key {:?}", self.name, self.key).into());
        };
        let refused = |error| format!("{}: {error}; --raw writes the bytes", self.name);
        if self.raw {
            return stdio::put(&item.bytes);
        }
        if self.json {
            let value = typed(&item).map_err(refused)?;
            return print_json(&json!({ "key": self.key, "type": item.of.to_string(), "value": value }));
        }
        let text = item.render_whole().map_err(refused)?;
        // Text from shared memory must not control a terminal.
        let text = if std::io::stdout().is_terminal() { shown(&text) } else { text };
        print(&format!("{text}\n"))
    }
}

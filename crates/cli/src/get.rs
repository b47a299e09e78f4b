//! `pagemate get`: the value of a key of a dict or a namespace.

use std::io::{IsTerminal, Write};

use clap::Args;
use pagemate::inspect;
use serde_json::json;

use crate::output::{print, print_json, shown, typed};
use crate::site::Site;
use crate::Outcome;

/// Print the value of a key of a dict or namespace; status 1 if it has none
///
/// Text is printed as it is, bytes as hexadecimal digits, everything else by its schema: what `pagemate set` takes. Waits for
/// nobody.
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
    site: Site,
}

impl Get {
    pub(crate) fn run(self) -> Outcome {
        let (place, object) = self.site.object(&self.name);
        let found =
            inspect::item(place, object, &self.key).map_err(|error| format!("{}: {error}", self.name))?;
        let Some(item) = found else {
            return Err(format!("{} has no key {:?}", self.name, self.key).into());
        };
        if self.raw {
            let mut stdout = std::io::stdout().lock();
            return Ok(stdout.write_all(&item.bytes).and_then(|()| stdout.flush())?);
        }
        if self.json {
            let value = typed(&item);
            return print_json(&json!({ "key": self.key, "type": item.of.to_string(), "value": value }));
        }
        let text = item.render();
        // What stands in shared memory must not drive a terminal.
        let text = if std::io::stdout().is_terminal() { shown(&text) } else { text };
        print(&format!("{text}\n"))
    }
}

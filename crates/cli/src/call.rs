//! `pagemate call`: calls a service of any type.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use pagemate::service::CallError;
use pagemate::untyped::Client;
use pagemate::Segment;
use serde_json::json;

use crate::location::Location;
use crate::output::{print, print_json, shown};
use crate::{interrupt, stdio, Failure, Outcome};

/// Call a service, and print its answer
///
/// The request is the text of a value by the service's schema: a number, `true`, `[1, 2]`, `Request
/// { method: Add, of: [1, 2] }`. A service of text takes it as it is, a service of bytes as
/// hexadecimal digits. The answer is printed in the same form.
#[derive(Debug, Args)]
pub(crate) struct Call {
    /// SEGMENT/OBJECT, or the name of a service that has a name of its own
    name: String,
    /// The request; after `--` if it is an option, as `--json`
    #[arg(allow_hyphen_values = true)]
    request: String,
    /// Give up, and cancel the call, after this number of seconds [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Wait for a server if there is none
    #[arg(long)]
    wait: bool,
    /// Write the bytes of the answer as they are, and nothing else
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: Location,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "not a number of seconds".to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl Call {
    pub(crate) fn run(self) -> Outcome {
        interrupt::install()?;
        let (place, object) = self.location.object(&self.name)?;
        let client = Segment::open(place).and_then(|segment| Client::open(&segment, object));
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", self.name);
        let client = client.map_err(|error| failed(&error))?.wait_for_server(self.wait);
        let request = client.request().encode(&self.request).map_err(|error| failed(&error))?;
        let answer = client.call_timeout(&request, self.timeout, || Ok(interrupt::check()?));
        let answer = answer.map_err(|failure: Failure| match failure.downcast::<CallError>() {
            Ok(error) => failed(&error).into(),
            Err(failure) => failure,
        })?;
        if self.raw {
            return stdio::put(&answer);
        }
        let refused = |error| format!("{}: {error}; --raw writes the bytes", self.name);
        let text = client.answer().render_whole(&answer).map_err(refused)?;
        if self.json {
            return print_json(&json!({ "type": client.answer().to_string(), "answer": text }));
        }
        // Text from shared memory must not control a terminal.
        let text = if std::io::stdout().is_terminal() { shown(&text) } else { text };
        print(&format!("{text}\n"))
    }
}

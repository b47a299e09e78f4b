//! `pagemate sub`: prints the messages of a topic of any type.

use std::time::Duration;

use clap::Args;
use pagemate::inspect::ItemType;
use pagemate::queue::topic::{From, RecvError};
use pagemate::untyped::Topic;
use serde_json::{json, Value};

use crate::location::Location;
use crate::output::{json_line, message, shown};
use crate::publish::open;
use crate::stdio::{tell, Output, Written, TICK};
use crate::{interrupt, Outcome};

/// The length at which the text is written, even if more messages have arrived.
const TEXT_LONG: usize = 64 << 10;

/// Print the messages of a topic, a line each, until it is closed
///
/// Prints by the topic's schema. Publishers do not wait for this subscriber. Says on standard error
/// how many messages were overwritten before they were received.
#[derive(Debug, Args)]
pub(crate) struct Sub {
    /// SEGMENT/OBJECT, or the name of a topic that has a name of its own
    name: String,
    /// Where to begin: `latest` (with the next message), `earliest`, `last:K` (with the last K
    /// messages), or `position:P` (after the first P messages)
    #[arg(long, value_name = "WHERE", value_parser = start, default_value = "latest")]
    from: From,
    /// Print JSON: for each message its position and value, for each loss the number of messages
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    location: Location,
}

fn start(text: &str) -> Result<From, String> {
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number"));
    match text.split_once(':') {
        None if text == "latest" => Ok(From::Latest),
        None if text == "earliest" => Ok(From::Earliest),
        Some(("last", count)) => number(count).map(From::Last),
        Some(("position", position)) => number(position).map(From::Position),
        _ => Err("not latest, earliest, last:K or position:P".to_string()),
    }
}

impl Sub {
    pub(crate) fn run(self) -> Outcome {
        interrupt::install()?;
        let topic = open(&self.name, &self.location)?;
        let mut subscriber = topic.subscribe(self.from).map_err(|error| format!("{}: {error}", self.name))?;
        let mut output = Output::open()?;
        let (mut bytes, mut text) = (Vec::new(), String::new());
        loop {
            interrupt::check()?;
            // With text to write, receive only messages that have arrived.
            let patience = if text.is_empty() { TICK } else { Duration::ZERO };
            let position = subscriber.position();
            let received = subscriber.recv_timeout(&mut bytes, patience);
            match received {
                Ok(()) => {
                    let value = topic.item().render_whole(&bytes)?;
                    text += &match self.json {
                        true => json_line(&json!({ "position": position, "value": typed(&topic, value) })),
                        false => format!("{}\n", shown(&value)),
                    };
                }
                Err(RecvError::Lagged(count)) if self.json => {
                    text += &json_line(&json!({ "position": subscriber.position(), "lost": count }));
                }
                Err(RecvError::Lagged(count)) => {
                    tell(&format!("pagemate: {count} messages were overwritten\n"))?;
                }
                Err(RecvError::Empty | RecvError::Closed) => {}
                Err(error) => return Err(error.into()),
            }
            let is_over = received == Err(RecvError::Closed);
            let is_due = received == Err(RecvError::Empty) || is_over || text.len() >= TEXT_LONG;
            if is_due && !text.is_empty() {
                if output.write(text.as_bytes())? == Written::BrokenPipe {
                    return Ok(());
                }
                text.clear();
            }
            if is_over {
                return output.finish();
            }
        }
    }
}

/// Returns a message as JSON: numbers and booleans as such, everything else as text.
fn typed(topic: &Topic, text: String) -> Value {
    match topic.item() {
        ItemType::Message(_) => message(text),
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_parsed() {
        let texts = ["latest", "earliest", "last:7", "position:0"].map(start);
        let starts = [From::Latest, From::Earliest, From::Last(7), From::Position(0)];
        assert_eq!(texts, starts.map(Ok));
        for text in ["", "last", "last:", "last:-1", "position:x", "newest", "latest:1"] {
            assert!(start(text).is_err(), "{text:?}");
        }
    }
}

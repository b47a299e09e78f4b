//! `pagemate pub`: publishes standard input to a topic of any type.

use std::time::Duration;

use clap::Args;
use pagemate::inspect::ItemType;
use pagemate::queue::topic::Policy;
use pagemate::untyped::{Publisher, Topic};
use pagemate::Segment;

use crate::location::Location;
use crate::stdio::{Input, TICK};
use crate::{interrupt, Failure, Outcome};

/// The time that a lossless subscriber gets to make room, where the topic has a policy for one that
/// does not.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest text of a message.
const TEXT_MAX: usize = 16 << 20;
const CHUNK: usize = 64 << 10;

/// Publish standard input to a topic, as one message
///
/// The message is the text of a value by the topic's schema: a number, `true`, `[1, 2]`, `Point {
/// x: 1, y: 2 }`, as `pagemate sub` prints it. A topic of text takes it as it is, a topic of bytes
/// as hexadecimal digits. Waits for lossless subscribers that lag; for one second if the topic's
/// policy is to fail or to evict them.
#[derive(Debug, Args)]
pub(crate) struct Pub {
    /// SEGMENT/OBJECT, or the name of a topic that has a name of its own
    name: String,
    /// Publish each line as a message, as soon as it is read
    #[arg(long)]
    lines: bool,
    #[command(flatten)]
    location: Location,
}

impl Pub {
    pub(crate) fn run(self) -> Outcome {
        interrupt::install()?;
        let topic = open(&self.name, &self.location)?;
        let (item, policy, publisher) = (topic.item(), topic.policy(), topic.publisher());
        let mut input = Input::open()?;
        let (mut text, mut line) = (Vec::new(), 0);
        loop {
            let begin = text.len();
            text.resize(begin + CHUNK, 0);
            let count = input.read(&mut text[begin..], || Ok(()))?;
            text.truncate(begin + count);
            if self.lines {
                let mut rest = &text[..];
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    line += 1;
                    send(&publisher, policy, &encode(item, &rest[..end], Some(line))?)?;
                    rest = &rest[end + 1..];
                }
                let done = text.len() - rest.len();
                text.drain(..done);
            }
            if count == 0 {
                break;
            }
            if text.len() > TEXT_MAX {
                return Err(format!("a message as text has at most {TEXT_MAX} bytes").into());
            }
        }
        match self.lines {
            true if text.is_empty() => Ok(()),
            true => send(&publisher, policy, &encode(item, &text, Some(line + 1))?),
            false => send(&publisher, policy, &encode(item, &text, None)?),
        }
    }
}

/// Opens the topic called `name`.
pub(crate) fn open(name: &str, location: &Location) -> Result<Topic, Failure> {
    let (place, object) = location.object(name)?;
    let topic = Segment::open(place).and_then(|segment| Topic::open(&segment, object));
    topic.map_err(|error| format!("{name}: {error}").into())
}

fn encode(item: &ItemType, text: &[u8], line: Option<u64>) -> Result<Vec<u8>, Failure> {
    let place = line.map_or_else(String::new, |line| format!("line {line} of standard input: "));
    let text = std::str::from_utf8(text).map_err(|error| format!("{place}{error}"))?;
    let text = match item {
        // As it is, but for the end of its line.
        ItemType::Str => text.strip_suffix('\n').unwrap_or(text),
        _ => text.trim(),
    };
    item.encode(text).map_err(|error| format!("{place}{error}").into())
}

fn send(publisher: &Publisher, policy: Policy, bytes: &[u8]) -> Outcome {
    loop {
        interrupt::check()?;
        let patience = if policy == Policy::Block { TICK } else { PATIENCE };
        match publisher.publish_timeout(bytes, patience) {
            Err(error) if error.is_full() && policy == Policy::Block => {}
            Err(error) if error.is_closed() => return Err("the topic is closed".into()),
            done => return done.map_err(|error| error.into()),
        }
    }
}

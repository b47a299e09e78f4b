//! Streams between processes that know only a name: the segment behind it, and how a process joins
//! it.
//!
//! A stream is a segment with objects of fixed names, for one transmission. A process that arrives
//! when a stream has just ended waits until its last participant is gone, so that the name can be
//! used again at once.

pub(crate) mod bytes;
pub(crate) mod lines;
mod presence;

use std::time::{Duration, Instant};

use pagemate::Segment;

use crate::location::Location;
use crate::stdio::TICK;
use crate::{interrupt, Failure};

/// The longest wait for the participants of an earlier stream of this name.
const PATIENCE: Duration = Duration::from_secs(2);
/// Reserved for a stream; less is committed.
const SEGMENT_SIZE: u64 = 64 << 20;

const DAMAGED: &str = "the stream is damaged: another program has written to its memory";

/// The mode of a stream: which objects are in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Bytes,
    Lines,
}

impl Mode {
    fn objects(self) -> &'static [&'static str] {
        match self {
            Mode::Bytes => &bytes::OBJECTS,
            Mode::Lines => &lines::OBJECTS,
        }
    }

    /// Fails if the segment is used for something else.
    fn check(self, name: &str, segment: &Segment) -> Result<(), Failure> {
        let found = segment.objects()?;
        if segment.size() < SEGMENT_SIZE {
            return Err(format!("{name:?} is not a stream but a segment of some program").into());
        }
        let has = |mode: Mode| found.iter().any(|object| mode.objects().contains(&object.name.as_str()));
        let is_stream =
            |object: &str| [Mode::Bytes, Mode::Lines].iter().any(|mode| mode.objects().contains(&object));
        if let Some(object) = found.iter().map(|object| &object.name).find(|name| !is_stream(name)) {
            return Err(match object.as_str() {
                "" => format!("{name:?} is not a stream but an object of some program"),
                _ => format!("{name:?} is not a stream: it holds {object:?}"),
            }
            .into());
        }
        match self {
            Mode::Bytes if has(Mode::Lines) => Err(format!("{name:?} is used with --lines").into()),
            Mode::Lines if has(Mode::Bytes) => Err(format!("{name:?} is used without --lines").into()),
            _ => Ok(()),
        }
    }
}

/// Joins the stream called `name` by `attach`, which returns `None` if the stream it finds has
/// ended.
fn join<T>(
    name: &str,
    location: &Location,
    mode: Mode,
    attach: impl Fn(&Segment) -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let begin = Instant::now();
    loop {
        interrupt::check()?;
        let (segment, _) = Segment::open_or_create(location.place(name), SEGMENT_SIZE)?;
        mode.check(name, &segment)?;
        if let Some(attached) = attach(&segment)? {
            // Another process may have joined in the other mode since the first check. Of two that
            // do, at least one sees it.
            mode.check(name, &segment)?;
            return Ok(attached);
        }
        drop(segment);
        if begin.elapsed() > PATIENCE {
            return Err(format!(
                "an earlier stream {name:?} has ended, but a process is still attached to it"
            )
            .into());
        }
        // Nothing signals that the last participant leaves; it is about to.
        std::thread::sleep(Duration::from_millis(5));
    }
}

//! Streams between processes that know only a name: the segment behind it, and how one joins it.
//!
//! A stream is a segment with objects of fixed names; it is good for one transmission. Who comes when one has just ended
//! waits until its last participant is gone, so that the name can be used again at once.

pub(crate) mod bytes;
pub(crate) mod lines;
mod roster;
mod stdio;

use std::time::{Duration, Instant};

use pagemate::Segment;

use crate::site::Site;
use crate::{interrupt, Failure};

/// How often those who wait look around: whether the others are alive, whether somebody asks for an end.
const TICK: Duration = Duration::from_millis(100);
/// How long somebody waits for those who are leaving an earlier stream of this name.
const PATIENCE: Duration = Duration::from_secs(2);
/// Reserved for a stream; less is committed.
const SEGMENT_SIZE: u64 = 64 << 20;

const DAMAGED: &str = "the stream is damaged: somebody else has written to its memory";

/// What a stream carries: which objects are in its segment.
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

    /// Refuses a segment that is used for something else.
    fn check(self, name: &str, segment: &Segment) -> Result<(), Failure> {
        let found = segment.objects()?;
        let has = |mode: Mode| found.iter().any(|(object, _)| mode.objects().contains(&object.as_str()));
        let is_stream =
            |object: &str| [Mode::Bytes, Mode::Lines].iter().any(|mode| mode.objects().contains(&object));
        if let Some((object, _)) = found.iter().find(|(object, _)| !is_stream(object)) {
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

/// Joins the stream called `name`, as `attach` says; that gives `None` if the stream it finds has ended.
fn join<T>(
    name: &str,
    site: &Site,
    mode: Mode,
    attach: impl Fn(&Segment) -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let begin = Instant::now();
    loop {
        interrupt::check()?;
        let (segment, _) = Segment::open_or_create(site.place(name), SEGMENT_SIZE)?;
        mode.check(name, &segment)?;
        if let Some(attached) = attach(&segment)? {
            // Somebody may have joined in the other mode since the first look; of two who do, one at least sees it.
            mode.check(name, &segment)?;
            return Ok(attached);
        }
        drop(segment);
        if begin.elapsed() > PATIENCE {
            return Err(format!(
                "an earlier stream {name:?} has ended, but somebody is still attached to it"
            )
            .into());
        }
        // Nothing tells when the last one leaves; it is about to.
        std::thread::sleep(Duration::from_millis(5));
    }
}

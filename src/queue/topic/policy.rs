//! What a publisher does at its deadline about a lossless subscriber that lags, and how it says so.

use std::fmt;

use crate::segment::owner::OwnerId;

/// The policy of a [`Topic`](crate::Topic) for a lossless subscriber that is alive, but still lags
/// at the deadline of a publisher: see [`TopicBuilder::policy`](super::TopicBuilder::policy).
///
/// The deadline of `try_publish` is now; `publish` has none. If a subscriber's process has died,
/// the policy does not matter: its line is reaped, and publishers go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
#[non_exhaustive]
pub enum Policy {
    /// The publisher gets [`SendError::Full`](crate::queue::SendError::Full).
    #[default]
    Block = 0,
    /// The publisher gets [`SendError::Lagging`](crate::queue::SendError::Lagging), which names the
    /// subscriber.
    Fail = 1,
    /// The subscriber becomes lossy, and the publisher publishes. If the subscriber has lost
    /// messages by then, its next receive says how many by [`Lagged`](super::RecvError::Lagged).
    Evict = 2,
}

impl Policy {
    /// Returns the policy with this number.
    pub(super) fn from_number(number: u64) -> Option<Policy> {
        [Policy::Block, Policy::Fail, Policy::Evict].into_iter().find(|policy| *policy as u64 == number)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Policy::Block => "block",
            Policy::Fail => "fail",
            Policy::Evict => "evict",
        }
    }
}

const PID_BITS: u32 = 22;

/// A lossless subscriber for which a publisher waited in vain: see [`Policy::Fail`].
///
/// `Display` prints both numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Laggard {
    /// The index of the participant, and below it the process id, which Linux gives 22 bits.
    packed: u32,
}

impl Laggard {
    pub(super) fn new(id: OwnerId, pid: u32) -> Laggard {
        Laggard { packed: (id.index() as u32) << PID_BITS | pid & ((1 << PID_BITS) - 1) }
    }

    /// Returns the index of the participant, as `pagemate show` prints it.
    pub fn participant(self) -> usize {
        (self.packed >> PID_BITS) as usize
    }

    /// Returns the process id that the subscriber had when it attached, in its own pid namespace.
    pub fn pid(self) -> u32 {
        self.packed & ((1 << PID_BITS) - 1)
    }
}

impl fmt::Display for Laggard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "participant {}, process {}", self.participant(), self.pid())
    }
}

impl fmt::Debug for Laggard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Laggard");
        out.field("participant", &self.participant()).field("pid", &self.pid()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for policy in [Policy::Block, Policy::Fail, Policy::Evict] {
            assert_eq!(Policy::from_number(policy as u64), Some(policy));
        }
        assert_eq!([3, 4, u64::MAX].map(Policy::from_number), [None; 3]);
        let laggard = Laggard::new(OwnerId::new(1023, 1).unwrap(), (1 << 22) - 1);
        assert_eq!((laggard.participant(), laggard.pid()), (1023, (1 << 22) - 1));
        assert_eq!(Laggard::new(OwnerId::new(3, 9).unwrap(), 77).to_string(), "participant 3, process 77");
    }
}

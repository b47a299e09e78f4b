//! Faults that can be planted, to check that the tests find such faults.
//!
//! Only under `--cfg pagemate_faults`, which only `.ci/faults` sets. Without it [`is_planted`] is
//! the constant `false`, and the library contains nothing of this module. With it the environment
//! variable `PAGEMATE_FAULT` names the fault. No fault does harm unless a process dies.

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(pagemate_faults), allow(dead_code))]
pub(crate) enum Fault {
    /// A queue's slot becomes a message before the message is written there.
    PublishBeforeWrite,
    /// A slot that is claimed for writing does not name its claimant.
    ForgetOwner,
    /// Slots that a dead participant was reading stay claimed.
    KeepReading,
    /// The return of a message is announced after the message has returned, not before.
    ReturnUnheard,
    /// The flag "a waiter sleeps" is cleared before the wake-up.
    ClearBeforeWake,
    /// A message of a topic is read in place without a check that it is still there.
    PinUnchecked,
    /// A lossless subscriber does not check that its start is still there once publishers know it.
    JoinUnchecked,
    /// The block of a long message becomes LIVE before the header of its slot names it.
    BlockUnnamed,
    /// Publishers that have scanned the lossless cursors do not scan again when one joins.
    JoinUngated,
    /// The memory of a topic's message is freed although it may be read in place.
    FreeUnscanned,
    /// The slot of a dead server is freed, and its call does not end.
    DieUnsettled,
    /// A caller takes a request back without a check that it is its own.
    TakeBackUnchecked,
}

#[cfg(not(pagemate_faults))]
#[inline(always)]
pub(crate) const fn is_planted(_: Fault) -> bool {
    false
}

#[cfg(pagemate_faults)]
pub(crate) use planted::is_planted;

#[cfg(pagemate_faults)]
mod planted {
    use std::sync::OnceLock;

    use super::Fault;

    impl Fault {
        fn from_name(name: &str) -> Option<Fault> {
            match name {
                "publish-before-write" => Some(Fault::PublishBeforeWrite),
                "forget-owner" => Some(Fault::ForgetOwner),
                "keep-reading" => Some(Fault::KeepReading),
                "return-unheard" => Some(Fault::ReturnUnheard),
                "clear-before-wake" => Some(Fault::ClearBeforeWake),
                "pin-unchecked" => Some(Fault::PinUnchecked),
                "block-unnamed" => Some(Fault::BlockUnnamed),
                "join-unchecked" => Some(Fault::JoinUnchecked),
                "join-ungated" => Some(Fault::JoinUngated),
                "free-unscanned" => Some(Fault::FreeUnscanned),
                "die-unsettled" => Some(Fault::DieUnsettled),
                "take-back-unchecked" => Some(Fault::TakeBackUnchecked),
                _ => None,
            }
        }
    }

    /// Returns whether this fault is planted. Ends the process if the variable names a fault that
    /// does not exist, because a test that then passed would prove nothing.
    pub(crate) fn is_planted(fault: Fault) -> bool {
        static PLANTED: OnceLock<Option<Fault>> = OnceLock::new();
        let planted = PLANTED.get_or_init(|| {
            let name = std::env::var("PAGEMATE_FAULT").ok()?;
            let fault = Fault::from_name(&name);
            if fault.is_none() {
                eprintln!("pagemate: there is no fault named {name:?}");
                std::process::exit(2);
            }
            fault
        });
        *planted == Some(fault)
    }
}

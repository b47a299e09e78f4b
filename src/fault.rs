//! Faults that can be planted, to see that the tests which are there to find such faults do find them.
//!
//! Only under `--cfg pagemate_faults`, which `.ci/faults` sets and nobody else: without it [`is_planted`] is the constant
//! `false`, and nothing of this is in the library. With it the environment variable `PAGEMATE_FAULT` names the fault. Each
//! does no harm as long as nobody dies.

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(pagemate_faults), allow(dead_code))]
pub(crate) enum Fault {
    /// A queue's slot becomes a message, and then the message is written there.
    PublishBeforeWrite,
    /// A slot that is claimed for writing does not say by whom.
    ForgetOwner,
    /// Slots that the dead were reading stay theirs.
    KeepReading,
    /// That a message has come back is said after it has, and not before.
    ReturnUnheard,
    /// The flag "somebody sleeps" is cleared before the wake-up.
    ClearBeforeWake,
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
                _ => None,
            }
        }
    }

    /// Whether this one is planted. Ends the process if the variable names one that does not exist: a test that then
    /// passed would say nothing.
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

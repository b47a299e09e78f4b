//! The steps of a model's processes, which are printed if it fails.

use std::panic::Location;

/// A step of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(super) process: u32,
    pub(super) what: &'static str,
    pub(super) at: &'static Location<'static>,
    /// The segment, by the order of creation.
    pub(super) region: usize,
    /// The offset of the word in it.
    pub(super) offset: usize,
    /// The value of the word after the step.
    pub(super) value: u64,
}

impl Step {
    /// Returns whether the step changed nothing, and read what was written last.
    pub(crate) fn is_load(&self) -> bool {
        self.what == LOAD
    }
}

/// A load of the latest value.
pub(super) const LOAD: &str = "load";
/// A load of an earlier value.
pub(super) const STALE: &str = "stale";

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Step { process, what, at, region, offset, value } = self;
        write!(f, "process {process}: {what:<8} {value:<#20x} segment {region}, {offset:#x}")?;
        write!(f, ", {}:{}", at.file(), at.line())
    }
}

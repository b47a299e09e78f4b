//! Removing a segment's name: a permit that any process can revoke, arbitrated by the kernel.
//!
//! Linux has no conditional unlink. A process could check that a name still means a segment and
//! then unlink it. That removes another file if the name was removed and created anew in between.
//! With a lock over both steps, a stopped process keeps the name busy.
//!
//! But a *rename into an open directory* fails if that directory was removed. So a permit to remove
//! a name is a directory with a random name beside the segment, which its maker holds open. To use
//! the permit, the maker renames the file into the directory, by its descriptor. Removing the
//! directory revokes the permit. That needs no action of the process that holds it, which may be
//! stopped.
//!
//! One word in the segment's header names the registered permit. The steps to remove the name are:
//!
//! 1. Make a permit: a directory. Open it, and check that it belongs to this user alone.
//! 2. Revoke the permit in the word, then swap the new one in.
//! 3. Check that the name still means this segment, and that the reason for its removal still
//!    holds.
//! 4. Rename the file into the open directory. If that fails, the permit was revoked: start again.
//! 5. Unlink it there, remove the directory, clear the word.
//!
//! The name of a permit is public once its directory exists. After it is revoked, any process may
//! make a directory of that name, and a rename by path would accept it as a permit. The descriptor
//! never refers to another directory. Nor does such a directory show that the name of the segment
//! was removed: only the name itself shows that ([`Name::is_ours`]).
//!
//! The registered permit is revoked *before* the word is swapped, so at most one registered permit
//! is not revoked. Between steps 3 and 4 the name cannot start to refer to another file, for two
//! reasons. Only a permit of the same segment can take the name away, and its owner revokes our
//! permit first. And publishing never replaces a name. Names of permits are random and never used
//! again.
//!
//! A process that enters the segment revokes the registered permit, too ([`entered`]). It writes
//! its table entry first, so a remover that registers later finds the entry in step 3.
//!
//! # State
//!
//! | word | meaning |
//! |---|---|
//! | 0 | no permit is registered |
//! | n | number of the registered permit, which ends its directory's name; it may be revoked |
//!
//! Zero is the fresh state.
//!
//! # Memory ordering
//!
//! Registering and entering form a store-load pattern. A remover swaps the word and then reads the
//! table. An entrant writes the table and then reads the word. Both execute a SeqCst fence in
//! between ([`remove`], [`entered`]), so at least one of the two sees the other. All other ordering
//! comes from the kernel's locks on directories.
//!
//! # Death
//!
//! | window | noticed by | repaired by | lost |
//! |---|---|---|---|
//! | directory created, not registered | a sweep | removes the empty directory | nothing |
//! | registered, not renamed | the next remover or entrant | revokes the permit | nothing |
//! | renamed, not unlinked | a sweep (1) | unlinks the file in the directory | memory, until then |
//! | unlinked, directory exists | a sweep | removes the empty directory | nothing |
//!
//! (1) Or a remover or entrant that read the word before.
//!
//! A stopped process counts as dead: when it continues, its permit is revoked, whatever it does.

use crate::loom::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::loom::atomic::{fence, AtomicU64};

/// Attempts that others may defeat before a remover returns [`Outcome::Overtaken`].
const TRIES: usize = if cfg!(loom) { 3 } else { 1000 };

/// The result of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// This call has removed the name.
    Removed,
    /// The name does not mean this segment, or no longer does.
    NotNamed,
    /// The reason for the removal does not hold, or no longer does.
    Kept,
    /// Other processes kept revoking the permits.
    Overtaken,
}

/// A segment's name and its directory.
pub(crate) trait Name {
    /// The error of a failed step.
    type Error;
    /// A permit as its maker holds it. A directory made later under its number is not a permit.
    type Permit;

    /// Makes a permit. Its number is never 0.
    fn permit(&self) -> Result<(u64, Self::Permit), Self::Error>;
    /// Revokes the permit of this number, or completes the removal begun with it.
    fn revoke(&self, number: u64) -> Result<(), Self::Error>;
    /// Returns whether the name means the segment now.
    fn is_ours(&self) -> Result<bool, Self::Error>;
    /// Uses a permit: takes the name away and unlinks the file. Returns false if it was revoked.
    fn take(&self, permit: &Self::Permit) -> Result<bool, Self::Error>;
}

/// Removes the name of the segment whose word this is, if `reason` still holds once every process
/// that enters is seen.
pub(crate) fn remove<N: Name>(
    word: &AtomicU64,
    name: &N,
    reason: impl Fn() -> bool,
) -> Result<Outcome, N::Error> {
    for _ in 0..TRIES {
        // Check before making a directory, because most names that are to stay are recognized here.
        if !name.is_ours()? {
            return Ok(Outcome::NotNamed);
        }
        if !reason() {
            return Ok(Outcome::Kept);
        }
        let (number, permit) = name.permit()?;
        let outcome = attempt(word, name, number, &permit, &reason);
        // Used or not, the permit is finished. Its remains are removed before the word is cleared.
        let cleared = name.revoke(number);
        let _ = word.compare_exchange(number, 0, SeqCst, Relaxed);
        match (outcome?, cleared) {
            (Some(outcome), _) => return Ok(outcome),
            (None, Err(error)) => return Err(error),
            (None, Ok(())) => {}
        }
    }
    Ok(Outcome::Overtaken)
}

/// Registers one permit and uses it. Returns `None` if another process has revoked it.
fn attempt<N: Name>(
    word: &AtomicU64,
    name: &N,
    number: u64,
    permit: &N::Permit,
    reason: &impl Fn() -> bool,
) -> Result<Option<Outcome>, N::Error> {
    let mut registered = word.load(Acquire); // pairs with the swap below
    let mut tries = 0;
    loop {
        if registered != 0 {
            name.revoke(registered)?;
        }
        match word.compare_exchange(registered, number, SeqCst, Acquire) {
            Ok(_) => break,
            Err(_) if tries == TRIES => return Ok(Some(Outcome::Overtaken)),
            Err(now) => registered = now,
        }
        tries += 1;
    }
    fence(SeqCst); // pairs with the fence in entered()
    if !name.is_ours()? {
        return Ok(Some(Outcome::NotNamed));
    }
    if !reason() {
        return Ok(Some(Outcome::Kept));
    }
    Ok(name.take(permit)?.then_some(Outcome::Removed))
}

/// Completes entering a segment that was found under `name`. The caller has written its table
/// entry, and from here on every remover sees it. Returns false if the name was removed before.
pub(crate) fn entered<N: Name>(word: &AtomicU64, name: &N) -> Result<bool, N::Error> {
    fence(SeqCst); // pairs with the fence in attempt()
    let registered = word.load(Acquire); // pairs with the swaps in attempt() and remove()
    if registered != 0 {
        name.revoke(registered)?;
    }
    name.is_ours()
}

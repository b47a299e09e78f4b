//! The envelope: anonymous memory in which arguments go to a child, and its result comes back.
//!
//! | bytes | content | written by |
//! |---|---|---|
//! | 0..8 | magic | parent |
//! | 8..16 | token, which the environment variable repeats | parent |
//! | 16..24 | length of the letter | parent |
//! | 24.. | the letter: which function, which descriptors, names, arguments | parent |
//! | then, from a multiple of 8 | kind and length of the answer (8 bytes each) and the answer | child |
//!
//! The child cuts all of it off once it has read it, which gives the memory back and keeps anybody from reading it twice.
//! Nobody maps it: it is written and read by `pwrite` and `pread`, so its size may be anything, and no other process can
//! change what has been read. The parent reads the answer when the child has ended. An answer counts when its kind is
//! there, which is written last. The child's panics are answers too: a later answer takes the place of an earlier one, until
//! the function's own, which is final.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{fstat, ftruncate, memfd_create, MemfdFlags};
use rustix::io::{fcntl_getfd, fcntl_setfd, pwrite, Errno, FdFlags};

use crate::process::argument::Argument;
use crate::process::packer::{damaged, Packer, Parcel, Unpacker};
use crate::sys::memory::read_at;
use crate::sys::process::inheritable;
use crate::{Error, ErrorKind, Result};

/// Names the envelope's descriptor and token to the child: `FD:TOKEN`.
pub(crate) const VARIABLE: &str = "PAGEMATE_CHILD";

const MAGIC: u64 = u64::from_le_bytes(*b"pagemat1");
const HEAD: usize = 24;

/// What a child is told. All of it but the arguments.
#[derive(Debug)]
pub(crate) struct Letter {
    /// Offset in the image of the function to call.
    pub(crate) entry: u64,
    /// Offset in the image of a function of this crate: the same only in the same program.
    pub(crate) mark: u64,
    pub(crate) daemon: bool,
    pub(crate) name: String,
    /// Whether somebody chose the name.
    pub(crate) named: bool,
    pub(crate) parent_name: String,
    pub(crate) parent_pid: u32,
}

/// What a child says in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Answer {
    /// The value that the function returned.
    Value = 1,
    /// The message of a panic. Written when one begins, so it may also be one that was caught.
    Panic = 2,
    /// The arguments could not be read, or the result not be sent: why.
    Failure = 3,
}

impl Answer {
    fn from_number(number: u64) -> Option<Answer> {
        [Answer::Value, Answer::Panic, Answer::Failure].into_iter().find(|kind| *kind as u64 == number)
    }
}

/// One side's hold of it.
#[derive(Debug)]
pub(crate) struct Envelope {
    file: OwnedFd,
    answer_at: u64,
}

impl Envelope {
    /// Puts letter and arguments into a new one. `parent` is the descriptor that becomes the child's view of its parent.
    pub(crate) fn seal(
        letter: &Letter,
        parent: BorrowedFd<'_>,
        parcel: &Parcel,
        token: u64,
    ) -> Result<Envelope> {
        let mut out = Packer::for_child();
        out.bytes(&[0; HEAD]);
        out.number(letter.entry);
        out.number(letter.mark);
        out.bytes(&[u8::from(letter.daemon), u8::from(letter.named)]);
        out.block(letter.name.as_bytes());
        out.block(letter.parent_name.as_bytes());
        out.number(letter.parent_pid.into());
        out.number(parent.as_raw_fd() as u64);
        out.number(parcel.files.len() as u64);
        parcel.files.iter().for_each(|file| out.number(file.as_raw_fd() as u64));
        out.number(parcel.seats.len() as u64);
        for &(file, owner) in &parcel.seats {
            out.number(file as u64);
            out.number(owner.into());
        }
        out.bytes(&parcel.bytes);
        let mut bytes = out.finish().bytes;
        let len = (bytes.len() - HEAD) as u64;
        for (at, word) in [MAGIC, token, len].into_iter().enumerate() {
            bytes[at * 8..][..8].copy_from_slice(&word.to_le_bytes());
        }
        let file = memfd_create("pagemate-process", MemfdFlags::CLOEXEC)
            .map_err(|cause| Error::system("cannot create anonymous memory (memfd_create)", cause))?;
        let file = inheritable(file)?;
        write_at(file.as_fd(), &bytes, 0)?;
        Ok(Envelope { file, answer_at: answer_at(len) })
    }

    /// The text of the environment variable.
    pub(crate) fn address(&self, token: u64) -> String {
        format!("{}:{token:016x}", self.file.as_raw_fd())
    }

    /// In a child: opens the envelope at `address`, once.
    ///
    /// What the letter names is taken over: the descriptors are this process's own from here on, and close-on-exec.
    pub(crate) fn open(address: &str) -> Result<Opened> {
        let (file, token) = parse(address).ok_or_else(|| stale("is not FD:TOKEN"))?;
        let mut head = [0; HEAD];
        {
            let file = borrow(file)?;
            if !matches!(read_at(file, &mut head, 0), Ok(HEAD)) {
                return Err(stale("names a descriptor that holds no arguments"));
            }
        }
        let mut words = Unpacker::new(&head);
        let [magic, written, len] = [(); 3].map(|_| words.number().unwrap_or(0));
        if (magic, written) != (MAGIC, token) {
            return Err(stale("names a descriptor that holds no arguments for this process"));
        }
        let file = own(file)?;
        let body = read_all(file.as_fd(), HEAD as u64, len)?;
        ftruncate(&file, 0).map_err(|cause| Error::system("cannot take the arguments", cause))?;
        let envelope = Envelope { file, answer_at: answer_at(len) };
        let mut input = Unpacker::new(&body);
        let (entry, mark) = (input.number()?, input.number()?);
        let flags = input.bytes(2)?;
        let (daemon, named) = (flags[0] != 0, flags[1] != 0);
        let name = String::from_utf8_lossy(input.block()?).into_owned();
        let parent_name = String::from_utf8_lossy(input.block()?).into_owned();
        let parent_pid = input.number()? as u32;
        let mut taken = vec![envelope.file.as_raw_fd()];
        let mut take = |number: u64| -> Result<OwnedFd> {
            let file = RawFd::try_from(number).map_err(|_| damaged("names an impossible descriptor"))?;
            if taken.contains(&file) {
                return Err(damaged("names a descriptor twice"));
            }
            taken.push(file);
            own(file)
        };
        let parent = take(input.number()?)?;
        let mut files = Vec::new();
        for _ in 0..input.count()? {
            files.push(take(input.number()?)?);
        }
        let mut seats = Vec::new();
        for _ in 0..input.count()? {
            seats.push((input.count()?, input.number()? as u32));
        }
        let start = body.len() - input.left();
        let letter = Letter { entry, mark, daemon, name, named, parent_name, parent_pid };
        Ok(Opened { envelope, letter, parent, arguments: Arguments { files, seats, body, start } })
    }

    /// The descriptor that the child inherits.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Writes the answer, in the place of an earlier one.
    pub(crate) fn answer(&self, kind: Answer, bytes: &[u8]) -> Result<()> {
        // No kind while the bytes are not all there.
        write_at(self.file(), &[0; 16], self.answer_at)?;
        write_at(self.file(), bytes, self.answer_at + 16)?;
        write_at(self.file(), &(bytes.len() as u64).to_le_bytes(), self.answer_at + 8)?;
        write_at(self.file(), &(kind as u64).to_le_bytes(), self.answer_at)
    }

    /// Reads the answer; `None` if the child gave none.
    pub(crate) fn read_answer(&self) -> Result<Option<(Answer, Vec<u8>)>> {
        let mut head = [0; 16];
        if read_at(self.file(), &mut head, self.answer_at)? < head.len() {
            return Ok(None);
        }
        let mut head = Unpacker::new(&head);
        match Answer::from_number(head.number()?) {
            None => Ok(None),
            Some(kind) => Ok(Some((kind, read_all(self.file(), self.answer_at + 16, head.number()?)?))),
        }
    }
}

/// An envelope that was opened: all that a child needs to begin.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) envelope: Envelope,
    pub(crate) letter: Letter,
    /// A pidfd of the parent.
    pub(crate) parent: OwnedFd,
    pub(crate) arguments: Arguments,
}

/// The arguments, still packed.
#[derive(Debug)]
pub(crate) struct Arguments {
    files: Vec<OwnedFd>,
    seats: Vec<(usize, u32)>,
    body: Vec<u8>,
    /// Where the arguments begin in the body.
    start: usize,
}

impl Arguments {
    /// Unpacks them, and closes what came along and is not asked for.
    pub(crate) fn unpack<A: Argument>(self) -> Result<A> {
        let mut input = Unpacker::with_files(&self.body[self.start..], self.files, &self.seats);
        let value = A::unpack(&mut input)?;
        input.finish()?;
        Ok(value)
    }
}

fn answer_at(letter: u64) -> u64 {
    (HEAD as u64).saturating_add(letter).saturating_add(7) & !7
}

fn parse(address: &str) -> Option<(RawFd, u64)> {
    let (file, token) = address.split_once(':')?;
    Some((file.parse().ok().filter(|file| *file > 2)?, u64::from_str_radix(token, 16).ok()?))
}

#[cold]
fn stale(what: &str) -> Error {
    Error::new(
        ErrorKind::NotInitialised,
        format!(
            "the environment variable {VARIABLE} {what}: pagemate sets it for the processes that it starts, and nothing \
             else should; unset it"
        ),
    )
}

fn borrow<'a>(file: RawFd) -> Result<BorrowedFd<'a>> {
    // SAFETY: not -1 (it is above 2). Whether it is open is asked of the kernel right here; nobody closes it meanwhile,
    // because a child does nothing else yet.
    let borrowed = unsafe { BorrowedFd::borrow_raw(file) };
    fcntl_getfd(borrowed).map_err(|_| stale("names a descriptor that is not open"))?;
    Ok(borrowed)
}

/// Takes over a descriptor that the parent left open for this process.
fn own(file: RawFd) -> Result<OwnedFd> {
    if file < 3 {
        return Err(damaged("names an impossible descriptor"));
    }
    let borrowed = borrow(file)?;
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)
        .map_err(|cause| Error::system("cannot take over a descriptor", cause))?;
    // SAFETY: open, and this process's alone: the parent opened it for this child, and it is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

fn write_at(file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match pwrite(file, &bytes[done..], offset.saturating_add(done as u64)) {
            Ok(0) => return Err(Error::new(ErrorKind::OutOfMemory, "no room for arguments or a result")),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(cause) => return Err(Error::system("cannot write arguments or a result", cause)),
        }
    }
    Ok(())
}

/// Reads exactly `len` bytes, after a look whether so many were ever written.
fn read_all(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Vec<u8>> {
    let stat = fstat(file).map_err(|cause| Error::system("cannot look at arguments or a result", cause))?;
    // The length alone could be claimed without a byte of memory behind it.
    let there = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    if len > there {
        return Err(damaged("has an impossible length"));
    }
    let len = usize::try_from(len).map_err(|_| damaged("has an impossible length"))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| damaged("does not fit into memory"))?;
    bytes.resize(len, 0);
    match read_at(file, &mut bytes, offset)? == len {
        true => Ok(bytes),
        false => Err(damaged("is too short")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(token: u64) -> Envelope {
        let letter = Letter {
            entry: 1,
            mark: 2,
            daemon: true,
            name: "n".into(),
            named: true,
            parent_name: "p".into(),
            parent_pid: 7,
        };
        let parent = crate::sys::process::own_pidfd().unwrap();
        let parcel = Parcel { bytes: vec![1, 2, 3], files: Vec::new(), seats: Vec::new() };
        let envelope = Envelope::seal(&letter, parent.as_fd(), &parcel, token).unwrap();
        // As a child has it: opening takes the descriptor over.
        std::mem::forget(parent);
        envelope
    }

    fn address(envelope: Envelope, token: u64) -> String {
        let address = envelope.address(token);
        std::mem::forget(envelope);
        address
    }

    #[test]
    fn a_letter_comes_as_it_was_written() {
        let opened = Envelope::open(&address(sealed(9), 9)).unwrap();
        assert_eq!((opened.letter.entry, opened.letter.mark, opened.letter.daemon), (1, 2, true));
        assert_eq!((&*opened.letter.name, &*opened.letter.parent_name), ("n", "p"));
        assert_eq!(opened.letter.parent_pid, 7);
        assert_eq!(opened.arguments.unpack::<[u8; 3]>().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn answers_replace_each_other_and_false_ones_are_refused() {
        let envelope = sealed(1);
        assert_eq!(envelope.read_answer().unwrap(), None);
        envelope.answer(Answer::Panic, b"a long message").unwrap();
        envelope.answer(Answer::Value, b"").unwrap();
        assert_eq!(envelope.read_answer().unwrap(), Some((Answer::Value, Vec::new())));
        write_at(envelope.file(), &u64::MAX.to_le_bytes(), envelope.answer_at + 8).unwrap();
        assert!(envelope.read_answer().is_err(), "a length that cannot be");
        rustix::fs::ftruncate(envelope.file(), 1 << 40).unwrap();
        write_at(envelope.file(), &(1u64 << 39).to_le_bytes(), envelope.answer_at + 8).unwrap();
        assert!(envelope.read_answer().is_err(), "a length without bytes behind it");
        write_at(envelope.file(), &99u64.to_le_bytes(), envelope.answer_at).unwrap();
        assert_eq!(envelope.read_answer().unwrap(), None);
    }

    #[test]
    fn what_is_not_an_envelope_is_refused() {
        for text in ["", "3", "x:1", "-1:1", "0:1", "2:1", "3:", "3:x", "1000000:1", "99999999999:1"] {
            assert!(Envelope::open(text).is_err(), "{text:?}");
        }
        let file = inheritable(memfd_create("x", MemfdFlags::CLOEXEC).unwrap()).unwrap();
        for len in [0, 23, 24, 100] {
            rustix::fs::ftruncate(&file, len).unwrap();
            assert!(Envelope::open(&format!("{}:0", file.as_raw_fd())).is_err());
        }
        let envelope = sealed(5);
        assert!(Envelope::open(&envelope.address(6)).is_err(), "another token");
        let twice = address(envelope, 5);
        let opened = Envelope::open(&twice).unwrap();
        let error = Envelope::open(&twice).unwrap_err();
        assert!(error.to_string().contains("holds no arguments"), "{error}");
        opened.envelope.answer(Answer::Value, b"v").unwrap();
        assert_eq!(opened.envelope.read_answer().unwrap(), Some((Answer::Value, b"v".to_vec())));
    }
}

//! The spawn memfd: anonymous memory in which arguments go to a child, and its result comes back.
//!
//! | bytes | content | written by |
//! |---|---|---|
//! | 0..8 | magic | parent |
//! | 8..16 | token, which the environment variable repeats | parent |
//! | 16..24 | length of the request | parent |
//! | 24.. | the request: which function, which descriptors, names, arguments | parent |
//! | then, from a multiple of 8 | kind and length of the answer (8 bytes each), the answer | child |
//!
//! The child truncates the memfd once it has read the request. That frees the memory, and nobody
//! can read the request twice. The memfd is never mapped, only written and read by `pwrite` and
//! `pread`. So it may have any size, and no other process can change what has been read.
//!
//! The parent reads the answer when the child has ended. An answer counts when its kind is there,
//! which is written last. The child's panics are answers too: a later answer replaces an earlier
//! one, until the function's own, which is final.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{fstat, ftruncate, MemfdFlags};
use rustix::io::{fcntl_getfd, fcntl_setfd, pwrite, Errno, FdFlags};

use crate::process::argument::Argument;
use crate::process::codec::{damaged, Packed, Packer, ReceivedId, Unpacker};
use crate::sys::descriptor::Own;
use crate::sys::hold::Hold;
use crate::sys::memory::{self, read_at, reopen, without_size_signal};
use crate::{Error, ErrorKind, Result};

/// The environment variable with the memfd's descriptor and token: `FD:TOKEN`.
pub(crate) const VARIABLE: &str = "PAGEMATE_CHILD";

const MAGIC: u64 = u64::from_le_bytes(*b"pagemat1");
const HEAD: usize = 24;

/// The request to a child, without the arguments.
#[derive(Debug)]
pub(crate) struct SpawnRequest {
    /// Offset in the image of the entry of the function's type.
    pub(crate) entry: u64,
    /// Offset in the image of the function.
    pub(crate) function: u64,
    /// Offset in the image of a function of this crate, which is the same only in the same program.
    pub(crate) mark: u64,
    pub(crate) daemon: bool,
    pub(crate) name: String,
    /// Whether the name was chosen by the program.
    pub(crate) named: bool,
    pub(crate) parent_name: String,
    pub(crate) parent_pid: u32,
}

/// The kinds of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Answer {
    /// The value that the function returned.
    Value = 1,
    /// The message of a panic. It is written when a panic begins, so the panic may also have been
    /// caught.
    Panic = 2,
    /// The reason why the arguments could not be read, or the result could not be sent.
    Failure = 3,
}

impl Answer {
    fn from_number(number: u64) -> Option<Answer> {
        [Answer::Value, Answer::Panic, Answer::Failure].into_iter().find(|kind| *kind as u64 == number)
    }
}

/// One process's handle of the memfd.
#[derive(Debug)]
pub(crate) struct SpawnMemfd {
    file: Own,
    answer_at: u64,
}

impl SpawnMemfd {
    /// Writes request and arguments into a new memfd. `parent` is the descriptor by which the child
    /// will watch its parent.
    pub(crate) fn create(
        request: &SpawnRequest,
        parent: BorrowedFd<'_>,
        packed: &Packed,
        token: u64,
    ) -> Result<SpawnMemfd> {
        let mut out = Packer::for_child();
        out.bytes(&[0; HEAD]);
        out.number(request.entry);
        out.number(request.function);
        out.number(request.mark);
        out.bytes(&[u8::from(request.daemon), u8::from(request.named)]);
        out.block(request.name.as_bytes());
        out.block(request.parent_name.as_bytes());
        out.number(request.parent_pid.into());
        out.number(parent.as_raw_fd() as u64);
        out.number(packed.files.len() as u64);
        packed.files.iter().for_each(|file| out.number(file.as_raw_fd() as u64));
        out.number(packed.participants.len() as u64);
        for id in &packed.participants {
            out.number(id.file as u64);
            out.number(id.owner.bits().into());
        }
        out.bytes(&packed.bytes);
        let mut bytes = out.finish().bytes;
        let len = (bytes.len() - HEAD) as u64;
        for (at, word) in [MAGIC, token, len].into_iter().enumerate() {
            bytes[at * 8..][..8].copy_from_slice(&word.to_le_bytes());
        }
        let file = Own::new(memory::memfd("pagemate-process", MemfdFlags::empty())?)
            .map_err(|cause| Error::system("cannot keep anonymous memory", cause))?;
        write_at(file.proved()?, &bytes, 0)?;
        Ok(SpawnMemfd { file, answer_at: answer_at(len) })
    }

    /// Returns the value of the environment variable.
    pub(crate) fn address(&self, token: u64) -> String {
        format!("{}:{token:016x}", self.file.number().as_raw_fd())
    }

    /// Opens the memfd at `address`, in the child, once.
    ///
    /// Takes over everything that the request names: from here on the descriptors are this
    /// process's own, and close-on-exec.
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
        let file = Own::new(file).map_err(|cause| Error::system("cannot keep the arguments", cause))?;
        let memfd = SpawnMemfd { file, answer_at: answer_at(len) };
        let mut input = Unpacker::new(&body);
        let (entry, function, mark) = (input.number()?, input.number()?, input.number()?);
        let flags = input.bytes(2)?;
        let (daemon, named) = (flags[0] != 0, flags[1] != 0);
        let name = String::from_utf8_lossy(input.block()?).into_owned();
        let parent_name = String::from_utf8_lossy(input.block()?).into_owned();
        let parent_pid = input.number()? as u32;
        let mut taken = vec![memfd.file.number().as_raw_fd()];
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
        let mut participants = Vec::new();
        for _ in 0..input.count()? {
            let (file, owner) = (input.count()?, input.number()? as u32);
            let place =
                files.get_mut(file).ok_or_else(|| damaged("names a descriptor that did not arrive"))?;
            // At once, because a copy of this process would share the lock of a descriptor. A
            // failure is ignored here, because it is tried again later, and reported then.
            let hold = reopen(place.as_fd()).ok().map(|other| std::mem::replace(place, other));
            participants.push(ReceivedId::new(
                file,
                owner,
                hold.map(Hold::take).transpose().map_err(|cause| {
                    Error::system("cannot map the page that keeps this process's place in a segment", cause)
                })?,
            ));
        }
        let start = body.len() - input.left();
        let request = SpawnRequest { entry, function, mark, daemon, name, named, parent_name, parent_pid };
        Ok(Opened { memfd, request, parent, arguments: Arguments { files, participants, body, start } })
    }

    /// Returns the descriptor that the child inherits.
    ///
    /// # Errors
    ///
    /// The program has closed it.
    pub(crate) fn file(&self) -> Result<BorrowedFd<'_>> {
        self.file.proved()
    }

    /// Writes the answer, replacing an earlier one.
    pub(crate) fn answer(&self, kind: Answer, bytes: &[u8]) -> Result<()> {
        let file = self.file()?;
        // No kind while the bytes are incomplete.
        write_at(file, &[0; 16], self.answer_at)?;
        write_at(file, bytes, self.answer_at + 16)?;
        write_at(file, &(bytes.len() as u64).to_le_bytes(), self.answer_at + 8)?;
        write_at(file, &(kind as u64).to_le_bytes(), self.answer_at)
    }

    /// Reads the answer; `None` if the child wrote none.
    pub(crate) fn read_answer(&self) -> Result<Option<(Answer, Vec<u8>)>> {
        let mut head = [0; 16];
        let file = self.file()?;
        if read_at(file, &mut head, self.answer_at)? < head.len() {
            return Ok(None);
        }
        let mut head = Unpacker::new(&head);
        match Answer::from_number(head.number()?) {
            None => Ok(None),
            Some(kind) => Ok(Some((kind, read_all(file, self.answer_at + 16, head.number()?)?))),
        }
    }
}

/// The contents of a memfd that was opened: everything that a child needs to begin.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) memfd: SpawnMemfd,
    pub(crate) request: SpawnRequest,
    /// A pidfd of the parent.
    pub(crate) parent: OwnedFd,
    pub(crate) arguments: Arguments,
}

/// The packed arguments.
#[derive(Debug)]
pub(crate) struct Arguments {
    files: Vec<OwnedFd>,
    participants: Vec<ReceivedId>,
    body: Vec<u8>,
    /// The offset of the arguments in the body.
    start: usize,
}

impl Arguments {
    /// Unpacks them, and closes the descriptors that are not unpacked.
    pub(crate) fn unpack<A: Argument>(self) -> Result<A> {
        let mut input = Unpacker::with_files(&self.body[self.start..], self.files, self.participants);
        let value = A::unpack(&mut input)?;
        input.finish()?;
        Ok(value)
    }
}

fn answer_at(request: u64) -> u64 {
    (HEAD as u64).saturating_add(request).saturating_add(7) & !7
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
            "the environment variable {VARIABLE} {what}: pagemate sets it for the processes that it starts, \
             and nothing else should; unset it"
        ),
    )
}

fn borrow<'a>(file: RawFd) -> Result<BorrowedFd<'a>> {
    // SAFETY: not -1 (it is above 2). The next line asks the kernel whether it is open; nobody
    // closes it meanwhile, because a child does nothing else yet.
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
    // SAFETY: open, and this process's alone, because the parent opened it for this child, and it
    // is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

fn write_at(file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match without_size_signal(|| pwrite(file, &bytes[done..], offset.saturating_add(done as u64))) {
            Ok(0) => return Err(Error::new(ErrorKind::OutOfMemory, "no room for arguments or a result")),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(cause) => return Err(Error::system("cannot write arguments or a result", cause)),
        }
    }
    Ok(())
}

/// Reads exactly `len` bytes, after a check that the file has them.
fn read_all(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Vec<u8>> {
    let stat = fstat(file).map_err(|cause| Error::system("cannot examine arguments or a result", cause))?;
    // A file can have any length without memory behind it, so the blocks are counted.
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
    use crate::sys::process::inheritable;

    fn new_memfd(token: u64) -> SpawnMemfd {
        let request = SpawnRequest {
            entry: 1,
            function: 3,
            mark: 2,
            daemon: true,
            name: "n".into(),
            named: true,
            parent_name: "p".into(),
            parent_pid: 7,
        };
        let parent = crate::sys::process::own_pidfd().unwrap();
        let packed = Packed {
            bytes: vec![1, 2, 3],
            participants: Vec::new(),
            files: Vec::new(),
            _windows: Vec::new(),
        };
        let memfd = SpawnMemfd::create(&request, parent.as_fd(), &packed, token).unwrap();
        // As in a child: opening takes the descriptor over.
        std::mem::forget(parent);
        memfd
    }

    fn address(memfd: SpawnMemfd, token: u64) -> String {
        let address = memfd.address(token);
        std::mem::forget(memfd);
        address
    }

    #[test]
    fn a_request_arrives_as_it_was_written() {
        let opened = SpawnMemfd::open(&address(new_memfd(9), 9)).unwrap();
        let request = &opened.request;
        assert_eq!((request.entry, request.mark, request.function, request.daemon), (1, 2, 3, true));
        assert_eq!((&*opened.request.name, &*opened.request.parent_name), ("n", "p"));
        assert_eq!(opened.request.parent_pid, 7);
        assert_eq!(opened.arguments.unpack::<[u8; 3]>().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn answers_replace_each_other_and_false_ones_are_refused() {
        let memfd = new_memfd(1);
        assert_eq!(memfd.read_answer().unwrap(), None);
        memfd.answer(Answer::Panic, b"a long message").unwrap();
        memfd.answer(Answer::Value, b"").unwrap();
        assert_eq!(memfd.read_answer().unwrap(), Some((Answer::Value, Vec::new())));
        write_at(memfd.file().unwrap(), &u64::MAX.to_le_bytes(), memfd.answer_at + 8).unwrap();
        assert!(memfd.read_answer().is_err(), "an impossible length");
        rustix::fs::ftruncate(memfd.file().unwrap(), 1 << 40).unwrap();
        write_at(memfd.file().unwrap(), &(1u64 << 39).to_le_bytes(), memfd.answer_at + 8).unwrap();
        assert!(memfd.read_answer().is_err(), "a length without bytes behind it");
        write_at(memfd.file().unwrap(), &99u64.to_le_bytes(), memfd.answer_at).unwrap();
        assert_eq!(memfd.read_answer().unwrap(), None);
    }

    #[test]
    fn what_is_not_a_spawn_memfd_is_refused() {
        for text in ["", "3", "x:1", "-1:1", "0:1", "2:1", "3:", "3:x", "1000000:1", "99999999999:1"] {
            assert!(SpawnMemfd::open(text).is_err(), "{text:?}");
        }
        let file = inheritable(memory::memfd("x", MemfdFlags::empty()).unwrap()).unwrap();
        for len in [0, 23, 24, 100] {
            rustix::fs::ftruncate(&file, len).unwrap();
            assert!(SpawnMemfd::open(&format!("{}:0", file.as_raw_fd())).is_err());
        }
        let memfd = new_memfd(5);
        assert!(SpawnMemfd::open(&memfd.address(6)).is_err(), "another token");
        let twice = address(memfd, 5);
        let opened = SpawnMemfd::open(&twice).unwrap();
        let error = SpawnMemfd::open(&twice).unwrap_err();
        assert!(error.to_string().contains("holds no arguments"), "{error}");
        opened.memfd.answer(Answer::Value, b"v").unwrap();
        assert_eq!(opened.memfd.read_answer().unwrap(), Some((Answer::Value, b"v".to_vec())));
    }
}

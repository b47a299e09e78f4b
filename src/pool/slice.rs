//! Tasks on pieces of shared arrays: nothing travels but where the arrays are.
//!
//! A worker maps both arrays for the time of one task, through the descriptors that the pool's process has open. The pool's
//! process holds the locks of both, and gives every piece to one task; so each worker has its piece for itself.
//!
//! # Death
//!
//! | it dies | what happens |
//! |---|---|
//! | the worker | its piece fails, or is filled again from the start by another: the input has not changed |
//! | the pool's process | the workers end with it, and whoever locks the arrays next is told `OwnerDied` |

use std::os::fd::AsRawFd;

use crate::array::Array;
use crate::attachment::Attachment;
use crate::kind::Kind;
use crate::message::{read, Message};
use crate::object::ObjectRef;
use crate::pool::error::{MapError, TaskError};
use crate::pool::options::{Options, CHUNKS_A_WORKER};
use crate::sync::error::LockError;
use crate::sys::memory::stat;
use crate::{Error, ErrorKind, Result};

/// Where an array is: the segment's descriptor, when it was created, and the object's record.
type Where = [u64; 3];
/// The pool's process, both arrays, the first element of the piece and the number of elements.
type Piece = (u32, Where, Where, u64, u64);

fn place<T: Message>(array: &Array<T>) -> Result<Where> {
    let attachment = array.object().attachment();
    let file = attachment.file()?.as_raw_fd();
    Ok([file as u64, attachment.facts().created, array.object().record()])
}

/// Which array it is, whichever handle leads to it: the segment's file, and the object's record.
fn identity(array: &ObjectRef) -> Result<impl Ord> {
    let stat = stat(array.attachment().file()?)?;
    Ok((stat.st_dev, stat.st_ino, array.record()))
}

fn open<T: Message>(pid: u32, [file, created, record]: Where) -> Result<Array<T>> {
    let attachment = Attachment::join(pid, file as i32, created)?;
    Array::from_object(ObjectRef::at(attachment, record, Kind::Array)?)
}

/// The task.
fn fill<F, T, R>((pid, input, output, start, len): Piece) -> std::result::Result<(), String>
where
    F: Fn(&[T], &mut [R]) + Copy + Send + 'static,
    T: Message,
    R: Message,
{
    const { assert!(size_of::<F>() == 0) };
    let open = || Ok((open::<T>(pid, input)?, open::<R>(pid, output)?));
    let (input, output) = open().map_err(|error: Error| error.to_string())?;
    let (start, len) = (start as usize, len as usize);
    let (Some(from), Some(to)) = (input.part(start, len), output.part(start, len)) else {
        return Err("the array is shorter than it was".into());
    };
    if !R::ANY_BITS {
        // SAFETY: `part` has checked that the elements are there.
        let is_valid = |index| unsafe { read::<R>(to.wrapping_add(index).cast()) }.is_some();
        // Whoever was here before may have died in the middle of one.
        if !(0..len).all(is_valid) {
            return Err("a worker that died has left elements in the output that are none".into());
        }
    }
    // SAFETY: F has no bytes, so any aligned pointer will do; it is Copy, and the pool had one of it.
    let function: F = unsafe { std::ptr::NonNull::<F>::dangling().read() };
    // SAFETY: `part` has checked that the elements are there. The pool's process holds both locks until this task is over, has
    // seen that all elements are valid, as we have now of those that another worker may have begun to write, and has given this
    // piece to this task alone; the arrays are two.
    let (from, to) =
        unsafe { (std::slice::from_raw_parts(from, len), std::slice::from_raw_parts_mut(to, len)) };
    function(from, to);
    Ok(())
}

impl Options<'_> {
    /// See [`Pool::map_slice`](crate::Pool::map_slice). [`progress`](Options::progress) is not told.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::map_slice`](crate::Pool::map_slice).
    pub fn map_slice<F, T, R>(
        mut self,
        function: F,
        input: &Array<T>,
        output: &Array<R>,
    ) -> std::result::Result<(), MapError<()>>
    where
        F: Fn(&[T], &mut [R]) + Copy + Send + 'static,
        T: Message,
        R: Message,
    {
        // It has no bytes: its type says all.
        let _: F = function;
        let refused = |error: Error| MapError::new(0, error.into(), Vec::new());
        let invalid = |text: String| refused(Error::new(ErrorKind::InvalidInput, text));
        let len = input.len();
        if len != output.len() {
            return Err(invalid(format!("the input has {len} elements, and the output {}", output.len())));
        }
        let (from, to) = (place(input).map_err(refused)?, place(output).map_err(refused)?);
        // Handles that were opened apart map the same array twice.
        let from_is = identity(input.object()).map_err(refused)?;
        let to_is = identity(output.object()).map_err(refused)?;
        if from_is == to_is {
            return Err(invalid("input and output are one and the same array".into()));
        }
        // A panic of somebody else's callback would release the locks while workers write.
        self.progress = None;
        let core = self.pool.core().clone();
        let size = self.chunk_size.unwrap_or(len.div_ceil(CHUNKS_A_WORKER * self.pool.workers()).max(1));
        self.chunk_size = self.chunk_size.map(|size| size.min(1));
        // In one order for all who lock the same two, whichever is the input.
        let lock_input = || input.lock().map_err(|error| refused(lock_error(&error)));
        let lock_output = || output.lock().map_err(|error| refused(lock_error(&error)));
        let _locks = if from_is < to_is {
            let first = lock_input()?;
            (first, lock_output()?)
        } else {
            let first = lock_output()?;
            (lock_input()?, first)
        };
        let pid = std::process::id();
        let piece =
            move |start: usize| -> Piece { (pid, from, to, start as u64, size.min(len - start) as u64) };
        let pieces: Vec<Piece> = (0..len).step_by(size.max(1)).map(piece).collect();
        self.chunk_size = self.chunk_size.or(Some(1));
        let done = self.map(fill::<F, T, R>, pieces);
        if core.lock().over.is_some() {
            core.wait_until_alone();
        }
        let results = match done {
            Ok(all) => all.into_iter().map(Ok).collect(),
            Err(error) if error.results().is_empty() => {
                return Err(MapError::new(0, error.error().clone(), Vec::new()))
            }
            Err(error) => error.into_results(),
        };
        let results: Vec<_> = results
            .into_iter()
            .map(|result| result.and_then(|filled| filled.map_err(TaskError::Lost)))
            .collect();
        let first =
            results.iter().enumerate().find_map(|(index, result)| Some((index, result.clone().err()?)));
        first.map_or(Ok(()), |(index, error)| Err(MapError::new(index, error, results)))
    }
}

fn lock_error<G>(error: &LockError<G>) -> Error {
    let (kind, text) = match error {
        LockError::OwnerDied(_) => {
            (ErrorKind::OwnerDied, "a process died while it held an array's lock: repair it first")
        }
        LockError::Poisoned(_) => (ErrorKind::Poisoned, "a thread panicked while it held an array's lock"),
        LockError::NotInThisProcess => (ErrorKind::NotInThisProcess, "the array cannot be used after a fork"),
        _ => (ErrorKind::Corrupted, "an array's elements are damaged"),
    };
    Error::new(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill_by<F, T, R>(_: F, piece: Piece) -> std::result::Result<(), String>
    where
        F: Fn(&[T], &mut [R]) + Copy + Send + 'static,
        T: Message,
        R: Message,
    {
        fill::<F, T, R>(piece)
    }

    /// A worker died in the middle of an element, and its piece is given to another.
    #[test]
    fn no_slice_is_made_of_what_is_no_value() {
        let (input, output) = (Array::new(4, 0_u8).unwrap(), Array::new(4, 'a').unwrap());
        let piece =
            |start| (std::process::id(), place(&input).unwrap(), place(&output).unwrap(), start, 2_u64);
        let copy = |from: &[u8], to: &mut [char]| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = (*from).into())
        };
        fill_by(copy, piece(0)).unwrap();
        // SAFETY: an element of the array, of which nobody else knows.
        unsafe { output.part(3, 1).unwrap().cast::<u32>().write(0xd800) };
        assert!(fill_by(copy, piece(2)).unwrap_err().contains("none"));
        fill_by(copy, piece(0)).unwrap();
    }
}

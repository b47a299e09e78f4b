//! Tasks on pieces of shared arrays: only the locations of the arrays travel.
//!
//! A worker maps both arrays for the time of one task, through the descriptors that the pool's
//! process has open. The pool's process holds the locks of both, and assigns every piece to one
//! task; so no two workers share a piece.
//!
//! # Death
//!
//! - The worker dies. Its piece fails, or another worker fills it again from the start: the input
//!   has not changed.
//! - The pool's process dies. The workers end with it, and the next process that locks the arrays
//!   gets `OwnerDied`.

use crate::collections::array::Array;
use crate::message::{is_valid, Message};
use crate::pool::error::{MapError, TaskError};
use crate::pool::function::Function;
use crate::pool::submission::CHUNKS_A_WORKER;
use crate::pool::task_options::TaskOptions;
use crate::segment::attachment::Attachment;
use crate::segment::object::{Object, ObjectRef};
use crate::sync::error::LockError;
use crate::sys::backing::{memory::stat, AsRawFd};
use crate::{Error, ErrorKind, Result};

/// The location of an array: the segment's descriptor and creation time, and the object's record.
type Where = [u64; 3];
/// The pool's process, both arrays, the first element of the piece and the number of elements.
type Piece = (u32, Where, Where, u64, u64);

fn place<T: Message>(array: &Array<T>) -> Result<Where> {
    let attachment = array.object().attachment();
    let file = attachment.file()?.as_raw_fd();
    Ok([file as u64, attachment.facts().created, array.object().record()])
}

/// Identifies an array, whichever handle refers to it: the segment's file, and the object's record.
fn identity(array: &ObjectRef) -> Result<impl Ord + use<>> {
    let stat = stat(array.attachment().file()?)?;
    Ok((stat.st_dev, stat.st_ino, array.record()))
}

fn open<T: Message>(pid: u32, [file, created, record]: Where) -> Result<Array<T>> {
    let attachment = Attachment::join(pid, file as i32, created)?;
    Array::from_record(attachment, record)
}

/// A function that fills a piece.
struct Fill<T, R>(fn(&[T], &mut [R]));

impl<T, R> Clone for Fill<T, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, R> Copy for Fill<T, R> {}

impl<T: Message, R: Message> Function<Piece, std::result::Result<(), String>> for Fill<T, R> {
    fn address(self) -> usize {
        self.0 as usize
    }

    unsafe fn at(address: usize) -> Self {
        // SAFETY: the caller promises that it is the address of a function of this type.
        Fill(unsafe { std::mem::transmute::<usize, fn(&[T], &mut [R])>(address) })
    }

    fn call(self, piece: Piece) -> std::result::Result<(), String> {
        fill(self.0, piece)
    }
}

/// Runs the task.
fn fill<T: Message, R: Message>(
    function: fn(&[T], &mut [R]),
    (pid, input, output, start, len): Piece,
) -> std::result::Result<(), String> {
    let open = || Ok((open::<T>(pid, input)?, open::<R>(pid, output)?));
    let (input, output) = open().map_err(|error: Error| error.to_string())?;
    let (start, len) = (start as usize, len as usize);
    let (Some(from), Some(to)) = (input.part(start, len), output.part(start, len)) else {
        return Err("the array is shorter than it was".into());
    };
    if !R::ANY_BITS {
        // SAFETY: `part` has checked that the elements are there.
        let is_valid = |index| unsafe { is_valid::<R>(to.wrapping_add(index).cast()) };
        // The worker that had this piece before may have died in the middle of an element.
        if !(0..len).all(is_valid) {
            return Err("a worker that died has left elements in the output that are none".into());
        }
    }
    // SAFETY: `part` has checked that the elements are there. The pool's process holds both locks
    // until this task is over, and has assigned this piece to this task alone. All elements are
    // valid: it has checked that, and we have checked those that another worker may have begun to
    // write. The arrays are not the same.
    let from = unsafe { std::slice::from_raw_parts(from, len) };
    // SAFETY: as above.
    let to = unsafe { std::slice::from_raw_parts_mut(to, len) };
    function(from, to);
    Ok(())
}

impl TaskOptions<'_> {
    /// See [`Pool::map_slice`](crate::Pool::map_slice). [`progress`](TaskOptions::progress) is not
    /// called.
    ///
    /// # Errors
    ///
    /// Those of [`Pool::map_slice`](crate::Pool::map_slice).
    pub fn map_slice<T, R>(
        mut self,
        function: fn(&[T], &mut [R]),
        input: &Array<T>,
        output: &Array<R>,
    ) -> std::result::Result<(), MapError<()>>
    where
        T: Message,
        R: Message,
    {
        let refused = |error: Error| MapError::new(0, error.into(), Vec::new());
        let invalid = |text: String| refused(Error::new(ErrorKind::InvalidInput, text));
        let len = input.len();
        if len != output.len() {
            return Err(invalid(format!("the input has {len} elements, and the output {}", output.len())));
        }
        let (from, to) = (place(input).map_err(refused)?, place(output).map_err(refused)?);
        // Handles that were opened separately map the same array twice.
        let from_is = identity(input.object()).map_err(refused)?;
        let to_is = identity(output.object()).map_err(refused)?;
        if from_is == to_is {
            return Err(invalid("input and output are one and the same array".into()));
        }
        // A panic in the program's callback would release the locks while workers write.
        self.progress = None;
        let engine = self.engine.clone();
        let size =
            self.chunk_size.unwrap_or(len.div_ceil(CHUNKS_A_WORKER * engine.shared.plan.workers).max(1));
        self.chunk_size = self.chunk_size.map(|size| size.min(1));
        // Always locks two arrays in the same order, whichever is the input.
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
        let lost = engine.lost();
        let done = self.map_by(Fill(function), pieces);
        if engine.is_over_or_damaged(lost) && !engine.wait_until_alone() {
            // The next process that locks it must know.
            output.poison();
            let text =
                "a worker that was killed has not ended in 10 s, and may be in the middle of an element";
            return Err(MapError::new(0, TaskError::Lost(text.to_owned()), Vec::new()));
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
        LockError::NotInThisProcess(_) => {
            (ErrorKind::NotInThisProcess, "the array cannot be used after a fork")
        }
        _ => (ErrorKind::Corrupted, "an array's elements are damaged"),
    };
    Error::new(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker died in the middle of an element, and another gets its piece.
    #[test]
    fn no_slice_is_made_of_an_invalid_value() {
        let (input, output) = (Array::new(4, 0_u8).unwrap(), Array::new(4, 'a').unwrap());
        let piece =
            |start| (std::process::id(), place(&input).unwrap(), place(&output).unwrap(), start, 2_u64);
        let copy: fn(&[u8], &mut [char]) =
            |from, to| to.iter_mut().zip(from).for_each(|(to, from)| *to = (*from).into());
        fill(copy, piece(0)).unwrap();
        // SAFETY: an element of the array, which no other thread has.
        unsafe { output.part(3, 1).unwrap().cast::<u32>().write(0xd800) };
        assert!(fill(copy, piece(2)).unwrap_err().contains("none"));
        fill(copy, piece(0)).unwrap();
    }
}

//! The executable in memory: functions as offsets, which are the same in every process of one
//! program.
//!
//! The kernel loads a position-independent program at another address each time, all of it moved by
//! the same distance. So the offset of a function from that address means the same in parent and
//! child, if both run the same file.

use std::fs::File;
use std::io::Read;
use std::ops::Range;

/// The main program: its load address, and which of its addresses can be executed.
#[derive(Debug, Default)]
pub(crate) struct Image {
    base: usize,
    code: Vec<Range<usize>>,
}

impl Image {
    /// Inspects the program that this process runs.
    pub(crate) fn of_this_program() -> Image {
        let mut image = Image::default();
        // SAFETY: the callback has the signature that is called, and gets the image as its data for
        // the time of the call.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut image).cast()) };
        image
    }

    /// Returns the offset of a function at `address`; `None` if it is not in the main program but
    /// in a shared library.
    pub(crate) fn offset_of(&self, address: usize) -> Option<u64> {
        self.has(address).then(|| address.wrapping_sub(self.base) as u64)
    }

    /// Returns the address of the function at `offset`; `None` if nothing can be executed there.
    pub(crate) fn address_of(&self, offset: u64) -> Option<usize> {
        let address = self.base.wrapping_add(usize::try_from(offset).ok()?);
        self.has(address).then_some(address)
    }

    /// Returns whether `/proc/self/exe` is the file that this image was loaded from. It is not if
    /// the program was started through a loader (`ld.so PROGRAM`) or an emulator, which would take
    /// the arguments of a child for its own.
    ///
    /// Fails if the file cannot be read.
    pub(crate) fn is_of_proc_self_exe(&self) -> std::io::Result<bool> {
        // The offset of e_entry in the header of an ELF file.
        const AT: usize = 24;
        let mut header = [0; AT + size_of::<usize>()];
        // The thread's path, because /proc/self is empty once the main thread has ended.
        File::open("/proc/thread-self/exe")?.read_exact(&mut header)?;
        let (magic, entry) = (&header[..4], header[AT..].try_into().map_or(0, usize::from_le_bytes));
        // SAFETY: reads a value that the kernel, or the loader after it, set at the start.
        let started_at = unsafe { libc::getauxval(libc::AT_ENTRY) } as usize;
        Ok(magic == b"\x7fELF" && self.base.wrapping_add(entry) == started_at)
    }

    fn has(&self, address: usize) -> bool {
        self.code.iter().any(|segment| segment.contains(&address))
    }
}

/// Returns the number of bytes of thread-local storage that each thread has from its start, of the
/// program and its libraries. Some C libraries take them out of the thread's stack.
pub(crate) fn static_tls() -> usize {
    let mut total = 0_usize;
    // SAFETY: the callback has the signature that is called, and gets the sum as its data for the
    // time of the call.
    unsafe { libc::dl_iterate_phdr(Some(add_tls), (&raw mut total).cast()) };
    total
}

/// Adds the thread-local storage of one loaded object: the callback of [`static_tls`].
unsafe extern "C" fn add_tls(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the linker passes a valid description, and `data` is the sum that static_tls passed.
    let (info, total) = unsafe { (&*info, &mut *data.cast::<usize>()) };
    for index in 0..usize::from(info.dlpi_phnum) {
        // SAFETY: the linker says that there are this many.
        let header = unsafe { &*info.dlpi_phdr.add(index) };
        if header.p_type == libc::PT_TLS {
            *total = total.saturating_add(header.p_memsz as usize).saturating_add(header.p_align as usize);
        }
    }
    0
}

/// Inspects the main program, which is the first loaded object, and stops there: the callback of
/// [`Image::of_this_program`].
unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the linker passes a valid description, and `data` is the image that of_this_program
    // passed.
    let (info, image) = unsafe { (&*info, &mut *data.cast::<Image>()) };
    image.base = info.dlpi_addr as usize;
    for index in 0..usize::from(info.dlpi_phnum) {
        // SAFETY: the linker says that there are this many.
        let header = unsafe { &*info.dlpi_phdr.add(index) };
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
            let start = image.base.wrapping_add(header.p_vaddr as usize);
            image.code.push(start..start.saturating_add(header.p_memsz as usize));
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() {}

    #[test]
    fn thread_local_storage_is_counted() {
        std::thread_local! {
            static LARGE: [std::cell::Cell<u8>; 100_000] =
                const { [const { std::cell::Cell::new(0) }; 100_000] };
        }
        LARGE.with(|large| large[99_999].set(1));
        assert!((100_000..10_000_000).contains(&static_tls()), "{}", static_tls());
    }

    #[test]
    fn offsets_lead_back() {
        let image = Image::of_this_program();
        let address = here as fn() as usize;
        let offset = image.offset_of(address).unwrap();
        assert!(image.is_of_proc_self_exe().unwrap());
        assert_eq!(image.address_of(offset), Some(address));
        assert_eq!(image.offset_of(libc::getpid as *const () as usize), None, "it is in a shared library");
        assert_eq!(image.offset_of(&raw const image as usize), None, "on the stack");
        assert_eq!(image.address_of(u64::MAX / 2), None);
        assert_eq!(image.offset_of(0), None);
    }
}

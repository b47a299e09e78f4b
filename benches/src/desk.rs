//! The shared memory of a measurement, without the measured objects: gates, numbers, bare cache
//! lines and room for objects.

use std::cell::UnsafeCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{ftruncate, memfd_create, MemfdFlags};

use crate::cpu::Cpus;
use crate::gate::Gate;

/// One atomic with two cache lines of its own, because neighbours are fetched in pairs.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Line(pub AtomicU64);

/// Number of bare lines of a desk.
pub const LINES: usize = 8;

/// Room for one object of a contender, which alone knows what its bytes mean. Zero when fresh.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Room(UnsafeCell<[u8; Room::SIZE]>);

// SAFETY: nothing but pointers to the bytes can be had from it.
unsafe impl Sync for Room {}

impl Room {
    const SIZE: usize = 256;

    /// Returns the address of the object.
    pub fn of<T>(&self) -> *mut T {
        const { assert!(size_of::<T>() <= Room::SIZE && align_of::<T>() <= align_of::<Room>()) };
        self.0.get().cast()
    }
}

/// Number of rooms of a desk.
pub const ROOMS: usize = 2;

/// The memory of a desk. Zero is the fresh state.
#[derive(Debug)]
#[repr(C)]
pub struct Board {
    /// Raised by the far side when it is ready.
    pub ready: Gate,
    /// Raised by the near side for one more run.
    pub go: Gate,
    /// Raised by the far side when the run is over and `answer` is written.
    pub done: Gate,
    /// The subject of the next run; its meaning is the bench's.
    pub order: Line,
    /// The result of the run.
    pub answer: Line,
    pub near_cpu: Line,
    pub far_cpu: Line,
    /// Bare lines, for the floors and for links that carry a value beside a signal.
    pub lines: [Line; LINES],
    /// For objects that need a place in memory.
    pub rooms: [Room; ROOMS],
}

/// A mapping of a board: anonymous shared memory, reachable through a descriptor.
#[derive(Debug)]
pub struct Desk {
    file: File,
    map: MmapRaw,
}

impl Desk {
    pub fn new(cpus: Cpus) -> io::Result<Desk> {
        use std::sync::atomic::Ordering::Relaxed;
        let fd = memfd_create("benches", MemfdFlags::CLOEXEC)?;
        ftruncate(&fd, size_of::<Board>() as u64)?;
        let desk = Desk::open(fd)?;
        desk.near_cpu.0.store(cpus.near as u64, Relaxed); // handed over by starting the far side
        desk.far_cpu.0.store(cpus.far as u64, Relaxed);
        Ok(desk)
    }

    pub fn open(fd: OwnedFd) -> io::Result<Desk> {
        let file = File::from(fd);
        let map = MmapOptions::new().len(size_of::<Board>()).populate().map_raw(&file)?;
        Ok(Desk { file, map })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub fn cpus(&self) -> Cpus {
        use std::sync::atomic::Ordering::Relaxed;
        Cpus { near: self.near_cpu.0.load(Relaxed) as usize, far: self.far_cpu.0.load(Relaxed) as usize }
    }
}

impl std::ops::Deref for Desk {
    type Target = Board;

    fn deref(&self) -> &Board {
        // SAFETY: the mapping is as long as a Board, page-aligned, lives as long as self, and holds
        // nothing but atomics and bytes in cells, for which every bit pattern is valid.
        unsafe { &*self.map.as_ptr().cast::<Board>() }
    }
}

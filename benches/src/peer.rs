//! The far side in a process of its own: this program again; its arguments say which part to play.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};

use crate::cpu::{pin, Cpus};
use crate::desk::Desk;
use crate::link::Result;

/// The first argument of a far side.
pub const FAR: &str = "--far";

/// The knowledge that both sides have before they are linked.
#[derive(Debug)]
pub struct Setup {
    pub desk: Desk,
    /// A name that nobody else uses, for contenders that meet by name.
    pub name: String,
    /// Descriptors for the far side, which takes them in the same order.
    pub fds: Vec<OwnedFd>,
}

impl Setup {
    pub fn new(cpus: Cpus) -> Result<Setup> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("benches-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        Ok(Setup { desk: Desk::new(cpus)?, name, fds: Vec::new() })
    }

    /// Returns another mapping of the desk, which an end may keep.
    pub fn desk_again(&self) -> Result<Desk> {
        Ok(Desk::open(self.desk.fd().try_clone_to_owned()?)?)
    }

    /// Returns the next descriptor that the near side left.
    pub fn take(&mut self) -> Result<OwnedFd> {
        if self.fds.is_empty() {
            return Err("the near side left no more descriptors".into());
        }
        Ok(self.fds.remove(0))
    }

    /// Starts the far side in `role`. It dies with the calling thread.
    pub fn start(&mut self, role: &str) -> Result<Peer> {
        let fds = std::mem::take(&mut self.fds);
        let numbers: Vec<RawFd> =
            std::iter::once(self.desk.fd().as_raw_fd()).chain(fds.iter().map(AsRawFd::as_raw_fd)).collect();
        let mut command = Command::new("/proc/self/exe");
        command.args([FAR, role, &self.name]).args(numbers.iter().map(RawFd::to_string));
        // SAFETY: between fork and exec the closure makes two kinds of system calls and touches no
        // lock and no heap.
        unsafe {
            command.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
                for &number in &numbers {
                    if libc::fcntl(number, libc::F_SETFD, 0) != 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn()?;
        drop(fds); // the far side has them; a pipe's end of file must not wait for us
        Ok(Peer { watch: watch(child, role.to_string()) })
    }

    /// Returns the role and the setup that [`start`](Setup::start) was called with, in the far
    /// side.
    pub fn from_arguments(mut arguments: impl Iterator<Item = OsString>) -> Result<(String, Setup)> {
        let mut text = move || {
            let argument = arguments.next()?;
            argument.into_string().ok()
        };
        let role = text().ok_or("no role")?;
        let name = text().ok_or("no name")?;
        let mut fds = Vec::new();
        while let Some(number) = text() {
            // SAFETY: the near side left this descriptor open for us and nobody else here knows it.
            fds.push(unsafe { OwnedFd::from_raw_fd(number.parse()?) });
        }
        if fds.is_empty() {
            return Err("no desk".into());
        }
        let desk = Desk::open(fds.remove(0))?;
        pin(desk.cpus().far)?;
        for fd in &fds {
            rustix::io::fcntl_setfd(fd.as_fd(), rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok((role, Setup { desk, name, fds }))
    }
}

/// A running far side.
#[derive(Debug)]
pub struct Peer {
    watch: JoinHandle<()>,
}

impl Peer {
    /// Waits until the far side has ended.
    pub fn join(self) {
        let _ = self.watch.join(); // it ends the process itself if anything is wrong
    }
}

/// Ends the whole bench when the far side fails, because the near side may be polling for it.
fn watch(mut child: Child, role: String) -> JoinHandle<()> {
    thread::spawn(move || match child.wait() {
        Ok(status) if status.success() => {}
        Ok(status) => {
            eprintln!("benches: the far side of {role} ended with {status}");
            std::process::exit(2);
        }
        Err(error) => {
            eprintln!("benches: waiting for the far side of {role}: {error}");
            std::process::exit(2);
        }
    })
}

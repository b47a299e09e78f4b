//! `top` on a terminal: it restores the terminal, whatever ends or stops it.

mod common;

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{assert_failure, command, directory, eventually, no_core_dump, Running, PATIENCE, PROGRAM};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{fcntl_setfl, OFlags};
use rustix::process::{kill_process, Pid, Signal};
use rustix::pty::{grantpt, openpt, ptsname, unlockpt, OpenptFlags};
use rustix::termios::{tcgetattr, tcsetwinsize, LocalModes, Winsize};

/// A terminal: this program is the window, and programs run at the other end.
struct Terminal {
    window: File,
    end: File,
    seen: RefCell<Vec<u8>>,
}

impl Terminal {
    fn new(rows: u16, columns: u16) -> Terminal {
        let window = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&window).unwrap();
        unlockpt(&window).unwrap();
        let name = ptsname(&window, Vec::new()).unwrap();
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let end = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path).unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&end, size).unwrap();
        fcntl_setfl(&window, OFlags::NONBLOCK).unwrap();
        Terminal { window: window.into(), end, seen: RefCell::default() }
    }

    /// Starts a program as the leader of a session on this terminal.
    fn start(&self, mut command: Command, is_deaf_to_hangups: bool) -> Running {
        let end = || self.end.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end());
        let lead = move || {
            rustix::process::setsid()?;
            // SAFETY: standard input is open for all of the program.
            rustix::process::ioctl_tiocsctty(unsafe { std::os::fd::BorrowedFd::borrow_raw(0) })?;
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGTSTP] {
                // SAFETY: takes integers only, and may be called between fork and exec.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            let hangup = if is_deaf_to_hangups { libc::SIG_IGN } else { libc::SIG_DFL };
            // SAFETY: as above.
            unsafe { libc::signal(libc::SIGHUP, hangup) };
            no_core_dump()
        };
        // SAFETY: `lead` makes system calls only.
        unsafe { command.pre_exec(lead) };
        Running::started(command.spawn().unwrap())
    }

    /// Returns everything that was written to it.
    fn text(&self) -> String {
        let mut bytes = [0; 4096];
        let mut window = &self.window;
        while let Ok(count @ 1..) = window.read(&mut bytes) {
            self.seen.borrow_mut().extend(&bytes[..count]);
        }
        String::from_utf8_lossy(&self.seen.borrow()).into_owned()
    }

    /// Forgets what was written before.
    fn forget(&self) {
        self.text();
        self.seen.borrow_mut().clear();
    }

    fn wait_for(&self, text: &str) {
        let begin = Instant::now();
        while !self.text().contains(text) {
            assert!(begin.elapsed() < PATIENCE, "never {text:?} in {:?}", self.text());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn press(&self, keys: &str) {
        (&self.window).write_all(keys.as_bytes()).unwrap();
    }

    /// Returns whether it reads line by line, as before `top`.
    fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.end).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Checks that the main screen and the cursor are back.
    #[track_caller]
    fn assert_given_back(&self) {
        let text = self.text();
        let last = |mode: &str| text.rfind(&format!("\x1b[?{mode}h")) > text.rfind(&format!("\x1b[?{mode}l"));
        assert!(last("25") && !last("1049") && self.is_cooked(), "{text:?}");
    }
}

/// Starts `top`, and waits until it has drawn its tables.
fn top(terminal: &Terminal, dir: &Path) -> Running {
    let top = terminal.start(command(dir, &["top", "--interval", "0.1"]), false);
    terminal.wait_for("segments");
    assert!(!terminal.is_cooked());
    top
}

#[test]
fn keys_end_it() {
    let dir = directory();
    for key in ["q", "\x1b", "\x03"] {
        let terminal = Terminal::new(24, 80);
        let top = top(&terminal, dir.path());
        terminal.press("x\x1b[A");
        terminal.press(key);
        assert_eq!(top.end().status.code(), Some(0), "{key:?}");
        terminal.assert_given_back();
    }
}

#[test]
fn signals_end_it() {
    let dir = directory();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let terminal = Terminal::new(24, 80);
        let top = top(&terminal, dir.path());
        top.signal(signal);
        assert_eq!(top.end().status.signal(), Some(signal.as_raw()));
        terminal.assert_given_back();
    }
    let others = [
        Signal::ABORT,
        Signal::BUS,
        Signal::FPE,
        Signal::ILL,
        Signal::SEGV,
        Signal::SYS,
        Signal::TRAP,
        Signal::IO,
    ]
    .into_iter()
    .chain([
        Signal::PROF,
        Signal::POWER,
        Signal::STKFLT,
        Signal::USR1,
        Signal::USR2,
        Signal::VTALARM,
        Signal::XCPU,
    ]);
    for number in others.map(Signal::as_raw).chain([libc::SIGRTMIN(), libc::SIGRTMAX()]) {
        let terminal = Terminal::new(24, 80);
        let top = top(&terminal, dir.path());
        // SAFETY: takes integers only.
        assert_eq!(unsafe { libc::kill(top.pid() as i32, number) }, 0);
        assert_eq!(top.end().status.signal(), Some(number));
        terminal.assert_given_back();
    }
    // The keys do the same.
    let terminal = Terminal::new(24, 80);
    let top = top(&terminal, dir.path());
    terminal.press("\x1c");
    assert_eq!(top.end().status.signal(), Some(Signal::QUIT.as_raw()));
    terminal.assert_given_back();
}

#[test]
fn a_closed_terminal_ends_it() {
    let dir = directory();
    for is_deaf in [false, true] {
        let terminal = Terminal::new(24, 80);
        let top = terminal.start(command(dir.path(), &["top", "--interval", "86400"]), is_deaf);
        terminal.wait_for("segments");
        drop(terminal);
        let status = top.end().status;
        let expected = if is_deaf { (Some(1), None) } else { (None, Some(Signal::HUP.as_raw())) };
        assert_eq!((status.code(), status.signal()), expected);
    }
}

/// A terminal that is closed may have lost input, so the sender fails.
#[test]
fn a_closed_terminal_is_not_the_end_of_the_input() {
    let dir = directory();
    for mode in [&[][..], &["--lines"]] {
        let terminal = Terminal::new(24, 80);
        let mut receiver = Running::start(dir.path(), &[&["recv", "x"], mode].concat());
        let sender = terminal.start(command(dir.path(), &[&["send", "x"], mode].concat()), true);
        terminal.press("one\n");
        let mut line = [0; 4];
        receiver.child().stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"one\n");
        drop(terminal);
        assert_eq!(sender.end().status.code(), Some(1));
        assert_failure(&receiver.end(), "sender");
    }
}

/// Nobody reads what it draws.
#[test]
fn a_stuck_terminal_keeps_nobody() {
    let dir = directory();
    // There is more to draw than the kernel buffers for a terminal.
    for n in 0..300 {
        std::fs::write(dir.path().join(format!("pagemate.{n:0200}")), b"not a segment").unwrap();
    }
    let terminal = Terminal::new(320, 400);
    let top = terminal.start(command(dir.path(), &["top"]), false);
    eventually("stuck in a write", || {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&terminal.end, PollFlags::OUT)], Some(&now)) == Ok(0)
    });
    top.signal(Signal::TERM);
    assert_eq!(top.end().status.signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn another_size_is_drawn_at_once() {
    let dir = directory();
    let terminal = Terminal::new(24, 80);
    let top = terminal.start(command(dir.path(), &["top", "--interval", "86400"]), false);
    terminal.wait_for("pools");
    terminal.forget();
    let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal.end.as_fd(), size).unwrap();
    terminal.wait_for("pools");
    terminal.press("q");
    assert_eq!(top.end().status.code(), Some(0));
}

/// A shell stops it, uses the terminal for a line, and continues it.
#[test]
fn stopped_and_continued() {
    let dir = directory();
    for is_key in [true, false] {
        let terminal = Terminal::new(24, 80);
        let mut shell = Command::new("sh");
        let script = r#"
            set -m
            "$0" top --interval 0.1 --dir "$1"
            echo "now the shell"
            read line
            fg
            echo "status $?"
        "#;
        shell.args(["-c", script, PROGRAM]).arg(dir.path());
        let shell = terminal.start(shell, false);
        terminal.wait_for("segments");
        if is_key {
            terminal.press("\x1a");
        } else {
            let children = format!("/proc/{0}/task/{0}/children", shell.pid());
            let top: i32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
            kill_process(Pid::from_raw(top).unwrap(), Signal::TSTP).unwrap();
        }
        terminal.wait_for("now the shell");
        terminal.assert_given_back();
        terminal.forget();
        terminal.press("go on\n");
        terminal.wait_for("segments");
        assert!(!terminal.is_cooked());
        terminal.press("q");
        terminal.wait_for("status 0");
        terminal.assert_given_back();
        assert_eq!(shell.end().status.code(), Some(0));
    }
}

//! The terminal of `top`: taken at the start, restored however the program ends or stops.
//!
//! | event | outcome |
//! |---|---|
//! | `q`, Esc, Ctrl-C | restored, status 0 |
//! | SIGINT, SIGTERM, SIGHUP, SIGQUIT (Ctrl-\) | restored, and the program ends by that signal |
//! | any other signal that ends programs, or a fault | likewise, at once |
//! | SIGTSTP (Ctrl-Z) | restored, and the program stops; taken again when it continues |
//! | SIGSTOP, then SIGCONT | taken again: the shell has restored its own settings meanwhile |
//! | the terminal is closed | an error |
//! | the terminal takes no bytes any more | a signal still ends the program |

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::termios::{
    tcgetattr, tcgetpgrp, tcsetattr, LocalModes, OptionalActions, SpecialCodeIndex, Termios,
};

use crate::interrupt::{self, Turn};
use crate::stdio::wait_for;
use crate::{Failure, Outcome};

/// The longest time until a signal is noticed.
const GLANCE: Duration = Duration::from_millis(100);
/// The time for which the terminal may take no bytes while it is restored.
const PATIENCE: Duration = Duration::from_millis(500);

/// The alternate screen, without a cursor.
const TAKE: &[u8] = b"\x1b[?1049h\x1b[?25l";
/// The main screen, with the cursor, in the default colours.
const GIVE_BACK: &[u8] = b"\x1b[0m\x1b[?1049l\x1b[?25h";

/// A terminal that is drawn on. Dropping it restores the terminal.
pub(super) struct Screen {
    /// The source of keys.
    keys: File,
    /// The terminal as a signal handler reads it.
    loan: &'static Loan,
    /// Never dropped, because dropping it would write to the terminal that was given back, or to
    /// standard error on failure.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Output>>>,
}

/// The terminal and its settings, for the restoration.
#[derive(Debug)]
struct Loan {
    /// The terminal.
    keys: File,
    /// The settings of the program that had it before.
    before: Termios,
    is_taken: AtomicBool,
}

/// The terminal that [`Screen`] has. Kept for good.
static LOAN: OnceLock<Loan> = OnceLock::new();

/// The result of [`Screen::wait`].
pub(super) enum Input {
    /// No input before the timeout.
    Nothing,
    /// Everything must be drawn again.
    Redraw,
    /// A key that ends the program.
    End,
}

impl Screen {
    /// Takes the terminal, and installs the signal handlers.
    pub(super) fn take() -> Result<Screen, Failure> {
        let cannot = |error: io::Error| format!("the terminal cannot be drawn on: {error}");
        interrupt::install()?;
        interrupt::install_turns()?;
        let keys = match io::stdin().is_terminal() {
            true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
            false => OpenOptions::new().read(true).write(true).open("/dev/tty"),
        };
        let keys = keys.map_err(cannot)?;
        let before = tcgetattr(&keys).map_err(|error| cannot(error.into()))?;
        let terminal = Terminal::new(CrosstermBackend::new(Output)).map_err(cannot)?;
        let loan = Loan { keys: keys.try_clone().map_err(cannot)?, before, is_taken: AtomicBool::new(false) };
        let loan = LOAN.get_or_init(|| loan);
        interrupt::install_ends(|| LOAN.get().into_iter().for_each(Loan::give_back))?;
        let mut screen = Screen { keys, loan, terminal: ManuallyDrop::new(terminal) };
        screen.take_again().map_err(cannot)?;
        Ok(screen)
    }

    /// Takes the terminal, and clears it.
    fn take_again(&mut self) -> io::Result<()> {
        let mut settings = self.loan.before.clone();
        settings.make_raw();
        // Ctrl-Z and Ctrl-\ stay signals. Ctrl-C is a key like q.
        settings.local_modes |= LocalModes::ISIG;
        settings.special_codes[SpecialCodeIndex::VINTR] = 0;
        self.loan.is_taken.store(true, Relaxed);
        self.set(&settings)?;
        Output.write_all(TAKE)?;
        self.terminal.clear()
    }

    /// Sets the settings of the terminal.
    fn set(&self, settings: &Termios) -> io::Result<()> {
        loop {
            // Stops the process if it is in the background, until it may continue.
            match tcsetattr(&self.keys, OptionalActions::Now, settings) {
                Err(Errno::INTR) => interrupt::check().map_err(io::Error::other)?,
                done => return Ok(done?),
            }
        }
    }

    /// Draws the changes since the last call.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Outcome {
        match self.terminal.draw(draw) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the terminal cannot be drawn on: {error}").into()),
        }
    }

    /// Waits for a key, a signal or a new size of the terminal, for at most `timeout`.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<Input, Failure> {
        interrupt::check()?;
        match interrupt::turn() {
            Turn::None => {}
            Turn::Resized => return Ok(Input::Redraw),
            Turn::Stop => {
                self.loan.give_back();
                interrupt::stop()?;
                interrupt::check()?;
                self.take_again()?;
                return Ok(Input::Redraw);
            }
            Turn::Continued => {
                self.take_again()?;
                return Ok(Input::Redraw);
            }
        }
        if !wait_for(self.keys.as_fd(), PollFlags::IN, timeout.min(GLANCE))? {
            return Ok(Input::Nothing);
        }
        let mut keys = [0; 1024];
        match self.keys.read(&mut keys) {
            Ok(0) => Err("the terminal is closed".into()),
            Ok(count) if ends_program(&keys[..count]) => Ok(Input::End),
            Ok(_) => Ok(Input::Nothing),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                Ok(Input::Nothing)
            }
            Err(error) => Err(format!("the terminal is closed: {error}").into()),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.loan.give_back();
    }
}

impl Loan {
    /// Restores the terminal, once. Signal handlers call it too, so it makes system calls only.
    fn give_back(&self) {
        if !self.is_taken.swap(false, Relaxed) {
            return;
        }
        // In the background, another program uses the terminal, and its settings stay.
        if tcgetpgrp(&self.keys).is_ok_and(|group| group != getpgrp()) {
            return;
        }
        let begin = Instant::now();
        let mut bytes = GIVE_BACK;
        while !bytes.is_empty() && begin.elapsed() < PATIENCE {
            match wait_for(io::stdout().as_fd(), PollFlags::OUT, GLANCE) {
                Ok(true) => match rustix::io::write(io::stdout(), bytes) {
                    Ok(count) => bytes = &bytes[count..],
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(_) => break, // the terminal is gone
                },
                Ok(false) => {}
                Err(_) => break,
            }
        }
        let _ = tcsetattr(&self.keys, OptionalActions::Now, &self.before); // fails if the terminal is gone
    }
}

/// Returns whether one of these keys is `q`, Ctrl-C or Esc. Other keys may begin with the byte of
/// Esc: `ESC [ A` is one.
fn ends_program(mut keys: &[u8]) -> bool {
    loop {
        keys = match keys {
            [] => return false,
            [b'q' | 0x03, ..] | [0x1b] => return true,
            [0x1b, b'[' | b'O', rest @ ..] => {
                let end = rest.iter().position(|byte| (0x40..=0x7e).contains(byte));
                end.map_or(&[], |end| &rest[end + 1..])
            }
            [0x1b, _, rest @ ..] | [_, rest @ ..] => rest,
        };
    }
}

/// Standard output for drawing. A terminal that takes no bytes does not keep the program from
/// ending.
struct Output;

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            // Not as `Interrupted`, because callers would try again.
            interrupt::check().map_err(io::Error::other)?;
            match rustix::io::write(io::stdout(), bytes) {
                Err(Errno::AGAIN) => drop(wait_for(io::stdout().as_fd(), PollFlags::OUT, GLANCE)?),
                Err(Errno::INTR) => {}
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_ctrl_c_and_esc_end_the_program() {
        for end in [&b"q"[..], b"\x1b", b"\x03", b"xq", b"\x1b[Aq", b"\x1bOPq", b"\x1bx\x1b"] {
            assert!(ends_program(end), "{end:?}");
        }
        for other in
            [&b""[..], b"x", b"Q", b"\x1b[A", b"\x1bOP", b"\x1bq", b"\x1b[1;5q", b"\x1b[", "ü".as_bytes()]
        {
            assert!(!ends_program(other), "{other:?}");
        }
    }
}

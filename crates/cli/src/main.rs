//! The pagemate program: inspects shared memory, streams through it, removes what crashes left.
//!
//! One file for each subcommand. Exit status: 0; 1 for a failure, with one line on standard error;
//! 2 for wrong usage. If a signal ends the program, the status says so. A reader that closes the
//! output (`pagemate ls | head -1`) is not a failure. Any other byte that cannot be written is one.

mod call;
mod contents;
mod demo;
mod gc;
mod get;
mod hz;
mod interrupt;
mod location;
mod ls;
mod output;
mod progress;
mod publish;
mod recv;
mod rm;
mod send;
mod set;
mod show;
mod stdio;
mod stream;
mod subscribe;
mod top;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The exit status for wrong arguments.
const WRONG_USAGE: u8 = 2;

/// The reason of a failure, in one sentence.
type Failure = Box<dyn std::error::Error>;
/// The result of a command.
type Outcome = Result<(), Failure>;

/// Processes on the same page: inspect shared memory, stream through it, remove what crashes left
#[derive(Debug, Parser)]
#[command(name = "pagemate", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Send(send::Send),
    Recv(recv::Recv),
    Pub(publish::Pub),
    Sub(subscribe::Sub),
    Hz(hz::Hz),
    Call(call::Call),
    Ls(ls::Ls),
    Show(show::Show),
    Get(get::Get),
    Set(set::Set),
    Top(top::Top),
    Rm(rm::Rm),
    Gc(gc::Gc),
}

impl Command {
    fn run(self) -> Outcome {
        match self {
            Command::Demo(demo) => demo.run(),
            Command::Send(send) => send.run(),
            Command::Recv(recv) => recv.run(),
            Command::Pub(publish) => publish.run(),
            Command::Sub(subscribe) => subscribe.run(),
            Command::Hz(hz) => hz.run(),
            Command::Call(call) => call.run(),
            Command::Ls(ls) => ls.run(),
            Command::Show(show) => show.run(),
            Command::Get(get) => get.run(),
            Command::Set(set) => set.run(),
            Command::Top(top) => top.run(),
            Command::Rm(rm) => rm.run(),
            Command::Gc(gc) => gc.run(),
        }
    }
}

fn main() -> ExitCode {
    // First, because the processes of the demo begin here too.
    pagemate::init();
    // Reaching the file size limit (`ulimit -f`) is a failure with a message, not a death in the
    // middle of a stream.
    // SAFETY: takes integers only.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let outcome = match Arguments::try_parse() {
        Ok(arguments) => arguments.command.run(),
        Err(wrong) if wrong.use_stderr() => {
            // If this fails, the status says it as well. The same holds below.
            let _ = stdio::tell(&text(&wrong, std::io::stderr().is_terminal()));
            return ExitCode::from(WRONG_USAGE);
        }
        Err(help) => output::print(&text(&help, std::io::stdout().is_terminal())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            interrupt::obey();
            let _ = stdio::tell(&format!("pagemate: {}\n", output::one_line(&failure.to_string())));
            ExitCode::FAILURE
        }
    }
}

/// Returns the help or an explanation, in colours for a terminal.
fn text(of: &clap::Error, is_terminal: bool) -> String {
    match is_terminal && std::env::var_os("NO_COLOR").is_none() {
        true => of.render().ansi().to_string(),
        false => of.render().to_string(),
    }
}

//! The pagemate program: looks into shared memory, streams through it, sweeps what crashes left.
//!
//! One file per subcommand. Exit status: 0; 1 for a failure, with one line on standard error; 2 for wrong usage.

mod contents;
mod demo;
mod gc;
mod get;
mod interrupt;
mod ls;
mod output;
mod progress;
mod recv;
mod rm;
mod send;
mod set;
mod show;
mod site;
mod stream;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Why a command failed, in one sentence.
type Failure = Box<dyn std::error::Error>;
/// What a command comes to.
type Outcome = Result<(), Failure>;

/// Processes on the same page: look into shared memory, stream through it, sweep what crashes left.
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
    match Arguments::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            interrupt::obey();
            eprintln!("pagemate: {failure}");
            ExitCode::FAILURE
        }
    }
}

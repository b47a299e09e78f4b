//! pagemate compared with what a user would pick instead, in one run. README.md says how to read
//! the table.
//!
//! The exit status is 0 even if a bar is missed, because this program only reports. It is not 0 if
//! anything fails to run or loses, doubles or reorders a message.

mod benches;
mod contender;
mod cpu;
mod desk;
mod gate;
mod link;
mod links;
mod object;
mod peer;
mod probe;
mod report;
mod run;
mod session;
mod stats;
mod watchdog;
mod worker_pool;

use std::process::ExitCode;

use clap::Parser;

use contender::{Between, Plan};
use link::Result;

/// Measures pagemate beside the alternatives, and compares within one state of the cache line.
#[derive(Debug, Parser)]
#[command(name = "benches")]
struct Arguments {
    /// The benches to run; all of them if none is named. A part of a name is enough.
    names: Vec<String>,
    /// Run each once, briefly: checks that everything runs and is right, but not its speed.
    #[arg(long)]
    quick: bool,
    /// Print the names of the benches and end.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    pagemate::init();
    if std::env::args_os().nth(1).is_some_and(|first| first == benches::pool_start::NOTHING) {
        return ExitCode::SUCCESS;
    }
    procspawn::init();
    // A panic in a thread would leave the other side polling.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        std::process::exit(101);
    }));
    let mut arguments = std::env::args_os().skip(1).peekable();
    let outcome = match arguments.next_if(|first| first == peer::FAR) {
        Some(_) => be_far(arguments),
        None => compare(Arguments::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: Arguments) -> Result<()> {
    let wanted = |name: &str| {
        arguments.names.is_empty() || arguments.names.iter().any(|part| name.contains(part.as_str()))
    };
    let chosen: Vec<_> = benches::ALL.iter().filter(|bench| wanted(bench.name)).collect();
    if chosen.is_empty() {
        return Err("no bench has such a name; --list prints them".into());
    }
    if arguments.list {
        for bench in chosen {
            println!("{:16} {}", bench.name, bench.about);
        }
        return Ok(());
    }
    let plan = if arguments.quick { Plan::QUICK } else { Plan::FULL };
    let cpus = cpu::Cpus::first_two()?;
    let watchdog = watchdog::Watchdog::new();
    let mut rows = Vec::new();
    for bench in chosen {
        rows.extend(run::run(bench, &plan, cpus, &watchdog)?);
    }
    report::print(&rows);
    Ok(())
}

/// Runs the far side of a session between processes.
fn be_far(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<()> {
    let (role, setup) = peer::Setup::from_arguments(arguments)?;
    for bench in benches::ALL {
        for contender in (bench.contenders)() {
            if contender.between == Between::Processes && run::role(bench, &contender) == role {
                let far = contender.far.ok_or("this contender has no far side")?;
                return far(setup).map_err(|error| format!("far side of {role}: {error}").into());
            }
        }
    }
    Err(format!("nobody plays {role}").into())
}

//! The cost of a process, compared with `std::process::Command` of the same program:
//! `cargo run --release --example spawn_cost`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pagemate::Process;

const ROUNDS: usize = 40;
const SPAWNS: u32 = 25;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pagemate::init();
    if std::env::args().nth(1).as_deref() == Some("nothing") {
        return Ok(());
    }
    let command = || -> Result<(), Box<dyn std::error::Error>> {
        let status = Command::new("/proc/self/exe").arg("nothing").stdin(Stdio::null()).status()?;
        assert!(status.success());
        Ok(())
    };
    let process = || -> Result<(), Box<dyn std::error::Error>> { Ok(Process::spawn(|()| (), ())?.join()?) };
    command()?;
    process()?;
    // The two take turns and are compared within a round, because others use the machine too.
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let (command, process) = (time(command)?, time(process)?);
        rounds.push((process.as_secs_f64() / command.as_secs_f64(), command, process));
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, command, process) = rounds[ROUNDS / 2];
    println!("median round: Command {command:?}, Process {process:?}, ratio {ratio:.2}");
    println!("ratios: {:.2} to {:.2}", rounds[0].0, rounds[ROUNDS - 1].0);
    Ok(())
}

fn time(
    run: impl Fn() -> Result<(), Box<dyn std::error::Error>>,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let begin = Instant::now();
    for _ in 0..SPAWNS {
        run()?;
    }
    Ok(begin.elapsed() / SPAWNS)
}

//! `pagemate demo`: two processes, a queue, a pipe, two events, a dict and a list.
//!
//! The parent creates the objects and passes them to two child processes as arguments. Nothing has
//! a file, so nothing can be left behind. [`Process::spawn`] runs each of the two functions below
//! in a process of its own.

use std::collections::BTreeMap;
use std::time::Instant;

use clap::Args;
use pagemate::pipe::Connection;
use pagemate::{Event, Manager, Process, Queue};

use crate::output::print;
use crate::Outcome;

/// Two processes that share a queue, a pipe, two events, a dict and a list
#[derive(Debug, Args)]
pub(crate) struct Demo {}

/// The arguments of a child: the queue, its end of the pipe, its own event and the other's, the
/// manager of dict and list.
type Shared = (Queue<u32>, Connection, Event, Event, Manager);
/// The name of the dict in the manager.
const SUMS: &str = "sums";
const LASTS: &str = "lasts";
/// A result that can travel from a child to its parent.
type Said = Result<(), String>;

impl Demo {
    pub(crate) fn run(self) -> Outcome {
        let begin = Instant::now();

        let queue = Queue::new(4)?;
        let (end_of_a, end_of_b) = pagemate::pipe()?;
        let (a_is_done, b_is_done) = (Event::new()?, Event::new()?);

        let manager = Manager::new()?;

        let of_a: Shared = (queue.clone(), end_of_a, a_is_done.clone(), b_is_done.clone(), manager.clone());
        let of_b: Shared = (queue, end_of_b, b_is_done, a_is_done, manager.clone());
        let a = Process::builder().name("A process").daemon(true).spawn(process_a, of_a)?;
        let b = Process::builder().name("B process").daemon(true).spawn(process_b, of_b)?;
        b.join()??;
        a.join()??;

        let dict: BTreeMap<_, _> = manager.dict::<str, u32>(SUMS)?.iter().collect::<pagemate::Result<_>>()?;
        let mut list = manager.list::<u32>(LASTS)?.to_vec()?;
        list.sort();
        print(&format!("dict: {dict:?}\nlist: {list:?}\n"))?;
        print(&format!("elapsed: {:.1} ms\n", begin.elapsed().as_secs_f64() * 1e3))
    }
}

/// Puts ten numbers into the queue, sends ten more through the pipe, and prints what the other
/// process has sent.
fn process_a((queue, mut pipe, my_event, other_event, manager): Shared) -> Said {
    for n in 0..10 {
        queue.send(n).map_err(said)?; // blocks while the queue is full
    }
    for n in 40..50u32 {
        pipe.send(&n).map_err(said)?;
    }
    my_event.set();
    other_event.wait();
    let mut received = Vec::new();
    for _ in 20..30 {
        let n: u32 = pipe.recv().map_err(said)?;
        say(format!("A process: {n}"))?;
        received.push(n);
    }
    note(&manager, "A process", &received)
}

/// Prints ten numbers from the queue, sends ten more through the pipe, and prints what the other
/// process has sent.
fn process_b((queue, mut pipe, my_event, other_event, manager): Shared) -> Said {
    for _ in 0..10 {
        let n = queue.recv().map_err(said)?; // blocks while the queue is empty
        say(format!("from the queue: {n}"))?;
    }
    for n in 20..30u32 {
        pipe.send(&n).map_err(said)?;
    }
    my_event.set();
    other_event.wait();
    let mut received = Vec::new();
    for _ in 40..50 {
        let n: u32 = pipe.recv().map_err(said)?;
        say(format!("B process: {n}"))?;
        received.push(n);
    }
    note(&manager, "B process", &received)
}

/// Stores the sum of the received numbers in the dict, and appends the last of them to the list.
fn note(manager: &Manager, process: &str, received: &[u32]) -> Said {
    let dict = manager.dict::<str, u32>(SUMS).map_err(said)?;
    dict.insert(process, &received.iter().sum()).map_err(said)?;
    let list = manager.list::<u32>(LASTS).map_err(said)?;
    received.last().map_or(Ok(()), |last| list.push(*last)).map_err(said)
}

fn say(line: String) -> Said {
    print(&format!("{line}\n")).map_err(said)
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

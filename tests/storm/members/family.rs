//! Children of the workers, and their children: each returns the right result, and no daemon
//! outlives its parent.
//!
//! | words | meaning |
//! |---|---|
//! | [`NEXT`] | the next line |
//! | [`LINES`] and line | the process id of a daemon that may still exist |

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use pagemate::process::JoinError;
use pagemate::{Event, Process, WaitSet};

use crate::board::{Board, Fault, MEMBER_WORDS};
use crate::desk::{mix, Desk};
use crate::member::{Member, Recipe};
use crate::PATIENCE;

const NEXT: usize = 0;
const LINES: usize = 64;

/// The tasks of a child.
const GIVE: u64 = 0;
const EXIT: u64 = 1;
const ASK_A_CHILD: u64 = 2;
const WAIT: u64 = 3;
const WAYS: u64 = 4;

/// The exit code of a child that exits.
const CODE: i32 = 43;

struct Family(Event);

/// The board, the member, the line, the task, a number, and an event to wait for.
type Errand = (String, u64, u64, u64, u64, Event);

fn errand((board, member, line, way, number, go): Errand) -> u64 {
    // A daemon first records its process id in its line.
    let Some(open) = Board::open(&board) else { return 0 };
    if let Some(line) = open.member(member as usize).get(line as usize) {
        line.store(u64::from(std::process::id()), SeqCst);
    }
    match way {
        EXIT => std::process::exit(CODE),
        ASK_A_CHILD => {
            let errand = (board, member, line + 1, GIVE, number, go);
            let child = Process::builder().daemon(true).spawn(self::errand, errand);
            child.ok().and_then(|child| child.join().ok()).unwrap_or(0)
        }
        WAIT => {
            go.wait();
            mix(number)
        }
        _ => mix(number),
    }
}

impl Member for Family {
    fn step(&mut self, desk: &mut Desk) {
        // This is costly, and several steps follow each other.
        if !desk.random.one_in(8) {
            return;
        }
        let (way, number) = (desk.random.below(WAYS), desk.random.below(1 << 40));
        // Two lines, because a child may have a child.
        let line = LINES + desk.words()[NEXT].fetch_add(2, SeqCst) as usize;
        if line + 1 >= MEMBER_WORDS {
            return;
        }
        // An event that the child opens by its name, or one without a name.
        let go = if way == WAIT { Event::new() } else { Ok(self.0.clone()) };
        let Ok(go) = go else { return desk.fault(Fault::Broken, format!("an event: {go:?}")) };
        let here =
            (desk.board.path().to_string(), desk.member() as u64, line as u64, way, number, go.clone());
        let child = desk.act("spawn", || Process::builder().daemon(true).spawn(errand, here));
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return desk.fault(Fault::Broken, format!("spawn: {error}")),
        };
        if desk.random.one_in(4) {
            // When it is dropped, the child ends by itself or with this process.
            return;
        }
        let is_killed = way == WAIT && desk.random.one_in(2);
        if is_killed && desk.act("kill", || child.kill()).is_err() {
            desk.fault(Fault::Broken, "a child cannot be killed");
        }
        if way == WAIT && !is_killed {
            go.set();
        }
        let mut set = WaitSet::new();
        let has_ended = set.add(0, &child).and_then(|()| Ok(desk.patient("wait", || set.wait())? == [0]));
        if !has_ended.as_ref().is_ok_and(|has_ended| *has_ended) || child.is_alive() {
            desk.fault(Fault::Broken, format!("waited for the end of a child: {has_ended:?}"));
        }
        let result = desk.act("join", || child.join_timeout(PATIENCE));
        if !is_right(way, is_killed, number, &result) {
            desk.fault(Fault::Broken, format!("way {way}, killed {is_killed}: the child gave {result:?}"));
        }
        desk.words()[line].store(0, SeqCst);
        if way == ASK_A_CHILD {
            desk.words()[line + 1].store(0, SeqCst);
        }
    }

    fn verdict(&mut self, desk: &mut Desk) {
        let lines = (LINES + desk.words()[NEXT].load(SeqCst) as usize).min(MEMBER_WORDS);
        let begin = Instant::now();
        for line in &desk.words()[LINES.min(lines)..lines] {
            let pid = line.load(SeqCst);
            while is_one_of_us(pid) {
                if begin.elapsed() > PATIENCE {
                    desk.fault(Fault::Stuck, format!("process {pid} has outlived its parent"));
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn is_right(way: u64, is_killed: bool, number: u64, result: &Result<u64, JoinError>) -> bool {
    match result {
        Ok(given) => way != EXIT && *given == mix(number),
        Err(error) if is_killed => error.signal() == Some(libc::SIGKILL),
        Err(error) => way == EXIT && error.exit_code() == Some(CODE),
    }
}

/// Returns whether the process exists and runs this program.
fn is_one_of_us(pid: u64) -> bool {
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    pid != 0 && program(&pid.to_string()).is_some_and(|other| Some(other) == program("self"))
}

pub const RECIPES: &[Recipe] = &[Recipe {
    name: "family",
    join: |site, name| Ok(Box::new(Family(Event::open_or_create(site.segment.at(name))?.0))),
}];

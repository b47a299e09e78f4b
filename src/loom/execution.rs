//! One execution of a model: which words it has, which memory is mapped, and what time it is.
//!
//! loom's atomics are objects that must be constructed. The words of the library are bytes: those
//! of a segment are zeroed memory that is cast to a struct. So under loom every atomic of the
//! library has the size of std's, and each operation finds its loom object, its *twin*, here.
//!
//! | a word | the bytes hold | its twin is made |
//! |---|---|---|
//! | constructed by `new`, anywhere | the number of the twin | by `new` |
//! | in mapped memory | the latest value | by its first use |
//!
//! # Mapped words
//!
//! A loom object must be made before the threads that use it are spawned, or else loom reports a
//! race with its creation. Which words a model touches is not known then. So the first spawn makes
//! *blank* twins, and the first use of a word takes one. A blank holds the difference to the value
//! that the bytes had at that moment, which is its *base*.
//!
//! Until the first spawn a model has one thread, and mapped words are plain memory, so building a
//! segment takes no steps of loom's. Later each change goes to the twin and to the bytes. So the
//! bytes always hold the latest value, and code that reads or writes them directly, as the
//! initialiser of an object does, stays right: a word whose bytes differ from its latest value was
//! written to directly, and gets a new twin.
//!
//! # Time
//!
//! The clock does not move, except that every death and every recovery ends the slices of all
//! sleepers, see [`end_slices`](Execution::end_slices), and that a deadline which ends a sleep has
//! passed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::Location;
use std::rc::Rc;

use ::loom::sync::atomic::AtomicU64;

use super::process::{Process, MAIN};
use super::sleepers::Sleepers;
use super::trace::Step;
use super::twin::Twin;
use super::word::{self, Key, Word};

/// Blank twins beyond the number that earlier executions of the model needed, for those that
/// recover from a death.
const SPARE: usize = 96;
/// Blank twins of the first execution.
const FIRST: usize = 1024;
/// The beginning of a model's time. Less than the shortest time between two checks for the dead.
const BEGIN: u64 = 1_000_000;
/// The time that a slice takes.
const SLICE: u64 = 50_000_000;

thread_local! {
    /// loom runs all threads of a model in the thread that called it.
    static CURRENT: RefCell<Option<Rc<Execution>>> = const { RefCell::new(None) };
    /// The number of blank twins that an execution of this model has needed.
    static NEEDED: Cell<usize> = const { Cell::new(FIRST) };
}

/// The target of an operation on a word.
pub(crate) enum Place {
    /// The bytes: no model runs, or it has one thread.
    Bytes,
    /// Nothing: the thread panics. This is the word's latest value.
    Nothing(u64),
    /// A twin. A word in mapped memory keeps its latest value in the bytes too.
    Twin { word: Rc<Word>, is_mapped: bool },
}

/// Mapped memory.
struct Region {
    number: usize,
    start: usize,
    end: usize,
}

/// One execution.
pub(crate) struct Execution {
    number: u64,
    /// Constructed words, by number.
    constructed: RefCell<Vec<Rc<Word>>>,
    /// Words in mapped memory, by address.
    mapped: RefCell<HashMap<usize, Rc<Word>>>,
    regions: RefCell<Vec<Region>>,
    last_region: Cell<usize>,
    blanks: RefCell<Vec<AtomicU64>>,
    used: Cell<usize>,
    /// Whether threads were spawned, so that mapped words have twins.
    has_threads: Cell<bool>,
    /// The depth of sections, see [`section`].
    sections: Cell<u32>,
    clock: Cell<u64>,
    slices: Cell<u64>,
    /// Words on which a thread has slept, in the order of their first use.
    slept_on: RefCell<Vec<Rc<Sleepers>>>,
    processes: Cell<u32>,
    main: Rc<Process>,
    forks: RefCell<Vec<Rc<dyn Fn(Fork)>>>,
    steps: RefCell<Vec<Step>>,
}

/// A change of a process: the argument of the functions that [`Execution::follow_forks`] registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    /// The current process was copied from the process of this epoch.
    Begins(u32),
    /// The current process ends normally.
    Ends,
}

/// Forgets what earlier models needed.
pub(crate) fn begin_model() {
    NEEDED.set(FIRST);
    word::forget();
}

/// Prepares for the next run of the model. Returns false if it would run as it has.
pub(crate) fn learn() -> bool {
    // It may need more blanks than before.
    NEEDED.set(FIRST);
    word::learn()
}

/// Begins an execution. Called in its first thread, before anything is constructed.
pub(crate) fn begin() {
    static LAST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let execution = Execution {
        number: LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1,
        constructed: RefCell::default(),
        mapped: RefCell::default(),
        regions: RefCell::default(),
        last_region: Cell::new(0),
        blanks: RefCell::default(),
        used: Cell::new(0),
        has_threads: Cell::new(false),
        sections: Cell::new(0),
        clock: Cell::new(BEGIN),
        slices: Cell::new(0),
        slept_on: RefCell::default(),
        processes: Cell::new(MAIN),
        main: Process::new(MAIN),
        forks: RefCell::default(),
        steps: RefCell::default(),
    };
    let earlier = CURRENT.with(|current| current.borrow_mut().replace(Rc::new(execution)));
    drop(earlier);
}

/// Ends the last execution of a model.
pub(crate) fn end() {
    let last = CURRENT.with(|current| current.borrow_mut().take());
    drop(last);
}

/// Returns the execution, if this thread runs a model.
pub(crate) fn current() -> Option<Rc<Execution>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok()?
}

/// Returns a number that no other execution has; 0 outside of a model.
pub(crate) fn number() -> u64 {
    current().map_or(0, |execution| execution.number)
}

/// Returns the model's time, if this thread runs a model.
pub(crate) fn now() -> Option<u64> {
    current().map(|execution| execution.clock.get())
}

/// Runs `body` without a step of any other thread in between, as if a kernel did it.
pub(crate) fn section<R>(body: impl FnOnce() -> R) -> R {
    let Some(execution) = current().filter(|execution| execution.is_modelled()) else { return body() };
    let depth = execution.sections.get();
    if depth == 0 {
        ::loom::stop_exploring();
    }
    execution.sections.set(depth + 1);
    let result = body();
    execution.sections.set(depth);
    if depth == 0 {
        ::loom::explore();
    }
    result
}

/// Ends the slices of all sleepers, because a dead process was reaped. See
/// [`end_slices`](Execution::end_slices).
pub(crate) fn note_reaping() {
    if let Some(execution) = current().filter(|execution| execution.is_modelled()) {
        super::process::uncounted(|| execution.end_slices());
    }
}

/// Constructs a word of `width` bytes; returns its number, or the value itself outside of a model.
pub(crate) fn construct(value: u64, width: usize) -> u64 {
    let Some(execution) = current() else { return value };
    let twin = match execution.has_threads.get() {
        true => Twin::of_blank(execution.blank(), value, width),
        false => Twin::new(value, width),
    };
    let mut constructed = execution.constructed.borrow_mut();
    constructed.push(Rc::new(Word::new(twin, value, width)));
    constructed.len() as u64 - 1
}

/// Returns the target of an operation, for the word of `width` bytes at this address, whose bytes
/// are `bytes`. Counts a step of the process, and kills it there if it is to die.
#[track_caller]
pub(crate) fn place(address: usize, width: usize, bytes: u64) -> Place {
    enum Found {
        Place(Place),
        Mapped(Rc<Execution>),
    }
    let find = |current: &RefCell<Option<Rc<Execution>>>| match &*current.borrow() {
        None => Found::Place(Place::Bytes),
        Some(execution) => match execution.place(address, bytes) {
            Some(place) => Found::Place(place),
            None => Found::Mapped(execution.clone()),
        },
    };
    let execution = match CURRENT.try_with(find) {
        Ok(Found::Mapped(execution)) => execution,
        Ok(Found::Place(place)) => return place,
        Err(_) => return Place::Bytes,
    };
    let process = execution.process();
    if execution.sections.get() == 0 {
        process.step(&execution);
    }
    let word = execution.mapped(address, width, bytes);
    word.note(process.epoch());
    Place::Twin { word, is_mapped: true }
}

impl Execution {
    /// Returns the target of an operation, unless it is a word in mapped memory that has a twin.
    fn place(&self, address: usize, bytes: u64) -> Option<Place> {
        let (is_mapped, is_panicking) = (self.is_mapped(address), std::thread::panicking());
        Some(match (is_mapped, is_panicking) {
            (false, false) => Place::Twin { word: self.constructed(bytes), is_mapped },
            (false, true) => Place::Nothing(self.constructed(bytes).latest()),
            (true, true) => Place::Nothing(bytes),
            (true, false) if !self.has_threads.get() => Place::Bytes,
            (true, false) => return None,
        })
    }

    fn key(&self, address: usize) -> Option<Key> {
        let regions = self.regions.borrow();
        let region = regions.iter().find(|region| (region.start..region.end).contains(&address))?;
        Some((region.number, address - region.start))
    }

    fn is_mapped(&self, address: usize) -> bool {
        self.key(address).is_some()
    }

    fn constructed(&self, number: u64) -> Rc<Word> {
        let words = self.constructed.borrow();
        let word = words.get(number as u32 as usize);
        word.expect("a word that was not constructed in this execution, and is not mapped").clone()
    }

    fn mapped(&self, address: usize, width: usize, bytes: u64) -> Rc<Word> {
        let known = self.mapped.borrow().get(&address).cloned();
        let word = match known {
            Some(word) if word.is(bytes, width) => return word,
            // Written to directly.
            Some(word) => word.renewed(Twin::of_blank(self.blank(), bytes, width), bytes, width),
            None => {
                let key = self.key(address).expect("the address was found to be mapped");
                let shadow = word::is_shadowed(&key).then(|| Twin::of_blank(self.blank(), 0, 8));
                Word::in_memory(Twin::of_blank(self.blank(), bytes, width), bytes, width, key, shadow)
            }
        };
        let word = Rc::new(word);
        self.mapped.borrow_mut().insert(address, word.clone());
        word
    }

    fn blank(&self) -> AtomicU64 {
        self.used.set(self.used.get() + 1);
        let blank = self.blanks.borrow_mut().pop();
        blank.expect("the model uses more words than were prepared for it: make it smaller")
    }

    /// Prepares for the first spawn.
    pub(crate) fn start_threads(&self) {
        if !self.has_threads.replace(true) {
            let blanks = (0..NEEDED.get()).map(|_| AtomicU64::new(0)).collect();
            self.blanks.replace(blanks);
        }
    }

    /// Remembers what this execution needed. Called in its first thread, at the end.
    pub(crate) fn finish(&self) {
        let used = self.used.get() + SPARE;
        NEEDED.set(if NEEDED.get() == FIRST { used } else { NEEDED.get().max(used) });
    }

    /// Returns whether loom must not be told of a fence, because mapped words are plain memory or
    /// the thread panics.
    pub(crate) fn is_quiet(&self) -> bool {
        std::thread::panicking() || !self.has_threads.get() && !self.regions.borrow().is_empty()
    }

    /// Makes the memory from `start` to `end` mapped memory.
    pub(crate) fn add_region(&self, start: usize, end: usize) {
        self.last_region.set(self.last_region.get() + 1);
        self.regions.borrow_mut().push(Region { number: self.last_region.get(), start, end });
    }

    /// Undoes [`add_region`](Execution::add_region), and forgets the words there.
    pub(crate) fn remove_region(&self, start: usize) {
        let mut regions = self.regions.borrow_mut();
        let Some(index) = regions.iter().position(|region| region.start == start) else { return };
        let Region { start, end, .. } = regions.swap_remove(index);
        self.mapped.borrow_mut().retain(|address, _| !(start..end).contains(address));
    }

    /// Returns the process to which the running thread belongs.
    pub(crate) fn process(&self) -> Rc<Process> {
        super::process::of_thread().unwrap_or_else(|| self.main.clone())
    }

    /// Returns whether operations on mapped words are steps of the model.
    pub(crate) fn is_modelled(&self) -> bool {
        self.has_threads.get() && !std::thread::panicking()
    }

    /// Returns an epoch that no process of this execution has.
    pub(crate) fn next_epoch(&self) -> u32 {
        self.processes.set(self.processes.get() + 1);
        self.processes.get()
    }

    /// Registers `note`, which is called in each process that is copied from another one or ends
    /// normally.
    pub(crate) fn follow_forks(&self, note: Rc<dyn Fn(Fork)>) {
        self.forks.borrow_mut().push(note);
    }

    pub(crate) fn note_fork(&self, fork: Fork) {
        let notes = self.forks.borrow().clone();
        notes.iter().for_each(|note| note(fork));
    }

    /// Returns the threads that sleep on the word at this address; the first use makes them.
    pub(crate) fn sleepers(&self, word: &Word) -> Rc<Sleepers> {
        let (sleepers, is_first) = word.sleepers();
        if is_first {
            self.slept_on.borrow_mut().push(sleepers.clone());
        }
        sleepers
    }

    /// Returns the number of times that the slices of all sleepers have ended.
    pub(crate) fn slices(&self) -> u64 {
        self.slices.get()
    }

    /// Ends the slices of all sleepers, because there is something new for them to notice. In a
    /// real process a slice ends every 50 ms, so a model need not end one at any other time. A
    /// wake-up that is lost without a death is a deadlock in the model.
    pub(crate) fn end_slices(&self) {
        self.clock.set(self.clock.get() + SLICE);
        self.slices.set(self.slices.get() + 1);
        let slept_on = self.slept_on.borrow().clone();
        slept_on.iter().for_each(|sleepers| sleepers.wake_all());
    }

    /// Lets the time pass until `moment`.
    pub(crate) fn pass(&self, moment: u64) {
        self.clock.set(self.clock.get().max(moment));
    }

    /// Adds a step of the current process to the trace.
    #[track_caller]
    pub(crate) fn trace(&self, address: usize, what: &'static str, value: u64) {
        let (region, offset) = self.key(address).unwrap_or_default();
        let (process, at) = (self.process().epoch(), Location::caller());
        self.steps.borrow_mut().push(Step { process, what, at, region, offset, value });
    }

    /// Returns the steps of all processes since they were started, in the order in which they ran.
    pub(crate) fn steps(&self) -> Vec<Step> {
        self.steps.borrow().clone()
    }
}

//! Runs a bench in rounds, each contender once in each, and compares only repetitions in one state
//! of the cache line.

use std::io::Write;
use std::time::Instant;

use crate::contender::{Against, Bench, Call, Contender, Plan};
use crate::cpu::Cpus;
use crate::link::Result;
use crate::report::Row;
use crate::session::Repetition;
use crate::stats::{median, States};
use crate::watchdog::Watchdog;

/// Pairs that a comparison should have in one state.
const ENOUGH: usize = 5;
/// A state with fewer repetitions than this is shown only if there is no better one.
const FEW: usize = 3;

/// All repetitions of a bench: `of[contender][round]`.
struct Rounds {
    of: Vec<Vec<Repetition>>,
    states: States,
}

/// Runs `bench` and returns its part of the table.
pub fn run(bench: &Bench, plan: &Plan, cpus: Cpus, watchdog: &Watchdog) -> Result<Vec<Row>> {
    let contenders = (bench.contenders)();
    let mut rounds = Rounds { of: contenders.iter().map(|_| Vec::new()).collect(), states: States::of([]) };
    let began = Instant::now();
    for round in 1..=plan.most_rounds {
        for (contender, repetitions) in contenders.iter().zip(&mut rounds.of) {
            let what = format!("{}, {} ({})", bench.name, contender.name, contender.between);
            watchdog.begins(&what);
            let call = Call { cpus, plan, role: &role(bench, contender) };
            repetitions.push((contender.near)(call).map_err(|error| format!("{what}: {error}"))?);
        }
        rounds.learn();
        eprint!("\r{}: round {round}, {:.0} s ", bench.name, began.elapsed().as_secs_f64());
        let _ = std::io::stderr().flush();
        if round >= plan.rounds && rounds.suffices(&contenders)? {
            break;
        }
    }
    eprintln!();
    rows(bench, &contenders, &rounds)
}

/// Returns the name under which the far side of a contender finds its part.
pub fn role(bench: &Bench, contender: &Contender) -> String {
    format!("{}/{}", bench.name, contender.name)
}

impl Rounds {
    fn learn(&mut self) {
        self.states = States::of(self.of.iter().flatten().flat_map(|rep| [rep.before, rep.after]));
    }

    fn state(&self, contender: usize, round: usize) -> Option<usize> {
        let repetition = &self.of[contender][round];
        self.states.state(repetition.before, repetition.after)
    }

    /// Returns the rounds in which `one` was in `state` all the while, and `other` too.
    fn matched(&self, one: usize, other: usize, state: usize) -> Vec<usize> {
        let held = |contender, round| self.state(contender, round) == Some(state);
        (0..self.of[one].len()).filter(|&round| held(one, round) && held(other, round)).collect()
    }

    /// Returns whether every comparison has enough pairs in one state.
    fn suffices(&self, contenders: &[Contender]) -> Result<bool> {
        for (index, contender) in contenders.iter().enumerate() {
            for against in &contender.against {
                let other = find(contenders, against)?;
                if !(0..self.states.count()).any(|state| self.matched(index, other, state).len() >= ENOUGH) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn find(contenders: &[Contender], against: &Against) -> Result<usize> {
    contenders
        .iter()
        .position(|other| other.name == against.name && other.between == against.between)
        .ok_or_else(|| format!("nothing is called {} ({})", against.name, against.between).into())
}

fn rows(bench: &Bench, contenders: &[Contender], rounds: &Rounds) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (index, contender) in contenders.iter().enumerate() {
        let mut compared: Vec<Option<&Against>> = contender.against.iter().map(Some).collect();
        if compared.is_empty() {
            compared.push(None);
        }
        for against in compared {
            let other = against.map_or(Ok(index), |against| find(contenders, against))?;
            let by_state: Vec<(usize, Vec<usize>)> = (0..rounds.states.count())
                .map(|state| (state, rounds.matched(index, other, state)))
                .filter(|(_, matched)| !matched.is_empty())
                .collect();
            let best = by_state.iter().map(|(_, matched)| matched.len()).max().unwrap_or(0);
            for (_, matched) in by_state.iter().filter(|(_, matched)| matched.len() >= FEW.min(best)) {
                rows.push(row(bench, contender, against, &rounds.of[index], &rounds.of[other], matched));
            }
            if best == 0 {
                rows.push(Row::undecided(bench, contender, against, &rounds.of[index]));
            }
        }
    }
    Ok(rows)
}

fn row(
    bench: &Bench,
    contender: &Contender,
    against: Option<&Against>,
    mine: &[Repetition],
    theirs: &[Repetition],
    matched: &[usize],
) -> Row {
    let figures: Vec<f64> = matched.iter().map(|&round| mine[round].nanos).collect();
    let mut probes: Vec<f64> =
        matched.iter().flat_map(|&round| [mine[round].before, mine[round].after]).collect();
    let mut ratios: Vec<f64> = matched.iter().map(|&round| mine[round].nanos / theirs[round].nanos).collect();
    let mut spread: Option<hdrhistogram::Histogram<u64>> = None;
    for taken in matched.iter().filter_map(|&round| mine[round].spread.as_ref()) {
        match &mut spread {
            Some(sum) => sum.add(taken).expect("histograms resize themselves"),
            None => spread = Some(taken.clone()),
        }
    }
    Row {
        bench: bench.name,
        unit: bench.unit,
        contender: contender.name,
        between: contender.between,
        state: Some(median(&mut probes)),
        figures,
        of: mine.len(),
        tail: spread.map(|spread| [0.5, 0.99, 0.999].map(|quantile| spread.value_at_quantile(quantile))),
        against: against.copied(),
        ratio: against.map(|_| median(&mut ratios)),
    }
}

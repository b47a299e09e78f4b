//! Counts the words of a text file, in several processes that share one dict.
//!
//! ```text
//! cargo run --release --example word_count -- FILE               # 4 processes; prints as `uniq -c`
//! cargo run --release --example word_count -- FILE -n 2 --local  # 2 processes, each counts alone first
//! cargo run --release --example word_count -- FILE --single      # this process, with a HashMap
//! cargo run --release --example word_count -- --generate 100000000 > FILE
//! bash examples/word_count/compare                               # compares all of them
//! ```
//!
//! A word is a run of bytes between white space. Each process has a range of the file, and a word
//! belongs to the range in which it begins. Without `--local`, every word is an atomic update of
//! the shared dict, which all others see immediately. With `--local`, a process keeps counts of its
//! own and adds them to the dict at its end, with one update for each different word.

pub(crate) mod text;

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Instant;

use pagemate::{Dict, Process};

const USAGE: &str =
    "usage: word_count FILE [-n PROCESSES] [--local | --single], or word_count --generate BYTES";

/// The arguments of a counting process: the file, its range, the shared dict, and whether to count
/// locally first.
type Task = (String, u64, u64, Dict<str, u64>, bool);

fn main() -> Result<(), Box<dyn Error>> {
    pagemate::init();
    let (mut file, mut processes, mut local, mut single) = (None, 4, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--generate" => {
                let bytes = arguments.next().ok_or(USAGE)?.parse()?;
                return Ok(text::write(bytes, &mut BufWriter::new(io::stdout().lock()))?);
            }
            "-n" => processes = arguments.next().ok_or(USAGE)?.parse::<u64>()?.max(1),
            "--local" => local = true,
            "--single" => single = true,
            _ if file.is_none() => file = Some(argument),
            _ => return Err(USAGE.into()),
        }
    }
    let file = file.ok_or(USAGE)?;

    let begin = Instant::now();
    let mut counts = if single { count_alone(&file)? } else { count(&file, processes, local)? };
    let took = begin.elapsed();
    counts.sort_unstable();
    let mut out = BufWriter::new(io::stdout().lock());
    print(&counts, &mut out)?;
    let words: u64 = counts.iter().map(|(_, count)| count).sum();
    eprintln!("{words} words, {} different, counted in {:.2} s", counts.len(), took.as_secs_f64());
    Ok(out.flush()?)
}

/// Counts in `processes` processes. Returns all words and their counts, in no order.
pub(crate) fn count(file: &str, processes: u64, local: bool) -> Result<Vec<(String, u64)>, Box<dyn Error>> {
    let len = std::fs::metadata(file)?.len();
    let counts = Dict::<str, u64>::new()?;
    let spawn = |n| -> pagemate::Result<_> {
        let (from, to) = (len * n / processes, len * (n + 1) / processes);
        Process::spawn(count_range, (file.to_owned(), from, to, counts.clone(), local))
    };
    let children = (0..processes).map(spawn).collect::<pagemate::Result<Vec<_>>>()?;
    for child in children {
        child.join()??;
    }
    Ok(counts.iter().collect::<pagemate::Result<_>>()?)
}

/// Counts the words of one range. Runs in a process of its own.
fn count_range((file, from, to, counts, local): Task) -> Result<(), String> {
    let mut mine = HashMap::new();
    let add = |word: &str, times: u64| {
        counts.update(word, |count| Some(count.unwrap_or(&0) + times)).map_err(io::Error::from)
    };
    let counted = words(Path::new(&file), from, to, |word| {
        if local {
            return add_to(&mut mine, word);
        }
        add(word, 1).map(drop)
    });
    let counted =
        counted.and_then(|()| mine.iter().try_for_each(|(word, times)| add(word, *times).map(drop)));
    counted.map_err(|error| format!("{file}: {error}"))
}

/// Counts in this process alone.
fn count_alone(file: &str) -> Result<Vec<(String, u64)>, Box<dyn Error>> {
    let mut counts = HashMap::new();
    words(Path::new(file), 0, u64::MAX, |word| add_to(&mut counts, word))?;
    Ok(counts.into_iter().collect())
}

fn add_to(counts: &mut HashMap<String, u64>, word: &str) -> io::Result<()> {
    match counts.get_mut(word) {
        Some(count) => *count += 1,
        None => drop(counts.insert(word.to_owned(), 1)),
    }
    Ok(())
}

/// Calls `each` with every word that begins at `from` or later, and before `to`.
fn words(file: &Path, from: u64, to: u64, mut each: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    if from >= to {
        return Ok(());
    }
    let mut file = File::open(file)?;
    // Begins one byte earlier, to find out whether a word begins at `from` or continues there.
    let mut at = from.saturating_sub(1);
    file.seek(SeekFrom::Start(at))?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut is_others = from > 0;
    let mut word = Vec::new();
    let mut give = |word: &mut Vec<u8>, is_others: bool| {
        if !word.is_empty() && !is_others {
            let text = std::str::from_utf8(word)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a word that is not UTF-8"));
            text.and_then(&mut each)?;
        }
        word.clear();
        Ok(())
    };
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return give(&mut word, is_others);
        }
        let len = bytes.len();
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| is_space(*byte));
            word.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
            let Some(end) = end else {
                at += rest.len() as u64;
                break;
            };
            give(&mut word, is_others)?;
            is_others = false;
            at += end as u64 + 1;
            if at >= to {
                return Ok(());
            }
            rest = &rest[end + 1..];
        }
        reader.consume(len);
    }
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || (b'\t'..=b'\r').contains(&byte)
}

/// Prints as `uniq -c` does.
pub(crate) fn print(counts: &[(String, u64)], out: &mut impl Write) -> io::Result<()> {
    counts.iter().try_for_each(|(word, count)| writeln!(out, "{count:7} {word}"))
}

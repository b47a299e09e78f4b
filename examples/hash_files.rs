//! SHA-256 of all files in a directory, by a pool of processes:
//! `cargo run --release --example hash_files -- [--check] [DIRECTORY]`.
//!
//! It prints what `sha256sum` would, in the order in which the files are finished. The default
//! directory has this library's own sources. Files that cannot be read are listed at the end, and
//! no other file is affected by them. With `--check` the files are hashed again in this process
//! alone, and the sums must be the same.

use std::error::Error;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::ProgressBar;
use pagemate::Pool;
use sha2::{Digest, Sha256};

/// Returns the result for one file: its path, because results arrive in any order, and the sum or
/// the error.
fn sum(path: PathBuf) -> (PathBuf, Result<[u8; 32], String>) {
    let hash = || {
        let (mut file, mut hasher) = (File::open(&path)?, Sha256::new());
        io::copy(&mut file, &mut hasher)?;
        Ok(hasher.finalize().into())
    };
    let sum = hash().map_err(|error: io::Error| error.to_string());
    (path, sum)
}

/// Returns all files below `dir`. Does not follow links.
fn files(dir: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in dir.read_dir()? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files(&entry.path(), found)?;
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    pagemate::init();
    let (options, arguments): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with('-'));
    let check = options == ["--check"];
    if arguments.len() > 1 || !(options.is_empty() || check) {
        return Err("usage: hash_files [--check] [DIRECTORY]".into());
    }
    let dir = arguments.first().map_or(concat!(env!("CARGO_MANIFEST_DIR"), "/src"), String::as_str);
    let mut paths = Vec::new();
    files(Path::new(dir), &mut paths)?;

    let pool = Pool::builder().name(format!("hash_files-{}", std::process::id())).build()?;
    let bar = ProgressBar::new(paths.len() as u64);
    let begin = Instant::now();
    let (mut sums, mut failed) = (Vec::new(), Vec::new());
    for result in pool.imap_unordered(sum, paths.clone()) {
        let (path, sum) = result?;
        match sum {
            Ok(sum) => {
                let digits: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
                bar.suspend(|| println!("{digits}  {}", path.display()));
                sums.push((path, sum));
            }
            Err(error) => failed.push(format!("{}: {error}", path.display())),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    eprintln!("{} files by {} workers in {:?}", paths.len(), pool.workers(), begin.elapsed());

    if check {
        let begin = Instant::now();
        let mut alone: Vec<_> =
            paths.into_iter().map(sum).filter_map(|(path, sum)| Some((path, sum.ok()?))).collect();
        eprintln!("{} files by one process in {:?}", alone.len(), begin.elapsed());
        alone.sort();
        sums.sort();
        if alone != sums {
            return Err("the sums differ".into());
        }
        eprintln!("the same sums");
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\n").into())
    }
}

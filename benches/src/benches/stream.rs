//! The program `pagemate send` and `recv` beside `cat` through a fifo: a file of random bytes, from
//! disk cache to a file in memory and to /dev/null.
//!
//! Figure: from starting both ends until both have ended. Not pinned, because these are whole
//! programs, and the system places them. The file that arrives is compared by checksum, each time.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::OnceLock;
use std::time::Instant;

use rustix::fs::{mknodat, FileType, Mode, CWD};
use tempfile::TempDir;

use crate::contender::Between::Processes;
use crate::contender::{Bench, Call, Contender, Unit};
use crate::cpu::unpin;
use crate::link::Result;
use crate::probe::probe;
use crate::session::Repetition;

pub const BENCH: Bench = Bench {
    name: "stream",
    about: "a file through the program and through a fifo",
    unit: Unit::PerGib,
    contenders,
};

const FIFO_FILE: &str = "cat and fifo, to a file";
const FIFO_NULL: &str = "cat and fifo, to /dev/null";

fn contenders() -> Vec<Contender> {
    let contender = |name, near| Contender { name, between: Processes, near, far: None, against: Vec::new() };
    vec![
        contender(FIFO_FILE, |call| to_file(call, fifo)),
        contender("pagemate, to a file", |call| to_file(call, program)).at_most(0.5, FIFO_FILE, Processes),
        contender(FIFO_NULL, |call| to_null(call, fifo)),
        contender("pagemate, to /dev/null", |call| to_null(call, program)).at_most(0.5, FIFO_NULL, Processes),
    ]
}

/// The random bytes of the stream, and their checksum.
struct Input {
    file: File,
    len: u64,
    checksum: u32,
}

impl Input {
    /// Returns the bytes, made once, before the first repetition.
    fn of(len: u64) -> Result<&'static Input> {
        static INPUT: OnceLock<Input> = OnceLock::new();
        if INPUT.get().is_none() {
            let _ = INPUT.set(Input::make(len)?);
        }
        INPUT.get().ok_or_else(|| "set above".into())
    }

    fn make(len: u64) -> Result<Input> {
        let mut file = tempfile::tempfile()?;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut block = Vec::with_capacity(1 << 20);
        for _ in 0..len >> 20 {
            block.clear();
            while block.len() < 1 << 20 {
                // Xorshift: useless for shortcuts on zeros or repetitions.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                block.extend_from_slice(&state.to_ne_bytes());
            }
            file.write_all(&block)?;
        }
        let checksum = checksum(&mut file)?;
        Ok(Input { file, len: len >> 20 << 20, checksum })
    }

    /// Returns a path by which others can open it, although it has no name.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }
}

fn checksum(file: &mut File) -> Result<u32> {
    file.rewind()?;
    let mut hasher = crc32fast::Hasher::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hasher.finalize()),
            some => hasher.update(&block[..some]),
        }
    }
}

/// A function that starts both ends of a stream: from the file at `Path` to the standard output
/// given.
type Start = fn(&Path, Stdio) -> Result<Ends>;

/// Both ends, running, and a directory that they need.
struct Ends {
    children: [Child; 2],
    _dir: Option<TempDir>,
}

fn to_null(call: Call<'_>, start: Start) -> Result<Repetition> {
    measure(call, start, || Ok(Stdio::null()))
}

fn to_file(call: Call<'_>, start: Start) -> Result<Repetition> {
    let mut output = tempfile::tempfile_in("/dev/shm")?;
    let repetition = measure(call, start, || Ok(output.try_clone()?.into()))?;
    let input = Input::of(call.plan.stream)?;
    let (arrived, sum) = (output.metadata()?.len(), checksum(&mut output)?);
    if (arrived, sum) != (input.len, input.checksum) {
        return Err(format!("{} bytes went in, {arrived} others came out", input.len).into());
    }
    Ok(repetition)
}

fn measure(call: Call<'_>, start: Start, output: impl FnOnce() -> Result<Stdio>) -> Result<Repetition> {
    let input = Input::of(call.plan.stream)?;
    let path = input.path();
    let output = output()?;
    let before = probe(call.cpus)?;
    unpin(call.cpus)?;
    let began = Instant::now();
    let mut ends = start(&path, output)?;
    for child in &mut ends.children {
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("one end of the stream ended with {status}").into());
        }
    }
    let nanos = began.elapsed().as_nanos() as f64 / (input.len as f64 / f64::from(1 << 30));
    let after = probe(call.cpus)?;
    Ok(Repetition { nanos, before, after, spread: None })
}

fn fifo(input: &Path, output: Stdio) -> Result<Ends> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let reader = Command::new("cat").arg(&path).stdout(output).spawn()?;
    let writer = Command::new("sh").args(["-c", r#"exec cat "$0" > "$1""#]).arg(input).arg(&path).spawn()?;
    Ok(Ends { children: [writer, reader], _dir: Some(dir) })
}

fn program(input: &Path, output: Stdio) -> Result<Ends> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("benches-{}-stream-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    let path = built()?;
    let receiver = Command::new(path).args(["recv", &name]).stdout(output).spawn()?;
    let sender = Command::new(path).args(["send", &name]).stdin(File::open(input)?).spawn()?;
    Ok(Ends { children: [sender, receiver], _dir: None })
}

/// Returns the program, built from this checkout before the first repetition.
fn built() -> Result<&'static Path> {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if PROGRAM.get().is_none() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/cli/Cargo.toml");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["build", "--quiet", "--release", "--message-format=json-render-diagnostics"])
            .args(["--manifest-path", manifest, "--bin", "pagemate"])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("building the program ended with {}", output.status).into());
        }
        // One line of JSON for each artifact; the last one that has it names the executable.
        let text = String::from_utf8(output.stdout)?;
        let path = text.rsplit_once(r#""executable":""#).and_then(|(_, rest)| rest.split_once('"'));
        let (path, _) = path.ok_or("cargo does not say where the program is")?;
        let _ = PROGRAM.set(PathBuf::from(path));
    }
    PROGRAM.get().map(PathBuf::as_path).ok_or_else(|| "set above".into())
}

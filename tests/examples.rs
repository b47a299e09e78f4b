//! The examples run and leave nothing behind, and those of the pool have the results of one process
//! alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn example(name: &str) -> Command {
    // target/PROFILE/deps/this-test: the examples are in a folder beside `deps`.
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    Command::new(path.join("examples").join(name))
}

/// Returns the standard output and standard error of a run that must succeed.
fn run(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap();
    let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{command:?}: {}\n{out}{error}", output.status);
    (out, error)
}

/// A directory that is removed when it is dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("pagemate-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Dir(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_mandelbrot_set_is_the_same_from_many_processes() {
    let dir = Dir::new("mandelbrot");
    let path = dir.0.join("set.png");
    let (out, _) = run(example("mandelbrot").arg("--check").arg(&path).arg("90"));
    assert!(out.starts_with("60 rows over ") && out.ends_with("the same picture\n"), "{out}");

    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; 90 * 60];
    reader.next_frame(&mut pixels).unwrap();
    let at = |x: usize, y: usize| pixels[y * 90 + x];
    assert_eq!(at(67, 30), 0, "0 is in the set");
    assert!(at(0, 0) > 0 && at(0, 0) < at(89, 0) && at(89, 0) < 64, "the corners are not, and leave soon");
    let mirrored = |(x, y): (usize, usize)| at(x, y) == at(x, 60 - y);
    let all = (0..90).flat_map(|x| (1..60).map(move |y| (x, y)));
    assert!(all.filter(|&(x, y)| mirrored((x, y))).count() > 89 * 58, "it is symmetric");
}

#[test]
fn hashes_are_those_of_sha256sum() {
    let dir = Dir::new("hash_files");
    std::fs::create_dir(dir.0.join("below")).unwrap();
    for n in 0..40_u8 {
        std::fs::write(dir.0.join(format!("{n}")), vec![n; usize::from(n) * 1000]).unwrap();
        std::fs::write(dir.0.join(format!("below/{n}")), [n]).unwrap();
    }
    let (out, error) = run(example("hash_files").arg("--check").arg(&dir.0));
    assert!(error.ends_with("the same sums\n"), "{error}");
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (expected, _) =
        run(Command::new("find").arg(&dir.0).args(["-type", "f", "-exec", "sha256sum", "{}", "+"]));
    assert_eq!(sorted(&out), sorted(&expected));
    assert_eq!(sorted(&out).len(), 80);
}

#[test]
fn an_option_costs_what_the_formula_says() {
    let (out, _) = run(example("option_pricer").args(["--check", "200000"]));
    assert!(out.contains("200000 paths by ") && out.contains("the same sums"), "{out}");
}

#[test]
fn examples_leave_no_segment() {
    // The example drops its pool directly before the program ends.
    for _ in 0..20 {
        let child = example("option_pricer").arg("10000").stdout(Stdio::null()).spawn().unwrap();
        let segment = format!("/dev/shm/pagemate.option_pricer-{}", child.id());
        assert!(child.wait_with_output().unwrap().status.success());
        assert!(!Path::new(&segment).exists(), "{segment}");
    }
}

/// The smallest examples, one for each type, and a line that each of them prints.
const SMALL: &[(&str, &str)] = &[
    ("array", "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]"),
    ("barrier", "this process saw (6, 66)"),
    ("calculator", "1 / 8 = 0.125"),
    ("camera", "the recorder has 100 frames, the viewer saw or missed 100"),
    ("condvar", "the child did 5 jobs"),
    ("dict", "8 words, \"be\" 3 times"),
    ("event", "the child goes on"),
    ("inspect", "  holds Ada"),
    ("latest", "the thermostat read 3 values, the last of 23.5"),
    ("list", "[\"Ada\", \"Alan\", \"Barbara\", \"Edsger\", \"Grace\"]"),
    ("log", "ten processes wrote 30 lines, 6660 bytes"),
    ("manager", "visit 1: tea is Some(2.5)"),
    ("market_feed", "the late one saw 110 quotes, from 490 to 599"),
    ("mutex", "a holder died and left a balance of 0"),
    ("once", ", which it had written"),
    ("pipe", "the child answered 3 times"),
    ("pool", "imap: [1.0, 0.5, 0.3333333333333333]"),
    ("process", "78498 primes below 1,000,000"),
    ("queue", "two consumers counted a turnover of 2525"),
    ("rwlock", "quotes, none of them half changed"),
    ("semaphore", "both permits are free again"),
    ("service", "ten numbers have at most 120 divisors"),
    ("spsc", "1 + 2 + ... + 1003 = 503506"),
    ("topic", "a subscriber saw 100 prices, the highest of 100"),
    ("value", "Range { low: 0.0, high: 1099.0, count: 200 }"),
    ("waitset", "the child has ended, the sum is 55"),
];

/// The larger examples. Other tests run them, or nobody but their reader does.
const LARGER: &[&str] =
    &["gallery", "hash_files", "mandelbrot", "market_reader", "option_pricer", "spawn_cost", "ticker"];

#[test]
fn the_smallest_examples_run_alone() {
    for (name, line) in SMALL {
        let child = example(name).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let segment = format!("/dev/shm/pagemate.{name}-{}", child.id());
        let output = child.wait_with_output().unwrap();
        let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success() && out.contains(line), "{name}: {}\n{out}{error}", output.status);
        assert!(!Path::new(&segment).exists(), "{segment}");
    }
}

#[test]
fn every_example_is_in_one_of_the_lists_and_a_small_one_is_small() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".rs") else { continue };
        files += 1;
        let is_small = SMALL.iter().any(|(small, _)| *small == name);
        assert!(is_small || LARGER.contains(&name), "{name} is in none of the lists");
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(!is_small || lines <= 40, "{name} has {lines} lines");
    }
    assert_eq!(files, SMALL.len() + LARGER.len(), "a list names an example that is not there");
}

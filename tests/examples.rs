//! The examples of the pool give what one process alone would give.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn example(name: &str) -> Command {
    // target/PROFILE/deps/this-test: the examples are two folders beside.
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    Command::new(path.join("examples").join(name))
}

/// Standard output and standard error of a run that must succeed.
fn run(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap();
    let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{command:?}: {}\n{out}{error}", output.status);
    (out, error)
}

/// A directory that goes when it is dropped.
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
    // A pool that is dropped right before the program ends.
    for _ in 0..20 {
        let child = example("option_pricer").arg("10000").stdout(Stdio::null()).spawn().unwrap();
        let segment = format!("/dev/shm/pagemate.option_pricer-{}", child.id());
        assert!(child.wait_with_output().unwrap().status.success());
        assert!(!Path::new(&segment).exists(), "{segment}");
    }
}

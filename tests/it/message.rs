//! Which types may be messages: every shape that compiles, and the compiler's error for each that
//! does not.

use std::path::{Path, PathBuf};
use std::process::Command;

use pagemate::Message;

/// The compiler whose wording `tests/ui/fail` has recorded. Other versions may use other words.
/// With those, the `compile_fail` examples in the docs still test the refusals.
const RECORDED_WITH: &str = "1.95";

/// The last lines of a report of rustc, which do not depend on the program.
const CLOSING: [&str; 4] =
    ["error: aborting", "For more information", "Some errors have", "error: could not compile"];

/// Compiles a file of `tests/ui` against the library that this program has been compiled with.
/// Returns whether it compiles, and the compiler's output. A project around each file would compile
/// all dependencies anew.
fn compile(file: &Path, out: &Path, emit: &str) -> (bool, String) {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("libpagemate-") && name.ends_with(".rlib")
    };
    let libraries = std::fs::read_dir(&deps).unwrap().map(|entry| entry.unwrap().path()).filter(is_library);
    let library = libraries.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap();
    let mut rustc = Command::new(std::env::var("RUSTC").unwrap_or("rustc".into()));
    rustc.args(["--edition=2021", "--color=never", "--diagnostic-width=140"]);
    rustc.arg(format!("--emit={emit}")).arg("--out-dir").arg(out).arg(file);
    rustc.arg("--extern").arg(format!("pagemate={}", library.display()));
    rustc.arg("-L").arg(format!("dependency={}", deps.display())).arg("-L").arg(out);
    let output = rustc.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = text.lines().filter(|line| !CLOSING.iter().any(|closing| line.starts_with(closing)));
    let text: Vec<String> = lines.map(without_numbers).collect();
    (output.status.success(), text.join("\n").trim_end().to_string() + "\n")
}

/// Removes everything from a line of the compiler that changes with the library: line numbers, the
/// margin that is as wide as the widest of them, and the number of types that are messages. The
/// place in the file of `tests/ui` stays.
fn without_numbers(line: &str) -> String {
    let line = line.trim();
    let text = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let line = if text.starts_with(['|', '+', '-']) { text } else { line };
    let place = line.strip_prefix("--> ").or(line.strip_prefix("::: "));
    if place.is_some_and(|at| at.contains("/registry/src/")) {
        return "--> a dependency".to_string(); // wherever this machine keeps it
    }
    if let Some(at) = place.filter(|at| !at.starts_with("tests/ui")) {
        return format!("--> {}", at.split(':').next().unwrap_or_default());
    }
    if line.starts_with("and ") && line.ends_with(" others") {
        return "and some others".to_string();
    }
    line.to_string()
}

/// Compiles the crates of `tests/ui/aux` into `out`. Each declares its crate type.
fn compile_auxiliaries(out: &Path) {
    for file in files("aux") {
        let (is_compiled, text) = compile(&file, out, "link");
        assert!(is_compiled, "{text}");
    }
}

/// A directory for the compiler's output, which is removed at the end.
struct Out(PathBuf);

impl Out {
    fn new(name: &str) -> Out {
        let path = std::env::temp_dir().join(format!("pagemate-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Out(path)
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(format!("{}/tests/ui/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let paths = entries.map(|entry| Path::new("tests/ui").join(folder).join(entry.unwrap().file_name()));
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "rs")).collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {folder}");
    files
}

#[test]
fn every_shape_compiles_and_works() {
    let out = Out::new("ui-pass");
    for file in files("pass") {
        let (is_compiled, text) = compile(&file, &out.0, "link");
        assert!(is_compiled, "{text}");
        let program = out.0.join(file.file_stem().unwrap());
        let output = Command::new(program).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// With `BLESS=1`, records the errors instead of comparing them.
#[test]
fn types_that_are_not_messages_are_refused_with_a_reason() {
    let version = Command::new("rustc").arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let is_recorded = version.split(' ').nth(1).is_some_and(|version| version.starts_with(RECORDED_WITH));
    if !is_recorded {
        println!(
            "the wording of errors is not compared: it is recorded for rustc \
             {RECORDED_WITH}, this is {version}"
        );
    }
    let out = Out::new("ui-fail");
    compile_auxiliaries(&out.0);
    let mut changed = Vec::new();
    for file in files("fail") {
        let (is_compiled, text) = compile(&file, &out.0, "obj");
        assert!(!is_compiled, "{} compiles", file.display());
        assert!(
            !text.contains("error[E0463]") && !text.contains("error[E0514]"),
            "no library to compile with: {text}"
        );
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join(file.with_extension("stderr"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&recorded, text).unwrap();
        } else if is_recorded && std::fs::read_to_string(&recorded).unwrap_or_default() != text {
            changed.push(format!("{}:\n{text}", file.display()));
        }
    }
    assert!(changed.is_empty(), "these errors have changed:\n{}", changed.join("\n"));
}

mod one {
    #[derive(Debug, Clone, Copy, PartialEq, pagemate::Message)]
    #[repr(C)]
    pub(super) struct Tick {
        pub(super) price: f32,
        pub(super) amount: u32,
        pub(super) side: Side,
        pub(super) _pad: [u8; 3],
    }

    #[derive(Debug, Clone, Copy, PartialEq, pagemate::Message)]
    #[repr(u8)]
    pub(super) enum Side {
        Buy = 1,
        Sell = 2,
    }
}

mod two {
    pub(super) use deeper::Tick;

    mod deeper {
        #[derive(Clone, Copy, pagemate::Message)]
        #[repr(C)]
        pub(crate) struct Tick {
            price: f32,
            amount: u32,
            side: Side,
            _pad: [u8; 3],
        }

        #[derive(Clone, Copy, pagemate::Message)]
        #[repr(u8)]
        pub(crate) enum Side {
            #[allow(dead_code)]
            Buy = 1,
            #[allow(dead_code)]
            Sell = 2,
        }
    }
}

mod swapped {
    #[derive(Clone, Copy, pagemate::Message)]
    #[repr(C)]
    pub(super) struct Tick {
        amount: u32,
        price: f32,
        side: super::one::Side,
        _pad: [u8; 3],
    }
}

#[test]
fn the_same_declaration_is_the_same_type() {
    let (one, two, swapped) = (one::Tick::schema(), two::Tick::schema(), swapped::Tick::schema());
    assert_eq!(one.to_string(), two.to_string());
    assert_eq!(one.fingerprint(), two.fingerprint());
    assert_ne!(one.to_string(), swapped.to_string());
    assert_ne!(one.fingerprint(), swapped.fingerprint());
}

#[test]
fn derived_types_have_the_traits_of_bytemuck() {
    fn bounds<T: Message + bytemuck::NoUninit + bytemuck::CheckedBitPattern>() {}
    bounds::<one::Tick>();
    bounds::<one::Side>();
    bounds::<[u64; 3]>();
}

#[test]
fn bytes_are_checked_through_bytemuck() {
    let tick = one::Tick { price: 1.5, amount: 2, side: one::Side::Sell, _pad: [0; 3] };
    let mut bytes = bytemuck::bytes_of(&tick).to_vec();
    assert_eq!(bytemuck::checked::try_pod_read_unaligned::<one::Tick>(&bytes), Ok(tick));
    assert_eq!(one::Tick::schema().render(&bytes), "Tick { price: 1.5, amount: 2, side: Sell }");
    bytes[8] = 9;
    assert!(bytemuck::checked::try_pod_read_unaligned::<one::Tick>(&bytes).is_err());
    assert_eq!(one::Tick::schema().render(&bytes), "Tick { price: 1.5, amount: 2, side: <invalid 9> }");
    let _ = one::Side::Buy;
}

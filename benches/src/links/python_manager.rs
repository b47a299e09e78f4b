//! Python's Manager: a server process, and a proxy that makes each operation a message to the
//! server and back.
//!
//! A small script measures itself and prints the nanoseconds of an operation.

use std::process::{Command, Stdio};

use crate::contender::Call;
use crate::cpu::{pin, unpin};
use crate::link::Result;
use crate::peer::Setup;
use crate::session::{self, Repetition};

/// Keys are those of the other contenders; the value of each is checked.
const SCRIPT: &str = r#"
import sys, time
from multiprocessing import Manager

KEYS, MASK = 16384, 2**64 - 1

def key(n):
    return n * 0x9E3779B97F4A7C15 & MASK

def main():
    what, seconds = sys.argv[1], float(sys.argv[2])
    with Manager() as manager:
        table = manager.dict({key(n): n for n in range(KEYS)} if what != 'insert' else {})
        row = manager.list(range(KEYS) if what == 'element' else [])
        count, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            n = count * 7919 % KEYS
            if what == 'get':
                assert table[key(n)] == n
            elif what == 'insert':
                table[key(count)] = count
            elif what == 'replace':
                table[key(n)] = n
            elif what == 'remove':
                if count == KEYS:
                    break
                del table[key(count)]
            elif what == 'push':
                row.append(count)
            elif what == 'element':
                assert row[n] == n
            count += 1
        took = time.perf_counter() - begin
        expected = {'insert': count, 'remove': KEYS - count}.get(what, KEYS)
        assert what in ('push', 'element') or len(table) == expected
        assert what != 'push' or len(row) == count
        print(took * 1e9 / count)

if __name__ == '__main__':
    main()
"#;

/// Returns whether there is a Python to run.
pub fn is_there() -> bool {
    let version = Command::new("python3").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Returns nanoseconds of one operation: get, insert, replace, remove, push, element.
pub fn measure(call: Call<'_>, what: &str) -> Result<Repetition> {
    session::alone(&Setup::new(call.cpus)?, (), |near| {
        near.measured(|_| {
            // Both of its processes get a core.
            unpin(call.cpus)?;
            let seconds = call.plan.length.as_secs_f64();
            let output = Command::new("python3")
                .args(["-c", SCRIPT, what, &seconds.to_string()])
                .stderr(Stdio::inherit())
                .output();
            pin(call.cpus.near)?;
            let output = output?;
            if !output.status.success() {
                return Err(format!("python3 ended with {}", output.status).into());
            }
            Ok((String::from_utf8_lossy(&output.stdout).trim().parse()?, None))
        })
    })
}

//! Redis over a Unix socket: a server of its own for each repetition, which stores nothing on a
//! disk.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::link::{Pair, Result};
use crate::object::Table;

#[derive(Debug)]
pub struct Redis;

/// A connection, and for the first one the server.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
    _server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    /// Killed when this is dropped.
    child: Child,
    _dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns whether there is a server to start.
pub fn is_there() -> bool {
    let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

impl Pair for Redis {
    type End = Connection;

    fn pair() -> Result<(Connection, Connection)> {
        let dir = tempfile::Builder::new().prefix("benches-").tempdir()?;
        let socket = dir.path().join("socket");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        command.arg("--dir").arg(dir.path()).stdout(Stdio::null());
        // SAFETY: between fork and exec the closure makes one system call and touches no lock and
        // no heap.
        unsafe {
            command.pre_exec(|| {
                let signal = Some(rustix::process::Signal::KILL);
                Ok(rustix::process::set_parent_process_death_signal(signal)?)
            });
        }
        let server = Server { child: command.spawn()?, _dir: dir };
        let began = Instant::now();
        loop {
            match (UnixStream::connect(&socket), UnixStream::connect(&socket)) {
                (Ok(one), Ok(other)) => {
                    let one = Connection { stream: BufReader::new(one), _server: Some(server) };
                    return Ok((one, Connection { stream: BufReader::new(other), _server: None }));
                }
                (Err(error), _) | (_, Err(error)) if began.elapsed() > Duration::from_secs(20) => {
                    return Err(format!("redis-server does not open its socket: {error}").into());
                }
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

const ANSWERS: &str = "the server is ours and answers";

fn write(to: &mut Vec<u8>, words: &[&[u8]]) {
    to.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        to.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        to.extend_from_slice(word);
        to.extend_from_slice(b"\r\n");
    }
}

impl Connection {
    fn ask(&mut self, words: &[&[u8]]) {
        let mut request = Vec::with_capacity(64);
        write(&mut request, words);
        self.stream.get_mut().write_all(&request).expect(ANSWERS);
    }

    /// Returns the next line of an answer, without its end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect(ANSWERS);
        assert!(!line.starts_with('-'), "redis: {line}");
        line.trim_end().to_owned()
    }
}

impl Table for Connection {
    fn get(&mut self, key: u64) -> Option<u64> {
        self.ask(&[b"GET", &key.to_le_bytes()]);
        let line = self.line();
        if line == "$-1" {
            return None;
        }
        let mut value = [0; 10];
        self.stream.read_exact(&mut value).expect(ANSWERS);
        value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn put(&mut self, key: u64, value: u64) {
        self.ask(&[b"SET", &key.to_le_bytes(), &value.to_le_bytes()]);
        assert_eq!(self.line(), "+OK");
    }

    fn remove(&mut self, key: u64) -> bool {
        self.ask(&[b"DEL", &key.to_le_bytes()]);
        self.line() == ":1"
    }

    /// Sends many requests at once, which is not measured.
    fn fill(&mut self, entries: impl Iterator<Item = (u64, u64)>) {
        let entries: Vec<_> = entries.collect();
        for some in entries.chunks(256) {
            let mut request = Vec::new();
            for (key, value) in some {
                write(&mut request, &[b"SET", &key.to_le_bytes(), &value.to_le_bytes()]);
            }
            self.stream.get_mut().write_all(&request).expect(ANSWERS);
            some.iter().for_each(|_| assert_eq!(self.line(), "+OK"));
        }
    }
}

//! Damage: overwrites an object's bytes in its file while handles to it are open.

#![allow(dead_code)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::Duration;

pub(crate) struct Object {
    file: File,
    at: u64,
}

impl Object {
    /// Finds the object in the segment of this name whose bytes begin with `words`.
    pub(crate) fn find(name: &str, words: &[u64]) -> Object {
        let file =
            OpenOptions::new().read(true).write(true).open(format!("/dev/shm/pagemate.{name}")).unwrap();
        let pattern: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut bytes = vec![0; pattern.len()];
        let end = file.metadata().unwrap().len();
        for at in (0..end - pattern.len() as u64).step_by(128) {
            file.read_exact_at(&mut bytes, at).unwrap();
            if bytes == pattern {
                return Object { file, at };
            }
        }
        panic!("no object in {name:?} begins with {words:?}");
    }

    pub(crate) fn set(&self, offset: usize, value: u8) {
        self.write(offset, &[value]);
    }

    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.at + offset as u64).unwrap();
    }

    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) {
        self.file.read_exact_at(bytes, self.at + offset as u64).unwrap();
    }
}

/// Calls `body` with each offset below `len` and each of three values. No call may panic or take
/// long.
pub(crate) fn each(len: usize, body: impl Fn(usize, u8) + Send + Sync + 'static) {
    let mut random = 0x9e37_79b9_u32;
    let body = std::sync::Arc::new(body);
    for offset in 0..len {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        for value in [0x00, 0xff, (random >> 24) as u8] {
            let (done, ended) = mpsc::channel();
            let body = body.clone();
            let thread = std::thread::spawn(move || {
                body(offset, value);
                let _ = done.send(());
            });
            match ended.recv_timeout(Duration::from_secs(60)) {
                Ok(()) => thread.join().unwrap(),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("byte {offset} set to {value:#x}: it hangs"),
                Err(_) => panic!("byte {offset} set to {value:#x}: it panics"),
            }
        }
    }
}

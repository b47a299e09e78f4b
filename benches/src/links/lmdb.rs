//! LMDB through heed: a file in memory, a transaction for each operation. As it opens by default,
//! and as fast as it can be.

use std::sync::Arc;

use heed::byteorder::NativeEndian;
use heed::types::U64;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};
use tempfile::TempDir;

use crate::link::{Pair, Result};
use crate::object::Table;

/// With LMDB's default flags: system calls write each transaction and synchronise it (with memory).
#[derive(Debug)]
pub struct Lmdb;

/// Never synchronised, and written through the map. A wild write of the program may harm the file,
/// and so may a crash of the machine.
#[derive(Debug)]
pub struct FastLmdb;

#[derive(Clone)]
pub struct Opened {
    env: Env,
    database: Database<U64<NativeEndian>, U64<NativeEndian>>,
    _dir: Arc<TempDir>,
}

impl Pair for Lmdb {
    type End = Opened;

    fn pair() -> Result<(Opened, Opened)> {
        open(EnvFlags::empty())
    }
}

impl Pair for FastLmdb {
    type End = Opened;

    fn pair() -> Result<(Opened, Opened)> {
        open(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP)
    }
}

fn open(flags: EnvFlags) -> Result<(Opened, Opened)> {
    let dir = Arc::new(tempfile::Builder::new().prefix("benches-").tempdir_in("/dev/shm")?);
    let mut options = EnvOpenOptions::new();
    options.map_size(1 << 30).max_readers(8);
    // SAFETY: nobody else opens the file, and without synchronisation only a crash of the machine
    // could harm it.
    let env = unsafe { options.flags(flags).open(dir.path())? };
    let mut transaction = env.write_txn()?;
    let database = env.create_database(&mut transaction, None)?;
    transaction.commit()?;
    let one = Opened { env, database, _dir: dir };
    Ok((one.clone(), one))
}

const WORKS: &str = "the file is ours and large enough";

impl Table for Opened {
    #[inline]
    fn get(&mut self, key: u64) -> Option<u64> {
        let transaction = self.env.read_txn().expect(WORKS);
        self.database.get(&transaction, &key).expect(WORKS)
    }

    #[inline]
    fn put(&mut self, key: u64, value: u64) {
        let mut transaction = self.env.write_txn().expect(WORKS);
        self.database.put(&mut transaction, &key, &value).expect(WORKS);
        transaction.commit().expect(WORKS);
    }

    #[inline]
    fn remove(&mut self, key: u64) -> bool {
        let mut transaction = self.env.write_txn().expect(WORKS);
        let was_there = self.database.delete(&mut transaction, &key).expect(WORKS);
        transaction.commit().expect(WORKS);
        was_there
    }

    fn fill(&mut self, entries: impl Iterator<Item = (u64, u64)>) {
        let mut transaction = self.env.write_txn().expect(WORKS);
        entries.for_each(|(key, value)| self.database.put(&mut transaction, &key, &value).expect(WORKS));
        transaction.commit().expect(WORKS);
    }
}

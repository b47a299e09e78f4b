//! The contenders, one file for each crate or mechanism.

pub mod bare_value;
pub mod broadcast;
pub mod crossbeam;
pub mod disruptor;
pub mod fans;
pub mod floor;
pub mod futex;
pub mod iceoryx2;
pub mod ipc_channel;
pub mod lmdb;
pub mod locks;
pub mod newcomers;
pub mod pagemate_event;
pub mod pagemate_manager;
pub mod pagemate_pool;
pub mod pagemate_queue;
pub mod pagemate_service;
pub mod pagemate_spsc;
pub mod pagemate_sync;
pub mod pagemate_topic;
pub mod procspawn;
pub mod pthread;
pub mod python;
pub mod python_manager;
pub mod raw_sync;
pub mod rayon;
pub mod redis;
pub mod rtrb;
pub mod tables;
pub mod unix;

/// Slots of every ring that has a size.
pub const CAPACITY: usize = 1024;

/// Slots of a ring whose messages may be large.
pub const CAPACITY_IN_PLACE: usize = 16;

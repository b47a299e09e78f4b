//! The bodies of the fuzz targets, one file each: a function of bytes. `tests/corpus.rs` runs the
//! same functions over the stored corpus.

pub mod dict_ops;
pub mod heap_ops;
pub mod list_ops;
pub mod payload_bytes;
pub mod pipe_bytes;
pub mod pool_bytes;
pub mod queue_ops;
pub mod schema_text;
pub mod segment_open;
pub mod service_ops;
pub mod spsc_ops;
pub mod topic_bytes;
pub mod topic_ops;

/// Bytes as a supply of small numbers; zeros when the bytes run out.
pub struct Supply<'a>(pub &'a [u8]);

impl Supply<'_> {
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns at most `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let (some, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        some.to_vec()
    }
}

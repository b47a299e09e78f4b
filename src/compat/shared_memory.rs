//! Feature `shared_memory`: pagemate's objects in a region that the program already has from the
//! `shared_memory` crate.

use std::path::Path;

use ::shared_memory::Shmem;

use crate::segment::attachment::Attachment;
use crate::segment::name::DEFAULT_DIR;
use crate::segment::Segment;
use crate::Result;

impl Segment {
    /// Turns the region into a segment, or opens the segment that it is already. All users of the
    /// region may call this, in any order.
    ///
    /// The whole region becomes pagemate's: it must be zeroed, as a new one is, and hold nothing
    /// else. It is mapped a second time, so the segment may outlive `region`. The `shared_memory`
    /// crate still removes the name, when the region's owner drops it.
    ///
    /// ```
    /// use pagemate::{Event, Segment};
    /// use shared_memory::ShmemConf;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let region = ShmemConf::new().size(1 << 20).create()?;
    /// let ready = Event::create(Segment::in_shmem(&region)?.at("ready"))?;
    ///
    /// let elsewhere = ShmemConf::new().os_id(region.get_os_id()).open()?;
    /// Event::open(Segment::in_shmem(&elsewhere)?.at("ready"))?.set();
    /// assert!(ready.is_set());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Corrupted` if the region holds something else, `InvalidInput` if it is smaller than 24,576
    /// bytes, `OutOfMemory`.
    pub fn in_shmem(region: &Shmem) -> Result<Segment> {
        let path = Path::new(DEFAULT_DIR).join(region.get_os_id().trim_start_matches('/'));
        Ok(Segment::from_attachment(Attachment::open_foreign(&path)?))
    }
}

//! The words of all segments that this process has mapped, for a report.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The bytes of each mapping that are compared: header, participants and the first objects.
const BYTES_MAX: usize = 1 << 15;
/// The largest number of changes in a report. It says so if there are more.
const CHANGES_MAX: usize = 40;

/// The contents of the mappings at one moment.
#[derive(Debug)]
pub struct Words {
    stretches: Vec<Stretch>,
    /// The memory is read through the kernel, because others write to it meanwhile.
    memory: Option<File>,
}

#[derive(Debug)]
struct Stretch {
    base: u64,
    file: String,
    bytes: Vec<u8>,
}

impl Words {
    /// Reads them now.
    pub fn now() -> Words {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let memory = File::open("/proc/self/mem").ok();
        let stretch = |line: &str| {
            let (range, rest) = line.split_once(' ')?;
            let file = rest.get(rest.find('/')?..)?;
            // A file that was created without a name keeps its number as its name in this list.
            let is_segment =
                ["/memfd:pagemate", "/dev/shm/pagemate.", "/dev/shm/#"].iter().any(|p| file.starts_with(p));
            if !is_segment {
                return None;
            }
            let (from, to) = range.split_once('-')?;
            let (base, end) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
            let mut bytes = vec![0; BYTES_MAX.min((end - base) as usize)];
            memory.as_ref()?.read_exact_at(&mut bytes, base).ok()?;
            Some(Stretch { base, file: file.to_string(), bytes })
        };
        Words { stretches: maps.lines().filter_map(stretch).collect(), memory }
    }

    /// Returns whether they have changed since the last call, and keeps the present contents.
    pub fn have_changed(&mut self) -> bool {
        let Some(memory) = &self.memory else { return false };
        let mut changed = false;
        for stretch in &mut self.stretches {
            let mut bytes = [0; BYTES_MAX];
            let now = &mut bytes[..stretch.bytes.len()];
            if memory.read_exact_at(now, stretch.base).is_ok() && stretch.bytes != now {
                stretch.bytes.copy_from_slice(now);
                changed = true;
            }
        }
        changed
    }

    /// Lists the words that differ at the two later moments, line by line.
    pub fn changes(&self, meanwhile: &Words, after: &Words) -> String {
        let mut lines = Vec::new();
        for stretch in &self.stretches {
            lines.push(format!("  words of {}, before, then, and after the script:", stretch.file));
            let at_first = lines.len();
            for (index, before) in stretch.bytes.chunks_exact(8).enumerate() {
                let at = 8 * index;
                let now = [meanwhile, after].map(|words| words.at(stretch.base, at));
                if now.iter().any(|now| now.is_some_and(|now| now != before)) {
                    let [then, later] = now.map(|now| now.map_or("-".to_string(), text));
                    lines.push(format!("    {at:#7x}  {}  {then}  {later}", text(before)));
                }
            }
            if lines.len() == at_first {
                lines.push("    the same".to_string());
            }
        }
        if lines.len() > CHANGES_MAX {
            lines.truncate(CHANGES_MAX);
            lines.push("    and more".to_string());
        }
        lines.join("\n")
    }

    /// Returns the eight bytes at `at` of the mapping at `base`, if it exists.
    fn at(&self, base: u64, at: usize) -> Option<&[u8]> {
        self.stretches.iter().find(|stretch| stretch.base == base)?.bytes.get(at..at + 8)
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.try_into().map_or(String::new(), |bytes| format!("{:016x}", u64::from_le_bytes(bytes)))
}

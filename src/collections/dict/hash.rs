//! The hash of a key. It is part of the memory layout, so it is the same in every process and
//! version.
//!
//! Eight bytes at a time are mixed in by a multiplication to 128 bits, and the halves of the
//! product are folded together. It is not cryptographic. The seed is random for each dict, so that
//! keys that a stranger chooses do not collide; a process that can read the segment can read the
//! seed.

use crate::message::item::words_of;

/// The factor for each word: digits of the golden ratio. Odd and without pattern.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// The factor for the length and for the last step: digits of the square root of two, made odd.
const LAST: u64 = 0x6a09_e667_f3bc_c909;

/// Multiplies, and folds the halves of the product together.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Returns the hash of `key`, in a dict with this seed.
#[inline(always)]
pub(crate) fn hash(seed: u64, key: &[u8]) -> u64 {
    // The length too, because the last bytes are padded with zeros.
    let mut state = seed ^ (key.len() as u64).wrapping_mul(LAST);
    for word in words_of(key) {
        state = fold(state ^ word, STEP);
    }
    fold(state ^ seed.rotate_left(32), LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_padding_and_seed_change_the_hash() {
        assert_ne!(hash(1, b""), hash(1, b"\0"));
        assert_ne!(hash(1, b"12345678"), hash(1, b"12345678\0"));
        assert_ne!(hash(1, b"a"), hash(2, b"a"));
    }

    #[test]
    fn the_values_are_part_of_the_layout() {
        let hashes = [hash(0, b""), hash(1, b"a"), hash(7, b"12345678"), hash(7, b"123456789")];
        let expected = [0, 6408614416489710026, 17466233862014623490, 7887653893508078710];
        assert_eq!(hashes, expected);
    }

    #[test]
    fn small_numbers_are_spread_over_all_bits() {
        for seed in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let mut ones = [0u32; 64];
            for key in 0..4096u64 {
                let hash = hash(seed, &key.to_le_bytes());
                ones.iter_mut().enumerate().for_each(|(bit, ones)| *ones += (hash >> bit & 1) as u32);
            }
            // Each bit is 1 in half of the hashes, within ten standard deviations.
            assert!(ones.iter().all(|ones| (1728..=2368).contains(ones)), "seed {seed}: {ones:?}");
        }
    }

    #[test]
    fn a_bit_of_the_key_changes_half_of_the_hash() {
        let mut changed = 0;
        for key in 0..1000u64 {
            let before = hash(7, &key.to_le_bytes());
            changed += (0..64)
                .map(|bit| (before ^ hash(7, &(key ^ 1 << bit).to_le_bytes())).count_ones())
                .sum::<u32>();
        }
        let average = f64::from(changed) / 64_000.0;
        assert!((28.0..36.0).contains(&average), "{average} bits of 64");
    }
}

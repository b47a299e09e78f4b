//! A text of any length, always the same. Its words are as frequent as in a language: the second
//! word half as often as the first, the hundredth a hundredth as often (Zipf's law).

use std::io::{self, Write};

/// Number of different words, before punctuation and capitals change them.
const WORDS: usize = 200_000;
const SYLLABLES: [&str; 40] = [
    "a", "be", "co", "da", "e", "fi", "go", "ha", "i", "ju", "ka", "lo", "me", "ni", "o", "pe", "qui", "ra",
    "so", "tu", "u", "va", "we", "xi", "yo", "za", "an", "er", "in", "on", "st", "tra", "che", "li", "mo",
    "nu", "re", "sha", "the", "ü",
];

/// Writes at least this number of bytes, up to the end of a line.
pub(crate) fn write(bytes: u64, out: &mut impl Write) -> io::Result<()> {
    let words: Vec<String> = (0..WORDS).map(word).collect();
    // Frequency of all words up to this one, in parts of the whole.
    let mut sum = 0.0;
    let up_to: Vec<f64> = (0..WORDS)
        .map(|rank| {
            sum += 1.0 / (rank as f64 + 2.7);
            sum
        })
        .collect();
    let (mut random, mut written, mut line) = (0x2545_f491_4f6c_dd1d_u64, 0, String::new());
    while written < bytes {
        line.clear();
        for nth in 0..12 {
            // Xorshift.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let spot = (random >> 11) as f64 / (1u64 << 53) as f64 * sum;
            let word = &words[up_to.partition_point(|&up_to| up_to < spot).min(WORDS - 1)];
            line.push_str(if nth == 0 { "" } else { " " });
            match random % 16 {
                0 => line.extend(["\"", word, "\""]),
                1 => line.extend([word, ","]),
                _ => line.push_str(word),
            }
        }
        line.push_str(".\n");
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
    }
    out.flush()
}

/// Returns the word of this rank. Short words come first.
fn word(rank: usize) -> String {
    let (mut rank, mut word) = (rank + 1, String::new());
    while rank > 0 {
        word += SYLLABLES[(rank - 1) % SYLLABLES.len()];
        rank = (rank - 1) / SYLLABLES.len();
    }
    word
}

//! Slices of one fixed pseudo-English text of 16 MB, long enough that two draws rarely overlap.

use super::random::Random;

const LENGTH: usize = 16_000_000;
const WORDS: usize = 30_000;
const WORDS_PER_SENTENCE: usize = 4000;

/// Letters and how often they occur, in tenths of a per cent.
const LETTERS: [(char, u64); 26] = [
    ('e', 120),
    ('t', 90),
    ('a', 80),
    ('o', 75),
    ('i', 70),
    ('n', 70),
    ('s', 60),
    ('h', 60),
    ('r', 60),
    ('d', 43),
    ('l', 40),
    ('c', 28),
    ('u', 28),
    ('m', 24),
    ('w', 24),
    ('f', 22),
    ('g', 20),
    ('y', 20),
    ('p', 19),
    ('b', 15),
    ('v', 10),
    ('k', 10),
    ('j', 8),
    ('q', 2),
    ('x', 2),
    ('z', 1),
];

/// The text.
#[derive(Debug)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn new() -> Self {
        let mut random = Random::new(20_261_122);
        let words: Vec<String> = (0..WORDS).map(|_| word(&mut random)).collect();
        // Zipf: the word of rank r is drawn with a weight of 1 / (r + 3), in billionths.
        let cumulative: Vec<u64> = (0..WORDS as u64)
            .scan(0, |sum, rank| {
                *sum += 1_000_000_000 / (rank + 3);
                Some(*sum)
            })
            .collect();
        let total = cumulative[WORDS - 1];
        let mut text = String::with_capacity(LENGTH + 16);
        let mut count = 0;
        while text.len() < LENGTH {
            let drawn = random.below(total);
            text.push_str(&words[cumulative.partition_point(|&sum| sum <= drawn)]);
            count += 1;
            text.push_str(if count % WORDS_PER_SENTENCE == 0 { ". " } else { " " });
        }
        Self(text)
    }

    /// A slice of `low` to `high` bytes.
    pub(super) fn draw(&self, random: &mut Random, low: i64, high: i64) -> &str {
        let length = usize::try_from(random.between(low, high)).unwrap_or(0);
        let start = random.index(self.0.len() - length);
        // All of it is ASCII, so every byte is a boundary.
        &self.0[start..start + length]
    }
}

fn word(random: &mut Random) -> String {
    let total: u64 = LETTERS.iter().map(|(_, weight)| weight).sum();
    let length = random.between(2, 11);
    (0..length)
        .map(|_| {
            let mut drawn = random.below(total);
            let letter = LETTERS.iter().find(|(_, weight)| {
                let found = drawn < *weight;
                drawn = drawn.saturating_sub(*weight);
                found
            });
            letter.map_or('e', |(letter, _)| *letter)
        })
        .collect()
}

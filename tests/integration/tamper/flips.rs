//! Single bits, anywhere, many times.

use super::damage::Case;
use super::judge::Outcome;
use super::{judge_all, must_be_reported, small};

/// Splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }
}

/// `PAGEVAULT_BIT_FLIPS=10000` for a long run, `PAGEVAULT_SEED` for another one.
#[test]
fn random_bits() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (flips, seed) = (number("PAGEVAULT_BIT_FLIPS", 300), number("PAGEVAULT_SEED", 1));
    let fixture = small();
    let objects = fixture.objects();
    let total: usize = objects.iter().map(|(_, bytes, _)| bytes.len()).sum();
    let mut random = Random(seed);
    let cases: Vec<Case> = (0..flips)
        .map(|number| {
            // Half by size, half by object: packs are nearly all of the bytes.
            let (path, bytes, _) = if number % 2 == 0 {
                let mut at = random.below(total);
                objects
                    .iter()
                    .find(|(_, bytes, _)| match at.checked_sub(bytes.len()) {
                        Some(rest) => {
                            at = rest;
                            false
                        }
                        None => true,
                    })
                    .unwrap()
            } else {
                &objects[random.below(objects.len())]
            };
            let mut flipped = bytes.clone();
            let (offset, bit) = (random.below(bytes.len()), random.below(8));
            flipped[offset] ^= 1 << bit;
            fixture.with_bytes(path, (format!("bit {bit} of byte {offset} (seed {seed})"), flipped))
        })
        .collect();
    judge_all(fixture, &cases, must_be_reported);
    let repaired: Vec<Outcome> =
        cases.iter().step_by(25).map(|case| crate::repair::judge_repair(fixture, case)).collect();
    let whole = repaired.iter().filter(|outcome| **outcome == Outcome::Fine).count();
    println!("{} of them repaired without a copy: {whole} whole, the others in part", repaired.len());
    println!("{flips} flips over {total} bytes in {} objects, seed {seed}", objects.len());
}

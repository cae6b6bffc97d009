//! Reproducible random numbers: xoshiro256** (Blackman and Vigna, 2018), seeded by `SplitMix64`.

/// A stream of random numbers that its seed determines.
#[derive(Debug)]
pub(super) struct Random([u64; 4]);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }))
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let (c, d) = (c ^ a, d ^ b);
        self.0 = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        b.wrapping_mul(5).rotate_left(7).wrapping_mul(9)
    }

    /// Uniform in 0..`bound`; the bias of the multiplication is below 2^-40 for every bound used here.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in 0..`bound`.
    pub(super) fn index(&mut self, bound: usize) -> usize {
        // Below a `usize`, so it fits one.
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    /// Uniform in `low..=high`.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        low.saturating_add_unsigned(self.below(low.abs_diff(high) + 1))
    }

    /// Uniform in 0..1.
    pub(super) fn unit(&mut self) -> f64 {
        f64::from((self.next() >> 32) as u32) / 4_294_967_296.0
    }

    /// Beta(2, 5): the second smallest of six uniform numbers.
    pub(super) fn skewed(&mut self) -> f64 {
        let (mut smallest, mut second) = (1.0_f64, 1.0_f64);
        for _ in 0..6 {
            let number = self.unit();
            second = second.min(smallest.max(number));
            smallest = smallest.min(number);
        }
        second
    }

    pub(super) fn choose<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.index(choices.len())]
    }

    /// `length` incompressible bytes.
    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for block in bytes.chunks_mut(8) {
            block.copy_from_slice(&self.next().to_le_bytes()[..block.len()]);
        }
        bytes
    }
}

//! The one source of randomness of a simulated world.

use std::time::Duration;

/// `SplitMix64`: a few lines of our own, so that a seed means the same world whatever libraries do.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or zero if there is none.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    /// A number from `first` to `last`, both included.
    pub(super) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last.saturating_sub(first) + 1)
    }

    /// Draws nothing for a rate of zero, so that switching a fault off leaves the rest of a world alone.
    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    pub(super) fn millis(&mut self, first: u64, last: u64) -> Duration {
        Duration::from_millis(self.between(first, last))
    }

    /// A duration of this mean, between a fifth and nine fifths of it.
    pub(super) fn around(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(0.2) + mean * u32::try_from(self.below(1600)).unwrap_or(0) / 1000
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    pub(super) fn pick<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        if items.is_empty() {
            return None;
        }
        let index = self.index(items.len());
        items.get(index).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_numbers() {
        let mut random = Random::new(0);
        assert_eq!(random.number(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.number(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn a_duration_around_a_mean_is_neither_zero_nor_twice_the_mean() {
        let mut random = Random::new(1);
        let mean = Duration::from_secs(10);
        for _ in 0..1000 {
            let duration = random.around(mean);
            assert!(mean / 5 <= duration && duration < mean * 9 / 5, "{duration:?}");
        }
    }
}

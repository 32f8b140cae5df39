//! Seeded choices that stay the same for ever.
//!
//! Only the ChaCha8 key stream comes from a library, and that is fixed by its definition; everything drawn from it is
//! our own arithmetic on whole numbers, so that no release of a library and no machine can change a byte.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use uuid::Uuid;

/// A stream of choices.
#[derive(Clone, Debug)]
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// The stream of one item. Each (seed, purpose, item) has a stream of its own, so items need no order.
    pub(crate) fn new(seed: u64, purpose: u64, item: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&purpose.to_le_bytes());
        let mut stream = ChaCha8Rng::from_seed(key);
        stream.set_stream(item);
        Self(stream)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which must not be 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The bias of this is below bound / 2^64: nothing.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A place in something of that length, which must not be 0.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A number from `low` up to and without `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    /// True so many times in a thousand.
    pub(crate) fn per_mille(&mut self, times: u64) -> bool {
        self.below(1000) < times
    }

    /// One of them; there must be one.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.place(of.len())]
    }

    /// An id as random ones are (version 4).
    pub(crate) fn uuid(&mut self) -> Uuid {
        let bits = (u128::from(self.next()) << 64) | u128::from(self.next());
        uuid::Builder::from_u128(bits)
            .with_version(uuid::Version::Random)
            .with_variant(uuid::Variant::RFC4122)
            .into_uuid()
    }
}

/// The id of a thing that has a number: a user, a row. The same each time, without a table.
pub(crate) fn id_of(seed: u64, purpose: u64, number: u64) -> Uuid {
    // The finaliser of SplitMix64, twice: ids of neighbours have nothing in common.
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let high = mix(seed ^ mix(purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mix(number)));
    let low = mix(high ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let bits = (u128::from(high) << 64) | u128::from(low);
    uuid::Builder::from_u128(bits).with_version(uuid::Version::Random).with_variant(uuid::Variant::RFC4122).into_uuid()
}

/// Numbers below a bound, in which the n-th is drawn about 1/n as often as the first (Zipf's law).
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    /// Sums of the weights up to each number.
    sums: Vec<u64>,
}

impl Zipf {
    /// For the numbers below `count`, which must not be 0.
    pub(crate) fn new(count: usize) -> Self {
        let mut sum = 0;
        let weight = |rank: u64| (1 << 32) / (rank + 1);
        let sums = (0..count as u64)
            .map(|rank| {
                sum += weight(rank);
                sum
            })
            .collect();
        Self { sums }
    }

    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        let total = self.sums.last().copied().unwrap_or(1);
        let drawn = random.below(total);
        self.sums.partition_point(|sum| *sum <= drawn) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stream_is_the_one_that_was_fixed() {
        let mut random = Random::new(1, 2, 3);
        assert_eq!(random.next(), 4_367_042_811_517_480_074);
        assert_eq!(Random::new(1, 2, 3).uuid().get_version_num(), 4);
    }

    #[test]
    fn draws_stay_below_their_bound_and_reach_it() {
        let mut random = Random::new(1, 0, 0);
        let drawn: std::collections::BTreeSet<u64> = (0..1000).map(|_| random.between(3, 10)).collect();
        assert_eq!(drawn, (3..10).collect());
    }

    #[test]
    fn the_first_of_a_zipf_is_drawn_most_and_the_last_is_drawn_too() {
        let (zipf, mut random) = (Zipf::new(10), Random::new(1, 0, 0));
        let mut counts = [0; 10];
        for _ in 0..10_000 {
            counts[zipf.draw(&mut random) as usize] += 1;
        }
        assert!(counts[0] > 2 * counts[2] && counts[9] > 100, "{counts:?}");
    }
}

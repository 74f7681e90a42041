//! Counter-based randomness: every draw is named, never positional.
//!
//! A stream is keyed by (seed, purpose, counters), so that no result depends on batch size, thread, order of work or
//! the clock. Source of the generator: Bernstein 2008, "ChaCha, a variant of Salsa20", through `rand_chacha`.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest as _, Sha256};

/// The generator of one named stream.
pub type Stream = ChaCha8Rng;

/// Opens the stream of `purpose` for these counters (a sample's index, an epoch, a restart ...).
///
/// The same arguments give the same numbers on every machine.
pub fn stream(seed: u64, purpose: &str, counters: &[u64]) -> Stream {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update((purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    for counter in counters {
        hasher.update(counter.to_le_bytes());
    }
    Stream::from_seed(hasher.finalize().into())
}

/// Uniform integer in `[0, bound)` without modulo bias, identical on 32- and 64-bit machines.
///
/// # Panics
/// If `bound` is zero.
pub fn below(rng: &mut impl rand::RngCore, bound: u64) -> u64 {
    assert!(bound > 0, "an empty range has no element to draw");
    // Lemire 2019, arXiv:1805.10941: multiply, keep the high word, reject the few biased low words.
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        if (product as u64) >= threshold {
            return (product >> 64) as u64;
        }
    }
}

/// Uniform `f32` in `[0, 1)` with 24 random bits.
pub fn unit(rng: &mut impl rand::RngCore) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}

/// Uniform `f64` in `[0, 1)` with 53 random bits.
pub fn unit_f64(rng: &mut impl rand::RngCore) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Standard normal draw (Box–Muller, one of the pair).
pub fn normal(rng: &mut impl rand::RngCore) -> f32 {
    let u = 1.0 - f64::from(unit(rng));
    let v = f64::from(unit(rng));
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}

/// Fisher–Yates shuffle in place.
pub fn shuffle<T>(rng: &mut impl rand::RngCore, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore;

    #[test]
    fn streams_differ_by_every_part_of_their_name() {
        let first = |seed, purpose: &str, counters: &[u64]| stream(seed, purpose, counters).next_u64();
        let base = first(1, "start", &[2, 3]);
        assert_eq!(base, first(1, "start", &[2, 3]));
        for other in [
            first(2, "start", &[2, 3]),
            first(1, "target", &[2, 3]),
            first(1, "start", &[2, 4]),
            first(1, "start", &[2]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_shuffle_keeps_every_item_and_bounded_draws_cover_their_range() {
        let mut rng = stream(7, "test", &[]);
        let mut items: Vec<u32> = (0..100).collect();
        shuffle(&mut rng, &mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            seen[below(&mut rng, 7) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
    }
}

//! The Square attack in the L∞ norm: squares of random place and colour, kept where they help.
//!
//! Source: Andriushchenko et al. 2020, arXiv:1912.00049, algorithms 1 and 2; the sizes of the squares follow section 3.3
//! and its table of halvings, stretched to the number of queries, from the share that AutoAttack begins with.

use std::sync::Arc;

use super::proposals::Proposals;
use crate::attack::region::Region;
use crate::rng::{self, Stream};

/// Share of the image that the first squares cover.
const FIRST_SHARE: f64 = 0.8;
/// After so many of 10,000 queries the share is halved.
const HALVINGS: [f64; 9] = [10.0, 50.0, 200.0, 500.0, 1000.0, 2000.0, 4000.0, 6000.0, 8000.0];

/// Share of the image that a square covers at query `i` of `queries`.
pub(super) fn share(i: usize, queries: usize) -> f64 {
    let at = i as f64 / queries.max(1) as f64 * 10_000.0;
    FIRST_SHARE / f64::from(1u32 << HALVINGS.iter().filter(|&&halving| at > halving).count())
}

/// Side of a square at query `i`, at least `least` and no more than the image.
pub(super) fn side(i: usize, queries: usize, [_, h, w]: [usize; 3], least: usize) -> usize {
    let side = (share(i, queries) * (h * w) as f64).sqrt().round() as usize;
    side.max(least).min(h).min(w).max(1)
}

/// A random sign.
pub(super) fn coin(stream: &mut Stream) -> f32 {
    if rng::below(stream, 2) == 0 { -1.0 } else { 1.0 }
}

/// The Square attack of one image: `queries` looks. `start`: where a smaller budget ended; without it, stripes.
pub fn walk(region: Arc<Region>, start: Option<Vec<f32>>, queries: usize, mut stream: Stream) -> Proposals {
    let first = start.unwrap_or_else(|| stripes(&region, &mut stream));
    Proposals::new(region, queries, stream, first, next)
}

/// The best image with one square, in each channel at one of its bounds.
fn next(search: &mut Proposals) -> Vec<f32> {
    let [c, h, w] = search.region.shape();
    let side = side(search.asked, search.queries, search.region.shape(), 1);
    let top = rng::below(&mut search.stream, (h - side + 1) as u64) as usize;
    let left = rng::below(&mut search.stream, (w - side + 1) as u64) as usize;
    let mut candidate = search.x.clone();
    for channel in 0..c {
        let sign = coin(&mut search.stream);
        for row in top..top + side {
            let at = (channel * h + row) * w + left;
            for (i, pixel) in candidate.iter_mut().enumerate().skip(at).take(side) {
                *pixel = search.region.clean()[i] + sign * search.region.radius(i);
            }
        }
    }
    search.region.project(&mut candidate);
    candidate
}

/// Columns at the bounds, each channel and column with a sign of its own.
fn stripes(region: &Region, stream: &mut Stream) -> Vec<f32> {
    let [c, h, w] = region.shape();
    let signs: Vec<f32> = (0..c * w).map(|_| coin(stream)).collect();
    let at = |i: usize| region.clean()[i] + signs[i / (h * w) * w + i % w] * region.radius(i);
    let mut x: Vec<f32> = (0..c * h * w).map(at).collect();
    region.project(&mut x);
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::budget::Budget;
    use crate::attack::walk::{Seen, Walk};
    use crate::units::Epsilon;

    #[test]
    fn squares_shrink_as_published() {
        let shares = [0, 10, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001].map(|i| 0.8 / share(i, 10_000));
        assert_eq!(shares, [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]);
        assert_eq!(share(101, 1000), share(1010, 10_000));
        assert_eq!(side(0, 100, [3, 32, 32], 1), 29);
        assert_eq!(side(99, 100, [3, 8, 8], 1), 1);
    }

    #[test]
    fn every_candidate_differs_from_the_best_by_one_square_of_bounds() {
        let budget = Budget::new(&Epsilon::Normalized(0.1), &[1.0; 3]);
        let clean = vec![0.5; 3 * 64];
        let region = Arc::new(Region::new(clean, [3, 8, 8], &budget));
        let mut square = walk(region, None, 300, rng::stream(1, "test", &[]));
        let mut looks = 0;
        loop {
            looks += 1;
            assert!(square.point().iter().all(|x| ((x - 0.5).abs() - 0.1).abs() < 1e-6), "at the bounds");
            let differs: Vec<usize> = (0..64).filter(|&i| square.point()[i] != square.x[i]).collect();
            // Brightness as the score: bright squares are kept.
            let score = -f64::from(square.point().iter().sum::<f32>());
            let (before, best) = (square.score, square.x.clone());
            let more = square.learn(Seen { score, gradient: None });
            assert!(square.score <= before && (square.score < before || square.x == best));
            if looks > 1 && !differs.is_empty() {
                let (rows, columns): (Vec<usize>, Vec<usize>) = differs.iter().map(|i| (i / 8, i % 8)).unzip();
                let extent = |list: &[usize]| list.iter().max().unwrap() - list.iter().min().unwrap() + 1;
                let side = side(looks - 1, 300, [3, 8, 8], 1);
                assert!(extent(&rows) <= side && extent(&columns) <= side);
            }
            if !more {
                break;
            }
        }
        assert_eq!(looks, 300);
        // From 0.5 a pixel at the start to 0.6 at most.
        assert!(square.score < -3.0 * 64.0 * 0.54, "{}", square.score);
    }
}

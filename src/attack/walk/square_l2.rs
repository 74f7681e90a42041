//! The Square attack in the L2 norm: the length of the change is moved from one window to another.
//!
//! Source: Andriushchenko et al. 2020, arXiv:1912.00049, algorithm 3 and equation 2: what two windows have of the budget,
//! and what nobody has, goes to the first of them, which takes on a part of the shape η; the second is cleared.

use std::sync::Arc;

use super::proposals::Proposals;
use super::square::{coin, side};
use crate::attack::region::Region;
use crate::rng::{self, Stream};

/// The Square attack of one image in the L2 norm: `queries` looks. `start`: where a smaller budget ended; without it, a grid
/// of shapes.
pub fn walk(region: Arc<Region>, start: Option<Vec<f32>>, queries: usize, mut stream: Stream) -> Proposals {
    let first = start.unwrap_or_else(|| grid(&region, &mut stream));
    Proposals::new(region, queries, stream, first, next)
}

/// The best image with length moved from one window to another.
fn next(search: &mut Proposals) -> Vec<f32> {
    let shape @ [c, h, w] = search.region.shape();
    let mut side = side(search.asked, search.queries, shape, 3);
    if side.is_multiple_of(2) && side < h.min(w) {
        side += 1;
    }
    let place = |stream: &mut Stream| {
        let top = rng::below(stream, (h - side + 1) as u64) as usize;
        (top, rng::below(stream, (w - side + 1) as u64) as usize)
    };
    let (to, from) = (place(&mut search.stream), place(&mut search.stream));
    let longest = search.region.l2().unwrap_or(0.0);
    let clean = search.region.clean();
    let mut change: Vec<f64> = search.x.iter().zip(clean).map(|(x, c)| f64::from(*x) - f64::from(*c)).collect();
    let unused = (longest * longest - change.iter().map(|v| v * v).sum::<f64>()).max(0.0);
    let eta = eta(side, rng::below(&mut search.stream, 2) == 1);
    let inside = |row: usize, column: usize, (top, left): (usize, usize)| {
        (top..top + side).contains(&row) && (left..left + side).contains(&column)
    };
    for channel in 0..c {
        let at = |row: usize, column: usize| (channel * h + row) * w + column;
        let pixels = || (0..h).flat_map(|row| (0..w).map(move |column| (row, column)));
        let squared = |change: &[f64], of: &dyn Fn(usize, usize) -> bool| -> f64 {
            pixels().filter(|(r, c)| of(*r, *c)).map(|(r, c)| change[at(r, c)].powi(2)).sum()
        };
        let own = squared(&change, &|r, c| inside(r, c, to)).sqrt();
        let both = squared(&change, &|r, c| inside(r, c, to) || inside(r, c, from));
        let length = (unused / c as f64 + both).sqrt();
        let sign = f64::from(coin(&mut search.stream));
        let mut shape: Vec<f64> = Vec::with_capacity(side * side);
        for row in 0..side {
            for column in 0..side {
                let old = change[at(to.0 + row, to.1 + column)];
                let kept = if own > 0.0 { old / own } else { 0.0 };
                shape.push(sign * eta[row * side + column] + kept);
            }
        }
        let norm = shape.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        for (row, column) in pixels().filter(|(r, c)| inside(*r, *c, from)) {
            change[at(row, column)] = 0.0;
        }
        for (i, value) in shape.iter().enumerate() {
            change[at(to.0 + i / side, to.1 + i % side)] = value / norm * length;
        }
    }
    applied(&search.region, &change)
}

/// The clean image with a change in its direction and of the full length.
fn applied(region: &Region, change: &[f64]) -> Vec<f32> {
    let norm = change.iter().map(|v| v * v).sum::<f64>().sqrt();
    let factor = if norm > 0.0 { region.l2().unwrap_or(0.0) / norm } else { 0.0 };
    let mut x: Vec<f32> = region.clean().iter().zip(change).map(|(c, v)| (f64::from(*c) + factor * v) as f32).collect();
    region.project(&mut x);
    x
}

/// Five by five shapes, each channel of each with a sign of its own.
fn grid(region: &Region, stream: &mut Stream) -> Vec<f32> {
    let [c, h, w] = region.shape();
    let side = (h.min(w) / 5).max(1);
    let (rows, columns) = ((h / side).min(5), (w / side).min(5));
    let (top, left) = ((h - rows * side) / 2, (w - columns * side) / 2);
    let mut change = vec![0.0; c * h * w];
    for tile in 0..rows * columns {
        let eta = eta(side, rng::below(stream, 2) == 1);
        for channel in 0..c {
            let sign = f64::from(coin(stream));
            for (i, eta) in eta.iter().enumerate() {
                let row = top + tile / columns * side + i / side;
                let column = left + tile % columns * side + i % side;
                change[(channel * h + row) * w + column] = sign * eta;
            }
        }
    }
    applied(region, &change)
}

/// The shape that a window takes on, `[side, side]`, of length 1: a peak and a trough side by side, one above the other, or
/// (`turned`) one beside the other.
fn eta(side: usize, turned: bool) -> Vec<f64> {
    let upper = side / 2;
    let value = |row: usize, column: usize| {
        if row < upper { hill(row, column, upper, side) } else { -hill(row - upper, column, side - upper, side) }
    };
    let mut shape: Vec<f64> =
        (0..side * side).map(|i| if turned { value(i % side, i / side) } else { value(i / side, i % side) }).collect();
    let norm = shape.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    shape.iter_mut().for_each(|v| *v /= norm);
    shape
}

/// A hill of `height × width`: at the distance m from its middle (the larger of rows and columns) it is the sum of
/// `1 / (j + 1)²` from m on.
fn hill(row: usize, column: usize, height: usize, width: usize) -> f64 {
    let distance = row.abs_diff(height / 2).max(column.abs_diff(width / 2));
    (distance..=(height / 2).max(width / 2)).map(|j| ((j + 1) as f64).powi(-2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::budget::Budget;
    use crate::attack::walk::{Seen, Walk};
    use crate::units::Epsilon;

    #[test]
    fn a_shape_has_length_one_and_two_opposite_hills() {
        for (side, turned) in [(3, false), (5, true), (8, false)] {
            let eta = eta(side, turned);
            assert!((eta.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-12);
            let (first, last) = (eta[0], eta[side * side - 1]);
            assert!(first > 0.0 && last < 0.0);
            let across = if turned { eta[(side - 1) * side] } else { eta[side - 1] };
            assert!(across > 0.0, "the other corner of the first half");
        }
        // By hand: the middle of a 3 × 3 hill is 1 + 1/4, its rim 1/4.
        assert_eq!((hill(1, 1, 3, 3), hill(0, 2, 3, 3)), (1.25, 0.25));
    }

    #[test]
    fn every_candidate_has_the_full_length_and_scores_never_rise() {
        let length = 0.8;
        let budget = Budget::new(&Epsilon::L2(length), &[1.0; 3]);
        let clean = vec![0.5; 3 * 100];
        let region = Arc::new(Region::new(clean.clone(), [3, 10, 10], &budget));
        let mut square = walk(region, None, 1000, rng::stream(1, "test", &[]));
        // Against a fixed direction: the largest possible drop is its length times the budget.
        let wish: Vec<f64> = (0..300).map(|i| if i % 100 < 30 { 1.0 } else { -0.2 }).collect();
        let mut scores = vec![];
        loop {
            let change: Vec<f64> = square.point().iter().map(|x| f64::from(*x) - 0.5).collect();
            assert!((change.iter().map(|v| v * v).sum::<f64>().sqrt() - length).abs() < 1e-4);
            let score = -change.iter().zip(&wish).map(|(a, b)| a * b).sum::<f64>();
            let more = square.learn(Seen { score, gradient: None });
            scores.push(square.score);
            if !more {
                break;
            }
        }
        assert_eq!(scores.len(), 1000);
        assert!(scores.windows(2).all(|pair| pair[1] <= pair[0]));
        let possible = -length * wish.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!(scores[999] < 0.45 * possible && scores[999] >= possible - 1e-6, "{} of {possible}", scores[999]);
    }
}

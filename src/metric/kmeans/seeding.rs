//! k-means++ seeds, by the exact law, without a pass over the data for each of thousands of seeds.
//!
//! The weight of a point is its squared distance to the nearest seed; weights only fall as seeds are added. So the old
//! weights are kept for a while: a point is proposed by them and accepted with probability new weight / old weight,
//! which is rejection sampling and gives exactly the law of the new weights. Only a proposed point is compared with the
//! newest seeds; all points are when those have become many, or when proposals are refused in a row.

use super::{Cloud, Nearest, canonical_distance};
use crate::rng::{self, Stream};

/// Seeds that the weights may not know: a fifth of all, within these bounds. As many as are compared at once anyway, and
/// not so many that a proposal costs more than its share of a comparison of all.
const PENDING: [usize; 2] = [48, 256];

/// Refused proposals in a row that show that the old weights have become useless.
const REFUSALS: usize = 32;

/// Indices of `clusters` points, and the nearest of them for each point.
///
/// They differ as rows as long as there are differing rows, and as indices always.
pub(super) fn plus_plus(cloud: &Cloud<'_>, clusters: usize, stream: &mut Stream) -> (Vec<usize>, Vec<Nearest>) {
    let points = cloud.points;
    let mut seeds = vec![rng::below(stream, points.len() as u64) as usize];
    let mut weights = Weights::new(points.len());
    weights.refresh(cloud, &seeds);
    while seeds.len() < clusters {
        let pending = seeds.len() - weights.seeds;
        if pending >= (seeds.len() / 5).clamp(PENDING[0], PENDING[1]) || weights.refused >= REFUSALS {
            weights.refresh(cloud, &seeds);
        }
        if weights.total() == 0.0 {
            fill_up(points.len(), &mut seeds, clusters, stream);
            break;
        }
        let proposed = weights.draw(stream);
        let old = weights.nearest[proposed].distance;
        let pending = seeds[weights.seeds..].iter().map(|&s| canonical_distance(points.row(proposed), points.row(s)));
        let new = pending.fold(old, f32::min);
        if rng::unit_f64(stream) * f64::from(old) < f64::from(new) {
            seeds.push(proposed);
            weights.refused = 0;
        } else {
            weights.refused += 1;
        }
    }
    weights.refresh(cloud, &seeds);
    (seeds, weights.nearest)
}

/// Points drawn uniformly from those that are no seed yet: all rows that differ have been chosen.
fn fill_up(points: usize, seeds: &mut Vec<usize>, clusters: usize, stream: &mut Stream) {
    let mut chosen = vec![false; points];
    seeds.iter().for_each(|&seed| chosen[seed] = true);
    let mut rest: Vec<usize> = (0..points).filter(|&i| !chosen[i]).collect();
    rng::shuffle(stream, &mut rest);
    seeds.extend(rest.into_iter().take(clusters - seeds.len()));
}

/// Squared distances to the first so many seeds.
struct Weights {
    /// The nearest of them, by its place in the list of seeds.
    nearest: Vec<Nearest>,
    /// Sums of the distances up to and including each point's.
    sums: Vec<f64>,
    seeds: usize,
    refused: usize,
}

impl Weights {
    fn new(points: usize) -> Self {
        Self { nearest: vec![Nearest::NONE; points], sums: vec![0.0; points], seeds: 0, refused: 0 }
    }

    fn refresh(&mut self, cloud: &Cloud<'_>, seeds: &[usize]) {
        let new: Vec<u32> = (self.seeds as u32..seeds.len() as u32).collect();
        cloud.improve(&mut self.nearest, None, &cloud.points.select(&seeds[self.seeds..]), &new);
        let mut sum = 0.0;
        for (nearest, out) in self.nearest.iter().zip(&mut self.sums) {
            sum += f64::from(nearest.distance);
            *out = sum;
        }
        self.seeds = seeds.len();
        self.refused = 0;
    }

    fn total(&self) -> f64 {
        self.sums.last().copied().unwrap_or(0.0)
    }

    /// A point with positive weight, with a probability proportional to its weight.
    fn draw(&self, stream: &mut Stream) -> usize {
        let at = rng::unit_f64(stream) * self.total();
        let drawn = self.sums.partition_point(|sum| *sum <= at);
        // Rounding may carry `at` up to the total: the last point of positive weight then.
        let last = self.nearest.iter().rposition(|nearest| nearest.distance > 0.0);
        drawn.min(last.expect("the total is positive"))
    }
}

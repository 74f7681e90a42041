//! k-means++ seeds, by the exact law, without a pass over the data for each of thousands of seeds.
//!
//! The weight of a point is its squared distance to the nearest seed; weights only fall as seeds are added. So the old
//! weights are kept for a while: a point is proposed by them and accepted with probability new weight / old weight,
//! which is rejection sampling and gives exactly the law of the new weights. Only a proposed point is compared with the
//! newest seeds; all points are when those have become a fifth of all seeds, or when proposals are refused in a row.

use super::canonical_distance;
use crate::batch::Embeddings;
use crate::rng::{self, Stream};
use rayon::prelude::*;

/// Refused proposals in a row that show that the old weights have become useless.
const REFUSALS: usize = 32;

/// Indices of `clusters` points. They differ as rows as long as there are differing rows, and as indices always.
pub(super) fn plus_plus(points: &Embeddings, clusters: usize, stream: &mut Stream) -> Vec<usize> {
    let mut seeds = vec![rng::below(stream, points.len() as u64) as usize];
    let mut weights = Weights::new(points.len());
    while seeds.len() < clusters {
        let pending = seeds.len() - weights.seeds;
        if weights.seeds == 0 || 5 * pending > seeds.len() || weights.refused >= REFUSALS {
            weights.refresh(points, &seeds);
        }
        if weights.total() == 0.0 {
            fill_up(points.len(), &mut seeds, clusters, stream);
            break;
        }
        let proposed = weights.draw(stream);
        let old = weights.of[proposed];
        let pending = seeds[weights.seeds..].iter().map(|&s| canonical_distance(points.row(proposed), points.row(s)));
        let new = pending.fold(old, f32::min);
        if rng::unit_f64(stream) * f64::from(old) < f64::from(new) {
            seeds.push(proposed);
            weights.refused = 0;
        } else {
            weights.refused += 1;
        }
    }
    seeds
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
    of: Vec<f32>,
    /// Sums of `of` up to and including each point.
    sums: Vec<f64>,
    /// Seeds that `of` knows.
    seeds: usize,
    refused: usize,
}

impl Weights {
    fn new(points: usize) -> Self {
        Self { of: vec![f32::INFINITY; points], sums: vec![0.0; points], seeds: 0, refused: 0 }
    }

    fn refresh(&mut self, points: &Embeddings, seeds: &[usize]) {
        let new = &seeds[self.seeds..];
        self.of.par_iter_mut().enumerate().for_each(|(i, weight)| {
            let distances = new.iter().map(|&s| canonical_distance(points.row(i), points.row(s)));
            *weight = distances.fold(*weight, f32::min);
        });
        let mut sum = 0.0;
        for (weight, out) in self.of.iter().zip(&mut self.sums) {
            sum += f64::from(*weight);
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
        drawn.min(self.of.iter().rposition(|weight| *weight > 0.0).expect("the total is positive"))
    }
}

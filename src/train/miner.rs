//! Which triplets of a batch a loss sees: at most one for each anchor.
//!
//! Mining reads distances back to the host: a few hundred rows, whose draws are then the same on every device. An anchor
//! without a positive or without a negative in the batch gives no triplet.

use tch::{Kind, TchError, Tensor};

use crate::rng::{self, Stream};
use crate::suite::loss::MinerSpec;

/// Least value of `1 − d²/4` in the density of distances: opposite points would have density zero.
const LEAST_GAP: f64 = 1e-8;

/// Positions in the batch, one of each per triplet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Triplets {
    /// Anchors, ascending.
    pub anchors: Vec<i64>,
    /// Of the anchor's class.
    pub positives: Vec<i64>,
    /// Of another class.
    pub negatives: Vec<i64>,
}

/// Mines the triplets of a batch.
///
/// # Shapes
/// `embeddings`: `[n, d]`, rows of unit length; `labels`: n.
/// # Errors
/// libtorch's own.
pub fn mine(spec: &MinerSpec, embeddings: &Tensor, labels: &[i64], random: &mut Stream) -> Result<Triplets, TchError> {
    let rows = embeddings.f_detach()?.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Double)?;
    let squared = rows.f_matmul(&rows.f_tr()?)?.f_mul_scalar(-2.0)?.f_add_scalar(2.0)?.f_clamp_min(0.0)?;
    let distances: Vec<f64> = Vec::try_from(squared.f_sqrt()?.f_reshape([-1])?)?;
    let (n, dim) = (labels.len(), embeddings.size()[1] as f64);
    let mut triplets = Triplets::default();
    for anchor in 0..n {
        let candidates = Candidates::of(anchor, labels, &distances[anchor * n..(anchor + 1) * n]);
        if candidates.positives.is_empty() || candidates.negatives.is_empty() {
            continue;
        }
        let (positive, negative) = candidates.choose(spec, dim, random);
        triplets.anchors.push(anchor as i64);
        triplets.positives.push(positive as i64);
        triplets.negatives.push(negative as i64);
    }
    Ok(triplets)
}

/// Everything an anchor may be paired with.
struct Candidates<'a> {
    positives: Vec<usize>,
    negatives: Vec<usize>,
    /// From the anchor to every row.
    distances: &'a [f64],
}

impl<'a> Candidates<'a> {
    fn of(anchor: usize, labels: &[i64], distances: &'a [f64]) -> Self {
        let same = |j: &usize| labels[*j] == labels[anchor];
        let positives = (0..labels.len()).filter(|j| *j != anchor && same(j)).collect();
        let negatives = (0..labels.len()).filter(|j| !same(j)).collect();
        Self { positives, negatives, distances }
    }

    /// A positive and a negative; both lists are not empty.
    fn choose(&self, spec: &MinerSpec, dim: f64, random: &mut Stream) -> (usize, usize) {
        let d = |j: usize| self.distances[j];
        match spec {
            MinerSpec::Random {} => (any(&self.positives, random), any(&self.negatives, random)),
            MinerSpec::DistanceWeighted { lower, upper } => {
                let positive = any(&self.positives, random);
                (positive, self.weighted_negative(dim, *lower, upper.unwrap_or(f64::INFINITY), random))
            }
            MinerSpec::SemiHard { margin } => {
                let positive = any(&self.positives, random);
                let zone = d(positive)..d(positive) + margin;
                let semi = |&&j: &&usize| d(j) > zone.start && d(j) < zone.end;
                (positive, any_or_all(self.negatives.iter().filter(semi), &self.negatives, random))
            }
            MinerSpec::SoftHard {} => {
                let nearest = self.negatives.iter().map(|&j| d(j)).fold(f64::INFINITY, f64::min);
                let farthest = self.positives.iter().map(|&j| d(j)).fold(0.0, f64::max);
                let hard_positives = self.positives.iter().filter(|&&j| d(j) > nearest);
                let positive = any_or_all(hard_positives, &self.positives, random);
                let hard_negatives = self.negatives.iter().filter(|&&j| d(j) < farthest);
                (positive, any_or_all(hard_negatives, &self.negatives, random))
            }
            MinerSpec::Hardest {} => {
                let farthest = self.positives.iter().copied().max_by(|&a, &b| d(a).total_cmp(&d(b)).then(b.cmp(&a)));
                let nearest = self.negatives.iter().copied().min_by(|&a, &b| d(a).total_cmp(&d(b)).then(a.cmp(&b)));
                (farthest.unwrap_or(self.positives[0]), nearest.unwrap_or(self.negatives[0]))
            }
        }
    }

    /// `log w = (2 − D) log d − (D − 3)/2 · log(1 − d²/4)`: the inverse of the density of distances between random
    /// points of the unit sphere. Wu et al. 2017, arXiv:1706.07567, eq. 2 and 3. Without a negative below the upper
    /// bound any may come.
    fn weighted_negative(&self, dim: f64, lower: f64, upper: f64, random: &mut Stream) -> usize {
        let log_weight = |&j: &usize| {
            let d = self.distances[j].max(lower);
            let gap = (1.0 - d * d / 4.0).max(LEAST_GAP);
            let within = self.distances[j] <= upper;
            if within { (2.0 - dim) * d.ln() - (dim - 3.0) / 2.0 * gap.ln() } else { f64::NEG_INFINITY }
        };
        let logs: Vec<f64> = self.negatives.iter().map(log_weight).collect();
        let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !largest.is_finite() {
            return any(&self.negatives, random);
        }
        let weights: Vec<f64> = logs.iter().map(|log| (log - largest).exp()).collect();
        let mut left = rng::unit_f64(random) * weights.iter().sum::<f64>();
        for (&j, weight) in self.negatives.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return j;
            }
        }
        // Rounding may leave a crumb: the last one with weight.
        let last = weights.iter().rposition(|&w| w > 0.0).unwrap_or(0);
        self.negatives[last]
    }
}

fn any(list: &[usize], random: &mut Stream) -> usize {
    list[rng::below(random, list.len() as u64) as usize]
}

/// One of `some`, or of `all` if there are none.
fn any_or_all<'a>(some: impl Iterator<Item = &'a usize>, all: &[usize], random: &mut Stream) -> usize {
    let some: Vec<usize> = some.copied().collect();
    any(if some.is_empty() { all } else { &some }, random)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points on the unit circle by their angles.
    fn circle(angles: &[f64]) -> Tensor {
        let flat: Vec<f32> = angles.iter().flat_map(|a| [a.cos() as f32, a.sin() as f32]).collect();
        Tensor::from_slice(&flat).reshape([-1, 2])
    }

    fn mined(spec: &MinerSpec, angles: &[f64], labels: &[i64], draw: u64) -> Triplets {
        mine(spec, &circle(angles), labels, &mut rng::stream(1, "test", &[draw])).unwrap()
    }

    #[test]
    fn the_hardest_are_the_farthest_positive_and_the_nearest_negative() {
        let found = mined(&MinerSpec::Hardest {}, &[0.0, 0.3, 1.0, 0.5, 2.0, 3.5], &[0, 0, 0, 1, 1, 2], 0);
        assert_eq!(found.anchors, [0, 1, 2, 3, 4], "the lone image of class 2 is no anchor");
        assert_eq!(found.positives, [2, 2, 0, 4, 3]);
        assert_eq!(found.negatives, [3, 3, 3, 1, 2]);
    }

    #[test]
    fn semi_hard_negatives_lie_just_behind_the_positive() {
        // Anchor 0 with its only positive at 0.5; negatives at 0.2 (nearer), 0.6 (semi-hard) and 2.5 (far).
        for draw in 0..20 {
            let found = mined(&MinerSpec::SemiHard { margin: 0.2 }, &[0.0, 0.5, 0.2, 0.6, 2.5], &[0, 0, 1, 2, 3], draw);
            assert_eq!(found.negatives[0], 3);
        }
        let far =
            |draw| mined(&MinerSpec::SemiHard { margin: 0.2 }, &[0.0, 0.5, 2.0, 2.5], &[0, 0, 1, 2], draw).negatives[0];
        let any: std::collections::BTreeSet<i64> = (0..40).map(far).collect();
        assert_eq!(any.len(), 2, "without a semi-hard one any negative may come");
    }

    #[test]
    fn soft_hard_ones_violate_the_order() {
        // Nearest negative of anchor 0 at 0.4: the positive at 0.3 is easy, those at 0.6 and 0.9 are hard. Farthest
        // positive at 0.9: negatives at 0.4 and 0.7 are hard, the one at 2 is easy.
        let angles = [0.0, 0.3, 0.6, 0.9, 0.4, 0.7, 2.0];
        let labels = [0, 0, 0, 0, 1, 1, 1];
        let found: Vec<Triplets> = (0..60).map(|draw| mined(&MinerSpec::SoftHard {}, &angles, &labels, draw)).collect();
        let positives: std::collections::BTreeSet<i64> = found.iter().map(|t| t.positives[0]).collect();
        let negatives: std::collections::BTreeSet<i64> = found.iter().map(|t| t.negatives[0]).collect();
        assert_eq!((Vec::from_iter(positives), Vec::from_iter(negatives)), (vec![2, 3], vec![4, 5]));
    }

    #[test]
    fn distance_weighted_draws_follow_the_inverse_density() {
        let mut random = rng::stream(5, "rows", &[]);
        let (n, dim) = (12, 6);
        let values: Vec<f32> = (0..n * dim).map(|_| rng::normal(&mut random)).collect();
        let rows = Tensor::from_slice(&values).reshape([n as i64, dim as i64]);
        let rows = &rows / rows.norm_scalaropt_dim(2, [1i64].as_slice(), true);
        let labels: Vec<i64> = (0..n as i64).map(|i| i / 2).collect();
        let d: Vec<f64> =
            Vec::try_from((&rows - rows.get(0)).norm_scalaropt_dim(2, [1i64].as_slice(), false).to_kind(Kind::Double))
                .unwrap();
        let weight = |j: usize| {
            let d = d[j].max(0.5);
            d.powf(2.0 - dim as f64) * (1.0 - d * d / 4.0).powf(-(dim as f64 - 3.0) / 2.0)
        };
        let total: f64 = (2..n).map(weight).sum();
        let draws = 6000;
        let mut counts = vec![0usize; n];
        let spec = MinerSpec::default();
        for draw in 0..draws {
            let found = mine(&spec, &rows, &labels, &mut rng::stream(2, "draw", &[draw])).unwrap();
            counts[found.negatives[0] as usize] += 1;
        }
        assert_eq!(counts[0] + counts[1], 0, "its own class never comes");
        // χ² with 9 degrees of freedom is below 27.9 in 99.9 % of samples.
        let chi: f64 = (2..n)
            .map(|j| {
                let wanted = draws as f64 * weight(j) / total;
                (counts[j] as f64 - wanted).powi(2) / wanted
            })
            .sum();
        assert!(chi < 27.9, "χ² {chi}, counts {counts:?}");
    }

    #[test]
    fn an_upper_bound_excludes_the_far_ones_unless_all_are_far() {
        let spec = MinerSpec::DistanceWeighted { lower: 0.5, upper: Some(1.4) };
        for draw in 0..30 {
            assert_eq!(mined(&spec, &[0.0, 0.1, 0.9, 3.0], &[0, 0, 1, 2], draw).negatives[0], 2);
            assert!([2, 3].contains(&mined(&spec, &[0.0, 0.1, 2.9, 3.0], &[0, 0, 1, 2], draw).negatives[0]));
        }
    }

    #[test]
    fn a_batch_of_one_class_has_no_triplet() {
        for spec in [MinerSpec::default(), MinerSpec::Random {}, MinerSpec::Hardest {}] {
            assert_eq!(mined(&spec, &[0.0, 0.5, 1.0], &[4, 4, 4], 0), Triplets::default());
        }
    }
}

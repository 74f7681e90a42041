//! What the attacker wants, as numbers: targets and weights of the loss that [`Descent`]
//! minimises.

use std::sync::Arc;

use crate::batch::Images;
use crate::encoder::{Descent, Distance, Gallery, Loss, LossHead};
use crate::suite::attack::{Goal, TargetLoss};

/// The loss of one batch, see [`Loss`].
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// Its form.
    pub head: LossHead,
    /// Targets per sample, T.
    pub targets_per_sample: usize,
    /// `[n, T, d]`.
    pub targets: Vec<f32>,
    /// `[n, T]`.
    pub weights: Vec<f32>,
    /// Further numbers of each sample, `[n, columns]`.
    pub table: Vec<f32>,
    /// What is searched, if the loss looks at it.
    pub gallery: Option<Arc<Gallery>>,
}

impl Objective {
    /// The objective of a goal that is a sum of distances to these targets; what other goals look at besides is the
    /// matter of [`Aim`](super::aim::Aim).
    ///
    /// # Shapes
    /// `targets`: `[n, T, d]`; for an untargeted goal the clean embeddings of the samples, `[n, 1, d]`.
    pub fn new(goal: &Goal, n: usize, targets: Vec<f32>) -> Self {
        let count = goal.targets();
        let (distance, weight) = match goal {
            Goal::MultiTarget { loss: TargetLoss::MeanDistance, .. } => (Distance::Euclidean, 1.0 / count as f32),
            Goal::Untargeted {} => (Distance::SquaredEuclidean, -1.0),
            _ => (Distance::SquaredEuclidean, 1.0 / count.max(1) as f32),
        };
        let (head, weights) = (LossHead::Weighted(distance), vec![weight; n * count]);
        Self { head, targets_per_sample: count, targets, weights, table: vec![], gallery: None }
    }

    /// The objective of a batch whose samples have these, in this order; `None` for no sample. All must be of one goal:
    /// the first one gives the form and the gallery.
    pub fn join<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut parts = parts.into_iter();
        let mut all = parts.next()?.clone();
        for part in parts {
            debug_assert_eq!((part.head, part.targets_per_sample), (all.head, all.targets_per_sample));
            all.targets.extend_from_slice(&part.targets);
            all.weights.extend_from_slice(&part.weights);
            all.table.extend_from_slice(&part.table);
        }
        Some(all)
    }

    /// The descent on this loss from `start` inside the bounds.
    pub fn descent<'a>(&'a self, start: &'a Images, lower: &'a Images, upper: &'a Images) -> Descent<'a> {
        Descent { loss: self.terms(), start, lower, upper }
    }

    /// The loss of one sample, from its embedding, in `f64`: independent of any graph.
    pub fn loss(&self, sample: usize, embedding: &[f32]) -> f64 {
        self.terms().value(sample, embedding)
    }

    /// The loss as encoders take it.
    pub fn terms(&self) -> Loss<'_> {
        Loss {
            head: self.head,
            targets_per_sample: self.targets_per_sample,
            targets: &self.targets,
            weights: &self.weights,
            table: &self.table,
            gallery: self.gallery.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_match_their_formulas() {
        // f = (0, 0); targets (3, 4) and (0, 1): distances 5 and 1.
        let targets = vec![3.0, 4.0, 0.0, 1.0];
        let multi = |loss| {
            Objective::new(&Goal::MultiTarget { targets: 2, loss, choice: Default::default() }, 1, targets.clone())
        };
        assert_eq!(multi(TargetLoss::MeanSquaredDistance).loss(0, &[0.0, 0.0]), 13.0);
        assert_eq!(multi(TargetLoss::MeanDistance).loss(0, &[0.0, 0.0]), 3.0);
        let single = Objective::new(&Goal::SingleTarget {}, 2, targets.clone());
        assert_eq!([single.loss(0, &[0.0, 0.0]), single.loss(1, &[0.0, 0.0])], [25.0, 1.0]);
        assert_eq!(Objective::new(&Goal::Untargeted {}, 2, targets).loss(0, &[0.0, 0.0]), -25.0);
    }
}

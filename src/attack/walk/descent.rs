//! Steps along the gradient, or along the running sum of gradients.
//!
//! Sources: projected gradient descent, Madry et al. 2018, arXiv:1706.06083, section 2.1, with steps of unit length in the
//! L2 norm; momentum (MI-FGSM), Dong et al. 2018, arXiv:1710.06081, algorithm 1 and equation 9.

use std::sync::Arc;

use super::{Seen, Walk};
use crate::attack::region::Region;

/// Gradient descent in a region, with or without momentum.
#[derive(Debug, Clone)]
pub struct GradientWalk {
    region: Arc<Region>,
    x: Vec<f32>,
    /// Length of a step, one per channel.
    lengths: Vec<f32>,
    left: usize,
    momentum: Option<Momentum>,
}

#[derive(Debug, Clone)]
struct Momentum {
    decay: f64,
    sum: Vec<f32>,
}

impl GradientWalk {
    /// A walk of `steps` steps from `start`. `decay`: how much of the running sum a step keeps, µ; `None` follows the
    /// gradient alone.
    pub fn new(region: Arc<Region>, start: Vec<f32>, steps: usize, lengths: Vec<f32>, decay: Option<f64>) -> Self {
        let sum = vec![0.0; start.len()];
        Self { region, x: start, lengths, left: steps, momentum: decay.map(|decay| Momentum { decay, sum }) }
    }
}

impl Momentum {
    /// `sum ← µ · sum + gradient / ‖gradient‖₁`.
    fn add(&mut self, gradient: &[f32]) {
        let norm: f64 = gradient.iter().map(|g| f64::from(g.abs())).sum();
        let factor = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        for (sum, g) in self.sum.iter_mut().zip(gradient) {
            *sum = (self.decay * f64::from(*sum) + factor * f64::from(*g)) as f32;
        }
    }
}

impl Walk for GradientWalk {
    fn point(&self) -> &[f32] {
        &self.x
    }

    fn learn(&mut self, seen: Seen<'_>) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        let direction = match &mut self.momentum {
            Some(momentum) => {
                momentum.add(seen.gradient());
                &momentum.sum
            }
            None => seen.gradient(),
        };
        self.region.descend(&mut self.x, direction, &self.lengths);
        self.region.project(&mut self.x);
        true
    }
}

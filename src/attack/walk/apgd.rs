//! Auto-PGD: the step size takes care of itself.
//!
//! Source: Croce & Hein 2020, arXiv:2003.01690, section 4 and algorithm 1. The first step is twice the radius; at
//! checkpoints that come ever more often it is halved if fewer than three quarters of the steps since the last one were
//! improvements, or if neither the step size nor the best loss has changed since; then the search goes on from the best
//! iterate. Each step is joined with a quarter of the one before.

use std::sync::Arc;

use super::{Seen, Walk};
use crate::attack::region::Region;

/// Share of the way that is the new step; the rest follows the one before (α).
const NEW: f32 = 0.75;
/// Share of steps between two checkpoints that must be improvements (ρ).
const IMPROVING: f64 = 0.75;

/// Auto-PGD of one image.
#[derive(Debug, Clone)]
pub struct Apgd {
    region: Arc<Region>,
    steps: usize,
    checkpoints: Vec<usize>,
    /// Length of a step, one per channel.
    lengths: Vec<f32>,
    x: Vec<f32>,
    /// The iterate before the last step.
    before: Vec<f32>,
    taken: usize,
    best: Option<Best>,
    /// Score at the last iterate.
    last: f64,
    window: Window,
}

#[derive(Debug, Clone)]
struct Best {
    score: f64,
    x: Vec<f32>,
    gradient: Vec<f32>,
}

/// What happened since the last checkpoint.
#[derive(Debug, Clone)]
struct Window {
    began: usize,
    improvements: usize,
    /// Best score at its beginning.
    best: f64,
    /// Whether the step was halved at its beginning. The very first window counts as such.
    halved: bool,
}

impl Apgd {
    /// A walk of `steps` steps from `start`.
    pub fn new(region: Arc<Region>, start: Vec<f32>, steps: usize) -> Self {
        let lengths = region.radii().iter().map(|radius| 2.0 * radius).collect();
        let window = Window { began: 0, improvements: 0, best: f64::INFINITY, halved: true };
        let (before, last) = (start.clone(), f64::INFINITY);
        Self {
            region,
            steps,
            checkpoints: checkpoints(steps),
            lengths,
            x: start,
            before,
            taken: 0,
            best: None,
            last,
            window,
        }
    }

    fn see(&mut self, seen: Seen<'_>) {
        self.window.improvements += usize::from(self.taken > 0 && seen.score < self.last);
        self.last = seen.score;
        let best = self.best.get_or_insert_with(|| Best { score: f64::INFINITY, x: vec![], gradient: vec![] });
        if seen.score < best.score {
            best.score = seen.score;
            best.x.clone_from(&self.x);
            best.gradient = seen.gradient().to_vec();
        }
        if self.taken == 0 {
            self.window.best = best.score;
        }
    }

    /// Halves the step if the last window went badly; whether it did.
    fn settle_window(&mut self) -> bool {
        let best = self.best.as_ref().map_or(f64::INFINITY, |best| best.score);
        let length = self.taken - self.window.began;
        let oscillates = (self.window.improvements as f64) < IMPROVING * length as f64;
        let stalls = !self.window.halved && best >= self.window.best;
        let halved = oscillates || stalls;
        if halved {
            self.lengths.iter_mut().for_each(|length| *length *= 0.5);
        }
        self.window = Window { began: self.taken, improvements: 0, best, halved };
        halved
    }

    fn step(&mut self, gradient: &[f32]) {
        let mut next = self.x.clone();
        self.region.descend(&mut next, gradient, &self.lengths);
        self.region.project(&mut next);
        if self.taken > 0 {
            for ((next, x), before) in next.iter_mut().zip(&self.x).zip(&self.before) {
                *next = x + NEW * (*next - x) + (1.0 - NEW) * (x - before);
            }
            self.region.project(&mut next);
        }
        self.before = std::mem::replace(&mut self.x, next);
        self.taken += 1;
    }
}

impl Walk for Apgd {
    fn point(&self) -> &[f32] {
        &self.x
    }

    fn learn(&mut self, seen: Seen<'_>) -> bool {
        self.see(seen);
        if self.taken == self.steps {
            return false;
        }
        let at_checkpoint = self.checkpoints.binary_search(&self.taken).is_ok();
        if at_checkpoint
            && self.settle_window()
            && let Some(best) = self.best.take()
        {
            self.x.clone_from(&best.x);
            self.step(&best.gradient);
            self.best = Some(best);
        } else {
            self.step(seen.gradient());
        }
        true
    }
}

/// Steps after which the step size is looked at: `⌈p N⌉` for `p = 0.22, 0.41, 0.57, …`, each distance 0.03 shorter than the
/// one before, but at least 0.06.
fn checkpoints(steps: usize) -> Vec<usize> {
    let (mut list, mut before, mut p) = (vec![], 0.0f64, 0.22f64);
    while p < 1.0 {
        // The small term keeps ⌈0.22 · 50⌉ at 11 despite rounding.
        let step = ((p * steps as f64) - 1e-9).ceil() as usize;
        if list.last() != Some(&step) {
            list.push(step);
        }
        let distance = (p - before - 0.03).max(0.06);
        (before, p) = (p, p + distance);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::budget::Budget;
    use crate::units::Epsilon;

    #[test]
    fn checkpoints_are_those_of_the_paper() {
        // p: 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99.
        assert_eq!(checkpoints(100), [22, 41, 57, 70, 80, 87, 93, 99]);
        assert_eq!(checkpoints(50), [11, 21, 29, 35, 40, 44, 47, 50]);
        assert_eq!(checkpoints(1), [1]);
    }

    /// A loss of one pixel whose lowest point is at `at`.
    fn walk(steps: usize, radius: f64, at: f64) -> (Vec<f64>, Apgd) {
        let budget = Budget::new(&Epsilon::Normalized(radius), &[1.0]);
        let region = Arc::new(Region::new(vec![0.5], [1, 1, 1], &budget));
        let mut apgd = Apgd::new(region, vec![0.5], steps);
        let mut seen = vec![];
        loop {
            let x = f64::from(apgd.point()[0]);
            seen.push(x);
            let gradient = [(x - at) as f32];
            if !apgd.learn(Seen { score: (x - at).powi(2), gradient: Some(&gradient) }) {
                return (seen, apgd);
            }
        }
    }

    #[test]
    fn a_step_that_oscillates_is_halved_and_the_best_iterate_is_taken_up() {
        let (seen, apgd) = walk(100, 0.4, 0.53);
        assert_eq!(seen.len(), 101);
        // The first step is twice the radius, cut at the bound.
        assert!((seen[1] - 0.9).abs() < 1e-6, "{seen:?}");
        // The second: down to 0.1, three quarters of the way, and a quarter of the last step: 0.9 − 0.6 + 0.1.
        assert!((seen[2] - 0.4).abs() < 1e-6, "{seen:?}");
        assert!(apgd.lengths[0] < 0.8 / 16.0, "{:?}", apgd.lengths);
        assert!((apgd.best.unwrap().x[0] - 0.53).abs() < 0.01);
    }

    #[test]
    fn a_step_that_helps_stays_long() {
        let (seen, apgd) = walk(10, 0.01, 5.0);
        assert!(seen[1..].iter().all(|x| (x - 0.51).abs() < 1e-6), "{seen:?}");
        // At the bound nothing improves any more, and the step is halved to no harm.
        assert!((apgd.best.unwrap().x[0] - 0.51).abs() < 1e-6);
    }
}

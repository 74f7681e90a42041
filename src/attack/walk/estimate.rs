//! Descent along a gradient that is estimated from scores alone.
//!
//! Sources: NES, Ilyas et al. 2018, arXiv:1804.08598, section 2.2: normal probes in pairs `±σu`; SPSA, Spall 1992, as an
//! attack Uesato et al. 2018, arXiv:1802.05666: probes of random signs. Both estimate the gradient as the mean of
//! `(score(x + σu) − score(x − σu)) · u`, and only its direction counts here.

use std::sync::Arc;

use super::square::coin;
use super::{Seen, Walk};
use crate::attack::region::Region;
use crate::rng::{self, Stream};

/// How probes are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probes {
    /// From the standard normal distribution (NES).
    Normal,
    /// Random signs (SPSA).
    Signs,
}

/// What an estimating walk is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Looks in all, probes included.
    pub queries: usize,
    /// Pairs of probes for one gradient.
    pub pairs: usize,
    /// How far a probe lies from the iterate, pixel units.
    pub sigma: f32,
    /// How probes are drawn.
    pub probes: Probes,
    /// Length of a step, one per channel.
    pub lengths: Vec<f32>,
}

/// Descent along an estimated gradient.
#[derive(Debug, Clone)]
pub struct Estimate {
    region: Arc<Region>,
    plan: Plan,
    stream: Stream,
    x: Vec<f32>,
    probe: Vec<f32>,
    direction: Vec<f32>,
    gradient: Vec<f32>,
    asked: usize,
    turn: Turn,
}

/// What the next look is at.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Iterate,
    Plus { pair: usize },
    Minus { pair: usize, plus: f64 },
}

impl Estimate {
    /// A walk from `start`.
    pub fn new(region: Arc<Region>, start: Vec<f32>, plan: Plan, stream: Stream) -> Self {
        let zero = vec![0.0; start.len()];
        let (probe, direction, gradient) = (zero.clone(), zero.clone(), zero);
        Self { region, plan, stream, x: start, probe, direction, gradient, asked: 0, turn: Turn::Iterate }
    }

    fn draw(&mut self) {
        let Self { stream, direction, plan, .. } = self;
        for v in direction.iter_mut() {
            *v = match plan.probes {
                Probes::Normal => rng::normal(stream),
                Probes::Signs => coin(stream),
            };
        }
        self.place_probe(1.0);
    }

    fn place_probe(&mut self, side: f32) {
        let sigma = side * self.plan.sigma;
        for ((probe, x), v) in self.probe.iter_mut().zip(&self.x).zip(&self.direction) {
            *probe = (x + sigma * v).clamp(0.0, 1.0);
        }
    }
}

impl Walk for Estimate {
    fn point(&self) -> &[f32] {
        if self.is_candidate() { &self.x } else { &self.probe }
    }

    fn is_candidate(&self) -> bool {
        matches!(self.turn, Turn::Iterate)
    }

    fn learn(&mut self, seen: Seen<'_>) -> bool {
        self.asked += 1;
        match self.turn {
            Turn::Iterate => {
                if self.asked + 2 * self.plan.pairs + 1 > self.plan.queries {
                    return false;
                }
                self.gradient.fill(0.0);
                self.draw();
                self.turn = Turn::Plus { pair: 1 };
            }
            Turn::Plus { pair } => {
                self.place_probe(-1.0);
                self.turn = Turn::Minus { pair, plus: seen.score };
            }
            Turn::Minus { pair, plus } => {
                let slope = (plus - seen.score) as f32;
                self.gradient.iter_mut().zip(&self.direction).for_each(|(g, v)| *g += slope * v);
                if pair < self.plan.pairs {
                    self.draw();
                    self.turn = Turn::Plus { pair: pair + 1 };
                } else {
                    self.region.descend(&mut self.x, &self.gradient, &self.plan.lengths);
                    self.region.project(&mut self.x);
                    self.turn = Turn::Iterate;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::budget::Budget;
    use crate::units::Epsilon;

    #[test]
    fn the_estimate_points_along_the_gradient_and_probes_are_counted() {
        let budget = Budget::new(&Epsilon::L2(0.5), &[1.0; 3]);
        let region = Arc::new(Region::new(vec![0.5; 48], [3, 4, 4], &budget));
        let slope: Vec<f64> = (0..48).map(|i| (f64::from(i) - 20.0) / 20.0).collect();
        for probes in [Probes::Normal, Probes::Signs] {
            let plan = Plan { queries: 403, pairs: 100, sigma: 0.01, probes, lengths: vec![0.5; 3] };
            let mut walk = Estimate::new(region.clone(), vec![0.5; 48], plan, rng::stream(3, "test", &[]));
            let (mut looks, mut candidates) = (0, vec![]);
            loop {
                looks += 1;
                let score = walk.point().iter().zip(&slope).map(|(x, s)| f64::from(*x) * s).sum();
                if walk.is_candidate() {
                    candidates.push(walk.point().to_vec());
                }
                if !walk.learn(Seen { score, gradient: None }) {
                    break;
                }
            }
            assert_eq!((looks, candidates.len()), (403, 3));
            let change: Vec<f64> = candidates[1].iter().map(|x| 0.5 - f64::from(*x)).collect();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let cosine = dot(&change, &slope) / (dot(&change, &change) * dot(&slope, &slope)).sqrt();
            // 100 pairs in 48 dimensions: the expected cosine is about sqrt(100 / 147) = 0.82.
            assert!(cosine > 0.7, "{probes:?}: {cosine}");
        }
    }
}

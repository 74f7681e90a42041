//! Random search: a change of the best image so far is proposed, looked at, and kept where it helps.

use std::sync::Arc;

use super::{Seen, Walk};
use crate::attack::region::Region;
use crate::rng::Stream;

/// A random search of one image; how it proposes is the business of [`square`](super::square) and
/// [`square_l2`](super::square_l2).
#[derive(Debug, Clone)]
pub struct Proposals {
    pub(super) region: Arc<Region>,
    /// Looks in all.
    pub(super) queries: usize,
    /// Looks so far.
    pub(super) asked: usize,
    pub(super) stream: Stream,
    /// The best image so far.
    pub(super) x: Vec<f32>,
    /// Its score.
    pub(super) score: f64,
    candidate: Vec<f32>,
    next: fn(&mut Self) -> Vec<f32>,
}

impl Proposals {
    /// A search of `queries` looks, which begins with the image `first`; `next` proposes the others.
    pub(super) fn new(
        region: Arc<Region>,
        queries: usize,
        stream: Stream,
        first: Vec<f32>,
        next: fn(&mut Self) -> Vec<f32>,
    ) -> Self {
        let x = region.clean().to_vec();
        Self { region, queries, asked: 0, stream, x, score: f64::INFINITY, candidate: first, next }
    }
}

impl Walk for Proposals {
    fn point(&self) -> &[f32] {
        &self.candidate
    }

    fn learn(&mut self, seen: Seen<'_>) -> bool {
        if seen.score < self.score {
            self.score = seen.score;
            std::mem::swap(&mut self.x, &mut self.candidate);
        }
        self.asked += 1;
        if self.asked >= self.queries {
            return false;
        }
        self.candidate = (self.next)(self);
        true
    }
}

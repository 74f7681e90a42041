//! Flipped queries: answered by one of two models (or runs) and not by the other, with the pictures that show it.

use serde::{Deserialize, Serialize};

use super::Thumbnail;

/// Which of two is right where the other is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// The first.
    A,
    /// The second.
    B,
}

/// One query that A answers and B does not, or the other way round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlippedQuery {
    /// What was asked, in words: `clean`, `single-target 8/255`.
    pub question: String,
    /// What counts as right: `recall@1`.
    pub metric: String,
    /// Name of the first: a model or a run folder.
    pub a: String,
    /// Name of the second.
    pub b: String,
    /// Who is right.
    pub right: Right,
    /// Rank (from 1) of the first image of the query's class in A's list and in B's, ties counted against each.
    pub first_hit: (u32, u32),
    /// Side of the square pictures in pixels.
    pub size: u32,
    /// The query, clean also where an attack asked: each of the two was attacked with a change of its own.
    pub query: Thumbnail,
    /// A's nearest gallery pictures, best first; clean, as the query is.
    pub nearest_a: Vec<Thumbnail>,
    /// B's.
    pub nearest_b: Vec<Thumbnail>,
}

impl FlippedQuery {
    /// All its pictures, the query first.
    pub fn pictures(&self) -> impl Iterator<Item = &Thumbnail> {
        std::iter::once(&self.query).chain(&self.nearest_a).chain(&self.nearest_b)
    }
}

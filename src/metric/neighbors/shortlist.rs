//! The candidates of one query: what may still be one of its nearest points.

use super::distance::{canonical_distance, canonical_distances};
use super::panels::least_score;
use super::points::Points;

/// A query's view of the gallery: what decides between candidates.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) row: &'a [f32],
    pub(super) label: u32,
    pub(super) gallery: &'a Points<'a>,
    /// How far a screened distance may be from the canonical one, either way.
    pub(super) error: f32,
}

/// A point with its sort key: distance, then other classes before the query's own, then the first item.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Ranked {
    pub(super) distance: f32,
    pub(super) same_class: bool,
    pub(super) first: u32,
    pub(super) point: u32,
}

impl Judge<'_> {
    /// Decides a run of candidates by their canonical distances.
    fn rank(&self, entries: &[u64], out: &mut Vec<Ranked>) {
        let start = out.len();
        // Twins follow each other, for their screened distances are equal: of a crowd of them one is enough.
        let mut known = (u32::MAX, 0.0);
        for four in entries.chunks(4) {
            let points = [0, 1, 2, 3].map(|i| four[i.min(four.len() - 1)] as u32);
            let twins = points.map(|point| self.gallery.twin(point as usize));
            let distances = if twins == [known.0; 4] {
                [known.1; 4]
            } else if four.len() == 1 {
                [canonical_distance(self.row, self.gallery.row(points[0] as usize)); 4]
            } else {
                canonical_distances(self.row, points.map(|point| self.gallery.row(point as usize)))
            };
            known = (twins[3], distances[3]);
            out.extend(points.iter().zip(distances).take(four.len()).map(|(&point, d)| self.with(point, d)));
        }
        out[start..].sort_unstable_by(|a, b| a.partial_cmp(b).expect("distances are numbers"));
    }

    fn with(&self, point: u32, distance: f32) -> Ranked {
        let same_class = self.gallery.label(point as usize) == self.label;
        Ranked { distance, same_class, first: self.gallery.first(point as usize), point }
    }
}

/// Screened distance in the upper half, in an order of its bits that is that of the numbers; point in the lower.
fn entry(score: f32, point: u32) -> u64 {
    let bits = (-2.0 * score).to_bits();
    let ordered = bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000);
    u64::from(ordered) << 32 | u64::from(point)
}

/// Screened distance of an entry.
fn screened(entry: u64) -> f64 {
    let ordered = (entry >> 32) as u32;
    let bits = if ordered & 0x8000_0000 != 0 { ordered & 0x7fff_ffff } else { !ordered };
    f64::from(f32::from_bits(bits))
}

/// Candidates for the `depth` nearest points, at most about twice as many.
pub(super) struct Shortlist {
    entries: Vec<u64>,
    depth: usize,
    /// Points whose canonical distance is larger were not kept.
    bound: f32,
    /// Whether `depth` points are known to be within the bound.
    proven: bool,
    /// The least score of points within the bound.
    limit: f32,
}

impl Shortlist {
    /// `bound`: a guess of a distance that at least `depth` points do not exceed, or infinity.
    pub(super) fn new(depth: usize, bound: f32, error: f32) -> Self {
        let limit = if depth == 0 { f32::MAX } else { least_score(bound, error) };
        Self { entries: vec![], depth, bound, proven: depth == 0 || bound == f32::INFINITY, limit }
    }

    /// The least score that is still of interest.
    pub(super) fn limit(&self) -> f32 {
        self.limit
    }

    #[inline]
    pub(super) fn push(&mut self, score: f32, point: u32) {
        self.entries.push(entry(score, point));
    }

    /// Whether [`Shortlist::shorten`] is due.
    #[inline]
    pub(super) fn is_long(&self) -> bool {
        self.entries.len() >= 2 * self.depth + 64
    }

    /// Drops what cannot be among the `depth` nearest and tightens the limit.
    pub(super) fn shorten(&mut self, judge: &Judge<'_>) {
        if self.depth == 0 || self.entries.len() <= self.depth {
            return;
        }
        let last = self.cut(judge);
        if self.entries.len() <= self.depth + self.depth / 2 + 32 {
            self.tighten(last + f64::from(judge.error), judge);
            return;
        }
        // A crowd too close to call: only the canonical distances can thin it.
        let sure = last - 2.0 * f64::from(judge.error);
        let (mut certain, mut doubtful): (Vec<u64>, Vec<u64>) = self.entries.iter().partition(|e| screened(**e) < sure);
        doubtful.sort_unstable();
        let mut ranked = Vec::with_capacity(doubtful.len());
        judge.rank(&doubtful, &mut ranked);
        ranked.truncate(self.depth - certain.len());
        let farthest = ranked.last().expect("fewer than `depth` are certain").distance;
        let kept: std::collections::HashSet<u32> = ranked.iter().map(|r| r.point).collect();
        certain.extend(doubtful.into_iter().filter(|entry| kept.contains(&(*entry as u32))));
        self.entries = certain;
        self.tighten(f64::from(farthest), judge);
    }

    /// Drops what is surely not among the `depth` nearest; gives the `depth`-th screened distance.
    fn cut(&mut self, judge: &Judge<'_>) -> f64 {
        let (_, last, _) = self.entries.select_nth_unstable(self.depth - 1);
        let last = screened(*last);
        let reach = last + 2.0 * f64::from(judge.error);
        let mut place = 0;
        self.entries.retain(|entry| {
            place += 1;
            place <= self.depth || screened(*entry) <= reach
        });
        last
    }

    /// At least `depth` points are within `distance`.
    fn tighten(&mut self, distance: f64, judge: &Judge<'_>) {
        // Rounding up keeps it a bound.
        let bound = (distance + distance.abs() * 1e-6) as f32;
        self.proven |= bound <= self.bound;
        if bound < self.bound {
            self.bound = bound;
            self.limit = least_score(bound, judge.error);
        }
    }

    /// The nearest points, nearest first, `depth` of them or all; `None` if the bound was guessed too low.
    ///
    /// Distances are canonical if `exact`; otherwise where an order depended on them, and −1 elsewhere.
    pub(super) fn finish(mut self, judge: &Judge<'_>, exact: bool) -> Option<Vec<Ranked>> {
        if self.depth == 0 {
            return Some(vec![]);
        }
        if self.entries.len() > self.depth {
            let last = self.cut(judge);
            self.tighten(last + f64::from(judge.error), judge);
        } else if self.entries.len() == self.depth && !self.proven {
            let farthest = self.entries.iter().map(|e| screened(*e)).fold(f64::NEG_INFINITY, f64::max);
            self.tighten(farthest + f64::from(judge.error), judge);
        }
        if !self.proven {
            return None;
        }
        self.entries.sort_unstable();
        let mut ranked = Vec::with_capacity(self.entries.len());
        let apart = 2.0 * f64::from(judge.error);
        for crowd in self.entries.chunk_by(|a, b| exact || screened(*b) - screened(*a) <= apart) {
            if ranked.len() >= self.depth {
                break;
            }
            match crowd {
                [alone] if !exact => ranked.push(judge.with(*alone as u32, -1.0)),
                crowd => judge.rank(crowd, &mut ranked),
            }
        }
        ranked.truncate(self.depth);
        Some(ranked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Embeddings;

    #[test]
    fn a_bound_that_was_guessed_too_low_is_found_out() {
        let rows = Embeddings::new([6, 1], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let labels = [0; 6];
        let gallery = Points::apart(&rows, &labels);
        let judge = Judge { row: &[0.0], label: 0, gallery: &gallery, error: 1e-6 };
        let run = |bound: f32, seen: &[u32]| {
            let mut list = Shortlist::new(3, bound, 1e-6);
            for &point in seen {
                let score = -(point as f32).powi(2) / 2.0;
                if score >= list.limit() {
                    list.push(score, point);
                }
            }
            list.finish(&judge, false).map(|ranked| ranked.iter().map(|r| r.point).collect::<Vec<_>>())
        };
        assert_eq!(run(3.9, &[5, 4, 3, 2, 1, 0]), None);
        assert_eq!(run(4.5, &[5, 4, 3, 2, 1, 0]), Some(vec![0, 1, 2]));
        assert_eq!(run(30.0, &[5, 4, 3, 2, 1, 0]), Some(vec![0, 1, 2]));
        assert_eq!(run(f32::INFINITY, &[5, 0]), Some(vec![0, 5]));
        assert_eq!(run(30.0, &[5, 0]), None);
    }
}

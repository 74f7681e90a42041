//! The nearest of many centres for every point: the work of k-means.

use rayon::prelude::*;

use super::canonical_distance;
use super::kernel::{Hits, Kernel, Side, Tile};
use super::panels::{Panels, WIDTH, least_score, mean};
use super::points::Points;
use crate::batch::Embeddings;

/// Panels of points that a thread takes at once, and of centres that it looks at together.
const ROW_PANELS: usize = 4;
const COLUMN_PANELS: usize = 8;

/// A centre and the canonical distance to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::metric) struct Nearest {
    pub(in crate::metric) centre: u32,
    pub(in crate::metric) distance: f32,
}

impl Nearest {
    /// Before any centre is known.
    pub(in crate::metric) const NONE: Self = Self { centre: u32::MAX, distance: f32::INFINITY };

    /// Whether it comes first: the nearer one, the smaller index among equals.
    fn beats(&self, other: &Self) -> bool {
        (self.distance, self.centre) < (other.distance, other.centre)
    }
}

/// Points laid out to be compared with centres again and again.
pub(in crate::metric) struct Cloud<'a> {
    pub(in crate::metric) points: &'a Embeddings,
    middle: Vec<f64>,
    panels: Panels,
    kernel: Kernel,
}

impl<'a> Cloud<'a> {
    pub(in crate::metric) fn new(points: &'a Embeddings) -> Self {
        Self::with(points, Kernel::best())
    }

    pub(in crate::metric) fn with(points: &'a Embeddings, kernel: Kernel) -> Self {
        let middle = mean(points.len(), points.dim(), |i| points.row(i));
        let panels = Panels::new(points.len(), |i| points.row(i), &middle);
        Self { points, middle, panels, kernel }
    }

    /// Replaces each point's nearest centre by a nearer one of `centres`, `[c, d]`, whose numbers are `names`, ascending.
    ///
    /// `only`: the points to look at; all if `None`.
    pub(in crate::metric) fn improve(
        &self,
        nearest: &mut [Nearest],
        only: Option<&[u32]>,
        centres: &Embeddings,
        names: &[u32],
    ) {
        // Of equal centres the first wins every tie; the others would only make every point doubtful.
        let labels = vec![0; centres.len()];
        let distinct = Points::together(centres, &labels);
        let columns = Panels::new(distinct.len(), |i| distinct.row(i), &self.middle);
        let names: Vec<u32> = (0..distinct.len()).map(|i| names[distinct.first(i) as usize]).collect();
        let block = ROW_PANELS * WIDTH;
        let part = |rows: &Panels, first_panel: usize, points: &[u32], nearest: &mut [Nearest]| {
            let panels = first_panel..rows.count().min(first_panel + ROW_PANELS);
            let scan = Scan { cloud: self, rows, panels, points, columns: &columns, centres: &distinct, names: &names };
            scan.run(nearest);
        };
        match only {
            None => {
                let all: Vec<u32> = (0..self.points.len() as u32).collect();
                let parts = nearest.par_chunks_mut(block).zip(all.par_chunks(block)).enumerate();
                parts.for_each(|(i, (nearest, points))| part(&self.panels, i * ROW_PANELS, points, nearest));
            }
            Some(only) => {
                let row = |i: usize| self.points.row(only[i] as usize);
                let rows = Panels::new(only.len(), row, &self.middle);
                let mut some: Vec<Nearest> = only.iter().map(|&i| nearest[i as usize]).collect();
                let parts = some.par_chunks_mut(block).zip(only.par_chunks(block)).enumerate();
                parts.for_each(|(i, (nearest, points))| part(&rows, i * ROW_PANELS, points, nearest));
                only.iter().zip(some).for_each(|(&i, found)| nearest[i as usize] = found);
            }
        }
    }
}

/// A block of points against all centres.
struct Scan<'a> {
    cloud: &'a Cloud<'a>,
    rows: &'a Panels,
    panels: std::ops::Range<usize>,
    /// The point of each row of the block.
    points: &'a [u32],
    columns: &'a Panels,
    centres: &'a Points<'a>,
    names: &'a [u32],
}

impl Scan<'_> {
    fn run(&self, nearest: &mut [Nearest]) {
        let first = self.panels.start * WIDTH;
        let errors: Vec<f32> = (0..self.points.len()).map(|i| self.rows.error(first + i, self.columns)).collect();
        let mut limits = vec![f32::INFINITY; self.panels.len() * WIDTH];
        for ((limit, nearest), error) in limits.iter_mut().zip(&*nearest).zip(&errors) {
            *limit = least_score(nearest.distance, *error);
        }
        let mut found: Vec<(f32, u32, u32)> = vec![];
        let mut hits = Hits::default();
        for start in (0..self.columns.count()).step_by(COLUMN_PANELS) {
            let panels = start..self.columns.count().min(start + COLUMN_PANELS);
            let rows = Side {
                lines: self.rows.lines(self.panels.clone()),
                half_norms: self.rows.half_norms(self.panels.clone()),
                limits: &limits,
            };
            let columns = Side {
                lines: self.columns.lines(panels.clone()),
                half_norms: self.columns.half_norms(panels),
                limits: &[],
            };
            self.cloud.kernel.scan(&Tile { dim: self.rows.dim(), rows, columns, mutual: false }, &mut hits);
            for (score, row, column) in hits.rows.iter() {
                if score >= limits[row] {
                    found.push((score, row as u32, (start * WIDTH + column) as u32));
                    // That centre itself is at most so far: what is surely farther is not of interest any more.
                    let farthest = (-2.0 * f64::from(score) + f64::from(errors[row])) * (1.0 + 1e-6);
                    limits[row] = limits[row].max(least_score(farthest as f32, errors[row]));
                }
            }
        }
        for (score, row, column) in found {
            let (row, column) = (row as usize, column as usize);
            if score < limits[row] || self.names[column] == nearest[row].centre {
                continue;
            }
            let point = self.cloud.points.row(self.points[row] as usize);
            let distance = canonical_distance(point, self.centres.row(column));
            let candidate = Nearest { centre: self.names[column], distance };
            if candidate.beats(&nearest[row]) {
                nearest[row] = candidate;
            }
        }
    }
}

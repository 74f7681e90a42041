//! The walk over all pairs of points, tile by tile, that fills the shortlists.
//!
//! If the queries are the gallery, a tile above the diagonal serves its rows and its columns, and none below it is
//! computed. Tiles are handed out in a fixed order, row after row, so that the shortlists of early blocks are finished,
//! given away and freed while those of late ones are still short: at no time is more than a fraction of them held.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::kernel::{Hits, Kernel, Side, Tile};
use super::panels::{Panels, WIDTH, mean};
use super::points::Points;
use super::shortlist::{Judge, Ranked, Shortlist};
use crate::rng;

/// How the work is cut; the results do not depend on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) kernel: Kernel,
    /// Panels in a block of rows or columns.
    pub(super) block: usize,
    /// Points of the gallery that the first guesses of the distances come from.
    pub(super) sample: usize,
}

impl Layout {
    pub(super) fn new(rows: usize, dim: usize) -> Self {
        // Half of a second-level cache for a block, and enough tiles for all threads.
        let cache = (384 << 10) / (4 * WIDTH * dim.max(1));
        let share = rows / (4 * WIDTH * rayon::current_num_threads());
        Self { kernel: Kernel::best(), block: cache.min(share).clamp(1, 20), sample: 1024 }
    }
}

/// What is searched for.
pub(super) struct Wanted<'a> {
    pub(super) queries: &'a Points<'a>,
    pub(super) gallery: &'a Points<'a>,
    /// Whether the two are the same points.
    pub(super) mutual: bool,
    /// Nearest points wanted for each query.
    pub(super) depths: &'a [usize],
}

/// Gives the nearest points of every query to `emit`, in any order and from several threads.
pub(super) fn nearest(wanted: &Wanted<'_>, layout: Layout, emit: &(dyn Fn(usize, Vec<Ranked>) + Sync)) {
    let gallery = wanted.gallery;
    let centre = mean(gallery.len(), gallery.rows.dim(), |i| gallery.row(i));
    let columns = Panels::new(gallery.len(), |i| gallery.row(i), &centre);
    let own = (!wanted.mutual).then(|| Panels::new(wanted.queries.len(), |i| wanted.queries.row(i), &centre));
    let rows = own.as_ref().unwrap_or(&columns);
    let all: Vec<u32> = (0..wanted.queries.len() as u32).collect();
    let bounds = guess(wanted, rows, &columns, &centre, layout);
    let sweep = Sweep::new(wanted, (rows, &all), &columns, bounds, layout);
    let failed = sweep.run(wanted.mutual, emit);
    if !failed.is_empty() {
        let rows = Panels::new(failed.len(), |i| wanted.queries.row(failed[i] as usize), &centre);
        let bounds = vec![f32::INFINITY; failed.len()];
        let left = Sweep::new(wanted, (&rows, &failed), &columns, bounds, layout).run(false, emit);
        assert!(left.is_empty(), "nothing can be missed without a bound");
    }
}

/// For each query a distance that most likely `depth` points do not exceed, and few more: from a sample of the gallery.
///
/// A wrong guess is found out in the end and costs time only.
fn guess(wanted: &Wanted<'_>, rows: &Panels, columns: &Panels, centre: &[f64], layout: Layout) -> Vec<f32> {
    let (n, size) = (columns.rows(), layout.sample);
    if size == 0 || n < 8 * size {
        return vec![f32::INFINITY; rows.rows()];
    }
    let mut order: Vec<usize> = (0..n).collect();
    rng::shuffle(&mut rng::stream(0, "neighbours: sample", &[n as u64]), &mut order);
    let sample = Panels::new(size, |i| wanted.gallery.row(order[i]), centre);
    let limits = vec![f32::MIN; sample.count() * WIDTH];
    let place = |depth: usize| {
        // Of the nearest `depth` points `mean` are in the sample, with a standard deviation of at most √mean.
        let mean = depth as f64 * size as f64 / n as f64;
        (mean + 4.0 * mean.sqrt() + 4.0) as usize
    };
    let panel = |panel: usize| {
        let rows_here = Side {
            lines: rows.lines(panel..panel + 1),
            half_norms: rows.half_norms(panel..panel + 1),
            limits: &limits[..WIDTH],
        };
        let columns = Side {
            lines: sample.lines(0..sample.count()),
            half_norms: sample.half_norms(0..sample.count()),
            limits: &limits,
        };
        let mut hits = Hits::default();
        layout.kernel.scan(&Tile { dim: rows.dim(), rows: rows_here, columns, mutual: false }, &mut hits);
        let mut scores = [(); WIDTH].map(|()| Vec::with_capacity(size));
        hits.rows.iter().for_each(|(score, row, _)| scores[row].push(score));
        let first = panel * WIDTH;
        let bounds = scores.iter_mut().take(rows.rows() - first).enumerate().map(|(i, scores)| {
            let place = place(wanted.depths[first + i]);
            if place >= scores.len() {
                return f32::INFINITY;
            }
            let (_, score, _) = scores.select_nth_unstable_by(place, |a, b| b.total_cmp(a));
            (-2.0 * *score).max(0.0)
        });
        bounds.collect::<Vec<f32>>()
    };
    (0..rows.count()).into_par_iter().flat_map_iter(panel).collect()
}

/// Shortlists of a block of queries.
struct Block {
    lists: Vec<Shortlist>,
    /// Tiles that are still to come.
    open: usize,
}

struct Sweep<'a> {
    wanted: &'a Wanted<'a>,
    rows: &'a Panels,
    /// The query of each row.
    queries: &'a [u32],
    columns: &'a Panels,
    layout: Layout,
    errors: Vec<f32>,
    blocks: Vec<Mutex<Block>>,
}

/// What a thread needs besides.
#[derive(Default)]
struct Scratch {
    hits: Hits,
    row_limits: Vec<f32>,
    column_limits: Vec<f32>,
}

impl<'a> Sweep<'a> {
    fn new(
        wanted: &'a Wanted<'a>,
        (rows, queries): (&'a Panels, &'a [u32]),
        columns: &'a Panels,
        bounds: Vec<f32>,
        layout: Layout,
    ) -> Self {
        let errors: Vec<f32> = (0..rows.rows()).map(|i| rows.error(i, columns)).collect();
        let list = |i: usize| Shortlist::new(wanted.depths[queries[i] as usize], bounds[i], errors[i]);
        let size = layout.block * WIDTH;
        let tiles = columns.count().div_ceil(layout.block);
        let block = |start| {
            let lists = (start..rows.rows().min(start + size)).map(list).collect();
            Mutex::new(Block { lists, open: tiles })
        };
        let blocks = (0..rows.rows()).step_by(size).map(block).collect();
        Self { wanted, rows, queries, columns, layout, errors, blocks }
    }

    /// Gives each query's nearest points away; returns the queries whose bound was guessed too low.
    fn run(&self, mutual: bool, emit: &(dyn Fn(usize, Vec<Ranked>) + Sync)) -> Vec<u32> {
        let width = self.columns.count().div_ceil(self.layout.block);
        let first = |row: usize| if mutual { row } else { 0 };
        let tiles: Vec<(u32, u32)> = (0..self.blocks.len())
            .flat_map(|row| (first(row)..width).map(move |column| (row as u32, column as u32)))
            .collect();
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(vec![]);
        let work = || {
            let mut scratch = Scratch::default();
            while let Some(&(row, column)) = tiles.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (row, column) = (row as usize, column as usize);
                self.scan(row, column, mutual, &mut scratch);
                self.take(row, column, scratch.hits.rows.iter(), &failed, emit);
                if mutual && row != column {
                    let hits = scratch.hits.columns.iter().map(|(score, row, column)| (score, column, row));
                    self.take(column, row, hits, &failed, emit);
                }
            }
        };
        rayon::scope(|scope| (0..rayon::current_num_threads()).for_each(|_| scope.spawn(|_| work())));
        failed.into_inner().expect("no thread panicked")
    }

    fn panels(&self, block: usize, of: &Panels) -> std::ops::Range<usize> {
        block * self.layout.block..of.count().min((block + 1) * self.layout.block)
    }

    fn scan(&self, row: usize, column: usize, mutual: bool, scratch: &mut Scratch) {
        let Scratch { hits, row_limits, column_limits } = scratch;
        let (rows, columns) = (self.panels(row, self.rows), self.panels(column, self.columns));
        let both = mutual && row != column;
        self.limits(row, rows.len(), row_limits);
        if both {
            self.limits(column, columns.len(), column_limits);
        }
        let rows =
            Side { lines: self.rows.lines(rows.clone()), half_norms: self.rows.half_norms(rows), limits: row_limits };
        let columns = Side {
            lines: self.columns.lines(columns.clone()),
            half_norms: self.columns.half_norms(columns),
            limits: column_limits,
        };
        self.layout.kernel.scan(&Tile { dim: self.rows.dim(), rows, columns, mutual: both }, hits);
    }

    /// The limits of a block, infinite where the last panel is filled up.
    fn limits(&self, block: usize, panels: usize, limits: &mut Vec<f32>) {
        limits.clear();
        limits.extend(self.lock(block).lists.iter().map(Shortlist::limit));
        limits.resize(panels * WIDTH, f32::INFINITY);
    }

    fn lock(&self, block: usize) -> std::sync::MutexGuard<'_, Block> {
        self.blocks[block].lock().expect("no thread panicked")
    }

    /// Puts a tile's hits (score, place in the block, place among `others`) on the block's lists; gives the lists away
    /// if this was the last tile.
    fn take(
        &self,
        block: usize,
        others: usize,
        hits: impl Iterator<Item = (f32, usize, usize)>,
        failed: &Mutex<Vec<u32>>,
        emit: &(dyn Fn(usize, Vec<Ranked>) + Sync),
    ) {
        let size = self.layout.block * WIDTH;
        let mut guard = self.lock(block);
        for (score, place, other) in hits {
            let list = &mut guard.lists[place];
            list.push(score, (others * size + other) as u32);
            if list.is_long() {
                list.shorten(&self.judge(block * size + place));
            }
        }
        guard.open -= 1;
        if guard.open > 0 {
            return;
        }
        let lists = std::mem::take(&mut guard.lists);
        drop(guard);
        let exact = self.wanted.gallery.shared();
        for (place, list) in lists.into_iter().enumerate() {
            let row = block * size + place;
            match list.finish(&self.judge(row), exact) {
                Some(ranked) => emit(self.queries[row] as usize, ranked),
                None => failed.lock().expect("no thread panicked").push(self.queries[row]),
            }
        }
    }

    fn judge(&self, row: usize) -> Judge<'_> {
        let (query, queries) = (self.queries[row] as usize, self.wanted.queries);
        Judge {
            row: queries.row(query),
            label: queries.label(query),
            gallery: self.wanted.gallery,
            error: self.errors[row],
        }
    }
}

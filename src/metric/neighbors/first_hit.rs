//! The rank of the first same-class item of queries whose list does not reach that far.

use std::collections::HashMap;

use rayon::prelude::*;

use super::kernel::{Hits, Side, Tally, Tile};
use super::panels::{Panels, WIDTH, least_score, mean, most_score};
use super::points::Points;
use super::sweep::Layout;
use super::{Depth, Distance, Ranks, Search, canonical_distance, visit_tiled};

/// Panels of queries that a thread takes at once, and of gallery points that it looks at together.
const ROW_PANELS: usize = 2;
const COLUMN_PANELS: usize = 20;
/// Classes of more items are searched, smaller ones looked through.
const SMALL_CLASS: usize = 256;

/// Items of each class.
pub(super) struct Members {
    order: Vec<u32>,
    ranges: HashMap<u32, std::ops::Range<usize>>,
}

impl Members {
    pub(super) fn new(labels: &[u32]) -> Self {
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        order.sort_by_key(|&i| (labels[i as usize], i));
        let mut ranges = HashMap::new();
        let mut start = 0;
        for group in order.chunk_by(|&a, &b| labels[a as usize] == labels[b as usize]) {
            ranges.insert(labels[group[0] as usize], start..start + group.len());
            start += group.len();
        }
        Self { order, ranges }
    }

    /// Items of a class, ascending.
    pub(super) fn of(&self, label: u32) -> &[u32] {
        self.ranges.get(&label).map_or(&[], |range| &self.order[range.clone()])
    }

    /// How many items of the query's class the gallery holds, without the one it must not find.
    pub(super) fn positives(&self, search: &Search<'_>, query: usize) -> usize {
        let label = search.query_labels[query];
        let own = search.excluded(query).is_some_and(|own| search.gallery_labels[own] == label);
        self.of(label).len() - usize::from(own)
    }
}

/// Ranks, from 1, of the first same-class item of `queries`, each of which has one. The rows of `search` are Euclidean.
pub(super) fn ranks(
    search: &Search<'_>,
    gallery: &Points<'_>,
    members: &Members,
    queries: &[u32],
    layout: Layout,
) -> Vec<u32> {
    if queries.is_empty() {
        return vec![];
    }
    let hits = nearest_of_class(search, members, queries, layout);
    let centre = mean(gallery.len(), search.gallery.dim(), |i| gallery.row(i));
    let columns = Panels::new(gallery.len(), |i| gallery.row(i), &centre);
    let weights: Vec<u32> =
        if gallery.shared() { (0..gallery.len()).map(|i| gallery.items(i).len() as u32).collect() } else { vec![] };
    let count = |(queries, hits): (&[u32], &[f32])| {
        let rows = Panels::new(queries.len(), |i| search.queries.row(queries[i] as usize), &centre);
        Count { search, gallery, columns: &columns, weights: &weights, rows, queries, hits }.ranks(layout)
    };
    queries.par_chunks(ROW_PANELS * WIDTH).zip(hits.par_chunks(ROW_PANELS * WIDTH)).flat_map_iter(count).collect()
}

/// Canonical distance of the nearest same-class item of each of `queries`.
fn nearest_of_class(search: &Search<'_>, members: &Members, queries: &[u32], layout: Layout) -> Vec<f32> {
    let mut nearest = vec![f32::INFINITY; queries.len()];
    let is_small = |query: u32| members.of(search.query_labels[query as usize]).len() <= SMALL_CLASS;
    nearest.par_iter_mut().zip(queries).filter(|(_, query)| is_small(**query)).for_each(|(nearest, &query)| {
        let query = query as usize;
        let items = members.of(search.query_labels[query]).iter().map(|&i| i as usize);
        let others = items.filter(|&i| search.excluded(query) != Some(i));
        let distances = others.map(|i| canonical_distance(search.queries.row(query), search.gallery.row(i)));
        *nearest = distances.fold(f32::INFINITY, f32::min);
    });
    let mut large: HashMap<u32, Vec<usize>> = HashMap::new();
    for (place, &query) in queries.iter().enumerate().filter(|(_, query)| !is_small(**query)) {
        large.entry(search.query_labels[query as usize]).or_default().push(place);
    }
    for (label, places) in large {
        let items: Vec<usize> = members.of(label).iter().map(|&i| i as usize).collect();
        let originals: Vec<usize> = places.iter().map(|&place| queries[place] as usize).collect();
        let own = |&query: &usize| search.excluded(query).and_then(|own| items.binary_search(&own).ok());
        let found = visit_tiled(
            &Search {
                queries: &search.queries.select(&originals),
                query_labels: &vec![label; originals.len()],
                gallery: &search.gallery.select(&items),
                gallery_labels: &vec![label; items.len()],
                excluded: &originals.iter().map(own).collect::<Vec<_>>(),
                depth: Depth::Fixed(1),
                distance: Distance::Euclidean,
            },
            layout,
            Ranks::Listed,
            &|list| list.distance(0),
        );
        places.iter().zip(found.values).for_each(|(&place, distance)| nearest[place] = distance);
    }
    nearest
}

/// A few queries against the whole gallery.
struct Count<'a> {
    search: &'a Search<'a>,
    gallery: &'a Points<'a>,
    columns: &'a Panels,
    weights: &'a [u32],
    rows: Panels,
    queries: &'a [u32],
    /// Canonical distance of each query's first hit.
    hits: &'a [f32],
}

impl Count<'_> {
    fn ranks(&self, layout: Layout) -> Vec<u32> {
        let padded = self.rows.count() * WIDTH;
        let errors: Vec<f32> = (0..self.queries.len()).map(|i| self.rows.error(i, self.columns)).collect();
        let limit = |of: fn(f32, f32) -> f32| {
            let mut limits: Vec<f32> = self.hits.iter().zip(&errors).map(|(hit, error)| of(*hit, *error)).collect();
            limits.resize(padded, f32::INFINITY);
            limits
        };
        let (limits, above) = (limit(least_score), limit(most_score));
        let mut counts = vec![0u64; padded];
        let mut found = Hits::default();
        for start in (0..self.columns.count()).step_by(COLUMN_PANELS) {
            let panels = start..self.columns.count().min(start + COLUMN_PANELS);
            let rows = Side {
                lines: self.rows.lines(0..self.rows.count()),
                half_norms: self.rows.half_norms(0..self.rows.count()),
                limits: &limits,
            };
            let columns = Side {
                lines: self.columns.lines(panels.clone()),
                half_norms: self.columns.half_norms(panels.clone()),
                limits: &[],
            };
            let first = start * WIDTH;
            let end = self.columns.rows().min(panels.end * WIDTH);
            let weights = if self.weights.is_empty() { &[] } else { &self.weights[first..end] };
            let mut tally = Tally { above: &above, weights, counts: &mut counts };
            layout.kernel.count(&Tile { dim: self.rows.dim(), rows, columns, mutual: false }, &mut tally, &mut found);
            for (_, row, column) in found.rows.iter() {
                counts[row] += self.decide(row, first + column);
            }
        }
        let rank = |(row, &count): (usize, &u64)| (count - self.excluded(row) + 1) as u32;
        counts[..self.queries.len()].iter().enumerate().map(rank).collect()
    }

    /// Whether an item of that class at that distance comes before the first hit.
    ///
    /// No other item of the query's class is nearer than its first hit, so this counts items of other classes, and the
    /// excluded item, which is taken off again.
    fn comes_before(&self, row: usize, distance: f32, label: u32) -> bool {
        let other = label != self.search.query_labels[self.queries[row] as usize];
        distance < self.hits[row] || (distance == self.hits[row] && other)
    }

    /// How many items of a point come before the first hit.
    fn decide(&self, row: usize, point: usize) -> u64 {
        let query = self.search.queries.row(self.queries[row] as usize);
        let distance = canonical_distance(query, self.gallery.row(point));
        let before = self.comes_before(row, distance, self.gallery.label(point));
        if before { self.gallery.items(point).len() as u64 } else { 0 }
    }

    /// 1 if the excluded item was counted.
    fn excluded(&self, row: usize) -> u64 {
        let query = self.queries[row] as usize;
        self.search.excluded(query).map_or(0, |own| {
            let distance = canonical_distance(self.search.queries.row(query), self.search.gallery.row(own));
            u64::from(self.comes_before(row, distance, self.search.gallery_labels[own]))
        })
    }
}

/// Ranks of zero rows, which are as far from everything as from anything: after all other classes.
pub(super) fn tied_rank(search: &Search<'_>, members: &Members, query: usize) -> u32 {
    if members.positives(search, query) == 0 {
        return 0;
    }
    let same = members.of(search.query_labels[query]).len();
    let own = search.excluded(query).is_some_and(|own| search.gallery_labels[own] != search.query_labels[query]);
    (search.gallery.len() - same - usize::from(own) + 1) as u32
}

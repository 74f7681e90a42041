//! One query's walk over the tiles: screen by the approximate distance, decide by the canonical one.

use super::{Centred, Found, Members, Search, canonical_distance};

/// Items per branch-free block of the screening.
const BLOCK: usize = 32;

/// A neighbour with its sort key: distance, then other classes before the query's own, then index.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Candidate {
    distance: f32,
    same_class: bool,
    index: u32,
}

/// State of one query.
pub(super) struct Scan<'a> {
    search: &'a Search<'a>,
    query: &'a [f32],
    label: u32,
    excluded: Option<usize>,
    squared_norm: f64,
    /// Largest error of an approximate distance.
    error: f64,
    /// Canonical distance of the nearest same-class item.
    first_hit: Option<f32>,
    /// Items of other classes that are not farther than it.
    nearer: u32,
    /// The best `k` so far, sorted.
    best: Vec<Candidate>,
    limits: Limits,
}

/// Thresholds on `‖g‖² − 2⟨q, g⟩` (the approximate distance without `‖q‖²`).
struct Limits {
    /// Below: surely nearer than the first hit.
    surely_nearer: f32,
    /// Up to here: perhaps not farther than the first hit.
    perhaps_nearer: f32,
    /// Up to here: perhaps one of the best `k`.
    perhaps_best: f32,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        search: &'a Search<'a>,
        row: usize,
        first_row: usize,
        queries: &Centred,
        gallery: &Centred,
        members: &Members,
    ) -> Self {
        let squared_norm = f64::from(queries.squared_norms[row - first_row]);
        // Rounding of a product of depth d is at most d·u·Σ|q||g| ≤ d·u·(‖q‖² + ‖g‖²)/2, twice that after the factor
        // 2; norms, centring and the final sums add less than 16 units more; the last term covers subnormal numbers.
        let unit = f64::from(f32::EPSILON) / 2.0;
        let depth = gallery.dim as f64;
        let error = 1.01 * (depth + 16.0) * unit * (squared_norm + gallery.largest)
            + 8.0 * (depth + 16.0) * f64::from(f32::MIN_POSITIVE);
        let mut scan = Self {
            search,
            query: search.queries.row(row),
            label: search.query_labels[row],
            excluded: search.excluded.get(row).copied().flatten(),
            squared_norm,
            error,
            first_hit: None,
            nearer: 0,
            best: Vec::with_capacity(search.k + 1),
            limits: Limits { surely_nearer: 0.0, perhaps_nearer: 0.0, perhaps_best: 0.0 },
        };
        scan.first_hit = scan.nearest_of_class(members);
        scan.refresh_limits();
        scan
    }

    fn nearest_of_class(&self, members: &Members) -> Option<f32> {
        let others = members.of(self.label).iter().filter(|&&i| Some(i as usize) != self.excluded);
        others.map(|&i| canonical_distance(self.query, self.search.gallery.row(i as usize))).reduce(f32::min)
    }

    fn refresh_limits(&mut self) {
        // Rounding of a canonical distance to f32 and of a limit to f32, both in the safe direction.
        let above = |distance: f32| {
            let limit = f64::from(distance) * (1.0 + 1e-6) - self.squared_norm + self.error;
            (limit + limit.abs() * 1e-6) as f32
        };
        let below = |distance: f32| {
            let limit = f64::from(distance) * (1.0 - 1e-6) - self.squared_norm - self.error;
            (limit - limit.abs() * 1e-6) as f32
        };
        let full = self.best.len() == self.search.k;
        self.limits = Limits {
            surely_nearer: self.first_hit.map_or(f32::NEG_INFINITY, below),
            perhaps_nearer: self.first_hit.map_or(f32::NEG_INFINITY, above),
            perhaps_best: match self.best.last() {
                Some(worst) if full => above(worst.distance),
                _ if full => f32::NEG_INFINITY,
                _ => f32::INFINITY,
            },
        };
    }

    /// Takes in the gallery items from `start` on.
    ///
    /// `products`: `⟨q, g⟩` of each item, overwritten; `squared_norms`: `‖g‖²` of each.
    pub(super) fn tile(&mut self, start: usize, products: &mut [f32], squared_norms: &[f32]) {
        for (product, norm) in products.iter_mut().zip(squared_norms) {
            *product = norm - 2.0 * *product;
        }
        if let Some(own) = self.excluded.and_then(|index| index.checked_sub(start))
            && let Some(score) = products.get_mut(own)
        {
            *score = f32::INFINITY;
        }
        for (block, scores) in products.chunks(BLOCK).enumerate() {
            let Limits { surely_nearer, perhaps_nearer, perhaps_best } = self.limits;
            let (mut sure, mut perhaps, mut rivals) = (0u32, 0u32, 0u32);
            for &score in scores {
                sure += u32::from(score < surely_nearer);
                perhaps += u32::from(score <= perhaps_nearer);
                rivals += u32::from(score <= perhaps_best);
            }
            self.nearer += sure;
            if rivals > 0 || perhaps > sure {
                self.decide(start + block * BLOCK, scores);
            }
        }
    }

    #[cold]
    fn decide(&mut self, start: usize, scores: &[f32]) {
        for (offset, &score) in scores.iter().enumerate() {
            let index = start + offset;
            let doubtful = score >= self.limits.surely_nearer && score <= self.limits.perhaps_nearer;
            let perhaps_best = score <= self.limits.perhaps_best;
            if !(doubtful || perhaps_best) || self.excluded == Some(index) {
                continue;
            }
            let distance = canonical_distance(self.query, self.search.gallery.row(index));
            let same_class = self.search.gallery_labels[index] == self.label;
            if doubtful && !same_class && self.first_hit.is_some_and(|hit| distance <= hit) {
                self.nearer += 1;
            }
            if perhaps_best {
                self.offer(Candidate { distance, same_class, index: index as u32 });
            }
        }
    }

    fn offer(&mut self, candidate: Candidate) {
        let place = self.best.partition_point(|held| held < &candidate);
        if place >= self.search.k {
            return;
        }
        self.best.insert(place, candidate);
        self.best.truncate(self.search.k);
        if self.best.len() == self.search.k {
            self.refresh_limits();
        }
    }

    pub(super) fn finish(self) -> Found {
        Found {
            neighbors: self.best.iter().map(|c| c.index).collect(),
            distances: self.best.iter().map(|c| c.distance).collect(),
            first_hit: if self.first_hit.is_some() { self.nearer + 1 } else { 0 },
        }
    }
}

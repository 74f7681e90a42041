//! Exact nearest neighbours and the rank of the first same-class item, in bounded memory.
//!
//! The Euclidean order is computed (for unit rows it is also the cosine order). The similarity matrix never exists:
//! tiles of it are screened with a fast matrix product, and every item that the screening cannot decide beyond its
//! rounding error is decided by the *canonical distance*. So the answer depends neither on tile size, nor on the
//! number of threads, nor on whether the machine has fused multiply-add.
//!
//! **Canonical distance**: the squared Euclidean distance summed in `f64` in a fixed order, then rounded to `f32`. Two
//! items are "at the same distance" when these `f32` are equal. Ties count against the model: an item of another class
//! at the same distance is nearer than one of the query's class; among equals the smaller index comes first.

use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};
use rayon::prelude::*;

use crate::batch::Embeddings;

/// Why a search was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NeighborError {
    /// Nothing to search in.
    #[error("the gallery is empty; nothing can be retrieved")]
    EmptyGallery,
    /// NaN or infinity, or a value whose square leaves `f32`.
    #[error("{set} embedding {row} holds {value}, wanted finite numbers below 1e15; look at the model that made it")]
    NotFinite {
        /// `query` or `gallery`.
        set: &'static str,
        /// Row, from 0.
        row: usize,
        /// The value, as text.
        value: String,
    },
    /// Two inputs that belong together differ.
    #[error("{what}: got {got}, wanted {wanted}")]
    Length {
        /// Which input.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length it should have.
        wanted: usize,
    },
    /// An index past the end of the gallery.
    #[error("query {query} excludes gallery item {index}, the gallery has {gallery}")]
    Excluded {
        /// Query, from 0.
        query: usize,
        /// The index.
        index: usize,
        /// Gallery size.
        gallery: usize,
    },
}

/// What to search for, and where.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// `[n, d]`.
    pub queries: &'a Embeddings,
    /// Class of each query, `[n]`.
    pub query_labels: &'a [u32],
    /// `[g, d]`.
    pub gallery: &'a Embeddings,
    /// Class of each gallery item, `[g]`.
    pub gallery_labels: &'a [u32],
    /// Gallery item that each query must not find (its own image), `[n]`; or empty: nothing is excluded.
    pub excluded: &'a [Option<usize>],
    /// Neighbours wanted. Lists are shorter if the gallery (without the excluded item) holds fewer.
    pub k: usize,
}

/// What one query found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Gallery indices, nearest first, at most `k`.
    pub neighbors: Vec<u32>,
    /// Canonical squared Euclidean distance of each.
    pub distances: Vec<f32>,
    /// Rank (from 1) of the first same-class item among all gallery items, ties counted against the model; 0 if the
    /// gallery holds none.
    pub first_hit: u32,
}

/// Finds the `k` nearest gallery items of every query and the rank of its first same-class item.
///
/// ```
/// use mdprop::batch::Embeddings;
/// use mdprop::metric::neighbors::{Search, search};
///
/// // One query at 0; the gallery at 1 (other class), -1 (same class, same distance), 3 (same class).
/// let queries = Embeddings::new([1, 1], vec![0.0])?;
/// let gallery = Embeddings::new([3, 1], vec![1.0, -1.0, 3.0])?;
/// let found = search(Search {
///     queries: &queries, query_labels: &[7], gallery: &gallery, gallery_labels: &[8, 7, 7], excluded: &[], k: 2,
/// })?;
/// assert_eq!(found[0].neighbors, [0, 1]); // the tie is decided against the model
/// assert_eq!(found[0].first_hit, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`NeighborError`]: empty gallery, a value that is not finite, inputs of different lengths.
pub fn search(search: Search<'_>) -> Result<Vec<Found>, NeighborError> {
    search_tiled(search, Tiles::default())
}

/// Rows of queries and gallery that are multiplied at once.
#[derive(Debug, Clone, Copy)]
struct Tiles {
    queries: usize,
    gallery: usize,
}

impl Default for Tiles {
    /// 128 × 1,024 products are 512 KiB: one second-level cache.
    fn default() -> Self {
        Self { queries: 128, gallery: 1024 }
    }
}

fn search_tiled(search: Search<'_>, tiles: Tiles) -> Result<Vec<Found>, NeighborError> {
    check(&search)?;
    let mean = mean_row(search.gallery);
    let gallery = Centred::new(search.gallery, &mean);
    let members = Members::new(search.gallery_labels);
    let starts: Vec<usize> = (0..search.queries.len()).step_by(tiles.queries).collect();
    let parts: Vec<Vec<Found>> = starts
        .into_par_iter()
        .map(|start| {
            let rows = start..(start + tiles.queries).min(search.queries.len());
            let queries = Centred::of_rows(search.queries, rows.clone(), &mean);
            search_rows(&search, rows, &queries, &gallery, &members, tiles.gallery)
        })
        .collect();
    Ok(parts.into_iter().flatten().collect())
}

fn check(search: &Search<'_>) -> Result<(), NeighborError> {
    let length = |what, got, wanted| {
        if got == wanted { Ok(()) } else { Err(NeighborError::Length { what, got, wanted }) }
    };
    if search.gallery.is_empty() {
        return Err(NeighborError::EmptyGallery);
    }
    length("labels of the queries", search.query_labels.len(), search.queries.len())?;
    length("labels of the gallery", search.gallery_labels.len(), search.gallery.len())?;
    if !search.queries.is_empty() {
        length("entries of a query embedding", search.queries.dim(), search.gallery.dim())?;
    }
    if !search.excluded.is_empty() {
        length("excluded items", search.excluded.len(), search.queries.len())?;
    }
    for (query, excluded) in search.excluded.iter().enumerate() {
        if let Some(index) = excluded.filter(|&index| index >= search.gallery.len()) {
            return Err(NeighborError::Excluded { query, index, gallery: search.gallery.len() });
        }
    }
    check_finite("gallery", search.gallery)?;
    check_finite("query", search.queries)
}

/// Refuses NaN, infinities and values whose squares would leave `f32` when summed.
fn check_finite(set: &'static str, embeddings: &Embeddings) -> Result<(), NeighborError> {
    let bad = embeddings.as_slice().iter().position(|v| v.is_nan() || v.abs() >= 1e15);
    bad.map_or(Ok(()), |at| {
        let value = embeddings.as_slice()[at].to_string();
        Err(NeighborError::NotFinite { set, row: at / embeddings.dim().max(1), value })
    })
}

/// The canonical distance (see the module's head): eight `f64` sums in a fixed order, rounded to `f32`.
pub fn canonical_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f64; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..8 {
            let difference = f64::from(x[lane]) - f64::from(y[lane]);
            lanes[lane] += difference * difference;
        }
    }
    for (lane, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
        let difference = f64::from(*x) - f64::from(*y);
        lanes[lane] += difference * difference;
    }
    let half = [lanes[0] + lanes[4], lanes[1] + lanes[5], lanes[2] + lanes[6], lanes[3] + lanes[7]];
    ((half[0] + half[2]) + (half[1] + half[3])) as f32
}

fn mean_row(embeddings: &Embeddings) -> Vec<f64> {
    let mut mean = vec![0.0f64; embeddings.dim()];
    for i in 0..embeddings.len() {
        for (sum, value) in mean.iter_mut().zip(embeddings.row(i)) {
            *sum += f64::from(*value);
        }
    }
    mean.iter_mut().for_each(|sum| *sum /= embeddings.len() as f64);
    mean
}

/// Rows minus the gallery's mean. Distances stay, rounding errors shrink with the norms: embeddings crowded in a
/// corner are screened as sharply as others.
struct Centred {
    rows: Vec<f32>,
    squared_norms: Vec<f32>,
    largest: f64,
    dim: usize,
}

impl Centred {
    fn new(embeddings: &Embeddings, mean: &[f64]) -> Self {
        Self::of_rows(embeddings, 0..embeddings.len(), mean)
    }

    fn of_rows(embeddings: &Embeddings, range: std::ops::Range<usize>, mean: &[f64]) -> Self {
        let mut rows = Vec::with_capacity(range.len() * mean.len());
        let mut squared_norms = Vec::with_capacity(range.len());
        let mut largest = 0.0f64;
        for i in range {
            let mut norm = 0.0f64;
            for (value, centre) in embeddings.row(i).iter().zip(mean) {
                let centred = (f64::from(*value) - centre) as f32;
                norm += f64::from(centred) * f64::from(centred);
                rows.push(centred);
            }
            squared_norms.push(norm as f32);
            largest = largest.max(norm);
        }
        Self { rows, squared_norms, largest, dim: mean.len() }
    }

    fn view(&self, range: std::ops::Range<usize>) -> ArrayView2<'_, f32> {
        let rows = &self.rows[range.start * self.dim..range.end * self.dim];
        ArrayView2::from_shape((range.len(), self.dim), rows).expect("a range of whole rows")
    }
}

/// Gallery items of each class.
struct Members {
    order: Vec<u32>,
    ranges: std::collections::HashMap<u32, std::ops::Range<usize>>,
}

impl Members {
    fn new(labels: &[u32]) -> Self {
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        order.sort_by_key(|&i| (labels[i as usize], i));
        let mut ranges = std::collections::HashMap::new();
        let mut start = 0;
        for group in order.chunk_by(|&a, &b| labels[a as usize] == labels[b as usize]) {
            ranges.insert(labels[group[0] as usize], start..start + group.len());
            start += group.len();
        }
        Self { order, ranges }
    }

    fn of(&self, label: u32) -> &[u32] {
        self.ranges.get(&label).map_or(&[], |range| &self.order[range.clone()])
    }
}

mod scan;
use scan::Scan;

fn search_rows(
    search: &Search<'_>,
    rows: std::ops::Range<usize>,
    queries: &Centred,
    gallery: &Centred,
    members: &Members,
    tile: usize,
) -> Vec<Found> {
    let mut scans: Vec<Scan<'_>> =
        rows.clone().map(|row| Scan::new(search, row, rows.start, queries, gallery, members)).collect();
    let mut products = vec![0.0f32; rows.len() * tile.min(search.gallery.len())];
    for start in (0..search.gallery.len()).step_by(tile) {
        let end = (start + tile).min(search.gallery.len());
        let width = end - start;
        let products = &mut products[..rows.len() * width];
        let mut out =
            ArrayViewMut2::from_shape((rows.len(), width), &mut *products).expect("sized for exactly this tile");
        general_mat_mul(1.0, &queries.view(0..rows.len()), &gallery.view(start..end).t(), 0.0, &mut out);
        for (scan, products) in scans.iter_mut().zip(products.chunks_exact_mut(width)) {
            scan.tile(start, products, &gallery.squared_norms[start..end]);
        }
    }
    scans.into_iter().map(Scan::finish).collect()
}

#[cfg(test)]
mod tests;

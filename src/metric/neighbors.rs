//! Exact nearest neighbours and the rank of the first same-class item, in bounded memory.
//!
//! The similarity matrix never exists: scores of pairs are computed tile by tile with the widest vector instructions
//! that the machine has, compared in registers with what each query still looks for, and dropped. They only screen.
//! Every item that they cannot decide beyond their rounding error is decided by the *canonical distance*. So the answer
//! depends neither on tile size, nor on the number of threads, nor on the machine's instructions.
//!
//! **Canonical distance**: the squared Euclidean distance summed in `f64` in a fixed order, then rounded to `f32`. Two
//! items are "at the same distance" when these `f32` are equal.
//!
//! **Ties** count against the model: an item of another class at the same distance is nearer than one of the query's
//! class; among equals the smaller index comes first.
//!
//! **Self**: a query's own image is excluded by its index. "Drop the first neighbour" is wrong as soon as another item
//! is equally near: it may drop the duplicate and count the query as its own hit.
//!
//! **Cosine**: rows are divided by their length in `f64`, rounded to `f32`, and then searched as above; the distance is
//! `2 − 2 cos`. A zero row has no direction: its cosine with everything is 0. As a query it finds everything at the
//! same distance, 2, and is decided by the rule for ties; in the gallery it lies at 2 from every query, up to rounding.
//!
//! Equal rows are compared once, so a collapsed model costs no more than a good one. Time is linear in the number of
//! queries; if the queries are the gallery, each pair is computed once for both.

use std::sync::Mutex;

use crate::batch::Embeddings;

pub(super) mod closest;
mod distance;
mod first_hit;
pub(super) mod kernel;
mod panels;
mod points;
mod shortlist;
mod sweep;

pub use distance::canonical_distance;

use distance::Directions;
use first_hit::Members;
use points::Points;
use shortlist::Ranked;
use sweep::{Layout, Wanted};

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

/// How many neighbours are wanted. Lists are shorter if the gallery (without the excluded item) holds fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth<'a> {
    /// As many for every query; 0 asks for the ranks of the first hits alone.
    Fixed(usize),
    /// So many for each query, `[n]`: R of R-precision and MAP@R, for instance (see [`Search::positives`]).
    PerQuery(&'a [usize]),
}

impl Depth<'_> {
    fn of(self, query: usize) -> usize {
        match self {
            Self::Fixed(depth) => depth,
            Self::PerQuery(depths) => depths[query],
        }
    }
}

/// What "near" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distance {
    /// Squared Euclidean distance of the rows as they are. For unit rows the order is the cosine's.
    Euclidean,
    /// `2 − 2 cos`, see the module's head.
    Cosine,
}

/// What to search for, and where.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// `[n, d]`.
    pub queries: &'a Embeddings,
    /// Class of each query, `[n]`: any numbers.
    pub query_labels: &'a [u32],
    /// `[g, d]`. If it equals `queries`, and the labels too, half of the work is saved.
    pub gallery: &'a Embeddings,
    /// Class of each gallery item, `[g]`.
    pub gallery_labels: &'a [u32],
    /// Gallery item that each query must not find (its own image), `[n]`; or empty: nothing is excluded.
    pub excluded: &'a [Option<usize>],
    /// Neighbours wanted.
    pub depth: Depth<'a>,
    /// By which distance.
    pub distance: Distance,
}

impl Search<'_> {
    fn excluded(&self, query: usize) -> Option<usize> {
        self.excluded.get(query).copied().flatten()
    }

    /// For each query, how many items of its class the gallery holds without the excluded one (R of MAP@R).
    ///
    /// # Errors
    /// Those of [`search`].
    pub fn positives(&self) -> Result<Vec<usize>, NeighborError> {
        check(self)?;
        let members = Members::new(self.gallery_labels);
        Ok((0..self.queries.len()).map(|query| members.positives(self, query)).collect())
    }
}

/// What one query found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Gallery indices, nearest first, at most as many as asked for.
    pub neighbors: Vec<u32>,
    /// Canonical squared distance of each.
    pub distances: Vec<f32>,
    /// Rank (from 1) of the first same-class item among all gallery items, ties counted against the model; 0 if the
    /// gallery holds none.
    pub first_hit: u32,
}

/// One query's list, lent to a visitor.
#[derive(Clone, Copy)]
pub struct List<'a> {
    /// The query, from 0.
    pub query: usize,
    /// Gallery indices, nearest first.
    pub neighbors: &'a [u32],
    /// Whether each is of the query's class.
    pub hits: &'a [bool],
    row: &'a [f32],
    gallery: &'a Embeddings,
    zero: bool,
}

impl List<'_> {
    /// Canonical squared distance of the neighbour at that place of the list. Computed when asked for.
    ///
    /// # Panics
    /// If the list is shorter.
    pub fn distance(&self, place: usize) -> f32 {
        let item = self.gallery.row(self.neighbors[place] as usize);
        if self.zero { 2.0 } else { canonical_distance(self.row, item) }
    }
}

/// What the visits of all lists gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Visited<T> {
    /// The visitor's answer for each query.
    pub values: Vec<T>,
    /// As [`Found::first_hit`], of each query.
    pub first_hits: Vec<u32>,
}

/// Finds the nearest gallery items of every query and the rank of its first same-class item.
///
/// ```
/// use mdprop::batch::Embeddings;
/// use mdprop::metric::neighbors::{Depth, Distance, Search, search};
///
/// // One query at 0; the gallery at 1 (other class), -1 (same class, same distance), 3 (same class).
/// let queries = Embeddings::new([1, 1], vec![0.0])?;
/// let gallery = Embeddings::new([3, 1], vec![1.0, -1.0, 3.0])?;
/// let found = search(Search {
///     queries: &queries, query_labels: &[7], gallery: &gallery, gallery_labels: &[8, 7, 7], excluded: &[],
///     depth: Depth::Fixed(2), distance: Distance::Euclidean,
/// })?;
/// assert_eq!(found[0].neighbors, [0, 1]); // the tie is decided against the model
/// assert_eq!(found[0].first_hit, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`NeighborError`]: empty gallery, a value that is not finite, inputs of different lengths.
pub fn search(search: Search<'_>) -> Result<Vec<Found>, NeighborError> {
    let keep = |list: List<'_>| {
        (list.neighbors.to_vec(), (0..list.neighbors.len()).map(|place| list.distance(place)).collect())
    };
    let visited = visit(&search, keep)?;
    let found = visited.values.into_iter().zip(visited.first_hits);
    Ok(found.map(|((neighbors, distances), first_hit)| Found { neighbors, distances, first_hit }).collect())
}

/// Shows every query's list to `visitor` and keeps only its answers: all metrics of one pass, without the lists.
///
/// Lists are visited in any order, from several threads. Besides the answers, memory is a copy of the gallery and a
/// quarter of the lists at most.
///
/// ```
/// use mdprop::batch::Embeddings;
/// use mdprop::metric::neighbors::{Depth, Distance, Search, visit};
///
/// // R-precision: of as many neighbours as there are same-class items, how many are of the class?
/// let rows = Embeddings::new([4, 1], vec![0.0, 1.0, 2.0, 9.0])?;
/// let labels = [0, 0, 1, 0];
/// let own: Vec<_> = (0..4).map(Some).collect();
/// let mut search = Search {
///     queries: &rows, query_labels: &labels, gallery: &rows, gallery_labels: &labels, excluded: &own,
///     depth: Depth::Fixed(0), distance: Distance::Euclidean,
/// };
/// let positives = search.positives()?;
/// assert_eq!(positives, [2, 2, 0, 2]);
/// search.depth = Depth::PerQuery(&positives);
/// let found = visit(&search, |list| list.hits.iter().filter(|hit| **hit).count())?;
/// assert_eq!(found.values, [1, 1, 0, 1]);
/// assert_eq!(found.first_hits, [1, 2, 0, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of [`search`].
pub fn visit<T: Send>(
    search: &Search<'_>,
    visitor: impl Fn(List<'_>) -> T + Sync,
) -> Result<Visited<T>, NeighborError> {
    check(search)?;
    let layout = Layout::new(search.queries.len(), search.gallery.dim());
    Ok(visit_tiled(search, layout, Ranks::All, &visitor))
}

/// [`visit`] for the lists alone: without the ranks of first hits, and so without the second pass that the ranks behind
/// the ends of the lists cost.
///
/// # Errors
/// Those of [`search`].
pub fn visit_lists<T: Send>(
    search: &Search<'_>,
    visitor: impl Fn(List<'_>) -> T + Sync,
) -> Result<Vec<T>, NeighborError> {
    check(search)?;
    let layout = Layout::new(search.queries.len(), search.gallery.dim());
    Ok(visit_tiled(search, layout, Ranks::Listed, &visitor).values)
}

/// Which ranks of first hits are wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ranks {
    /// Of all queries.
    All,
    /// Those within the lists; the others are given as 0.
    Listed,
}

/// [`visit`] of a checked search.
fn visit_tiled<T: Send>(
    search: &Search<'_>,
    layout: Layout,
    ranks: Ranks,
    visitor: &(dyn Fn(List<'_>) -> T + Sync),
) -> Visited<T> {
    match search.distance {
        Distance::Euclidean => visit_euclidean(search, &[], layout, ranks, visitor),
        Distance::Cosine => {
            let gallery = Directions::new(search.gallery);
            let own = (search.queries != search.gallery).then(|| Directions::new(search.queries));
            let queries = own.as_ref().unwrap_or(&gallery);
            let search = Search { queries: &queries.rows, gallery: &gallery.rows, ..*search };
            visit_euclidean(&search, &queries.zero, layout, ranks, visitor)
        }
    }
}

/// [`visit`] by the Euclidean distance, with zero rows of the queries marked (or no marks at all).
fn visit_euclidean<T: Send>(
    search: &Search<'_>,
    zero: &[bool],
    layout: Layout,
    ranks: Ranks,
    visitor: &(dyn Fn(List<'_>) -> T + Sync),
) -> Visited<T> {
    let gallery = Points::together(search.gallery, search.gallery_labels);
    let mutual = search.queries == search.gallery && search.query_labels == search.gallery_labels;
    let apart = (!mutual).then(|| Points::apart(search.queries, search.query_labels));
    let queries = apart.as_ref().unwrap_or(&gallery);
    let members = Members::new(search.gallery_labels);
    // One more, because the excluded item may be among them.
    let deepest = |point| queries.items(point).iter().map(|&query| search.depth.of(query as usize)).max();
    let depth = |point| deepest(point).filter(|depth| *depth > 0).map_or(0, |depth| depth.saturating_add(1));
    let depths: Vec<usize> = (0..queries.len()).map(|point| depth(point).min(gallery.len())).collect();
    let slots: Mutex<Vec<Option<(T, FirstHit)>>> = Mutex::new((0..search.queries.len()).map(|_| None).collect());
    let emit = |point: usize, ranked: Vec<Ranked>| {
        for &query in queries.items(point) {
            let query = query as usize;
            let zero = zero.get(query).copied().unwrap_or(false);
            let neighbors = if zero { tied(search, query) } else { items(search, &gallery, &ranked, query) };
            let label = search.query_labels[query];
            let hits: Vec<bool> = neighbors.iter().map(|&i| search.gallery_labels[i as usize] == label).collect();
            let first = match hits.iter().position(|hit| *hit) {
                Some(place) => FirstHit::Rank(place as u32 + 1),
                None if zero => FirstHit::Rank(first_hit::tied_rank(search, &members, query)),
                None if members.positives(search, query) == 0 => FirstHit::Rank(0),
                None => FirstHit::Beyond,
            };
            let (row, gallery) = (search.queries.row(query), search.gallery);
            let value = visitor(List { query, neighbors: &neighbors, hits: &hits, row, gallery, zero });
            slots.lock().expect("no thread panicked")[query] = Some((value, first));
        }
    };
    sweep::nearest(&Wanted { queries, gallery: &gallery, mutual, depths: &depths }, layout, &emit);
    let slots = slots.into_inner().expect("no thread panicked");
    let visited = slots.into_iter().map(|slot| slot.expect("every query is visited"));
    let (values, first): (Vec<T>, Vec<FirstHit>) = visited.unzip();
    let is_beyond = |query: &u32| ranks == Ranks::All && first[*query as usize] == FirstHit::Beyond;
    let beyond: Vec<u32> = (0..first.len() as u32).filter(is_beyond).collect();
    let mut found = first_hit::ranks(search, &gallery, &members, &beyond, layout).into_iter();
    let mut rank = |first| match first {
        FirstHit::Rank(rank) => rank,
        FirstHit::Beyond if ranks == Ranks::Listed => 0,
        FirstHit::Beyond => found.next().expect("one for each that is beyond"),
    };
    let first_hits = first.into_iter().map(&mut rank).collect();
    Visited { values, first_hits }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum FirstHit {
    /// 0: there is none.
    Rank(u32),
    /// It exists, behind the end of the list.
    Beyond,
}

/// The items of ranked points in their order, without the excluded one, as many as the query wants.
fn items(search: &Search<'_>, gallery: &Points<'_>, ranked: &[Ranked], query: usize) -> Vec<u32> {
    let depth = search.depth.of(query);
    let excluded = search.excluded(query).map_or(u32::MAX, |own| own as u32);
    if !gallery.shared() {
        let items = ranked.iter().map(|r| r.first).filter(|&item| item != excluded);
        return items.take(depth).collect();
    }
    let mut list = Vec::with_capacity(depth.min(search.gallery.len()));
    let mut crowd = vec![];
    for equal in ranked.chunk_by(|a, b| (a.distance, a.same_class) == (b.distance, b.same_class)) {
        if list.len() >= depth {
            break;
        }
        crowd.clear();
        for point in equal {
            let items = gallery.items(point.point as usize);
            crowd.extend(items.iter().take(depth.saturating_add(1)).filter(|&&item| item != excluded));
        }
        crowd.sort_unstable();
        list.extend(crowd.iter().take(depth - list.len()));
    }
    list
}

/// The list of a query to which all items are equally near.
fn tied(search: &Search<'_>, query: usize) -> Vec<u32> {
    let label = search.query_labels[query];
    let of = |same: bool| (0..search.gallery.len()).filter(move |&i| (search.gallery_labels[i] == label) == same);
    let items = of(false).chain(of(true)).filter(|&i| Some(i) != search.excluded(query));
    items.take(search.depth.of(query)).map(|i| i as u32).collect()
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
    if let Depth::PerQuery(depths) = search.depth {
        length("depths of the queries", depths.len(), search.queries.len())?;
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

#[cfg(test)]
mod tests;

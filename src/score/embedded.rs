//! Embeddings that are simply there: who searches whom, and every number of it.

use std::collections::BTreeSet;

use super::{Clustering, Lists, Set, depths, in_order, of_lists, of_set, recall_at};
use crate::batch::Embeddings;
use crate::metric::kind::Metric;
use crate::metric::neighbors::{Depth, Distance, NeighborError, Search, search};
use crate::record::{MetricEstimate, RecallAt};

/// Who searches whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol<'a> {
    /// One set: every item searches all the others. Queries and gallery are the same list.
    LeaveOneOut,
    /// Two sets without a common item, as in In-shop: nothing is excluded.
    QueryGallery,
    /// Queries are other versions of gallery items (attacked ones, or a part of the set): the gallery index of each
    /// query's own image, which it must not find; `None` if the gallery does not hold it.
    OwnExcluded(&'a [Option<usize>]),
}

impl Protocol<'_> {
    /// The gallery item that each query must not find; empty if there is none at all.
    pub fn excluded(&self, queries: usize) -> Vec<Option<usize>> {
        match self {
            Self::LeaveOneOut => (0..queries).map(Some).collect(),
            Self::QueryGallery => vec![],
            Self::OwnExcluded(own) => own.to_vec(),
        }
    }
}

/// Embeddings with their classes.
#[derive(Debug, Clone, Copy)]
pub struct Embedded<'a> {
    /// `[n, d]`.
    pub queries: &'a Embeddings,
    /// Class of each query, `[n]`.
    pub query_labels: &'a [u32],
    /// `[g, d]`.
    pub gallery: &'a Embeddings,
    /// Class of each gallery item, `[g]`.
    pub gallery_labels: &'a [u32],
    /// Who searches whom.
    pub protocol: Protocol<'a>,
    /// What "near" means.
    pub distance: Distance,
}

/// Every number of some embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// recall@k; empty if no query has another image of its class in the gallery.
    pub recall: Vec<RecallAt>,
    /// The further metrics, in the order of asking.
    pub metrics: Vec<MetricEstimate>,
    /// Queries left out of every ranking metric for want of another image of their class.
    pub without_positive: usize,
    /// Classes of the queries.
    pub query_classes: usize,
}

impl Embedded<'_> {
    /// Searches once and measures everything. Geometry and clustering are those of the gallery.
    ///
    /// # Errors
    /// [`NeighborError`]: an empty gallery, NaN or infinity, lists of different lengths.
    pub fn measure(
        &self,
        ks: &[u32],
        metrics: &[Metric],
        clustering: Clustering,
        seed: u64,
    ) -> Result<Scores, NeighborError> {
        let Self { queries, query_labels, gallery, gallery_labels, protocol, distance } = *self;
        let excluded = protocol.excluded(queries.len());
        let lengths = [
            ("labels of the queries", query_labels.len(), queries.len()),
            ("labels of the gallery", gallery_labels.len(), gallery.len()),
        ];
        if let Some((what, got, wanted)) = lengths.into_iter().find(|(_, got, wanted)| got != wanted) {
            return Err(NeighborError::Length { what, got, wanted });
        }
        if let Some((query, index)) =
            excluded.iter().enumerate().find_map(|(q, own)| own.filter(|i| *i >= gallery.len()).map(|i| (q, i)))
        {
            return Err(NeighborError::Excluded { query, index, gallery: gallery.len() });
        }
        let depths = depths(ks, metrics, query_labels, gallery_labels, &excluded);
        let depth = Depth::PerQuery(&depths);
        let excluded = &excluded;
        let found = search(Search { queries, query_labels, gallery, gallery_labels, excluded, depth, distance })?;
        let first_hits: Vec<u32> = found.iter().map(|f| f.first_hit).collect();
        let lists = Lists { found: &found, query_labels, gallery_labels, excluded };
        let mut answers = of_lists(metrics, &lists, seed);
        answers.extend(of_set(metrics, &Set { embeddings: gallery, labels: gallery_labels, clustering, seed }));
        Ok(Scores {
            recall: recall_at(ks, &first_hits, query_labels, seed),
            metrics: in_order(metrics, answers),
            without_positive: first_hits.iter().filter(|rank| **rank == 0).count(),
            query_classes: query_labels.iter().collect::<BTreeSet<_>>().len(),
        })
    }
}

//! Who searches whom in a trial.

use std::borrow::Cow;

use super::attacked::Attacked;
use super::{AttackInput, TrialInput};
use crate::attack::AttackError;
use crate::batch::Embeddings;
use crate::metric::neighbors::{Depth, Distance, Found, Search, search};
use crate::score::Lists;
use crate::suite::attack::Side;

/// Positions of the queries in the gallery and in the list of attacked images.
pub(super) struct Places {
    pub own: Vec<Option<usize>>,
    pub attacked: Vec<usize>,
}

impl Places {
    pub fn new(input: &TrialInput<'_>) -> Self {
        let places: std::collections::HashMap<usize, usize> =
            input.gallery.iter().enumerate().map(|(place, &image)| (image, place)).collect();
        let own: Vec<Option<usize>> = input.queries.iter().map(|image| places.get(image).copied()).collect();
        let attacked = if attacks_gallery(input) {
            vec![]
        } else if attacks_all(input) {
            own.iter().flatten().copied().collect()
        } else {
            (0..own.len()).collect()
        };
        Self { own, attacked }
    }

    /// The attacked image that a query's outcome tells of: none where the queries stay clean.
    pub fn attacked_of(&self, query: usize) -> Option<usize> {
        self.attacked.get(query).copied()
    }

    /// Gallery images that each query can find.
    pub fn candidates(&self, gallery: usize) -> Vec<usize> {
        self.own.iter().map(|own| gallery - usize::from(own.is_some())).collect()
    }
}

fn attacks_gallery(input: &TrialInput<'_>) -> bool {
    matches!(input.attack, Some(AttackInput { side: Side::Gallery, .. }))
}

fn attacks_all(input: &TrialInput<'_>) -> bool {
    matches!(input.attack, Some(AttackInput { side: Side::All, .. }))
}

/// The (attacked) queries and the (attacked) gallery of a trial.
pub(super) struct Sides<'a> {
    pub queries: Cow<'a, Embeddings>,
    pub gallery: &'a Embeddings,
    pub query_labels: Vec<u32>,
    pub gallery_labels: Vec<u32>,
}

impl<'a> Sides<'a> {
    /// Without an attack: the clean images.
    pub fn new(input: &TrialInput<'a>, attacked: Option<&'a Attacked>, places: &Places) -> Self {
        let (queries, gallery) = match attacked {
            Some(attacked) if attacks_all(input) => {
                (Cow::Owned(attacked.embeddings.select(&places.attacked)), &attacked.embeddings)
            }
            Some(attacked) if attacks_gallery(input) => (Cow::Borrowed(input.query_embeddings), &attacked.embeddings),
            Some(attacked) => (Cow::Borrowed(&attacked.embeddings), input.gallery_embeddings),
            None => (Cow::Borrowed(input.query_embeddings), input.gallery_embeddings),
        };
        let query_labels = input.images.labels_of(input.queries);
        Self { queries, gallery, query_labels, gallery_labels: input.images.labels_of(input.gallery) }
    }

    /// What was found, with the classes of both sides.
    pub fn lists<'f>(&'f self, found: &'f [Found], places: &'f Places) -> Lists<'f> {
        let Self { query_labels, gallery_labels, .. } = self;
        Lists { found, query_labels, gallery_labels, excluded: &places.own }
    }

    /// Ranks the gallery for every query, its own image excluded.
    pub fn search(&self, places: &Places, depth: Depth<'_>) -> Result<Vec<Found>, AttackError> {
        self.search_for(&self.query_labels, places, depth)
    }

    fn search_for(&self, labels: &[u32], places: &Places, depth: Depth<'_>) -> Result<Vec<Found>, AttackError> {
        Ok(search(Search {
            queries: &self.queries,
            query_labels: labels,
            gallery: self.gallery,
            gallery_labels: &self.gallery_labels,
            excluded: &places.own,
            depth,
            distance: Distance::Euclidean,
        })?)
    }

    /// Rank of the nearest gallery image with the identity of any target: the search for the first hit, with the
    /// target's class in the place of the query's. One search per target.
    pub fn target_ranks(
        &self,
        input: &TrialInput<'_>,
        attacked: &Attacked,
        places: &Places,
    ) -> Result<Vec<u32>, AttackError> {
        let targets = |i: usize| &attacked.samples[places.attacked[i]].targets;
        let most = (0..self.query_labels.len()).map(|i| targets(i).len()).max().unwrap_or(0);
        let mut best = vec![0u32; self.query_labels.len()];
        for number in 0..most {
            let label = |i: usize| targets(i).get(number).map_or(self.query_labels[i], |&t| input.images.labels[t]);
            let labels: Vec<u32> = (0..self.query_labels.len()).map(label).collect();
            for (i, found) in self.search_for(&labels, places, Depth::Fixed(0))?.iter().enumerate() {
                if targets(i).len() > number && found.first_hit > 0 && (best[i] == 0 || found.first_hit < best[i]) {
                    best[i] = found.first_hit;
                }
            }
        }
        Ok(best)
    }
}

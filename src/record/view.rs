//! What pictures of an embedding space are drawn from: small, and the same for every reader of a run folder.

use serde::{Deserialize, Serialize};

/// The searched embeddings of a clean trial, or the way that attacked queries went; of a model's first seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingView {
    /// Key of the trial.
    pub trial: String,
    /// Model id.
    pub model: String,
    /// `clean` or the suite's name of the attack.
    pub attack: String,
    /// Budget as written.
    pub epsilon: String,
    /// Of a clean trial: the gallery.
    pub gallery: Option<GalleryShape>,
    /// Of an attacked trial: queries that moved, in the plane of the clean gallery.
    pub arrows: Vec<Arrow>,
}

/// Shape of the searched embeddings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GalleryShape {
    /// Images.
    pub images: u32,
    /// Singular values divided by their sum, descending.
    pub spectrum: Vec<f64>,
    /// Width of a bin of the two histograms, in units of distance.
    pub bin_width: f64,
    /// Distances between images of one class: share of the pairs in each bin, from 0.
    pub intra: Vec<f64>,
    /// Distances between images of two classes: share of the pairs in each bin, from 0.
    pub inter: Vec<f64>,
    /// Pairs counted: within classes and between them.
    pub pairs: [u64; 2],
    /// Shares of the variance along the two axes of the map.
    pub variance: [f64; 2],
    /// Some images of the gallery on the map.
    pub points: Vec<Point>,
}

/// An image on the map.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Class.
    pub label: u32,
    /// Place.
    pub at: [f64; 2],
}

/// A query before and after.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Arrow {
    /// Index of the image in the data set.
    pub query: u32,
    /// Class.
    pub label: u32,
    /// Place of the clean query.
    pub from: [f64; 2],
    /// Place of the attacked query.
    pub to: [f64; 2],
    /// Whether it was right before and is wrong after.
    pub flipped: bool,
}

//! Labelled images, whole in memory or memory-mapped, and their class-disjoint splits.
//!
//! An [`ImageSet`] is already resized: planar RGB bytes, so that nothing downstream decodes a picture.

pub mod augment;
pub mod cache;
pub mod emoji;
mod error;
pub mod folder;
pub mod glyphs;
pub mod layout;
pub mod listing;
pub mod loader;
pub mod open;
pub mod originals;
pub mod pictures;
mod resize;
pub mod split;

pub use error::DatasetError;
pub use glyphs::GlyphsSpec;
pub use loader::Loader;
pub use open::{DatasetState, DatasetStatus, VerifyReport, fetch, list, open, verify};
pub use originals::Originals;

use std::ops::Range;
use std::sync::Arc;

use crate::batch::Images;
use crate::digest::Digest;

/// Bytes of all images, in memory or mapped from the cache file.
#[derive(Debug, Clone)]
pub enum Pixels {
    /// In memory.
    Owned(Arc<Vec<u8>>),
    /// A range of a memory-mapped file.
    Mapped(Arc<memmap2::Mmap>, Range<usize>),
}

impl Pixels {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(map, range) => &map[range.clone()],
        }
    }
}

/// A labelled set of equally sized RGB images.
#[derive(Debug, Clone)]
pub struct ImageSet {
    /// Which data set: `emoji`, `glyphs`, a folder's name.
    pub id: String,
    /// Side of the square images in pixels.
    pub size: usize,
    /// `[n, 3, size, size]` bytes, channel planes in RGB order.
    pub pixels: Pixels,
    /// Class of each image, index into `classes`.
    pub labels: Vec<u32>,
    /// Name of each class.
    pub classes: Vec<String>,
    /// Where each image came from (file name, artist), for galleries.
    pub sources: Vec<String>,
    /// Which images train, validate and test; by class.
    pub split: Split,
    /// Of the pixels, labels and split.
    pub digest: Digest,
    /// The picture files at their full size, if the set is made of files.
    pub originals: Originals,
}

/// Class-disjoint index lists, each ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// Images of training classes.
    pub train: Vec<usize>,
    /// Images of classes kept back from training for model selection.
    pub validation: Vec<usize>,
    /// Images of unseen classes on which numbers are reported: queries and gallery, or the gallery alone if `queries`
    /// is not empty.
    pub test: Vec<usize>,
    /// Queries of a data set that keeps them apart from its gallery (In-shop); empty otherwise.
    pub queries: Vec<usize>,
}

impl ImageSet {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of image `i`: `[3, size, size]`.
    pub fn bytes(&self, i: usize) -> &[u8] {
        let stride = 3 * self.size * self.size;
        &self.pixels.as_slice()[i * stride..(i + 1) * stride]
    }

    /// The images at `indices` as `[n, 3, size, size]` in `[0, 1]` (`byte / 255`).
    pub fn images(&self, indices: &[usize]) -> Images {
        let stride = 3 * self.size * self.size;
        let mut data = Vec::with_capacity(indices.len() * stride);
        for &i in indices {
            data.extend(self.bytes(i).iter().map(|&byte| f32::from(byte) / 255.0));
        }
        Images::new([indices.len(), 3, self.size, self.size], data).expect("stride and shape agree by construction")
    }

    /// Labels of the images at `indices`.
    pub fn labels_of(&self, indices: &[usize]) -> Vec<u32> {
        indices.iter().map(|&i| self.labels[i]).collect()
    }
}

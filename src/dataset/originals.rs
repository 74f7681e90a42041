//! Pictures at their full size, decoded when they are asked for: what random crops of a training are cut from.
//!
//! A set's cached pixels are squares of the size that the network sees, right for tests. A crop from such a square sees
//! less than one from the picture: borders are gone, and a small window is blurred. torchvision's loader cuts the picture.

use std::sync::Arc;

use super::DatasetError;
use super::listing::Listed;
use super::pictures;

/// The files behind an [`ImageSet`](super::ImageSet), image by image; none for a set that is not made of picture files.
#[derive(Debug, Clone, Default)]
pub struct Originals(Option<Arc<Vec<Listed>>>);

/// A decoded picture, or its region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[3, height, width]` bytes, channel planes in RGB order.
    pub planes: Vec<u8>,
}

impl Originals {
    /// One file an image, in the order of the images.
    pub fn new(files: Vec<Listed>) -> Self {
        Self(Some(Arc::new(files)))
    }

    /// Whether there are files at all.
    pub fn are_there(&self) -> bool {
        self.0.is_some()
    }

    /// Decodes image `i`; `None` if there is no file of it.
    ///
    /// # Errors
    /// [`DatasetError::Picture`] or [`DatasetError::Read`] naming the file, gone or changed since the set was opened.
    pub fn decode(&self, i: usize) -> Result<Option<Picture>, DatasetError> {
        let Some(file) = self.0.as_ref().and_then(|files| files.get(i)) else { return Ok(None) };
        let picture = pictures::decode(file)?;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        Ok(Some(Picture { width, height, planes: pictures::planar(&picture) }))
    }
}

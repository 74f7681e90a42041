//! Data sets of the literature at the layout their authors publish: which file is of which class, box and part.
//!
//! Nothing is downloaded: `path` names the folder that the user unpacked. Counts are compared with the published ones
//! ([`Published`]) and a difference is said, not refused: halves and samples of these sets are in use too.

mod cars196;
mod cub200;
mod idx;
mod inshop;
mod manifest;
mod mat;
mod omniglot;
mod sop;
mod text;

pub use idx::open as open_idx;

use super::listing::{Listing, Part, Region};
use super::{DatasetError, folder};
use crate::suite::dataset::{DatasetSpec, RegionRule};

/// Lists the pictures of an official layout; absent for a data set that is none.
///
/// # Errors
/// [`DatasetError::Folder`] naming the list and line, [`DatasetError::Read`] naming a picture that is not there.
pub fn list(spec: &DatasetSpec) -> Result<Option<Listing>, DatasetError> {
    let mut listing = match spec {
        DatasetSpec::Cub200(pictures) => cub200::list(pictures)?,
        DatasetSpec::Cars196(pictures) => cars196::list(pictures)?,
        DatasetSpec::Sop(pictures) => sop::list(pictures)?,
        DatasetSpec::Inshop(pictures) => inshop::list(pictures)?,
        DatasetSpec::Omniglot(pictures) => omniglot::list(pictures)?,
        DatasetSpec::Manifest(pictures) => manifest::list(pictures)?,
        _ => return Ok(None),
    };
    if let Some(rule) = spec.pictures().and_then(|pictures| pictures.split.as_ref()) {
        let test = folder::test_classes(rule, &listing.classes)?;
        listing.test_on(&test);
    }
    Ok(Some(listing))
}

/// Published sizes of a data set: `(classes, images)` of the train and test part.
///
/// # Source
/// CUB, Cars and SOP: supplement of arXiv:2211.16253 (PAPER.md 3.1). In-shop: Liu et al. 2016, "DeepFashion"; its test
/// part is the gallery, 3,985 items in 12,612 pictures, beside 14,218 queries. Omniglot: Lake et al. 2015.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Classes and images of the train part.
    pub train: (usize, usize),
    /// Classes and images of the test part, queries included.
    pub test: (usize, usize),
}

/// What was published of this data set, if anything.
pub fn published(spec: &DatasetSpec) -> Option<Published> {
    let of = |train, test| Some(Published { train, test });
    match spec {
        DatasetSpec::Cub200(_) => of((100, 5_864), (100, 5_924)),
        DatasetSpec::Cars196(_) => of((98, 8_054), (98, 8_131)),
        DatasetSpec::Sop(_) => of((11_318, 59_551), (11_316, 60_502)),
        DatasetSpec::Inshop(_) => of((3_997, 25_882), (3_985, 26_830)),
        DatasetSpec::Omniglot(_) => of((964, 19_280), (659, 13_180)),
        _ => None,
    }
}

/// A sentence if the listing is not of the published size.
pub fn difference(spec: &DatasetSpec, listing: &Listing) -> Option<String> {
    let published = published(spec)?;
    let count = |train: bool| {
        let mut classes = std::collections::BTreeSet::new();
        let images = listing.pictures.iter().filter(|p| (p.part == Part::Train) == train);
        let n = images.map(|p| classes.insert(p.label)).count();
        (classes.len(), n)
    };
    let found = Published { train: count(true), test: count(false) };
    (found != published).then(|| {
        let show = |(classes, images): (usize, usize)| format!("{images} images of {classes} classes");
        format!(
            "{} in {}: {} train and {} test, published are {} and {}; numbers will not compare with published ones",
            listing.id,
            listing.root.display(),
            show(found.train),
            show(found.test),
            show(published.train),
            show(published.test)
        )
    })
}

/// A box by its first and last column and row, counted from 1, as MATLAB annotations and DeepFashion have it.
fn corners(rule: RegionRule, [x1, y1, x2, y2]: [u32; 4]) -> Result<Option<Region>, String> {
    if rule == RegionRule::Whole {
        return Ok(None);
    }
    if x1 < 1 || y1 < 1 || x2 < x1 || y2 < y1 {
        return Err(format!("box ({x1}, {y1}) to ({x2}, {y2}), wanted corners from 1 with the second after the first"));
    }
    Ok(Some(Region { left: x1 - 1, top: y1 - 1, width: x2 - x1 + 1, height: y2 - y1 + 1 }))
}

#[cfg(test)]
mod tests;

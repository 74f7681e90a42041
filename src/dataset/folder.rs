//! The user's own pictures: one folder a class, any format the `image` crate reads.
//!
//! Class names are the folder names, sorted by bytes; pictures are taken in the order of their sorted paths, sub
//! folders included. Hidden files and files without a known picture extension are not pictures. A class with one image
//! is kept: it has no positive, so it is never a query, but it stays in the gallery ([`super::VerifyReport`] counts
//! them). An empty class folder is an error.

use std::collections::BTreeSet;
use std::path::Path;

use super::listing::{Listing, Part, entries, is_picture, wrong};
use super::{DatasetError, split};
use crate::suite::dataset::SplitRule;

/// Everything below a folder of class folders, all of it in the train part.
///
/// # Errors
/// [`DatasetError::Folder`]: no folder, no class, a class without a picture.
pub fn list(id: &str, root: &Path) -> Result<Listing, DatasetError> {
    if !root.is_dir() {
        return Err(wrong(root, "is no folder; `path` names a folder that holds one folder a class"));
    }
    let mut listing = Listing::new(id, root);
    for (name, path) in entries(root)?.into_iter().filter(|(_, path)| path.is_dir()) {
        let before = listing.pictures.len();
        find_pictures(&path, &name, &mut listing)?;
        if listing.pictures.len() == before {
            return Err(wrong(&path, "holds no picture; put some in or remove the folder"));
        }
        listing.classes.push(name);
    }
    if listing.classes.len() < 2 {
        return Err(wrong(root, format!("holds {} class folders, wanted at least 2", listing.classes.len())));
    }
    Ok(listing)
}

/// Every picture in a folder and below it, without classes.
///
/// # Errors
/// [`DatasetError::Folder`]: no folder, or no picture in it.
pub(super) fn unsorted(root: &Path) -> Result<Listing, DatasetError> {
    if !root.is_dir() {
        return Err(wrong(root, "is no folder; name one with pictures in it or below it"));
    }
    let mut listing = Listing::new("pictures", root);
    find_pictures(root, "", &mut listing)?;
    if listing.pictures.is_empty() {
        return Err(wrong(root, "holds no picture; png, jpeg, webp, gif, bmp, tiff and pnm are read"));
    }
    Ok(listing)
}

fn find_pictures(folder: &Path, prefix: &str, listing: &mut Listing) -> Result<(), DatasetError> {
    for (name, path) in entries(folder)? {
        let name = format!("{prefix}/{name}");
        if path.is_dir() {
            find_pictures(&path, &name, listing)?;
        } else if is_picture(&path) {
            let label = listing.classes.len() as u32;
            listing.push(path, name, label, Part::Train, None)?;
        }
    }
    Ok(())
}

/// Test classes by the suite's rule.
///
/// # Errors
/// [`DatasetError::Folder`] if a list names a class that does not exist, or leaves no test class.
pub fn test_classes(rule: &SplitRule, classes: &[String]) -> Result<BTreeSet<usize>, DatasetError> {
    match rule {
        SplitRule::FirstHalf => Ok(split::by_order(classes, 0.5)),
        SplitRule::Fraction { train } => Ok(split::by_order(classes, *train)),
        SplitRule::Hash { test } => Ok(split::by_hash(classes, *test)),
        SplitRule::List { test: path } => {
            let text = std::fs::read_to_string(path).map_err(DatasetError::read(path))?;
            let names = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let mut test = BTreeSet::new();
            let mut unknown = Vec::new();
            for name in names {
                match classes.binary_search_by(|class| class.as_str().cmp(name)) {
                    Ok(class) => drop(test.insert(class)),
                    Err(_) => unknown.push(format!("`{name}`")),
                }
            }
            if !unknown.is_empty() {
                let shown = unknown[..unknown.len().min(5)].join(", ");
                return Err(wrong(path, format!("{} names are no class folder: {shown}", unknown.len())));
            }
            if test.is_empty() {
                return Err(wrong(path, "names no test class; write one class folder a line"));
            }
            Ok(test)
        }
    }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;

//! CUB-200-2011 (Wah et al. 2011): `images.txt` with its companions, or the class folders alone.
//!
//! Classes with ids up to 100 train, the others test; the id is the number that a class name begins with.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::text::Table;
use crate::dataset::listing::{Listing, Part, Region, wrong};
use crate::dataset::{DatasetError, folder};
use crate::suite::dataset::{PictureSpec, RegionRule};

/// Last class id that trains.
const LAST_TRAINING_ID: u32 = 100;

pub(super) fn list(spec: &PictureSpec) -> Result<Listing, DatasetError> {
    let root = inner(&spec.path);
    let mut listing = if root.join("images.txt").is_file() { from_lists(spec, &root)? } else { from_folders(spec)? };
    let mut test = std::collections::BTreeSet::new();
    for (label, class) in listing.classes.iter().enumerate() {
        let id = class.split('.').next().and_then(|id| id.parse::<u32>().ok());
        let id =
            id.ok_or_else(|| wrong(&spec.path, format!("class `{class}` does not begin with its id and a dot")))?;
        if id > LAST_TRAINING_ID {
            test.insert(label);
        }
    }
    listing.test_on(&test);
    Ok(listing)
}

/// The archive unpacks to a folder of this name.
fn inner(path: &Path) -> PathBuf {
    let inner = path.join("CUB_200_2011");
    if inner.is_dir() { inner } else { path.to_path_buf() }
}

fn from_folders(spec: &PictureSpec) -> Result<Listing, DatasetError> {
    let root = inner(&spec.path);
    if spec.region == RegionRule::Box {
        return Err(wrong(&root, "region = \"box\" needs images.txt and bounding_boxes.txt, which are not here"));
    }
    let images = root.join("images");
    folder::list("cub200", if images.is_dir() { &images } else { &root })
}

fn from_lists(spec: &PictureSpec, root: &Path) -> Result<Listing, DatasetError> {
    let mut listing = Listing::new("cub200", root);
    let classes = Table::read(root.join("classes.txt"))?;
    let mut label_of: HashMap<u32, u32> = HashMap::new();
    for row in classes.rows(0, 2)? {
        label_of.insert(row.number(0, "the class id")?, listing.classes.len() as u32);
        listing.classes.push(row.columns[1].to_string());
    }
    let mut labels: HashMap<u32, u32> = HashMap::new();
    let table = Table::read(root.join("image_class_labels.txt"))?;
    for row in table.rows(0, 2)? {
        let class: u32 = row.number(1, "the class id")?;
        let label = label_of.get(&class).ok_or_else(|| row.wrong(format!("class {class} is not in classes.txt")))?;
        labels.insert(row.number(0, "the image id")?, *label);
    }
    let boxes = if spec.region == RegionRule::Box { boxes(root)? } else { HashMap::new() };
    let table = Table::read(root.join("images.txt"))?;
    for row in table.rows(0, 2)? {
        let (id, name): (u32, &str) = (row.number(0, "the image id")?, row.columns[1]);
        let missing = |file: &str| row.wrong(format!("image {id} (`{name}`) is not in {file}"));
        let label = *labels.get(&id).ok_or_else(|| missing("image_class_labels.txt"))?;
        let region = match spec.region {
            RegionRule::Whole => None,
            RegionRule::Box => Some(*boxes.get(&id).ok_or_else(|| missing("bounding_boxes.txt"))?),
        };
        listing.push(root.join("images").join(name), name.to_string(), label, Part::Train, region)?;
    }
    Ok(listing)
}

/// `id x y width height`, corner from 0.
fn boxes(root: &Path) -> Result<HashMap<u32, Region>, DatasetError> {
    let path = root.join("bounding_boxes.txt");
    if !path.is_file() {
        return Err(wrong(&path, "is missing; get it with the data set, or set region = \"whole\""));
    }
    let table = Table::read(path)?;
    let rows = table.rows(0, 5)?;
    rows.iter()
        .map(|row| {
            let [left, top, width, height] = [row.pixel(1)?, row.pixel(2)?, row.pixel(3)?, row.pixel(4)?];
            Ok((row.number(0, "the image id")?, Region { left, top, width, height }))
        })
        .collect()
}

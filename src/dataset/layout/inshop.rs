//! In-shop clothes retrieval of DeepFashion (Liu et al. 2016): `list_eval_partition.txt` with a count, a head line and
//! `image_name item_id status`, where status is `train`, `query` or `gallery`. Query and gallery are apart.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::corners;
use super::text::Table;
use crate::dataset::DatasetError;
use crate::dataset::listing::{Listing, Part, Region, wrong};
use crate::suite::dataset::{PictureSpec, RegionRule};

pub(super) fn list(spec: &PictureSpec) -> Result<Listing, DatasetError> {
    let root = &spec.path;
    let path = first_of(root, &["Eval/list_eval_partition.txt", "list_eval_partition.txt"])?;
    let boxes = if spec.region == RegionRule::Box { boxes(root)? } else { HashMap::new() };
    let mut listing = Listing::new("inshop", root);
    let mut labels: HashMap<String, u32> = HashMap::new();
    let table = Table::read(path)?;
    for row in table.rows(2, 3)? {
        let [name, item, status] = row.columns[..] else { continue };
        let part = match status {
            "train" => Part::Train,
            "query" => Part::Query,
            "gallery" => Part::Test,
            other => return Err(row.wrong(format!("status `{other}`, wanted train, query or gallery"))),
        };
        let label = *labels.entry(item.to_string()).or_insert_with(|| {
            listing.classes.push(item.to_string());
            listing.classes.len() as u32 - 1
        });
        let region = match spec.region {
            RegionRule::Whole => None,
            RegionRule::Box => Some(
                *boxes.get(name).ok_or_else(|| row.wrong(format!("`{name}` has no box in list_bbox_inshop.txt")))?,
            ),
        };
        let inner = root.join("Img").join(name);
        let file = if inner.is_file() { inner } else { root.join(name) };
        listing.push(file, name.to_string(), label, part, region)?;
    }
    Ok(listing)
}

fn first_of(root: &Path, names: &[&str]) -> Result<PathBuf, DatasetError> {
    let found = names.iter().map(|name| root.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| wrong(root, format!("holds none of {}; unpack the data set here", names.join(", "))))
}

/// `image_name clothes_type pose_type x_1 y_1 x_2 y_2`, corners from 1.
fn boxes(root: &Path) -> Result<HashMap<String, Region>, DatasetError> {
    let table = Table::read(first_of(root, &["Anno/list_bbox_inshop.txt", "list_bbox_inshop.txt"])?)?;
    let rows = table.rows(2, 7)?;
    let mut boxes = HashMap::with_capacity(rows.len());
    for row in &rows {
        let edges = [row.pixel(3)?.max(1), row.pixel(4)?.max(1), row.pixel(5)?, row.pixel(6)?];
        if let Some(region) = corners(RegionRule::Box, edges).map_err(|reason| row.wrong(reason))? {
            boxes.insert(row.columns[0].to_string(), region);
        }
    }
    Ok(boxes)
}

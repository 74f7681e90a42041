//! Stanford Online Products (Oh Song et al. 2016): `Ebay_train.txt` and `Ebay_test.txt`, each with a head line and
//! `image_id class_id super_class_id path`. The data set has no boxes.

use std::collections::HashMap;
use std::path::PathBuf;

use super::text::Table;
use crate::dataset::DatasetError;
use crate::dataset::listing::{Listing, Part, wrong};
use crate::suite::dataset::{PictureSpec, RegionRule};

pub(super) fn list(spec: &PictureSpec) -> Result<Listing, DatasetError> {
    let inner = spec.path.join("Stanford_Online_Products");
    let root: PathBuf = if inner.is_dir() { inner } else { spec.path.clone() };
    if spec.region == RegionRule::Box {
        return Err(wrong(&root, "Stanford Online Products has no boxes; set region = \"whole\""));
    }
    let mut listing = Listing::new("sop", &root);
    let mut labels: HashMap<u32, u32> = HashMap::new();
    for (file, part) in [("Ebay_train.txt", Part::Train), ("Ebay_test.txt", Part::Test)] {
        let table = Table::read(root.join(file))?;
        for row in table.rows(1, 4)? {
            let class: u32 = row.number(1, "the class id")?;
            let label = *labels.entry(class).or_insert_with(|| {
                listing.classes.push(format!("{class:05}"));
                listing.classes.len() as u32 - 1
            });
            let name = row.columns[3];
            listing.push(root.join(name), name.to_string(), label, part, None)?;
        }
    }
    Ok(listing)
}

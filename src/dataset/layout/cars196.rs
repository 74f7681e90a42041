//! Stanford Cars (Krause et al. 2013): `cars_annos.mat` with the folder `car_ims`, or class folders alone.
//!
//! Classes 1 to 98 train, 99 to 196 test. Folders are numbered by their names if all of them begin with `001.` and the
//! like; else their order counts, and the first half trains.

use std::collections::BTreeSet;
use std::path::Path;

use super::mat::{self, Value};
use super::{corners, mat::Value::Structs};
use crate::dataset::listing::{Listing, Part, wrong};
use crate::dataset::{DatasetError, folder, split};
use crate::suite::dataset::{PictureSpec, RegionRule};

/// Last class id that trains.
const LAST_TRAINING_ID: usize = 98;

pub(super) fn list(spec: &PictureSpec) -> Result<Listing, DatasetError> {
    let annotations = spec.path.join("cars_annos.mat");
    if annotations.is_file() {
        let mut listing = from_annotations(spec, &annotations)?;
        listing.test_on(&(LAST_TRAINING_ID..listing.classes.len()).collect());
        return Ok(listing);
    }
    if spec.region == RegionRule::Box {
        return Err(wrong(&annotations, "is missing; get it with the data set, or set region = \"whole\""));
    }
    let mut listing = folder::list("cars196", &spec.path)?;
    let id = |class: &String| class.split('.').next().and_then(|id| id.parse::<usize>().ok());
    let ids: Option<Vec<usize>> = listing.classes.iter().map(id).collect();
    let test: BTreeSet<usize> = match ids {
        Some(ids) => (0..ids.len()).filter(|&label| ids[label] > LAST_TRAINING_ID).collect(),
        None => split::by_order(&listing.classes, 0.5),
    };
    listing.test_on(&test);
    Ok(listing)
}

/// Positions of the fields that are used.
struct Fields {
    path: usize,
    class: usize,
    edges: [usize; 4],
}

impl Fields {
    fn find(fields: &[String]) -> Result<Self, String> {
        let at = |name: &str| {
            let found = fields.iter().position(|field| field == name);
            found.ok_or_else(|| format!("`annotations` has no field `{name}`, only {}", fields.join(", ")))
        };
        let edges = [at("bbox_x1")?, at("bbox_y1")?, at("bbox_x2")?, at("bbox_y2")?];
        Ok(Self { path: at("relative_im_path")?, class: at("class")?, edges })
    }
}

fn from_annotations(spec: &PictureSpec, path: &Path) -> Result<Listing, DatasetError> {
    let bytes = std::fs::read(path).map_err(DatasetError::read(path))?;
    let fail = |reason: String| wrong(path, reason);
    let variables = mat::read(&bytes).map_err(fail)?;
    let variable = |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, value)| value);
    let Some(Structs { fields, values }) = variable("annotations") else {
        return Err(fail("holds no struct array `annotations`".into()));
    };
    let at = Fields::find(fields).map_err(fail)?;
    let mut listing = Listing::new("cars196", &spec.path);
    let mut largest = 0;
    for (i, record) in values.chunks(fields.len()).enumerate() {
        let bad = |reason: String| wrong(path, format!("annotation {}: {reason}", i + 1));
        let Some(Value::Text(name)) = record.get(at.path) else { return Err(bad("has no path".into())) };
        let number = |field: usize| {
            let value = record.get(field).and_then(Value::number).filter(|v| (0.0..=1e6).contains(v));
            value.map(|v| v as u32).ok_or_else(|| bad(format!("`{}` is no number from 0 to 1000000", fields[field])))
        };
        let class = number(at.class)?;
        if class == 0 {
            return Err(bad("class 0, wanted 1 or more".into()));
        }
        let [x1, y1, x2, y2] = at.edges;
        let region = corners(spec.region, [number(x1)?, number(y1)?, number(x2)?, number(y2)?]).map_err(&bad)?;
        largest = largest.max(class);
        listing.push(spec.path.join(name), name.clone(), class - 1, Part::Train, region)?;
    }
    let names: Vec<&Value> = match variable("class_names") {
        Some(Value::Cells(names)) => names.iter().collect(),
        _ => vec![],
    };
    let name = |class: u32| match names.get(class as usize) {
        Some(Value::Text(name)) => format!("{:03}.{name}", class + 1),
        _ => format!("{:03}", class + 1),
    };
    listing.classes = (0..largest).map(name).collect();
    Ok(listing)
}

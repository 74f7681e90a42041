//! A list of the user's own: a CSV file with a head line, or a Parquet file (`.parquet`) with the same columns.
//!
//! Columns, in any order: `path` (relative to the manifest), `label`; if wanted `split` (`train`, `test`, `query`,
//! `gallery`; all lines or none) and a box `left`, `top`, `width`, `height` in pixels from 0. Other columns are errors,
//! so that a misspelt one is not silently ignored.

use std::collections::HashMap;
use std::path::Path;

use crate::dataset::listing::{Listing, Part, Region, wrong};
use crate::dataset::{DatasetError, folder};
use crate::record::foreign::ForeignTable;
use crate::record::frames::FrameError;
use crate::suite::dataset::{PictureSpec, RegionRule, SplitRule};

const COLUMNS: [&str; 7] = ["path", "label", "split", "left", "top", "width", "height"];

pub(super) fn list(spec: &PictureSpec) -> Result<Listing, DatasetError> {
    let path = &spec.path;
    let parquet = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet"));
    let Table { columns, rows } = if parquet { from_parquet(path)? } else { from_csv(path)? };
    if spec.region == RegionRule::Box && columns.region.is_none() {
        return Err(wrong(path, "region = \"box\" needs the columns left, top, width, height"));
    }
    let root = path.parent().unwrap_or(Path::new("."));
    let id = path.file_stem().map_or_else(|| "manifest".into(), |stem| stem.to_string_lossy().into_owned());
    let mut listing = Listing::new(&id, root);
    let mut labels: HashMap<String, u32> = HashMap::new();
    for (place, fields) in &rows {
        let field = |column: usize| fields.get(column).map_or("", String::as_str);
        let bad = |reason: String| wrong(path, format!("{place}: {reason}"));
        let (name, label) = (field(columns.path), field(columns.label));
        if name.is_empty() || label.is_empty() {
            return Err(bad("path and label must not be empty".into()));
        }
        let part = match columns.split.map(field) {
            None | Some("train") => Part::Train,
            Some("test" | "gallery") => Part::Test,
            Some("query") => Part::Query,
            Some(other) => return Err(bad(format!("split `{other}`, wanted train, test, query or gallery"))),
        };
        let region = match (spec.region, columns.region) {
            (RegionRule::Box, Some(at)) => Some(region(at.map(field)).map_err(bad)?),
            _ => None,
        };
        let class = *labels.entry(label.to_string()).or_insert_with(|| {
            listing.classes.push(label.to_string());
            listing.classes.len() as u32 - 1
        });
        listing.push(root.join(name), name.to_string(), class, part, region)?;
    }
    sort_classes(&mut listing);
    match (columns.split, &spec.split) {
        (Some(_), Some(_)) => return Err(wrong(path, "has a column `split`, so the suite must not give one too")),
        (None, None) => {
            let test = folder::test_classes(&SplitRule::default(), &listing.classes)?;
            listing.test_on(&test);
        }
        _ => {}
    }
    Ok(listing)
}

/// A manifest as text.
struct Table {
    columns: Columns,
    /// Where a row stands, for messages, and its fields.
    rows: Vec<(String, Vec<String>)>,
}

fn from_csv(path: &Path) -> Result<Table, DatasetError> {
    let text = std::fs::read_to_string(path).map_err(DatasetError::read(path))?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let fail = |e: csv::Error| wrong(path, format!("not a CSV file: {e}"));
    let columns = Columns::find(path, &reader.headers().map_err(fail)?.iter().collect::<Vec<_>>())?;
    let row = |record: csv::StringRecord| {
        let line = record.position().map_or(0, csv::Position::line);
        (format!("line {line}"), record.iter().map(String::from).collect())
    };
    let rows = reader.records().map(|record| record.map(row).map_err(fail)).collect::<Result<_, _>>()?;
    Ok(Table { columns, rows })
}

fn from_parquet(path: &Path) -> Result<Table, DatasetError> {
    let bytes = std::fs::read(path).map_err(DatasetError::read(path))?;
    let fail = |e: FrameError| wrong(path, e.to_string());
    let table = ForeignTable::open(bytes).map_err(fail)?;
    let columns = Columns::find(path, &table.names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let values = table.read().map_err(fail)?;
    let row = |i: usize| (format!("row {}", i + 1), values.iter().map(|column| column[i].trim().to_string()).collect());
    let rows = (0..values[columns.path].len()).map(row).collect();
    Ok(Table { columns, rows })
}

struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
    region: Option<[usize; 4]>,
}

impl Columns {
    fn find(path: &Path, head: &[&str]) -> Result<Self, DatasetError> {
        if let Some(unknown) = head.iter().find(|name| !COLUMNS.contains(name)) {
            return Err(wrong(path, format!("column `{unknown}` is unknown; known are {}", COLUMNS.join(", "))));
        }
        let at = |name: &str| head.iter().position(|column| *column == name);
        let needed = |name: &str| at(name).ok_or_else(|| wrong(path, format!("has no column `{name}`")));
        let found: Vec<usize> = COLUMNS[3..].iter().filter_map(|name| at(name)).collect();
        let region = match <[usize; 4]>::try_from(found) {
            Ok(region) => Some(region),
            Err(found) if found.is_empty() => None,
            Err(_) => return Err(wrong(path, "a box needs all of left, top, width, height")),
        };
        Ok(Self { path: needed("path")?, label: needed("label")?, split: at("split"), region })
    }
}

fn region(fields: [&str; 4]) -> Result<Region, String> {
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` in a box, wanted whole pixels"));
    let [left, top, width, height] = [number(fields[0])?, number(fields[1])?, number(fields[2])?, number(fields[3])?];
    if width == 0 || height == 0 {
        return Err(format!("a box of {width}×{height} pixels"));
    }
    Ok(Region { left, top, width, height })
}

/// Classes in byte order of their names, as for a folder, so that line order carries nothing.
fn sort_classes(listing: &mut Listing) {
    let mut order: Vec<usize> = (0..listing.classes.len()).collect();
    order.sort_by(|&a, &b| listing.classes[a].cmp(&listing.classes[b]));
    let mut place = vec![0u32; order.len()];
    order.iter().enumerate().for_each(|(new, &old)| place[old] = new as u32);
    listing.classes.sort();
    listing.pictures.iter_mut().for_each(|p| p.label = place[p.label as usize]);
}

//! A data set of picture files before any is decoded: what there is, of which class, which part of it, in which split.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::DatasetError;

/// What counts as a picture.
const EXTENSIONS: [&str; 13] =
    ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "pnm", "ppm", "pgm", "pbm", "pam"];

/// Whether a picture's part of the data set is given by the data set itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Part {
    /// Trains (or validates, by class).
    Train,
    /// Tests: query and gallery.
    Test,
    /// Tests as a query only; the test part is then the gallery.
    Query,
}

/// A rectangle of a picture in whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Region {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Columns, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
}

/// One picture.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Where it lies.
    pub path: PathBuf,
    /// Relative to the data set's root, `/` between parts; unique.
    pub name: String,
    /// Index into [`Listing::classes`].
    pub label: u32,
    /// What is cut out before resizing; absent: the whole picture.
    pub region: Option<Region>,
    /// Part of the data set.
    pub part: Part,
    /// Length of the file in bytes.
    pub length: u64,
    /// Nanoseconds since 1970 of its last change.
    pub changed: u128,
}

/// All pictures of a data set.
#[derive(Debug, Clone)]
pub struct Listing {
    /// For messages, caches and records: `cub200`, a folder's name.
    pub id: String,
    /// The folder that the user named.
    pub root: PathBuf,
    /// Name of each class.
    pub classes: Vec<String>,
    /// The pictures.
    pub pictures: Vec<Listed>,
}

impl Listing {
    /// An empty one.
    pub fn new(id: &str, root: &Path) -> Self {
        Self { id: id.into(), root: root.to_path_buf(), classes: vec![], pictures: vec![] }
    }

    /// Adds a picture after a look at the file.
    ///
    /// # Errors
    /// [`DatasetError::Read`] naming the file if it is not there.
    pub fn push(
        &mut self,
        path: PathBuf,
        name: String,
        label: u32,
        part: Part,
        region: Option<Region>,
    ) -> Result<(), DatasetError> {
        let meta = std::fs::metadata(&path).map_err(DatasetError::read(&path))?;
        let changed = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
        self.pictures.push(Listed { path, name, label, region, part, length: meta.len(), changed });
        Ok(())
    }

    /// Refuses a data set of fewer than two classes, and a class that trains and tests: the classes of the test part
    /// must be new to the model.
    ///
    /// # Errors
    /// [`DatasetError::Folder`] naming the root.
    pub fn check(&self) -> Result<(), DatasetError> {
        if self.classes.len() < 2 {
            return Err(wrong(&self.root, format!("holds {} classes, wanted at least 2", self.classes.len())));
        }
        let mut trains = vec![false; self.classes.len()];
        self.pictures.iter().filter(|p| p.part == Part::Train).for_each(|p| trains[p.label as usize] = true);
        let both = self.pictures.iter().find(|p| p.part != Part::Train && trains[p.label as usize]);
        if let Some(both) = both {
            let class = &self.classes[both.label as usize];
            let reason = format!("class `{class}` has pictures in the train and in the test part (`{}`)", both.name);
            return Err(wrong(&self.root, reason));
        }
        Ok(())
    }

    /// Labels of the classes that test.
    pub fn test_classes(&self) -> BTreeSet<usize> {
        self.pictures.iter().filter(|p| p.part != Part::Train).map(|p| p.label as usize).collect()
    }

    /// Puts every picture of the given classes into the test part, all others into the train part.
    pub fn test_on(&mut self, test: &BTreeSet<usize>) {
        for picture in &mut self.pictures {
            picture.part = if test.contains(&(picture.label as usize)) { Part::Test } else { Part::Train };
        }
    }
}

/// An error about a folder or a list.
pub(super) fn wrong(path: &Path, reason: impl Into<String>) -> DatasetError {
    DatasetError::Folder { path: path.to_path_buf(), reason: reason.into() }
}

/// Entries of a folder in byte order of their names, hidden ones left out.
pub(super) fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, DatasetError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DatasetError::read(folder))? {
        let path = entry.map_err(DatasetError::read(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether the file's name ends like a picture's.
pub(super) fn is_picture(path: &Path) -> bool {
    path.extension().is_some_and(|e| EXTENSIONS.contains(&e.to_string_lossy().to_ascii_lowercase().as_str()))
}

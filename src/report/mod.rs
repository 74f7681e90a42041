//! Runs become tables, charts and pages: `report.html`, `report.md`, `charts/*.svg`, and a table for the terminal.
//!
//! The same run gives the same bytes: times and thread counts stay in the manifest.

use std::path::{Path, PathBuf};

use crate::artefact::{WriteError, write_bytes};
use crate::record::Run;

pub mod answer;
pub mod chart;
pub mod comparison;
pub mod markdown;
pub mod material;
pub mod metrics;
pub mod page;
pub mod robustness;
pub mod seed_mean;
pub mod summary;
pub mod table;
pub mod terminal;
mod words;

pub use chart::{Chart, ChartError};
pub use material::Material;
pub use summary::Summary;

/// A report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A chart could not be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A picture of the gallery could not be encoded.
    #[error("gallery picture {index}: {why}; delete gallery.json and run the suite again")]
    Picture {
        /// Index of the image in the data set.
        index: u32,
        /// What is wrong.
        why: String,
    },
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFiles {
    /// The page.
    pub html: PathBuf,
    /// The same for GitHub.
    pub markdown: PathBuf,
    /// Its charts.
    pub charts: Vec<PathBuf>,
}

/// Writes the report of a run into its folder.
///
/// # Errors
/// [`ReportError`] naming the file or the picture; no file is ever half written.
pub fn write(run: &Run, folder: &Path) -> Result<ReportFiles, ReportError> {
    let material = Material::of(run);
    let charts = chart::charts(&material)?;
    let mut files =
        ReportFiles { html: folder.join("report.html"), markdown: folder.join("report.md"), charts: vec![] };
    for chart in &charts {
        let path = folder.join("charts").join(format!("{}.svg", chart.name));
        write_bytes(&path, chart.svg.as_bytes())?;
        files.charts.push(path);
    }
    write_bytes(&files.markdown, markdown::page(&material, &charts).as_bytes())?;
    write_bytes(&files.html, page::page(&material, &charts)?.as_bytes())?;
    Ok(files)
}

#[cfg(test)]
mod tests;

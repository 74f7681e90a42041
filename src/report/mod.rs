//! Runs become tables, charts and pages: `report.html`, `report.md`, `charts/*.svg`, `tables/*.tex`, a table for the
//! terminal, and of several runs a leaderboard.
//!
//! The same run gives the same bytes: times and thread counts stay in the manifest.

use std::path::{Path, PathBuf};

use crate::artefact::{WriteError, write_bytes};
use crate::record::{Run, csv, frames};

pub mod answer;
pub mod chart;
pub mod corruptions;
pub mod ers;
pub mod flips;
pub mod latex;
pub mod leaderboard;
pub mod markdown;
pub mod material;
pub mod metrics;
pub mod page;
pub mod published;
pub mod raster;
pub mod robustness;
pub mod seed_mean;
pub mod summary;
pub mod table;
pub mod terminal;
pub mod threat;
pub mod trend;
mod words;

pub use chart::{Chart, ChartError};
pub use leaderboard::Board;
pub use material::Material;
pub use page::Compared;
pub use summary::Summary;
pub use trend::Trend;

/// A report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A chart could not be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A table of a leaderboard could not be made.
    #[error("cannot make a table of the leaderboard: {0}")]
    Table(String),
    /// A chart could not be made a PNG.
    #[error(transparent)]
    Raster(#[from] raster::RasterError),
    /// A picture of a story or of a flipped query could not be encoded.
    #[error("{file}: picture {index}: {why}; delete {file} and run the suite again")]
    Picture {
        /// The file of the run folder that holds it.
        file: &'static str,
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
    /// Its charts, as SVG and perhaps as PNG.
    pub charts: Vec<PathBuf>,
    /// Tables for papers.
    pub tables: Vec<PathBuf>,
}

/// What a report may have besides the run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras<'a> {
    /// Every chart as PNG too, so many times its size.
    pub png: Option<u32>,
    /// The nights before this run.
    pub trend: Option<&'a Trend>,
}

/// Writes the report of a run into its folder.
///
/// # Errors
/// [`ReportError`] naming the file or the picture; no file is ever half written.
pub fn write(run: &Run, folder: &Path, extras: Extras<'_>) -> Result<ReportFiles, ReportError> {
    let material = Material { trend: extras.trend, ..Material::of(run) };
    let charts = chart::charts(&material)?;
    let mut files = ReportFiles {
        html: folder.join("report.html"),
        markdown: folder.join("report.md"),
        charts: vec![],
        tables: vec![],
    };
    for chart in &charts {
        files.charts.extend(write_chart(&chart.name, &chart.svg, folder, extras.png)?);
    }
    for (name, text) in latex::tables(&material) {
        files.tables.push(folder.join("tables").join(format!("{name}.tex")));
        write_bytes(&folder.join("tables").join(format!("{name}.tex")), text.as_bytes())?;
    }
    write_bytes(&files.markdown, markdown::page(&material, &charts).as_bytes())?;
    write_bytes(&files.html, page::page(&material, &charts)?.as_bytes())?;
    Ok(files)
}

/// Writes the page of a comparison.
///
/// # Errors
/// [`ReportError`] naming the file or the picture; the file is never half written.
pub fn write_comparison(compared: &Compared<'_>, path: &Path) -> Result<(), ReportError> {
    Ok(write_bytes(path, page::comparison(compared)?.as_bytes())?)
}

fn write_chart(name: &str, svg: &str, folder: &Path, png: Option<u32>) -> Result<Vec<PathBuf>, ReportError> {
    let path = |ending: &str| folder.join("charts").join(format!("{name}.{ending}"));
    let mut written = vec![path("svg")];
    write_bytes(&written[0], svg.as_bytes())?;
    if let Some(scale) = png {
        write_bytes(&path("png"), &raster::png(svg, scale)?)?;
        written.push(path("png"));
    }
    Ok(written)
}

/// Writes a leaderboard: `leaderboard.html`, `.md`, `.csv`, `.parquet`, and a chart for each ranking that has one. Gives the
/// page.
///
/// # Errors
/// [`ReportError`] naming the file.
pub fn write_leaderboard(
    boards: &[Board],
    runs: &[String],
    folder: &Path,
    png: Option<u32>,
) -> Result<PathBuf, ReportError> {
    let mut charts = Vec::new();
    for (index, board) in boards.iter().enumerate() {
        if let Some(svg) = leaderboard::chart(board) {
            let name = format!("board-{}", index + 1);
            let svg = svg?;
            write_chart(&name, &svg, folder, png)?;
            charts.push(Some(Chart { name, caption: "Clean against robust recall@1.".into(), svg }));
        } else {
            charts.push(None);
        }
    }
    let columns = leaderboard::columns(boards);
    let table = |error: &dyn std::fmt::Display| ReportError::Table(error.to_string());
    write_bytes(&folder.join("leaderboard.csv"), &csv::table(&columns).map_err(|e| table(&e))?)?;
    let parquet = frames::table_to_parquet(&columns).map_err(|e| table(&e))?;
    write_bytes(&folder.join("leaderboard.parquet"), &parquet)?;
    write_bytes(&folder.join("leaderboard.md"), markdown::leaderboard(boards, runs).as_bytes())?;
    let html = folder.join("leaderboard.html");
    write_bytes(&html, page::leaderboard(boards, &charts, runs).as_bytes())?;
    Ok(html)
}

#[cfg(test)]
mod tests;

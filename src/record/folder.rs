//! A run folder: `manifest.json`, `measurements.parquet` and `.csv`, `queries.parquet`, `steps.parquet` and `.csv`,
//! `training.parquet` and `.csv`, `gallery.json`, `flips.json`, `embeddings.json`. The manifest is written last, so a folder that has one is whole.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::csv::CsvError;
use super::frames::{self, FrameError};
use super::{
    EmbeddingView, FlippedQuery, GalleryItem, Manifest, Measurement, QueryOutcome, Run, StepPoint, Thumbnail, csv,
};
use crate::artefact::{WriteError, write_bytes};

/// The version of the format that this program reads and writes.
pub const SCHEMA: u32 = 2;

/// A run folder could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A table could not be made.
    #[error("cannot make a table of this run: {0}")]
    Table(#[source] FrameError),
    /// A CSV table could not be made.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// A file is absent.
    #[error("{}: no such file; this is no finished run folder, run the suite again to complete it", .0.display())]
    Missing(PathBuf),
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is cut short, damaged or not ours.
    #[error("{}: {why}; delete it and run the suite again, finished trials are kept", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The history is cut short, damaged or not ours.
    #[error("{}: {why}; restore it (git checkout), or move it away and a new history begins", path.display())]
    History {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The folder was written by another version.
    #[error("{}: has schema {got}, wanted {SCHEMA}; read it with the version of mdprop that wrote it", path.display())]
    Schema {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        got: u64,
    },
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("records have string keys, so they serialise");
    bytes.push(b'\n');
    bytes
}

/// Writes every file of the run, each whole or not at all.
///
/// # Errors
/// [`FolderError`] naming the file; files already written stay.
pub fn write(run: &Run, folder: &Path) -> Result<(), FolderError> {
    let parquet = |frame: Result<_, FrameError>| frame.and_then(frames::to_parquet).map_err(FolderError::Table);
    let measurements = parquet(frames::measurements_to_frame(&run.measurements))?;
    write_bytes(&folder.join("measurements.parquet"), &measurements)?;
    write_bytes(&folder.join("measurements.csv"), &csv::measurements(&run.measurements)?)?;
    write_bytes(&folder.join("queries.parquet"), &parquet(frames::queries_to_frame(&run.queries))?)?;
    write_bytes(&folder.join("steps.parquet"), &parquet(frames::steps_to_frame(&run.steps))?)?;
    write_bytes(&folder.join("steps.csv"), &csv::steps(&run.steps)?)?;
    write_bytes(&folder.join("training.parquet"), &parquet(frames::training_to_frame(&run.training))?)?;
    write_bytes(&folder.join("training.csv"), &csv::training(&run.training)?)?;
    write_bytes(&folder.join("gallery.json"), &json(&run.gallery))?;
    write_bytes(&folder.join("flips.json"), &json(&run.flips))?;
    write_bytes(&folder.join("embeddings.json"), &json(&run.views))?;
    write_bytes(&folder.join("manifest.json"), &json(&run.manifest))?;
    Ok(())
}

/// Reads a run folder.
///
/// # Errors
/// [`FolderError`] naming the file that is absent, cut short or of another version.
pub fn read(folder: &Path) -> Result<Run, FolderError> {
    let queries = folder.join("queries.parquet");
    let frame = |path: &Path| frames::from_parquet(bytes(path)?).map_err(|error| damaged(path, &error));
    let outcomes = || frames::queries_from_frame(&frame(&queries)?).map_err(|error| damaged(&queries, &error));
    with_queries(folder, outcomes)
}

/// Reads what a report shows: all but each query's neighbours, targets, perturbation and loss.
///
/// # Errors
/// As [`read`].
pub fn read_reported(folder: &Path) -> Result<Run, FolderError> {
    let queries = folder.join("queries.parquet");
    with_queries(folder, || frames::reported_from_parquet(bytes(&queries)?).map_err(|error| damaged(&queries, &error)))
}

fn with_queries(
    folder: &Path,
    queries: impl FnOnce() -> Result<Vec<QueryOutcome>, FolderError>,
) -> Result<Run, FolderError> {
    let manifest = read_manifest(&folder.join("manifest.json"))?;
    let training = folder.join("training.parquet");
    let frame = frames::from_parquet(bytes(&training)?).map_err(|error| damaged(&training, &error))?;
    Ok(Run {
        manifest,
        measurements: read_measurements(folder)?,
        queries: queries()?,
        steps: read_steps(&folder.join("steps.parquet"))?,
        training: frames::training_from_frame(&frame).map_err(|error| damaged(&training, &error))?,
        gallery: read_gallery(&folder.join("gallery.json"))?,
        flips: read_flips(&folder.join("flips.json"))?,
        views: read_views(&folder.join("embeddings.json"))?,
    })
}

/// Reads what a comparison of two runs needs: manifest, measurements and the outcome of every query, without neighbour
/// lists, training curves and pictures.
///
/// # Errors
/// As [`read`].
pub fn read_outcomes(folder: &Path) -> Result<Run, FolderError> {
    let queries = folder.join("queries.parquet");
    let run = read_rows(folder)?;
    let outcomes = frames::outcomes_from_parquet(bytes(&queries)?).map_err(|error| damaged(&queries, &error))?;
    Ok(Run { queries: outcomes, ..run })
}

/// Reads what a leaderboard needs: manifest and measurements.
///
/// # Errors
/// As [`read`].
pub fn read_rows(folder: &Path) -> Result<Run, FolderError> {
    Ok(Run {
        manifest: read_manifest(&folder.join("manifest.json"))?,
        measurements: read_measurements(folder)?,
        ..Run::default()
    })
}

fn read_measurements(folder: &Path) -> Result<Vec<Measurement>, FolderError> {
    let path = folder.join("measurements.parquet");
    let frame = frames::from_parquet(bytes(&path)?).map_err(|error| damaged(&path, &error))?;
    frames::measurements_from_frame(&frame).map_err(|error| damaged(&path, &error))
}

fn bytes(path: &Path) -> Result<Vec<u8>, FolderError> {
    std::fs::read(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => FolderError::Missing(path.to_path_buf()),
        _ => FolderError::Read { path: path.to_path_buf(), source },
    })
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> FolderError {
    FolderError::Damaged { path: path.to_path_buf(), why: why.to_string() }
}

fn read_manifest(path: &Path) -> Result<Manifest, FolderError> {
    /// Only the version: the rest of another version's manifest may look like anything.
    #[derive(Deserialize)]
    struct Version {
        schema: u64,
    }

    let bytes = bytes(path)?;
    let version: Version = serde_json::from_slice(&bytes).map_err(|error| damaged(path, &error))?;
    if version.schema != u64::from(SCHEMA) {
        return Err(FolderError::Schema { path: path.to_path_buf(), got: version.schema });
    }
    serde_json::from_slice(&bytes).map_err(|error| damaged(path, &error))
}

/// Folders of earlier versions have none.
fn read_steps(path: &Path) -> Result<Vec<StepPoint>, FolderError> {
    let read = |bytes| frames::steps_from_frame(&frames::from_parquet(bytes)?);
    match bytes(path) {
        Ok(bytes) => read(bytes).map_err(|error| damaged(path, &error)),
        Err(FolderError::Missing(_)) => Ok(vec![]),
        Err(error) => Err(error),
    }
}

/// Folders of earlier versions have none.
fn read_views(path: &Path) -> Result<Vec<EmbeddingView>, FolderError> {
    match bytes(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(path, &error)),
        Err(FolderError::Missing(_)) => Ok(vec![]),
        Err(error) => Err(error),
    }
}

fn read_gallery(path: &Path) -> Result<Vec<GalleryItem>, FolderError> {
    let items: Vec<GalleryItem> = serde_json::from_slice(&bytes(path)?).map_err(|error| damaged(path, &error))?;
    for item in &items {
        let pictures = [&item.clean, &item.adversarial, &item.perturbation].into_iter();
        let lists = item.clean_neighbors.iter().chain(&item.adversarial_neighbors).chain(&item.targets);
        whole(path, item.size, pictures.chain(lists))?;
    }
    Ok(items)
}

/// Folders of earlier versions have none.
fn read_flips(path: &Path) -> Result<Vec<FlippedQuery>, FolderError> {
    let flips: Vec<FlippedQuery> = match bytes(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(path, &error))?,
        Err(FolderError::Missing(_)) => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    flips.iter().try_for_each(|flip| whole(path, flip.size, flip.pictures()))?;
    Ok(flips)
}

/// Whether each picture has the bytes of a square of that side.
fn whole<'a>(path: &Path, side: u32, pictures: impl IntoIterator<Item = &'a Thumbnail>) -> Result<(), FolderError> {
    let wanted = (side as usize).saturating_mul(side as usize).saturating_mul(3);
    match pictures.into_iter().find(|picture| picture.pixels.len() != wanted) {
        None => Ok(()),
        Some(bad) => {
            let why = format!("picture {} has {} bytes, wanted {wanted}", bad.index, bad.pixels.len());
            Err(damaged(path, &why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn a_run_survives_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let run = sample::run();
        write(&run, folder.path()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), run);
    }

    #[test]
    fn each_missing_or_truncated_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let run = sample::run();
        for name in ["manifest.json", "measurements.parquet", "queries.parquet", "training.parquet", "gallery.json"] {
            write(&run, folder.path()).unwrap();
            let path = folder.path().join(name);
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, &whole[..whole.len() * 2 / 3]).unwrap();
            let error = read(folder.path()).unwrap_err();
            assert!(matches!(error, FolderError::Damaged { .. }), "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
            std::fs::remove_file(&path).unwrap();
            let error = read(folder.path()).unwrap_err();
            assert!(matches!(error, FolderError::Missing(_)), "{name}: {error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_folder_without_steps_is_of_an_earlier_version_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        write(&sample::run(), folder.path()).unwrap();
        let path = folder.path().join("steps.parquet");
        std::fs::write(&path, b"PAR1").unwrap();
        assert!(read_reported(folder.path()).unwrap_err().to_string().contains("steps.parquet"));
        std::fs::remove_file(path).unwrap();
        assert_eq!(read_reported(folder.path()).unwrap().steps, vec![]);
    }

    #[test]
    fn a_folder_without_flips_is_of_an_earlier_version_and_damaged_ones_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = sample::run();
        assert!(!run.flips.is_empty());
        write(&run, folder.path()).unwrap();
        let path = folder.path().join("flips.json");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        for error in [read(folder.path()).unwrap_err(), read_reported(folder.path()).unwrap_err()] {
            assert!(
                matches!(error, FolderError::Damaged { .. }) && error.to_string().contains("flips.json"),
                "{error}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Run { flips: vec![], ..sample::run() });
        run.flips[0].nearest_b[0].pixels.pop();
        write(&run, folder.path()).unwrap();
        let text = read(folder.path()).unwrap_err().to_string();
        assert!(text.contains("flips.json: picture") && text.contains("bytes, wanted 6912"), "{text}");
    }

    #[test]
    fn another_schema_is_refused_before_anything_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("manifest.json"), "{\"schema\": 7, \"new\": []}").unwrap();
        let text = read(folder.path()).unwrap_err().to_string();
        assert!(text.contains("has schema 7, wanted 2"), "{text}");
    }

    #[test]
    fn a_picture_of_the_wrong_size_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = sample::run();
        run.gallery[0].targets[0].pixels.pop();
        write(&run, folder.path()).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("bytes, wanted"));
    }
}

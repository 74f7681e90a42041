//! Finished trials on disk: one file each, named by the digest of everything that made it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::artefact::{WriteError, write_bytes};
use crate::digest::Digest;
use crate::record::folder::FolderError;
use crate::record::{EmbeddingView, GalleryItem, Measurement, QueryOutcome, StepPoint};

/// A finished trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredTrial {
    /// Its row.
    pub measurement: Measurement,
    /// Its per-query outcomes.
    pub queries: Vec<QueryOutcome>,
    /// Its attack's loss step by step; trials of earlier versions have none.
    #[serde(default)]
    pub steps: Vec<StepPoint>,
    /// Its picture stories.
    pub gallery: Vec<GalleryItem>,
    /// What its picture of the embedding space is drawn from.
    #[serde(default)]
    pub view: Option<EmbeddingView>,
}

/// The folder of finished trials.
#[derive(Debug, Clone)]
pub struct TrialStore {
    folder: PathBuf,
}

impl TrialStore {
    /// A store in `<run folder>/trials`.
    pub fn new(run_folder: &Path) -> Self {
        Self { folder: run_folder.join("trials") }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.path_of(digest.short())
    }

    /// The file of a trial by its key.
    pub fn path_of(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.json"))
    }

    /// Digest of a kept trial's file.
    ///
    /// # Errors
    /// If it cannot be read, naming it.
    pub fn sha256(&self, key: &str) -> Result<Digest, FolderError> {
        let path = self.path_of(key);
        Digest::of_file(&path).map_err(|source| FolderError::Read { path, source })
    }

    /// The trial, if it is finished. A file that cannot be read back counts as not finished: it is made again.
    pub fn get(&self, digest: &Digest) -> Option<StoredTrial> {
        let bytes = std::fs::read(self.path(digest)).ok()?;
        let trial: StoredTrial = serde_json::from_slice(&bytes).ok()?;
        (trial.measurement.trial == digest.short() && trial.measurement.error.is_none()).then_some(trial)
    }

    /// Keeps a trial.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn put(&self, digest: &Digest, trial: &StoredTrial) -> Result<(), WriteError> {
        let bytes = serde_json::to_vec(trial).expect("a trial has string keys and finite numbers");
        write_bytes(&self.path(digest), &bytes)
    }
}

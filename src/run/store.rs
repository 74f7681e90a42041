//! Finished trials on disk: one file each, named by the digest of everything that made it, whose first entry is the
//! digest of the rest: a number that changed on the disk is no measurement.

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

    /// The trial, if it is finished. A file that is not what was written counts as not finished: it is made again.
    pub fn get(&self, digest: &Digest) -> Option<StoredTrial> {
        let bytes = std::fs::read(self.path(digest)).ok()?;
        let trial: StoredTrial = serde_json::from_slice(unsealed(&bytes)?).ok()?;
        (trial.measurement.trial == digest.short() && trial.measurement.error.is_none()).then_some(trial)
    }

    /// Keeps a trial.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn put(&self, digest: &Digest, trial: &StoredTrial) -> Result<(), WriteError> {
        let bytes = serde_json::to_vec(trial).expect("a trial has string keys and finite numbers");
        write_bytes(&self.path(digest), &sealed(&bytes))
    }
}

/// How a sealed file begins; the digest of everything after the comma stands between the two.
const SEAL: (&[u8], &[u8]) = (br#"{"sha256":""#, br#"","#);

/// The JSON object with the digest of its other entries, as they are written, in front.
fn sealed(object: &[u8]) -> Vec<u8> {
    let rest = object.strip_prefix(b"{").expect("a trial is an object");
    [SEAL.0, Digest::of_bytes(rest).to_string().as_bytes(), SEAL.1, rest].concat()
}

/// The whole file again if its digest is right.
fn unsealed(file: &[u8]) -> Option<&[u8]> {
    let said = file.strip_prefix(SEAL.0)?;
    let end = said.windows(SEAL.1.len()).position(|w| w == SEAL.1)?;
    let (said, rest) = (&said[..end], &said[end + SEAL.1.len()..]);
    (Digest::of_bytes(rest).to_string().as_bytes() == said).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_comes_back_and_any_change_of_its_file_makes_it_unfinished() {
        let folder = tempfile::tempdir().unwrap();
        let (store, digest) = (TrialStore::new(folder.path()), Digest::of_bytes(b"what made it"));
        let measurement = Measurement { trial: digest.short().into(), linf_max: Some(36.5), ..Measurement::default() };
        let trial = StoredTrial { measurement, queries: vec![], steps: vec![], gallery: vec![], view: None };
        assert_eq!(store.get(&digest), None);
        store.put(&digest, &trial).unwrap();
        assert_eq!(store.get(&digest), Some(trial));
        let path = store.path_of(digest.short());
        let whole = std::fs::read(&path).unwrap();
        serde_json::from_slice::<serde_json::Value>(&whole).unwrap();
        let number = String::from_utf8(whole.clone()).unwrap().replace("36.5", "63.5").into_bytes();
        assert_ne!(number, whole);
        let unsealed = [b"{".as_slice(), &whole[whole.iter().position(|b| *b == b',').unwrap() + 1..]].concat();
        for damaged in [number, unsealed, whole[..whole.len() / 2].to_vec(), b"{}".to_vec(), vec![]] {
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(store.get(&digest), None, "{}", String::from_utf8_lossy(&damaged));
        }
    }
}

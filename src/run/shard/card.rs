//! `shard.json`: what one machine did of a plan. Written last, so a folder that has one is whole.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::artefact::{WriteError, write_bytes};
use crate::digest::Digest;
use crate::record::{Manifest, TrainingPoint};
use crate::suite::attack::Branch;
use crate::suite::shards::{Shard, Unit};
use crate::suite::soundness::CheckMarks;
use crate::suite::wire::Expectation;

/// Version of the file.
pub const SCHEMA: u32 = 1;

/// The file's name.
pub const FILE: &str = "shard.json";

/// What one machine did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardCard {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Which part of how many.
    pub shard: Shard,
    /// The manifest of a run that ends here.
    pub manifest: Manifest,
    /// All units of the plan.
    pub units: Vec<Unit>,
    /// Those that were done here, by their place in `units`, with their trials in order.
    pub done: BTreeMap<usize, Vec<KeptTrial>>,
    /// The models that were needed for them.
    pub models: Vec<ShardModel>,
    /// What the suite expects.
    pub expectations: Vec<Expectation>,
    /// The suite's weights of checks.
    #[serde(default)]
    pub checks: CheckMarks,
    /// Picture stories that the suite wants of each attack; 0: no pictures at all. Cards of earlier versions have none.
    #[serde(default)]
    pub stories: usize,
}

/// A finished trial in the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptTrial {
    /// Its key: the file is `trials/<key>.json`.
    pub key: String,
    /// Digest of the file.
    pub sha256: Digest,
}

/// A model of the part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardModel {
    /// Its id.
    pub id: String,
    /// Training seed.
    pub seed: u64,
    /// What it is, in a sentence.
    pub description: String,
    /// Digests of its files.
    pub files: BTreeMap<Branch, Digest>,
    /// Course of its training.
    pub curve: Vec<TrainingPoint>,
}

/// A card that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// It could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is cut short, edited or not ours.
    #[error("{}: {why}; run that shard again, its finished trials are kept", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl ShardCard {
    /// Writes the card into the part's folder, whole or not at all.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write(&self, folder: &Path) -> Result<(), WriteError> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a card has string keys and finite numbers");
        bytes.push(b'\n');
        write_bytes(&folder.join(FILE), &bytes)
    }

    /// The card of a folder; `None` if it has none.
    ///
    /// # Errors
    /// [`CardError`] naming the file.
    pub fn read(folder: &Path) -> Result<Option<Self>, CardError> {
        let path = folder.join(FILE);
        let damaged = |why: String| CardError::Damaged { path: path.clone(), why };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(source) => return Err(CardError::Read { path, source }),
        };
        let card: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if card.schema != SCHEMA {
            return Err(damaged(format!("has schema {}, wanted {SCHEMA}", card.schema)));
        }
        Shard::new(card.shard.index, card.shard.of).map_err(damaged)?;
        if let Some(place) = card.done.keys().find(|place| **place >= card.units.len()) {
            return Err(damaged(format!("speaks of unit {place}, the plan has {}", card.units.len())));
        }
        Ok(Some(card))
    }

    /// The card without what may differ between two goes at the same work: times and threads.
    pub fn timeless(&self) -> Self {
        let mut card = self.clone();
        card.manifest.stages.clear();
        card.manifest.started_unix_s = 0;
        card.manifest.threads = 0;
        card.manifest.machine.clear();
        card
    }
}

//! The whole state of a training between two epochs, in one file.
//!
//! There is no generator state: all that is random is named by (seed, epoch, batch, sample), so the position is enough.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::network::weights::{Tensor, Weights, WeightsError};

/// Version of the file's layout.
const FORMAT: u32 = 1;
/// Key of the notes in the file's header.
const NOTES: &str = "mdprop-checkpoint";
/// Tensors of a loss with parameters of its own.
const LOSS: [&str; 3] = ["loss.values", "loss.adam.mean", "loss.adam.square"];

/// Why a checkpoint cannot be written or continued from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Unreadable, cut short, no safetensors file, or not writable.
    #[error("checkpoint {0}")]
    File(#[from] WeightsError),
    /// A safetensors file that is no checkpoint.
    #[error(
        "checkpoint {}: its header is no checkpoint's ({reason}); delete the file to train from the start",
        path.display()
    )]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Bytes have changed since it was written.
    #[error("checkpoint {}: content does not match its checksum; delete the file to train from the start", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Made by other settings.
    #[error(
        "checkpoint {}: belongs to training {got}, wanted {wanted}; choose another folder or delete the file",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Digest in the file.
        got: String,
        /// Digest of this training.
        wanted: String,
    },
    /// A tensor is missing or too short.
    #[error("checkpoint {}: lacks `{name}`; delete the file to train from the start", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
}

/// One finished epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Epochs finished, from 1.
    pub epoch: u32,
    /// Mean loss over its steps.
    pub loss: f64,
    /// recall@1 on the selection images, if measured.
    pub selection_recall: Option<f64>,
    /// Learning rate of its last step.
    pub learning_rate: f64,
}

/// Everything needed to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Digest of recipe, seed, data set and first weights.
    pub training: String,
    /// Optimizer steps taken.
    pub steps: u64,
    /// One entry per finished epoch.
    pub curve: Vec<EpochRecord>,
    /// Epoch of `best`, from 1; 0 before the first one.
    pub best_epoch: u32,
    /// The model.
    pub model: Weights,
    /// The model of the best epoch so far; `None` if that is `model` itself.
    pub best: Option<Weights>,
    /// Adam's first moment.
    pub mean: Vec<f32>,
    /// Adam's second moment.
    pub square: Vec<f32>,
    /// The loss's own parameters, if it has any.
    pub loss: Option<LossState>,
    /// Triplet loss of the last step, for a defence that looks back.
    pub previous: Option<f64>,
}

/// Parameters of a loss and the moments of their optimizer, equally long.
#[derive(Debug, Clone, PartialEq)]
pub struct LossState {
    /// The parameters.
    pub values: Vec<f32>,
    /// Adam's first moment.
    pub mean: Vec<f32>,
    /// Adam's second moment.
    pub square: Vec<f32>,
}

/// What the header holds beside the tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Notes {
    format: u32,
    training: String,
    steps: u64,
    curve: Vec<EpochRecord>,
    best_epoch: u32,
    /// Bits of [`Checkpoint::previous`]: decimal digits would have to come back exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<u64>,
    /// Digest of all tensors.
    content: String,
}

/// The two generations of a training's checkpoint in its folder.
///
/// A save first makes the file that is there the older generation, then puts the new one in its place; at no moment is
/// there less than one whole file.
#[derive(Debug, Clone)]
pub struct Generations {
    newest: PathBuf,
    older: PathBuf,
    damaged: PathBuf,
}

impl Generations {
    /// Those of a training in `folder`.
    pub fn new(folder: &Path) -> Self {
        let file = |name: &str| folder.join(format!("{name}.safetensors"));
        Self { newest: file("checkpoint"), older: file("checkpoint.older"), damaged: file("checkpoint.damaged") }
    }

    /// The newest whole checkpoint of the training with this digest, and a word if it is not the newest file: a damaged
    /// one is put aside, not written over.
    ///
    /// # Errors
    /// [`CheckpointError`] if there is a checkpoint, but none can be used; [`CheckpointError::Foreign`] at once.
    pub fn load(&self, training: &str) -> Result<(Option<Checkpoint>, Option<String>), CheckpointError> {
        let damage = match Checkpoint::load(&self.newest, training) {
            Ok(Some(found)) => return Ok((Some(found), None)),
            Ok(None) => None,
            Err(foreign @ CheckpointError::Foreign { .. }) => return Err(foreign),
            Err(damage) => Some(damage),
        };
        match (Checkpoint::load(&self.older, training), damage) {
            (Ok(Some(older)), damage) => {
                let why = damage.map_or_else(|| format!("{} is missing", self.newest.display()), |e| e.to_string());
                if self.newest.exists() {
                    std::fs::rename(&self.newest, &self.damaged).map_err(|source| self.unwritable(source))?;
                }
                let epoch = older.curve.len();
                Ok((Some(older), Some(format!("{why}; continuing from the one before, of epoch {epoch}"))))
            }
            (_, Some(damage)) => Err(damage),
            (Ok(None) | Err(CheckpointError::Foreign { .. }), None) => Ok((None, None)),
            (Err(damage), None) => Err(damage),
        }
    }

    /// Saves a checkpoint as the newest.
    ///
    /// # Errors
    /// [`CheckpointError::File`]; what was there stays.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        if self.newest.exists() {
            let _ = std::fs::remove_file(&self.older);
            // A file system without hard links keeps one generation.
            let _ = std::fs::hard_link(&self.newest, &self.older);
        }
        checkpoint.save(&self.newest)
    }

    fn unwritable(&self, source: std::io::Error) -> CheckpointError {
        WeightsError::Read { path: self.newest.clone(), source }.into()
    }
}

impl Checkpoint {
    /// Writes the file: whole, or not at all with the older one kept.
    ///
    /// # Errors
    /// [`CheckpointError::File`].
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let flat = |data: &Vec<f32>| Tensor { shape: vec![data.len()], data: data.clone() };
        let mut tensors = BTreeMap::new();
        tensors.insert("adam.mean".to_string(), flat(&self.mean));
        tensors.insert("adam.square".to_string(), flat(&self.square));
        if let Some(own) = &self.loss {
            for (name, data) in LOSS.into_iter().zip([&own.values, &own.mean, &own.square]) {
                tensors.insert(name.to_string(), flat(data));
            }
        }
        let models = [("model.", Some(&self.model)), ("best.", self.best.as_ref())];
        for (prefix, weights) in models.into_iter().filter_map(|(prefix, weights)| Some((prefix, weights?))) {
            tensors.extend(weights.tensors.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())));
        }
        let tensors = Weights { tensors };
        let notes = Notes {
            format: FORMAT,
            training: self.training.clone(),
            steps: self.steps,
            curve: self.curve.clone(),
            best_epoch: self.best_epoch,
            previous: self.previous.map(f64::to_bits),
            content: tensors.digest().to_string(),
        };
        let header =
            |error: serde_json::Error| CheckpointError::Header { path: path.to_path_buf(), reason: error.to_string() };
        let notes = serde_json::to_string(&notes).map_err(header)?;
        Ok(tensors.save(path, &BTreeMap::from([(NOTES.to_string(), notes)]))?)
    }

    /// Reads the checkpoint of the training with this digest; `None` if there is no file.
    ///
    /// # Errors
    /// [`CheckpointError`] naming the file: cut short, damaged, of another training.
    pub fn load(path: &Path, training: &str) -> Result<Option<Self>, CheckpointError> {
        if !path.exists() {
            return Ok(None);
        }
        let header = |reason: String| CheckpointError::Header { path: path.to_path_buf(), reason };
        let (mut file, notes) = Weights::load(path)?;
        let notes = notes.get(NOTES).ok_or_else(|| header(format!("`{NOTES}` is missing")))?;
        let notes: Notes = serde_json::from_str(notes).map_err(|error| header(error.to_string()))?;
        if notes.format != FORMAT {
            return Err(header(format!("format {}, wanted {FORMAT}", notes.format)));
        }
        if notes.training != training {
            let (got, wanted) = (notes.training, training.to_string());
            return Err(CheckpointError::Foreign { path: path.to_path_buf(), got, wanted });
        }
        if notes.content != file.digest().as_str() {
            return Err(CheckpointError::Damaged { path: path.to_path_buf() });
        }
        let mut take = |name: &str| {
            let missing = || CheckpointError::Missing { path: path.to_path_buf(), name: name.to_string() };
            file.tensors.remove(name).map(|tensor| tensor.data).ok_or_else(missing)
        };
        let (mean, square) = (take("adam.mean")?, take("adam.square")?);
        let loss = match take(LOSS[0]) {
            Ok(values) => Some(LossState { values, mean: take(LOSS[1])?, square: take(LOSS[2])? }),
            Err(_) => None,
        };
        let part = |prefix: &str| Weights {
            tensors: file
                .tensors
                .iter()
                .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_string(), tensor.clone())))
                .collect(),
        };
        let best = Some(part("best.")).filter(|best| !best.tensors.is_empty());
        Ok(Some(Self {
            training: notes.training,
            steps: notes.steps,
            curve: notes.curve,
            best_epoch: notes.best_epoch,
            model: part("model."),
            best,
            mean,
            square,
            loss,
            previous: notes.previous.map(f64::from_bits),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(value: f32) -> Weights {
        let tensor = Tensor { shape: vec![2, 3], data: vec![value; 6] };
        Weights { tensors: BTreeMap::from([("conv.weight".to_string(), tensor)]) }
    }

    fn checkpoint() -> Checkpoint {
        let record = EpochRecord { epoch: 1, loss: 0.1 + 0.2, selection_recall: Some(1.0 / 3.0), learning_rate: 1e-3 };
        Checkpoint {
            training: "abc".into(),
            steps: 17,
            curve: vec![record],
            best_epoch: 1,
            model: weights(0.1),
            best: Some(weights(0.2)),
            mean: vec![1e-30, -2.5],
            square: vec![0.0, f32::MIN_POSITIVE],
            loss: Some(LossState { values: vec![0.5], mean: vec![-0.0], square: vec![1e-30] }),
            previous: Some(0.1 + 0.7),
        }
    }

    #[test]
    fn comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        assert_eq!(Checkpoint::load(&path, "abc").unwrap(), None);
        for state in [checkpoint(), Checkpoint { best: None, loss: None, previous: None, ..checkpoint() }] {
            state.save(&path).unwrap();
            assert_eq!(Checkpoint::load(&path, "abc").unwrap(), Some(state));
        }
    }

    #[test]
    fn a_damaged_generation_is_put_aside_and_the_one_before_used() {
        let folder = tempfile::tempdir().unwrap();
        let generations = Generations::new(folder.path());
        assert_eq!(generations.load("abc").unwrap(), (None, None));
        let (first, second) = (checkpoint(), Checkpoint { steps: 34, ..checkpoint() });
        generations.save(&first).unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..60]).unwrap();
        let refused = generations.load("abc").unwrap_err().to_string();
        assert!(refused.contains("checkpoint.safetensors"), "no older one: {refused}");
        assert_eq!(std::fs::read(&path).unwrap(), whole[..60], "nothing is overwritten");
        std::fs::write(&path, &whole).unwrap();

        generations.save(&second).unwrap();
        assert_eq!(generations.load("abc").unwrap(), (Some(second.clone()), None));
        std::fs::write(&path, &whole[..60]).unwrap();
        let (found, word) = generations.load("abc").unwrap();
        assert_eq!(found, Some(first.clone()));
        assert!(word.unwrap().contains("continuing from the one before"));
        assert_eq!(std::fs::read(folder.path().join("checkpoint.damaged.safetensors")).unwrap(), whole[..60]);
        // Killed between the two halves of a save: only the older one is there.
        assert_eq!(generations.load("abc").unwrap().0, Some(first));
        generations.save(&second).unwrap();
        assert_eq!(generations.load("abc").unwrap(), (Some(second), None));
        assert!(generations.load("xyz").unwrap_err().to_string().contains("belongs to training"));
    }

    #[test]
    fn refuses_what_is_foreign_cut_short_or_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let refusal = |training: &str| Checkpoint::load(&path, training).unwrap_err().to_string();
        checkpoint().save(&path).unwrap();
        assert!(refusal("xyz").contains("belongs to training abc, wanted xyz"));
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 5, 60, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(refusal("abc").contains("checkpoint.safetensors"), "{length} bytes");
        }
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        assert!(refusal("abc").contains("does not match its checksum"));
        weights(0.0).save(&path, &BTreeMap::new()).unwrap();
        assert!(refusal("abc").contains("is no checkpoint's"));
    }
}

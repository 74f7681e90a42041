//! The numbers of a network by name, and their safetensors file.
//!
//! Files are written as little-endian F32; F16 and BF16 are read too (pretrained files). The format: a length, a JSON
//! header of names, types, shapes and offsets with one map of strings for notes, then the raw values.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest as _, Sha256};

use crate::artefact::{WriteError, write_atomic};
use crate::digest::Digest;

/// One tensor of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Row-major values; as many as the shape says.
    pub data: Vec<f32>,
}

/// Named tensors, sorted by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    /// By name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// Why a weights file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is cut short or no safetensors file.
    #[error("{}: is no whole safetensors file ({reason}); fetch or make it again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the format's reader said.
        reason: String,
    },
    /// A tensor of a type we do not read.
    #[error("{}: tensor `{name}` has type {dtype}, wanted F32, F16 or BF16; convert it", path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: String,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Weights {
    /// Reads a file and the string notes in its header.
    ///
    /// Integer tensors (`num_batches_tracked` of PyTorch's batch norm) carry nothing that is used here and are left out.
    ///
    /// # Errors
    /// [`WeightsError`] naming the file and the tensor.
    pub fn load(path: &Path) -> Result<(Self, BTreeMap<String, String>), WeightsError> {
        let bytes = std::fs::read(path).map_err(|source| WeightsError::Read { path: path.to_path_buf(), source })?;
        let format = |error: safetensors::SafeTensorError| WeightsError::Format {
            path: path.to_path_buf(),
            reason: error.to_string(),
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(format)?;
        let mut notes: BTreeMap<_, _> = header.metadata().clone().unwrap_or_default().into_iter().collect();
        // Our own files keep their notes in one JSON text, see `to_bytes`.
        if let Some(own) = notes.get(NOTES).and_then(|text| serde_json::from_str(text).ok()) {
            notes = own;
        }
        let file = SafeTensors::deserialize(&bytes).map_err(format)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let data = match view.dtype() {
                Dtype::F32 => values(view.data(), f32::from_le_bytes),
                Dtype::F16 => values(view.data(), |b| half::f16::from_le_bytes(b).to_f32()),
                Dtype::BF16 => values(view.data(), |b| half::bf16::from_le_bytes(b).to_f32()),
                Dtype::I64 | Dtype::I32 => continue,
                other => {
                    let (name, dtype) = (name.to_string(), format!("{other:?}"));
                    return Err(WeightsError::Type { path: path.to_path_buf(), name, dtype });
                }
            };
            tensors.insert(name.to_string(), Tensor { shape: view.shape().to_vec(), data });
        }
        Ok((Self { tensors }, notes))
    }

    /// Writes a file with these notes in its header: whole or not at all, the same bytes for the same values.
    ///
    /// # Errors
    /// [`WeightsError::Write`] naming the file.
    pub fn save(&self, path: &Path, notes: &BTreeMap<String, String>) -> Result<(), WeightsError> {
        let bytes = self
            .to_bytes(notes)
            .map_err(|error| WeightsError::Format { path: path.to_path_buf(), reason: error.to_string() })?;
        Ok(write_atomic(path, |writer| writer.write_all(&bytes))?)
    }

    /// The file's bytes.
    fn to_bytes(&self, notes: &BTreeMap<String, String>) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let raw: Vec<(&String, &Tensor, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, tensor)| (name, tensor, tensor.data.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let views = raw
            .iter()
            .map(|(name, tensor, bytes)| Ok((*name, TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        // A hash map has no order, and the header would follow it: the notes go in as one JSON text instead.
        let text = serde_json::to_string(notes).expect("a map of strings serialises");
        safetensors::serialize(views, Some(HashMap::from([(NOTES.to_string(), text)])))
    }

    /// Of all names, shapes and values, whatever file they came from.
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        for (name, tensor) in &self.tensors {
            hasher.update(format!("{name}{:?}", tensor.shape).as_bytes());
            for value in &tensor.data {
                hasher.update(value.to_le_bytes());
            }
        }
        Digest::of_bytes(&hasher.finalize())
    }
}

/// Key of the notes in the header.
const NOTES: &str = "mdprop";

fn values<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}

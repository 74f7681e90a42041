//! The numbers of a network by name, and their safetensors file.
//!
//! Files are written as little-endian F32; F16 and BF16 are read too (pretrained files). The format: a length, a JSON
//! header of names, types, shapes and offsets with one map of strings for notes, then the raw values.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, View};
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
        let mut notes: BTreeMap<String, String> = header.metadata().clone().unwrap_or_default().into_iter().collect();
        if let Some(ours) = notes.remove(NOTES) {
            notes.extend(serde_json::from_str::<BTreeMap<_, _>>(&ours).map_err(|error| WeightsError::Format {
                path: path.to_path_buf(),
                reason: format!("notes: {error}"),
            })?);
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

    fn to_bytes(&self, notes: &BTreeMap<String, String>) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        // A hash map has no order, and the header would follow it: the notes go in as one JSON text instead.
        let text = serde_json::to_string(notes).expect("a map of strings serialises");
        safetensors::serialize(&self.tensors, Some(HashMap::from([(NOTES.to_string(), text)])))
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

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.data.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        4 * self.data.len()
    }
}

/// Key of our notes in the header.
const NOTES: &str = "mdprop";

fn values<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Weights {
        let tensor = |shape: &[usize], data: &[f32]| Tensor { shape: shape.to_vec(), data: data.to_vec() };
        let mut tensors = BTreeMap::new();
        tensors.insert("b.weight".to_string(), tensor(&[2, 2], &[1.0, -0.5, f32::MIN_POSITIVE, 65504.0]));
        tensors.insert("a.bias".to_string(), tensor(&[1], &[0.1]));
        Weights { tensors }
    }

    #[test]
    fn a_file_gives_back_values_and_notes_and_has_the_same_bytes_again() {
        let folder = tempfile::tempdir().unwrap();
        let [path, again] = ["a.safetensors", "b.safetensors"].map(|name| folder.path().join(name));
        let notes: BTreeMap<_, _> = (0..9).map(|i| (format!("key {i}"), format!("value \"{i}\""))).collect();
        sample().save(&path, &notes).unwrap();
        sample().save(&again, &notes).unwrap();
        assert_eq!(Weights::load(&path).unwrap(), (sample(), notes));
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&again).unwrap());
    }

    #[test]
    fn halves_are_widened_exactly_and_counters_left_out() {
        // 1.5, -2 and 2^-14 have the same value in all three formats; bit patterns by hand (IEEE 754 binary16, bfloat16).
        let f16: Vec<u8> = [0x3E00u16, 0xC000, 0x0400].iter().flat_map(|v| v.to_le_bytes()).collect();
        let bf16: Vec<u8> = [0x3FC0u16, 0xC000, 0x3880].iter().flat_map(|v| v.to_le_bytes()).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("half.safetensors");
        let view = |dtype, data| safetensors::tensor::TensorView::new(dtype, vec![3], data).unwrap();
        let counter = [7u8; 24];
        let views = [("h", view(Dtype::F16, &f16)), ("b", view(Dtype::BF16, &bf16)), ("n", view(Dtype::I64, &counter))];
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        let (weights, notes) = Weights::load(&path).unwrap();
        assert!(notes.is_empty());
        assert_eq!(weights.tensors.keys().collect::<Vec<_>>(), ["b", "h"]);
        for tensor in weights.tensors.values() {
            assert_eq!(tensor.data, [1.5, -2.0, 6.103_515_6e-5]);
        }

        let double = [0u8; 24];
        let bytes = safetensors::serialize([("x.weight", view(Dtype::F64, &double))], None).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let error = Weights::load(&path).unwrap_err().to_string();
        assert!(error.contains("`x.weight` has type F64"), "{error}");
    }

    #[test]
    fn a_truncated_a_foreign_and_an_absent_file_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        sample().save(&path, &BTreeMap::new()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() - 1], &whole[..20], b"PK\x03\x04 a zip archive", b""] {
            std::fs::write(&path, bytes).unwrap();
            let error = Weights::load(&path).unwrap_err().to_string();
            assert!(error.contains("w.safetensors: is no whole safetensors file"), "{error}");
        }
        let error = Weights::load(&folder.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none: cannot be read"), "{error}");
    }

    #[test]
    fn the_digest_sees_names_shapes_and_values() {
        let base = sample().digest();
        assert_eq!(base, sample().digest());
        let change = |edit: &dyn Fn(&mut Weights)| {
            let mut weights = sample();
            edit(&mut weights);
            assert_ne!(weights.digest(), base);
        };
        change(&|w| w.tensors.get_mut("b.weight").unwrap().data[2] = 0.0);
        change(&|w| w.tensors.get_mut("b.weight").unwrap().shape = vec![4]);
        change(&|w| {
            let tensor = w.tensors.remove("a.bias").unwrap();
            w.tensors.insert("a.bios".into(), tensor);
        });
    }
}

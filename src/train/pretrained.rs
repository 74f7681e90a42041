//! The pretrained file that a recipe names, verified.

use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::network::weights::{Weights, WeightsError};
use crate::suite::recipe::PretrainedSpec;

/// Why a pretrained file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("pretrained weights {0}")]
    File(#[from] WeightsError),
    /// The file is another one.
    #[error("pretrained weights {}: got SHA-256 {got}, wanted {wanted}; fetch the file again or correct the recipe", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Its digest.
        got: Digest,
        /// The recipe's.
        wanted: String,
    },
}

/// Reads the file of a recipe and checks that it is the one meant.
///
/// # Errors
/// [`FileError`].
pub fn load(spec: &PretrainedSpec) -> Result<Weights, FileError> {
    let path: &Path = &spec.file;
    let read = |source| WeightsError::Read { path: path.to_path_buf(), source };
    let got = Digest::of_file(path).map_err(read)?;
    if !got.as_str().eq_ignore_ascii_case(&spec.sha256) {
        return Err(FileError::Checksum { path: path.to_path_buf(), got, wanted: spec.sha256.clone() });
    }
    Ok(Weights::load(path)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::weights::Tensor;

    #[test]
    fn a_file_of_another_content_is_refused() {
        let mut weights = Weights::default();
        weights.tensors.insert("conv1.weight".into(), Tensor { shape: vec![2], data: vec![0.5, 0.25] });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        weights.save(&path, &Default::default()).unwrap();
        let mut spec = PretrainedSpec { sha256: Digest::of_file(&path).unwrap().to_string(), file: path };
        assert_eq!(load(&spec).unwrap(), weights);
        spec.sha256 = "00".into();
        assert!(load(&spec).unwrap_err().to_string().contains("wanted 00"));
    }
}

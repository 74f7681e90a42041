//! The pretrained file that a recipe names, verified.

use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::network::weights::{Tensor, Weights, WeightsError};
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
    /// A `.pth` that libtorch cannot read.
    #[error(
        "pretrained weights {}: libtorch cannot read this .pth; files from before PyTorch 1.6 are of another format: \
         write it again with torch.save(torch.load(old), new)",
        path.display()
    )]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What libtorch said.
        #[source]
        source: tch::TchError,
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
    // torchvision's file names carry the first eight digits: those are enough to tell one of its files from another.
    let wanted = spec.sha256.to_ascii_lowercase();
    if wanted.len() < 8 || !got.as_str().starts_with(&wanted) {
        return Err(FileError::Checksum { path: path.to_path_buf(), got, wanted: spec.sha256.clone() });
    }
    let is_pickle = path.extension().is_some_and(|e| e == "pth" || e == "pt");
    if is_pickle { load_pickle(path) } else { Ok(Weights::load(path)?.0) }
}

/// A state dictionary as `torch.save` writes it since 1.6 (a zip archive). Integer tensors (batch counters) are left out.
fn load_pickle(path: &Path) -> Result<Weights, FileError> {
    let fail = |source| FileError::Pickle { path: path.to_path_buf(), source };
    let mut weights = Weights::default();
    for (name, tensor) in tch::Tensor::loadz_multi(path).map_err(fail)? {
        if !tensor.is_floating_point() {
            continue;
        }
        let shape = tensor.size().iter().map(|&side| side as usize).collect();
        let flat = tensor.f_to_kind(tch::Kind::Float).and_then(|t| t.f_reshape([-1])).map_err(fail)?;
        let data = Vec::<f32>::try_from(flat).map_err(fail)?;
        weights.tensors.insert(name, Tensor { shape, data });
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_content_is_refused() {
        let mut weights = Weights::default();
        weights.tensors.insert("conv1.weight".into(), Tensor { shape: vec![2], data: vec![0.5, 0.25] });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        weights.save(&path, &Default::default()).unwrap();
        let mut spec = PretrainedSpec { sha256: Digest::of_file(&path).unwrap().to_string(), file: path };
        assert_eq!(load(&spec).unwrap(), weights);
        // tests/data/train/make_pth.py: a.weight = [[1, 2], [3, 4]] in float16, a counter, b = [0.5].
        let pth = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/train/state.pth");
        let file = PretrainedSpec { sha256: Digest::of_file(&pth).unwrap().to_string(), file: pth };
        let weights = load(&file).unwrap().tensors;
        assert_eq!(weights["a.weight"], Tensor { shape: vec![2, 2], data: vec![1.0, 2.0, 3.0, 4.0] });
        assert_eq!(weights.keys().collect::<Vec<_>>(), ["a.weight", "b"]);
        let broken = folder.path().join("old.pth");
        std::fs::write(&broken, b"\x80\x02no archive").unwrap();
        let file = PretrainedSpec { sha256: Digest::of_file(&broken).unwrap().to_string(), file: broken };
        assert!(load(&file).unwrap_err().to_string().contains("torch.save"));
        spec.sha256 = "00".into();
        assert!(load(&spec).unwrap_err().to_string().contains("wanted 00"));
    }
}

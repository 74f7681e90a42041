//! What is known about an exported file, as JSON beside it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::parity::Parity;
use crate::artefact::{WriteError, write_bytes};
use crate::digest::Digest;
use crate::suite::attack::Branch;

/// The card of one exported ONNX file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtefactCard {
    /// Version of this format, 1.
    pub schema: u32,
    /// Program and version that wrote the file.
    pub producer: String,
    /// Of the recipe and everything else that made the weights.
    pub recipe: Digest,
    /// The seed it was trained with.
    pub seed: u64,
    /// Which batch-norm branch it holds.
    pub branch: Branch,
    /// Side of its input images.
    pub image_size: usize,
    /// Entries of its embedding.
    pub embedding_dim: usize,
    /// ONNX operator set.
    pub opset: i64,
    /// SHA-256 of the ONNX file.
    pub onnx: Digest,
    /// How far the file is from the trained model.
    pub parity: Parity,
}

/// Why a card cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}; export the model again", path.display())]
    Read {
        /// The card.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is no card.
    #[error("{}: is no artefact card ({source}); export the model again", path.display())]
    Format {
        /// The card.
        path: PathBuf,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The file beside it is another one.
    #[error("{}: has SHA-256 {got}, its card says {wanted}; export the model again", path.display())]
    Changed {
        /// The ONNX file.
        path: PathBuf,
        /// Its digest.
        got: Digest,
        /// The card's.
        wanted: Digest,
    },
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Version of the program in cards.
pub fn producer() -> String {
    format!("mdprop {}", env!("CARGO_PKG_VERSION"))
}

impl ArtefactCard {
    /// Where the card of an ONNX file lies: `model.onnx` has `model.card.json`.
    pub fn path(onnx: &Path) -> PathBuf {
        onnx.with_extension("card.json")
    }

    /// Writes the card beside the ONNX file.
    ///
    /// # Errors
    /// [`CardError::Write`].
    pub fn write(&self, onnx: &Path) -> Result<(), CardError> {
        let mut text = serde_json::to_vec_pretty(self).expect("a card has string keys, so it serialises");
        text.push(b'\n');
        Ok(write_bytes(&Self::path(onnx), &text)?)
    }

    /// Reads the card of an ONNX file and checks that it is about that file.
    ///
    /// # Errors
    /// [`CardError`] naming the file.
    pub fn read(onnx: &Path) -> Result<Self, CardError> {
        let path = Self::path(onnx);
        let text = std::fs::read(&path).map_err(|source| CardError::Read { path: path.clone(), source })?;
        let card: Self = serde_json::from_slice(&text).map_err(|source| CardError::Format { path, source })?;
        let got = Digest::of_file(onnx).map_err(|source| CardError::Read { path: onnx.to_path_buf(), source })?;
        if got == card.onnx {
            Ok(card)
        } else {
            Err(CardError::Changed { path: onnx.to_path_buf(), got, wanted: card.onnx })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_comes_back_and_notices_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let onnx = folder.path().join("model.aux1.onnx");
        std::fs::write(&onnx, b"first").unwrap();
        let parity = Parity { images: 256, max_abs_difference: 1.25e-7, min_cosine: 0.999_999_9 };
        let card = ArtefactCard {
            schema: 1,
            producer: producer(),
            recipe: Digest::of_bytes(b"recipe"),
            seed: 7,
            branch: Branch::Aux(1),
            image_size: 48,
            embedding_dim: 64,
            opset: 18,
            onnx: Digest::of_bytes(b"first"),
            parity,
        };
        assert!(ArtefactCard::read(&onnx).unwrap_err().to_string().contains("model.aux1.card.json: cannot be read"));
        card.write(&onnx).unwrap();
        assert_eq!(ArtefactCard::read(&onnx).unwrap(), card);
        std::fs::write(&onnx, b"second").unwrap();
        assert!(ArtefactCard::read(&onnx).unwrap_err().to_string().contains("its card says a7937b64b8ca"));
        std::fs::write(ArtefactCard::path(&onnx), b"{}").unwrap();
        assert!(ArtefactCard::read(&onnx).unwrap_err().to_string().contains("is no artefact card"));
    }
}

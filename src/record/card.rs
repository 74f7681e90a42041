//! The card beside a trained model's ONNX files: what made them and the proof that they compute what was trained.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::TrainingPoint;
use crate::artefact::{WriteError, write_bytes};
use crate::digest::Digest;
use crate::suite::attack::Branch;

/// File name of the card in an artefact's folder. Written last: a folder with a card is whole.
pub const CARD: &str = "card.json";

/// A trained and exported model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtefactCard {
    /// Version of this format, 1.
    pub schema: u32,
    /// Model id.
    pub model: String,
    /// Training method word.
    pub training: String,
    /// Training seed.
    pub seed: u64,
    /// Digest of recipe, seed and data set: the artefact's identity.
    pub made_from: Digest,
    /// Digest of the data set it was trained on.
    pub dataset: Digest,
    /// Side of the square input images.
    pub image_size: usize,
    /// Entries of the embedding.
    pub embedding_dim: usize,
    /// Which images chose the epoch: `validation`, `test`, `last`.
    pub selected_on: String,
    /// The epoch whose weights these are, from 1.
    pub selected_epoch: u32,
    /// Course of the training.
    pub curve: Vec<TrainingPoint>,
    /// One ONNX file per batch-norm branch.
    pub files: Vec<BranchFile>,
}

/// One exported branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BranchFile {
    /// The branch.
    pub branch: Branch,
    /// File name in the folder.
    pub file: String,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Agreement with libtorch on real images.
    pub parity: Parity,
}

/// How far the exported file is from the trained network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parity {
    /// Images compared.
    pub images: usize,
    /// Largest difference of an embedding entry.
    pub max_abs_difference: f64,
    /// Smallest cosine of two embeddings of the same image.
    pub min_cosine: f64,
}

/// Why a card could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CardError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The card.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No card.
    #[error("{}: not a model card: {source}; remove the folder and run again", path.display())]
    Format {
        /// The card.
        path: PathBuf,
        /// The parser's words.
        #[source]
        source: serde_json::Error,
    },
    /// An ONNX file is missing or was changed.
    #[error("{}: has SHA-256 {got}, the card says {wanted}; remove the folder to make the file again", path.display())]
    Changed {
        /// The ONNX file.
        path: PathBuf,
        /// What it is.
        got: String,
        /// What it should be.
        wanted: Digest,
    },
}

impl ArtefactCard {
    /// Reads the card of what was made from `made_from` with these branches and verifies the files it names; `None` if
    /// there is no card yet or one of another recipe, seed or data set, whose files are to be made again.
    ///
    /// # Errors
    /// [`CardError`].
    pub fn read(folder: &Path, made_from: &Digest, branches: &[Branch]) -> Result<Option<Self>, CardError> {
        let path = folder.join(CARD);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CardError::Read { path, source }),
        };
        let card: Self = serde_json::from_slice(&bytes).map_err(|source| CardError::Format { path, source })?;
        if card.made_from != *made_from {
            return Ok(None);
        }
        // Trials are planned from the recipe and measured with these files: one too few would be a trial too few.
        if !card.files.iter().map(|file| file.branch).eq(branches.iter().copied()) {
            let names =
                |all: &mut dyn Iterator<Item = Branch>| all.map(|b| b.to_string()).collect::<Vec<_>>().join(", ");
            let source = serde::de::Error::custom(format!(
                "it names files of the branches [{}], its recipe has [{}]",
                names(&mut card.files.iter().map(|file| file.branch)),
                names(&mut branches.iter().copied()),
            ));
            return Err(CardError::Format { path: folder.join(CARD), source });
        }
        for file in &card.files {
            let path = folder.join(&file.file);
            let got = Digest::of_file(&path).map_err(|source| CardError::Read { path: path.clone(), source })?;
            if got != file.sha256 {
                return Err(CardError::Changed { path, got: got.to_string(), wanted: file.sha256.clone() });
            }
        }
        Ok(Some(card))
    }

    /// Writes the card; do it last.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write(&self, folder: &Path) -> Result<(), WriteError> {
        let mut text = serde_json::to_vec_pretty(self).expect("a card has string keys and finite numbers");
        text.push(b'\n');
        write_bytes(&folder.join(CARD), &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(folder: &Path) -> ArtefactCard {
        let bytes = b"an onnx file";
        std::fs::write(folder.join("main.onnx"), bytes).unwrap();
        ArtefactCard {
            schema: 1,
            model: "a".into(),
            training: "standard".into(),
            seed: 0,
            made_from: Digest::of_bytes(b"x"),
            dataset: Digest::of_bytes(b"y"),
            image_size: 8,
            embedding_dim: 4,
            selected_on: "validation".into(),
            selected_epoch: 1,
            curve: vec![],
            files: vec![BranchFile {
                branch: Branch::Main,
                file: "main.onnx".into(),
                sha256: Digest::of_bytes(bytes),
                parity: Parity { images: 1, max_abs_difference: 0.0, min_cosine: 1.0 },
            }],
        }
    }

    fn read(folder: &Path, branches: &[Branch]) -> Result<Option<ArtefactCard>, CardError> {
        ArtefactCard::read(folder, &Digest::of_bytes(b"x"), branches)
    }

    #[test]
    fn a_card_must_name_every_branch_of_its_recipe_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let whole = card(folder.path());
        let twice = [whole.files.clone(), whole.files.clone()].concat();
        let aux = Branch::Aux(1);
        for (files, branches, said) in [
            (vec![], &[Branch::Main][..], "branches [], its recipe has [main]"),
            (whole.files.clone(), &[Branch::Main, aux], "branches [main], its recipe has [main, aux1]"),
            (twice, &[Branch::Main], "branches [main, main], its recipe has [main]"),
        ] {
            ArtefactCard { files, ..whole.clone() }.write(folder.path()).unwrap();
            let error = read(folder.path(), branches).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("remove the folder"), "{error}");
        }
    }

    #[test]
    fn a_card_comes_back_and_a_changed_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), &[Branch::Main]).unwrap(), None);
        let card = card(folder.path());
        card.write(folder.path()).unwrap();
        let other = ArtefactCard::read(folder.path(), &Digest::of_bytes(b"another recipe"), &[Branch::Main]).unwrap();
        assert_eq!(other, None);
        assert_eq!(read(folder.path(), &[Branch::Main]).unwrap(), Some(card));
        std::fs::write(folder.path().join("main.onnx"), b"another file").unwrap();
        let error = read(folder.path(), &[Branch::Main]).unwrap_err().to_string();
        assert!(error.contains("main.onnx") && error.contains("the card says"), "{error}");
    }
}

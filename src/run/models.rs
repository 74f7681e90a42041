//! Models made ready: trained and exported if they are not yet, foreign files checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::RunError;
use super::settings::{Settings, Until};
use crate::dataset::ImageSet;
use crate::digest::Digest;
use crate::encoder::onnx::Runtime;
use crate::record::TrainingPoint;
use crate::record::card::ArtefactCard;
use crate::suite::attack::Branch;
use crate::suite::load::ModelSource;
use crate::suite::plan::{Plan, PlannedModel, without_prose};
use crate::suite::recipe::{OnnxCard, Recipe};

/// A model that can be measured.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadyModel {
    /// Its id.
    pub id: String,
    /// Training method word, or `foreign`.
    pub training: String,
    /// Training seed, 0 for a foreign file.
    pub seed: u64,
    /// What it is, in a sentence.
    pub description: String,
    /// Which images chose its epoch: `validation`, `test`, `last`, `foreign`.
    pub selected_on: String,
    /// Where it lies.
    pub place: PathBuf,
    /// Its files by branch.
    pub files: BTreeMap<Branch, OnnxFile>,
    /// Course of its training.
    pub curve: Vec<TrainingPoint>,
}

/// An ONNX file and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: Digest,
}

impl ReadyModel {
    /// The branches it has, main first.
    pub fn branches(&self) -> Vec<Branch> {
        self.files.keys().copied().collect()
    }
}

/// Version of training and export; a change that alters weights or files raises it, so that old artefacts are not reused.
const ARTEFACT_VERSION: u32 = 1;

/// Makes every model of the plan ready, in plan order.
///
/// # Errors
/// [`RunError`]; models that are finished stay.
pub fn prepare(
    plan: &Plan,
    images: &ImageSet,
    runtime: &Runtime,
    settings: &Settings<'_>,
) -> Result<Vec<ReadyModel>, RunError> {
    let mut ready = Vec::new();
    for model in &plan.models {
        for &seed in &model.seeds {
            settings.cancel.check()?;
            ready.push(match &model.source {
                ModelSource::Recipe(recipe) => trained(model, recipe, seed, images, runtime, settings)?,
                ModelSource::Onnx(card) => foreign(model, card, settings)?,
            });
        }
    }
    Ok(ready)
}

fn trained(
    model: &PlannedModel,
    recipe: &Recipe,
    seed: u64,
    images: &ImageSet,
    runtime: &Runtime,
    settings: &Settings<'_>,
) -> Result<ReadyModel, RunError> {
    let made_from = Digest::of_value(&(ARTEFACT_VERSION, without_prose(recipe), seed, &images.digest));
    let folder = settings.artifacts.join(format!("{}-seed{seed}-{}", model.id, made_from.short()));
    let making = Making { model, recipe, seed, images, runtime, settings, folder: &folder, made_from: &made_from };
    let card = match ArtefactCard::read(&folder)? {
        Some(card) if card.made_from == made_from => card,
        _ if settings.until == Until::Trained => return train_only(&making),
        _ => make(&making)?,
    };
    let files = card
        .files
        .iter()
        .map(|file| (file.branch, OnnxFile { path: folder.join(&file.file), sha256: file.sha256.clone() }))
        .collect();
    Ok(ReadyModel {
        id: model.id.clone(),
        training: card.training,
        seed,
        description: recipe.about.trim().to_string(),
        selected_on: card.selected_on,
        place: folder,
        files,
        curve: card.curve,
    })
}

/// Everything that training and exporting one model needs.
#[cfg_attr(not(feature = "train"), expect(dead_code, reason = "the evaluator alone only says that it cannot train"))]
pub(super) struct Making<'a> {
    pub(super) model: &'a PlannedModel,
    pub(super) recipe: &'a Recipe,
    pub(super) seed: u64,
    pub(super) images: &'a ImageSet,
    pub(super) runtime: &'a Runtime,
    pub(super) settings: &'a Settings<'a>,
    pub(super) folder: &'a Path,
    pub(super) made_from: &'a Digest,
}

#[cfg(feature = "train")]
fn make(making: &Making<'_>) -> Result<ArtefactCard, RunError> {
    super::training::make(making)
}

#[cfg(feature = "train")]
fn train_only(making: &Making<'_>) -> Result<ReadyModel, RunError> {
    let trained = super::training::train_only(making)?;
    Ok(ReadyModel {
        id: making.model.id.clone(),
        training: making.recipe.method.name().into(),
        seed: making.seed,
        description: making.recipe.about.trim().to_string(),
        selected_on: String::new(),
        place: making.folder.to_path_buf(),
        files: BTreeMap::new(),
        curve: trained.curve,
    })
}

#[cfg(not(feature = "train"))]
fn train_only(making: &Making<'_>) -> Result<ReadyModel, RunError> {
    Err(RunError::CannotTrain { model: making.model.id.clone(), folder: making.folder.to_path_buf() })
}

#[cfg(not(feature = "train"))]
fn make(making: &Making<'_>) -> Result<ArtefactCard, RunError> {
    Err(RunError::CannotTrain { model: making.model.id.clone(), folder: making.folder.to_path_buf() })
}

fn foreign(model: &PlannedModel, card: &OnnxCard, settings: &Settings<'_>) -> Result<ReadyModel, RunError> {
    let path = match (card.mean, card.std) {
        (Some(mean), Some(std)) => wrapped(model, card, mean, std, settings)?,
        _ => card.onnx.clone(),
    };
    let sha256 = digest(&path)?;
    Ok(ReadyModel {
        id: model.id.clone(),
        training: "foreign".into(),
        seed: 0,
        description: card.about.trim().to_string(),
        selected_on: "foreign".into(),
        place: card.onnx.clone(),
        files: BTreeMap::from([(Branch::Main, OnnxFile { path, sha256 })]),
        curve: vec![],
    })
}

/// The digest of a file, or of a file and those that hold its weights.
fn digest(path: &Path) -> Result<Digest, RunError> {
    let of_file = |path: &Path| {
        Digest::of_file(path).map_err(|source| RunError::OnnxMissing { path: path.to_path_buf(), source })
    };
    let own = of_file(path)?;
    let parts = crate::onnx::file::parts(path)?;
    let weights = parts[1..].iter().map(|part| of_file(part)).collect::<Result<Vec<_>, _>>()?;
    Ok(if weights.is_empty() { own } else { Digest::of_value(&(own, weights)) })
}

/// A copy of a foreign file that takes pixels in `[0, 1]` and normalises them itself, so that budgets are in pixels.
fn wrapped(
    model: &PlannedModel,
    card: &OnnxCard,
    mean: [f32; 3],
    std: [f32; 3],
    settings: &Settings<'_>,
) -> Result<PathBuf, RunError> {
    let original = digest(&card.onnx)?;
    let made_from = Digest::of_value(&(original, mean.map(f32::to_bits), std.map(f32::to_bits)));
    let path = settings.artifacts.join(format!("{}-{}", model.id, made_from.short())).join("main.onnx");
    if !path.is_file() {
        let file = crate::onnx::file::read(&card.onnx)?;
        let wrapped = crate::onnx::wrap::normalized_input(file, &mean, &std)?;
        crate::onnx::file::write_atomic(&path, &wrapped)?;
    }
    Ok(path)
}

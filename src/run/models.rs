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
use crate::suite::recipe::Recipe;
use crate::suite::shards::Part;

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
    /// Whether nodes without a gradient are passed straight through.
    pub straight_through: bool,
}

/// An ONNX file and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnnxFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its SHA-256; of a foreign file what it computes, without the notes about it.
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

/// Makes every model of the plan, or of a part of it, ready, in plan order.
///
/// # Errors
/// [`RunError`]; models that are finished stay.
pub fn prepare(
    plan: &Plan,
    images: &ImageSet,
    runtime: &Runtime,
    settings: &Settings<'_>,
    part: Option<&Part>,
) -> Result<Vec<ReadyModel>, RunError> {
    let mut ready = Vec::new();
    for model in &plan.models {
        for &seed in &model.seeds {
            if part.is_some_and(|part| !part.needs(&model.id, seed)) {
                continue;
            }
            settings.cancel.check()?;
            ready.push(match &model.source {
                ModelSource::Recipe(recipe) => trained(model, recipe, seed, images, runtime, settings)?,
                ModelSource::Onnx(card) => {
                    super::foreign::prepare(model, card, images.size, runtime, &settings.artifacts)?
                }
            });
        }
    }
    Ok(ready)
}

/// Where the artefact of a recipe and a seed lies, and what it is made from.
fn artefact(
    model: &PlannedModel,
    recipe: &Recipe,
    seed: u64,
    images: &ImageSet,
    artifacts: &Path,
) -> (PathBuf, Digest) {
    let made_from = Digest::of_value(&(ARTEFACT_VERSION, without_prose(recipe), seed, &images.digest));
    (artifacts.join(format!("{}-seed{seed}-{}", model.id, made_from.short())), made_from)
}

/// The finished model of a recipe and a seed; `None` if it is still to be trained.
///
/// # Errors
/// [`RunError::Card`] for a card that cannot be read.
pub(super) fn finished(
    model: &PlannedModel,
    recipe: &Recipe,
    seed: u64,
    images: &ImageSet,
    artifacts: &Path,
) -> Result<Option<ReadyModel>, RunError> {
    let (folder, made_from) = artefact(model, recipe, seed, images, artifacts);
    let card = ArtefactCard::read(&folder, &made_from, &model.branches())?;
    Ok(card.map(|card| ready(model, recipe, seed, folder, card)))
}

fn trained(
    model: &PlannedModel,
    recipe: &Recipe,
    seed: u64,
    images: &ImageSet,
    runtime: &Runtime,
    settings: &Settings<'_>,
) -> Result<ReadyModel, RunError> {
    let (folder, made_from) = artefact(model, recipe, seed, images, &settings.artifacts);
    let making = Making { model, recipe, seed, images, runtime, settings, folder: &folder, made_from: &made_from };
    let card = match ArtefactCard::read(&folder, &made_from, &model.branches())? {
        Some(card) => card,
        None if settings.until == Until::Trained => return train_only(&making),
        None => make(&making)?,
    };
    Ok(ready(model, recipe, seed, folder, card))
}

fn ready(model: &PlannedModel, recipe: &Recipe, seed: u64, folder: PathBuf, card: ArtefactCard) -> ReadyModel {
    let files = card
        .files
        .iter()
        .map(|file| (file.branch, OnnxFile { path: folder.join(&file.file), sha256: file.sha256.clone() }))
        .collect();
    ReadyModel {
        id: model.id.clone(),
        training: card.training,
        seed,
        description: recipe.about.trim().to_string(),
        selected_on: card.selected_on,
        place: folder,
        files,
        curve: card.curve,
        straight_through: false,
    }
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
        straight_through: false,
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

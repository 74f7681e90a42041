//! Training and export of one model into its artefact folder (feature `train`).

use super::RunError;
use super::models::Making;
use crate::artefact::write_bytes;
use crate::digest::Digest;
use crate::encoder::onnx::{OnnxEncoder, OnnxOptions};
use crate::export::{self, ExportNotes};
use crate::onnx;
use crate::record::card::{ArtefactCard, BranchFile};
use crate::suite::attack::Branch;
use crate::suite::recipe::Selection;
use crate::train::device::DeviceChoice;
use crate::train::model::Model;
use crate::train::{TrainJob, Trained, train};

/// Real images on which the exported file is compared with libtorch.
const PARITY_IMAGES: usize = 256;

/// Trains (or finishes training), exports every branch, proves parity, writes the card last.
pub(super) fn make(making: &Making<'_>) -> Result<ArtefactCard, RunError> {
    let Making { model, recipe, seed, images, folder, .. } = making;
    let trained = train_only(making)?;
    let files = export_branches(making, &trained)?;
    let card = ArtefactCard {
        schema: 1,
        model: model.id.clone(),
        training: recipe.method.name().into(),
        seed: *seed,
        made_from: making.made_from.clone(),
        dataset: images.digest.clone(),
        image_size: images.size,
        embedding_dim: recipe.embedding_dim,
        selected_on: selection_word(trained.selected_on).into(),
        selected_epoch: trained.selected_epoch,
        curve: trained.curve,
        files,
    };
    card.write(folder)?;
    Ok(card)
}

/// Trains to the last epoch, from the checkpoint if there is one.
pub(super) fn train_only(making: &Making<'_>) -> Result<Trained, RunError> {
    let Making { model, recipe, seed, images, settings, folder, .. } = making;
    let cuda = if settings.device.starts_with("cuda") { Some((settings.cuda_library)()?) } else { None };
    Ok(train(&TrainJob {
        model: &model.id,
        recipe,
        seed: *seed,
        images,
        start: None,
        device: settings.device.parse::<DeviceChoice>()?.open(cuda.as_deref())?,
        threads: settings.threads,
        folder,
        observer: settings.observer,
        cancel: &settings.cancel,
    })?)
}

fn selection_word(selection: Selection) -> &'static str {
    match selection {
        Selection::Validation => "validation",
        Selection::Test => "test",
        Selection::Last => "last",
    }
}

fn export_branches(making: &Making<'_>, trained: &Trained) -> Result<Vec<BranchFile>, RunError> {
    let Making { recipe, seed, images, runtime, settings, folder, made_from, model: planned } = making;
    let observer = settings.observer;
    let branches = trained.network.branches();
    observer.begin(&format!("export {} seed {seed}", planned.id), branches.len() as u64, "files");
    let cpu = DeviceChoice::Cpu.open(None)?;
    let model = Model::from_weights(&trained.network, &trained.weights, cpu)?;
    let sample: Vec<usize> = images.split.test.iter().copied().take(PARITY_IMAGES).collect();
    let sample = images.images(&sample);
    let mut files = Vec::new();
    for branch in branches {
        settings.cancel.check()?;
        let notes = ExportNotes { recipe: (*made_from).clone(), seed: *seed };
        let exported = export::export_branch(&trained.network, &trained.weights, branch, images.size, &notes)?;
        let bytes = onnx::encode(&exported);
        let file = export::file_name(branch);
        let path = folder.join(&file);
        write_bytes(&path, &bytes)?;
        let name = format!("{} ({branch})", planned.id);
        let options = OnnxOptions { name: Some(name), threads: settings.threads, ..OnnxOptions::default() };
        let mut encoder = OnnxEncoder::open(runtime, &path, &options)?;
        let parity = export::prove(&model, branch, &mut encoder, &sample)?;
        files.push(BranchFile { branch, file, sha256: Digest::of_bytes(&bytes), parity });
        observer.advance(1);
    }
    observer.end();
    debug_assert_eq!(files.len(), 1 + recipe.method.auxiliary_branches() as usize);
    debug_assert_eq!(files[0].branch, Branch::Main);
    Ok(files)
}

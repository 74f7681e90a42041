//! Somebody else's ONNX file made ready: wrapped as its card says, tried in batches, and kept as an artefact.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::RunError;
use super::models::{OnnxFile, ReadyModel};
use crate::digest::Digest;
use crate::encoder::EncoderError;
use crate::encoder::onnx::Runtime;
use crate::encoder::onnx::batching::settle;
use crate::onnx;
use crate::onnx::wrap::{Adapted, NOTES, Note, Source, adapt};
use crate::onnx::{promote, validate};
use crate::suite::attack::Branch;
use crate::suite::card::OnnxCard;
use crate::suite::plan::PlannedModel;

/// Version of the wrapping; a change that alters a file raises it, so that old artefacts are not reused.
const WRAPPING_VERSION: u32 = 1;

/// Makes a foreign model ready for square images of `image_size` pixels.
///
/// # Errors
/// [`RunError::OnnxMissing`], [`RunError::Foreign`] naming model and file, or the runtime's errors.
pub(super) fn prepare(
    model: &PlannedModel,
    card: &OnnxCard,
    image_size: usize,
    runtime: &Runtime,
    artifacts: &Path,
) -> Result<ReadyModel, RunError> {
    let path = &card.onnx;
    let original = digest(path)?;
    let file = artifacts.join(artefact(model, card, image_size, runtime, &original));
    if !file.is_file() {
        let foreign =
            |source| RunError::Foreign { model: model.id.clone(), path: path.clone(), source: Box::new(source) };
        let read = onnx::file::read(path)?;
        let mut adapted = adapt(read, &card.wrapping(), image_size).map_err(foreign)?;
        let mut precision = "attacks are made on a float32 copy, the file itself answers".to_string();
        let promoted = promote::is_needed(&adapted.model);
        let settled = match settle(runtime, &adapted, &model.id) {
            Err(EncoderError::Runtime { reason, .. }) if promoted => {
                let reason = reason.lines().next().unwrap_or_default();
                precision =
                    format!("a float32 copy answers and is attacked, the runtime cannot run the file: {reason}");
                adapted.model = promote::to_float32(adapted.model);
                settle(runtime, &adapted, &model.id)?
            }
            other => other?,
        };
        let mut notes = adapted.notes;
        notes.retain(|note| note.key != "batch");
        notes.push(settled.note);
        let mut wrapped = settled.model;
        if promoted {
            notes.push(Note::new("precision", "half or double floats", Source::File, precision));
        }
        for (tensor, count) in validate::infinite_weights(&wrapped) {
            notes.push(Note::new("weights", format!("{count} infinities in `{tensor}`"), Source::File, ""));
        }
        Adapted::store_notes(&mut wrapped, &notes);
        onnx::file::write_atomic(&file, &wrapped)?;
    }
    let wrapped = onnx::file::read(&file)?;
    let sha256 = identity(&wrapped, &file)?;
    Ok(ReadyModel {
        id: model.id.clone(),
        training: "foreign".into(),
        seed: 0,
        description: description(card, &original, &wrapped),
        selected_on: "foreign".into(),
        place: card.onnx.clone(),
        files: BTreeMap::from([(Branch::Main, OnnxFile { path: file, sha256 })]),
        curve: vec![],
        straight_through: card.straight_through,
    })
}

/// Path of the wrapped file below the folder of artefacts.
fn artefact(model: &PlannedModel, card: &OnnxCard, image_size: usize, runtime: &Runtime, original: &Digest) -> PathBuf {
    let bare = OnnxCard { about: String::new(), onnx: Default::default(), ..card.clone() };
    let made_from = Digest::of_value(&(WRAPPING_VERSION, original, bare, image_size, runtime.version()));
    Path::new(&format!("{}-{}", model.id, made_from.short())).join("main.onnx")
}

/// Whether a foreign model was made ready before.
///
/// # Errors
/// [`RunError::OnnxMissing`] if its file is not there.
pub(super) fn is_ready(
    model: &PlannedModel,
    card: &OnnxCard,
    image_size: usize,
    runtime: &Runtime,
    artifacts: &Path,
) -> Result<bool, RunError> {
    Ok(artifacts.join(artefact(model, card, image_size, runtime, &digest(&card.onnx)?)).is_file())
}

/// The digest of a file, or of a file and those that hold its weights.
fn digest(path: &Path) -> Result<Digest, RunError> {
    let of_file = |path: &Path| {
        Digest::of_file(path).map_err(|source| RunError::OnnxMissing { path: path.to_path_buf(), source })
    };
    let own = of_file(path)?;
    let parts = onnx::file::parts(path)?;
    let weights = parts[1..].iter().map(|part| of_file(part)).collect::<Result<Vec<_>, _>>()?;
    Ok(if weights.is_empty() { own } else { Digest::of_value(&(own, weights)) })
}

/// What the wrapped file computes, whatever is noted about it: the notes hold measured differences, whose last digits are
/// another machine's choice, and a model must not be another one there.
fn identity(wrapped: &onnx::proto::ModelProto, file: &Path) -> Result<Digest, RunError> {
    if onnx::file::parts(file)?.len() > 1 {
        return digest(file);
    }
    let mut bare = wrapped.clone();
    bare.metadata_props.retain(|property| property.key != NOTES);
    Ok(Digest::of_bytes(&onnx::file::encode(&bare)))
}

/// The card's prose, the file's digest, and everything that is taken for granted about it.
fn description(card: &OnnxCard, original: &Digest, wrapped: &onnx::proto::ModelProto) -> String {
    let notes = wrapped.metadata(NOTES).unwrap_or_default().replace('\n', "; ");
    let name = card.onnx.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let rounded = if card.straight_through { "; straight_through = true (given)" } else { "" };
    format!("{} File {name}, SHA-256 {}: {notes}{rounded}", card.about.trim(), original.short())
}

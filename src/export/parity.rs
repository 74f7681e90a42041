//! Proof that an exported file computes what the trained model computes.

use serde::{Deserialize, Serialize};
use tch::{Device, TchError, Tensor};

use crate::batch::{Images, ShapeError};
use crate::encoder::{Encoder, EncoderError};
use crate::suite::attack::Branch;
use crate::train::model::{Model, ModelError, Pass};

/// The largest difference of an embedding entry that is still rounding. Entries of a unit embedding are about
/// `1/√d`, so this is a thousandth of one; twice the depth of rounding seen on ResNet-152.
pub const TOLERANCE: f64 = 1e-4;

/// Images embedded at once.
const BATCH: usize = 32;

/// How far file and model are apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parity {
    /// Images compared.
    pub images: usize,
    /// Largest difference of an embedding entry.
    pub max_abs_difference: f64,
    /// Smallest cosine of the two embeddings of an image.
    pub min_cosine: f64,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ParityError {
    /// They differ by more than rounding.
    #[error(
        "branch {branch}: image {image}: embedding entry {entry} is {file} from the file and {model} from the trained \
         model, more than {TOLERANCE} apart; the export is wrong, do not use the file"
    )]
    TooFar {
        /// The branch.
        branch: Branch,
        /// Position of the image.
        image: usize,
        /// Position in the embedding.
        entry: usize,
        /// The file's value.
        file: f32,
        /// The model's value.
        model: f32,
    },
    /// Nothing to compare.
    #[error("no images were given to compare the file with the trained model")]
    NoImages,
    /// The file cannot be run.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The model cannot be run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Embeddings of different sizes.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

impl From<TchError> for ParityError {
    fn from(error: TchError) -> Self {
        Self::Model(error.into())
    }
}

/// Embeds `images` with both and compares every entry.
///
/// The model answers on the CPU in full precision wherever it was trained: a GPU's convolutions may round to 10 bits.
///
/// # Errors
/// [`ParityError`] if an entry differs by more than [`TOLERANCE`] or is not finite, or if one of them cannot run.
pub fn prove(model: &Model, branch: Branch, encoder: &mut dyn Encoder, images: &Images) -> Result<Parity, ParityError> {
    if images.is_empty() {
        return Err(ParityError::NoImages);
    }
    let moved = match model.device() {
        Device::Cpu => None,
        _ => Some(Model::from_weights(model.network(), &model.to_weights(), Device::Cpu)?),
    };
    let model = moved.as_ref().unwrap_or(model);
    let [_, c, h, w] = images.shape();
    let mut parity = Parity { images: images.len(), max_abs_difference: 0.0, min_cosine: 1.0 };
    for start in (0..images.len()).step_by(BATCH) {
        let count = BATCH.min(images.len() - start);
        let pixels = &images.as_slice()[start * images.stride()..(start + count) * images.stride()];
        let from_file = encoder.embed(&Images::new([count, c, h, w], pixels.to_vec())?)?;
        let shape = [count, c, h, w].map(|s| s as i64);
        let from_model = tch::no_grad(|| {
            let input = model.normalize(&Tensor::f_from_slice(pixels)?.f_view(shape)?);
            model.try_forward(&input, Pass::Eval(branch))?.f_contiguous()
        })?;
        let dim = model.network().embedding_dim;
        if from_file.dim() != dim || from_file.len() != count {
            let (got, wanted) = (vec![from_file.len(), from_file.dim()], vec![count, dim]);
            return Err(ShapeError::Mismatch { what: "embeddings of the file", got, wanted }.into());
        }
        let mut rows = vec![0f32; count * dim];
        from_model.f_copy_data(&mut rows, count * dim)?;
        for (i, row) in rows.chunks(dim).enumerate() {
            compare(&mut parity, branch, start + i, from_file.row(i), row)?;
        }
    }
    Ok(parity)
}

fn compare(parity: &mut Parity, branch: Branch, image: usize, file: &[f32], model: &[f32]) -> Result<(), ParityError> {
    let (mut dot, mut lengths) = (0.0, [0.0, 0.0]);
    for (entry, (&a, &b)) in file.iter().zip(model).enumerate() {
        let (x, y) = (f64::from(a), f64::from(b));
        let difference = (x - y).abs();
        // NaN is within no tolerance.
        if !(difference <= TOLERANCE) {
            return Err(ParityError::TooFar { branch, image, entry, file: a, model: b });
        }
        parity.max_abs_difference = parity.max_abs_difference.max(difference);
        dot += x * y;
        lengths[0] += x * x;
        lengths[1] += y * y;
    }
    parity.min_cosine = parity.min_cosine.min(dot / (lengths[0] * lengths[1]).sqrt());
    Ok(())
}

#[cfg(test)]
mod tests;

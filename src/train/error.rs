//! What may end a training early.

use tch::TchError;

use super::checkpoint::CheckpointError;
use super::model::ModelError;
use super::pretrained::FileError;
use super::sampler::SamplerError;
use crate::dataset::loader::LoaderError;
use crate::metric::neighbors::NeighborError;
use crate::network::NetworkError;
use crate::network::pretrained::PretrainedError;
use crate::progress::Cancelled;

/// Why a training stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The backbone cannot be built.
    #[error("backbone: {0}")]
    Network(#[from] NetworkError),
    /// The model cannot be made or filled.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The pretrained file cannot be used.
    #[error(transparent)]
    PretrainedFile(#[from] FileError),
    /// Its tensors do not fit.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// No batches can be drawn.
    #[error("sampler: {0}")]
    Sampler(#[from] SamplerError),
    /// A batch cannot be loaded.
    #[error("loader: {0}")]
    Loader(#[from] LoaderError),
    /// The state cannot be kept or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// libtorch failed.
    #[error("libtorch failed; a smaller batch_size needs less memory")]
    Torch(#[from] TchError),
    /// The user stopped it.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A method with adversarial branches and no way to make adversarial images.
    #[error("method `{method}`: got no attack with at least 1 step; add attack = {{ epsilon = \"8/255\", steps = 1 }}")]
    Attack {
        /// The method.
        method: &'static str,
    },
    /// A method that builds triplets, and a loss that is not one of triplets.
    #[error(
        "method `{method}`: builds triplets, got loss `{loss}`; take loss.triplet = {{ distance = \"euclidean\" }}"
    )]
    TripletLoss {
        /// The method.
        method: &'static str,
        /// The loss.
        loss: &'static str,
    },
    /// A batch with a class that training does not have.
    #[error("training: label {label} is not among the training classes; this is a mistake of the program")]
    Label {
        /// The label.
        label: u32,
    },
    /// Nothing to choose the best epoch on.
    #[error(
        "selection: the data set `{dataset}` has no {split} image of a class with at least 2; set quirks.selection = \
         \"last\" or keep more classes back"
    )]
    NoSelectionImages {
        /// The data set.
        dataset: String,
        /// `validation` or `test`.
        split: &'static str,
    },
    /// The images to choose on cannot be ranked.
    #[error("selection: {0}")]
    Selection(#[from] NeighborError),
    /// The loss is NaN or infinite.
    #[error(
        "training: the loss is {loss} in epoch {epoch}, step {step}, on the images {}; lower the learning rate, or look \
         at these images", images.join(", ")
    )]
    NotFinite {
        /// What it is.
        loss: f64,
        /// Epoch, from 1.
        epoch: usize,
        /// Step of the epoch, from 1.
        step: usize,
        /// Sources of the batch's images.
        images: Vec<String>,
    },
}

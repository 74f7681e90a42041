//! Plans become artefacts: execute, resume, report progress.

mod clock;
pub mod demands;
pub mod derived;
pub mod environment;
pub mod ers;
pub mod estimate;
pub mod execute;
pub mod expect;
pub mod flips;
mod foreign;
pub mod libraries;
mod machine;
pub mod models;
pub mod pictures;
pub mod profile;
pub mod progress;
pub mod queries;
pub mod settings;
pub mod shard;
pub mod soundness;
pub mod store;
#[cfg(feature = "train")]
mod training;
pub mod trials;
pub mod verify;

use std::path::PathBuf;

use crate::artefact::WriteError;
use crate::attack::AttackError;
use crate::dataset::DatasetError;
use crate::encoder::EncoderError;
use crate::onnx::OnnxError;
use crate::progress::Cancelled;
use crate::record::card::CardError;
use crate::record::folder::FolderError;
use crate::report::ReportError;
use crate::suite::load::SuiteError;

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The suite or one of its models.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// The images.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// ONNX Runtime or a model in it.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// An ONNX file.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// A model's card.
    #[error(transparent)]
    Card(#[from] CardError),
    /// An attack that cannot be set up.
    #[error(transparent)]
    Attack(#[from] AttackError),
    /// The run folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Parts of a run that do not make one.
    #[error(transparent)]
    Merge(#[from] shard::merge::MergeError),
    /// A file that could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A trial to do again that this suite does not have.
    #[error(
        "suite `{suite}` has no trial `{key}`; the keys are in the column `trial` of measurements.csv, and they change with the suite, the images and the models' files"
    )]
    UnknownTrial {
        /// What was asked for.
        key: String,
        /// Name of the suite.
        suite: String,
    },
    /// Ctrl-C.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Nothing to search with.
    #[error(
        "data set {dataset}: no test image has a same-class partner, so recall is undefined; give every test class at least two images"
    )]
    NoQueries {
        /// Which.
        dataset: String,
    },
    /// Goals that the data cannot serve.
    #[error("{}", .problems.join("\n"))]
    Demands {
        /// One for each attack: what it needs, what there is, how to fix it.
        problems: Vec<String>,
    },
    /// The pictures of a finished run are not to be had.
    #[error(
        "the report shows pictures of the run `{suite}`, and its data set cannot be opened in {}: {why}; --data FOLDER names another folder of data sets",
        data.display()
    )]
    NoPictures {
        /// Name of its suite.
        suite: String,
        /// The folder of data sets.
        data: PathBuf,
        /// What is missing and how to put it there.
        why: String,
    },
    /// The pictures that are there are not the run's.
    #[error(
        "the pictures of data set {dataset} are not those of the run: their digest is {got}, the run says {wanted}; give --data the folder of data sets that the run had, or run the suite again"
    )]
    OtherPictures {
        /// Which data set.
        dataset: String,
        /// Digest of what is there.
        got: String,
        /// Digest of what was measured.
        wanted: String,
    },
    /// Images of another size than the model takes.
    #[error(
        "model `{model}` takes images of shape {wanted:?}, the suite's data set has image_size = {got}; change image_size"
    )]
    InputSize {
        /// Model id.
        model: String,
        /// `[c, h, w]` it takes.
        wanted: [usize; 3],
        /// Side of the images.
        got: usize,
    },
    /// A file that is no image encoder, or not the one that was described.
    #[error("{}: {source}", path.display())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// What does not fit and what helps.
        #[source]
        source: Box<OnnxError>,
    },
    /// A foreign file that its card does not fit.
    #[error("model `{model}` ({}): {source}", path.display())]
    Foreign {
        /// Model id.
        model: String,
        /// The file.
        path: PathBuf,
        /// What does not fit and which key helps.
        #[source]
        source: Box<OnnxError>,
    },
    /// A model file that is not there.
    #[error("{}: {source}", path.display())]
    OnnxMissing {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The evaluator alone was asked to train.
    #[error("model `{model}` is not trained yet (no {}), and this build cannot train; build with the default features, or copy the folder here", folder.display())]
    CannotTrain {
        /// Model id.
        model: String,
        /// Where its artefact would be.
        folder: PathBuf,
    },
    /// A library that is not there.
    #[error(transparent)]
    Library(#[from] libraries::LibraryError),
    /// Training.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Train(#[from] crate::train::TrainError),
    /// A model in libtorch.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Model(#[from] crate::train::model::ModelError),
    /// The device of training.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Device(#[from] crate::train::device::DeviceError),
    /// Export.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Export(#[from] crate::export::ExportError),
    /// An exported file that does not compute what was trained.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Parity(#[from] crate::export::ParityError),
}

//! What the command line decides, passed down: nothing below reads the environment or the clock.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use super::libraries::LibraryError;
use crate::encoder::onnx::Provider;
use crate::progress::{Cancel, Observer};
use crate::suite::shards::Shard;

/// How far a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    /// Models are trained.
    Trained,
    /// ONNX files are written and proven.
    Exported,
    /// Every trial is measured and recorded.
    Measured,
    /// The report is written.
    Reported,
}

/// Folders, devices and people to talk to.
pub struct Settings<'a> {
    /// Folder of data sets and their caches.
    pub data: PathBuf,
    /// Folder of recipes and cards.
    pub models: PathBuf,
    /// Folder of trained models.
    pub artifacts: PathBuf,
    /// Folder of the results; `None`: `reports/runs/<suite>`.
    pub out: Option<PathBuf>,
    /// `cpu`, `cuda`, `cuda:N`.
    pub device: String,
    /// Who computes in ONNX Runtime.
    pub provider: Provider,
    /// Folder for files that are gone when the run ends.
    pub scratch: PathBuf,
    /// Threads of training and of ONNX Runtime.
    pub threads: usize,
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
    /// Finds `libtorch_cuda.so`; asked only for `--device cuda`.
    pub cuda_library: Box<dyn Fn() -> Result<PathBuf, LibraryError>>,
    /// Value of `PATH`, for the npm client that fetches data.
    pub search_path: OsString,
    /// The command that makes the run again.
    pub command: String,
    /// Version of this program and its commit.
    pub program: String,
    /// Start of the run, seconds since 1970.
    pub started_unix_s: u64,
    /// The part of the plan to do; `None`: all of it.
    pub shard: Option<Shard>,
    /// Keys of the only trials to measure; `None`: all of them.
    pub only: Option<BTreeSet<String>>,
    /// Where to stop.
    pub until: Until,
    /// Hears of progress.
    pub observer: &'a dyn Observer,
    /// Set by Ctrl-C.
    pub cancel: Cancel,
}

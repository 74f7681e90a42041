//! ONNX Runtime sessions and tensors.

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Tensor;

use super::Runtime;
use crate::encoder::EncoderError;
use crate::onnx::proto::ModelProto;
use crate::onnx::{self};

/// Turns an error of the runtime into ours.
pub(super) fn failed<R>(name: &str) -> impl Fn(ort::Error<R>) -> EncoderError + '_ {
    move |e| EncoderError::Runtime { name: name.into(), reason: e.message().to_string() }
}

/// Opens a session of one thread on a model in memory. Parallelism is over sub-batches, see
/// [`super::OnnxEncoder`].
pub(super) fn open(runtime: &Runtime, name: &str, model: &ModelProto) -> Result<Session, EncoderError> {
    let build = || {
        Session::builder(&runtime.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(ort::Error::<()>::from)?
            .with_intra_threads(1)
            .map_err(ort::Error::<()>::from)?
            .with_log_level(ort::logging::LogLevel::Error)
            .map_err(ort::Error::<()>::from)?
            .commit_from_memory(&onnx::encode(model))
    };
    build().map_err(failed(name))
}

/// A tensor that owns its numbers.
pub(super) fn tensor(name: &str, shape: &[usize], data: Vec<f32>) -> Result<Tensor<f32>, EncoderError> {
    Tensor::from_array((shape.to_vec(), data)).map_err(failed(name))
}

//! ONNX Runtime sessions and tensors.

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Tensor;

use super::Runtime;
use super::weights::{self, Weights};
use crate::encoder::EncoderError;
use crate::onnx::graph::OPSET;
use crate::onnx::proto::ModelProto;
use crate::onnx::split;

/// Turns an error of the runtime into ours.
pub(super) fn failed<R>(name: &str) -> impl Fn(ort::Error<R>) -> EncoderError + '_ {
    move |e| EncoderError::Runtime { name: name.into(), reason: e.message().to_string() }
}

/// Opens a session of one thread on a model in memory. Large weights are handed over, not copied; sessions of one model
/// share them. Parallelism is over sub-batches, see [`super::OnnxEncoder`].
pub(super) fn open(
    runtime: &Runtime,
    name: &str,
    model: &ModelProto,
    weights: &mut Weights,
) -> Result<Session, EncoderError> {
    let (graph, large) = split::split(model, "weights", |tensor| weights::element_type(tensor.data_type).is_some());
    let graph = split::encode_within(&graph, split::MESSAGE_LIMIT)
        .map_err(|e| EncoderError::Unusable { name: name.into(), reason: e.to_string() })?;
    let mut build = || {
        let mut builder = Session::builder(&runtime.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(ort::Error::<()>::from)?
            .with_intra_threads(1)
            .map_err(ort::Error::<()>::from)?
            .with_log_level(ort::logging::LogLevel::Error)
            .map_err(ort::Error::<()>::from)?;
        for weight in &large {
            if let Some(value) = weights.value(weight)? {
                builder = builder.with_external_initializer(&weight.name, value).map_err(ort::Error::<()>::from)?;
            }
        }
        builder.commit_from_memory(&graph)
    };
    build().map_err(|e| EncoderError::Runtime { name: name.into(), reason: explained(e.message(), model) })
}

/// The runtime's words, and what to do where they do not say.
fn explained(reason: &str, model: &ModelProto) -> String {
    if reason.contains("opset") && model.opset() > OPSET {
        return format!(
            "the file uses operator set {}, export it again with opset {OPSET} if that is too new ({reason})",
            model.opset()
        );
    }
    reason.into()
}

/// A tensor that owns its numbers.
pub(super) fn tensor(name: &str, shape: &[usize], data: Vec<f32>) -> Result<Tensor<f32>, EncoderError> {
    Tensor::from_array((shape.to_vec(), data)).map_err(failed(name))
}

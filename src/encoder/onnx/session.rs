//! ONNX Runtime sessions and tensors.

use std::path::Path;

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::Tensor;

use super::Runtime;
use super::probe::Rewriting;
use super::provider::{CUDA_FIX, Provider, ProviderError};
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
    provider: Provider,
    weights: &mut Weights,
) -> Result<Session, EncoderError> {
    open_with(runtime, name, model, weights, &Opening { rewriting: Rewriting::On, provider, profile: None })
}

/// How a session is opened.
pub(super) struct Opening<'a> {
    /// Whether the runtime may rewrite the graph.
    pub rewriting: Rewriting,
    /// Where it runs.
    pub provider: Provider,
    /// Beginning of the file name of a profile, if one is wanted.
    pub profile: Option<&'a Path>,
}

/// As [`open`], with all choices.
pub(super) fn open_with(
    runtime: &Runtime,
    name: &str,
    model: &ModelProto,
    weights: &mut Weights,
    opening: &Opening<'_>,
) -> Result<Session, EncoderError> {
    let (graph, large) = split::split(model, "weights", |tensor| weights::element_type(tensor.data_type).is_some());
    let graph = split::encode_within(&graph, split::MESSAGE_LIMIT)
        .map_err(|e| EncoderError::Unusable { name: name.into(), reason: e.to_string() })?;
    let builder = builder(runtime, opening.rewriting).map_err(failed(name))?;
    let mut builder = on_provider(name, builder, opening.provider)?;
    if let Some(prefix) = opening.profile {
        builder = builder.with_profiling(prefix).map_err(failed(name))?;
    }
    for weight in &large {
        if let Some(value) = weights.value(weight).map_err(failed(name))? {
            builder = builder.with_external_initializer(&weight.name, value).map_err(failed(name))?;
        }
    }
    let opened = builder.commit_from_memory(&graph);
    opened.map_err(|e| EncoderError::Runtime { name: name.into(), reason: explained(e.message(), model) })
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

/// Opens a session on a file as it is.
pub(super) fn open_file(
    runtime: &Runtime,
    path: &Path,
    rewriting: Rewriting,
    provider: Provider,
) -> Result<Session, EncoderError> {
    let name = path.display().to_string();
    let mut builder = on_provider(&name, builder(runtime, rewriting).map_err(failed(&name))?, provider)?;
    builder.commit_from_file(path).map_err(failed(&name))
}

fn builder(runtime: &Runtime, rewriting: Rewriting) -> Result<SessionBuilder, ort::Error> {
    let level = match rewriting {
        Rewriting::On => GraphOptimizationLevel::All,
        Rewriting::Off => GraphOptimizationLevel::Disable,
    };
    // What fails comes back in the runtime's words. Its log would print them, too, even where failing is an answer: may
    // this file have three images at once?
    Ok(Session::builder(&runtime.environment)?
        .with_optimization_level(level)?
        .with_intra_threads(1)?
        .with_log_level(ort::logging::LogLevel::Fatal)?)
}

fn on_provider(name: &str, builder: SessionBuilder, provider: Provider) -> Result<SessionBuilder, EncoderError> {
    if provider == Provider::Cpu {
        return Ok(builder);
    }
    let cuda = ort::ep::CUDA::default().build().error_on_failure();
    builder.with_execution_providers([cuda]).map_err(|e| EncoderError::Provider {
        name: name.into(),
        source: ProviderError::Missing {
            provider: provider.name(),
            reason: e.message().trim().to_string(),
            fix: CUDA_FIX,
        },
    })
}

/// A tensor that owns its numbers.
pub(super) fn tensor(name: &str, shape: &[usize], data: Vec<f32>) -> Result<Tensor<f32>, EncoderError> {
    Tensor::from_array((shape.to_vec(), data)).map_err(failed(name))
}

//! ONNX Runtime sessions and tensors.

use std::path::Path;

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::Tensor;

use super::Runtime;
use super::probe::Rewriting;
use super::provider::{CUDA_FIX, Provider, ProviderError};
use crate::encoder::EncoderError;
use crate::onnx::proto::ModelProto;
use crate::onnx::{self};

/// Turns an error of the runtime into ours.
pub(super) fn failed<R>(name: &str) -> impl Fn(ort::Error<R>) -> EncoderError + '_ {
    move |e| EncoderError::Runtime { name: name.into(), reason: e.message().to_string() }
}

/// Opens a session of one thread on a model in memory. Parallelism is over sub-batches, see
/// [`super::OnnxEncoder`].
pub(super) fn open(
    runtime: &Runtime,
    name: &str,
    model: &ModelProto,
    provider: Provider,
) -> Result<Session, EncoderError> {
    open_with(runtime, name, model, Rewriting::On, provider, None)
}

/// As [`open`], with the runtime's rewriting on or off, and with a profile whose file name begins with `profile`.
pub(super) fn open_with(
    runtime: &Runtime,
    name: &str,
    model: &ModelProto,
    rewriting: Rewriting,
    provider: Provider,
    profile: Option<&Path>,
) -> Result<Session, EncoderError> {
    let mut builder = on_provider(name, builder(runtime, rewriting).map_err(failed(name))?, provider)?;
    if let Some(prefix) = profile {
        builder = builder.with_profiling(prefix).map_err(failed(name))?;
    }
    builder.commit_from_memory(&onnx::encode(model)).map_err(failed(name))
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
    Ok(Session::builder(&runtime.environment)?
        .with_optimization_level(level)?
        .with_intra_threads(1)?
        .with_log_level(ort::logging::LogLevel::Error)?)
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

//! One session on one graph with its inputs and outputs as they are: for the checks that look at a model from outside.
//! Attacks go through [`super::OnnxEncoder`].

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ort::session::{Session, SessionInputValue};
use ort::value::{Tensor, TensorElementType};

use super::provider::{NodeRun, Provider, ProviderError, nodes_of_profile};
use super::session::Opening;
use super::weights::Weights;
use super::{Runtime, session};
use crate::encoder::EncoderError;
use crate::onnx::proto::ModelProto;

/// Whether the runtime may replace nodes by faster ones that round otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewriting {
    /// Every node runs as the file says: equal nodes give equal bits.
    Off,
    /// As in production.
    On,
}

/// Numbers and their shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Axes.
    pub shape: Vec<usize>,
    /// Entries, row-major.
    pub data: Vec<f32>,
}

/// A relative difference for people: `0` or `3e-7`.
pub fn tell(difference: f64) -> String {
    if difference == 0.0 { "0".into() } else { format!("{difference:.0e}") }
}

/// A session.
#[derive(Debug)]
pub struct Probe {
    session: Session,
    name: String,
    profiled: Option<PathBuf>,
    /// Behind the session, which is dropped first: it reads these.
    _weights: Weights,
}

impl Probe {
    /// Opens a session on a model in memory.
    ///
    /// # Errors
    /// [`EncoderError::Runtime`] if the runtime refuses the model.
    pub fn open(
        runtime: &Runtime,
        name: &str,
        model: &ModelProto,
        rewriting: Rewriting,
        provider: Provider,
    ) -> Result<Self, EncoderError> {
        let mut weights = Weights::default();
        let opening = Opening { rewriting, provider, profile: None };
        let session = session::open_with(runtime, name, model, &mut weights, &opening)?;
        Ok(Self { session, name: name.into(), profiled: None, _weights: weights })
    }

    /// Opens a session on a file, untouched.
    ///
    /// # Errors
    /// As [`Probe::open`].
    pub fn open_file(
        runtime: &Runtime,
        path: &Path,
        rewriting: Rewriting,
        provider: Provider,
    ) -> Result<Self, EncoderError> {
        let name = path.display().to_string();
        let session = session::open_file(runtime, path, rewriting, provider)?;
        Ok(Self { session, name, profiled: None, _weights: Weights::default() })
    }

    /// Opens a session that writes down who runs each node, in a file in `scratch` that [`Probe::placement`] reads and
    /// removes.
    ///
    /// # Errors
    /// As [`Probe::open`]; [`EncoderError::Provider`] if the provider is missing.
    pub fn profiled(
        runtime: &Runtime,
        name: &str,
        model: &ModelProto,
        provider: Provider,
        scratch: &Path,
    ) -> Result<Self, EncoderError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = scratch.join(format!("mdprop-profile-{}-{count}", std::process::id()));
        let mut weights = Weights::default();
        let opening = Opening { rewriting: Rewriting::On, provider, profile: Some(&prefix) };
        let session = session::open_with(runtime, name, model, &mut weights, &opening)?;
        Ok(Self { session, name: name.into(), profiled: Some(prefix), _weights: weights })
    }

    /// Runs the graph. `inputs`: name, shape, float32 numbers; they are converted to bytes if the graph wants bytes.
    ///
    /// # Errors
    /// [`EncoderError::Runtime`], also for a missing output or one that is not float32.
    pub fn run(&mut self, inputs: &[(&str, &[usize], &[f32])], outputs: &[&str]) -> Result<Vec<Value>, EncoderError> {
        let failed = session::failed(&self.name);
        let mut fed: Vec<(String, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for (name, shape, data) in inputs {
            let declared = self.session.inputs().iter().find(|input| input.name() == *name);
            let bytes = declared.and_then(|input| input.dtype().tensor_type()) == Some(TensorElementType::Uint8);
            let value = if bytes {
                let data: Vec<u8> = data.iter().map(|v| v.round().clamp(0.0, 255.0) as u8).collect();
                Tensor::from_array((shape.to_vec(), data)).map_err(&failed)?.into_dyn()
            } else {
                session::tensor(&self.name, shape, data.to_vec())?.into_dyn()
            };
            fed.push((name.to_string(), value.into()));
        }
        let found = self.session.run(fed).map_err(&failed)?;
        outputs
            .iter()
            .map(|name| {
                let value = found.get(*name).ok_or_else(|| EncoderError::Runtime {
                    name: self.name.clone(),
                    reason: format!("output `{name}` is missing"),
                })?;
                let (shape, data) = value.try_extract_tensor::<f32>().map_err(&failed)?;
                Ok(Value { shape: shape.iter().map(|n| *n as usize).collect(), data: data.to_vec() })
            })
            .collect()
    }

    /// Name of the first input.
    pub fn first_input(&self) -> &str {
        self.session.inputs().first().map_or("", |input| input.name())
    }

    /// Who ran what since the session was opened with [`Probe::profiled`]; ends the profile.
    ///
    /// # Errors
    /// [`EncoderError::Provider`] if there is no profile or it cannot be read.
    pub fn placement(mut self) -> Result<Vec<NodeRun>, EncoderError> {
        let unread = |reason: String| EncoderError::Provider {
            name: self.name.clone(),
            source: ProviderError::Profile { reason },
        };
        if self.profiled.is_none() {
            return Err(unread("it was not asked for".into()));
        }
        let path = self.session.end_profiling().map_err(session::failed(&self.name))?;
        let text = std::fs::read_to_string(&path).map_err(|e| unread(format!("{path}: {e}")));
        // The file is scratch: one that cannot be removed does no harm.
        let _ = std::fs::remove_file(&path);
        nodes_of_profile(&text?).map_err(|source| EncoderError::Provider { name: self.name.clone(), source })
    }
}

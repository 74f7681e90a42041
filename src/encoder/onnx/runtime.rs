//! Loading the ONNX Runtime library, once per process.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::probe::Probe;
use super::provider::{Provider, check_placement};
use crate::encoder::EncoderError;
use crate::onnx::GraphBuilder;
use crate::onnx::graph::FLOAT;

/// The loaded library. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub(super) environment: ort::environment::Environment,
    library: PathBuf,
    version: String,
}

/// A process can hold one ONNX Runtime; later calls get the first one.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads `libonnxruntime.so`; the second call returns what the first one loaded.
    ///
    /// # Errors
    /// [`EncoderError::Unusable`] if the file is missing or no ONNX Runtime, or if another one is already loaded.
    pub fn load(library: &Path) -> Result<Self, EncoderError> {
        let fail = |reason: String| EncoderError::Unusable { name: library.display().to_string(), reason };
        let path = library.canonicalize().map_err(|e| {
            fail(format!("cannot find the ONNX Runtime library: {e}; run `make setup` or set ORT_DYLIB_PATH"))
        })?;
        // A panic while it was held leaves nothing half done.
        let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return if runtime.library == path {
                Ok(runtime.clone())
            } else {
                Err(fail(format!(
                    "{} is already loaded; a process can use one ONNX Runtime",
                    runtime.library.display()
                )))
            };
        }
        let builder = ort::init_from(&path).map_err(|e| fail(format!("not an ONNX Runtime that fits: {e}")))?;
        let environment = builder.with_name("mdprop").with_telemetry(false).build().map_err(|e| fail(e.to_string()))?;
        environment.set_log_level(ort::logging::LogLevel::Fatal);
        let version = version_of(&path);
        let runtime = Self { environment, library: path, version };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// Checks that a provider is there and computes: a small product is run on it and the profile read.
    ///
    /// # Errors
    /// [`EncoderError::Provider`] saying what is missing and how to get it.
    pub fn require(&self, provider: Provider, scratch: &Path) -> Result<(), EncoderError> {
        if provider == Provider::Cpu {
            return Ok(());
        }
        let name = self.library.display().to_string();
        let mut builder = GraphBuilder::new("provider");
        let x = builder.input("x", FLOAT, &[1.into(), 8.into()]);
        let weight = builder.constant("w", &[8, 8], &[0.5; 64]);
        let y = builder.node("MatMul", &[&x, &weight], vec![]);
        builder.output(&y, FLOAT, &[1.into(), 8.into()]);
        let mut probe = Probe::profiled(self, &name, &builder.finish(), provider, scratch)?;
        probe.run(&[(&x, &[1, 8], &[1.0; 8])], &[&y])?;
        let ran = probe.placement()?;
        check_placement(provider, &ran).map(drop).map_err(|source| EncoderError::Provider { name, source })
    }

    /// Version of the library, such as `1.32.0` (`1.32` if its file name does not say more).
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The file that was loaded.
    pub fn library(&self) -> &Path {
        &self.library
    }
}

fn version_of(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let tail = name.split(".so.").nth(1).filter(|t| t.contains('.'));
    let probed = || ort::util::probe(path).map_or_else(|| "unknown".into(), |minor| format!("1.{minor}"));
    tail.map_or_else(probed, String::from)
}

//! Which device libtorch computes on, and how its CUDA half gets into the process.
//!
//! The program is linked against libtorch's CPU half only. For a GPU the CUDA half of a full installation is loaded at
//! run time, with its symbols visible to the CPU half, before libtorch is first asked about CUDA: that answer is cached.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::Device;

use crate::suite::recipe::Precision;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// `cpu`.
    #[default]
    Cpu,
    /// `cuda` (the first GPU) or `cuda:N`.
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The text names no device.
    #[error("`{0}` is no device; write cpu, cuda or cuda:N")]
    Unknown(String),
    /// No path to the CUDA half.
    #[error(
        "device {0}: no libtorch_cuda.so was given; install the full torch 2.11 and say where its libtorch_cuda.so is, \
         or use --device cpu"
    )]
    NoLibrary(DeviceChoice),
    /// The CUDA half cannot be loaded.
    #[error(
        "{}: cannot be loaded ({reason}); it must come from a full torch 2.11 with its CUDA libraries, or use --device cpu",
        path.display()
    )]
    Load {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// Loaded, but there is no such GPU.
    #[error("device {choice}: libtorch sees {count} GPUs; check the driver, or use --device cpu")]
    NoGpu {
        /// What was asked for.
        choice: DeviceChoice,
        /// How many there are.
        count: i64,
    },
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let bad = || DeviceError::Unknown(text.to_string());
        match (text, text.strip_prefix("cuda:")) {
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            // A sign is accepted by `parse` but by nobody else.
            (_, Some(index)) if !index.starts_with('+') => Ok(Self::Cuda(index.parse().map_err(|_| bad())?)),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// The CUDA half, once loaded; never closed, since libtorch keeps pointers into it.
static CUDA_HALF: Mutex<Option<Library>> = Mutex::new(None);

impl DeviceChoice {
    /// Makes the device ready. `library` is the path of `libtorch_cuda.so`, used for a GPU only.
    ///
    /// # Errors
    /// [`DeviceError`] if the library is absent or does not load, or if there is no such GPU.
    pub fn open(self, library: Option<&Path>) -> Result<Device, DeviceError> {
        let Self::Cuda(index) = self else {
            return Ok(Device::Cpu);
        };
        load_cuda_half(library.ok_or(DeviceError::NoLibrary(self))?)?;
        let count = tch::Cuda::device_count();
        if (index as i64) < count { Ok(Device::Cuda(index)) } else { Err(DeviceError::NoGpu { choice: self, count }) }
    }
}

fn load_cuda_half(path: &Path) -> Result<(), DeviceError> {
    let mut loaded = CUDA_HALF.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if loaded.is_none() {
        #[expect(unsafe_code, reason = "loading a library runs its initialisers; the user named this one")]
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
        *loaded = Some(library.map_err(|error| DeviceError::Load {
            path: path.to_path_buf(),
            // libloading's own text hides the loader's words in the source.
            reason: std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string),
        })?);
    }
    Ok(())
}

/// Whether the processor multiplies bfloat16 itself; libtorch imitates it elsewhere.
pub(super) fn processor_has_bfloat16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return true; // not known
}

/// What to say of a precision that costs time on `device` instead of saving it.
pub(super) fn slow_format(precision: Precision, device: Device, has_bfloat16: bool) -> Option<&'static str> {
    (precision == Precision::Bf16Mixed && device == Device::Cpu && !has_bfloat16)
        .then_some("this processor has no bfloat16 arithmetic: precision = \"float32\" is faster here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bfloat16_is_spoken_of_where_a_processor_imitates_it() {
        let said = |precision, device, has| slow_format(precision, device, has).is_some();
        assert!(said(Precision::Bf16Mixed, Device::Cpu, false));
        assert!(!said(Precision::Bf16Mixed, Device::Cpu, true));
        assert!(!said(Precision::Bf16Mixed, Device::Cuda(0), false));
        assert!(!said(Precision::Float32, Device::Cpu, false));
    }

    #[test]
    fn devices_are_written_as_in_pytorch() {
        for (text, wanted) in
            [("cpu", DeviceChoice::Cpu), ("cuda", DeviceChoice::Cuda(0)), ("cuda:3", DeviceChoice::Cuda(3))]
        {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), wanted);
        }
        for text in ["gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "CPU", ""] {
            let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains("cpu, cuda or cuda:N"), "{error}");
        }
    }

    #[test]
    fn an_absent_or_foreign_cuda_library_is_named() {
        assert_eq!(DeviceChoice::Cpu.open(None).unwrap(), Device::Cpu);
        let error = DeviceChoice::Cuda(0).open(None).unwrap_err().to_string();
        assert!(error.contains("device cuda:0: no libtorch_cuda.so"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libtorch_cuda.so");
        let refused = |path: &Path| DeviceChoice::Cuda(0).open(Some(path)).unwrap_err().to_string();
        assert!(refused(&path).contains("No such file"), "{}", refused(&path));
        std::fs::write(&path, b"not a library").unwrap();
        let error = refused(&path);
        assert!(error.contains("libtorch_cuda.so: cannot be loaded (") && error.contains("--device cpu"), "{error}");
    }
}

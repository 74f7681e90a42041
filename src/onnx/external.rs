//! Weights that a model keeps in other files of its folder.
//!
//! Each file is mapped once and every tensor is a slice of the map: nothing is copied, and what is not looked at is not
//! read. A location that leaves the model's folder, by `..`, an absolute path or a link, is refused.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use prost::bytes::Bytes;

use super::error::OnnxError;
use super::proto::{ModelProto, TensorProto, data_type};
use super::visit;

/// Why a second file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExternalFault {
    /// The location is absolute, goes upwards or is empty.
    #[error("wanted a path inside the model's folder")]
    NotRelative,
    /// The location is a link to somewhere else.
    #[error(
        "it is a link to {}, outside the model's folder; copy the file there if you trust it", target.display()
    )]
    Outside {
        /// Where it leads.
        target: PathBuf,
    },
    /// A folder, a pipe or a device.
    #[error("it is no regular file")]
    NotAFile,
    /// It cannot be opened.
    #[error("{0}; copy it beside the model under this name")]
    Io(#[from] std::io::Error),
    /// `offset` or `length` is no number.
    #[error("{key} is `{value}`, wanted a number of bytes")]
    BadNumber {
        /// `offset` or `length`.
        key: &'static str,
        /// What is written there.
        value: String,
    },
    /// The file ends before the tensor does.
    #[error("it has {available} bytes, the tensor wants {length} from byte {offset}; copy the file again")]
    TooShort {
        /// First byte wanted.
        offset: u64,
        /// Bytes wanted.
        length: u64,
        /// Bytes in the file.
        available: u64,
    },
    /// `length` is not what shape and element type need.
    #[error("its length is {length} bytes, shape {dims:?} of {element} needs {wanted}; export the model again")]
    WrongLength {
        /// Bytes declared.
        length: u64,
        /// Shape.
        dims: Vec<i64>,
        /// Element type.
        element: String,
        /// Bytes that the shape needs.
        wanted: u64,
    },
    /// Shape or element type that no number of bytes belongs to.
    #[error("shape {dims:?} of {element} is no tensor of numbers")]
    NoSize {
        /// Shape.
        dims: Vec<i64>,
        /// Element type.
        element: String,
    },
}

/// Maps a file, without reading it. An empty file is empty bytes.
///
/// # Errors
/// Whatever opening or mapping gives; something that is no regular file is refused before it is opened, so that a pipe
/// cannot block.
pub(super) fn map(path: &Path) -> std::io::Result<Bytes> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    #[expect(unsafe_code, reason = "mapping; whoever shortens a model's file while it is attacked ends the program")]
    let map = unsafe { memmap2::Mmap::map(&file) }?;
    Ok(Bytes::from_owner(map))
}

/// Takes the external weights of a model in: initialisers, constants inside nodes, sub-graphs and functions.
///
/// # Errors
/// [`OnnxError::ExternalData`] naming both files and the tensor.
pub(super) fn load(path: &Path, model: &mut ModelProto) -> Result<(), OnnxError> {
    let mut files = Files { roots: None, model: path, maps: HashMap::new() };
    visit::tensors_mut(model, &mut |tensor| match tensor.data_location {
        0 => Ok(()),
        _ => files.load(tensor),
    })
}

/// The files beside a model that hold weights of it, in order of first mention, as written in the model.
pub fn locations(model: &ModelProto) -> Vec<String> {
    let mut found: Vec<String> = vec![];
    visit::tensors(model, &mut |tensor| {
        if tensor.data_location != 0 {
            let location = property(tensor, "location").unwrap_or_default();
            if !found.iter().any(|f| f == location) {
                found.push(location.into());
            }
        }
    });
    found
}

/// The path of a location, checked; the folder's own links are followed.
///
/// # Errors
/// [`ExternalFault`] if it is no regular file inside the model's folder.
pub fn resolve(model: &Path, location: &str) -> Result<PathBuf, ExternalFault> {
    resolve_in(&roots(model)?, model, location)
}

/// Folders that weights may lie in: the model's, and the one that the model's file really lies in if it is a link
/// itself (caches of downloads keep all files of one model in one folder and links to them in another).
fn roots(model: &Path) -> std::io::Result<Vec<PathBuf>> {
    let folder = model.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let real = model.canonicalize()?.parent().map(Path::to_path_buf);
    Ok([folder.canonicalize()?].into_iter().chain(real).collect())
}

fn resolve_in(roots: &[PathBuf], model: &Path, location: &str) -> Result<PathBuf, ExternalFault> {
    let relative = Path::new(location);
    let inside = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || !relative.components().all(inside) {
        return Err(ExternalFault::NotRelative);
    }
    let target = model.parent().unwrap_or(Path::new("")).join(relative).canonicalize()?;
    if !roots.iter().any(|root| target.starts_with(root)) {
        return Err(ExternalFault::Outside { target });
    }
    if !std::fs::metadata(&target)?.is_file() {
        return Err(ExternalFault::NotAFile);
    }
    Ok(target)
}

struct Files<'a> {
    model: &'a Path,
    roots: Option<Vec<PathBuf>>,
    maps: HashMap<String, Bytes>,
}

impl Files<'_> {
    fn load(&mut self, tensor: &mut TensorProto) -> Result<(), OnnxError> {
        let location = property(tensor, "location").unwrap_or_default().to_string();
        let bytes = self.slice(&location, tensor).map_err(|fault| OnnxError::ExternalData {
            path: self.model.to_path_buf(),
            tensor: tensor.name.clone(),
            location,
            fault: fault.into(),
        })?;
        tensor.raw_data = Some(bytes);
        tensor.external_data.clear();
        tensor.data_location = 0;
        Ok(())
    }

    fn slice(&mut self, location: &str, tensor: &TensorProto) -> Result<Bytes, ExternalFault> {
        let element = || data_type::name(tensor.data_type);
        let wanted = tensor
            .byte_size()
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| ExternalFault::NoSize { dims: tensor.dims.clone(), element: element() })?;
        let offset = number(tensor, "offset")?.unwrap_or(0);
        if let Some(length) = number(tensor, "length")?.filter(|length| *length != wanted) {
            return Err(ExternalFault::WrongLength { length, dims: tensor.dims.clone(), element: element(), wanted });
        }
        let bytes = self.map(location)?;
        let available = bytes.len() as u64;
        match offset.checked_add(wanted).filter(|end| *end <= available) {
            Some(end) => Ok(bytes.slice(offset as usize..end as usize)),
            None => Err(ExternalFault::TooShort { offset, length: wanted, available }),
        }
    }

    fn map(&mut self, location: &str) -> Result<Bytes, ExternalFault> {
        if let Some(bytes) = self.maps.get(location) {
            return Ok(bytes.clone());
        }
        let roots = match &self.roots {
            Some(roots) => roots,
            None => self.roots.insert(roots(self.model)?),
        };
        let bytes = map(&resolve_in(roots, self.model, location)?)?;
        self.maps.insert(location.into(), bytes.clone());
        Ok(bytes)
    }
}

fn property<'a>(tensor: &'a TensorProto, key: &str) -> Option<&'a str> {
    tensor.external_data.iter().find(|p| p.key == key).map(|p| p.value.as_str())
}

fn number(tensor: &TensorProto, key: &'static str) -> Result<Option<u64>, ExternalFault> {
    property(tensor, key)
        .map(|value| value.parse().map_err(|_| ExternalFault::BadNumber { key, value: value.into() }))
        .transpose()
}

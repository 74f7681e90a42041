//! Reading and writing a model file.

use std::path::{Path, PathBuf};

use prost::Message;
use prost::bytes::Bytes;

use super::proto::{ModelProto, TensorProto};
use crate::artefact::{self, WriteError};

/// Why a file or a graph cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file cannot be read.
    #[error("{}: cannot read the model: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are no protobuf message of this kind, or stop in the middle of one.
    #[error(
        "{}: not an ONNX file, or a truncated one ({bytes} bytes: {reason}); export or copy it again", path.display()
    )]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
        /// What the decoder said.
        reason: String,
    },
    /// A graph without nodes.
    #[error("{}: the graph has no nodes; this is no model", path.display())]
    EmptyGraph {
        /// The file.
        path: PathBuf,
    },
    /// Weights in a second file that cannot be read.
    #[error("{}: tensor `{tensor}` is in the file `{location}`, which cannot be used: {reason}", path.display())]
    ExternalData {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The second file, as written in the first.
        location: String,
        /// Why not.
        reason: String,
    },
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An operator without a gradient rule.
    #[error("node `{node}` ({op}) has no gradient rule")]
    NoRule {
        /// Node name.
        node: String,
        /// Operator.
        op: String,
    },
    /// A node that is not as its operator demands, or a use of it that the rules do not cover.
    #[error("node `{node}` ({op}): {reason}")]
    Node {
        /// Node name.
        node: String,
        /// Operator.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// The graph as a whole does not fit its use.
    #[error("{0}")]
    Graph(String),
}

/// Reads a model and the weights it keeps in other files beside it.
///
/// # Errors
/// [`OnnxError`] naming the file: missing, not ONNX, truncated, without nodes, external weights missing.
pub fn read(path: &Path) -> Result<ModelProto, OnnxError> {
    let bytes = std::fs::read(path).map_err(|source| OnnxError::Read { path: path.to_path_buf(), source })?;
    let mut model = decode(bytes.into(), path)?;
    if let Some(graph) = &mut model.graph {
        for tensor in graph.initializer.iter_mut().filter(|t| t.data_location == 1) {
            load_external(path, tensor)?;
        }
    }
    Ok(model)
}

/// Decodes a model that is already in memory; `path` is used in messages only.
///
/// # Errors
/// As [`read`].
pub fn decode(bytes: Bytes, path: &Path) -> Result<ModelProto, OnnxError> {
    let size = bytes.len();
    let not_onnx = |reason: &str| OnnxError::NotOnnx { path: path.to_path_buf(), bytes: size, reason: reason.into() };
    // Field order is free, but every known writer starts with ir_version or the producer; text and archives do not.
    let model = ModelProto::decode(bytes).map_err(|e| not_onnx(&e.to_string()))?;
    if model.opset_import.is_empty() || model.ir_version <= 0 {
        return Err(not_onnx("no operator set and no IR version"));
    }
    match &model.graph {
        None => Err(not_onnx("no graph")),
        Some(graph) if graph.node.is_empty() => Err(OnnxError::EmptyGraph { path: path.to_path_buf() }),
        Some(_) => Ok(model),
    }
}

/// The bytes of a model file.
pub fn encode(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// Writes a model, whole or not at all.
///
/// # Errors
/// [`OnnxError::Write`].
pub fn write_atomic(path: &Path, model: &ModelProto) -> Result<(), OnnxError> {
    Ok(artefact::write_bytes(path, &encode(model))?)
}

fn load_external(path: &Path, tensor: &mut TensorProto) -> Result<(), OnnxError> {
    let property = |key: &str| tensor.external_data.iter().find(|p| p.key == key).map(|p| p.value.clone());
    let location = property("location").unwrap_or_default();
    let fail = |reason: String| OnnxError::ExternalData {
        path: path.to_path_buf(),
        tensor: tensor.name.clone(),
        location: location.clone(),
        reason,
    };
    // The format says: a path relative to the model, inside its folder.
    let relative = Path::new(&location);
    if location.is_empty() || !relative.components().all(|c| matches!(c, std::path::Component::Normal(_))) {
        return Err(fail("wanted a path inside the model's folder".into()));
    }
    let number = |key: &str| property(key).map(|v| v.parse::<usize>().map_err(|_| fail(format!("bad {key} `{v}`"))));
    let offset = number("offset").transpose()?.unwrap_or(0);
    let length = number("length").transpose()?;
    let file = path.parent().unwrap_or(Path::new("")).join(relative);
    let bytes = read_range(&file, offset, length).map_err(|e| fail(e.to_string()))?;
    tensor.raw_data = Some(bytes.into());
    tensor.external_data.clear();
    tensor.data_location = 0;
    Ok(())
}

fn read_range(file: &Path, offset: usize, length: Option<usize>) -> std::io::Result<Vec<u8>> {
    use std::io::{Error, ErrorKind, Read, Seek, SeekFrom};
    let mut reader = std::fs::File::open(file)?;
    let available = (reader.metadata()?.len() as usize).saturating_sub(offset);
    let length = length.unwrap_or(available);
    if length > available {
        let reason = format!("wants {length} bytes from {offset}, the file has {available} there");
        return Err(Error::new(ErrorKind::UnexpectedEof, reason));
    }
    reader.seek(SeekFrom::Start(offset as u64))?;
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::fixtures::little_resnet;
    use crate::onnx::proto::StringStringEntryProto;

    #[test]
    fn a_model_survives_a_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let model = little_resnet(12, 12);
        write_atomic(&path, &model).unwrap();
        assert_eq!(read(&path).unwrap(), model);
    }

    #[test]
    fn a_graph_without_nodes_is_no_model() {
        let mut model = little_resnet(12, 12);
        model.graph.as_mut().unwrap().node.clear();
        let error = decode(encode(&model).into(), Path::new("m.onnx")).unwrap_err();
        assert_eq!(error.to_string(), "m.onnx: the graph has no nodes; this is no model");
    }

    /// Moves the first weight into `location`, 8 bytes behind its beginning.
    fn external(location: &str) -> (ModelProto, Vec<u8>) {
        let mut model = little_resnet(12, 12);
        let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
        let bytes = tensor.raw_data.take().unwrap();
        tensor.data_location = 1;
        let property = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        tensor.external_data = vec![
            property("location", location.into()),
            property("offset", "8".into()),
            property("length", bytes.len().to_string()),
        ];
        (model, [&[0; 8], &bytes[..]].concat())
    }

    #[test]
    fn weights_in_a_second_file_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let (model, bytes) = external("weights.bin");
        let path = folder.path().join("m.onnx");
        write_atomic(&path, &model).unwrap();
        let missing = read(&path).unwrap_err().to_string();
        assert!(missing.contains("weights.bin"), "{missing}");
        std::fs::write(folder.path().join("weights.bin"), &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), little_resnet(12, 12));
        std::fs::write(folder.path().join("weights.bin"), &bytes[..bytes.len() - 1]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("the file has"));
    }

    #[test]
    fn weights_outside_the_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        write_atomic(&path, &external("../secret").0).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("inside the model's folder"));
    }
}

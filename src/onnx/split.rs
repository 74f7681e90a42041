//! A model in two parts: the graph, small enough for a protobuf message, and the large weights beside it.
//!
//! A protobuf message holds 2 GB. Larger models are written with a second file, and reach the runtime as a small message
//! and weights that are handed over by name, which also lets several sessions share them.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

use super::error::OnnxError;
use super::inline::captured;
use super::proto::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};
use crate::artefact::{self, WriteError};

/// Most bytes of a protobuf message.
pub const MESSAGE_LIMIT: usize = i32::MAX as usize;

/// Tensors in a second file begin at multiples of this, so that they can be used where they are mapped.
const ALIGNMENT: usize = 64;

/// Initialisers of at least this many bytes are worth keeping apart.
const LARGE: usize = 1024;

/// A large initialiser of a split model.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Its name.
    pub name: String,
    /// Element type, see [`super::proto::data_type`].
    pub data_type: i32,
    /// Shape.
    pub dims: Vec<i64>,
    /// Little-endian numbers, shared with the model that was split.
    pub bytes: Bytes,
    /// Where it begins in a file of all weights.
    pub offset: usize,
}

/// Takes the large initialisers of the outer graph out of a model, of those that `wanted` says yes to; what is left names
/// them as external data in the file `location`. One that nothing reads stays where it is: the runtime refuses to be
/// handed a weight that it has already thrown away.
pub fn split(model: &ModelProto, location: &str, wanted: impl Fn(&TensorProto) -> bool) -> (ModelProto, Vec<Weight>) {
    let mut rest = model.clone();
    let read: HashSet<&str> = model.graph.iter().flat_map(read_names).collect();
    let mut weights = vec![];
    let mut offset = 0usize;
    let property = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    for tensor in rest.graph.iter_mut().flat_map(|g| &mut g.initializer) {
        let Some(bytes) = tensor.raw_bytes().filter(|b| b.len() >= LARGE).cloned() else { continue };
        if !read.contains(tensor.name.as_str()) || !wanted(tensor) {
            continue;
        }
        offset = offset.next_multiple_of(ALIGNMENT);
        tensor.raw_data = None;
        tensor.data_location = 1;
        tensor.external_data = vec![
            property("location", location.into()),
            property("offset", offset.to_string()),
            property("length", bytes.len().to_string()),
        ];
        let (name, data_type, dims) = (tensor.name.clone(), tensor.data_type, tensor.dims.clone());
        let end = offset + bytes.len();
        weights.push(Weight { name, data_type, dims, bytes, offset });
        offset = end;
    }
    (rest, weights)
}

/// Names that nodes of a graph read, inner graphs included, and the graph's outputs.
fn read_names(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let inputs = graph.node.iter().flat_map(|node| node.input.iter().map(String::as_str).chain(captured(node)));
    inputs.chain(graph.output.iter().map(|value| value.name.as_str()))
}

/// The bytes of a model that fits into one message.
///
/// # Errors
/// [`OnnxError::TooLarge`] if it does not.
pub fn encode_within(model: &ModelProto, limit: usize) -> Result<Vec<u8>, OnnxError> {
    let bytes = model.encoded_len();
    if bytes > limit { Err(OnnxError::TooLarge { bytes, limit }) } else { Ok(model.encode_to_vec()) }
}

/// Writes a model, whole or not at all; one larger than `limit` with its weights in a second file, `PATH.data`.
///
/// # Errors
/// [`OnnxError::Write`]; [`OnnxError::TooLarge`] if the graph without large initialisers is still over the limit.
pub fn write(path: &Path, model: &ModelProto, limit: usize) -> Result<(), OnnxError> {
    if model.encoded_len() <= limit {
        return Ok(artefact::write_bytes(path, &model.encode_to_vec())?);
    }
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".data");
    let location = name.to_str().ok_or_else(|| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidFilename, "the name is no UTF-8");
        WriteError { path: path.to_path_buf(), source }
    })?;
    let (rest, weights) = split(model, location, |_| true);
    let bytes = encode_within(&rest, limit)?;
    artefact::write_atomic(&path.with_file_name(&name), |file| {
        let mut at = 0;
        for weight in &weights {
            file.write_all(&vec![0; weight.offset - at])?;
            file.write_all(&weight.bytes)?;
            at = weight.offset + weight.bytes.len();
        }
        Ok(())
    })?;
    Ok(artefact::write_bytes(path, &bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::fixtures::little_resnet;
    use crate::onnx::{encode, read};

    #[test]
    fn a_model_over_the_limit_is_written_in_two_files_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let model = little_resnet(12, 12);
        let whole = encode(&model).len();
        write(&path, &model, whole).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&path, &model, whole - 1).unwrap();
        let data = folder.path().join("m.onnx.data");
        assert!(std::fs::metadata(&path).unwrap().len() < whole as u64 / 2);
        assert!(std::fs::metadata(&data).unwrap().len() > whole as u64 / 2);
        assert_eq!(read(&path).unwrap(), model);
    }

    #[test]
    fn a_weight_that_nothing_reads_stays_in_the_graph() {
        let mut model = little_resnet(12, 12);
        let all = split(&model, "w", |_| true).1;
        let graph = model.graph.as_mut().unwrap();
        graph.initializer.push(TensorProto::from_f32("forgotten", &[1024], &[0.5; 1024]));
        let (rest, weights) = split(&model, "w", |_| true);
        assert_eq!(weights, all);
        let kept = rest.graph.unwrap().initializer.into_iter().find(|t| t.name == "forgotten").unwrap();
        assert!(kept.external_data.is_empty());
    }

    #[test]
    fn what_is_too_large_without_its_weights_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("m.onnx"), &little_resnet(12, 12), 100).unwrap_err().to_string();
        assert!(error.contains("can hold 100"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

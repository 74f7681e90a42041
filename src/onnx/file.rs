//! Reading and writing a model file.

use std::path::{Path, PathBuf};

use prost::Message;
use prost::bytes::Bytes;

pub use super::error::OnnxError;
use super::proto::ModelProto;
use super::{external, split, validate, visit, wire};

/// Most memory that the structs of one model may take, raw weights not counted: a hundred thousand nodes take a third.
const STRUCTURE_LIMIT: usize = 1 << 30;

/// Reads a model and the weights it keeps in other files beside it. The files are mapped, not copied, so that weights
/// take memory only while they are looked at.
///
/// # Errors
/// [`OnnxError`] naming the file: missing, not ONNX, truncated, without nodes, external weights missing, or a graph
/// that could not run ([`validate::Fault`]).
pub fn read(path: &Path) -> Result<ModelProto, OnnxError> {
    let bytes = external::map(path).map_err(|source| OnnxError::Read { path: path.to_path_buf(), source })?;
    let mut model = parse(bytes, path)?;
    external::load(path, &mut model)?;
    finish(model, path)
}

/// The files that a model consists of: itself, then those that hold weights of it.
///
/// # Errors
/// As [`read`], without looking into any weights.
pub fn parts(path: &Path) -> Result<Vec<PathBuf>, OnnxError> {
    let bytes = external::map(path).map_err(|source| OnnxError::Read { path: path.to_path_buf(), source })?;
    let model = parse(bytes, path)?;
    let mut files = vec![path.to_path_buf()];
    for location in external::locations(&model) {
        files.push(external::resolve(path, &location).map_err(|fault| OnnxError::ExternalData {
            path: path.to_path_buf(),
            tensor: "(any)".into(),
            location,
            fault: fault.into(),
        })?);
    }
    Ok(files)
}

/// Decodes a model that is already in memory; `path` is used in messages only. Weights in other files stay there.
///
/// # Errors
/// As [`read`].
pub fn decode(bytes: Bytes, path: &Path) -> Result<ModelProto, OnnxError> {
    finish(parse(bytes, path)?, path)
}

fn parse(bytes: Bytes, path: &Path) -> Result<ModelProto, OnnxError> {
    let size = bytes.len();
    let not_onnx = |reason: String| OnnxError::NotOnnx { path: path.to_path_buf(), bytes: size, reason };
    wire::measure(&bytes, STRUCTURE_LIMIT).map_err(|fault| not_onnx(fault.to_string()))?;
    let model = ModelProto::decode(bytes).map_err(|e| not_onnx(e.to_string()))?;
    // Text and archives may pass for a message with unknown fields.
    if model.opset_import.is_empty() || model.ir_version <= 0 {
        return Err(not_onnx("no operator set and no IR version".into()));
    }
    match &model.graph {
        None => Err(not_onnx("no graph".into())),
        Some(graph) if graph.node.is_empty() => Err(OnnxError::EmptyGraph { path: path.to_path_buf() }),
        Some(_) => Ok(model),
    }
}

fn finish(mut model: ModelProto, path: &Path) -> Result<ModelProto, OnnxError> {
    let packed: Result<(), std::convert::Infallible> = visit::tensors_mut(&mut model, &mut |tensor| {
        tensor.pack();
        Ok(())
    });
    match packed {
        Ok(()) => {}
        Err(never) => match never {},
    }
    validate::validate(&mut model)
        .map_err(|fault| OnnxError::Invalid { path: path.to_path_buf(), fault: fault.into() })?;
    Ok(model)
}

/// The bytes of a model file.
pub fn encode(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// Writes a model, whole or not at all; one of more than 2 GB in two files.
///
/// # Errors
/// As [`split::write`].
pub fn write_atomic(path: &Path, model: &ModelProto) -> Result<(), OnnxError> {
    split::write(path, model, split::MESSAGE_LIMIT)
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
        let short = read(&path).unwrap_err().to_string();
        assert!(short.contains("from byte 8") && short.contains("copy the file again"), "{short}");
    }

    #[test]
    fn weights_outside_the_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, external("secret").1).unwrap();
        std::os::unix::fs::symlink("../secret", inside.join("link")).unwrap();
        let path = inside.join("m.onnx");
        for (location, wanted) in [
            ("../secret", "inside the model's folder"),
            (secret.to_str().unwrap(), "inside the model's folder"),
            ("", "inside the model's folder"),
            ("x/../../secret", "inside the model's folder"),
            ("link", "outside the model's folder"),
            ("absent", "No such file"),
            (".", "no regular file"),
            // What the runtime reads as an address in its own memory.
            ("*/_ORT_MEM_ADDR_/*", "No such file"),
        ] {
            write_atomic(&path, &external(location).0).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains("m.onnx"), "{location}: {error}");
        }
    }

    #[test]
    fn a_folder_of_links_into_one_store_is_followed() {
        // Download caches lay a model out so: links in one folder, the files they lead to in another.
        let folder = tempfile::tempdir().unwrap();
        let [store, links] = ["store", "links"].map(|name| folder.path().join(name));
        std::fs::create_dir(&store).unwrap();
        std::fs::create_dir(&links).unwrap();
        let (model, bytes) = external("weights.bin");
        write_atomic(&store.join("a1b2"), &model).unwrap();
        std::fs::write(store.join("c3d4"), bytes).unwrap();
        std::os::unix::fs::symlink("../store/a1b2", links.join("m.onnx")).unwrap();
        std::os::unix::fs::symlink("../store/c3d4", links.join("weights.bin")).unwrap();
        assert_eq!(read(&links.join("m.onnx")).unwrap(), little_resnet(12, 12));
        let real = std::fs::canonicalize(store.join("c3d4")).unwrap();
        assert_eq!(parts(&links.join("m.onnx")).unwrap(), [links.join("m.onnx"), real]);
    }

    #[test]
    fn several_tensors_share_a_file_and_its_map() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let model = little_resnet(12, 12);
        split::write(&path, &model, 20_000).unwrap();
        let read = read(&path).unwrap();
        assert_eq!(read, model);
        let weights =
            read.graph.unwrap().initializer.into_iter().filter_map(|t| t.raw_data).filter(|b| b.len() >= 1024);
        let addresses: Vec<usize> = weights.map(|bytes| bytes.as_ptr() as usize).collect();
        let data = std::fs::metadata(folder.path().join("m.onnx.data")).unwrap().len() as usize;
        let (first, last) = (addresses.iter().min().unwrap(), addresses.iter().max().unwrap());
        assert!(addresses.len() == 5 && last - first < data, "the tensors do not lie in one map");
        assert!(addresses.iter().all(|a| a.is_multiple_of(64)), "and can be used where they lie");
    }

    #[test]
    fn declared_offsets_and_lengths_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        std::fs::write(folder.path().join("weights.bin"), external("weights.bin").1).unwrap();
        for (key, value, wanted) in [
            ("offset", "-8", "offset is `-8`"),
            ("offset", "18446744073709551615", "from byte 18446744073709551615"),
            ("length", "13", "its length is 13 bytes"),
            ("length", "1e3", "length is `1e3`"),
        ] {
            let mut model = external("weights.bin").0;
            let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
            tensor.external_data.iter_mut().filter(|p| p.key == key).for_each(|p| p.value = value.into());
            write_atomic(&path, &model).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let mut huge = external("weights.bin").0;
        huge.graph.as_mut().unwrap().initializer[0].dims = vec![i64::MAX, 3];
        write_atomic(&path, &huge).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("is no tensor of numbers"));
    }

    #[test]
    fn constants_inside_nodes_may_be_outside_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let (mut model, bytes) = external("weights.bin");
        let graph = model.graph.as_mut().unwrap();
        let tensor = graph.initializer.remove(0);
        let constant = crate::onnx::proto::NodeProto {
            op_type: "Constant".into(),
            output: vec![tensor.name.clone()],
            attribute: vec![crate::onnx::proto::AttributeProto::tensor("value", tensor)],
            ..Default::default()
        };
        graph.node.insert(0, constant);
        write_atomic(&path, &model).unwrap();
        std::fs::write(folder.path().join("weights.bin"), bytes).unwrap();
        let read = read(&path).unwrap();
        let value = read.graph.as_ref().unwrap().node[0].attribute[0].t.as_ref().unwrap();
        assert_eq!(value.to_f32(), little_resnet(12, 12).graph.unwrap().initializer[0].to_f32());
    }
}

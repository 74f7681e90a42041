//! Somebody else's model, as several tests meet it: a suite and its one card in a folder of their own, and models made from
//! the reference encoder.

use std::path::{Path, PathBuf};

use mdprop::onnx::proto::{ModelProto, data_type};
use mdprop::onnx::{Dim, GraphBuilder, read};

use crate::program;

/// Writes a suite whose one model is `theirs`, and its card; `more`: further lines of the card.
pub fn write(folder: &Path, suite: &str, onnx: &Path, more: &str) {
    std::fs::create_dir_all(folder.join("models")).unwrap();
    let card = format!("schema = 1\nabout = \"by mail\"\nonnx = {:?}\n{more}", onnx.display().to_string());
    std::fs::write(folder.join("models/theirs.toml"), card).unwrap();
    std::fs::write(folder.join("suite.toml"), suite).unwrap();
}

/// `mdprop run` of that suite, with everything it makes in the folder; the run is in `run`.
pub fn run(folder: &Path) -> assert_cmd::Command {
    let mut command = program();
    command.arg("run").arg(folder.join("suite.toml")).arg("--quiet");
    for (flag, name) in [("--out", "run"), ("--artifacts", "artifacts"), ("--data", "data"), ("--models", "models")] {
        command.arg(flag).arg(folder.join(name));
    }
    command
}

/// The small trained encoder of `models/reference/`: `pixels` `[n, 3, 32, 32]` to `embedding` `[n, 64]`.
pub fn reference() -> ModelProto {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/reference/glyph-encoder.onnx");
    read(&path).unwrap()
}

/// The reference behind nodes that `front` makes of `image`; it says what the reference is to see.
pub fn behind(image: &[Dim], front: impl Fn(&mut GraphBuilder, &str) -> String) -> ModelProto {
    let before = reference().graph.unwrap().node.len();
    let mut b = GraphBuilder::extend(reference());
    let image = b.input("image", data_type::FLOAT, image);
    let seen = front(&mut b, &image);
    b.push("Identity", &[&seen], &["pixels"], vec![]);
    let mut model = b.finish();
    let graph = model.graph.as_mut().unwrap();
    let added = graph.node.len() - before;
    graph.node.rotate_right(added);
    graph.input.retain(|v| v.name == "image");
    model.metadata_props.clear();
    model
}

//! Broken and hostile ONNX files, as the user meets them: exit code 2, and a sentence that names the file, what is wrong
//! with it and what to do.

use std::path::Path;

use mdprop::onnx::graph::{FLOAT, GraphBuilder};
use mdprop::onnx::proto::{
    AttributeProto, FunctionProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    data_type,
};
use mdprop::onnx::{Dim, encode};

use crate::theirs;

const SUITE: &str = r#"
schema = 1
about = "a hostile file"
seed = 3
[dataset.glyphs]
image_size = 24
classes = 24
per_class = 4
seed = 1
[evaluation]
batch_size = 16
[[model]]
id = "theirs"
[[attack]]
name = "single-target"
side = "query"
goal.single-target = {}
method.pgd = { epsilon = "24/255", steps = 1 }
"#;

/// A good encoder of 24×24 images: colour statistics through one convolution.
fn good() -> ModelProto {
    let mut b = GraphBuilder::new("small");
    let x = b.input("image", FLOAT, &["n".into(), 3.into(), 24.into(), 24.into()]);
    let weight: Vec<f32> = (0..4 * 3 * 3 * 3).map(|i| ((i * 7 % 11) as f32 - 5.0) / 20.0).collect();
    let w = b.constant("weight", &[4, 3, 3, 3], &weight);
    let y = b.named_node("Conv", "features", &[&x, &w], vec![]);
    let y = b.named_node("Relu", "rectified", &[&y], vec![]);
    let y = b.named_node("GlobalAveragePool", "pooled", &[&y], vec![]);
    let y = b.named_node("Flatten", "embedding", &[&y], vec![]);
    b.output(&y, FLOAT, &["n".into(), 4.into()]);
    b.finish()
}

/// A good model, changed.
fn broken(change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut model = good();
    change(&mut model);
    encode(&model)
}

fn weight(model: &mut ModelProto) -> &mut TensorProto {
    &mut model.graph.as_mut().unwrap().initializer[0]
}

fn node(op: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: format!("their {op}"),
        op_type: op.into(),
        input: input.iter().map(|i| i.to_string()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn insert(model: &mut ModelProto, at: usize, node: NodeProto) {
    model.graph.as_mut().unwrap().node.insert(at, node);
}

fn retype(model: &mut ModelProto, element: i32) {
    let input = &mut model.graph.as_mut().unwrap().input[0];
    input.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = element;
}

fn outside(location: &str, bytes: i64) -> Vec<u8> {
    broken(|m| {
        let tensor = weight(m);
        tensor.raw_data = None;
        tensor.data_location = 1;
        let property = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        tensor.external_data = vec![property("location", location.into()), property("length", bytes.to_string())];
    })
}

/// What is wrong, the file, and words of the message.
type Case = (&'static str, Vec<u8>, &'static [&'static str]);

fn bytes_and_tensors() -> Vec<Case> {
    let good = encode(&good());
    vec![
        ("an empty file", vec![], &["not an ONNX file", "0 bytes", "export or copy it again"]),
        ("a cut file", good[..good.len() - 7].to_vec(), &["truncated", "are left at byte", "export or copy it again"]),
        ("a number of 80 bits", [[0x08].as_slice(), &[0xff; 10]].concat(), &["more than 64 bits", "byte 1"]),
        ("a wire type that is none", vec![0x0f, 0, 0], &["wire type 7"]),
        ("a name that is no text", [&good[..], &[0x12, 2, 0xff, 0xfe]].concat(), &["not an ONNX file", "UTF-8"]),
        (
            "ten gigabytes in a few bytes",
            broken(|m| {
                weight(m).dims = vec![50_000, 50_000];
                weight(m).raw_data = None;
            }),
            &["`weight`", "[50000, 50000]", "needs 2500000000", "export it again"],
        ),
        (
            "a shape beyond all addresses",
            broken(|m| weight(m).dims = vec![i64::MAX, i64::MAX]),
            &["`weight`", "impossible shape"],
        ),
        ("a negative size", broken(|m| weight(m).dims[0] = -4), &["`weight`", "impossible shape [-4, 3, 3, 3]"]),
        (
            "NaN among the weights",
            broken(|m| *weight(m) = TensorProto::from_f32("weight", &[4, 3, 3, 3], &[f32::NAN; 108])),
            &["`weight` is NaN at position 0", "earlier checkpoint"],
        ),
        (
            "an element type that is none",
            broken(|m| weight(m).data_type = 99),
            &["`weight` has the unknown element type 99"],
        ),
        ("weights above the folder", outside("../weights.bin", 432), &["../weights.bin", "inside the model's folder"]),
        ("weights anywhere", outside("/etc/passwd", 432), &["/etc/passwd", "inside the model's folder"]),
        ("weights that are not there", outside("absent.bin", 432), &["absent.bin", "copy it beside the model"]),
        ("weights of another length", outside("theirs.onnx", 4), &["length is 4 bytes", "needs 432"]),
    ]
}

fn structures() -> Vec<Case> {
    let graph = |m: &mut ModelProto| m.graph.take().unwrap();
    vec![
        (
            "a cycle",
            broken(|m| m.graph.as_mut().unwrap().node[0].input[0] = "rectified".into()),
            &["`features/Conv`", "`rectified/Relu`", "wait for each other"],
        ),
        (
            "a missing weight",
            broken(|m| drop(m.graph.as_mut().unwrap().initializer.remove(0))),
            &["`features/Conv` (Conv) reads `weight`", "weights are missing"],
        ),
        (
            "two values of one name",
            broken(|m| insert(m, 1, node("Abs", &["image"], "features"))),
            &["`features` is made twice", "their Abs"],
        ),
        ("no output", broken(|m| m.graph.as_mut().unwrap().output.clear()), &["no outputs"]),
        ("no nodes", broken(|m| m.graph.as_mut().unwrap().node.clear()), &["no nodes"]),
        ("no graph", broken(|m| drop(graph(m))), &["no graph"]),
        ("no operator set", broken(|m| m.opset_import.clear()), &["no operator set"]),
        (
            "an operator set of somebody else",
            broken(|m| {
                insert(m, 1, NodeProto { domain: "their.company".into(), ..node("Magic", &["features"], "y") });
                m.opset_import.push(OperatorSetIdProto { domain: "their.company".into(), version: 1 });
            }),
            &["`their Magic`", "their.company", "export the model with standard operators"],
        ),
        ("an operator nobody knows", broken(|m| insert(m, 1, node("Magic", &["features"], "y"))), &["Magic"]),
        (
            "operators of the future",
            broken(|m| m.opset_import[0].version = 999),
            &["operator set 999", "export it again with opset"],
        ),
        (
            "a function that calls itself",
            broken(|m| {
                let call = || NodeProto { domain: "own".into(), ..node("Loop", &["v"], "w") };
                m.functions = vec![FunctionProto {
                    name: "Loop".into(),
                    domain: "own".into(),
                    input: vec!["v".into()],
                    output: vec!["w".into()],
                    node: vec![call()],
                    ..FunctionProto::default()
                }];
                m.opset_import.push(OperatorSetIdProto { domain: "own".into(), version: 1 });
                insert(m, 1, NodeProto { input: vec!["features".into()], ..call() });
            }),
            &["`Loop`", "call each other"],
        ),
        (
            "a value of ten gigabytes",
            broken(|m| {
                let mut b = GraphBuilder::extend(std::mem::take(m));
                let shape = b.constant_i64("shape", &[2], &[50_000, 50_000]);
                b.named_node("ConstantOfShape", "huge", &[&shape], vec![]);
                *m = b.finish();
            }),
            &["`huge/ConstantOfShape`", "[50000, 50000]", "2147483648"],
        ),
        (
            "sparse weights",
            broken(|m| m.graph.as_mut().unwrap().sparse_initializer.push(vec![0x0a, 0].into())),
            &["sparse", "export the model with dense weights"],
        ),
    ]
}

fn signatures() -> Vec<Case> {
    let declared = |name: &str, dims: &[Dim]| mdprop::onnx::proto::ValueInfoProto::tensor(name, FLOAT, dims);
    vec![
        (
            "two inputs",
            broken(|m| m.graph.as_mut().unwrap().input.push(declared("second", &[1.into()]))),
            &["2 inputs (`image` float32", "wanted one image"],
        ),
        (
            "bytes as input",
            broken(|m| retype(m, data_type::UINT8)),
            &["`image` uint8", "export it with a float32 input"],
        ),
        ("text as input", broken(|m| retype(m, data_type::STRING)), &["`image` string", "wanted float32"]),
        (
            "an image without rows",
            broken(|m| {
                let input = &mut m.graph.as_mut().unwrap().input[0];
                *input = declared("image", &["n".into(), 3.into(), 0.into(), 24.into()]);
            }),
            &["`image` declares the size 0 on axis 2"],
        ),
        (
            "embeddings that are no numbers",
            broken(|m| {
                let attribute = vec![AttributeProto::tensor("value", TensorProto::from_f32("", &[], &[0.0]))];
                insert(m, 3, NodeProto { attribute, ..node("Constant", &[], "zero") });
                insert(m, 4, node("Div", &["pooled", "zero"], "quotient"));
                m.graph.as_mut().unwrap().node[5].input[0] = "quotient".into();
            }),
            &["not finite"],
        ),
    ]
}

/// A folder with a suite of one model, whose file is still missing.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    theirs::write(folder.path(), SUITE, &folder.path().join("theirs.onnx"), "");
    folder
}

fn refused(cases: Vec<Case>) {
    let folder = prepared();
    let mut wrong = vec![];
    for (what, bytes, wanted) in cases {
        std::fs::write(folder.path().join("theirs.onnx"), bytes).unwrap();
        let output = theirs::run(folder.path()).timeout(std::time::Duration::from_secs(60)).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        let right = output.status.code() == Some(2)
            && message.contains("theirs")
            && wanted.iter().all(|text| message.contains(text))
            && !message.contains("panicked");
        if !right {
            wrong.push(format!("{what}: wanted code 2 and {wanted:?}, got {:?}: {message}", output.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs to the end; a net of one random convolution may fail the checks of soundness, which is code 3.
fn measured(folder: &Path) {
    let output = theirs::run(folder).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{:?}: {message}", output.status.code());
}

#[test]
fn the_unbroken_file_is_attacked() {
    let folder = prepared();
    std::fs::write(folder.path().join("theirs.onnx"), encode(&good())).unwrap();
    measured(folder.path());
}

#[test]
fn broken_bytes_and_tensors_are_refused_in_words() {
    refused(bytes_and_tensors());
}

#[test]
fn broken_graphs_are_refused_in_words() {
    refused(structures());
}

#[test]
fn what_is_no_image_encoder_is_refused_in_words() {
    refused(signatures());
}

#[test]
fn weights_behind_a_link_out_of_the_folder_are_refused() {
    let folder = prepared();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("secret"), vec![0; 432]).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("secret"), folder.path().join("weights.bin")).unwrap();
    std::fs::write(folder.path().join("theirs.onnx"), outside("weights.bin", 432)).unwrap();
    let output = theirs::run(folder.path()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("weights.bin") && message.contains("outside the model's folder"), "{message}");
}

#[test]
fn nodes_out_of_order_are_sorted() {
    let folder = prepared();
    let bytes = broken(|m| m.graph.as_mut().unwrap().node.reverse());
    std::fs::write(folder.path().join("theirs.onnx"), bytes).unwrap();
    measured(folder.path());
}

#[test]
fn weights_changed_in_the_second_file_are_another_model() {
    use mdprop::record::folder as records;
    let folder = prepared();
    let numbers: Vec<u8> = (0..108).flat_map(|i| ((i % 5) as f32 / 10.0).to_le_bytes()).collect();
    std::fs::write(folder.path().join("theirs.onnx"), outside("weights.bin", 432)).unwrap();
    let mut digests = vec![];
    let reversed: Vec<u8> = numbers.chunks(4).rev().flatten().copied().collect();
    for bytes in [numbers, reversed] {
        std::fs::write(folder.path().join("weights.bin"), bytes).unwrap();
        let _ = std::fs::remove_dir_all(folder.path().join("run"));
        measured(folder.path());
        digests.push(records::read(&folder.path().join("run")).unwrap().measurements[0].artefact.clone());
    }
    assert_ne!(digests[0], digests[1]);
}

#[test]
fn half_and_double_floats_are_measured_and_say_so() {
    for element in [data_type::FLOAT16, data_type::BFLOAT16, data_type::DOUBLE] {
        let folder = prepared();
        let bytes = broken(|m| {
            retype(m, element);
            let output = &mut m.graph.as_mut().unwrap().output[0];
            output.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = element;
            let values = weight(m).to_f32().unwrap();
            let narrow = |v: f32| match element {
                data_type::FLOAT16 => half::f16::from_f32(v).to_le_bytes().to_vec(),
                data_type::BFLOAT16 => half::bf16::from_f32(v).to_le_bytes().to_vec(),
                _ => f64::from(v).to_le_bytes().to_vec(),
            };
            weight(m).data_type = element;
            weight(m).raw_data = Some(values.into_iter().flat_map(narrow).collect::<Vec<u8>>().into());
        });
        std::fs::write(folder.path().join("theirs.onnx"), bytes).unwrap();
        measured(folder.path());
        let report = std::fs::read_to_string(folder.path().join("run/report.html")).unwrap();
        assert!(report.contains("precision = half or double floats"), "{}", data_type::name(element));
    }
}

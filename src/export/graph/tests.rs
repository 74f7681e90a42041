//! The written graph: names, folding, metadata, refusals. What it computes is tested in `parity/tests.rs`.

use super::*;
use crate::network::build;
use crate::onnx::encode;
use crate::suite::recipe::{BackboneSpec, StrideIn};
use crate::train::formula;

fn notes() -> ExportNotes {
    ExportNotes { recipe: Digest::of_bytes(b"recipe"), seed: 7 }
}

fn convnet(branches: u8) -> Network {
    build(&BackboneSpec::Convnet { widths: vec![4, 6] }, 5, branches).unwrap()
}

#[test]
fn a_resnet_becomes_folded_convolutions_with_one_input_and_one_output() {
    let network = build(&BackboneSpec::Resnet { depth: 50, stride_in: StrideIn::Conv2 }, 8, 1).unwrap();
    let weights = formula::weights(&network);
    let model = export_branch(&network, &weights, Branch::Aux(1), 64, &notes()).unwrap();
    let graph = model.graph.as_ref().unwrap();
    let count = |op: &str| graph.node.iter().filter(|n| n.op_type == op).count();
    // 1 + 3·(3 + 4 + 6 + 3) convolutions and 4 downsamples; 16 residual sums.
    assert_eq!((count("Conv"), count("BatchNormalization"), count("Add"), count("Relu")), (53, 0, 16, 49));
    assert_eq!((graph.input.len(), graph.input[0].name.as_str()), (1, PIXELS));
    assert_eq!((graph.output.len(), graph.output[0].name.as_str()), (1, EMBEDDING));
    let shape =
        |v: &crate::onnx::proto::ValueInfoProto| v.dims().unwrap().iter().map(Dim::to_string).collect::<Vec<_>>();
    assert_eq!(shape(&graph.input[0]), ["N", "3", "64", "64"]);
    assert_eq!(shape(&graph.output[0]), ["N", "8"]);
    let property = |key: &str| &model.metadata_props.iter().find(|p| p.key == key).unwrap().value;
    assert_eq!(property("mdprop.branch"), "aux1");
    assert_eq!(property("mdprop.input_range"), "0-1");
    assert_eq!(property("mdprop.std"), "0.229,0.224,0.225");
    assert_eq!(property("mdprop.mean"), "0.485,0.456,0.406");
    assert_eq!(property("mdprop.embedding_dim"), "8");
    assert_eq!(property("mdprop.seed"), "7");
    assert_eq!(property("mdprop.recipe"), notes().recipe.as_str());
}

#[test]
fn the_same_model_has_the_same_bytes_and_each_branch_its_own() {
    let network = convnet(1);
    let weights = formula::weights(&network);
    let bytes = |branch| encode(&export_branch(&network, &weights, branch, 16, &notes()).unwrap());
    assert_eq!(bytes(Branch::Main), bytes(Branch::Main));
    assert_ne!(bytes(Branch::Main), bytes(Branch::Aux(1)));
    assert_eq!(file_name(Branch::Main), "model.onnx");
    assert_eq!(file_name(Branch::Aux(2)), "model.aux2.onnx");
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let network = convnet(1);
    let mut weights = formula::weights(&network);
    let refuse = |weights: &Weights, branch, size| {
        export_branch(&network, weights, branch, size, &notes()).unwrap_err().to_string()
    };
    assert!(refuse(&weights, Branch::Aux(2), 16).contains("no branch `aux2`"));
    assert!(refuse(&weights, Branch::Main, 1).contains("block1.pool"));
    weights.tensors.get_mut("block2.bn.running_var").unwrap().data[0] = f32::NAN;
    assert!(refuse(&weights, Branch::Main, 16).contains("`block2.bn.running_var` holds NaN"));
    // Another branch does not see it.
    assert!(export_branch(&network, &weights, Branch::Aux(1), 16, &notes()).is_ok());
    weights.tensors.remove("embed.bias");
    assert!(refuse(&weights, Branch::Aux(1), 16).contains("`embed.bias` has shape None, wanted [5]"));
}

#[test]
fn a_convolution_with_two_readers_keeps_its_batch_norm() {
    let mut network = convnet(0);
    // block1.relu reads the sum of block1.conv and its batch norm.
    let position = |network: &Network, name: &str| network.nodes.iter().position(|n| n.name == name).unwrap();
    let (conv, norm) = (position(&network, "block1.conv"), position(&network, "block1.bn"));
    let relu = position(&network, "block1.relu");
    network.nodes[relu].op = Op::Add;
    network.nodes[relu].inputs = vec![norm, conv];
    let weights = formula::weights(&network);
    let model = export_branch(&network, &weights, Branch::Main, 16, &notes()).unwrap();
    let graph = model.graph.unwrap();
    let norms: Vec<_> = graph.node.iter().filter(|n| n.op_type == "BatchNormalization").collect();
    assert_eq!(norms.len(), 1);
    assert_eq!(norms[0].input[0], "block1.conv");
    assert_eq!(norms[0].input.len(), 5);
}

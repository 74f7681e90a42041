//! Names, shapes and counts against torchvision's state dicts (`tests/data/network/make.py`).

use std::collections::BTreeMap;

use super::{Network, ParameterKind, build};
use crate::digest::Digest;
use crate::suite::attack::Branch;
use crate::suite::recipe::{BackboneSpec, StrideIn};

#[derive(serde::Deserialize)]
struct Table {
    tensors: usize,
    trained: usize,
    sha256: String,
    rows: Vec<String>,
}

fn resnet(depth: u32, auxiliary_branches: u8) -> Network {
    build(&BackboneSpec::Resnet { depth, stride_in: StrideIn::Conv2 }, 128, auxiliary_branches).unwrap()
}

#[test]
fn resnets_have_torchvisions_names_shapes_and_order() {
    let text = include_str!("../../tests/data/network/torchvision.json");
    let tables: BTreeMap<u32, Table> = serde_json::from_str(text).unwrap();
    assert_eq!(tables.len(), 5);
    for (depth, table) in tables {
        let network = resnet(depth, 0);
        let backbone: Vec<_> = network.parameters().into_iter().filter(|p| !p.name.starts_with("embedding.")).collect();
        // torchvision registers the downsample after the block's last norm, as we evaluate it.
        let rows: Vec<_> = backbone.iter().map(|p| format!("{} {:?}", p.name, p.shape)).collect();
        if !table.rows.is_empty() {
            assert_eq!(rows, table.rows, "ResNet-{depth}");
        }
        assert_eq!(rows.len(), table.tensors, "ResNet-{depth}");
        assert_eq!(Digest::of_bytes(rows.join("\n").as_bytes()).as_str(), table.sha256, "ResNet-{depth}");
        let trained: usize = backbone.iter().filter(|p| p.kind.is_trained()).map(|p| p.count()).sum();
        assert_eq!(trained, table.trained, "ResNet-{depth}");
    }
}

#[test]
fn auxiliary_branches_add_batch_norms_and_nothing_else() {
    let (plain, mixed) = (resnet(18, 0), resnet(18, 2));
    // ResNet-18 has 4,800 normalised channels: 64 + 4·64 + (5·128) + (5·256) + (5·512).
    let channels = 64 + 4 * 64 + 5 * (128 + 256 + 512);
    assert_eq!(mixed.trained_count(), plain.trained_count() + 2 * 2 * channels);
    let names: Vec<_> = mixed.parameters().into_iter().map(|p| (p.name, p.kind, p.branch)).collect();
    let wanted = ("bn1.aux2.running_var".to_string(), ParameterKind::RunningVar, Some(Branch::Aux(2)));
    assert!(names.contains(&wanted));
    assert_eq!(names[1].0, "bn1.weight");
    assert_eq!(names[5].0, "bn1.aux1.weight");
}

#[test]
fn a_convnet_has_the_documented_names() {
    let network = build(&BackboneSpec::Convnet { widths: vec![4, 6] }, 5, 1).unwrap();
    let rows: Vec<_> = network
        .parameters()
        .iter()
        .filter(|p| p.kind.is_trained())
        .map(|p| format!("{} {:?}", p.name, p.shape))
        .collect();
    let wanted = [
        "block1.conv.weight [4, 3, 3, 3]",
        "block1.bn.weight [4]",
        "block1.bn.bias [4]",
        "block1.bn.aux1.weight [4]",
        "block1.bn.aux1.bias [4]",
        "block2.conv.weight [6, 4, 3, 3]",
        "block2.bn.weight [6]",
        "block2.bn.bias [6]",
        "block2.bn.aux1.weight [6]",
        "block2.bn.aux1.bias [6]",
        "embed.weight [5, 6]",
        "embed.bias [5]",
    ];
    assert_eq!(rows, wanted);
}

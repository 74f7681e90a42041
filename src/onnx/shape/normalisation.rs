//! Normalisations keep the shape of their first input.

use super::{Inputs, Shapes};
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;

const ONNX: &[&str] = &[
    "BatchNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LpNormalization",
    "MeanVarianceNormalization",
    "RMSNormalization",
    // ONNX Runtime has these two in ONNX's own domain too.
    "SimplifiedLayerNormalization",
];

const CONTRIBUTED: &[&str] = &["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"];

pub(super) fn shapes(inputs: &Inputs<'_>) -> Result<Shapes, OnnxError> {
    let (node, op) = (inputs.node, inputs.node.op_type.as_str());
    let ops = if node.is_onnx() { ONNX } else { CONTRIBUTED };
    let Some(first) = inputs.shape(0).filter(|_| ops.contains(&op)) else { return Ok(None) };
    // What was averaged: the trailing axes as ones.
    let averages = |axis: usize| -> Vec<Dim> {
        first.iter().enumerate().map(|(a, d)| if a < axis { d.clone() } else { Dim::Fixed(1) }).collect()
    };
    let same = first.to_vec();
    Ok(Some(match op {
        "LayerNormalization" | "SimplifiedLayerNormalization" => {
            let averages = averages(inputs.axis(node.int("axis", -1), first.len())?);
            vec![same, averages.clone(), averages]
        }
        "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => {
            let averages = averages(first.len().saturating_sub(1));
            vec![same.clone(), averages.clone(), averages, same]
        }
        _ => vec![same],
    }))
}

//! Normalisations keep the shape of their first input.

use super::Inputs;
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

pub(super) fn shape(inputs: &Inputs<'_>) -> Result<Option<Vec<Dim>>, OnnxError> {
    let ops = if inputs.node.is_onnx() { ONNX } else { CONTRIBUTED };
    let same = ops.contains(&inputs.node.op_type.as_str());
    Ok(inputs.shape(0).filter(|_| same).map(<[Dim]>::to_vec))
}

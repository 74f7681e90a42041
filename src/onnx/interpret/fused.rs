//! ONNX Runtime's fused convolution and product.

use super::{Call, Tensor, functions, linear, sliding};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto};

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Tensor>, OnnxError> {
    let node = call.node;
    let mut y = match (node.op_type.as_str(), node.is_onnx()) {
        ("FusedConv", false) => sliding::conv(call)?,
        ("FusedGemm", false) => linear::gemm(call)?,
        _ => return Ok(None),
    };
    if let Some(other) = call.optional(3) {
        y = y.zip(other, |a, b| a + b).ok_or_else(|| call.fail("the sum does not broadcast"))?;
    }
    let parameters = node.attribute("activation_params").map(|a| a.floats.clone()).unwrap_or_default();
    let name = node.string("activation", "");
    let y = match (name.as_str(), &parameters[..]) {
        ("", _) => y,
        ("Clip", [low, high]) => y.map(|v| v.max(f64::from(*low)).min(f64::from(*high))),
        (_, listed) => {
            // The first parameter of every activation is alpha; the second is beta for HardSigmoid.
            let mut attribute: Vec<AttributeProto> =
                ["alpha", "beta"].iter().zip(listed).map(|(n, v)| AttributeProto::float(n, *v)).collect();
            let named = node.attribute.iter().filter_map(|a| Some((a.name.strip_prefix("activation_")?, a.f?)));
            attribute.extend(named.map(|(n, v)| AttributeProto::float(n, v)));
            let own = NodeProto { op_type: name, attribute, ..NodeProto::default() };
            let inputs = [Some(&y)];
            let result = functions::visit(&Call { node: &own, opset: call.opset, inputs: &inputs, types: &[] })?;
            result.ok_or_else(|| call.fail("the activation is not implemented"))?
        }
    };
    Ok(Some(y))
}

//! Operators that work entry by entry: the shape of the input, or the common shape of several.

use super::{Inputs, broadcast, show};
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;

/// Operators whose inputs broadcast against each other.
const BROADCAST: &[&str] = &[
    "Add",
    "And",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
];

/// Operators whose first output has the shape of their first input.
const SAME: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "CumSum",
    "DequantizeLinear",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "Mish",
    "Neg",
    "Not",
    "QuantizeLinear",
    "RandomNormalLike",
    "RandomUniformLike",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
];

/// The same among ONNX Runtime's own operators.
const SAME_CONTRIBUTED: &[&str] = &["BiasGelu", "FastGelu", "Gelu", "QuickGelu"];

pub(super) fn shape(inputs: &Inputs<'_>) -> Result<Option<Vec<Dim>>, OnnxError> {
    let op = inputs.node.op_type.as_str();
    let same = if inputs.node.is_onnx() { SAME } else { SAME_CONTRIBUTED };
    if same.contains(&op) {
        return Ok(inputs.shape(0).map(<[Dim]>::to_vec));
    }
    if !inputs.node.is_onnx() || !BROADCAST.contains(&op) {
        return Ok(None);
    }
    let Some(mut result) = inputs.shape(0).map(<[Dim]>::to_vec) else { return Ok(None) };
    for i in 1..inputs.node.input.len() {
        let Some(other) = inputs.shape(i) else { return Ok(None) };
        let fail = || inputs.fail(format!("shapes {} and {} do not broadcast", show(&result), show(other)));
        result = broadcast(&result, other).ok_or_else(fail)?;
    }
    Ok(Some(result))
}

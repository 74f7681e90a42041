//! Arithmetic that is different for integers.

use super::{Call, Tensor};
use crate::onnx::file::OnnxError;

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Tensor>, OnnxError> {
    let binary = |f: &dyn Fn(f64, f64) -> f64| {
        let (a, b) = (call.input(0)?, call.input(1)?);
        let fail = || call.fail(format!("shapes {:?} and {:?} do not broadcast", a.shape, b.shape));
        a.zip(b, f).map(Some).ok_or_else(fail)
    };
    match call.node.op_type.as_str() {
        "Div" if call.is_integer() => {
            if call.input(1)?.data.contains(&0.0) {
                return Err(call.fail("division by zero"));
            }
            binary(&|a, b| (a / b).trunc())
        }
        // The sign is the dividend's with `fmod`, the divisor's without.
        "Mod" if call.node.int("fmod", 0) != 0 => binary(&|a, b| a % b),
        "Mod" => binary(&|a, b| a - b * (a / b).floor()),
        "Pow" if call.is_integer() => binary(&|a, b| a.powf(b).trunc()),
        _ => Ok(None),
    }
}

//! Operators on several values, entry by entry with broadcasting, and casts.

use super::{Call, Tensor};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::data_type;

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Tensor>, OnnxError> {
    let node = call.node;
    // From left to right over any number of inputs.
    let fold = |f: &dyn Fn(f64, f64) -> f64| {
        let mut result = call.input(0)?.clone();
        for i in 1..call.inputs.len() {
            let other = call.input(i)?;
            let fail = || call.fail(format!("shapes {:?} and {:?} do not broadcast", result.shape, other.shape));
            result = result.zip(other, f).ok_or_else(fail)?;
        }
        Ok(Some(result))
    };
    let flag = f64::from;
    match node.op_type.as_str() {
        "Add" | "Sum" => fold(&|a, b| a + b),
        "Mean" => fold(&|a, b| a + b).map(|sum| sum.map(|s| s.map(|v| v / call.inputs.len() as f64))),
        "Sub" => fold(&|a, b| a - b),
        "Mul" => fold(&|a, b| a * b),
        "Div" => fold(&|a, b| a / b),
        "Pow" => fold(&f64::powf),
        "Max" => fold(&f64::max),
        "Min" => fold(&f64::min),
        "PRelu" => fold(&|x, slope| if x < 0.0 { slope * x } else { x }),
        "Greater" => fold(&|a, b| flag(a > b)),
        "Less" => fold(&|a, b| flag(a < b)),
        "Equal" => fold(&|a, b| flag(a == b)),
        "GreaterOrEqual" => fold(&|a, b| flag(a >= b)),
        "LessOrEqual" => fold(&|a, b| flag(a <= b)),
        "And" => fold(&|a, b| flag(a != 0.0 && b != 0.0)),
        "Or" => fold(&|a, b| flag(a != 0.0 || b != 0.0)),
        "Xor" => fold(&|a, b| flag((a != 0.0) != (b != 0.0))),
        "Clip" => {
            // Bounds were attributes before set 11.
            let bound = |i: usize, name: &str, default: f64| {
                let attribute = node.attribute(name).and_then(|a| a.f).map(f64::from);
                call.optional(i).and_then(|t| t.data.first().copied()).or(attribute).unwrap_or(default)
            };
            let (low, high) = (bound(1, "min", f64::NEG_INFINITY), bound(2, "max", f64::INFINITY));
            Ok(Some(call.input(0)?.map(|x| x.max(low).min(high))))
        }
        "Cast" => Ok(Some(cast(call.input(0)?, node.int("to", 1)))),
        "CastLike" | "Identity" | "Dropout" => Ok(Some(call.input(0)?.clone())),
        "QuantizeLinear" | "DequantizeLinear" => quantisation(call).map(Some),
        "Where" => {
            let (condition, yes, no) = (call.input(0)?, call.input(1)?, call.input(2)?);
            let fail = || call.fail("shapes do not broadcast");
            let shape = super::tensor::broadcast(&condition.shape, &yes.shape)
                .and_then(|s| super::tensor::broadcast(&s, &no.shape))
                .ok_or_else(fail)?;
            let whole = |t: &Tensor| t.expand(&shape).ok_or_else(fail);
            let (condition, yes, no) = (whole(condition)?, whole(yes)?, whole(no)?);
            let pick = |i: usize| if condition.data[i] != 0.0 { yes.data[i] } else { no.data[i] };
            let data = (0..condition.data.len()).map(pick).collect();
            Ok(Some(Tensor { shape, data }))
        }
        _ => Ok(None),
    }
}

/// Float types are not told apart.
fn cast(x: &Tensor, to: i64) -> Tensor {
    match i32::try_from(to).unwrap_or(0) {
        data_type::FLOAT | data_type::FLOAT16 | data_type::BFLOAT16 | data_type::DOUBLE => x.clone(),
        data_type::BOOL => x.map(|v| f64::from(v != 0.0)),
        _ => x.map(f64::trunc),
    }
}

/// To and from 8-bit levels, scale and zero point per tensor or along `axis`.
fn quantisation(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (x, scale, zero) = (call.input(0)?, call.input(1)?, call.optional(2));
    let axis = call.node.int("axis", 1).rem_euclid(x.shape.len().max(1) as i64) as usize;
    let stride = x.strides().get(axis).copied().unwrap_or(1);
    let of = |t: &Tensor, i: usize| if t.data.len() == 1 { t.data[0] } else { t.data[i / stride % x.shape[axis]] };
    // The type of the levels is that of the zero point; without one they are bytes.
    let signed = call.types.get(2) == Some(&data_type::INT8);
    let (low, high) = if signed { (-128.0, 127.0) } else { (0.0, 255.0) };
    let mut y = x.clone();
    for (i, v) in y.data.iter_mut().enumerate() {
        let (scale, zero) = (of(scale, i), zero.map_or(0.0, |z| of(z, i)));
        *v = match call.node.op_type.as_str() {
            "QuantizeLinear" => ((*v / scale).round_ties_even() + zero).clamp(low, high),
            _ => (*v - zero) * scale,
        };
    }
    Ok(y)
}

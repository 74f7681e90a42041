//! Operators that work entry by entry.

use super::{Call, Tensor};
use crate::onnx::file::OnnxError;

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Tensor>, OnnxError> {
    let node = call.node;
    let unary = |f: &dyn Fn(f64) -> f64| call.input(0).map(|x| Some(x.map(f)));
    let binary = |f: &dyn Fn(f64, f64) -> f64| {
        let (a, b) = (call.input(0)?, call.input(1)?);
        let fail = || call.fail(format!("shapes {:?} and {:?} do not broadcast", a.shape, b.shape));
        a.zip(b, f).map(Some).ok_or_else(fail)
    };
    let flag = f64::from;
    match node.op_type.as_str() {
        "Add" => binary(&|a, b| a + b),
        "Sub" => binary(&|a, b| a - b),
        "Mul" => binary(&|a, b| a * b),
        "Div" => binary(&|a, b| a / b),
        "Pow" => binary(&f64::powf),
        "Max" => binary(&f64::max),
        "Min" => binary(&f64::min),
        "Greater" => binary(&|a, b| flag(a > b)),
        "Less" => binary(&|a, b| flag(a < b)),
        "Equal" => binary(&|a, b| flag(a == b)),
        "GreaterOrEqual" => binary(&|a, b| flag(a >= b)),
        "LessOrEqual" => binary(&|a, b| flag(a <= b)),
        "And" => binary(&|a, b| flag(a != 0.0 && b != 0.0)),
        "Neg" => unary(&|x| -x),
        "Abs" => unary(&f64::abs),
        "Sign" => unary(&|x| if x == 0.0 { 0.0 } else { x.signum() }),
        "Sqrt" => unary(&f64::sqrt),
        "Exp" => unary(&f64::exp),
        "Log" => unary(&f64::ln),
        "Tanh" => unary(&f64::tanh),
        "Sigmoid" => unary(&|x| 1.0 / (1.0 + (-x).exp())),
        "Relu" => unary(&|x| if x > 0.0 { x } else { 0.0 }),
        "LeakyRelu" => {
            let alpha = f64::from(node.float("alpha", 0.01));
            unary(&|x| if x < 0.0 { alpha * x } else { x })
        }
        "Clip" => {
            let low = call.optional(1).map_or(f64::NEG_INFINITY, |t| t.data[0]);
            let high = call.optional(2).map_or(f64::INFINITY, |t| t.data[0]);
            unary(&|x| x.max(low).min(high))
        }
        "Identity" | "Dropout" | "Cast" => unary(&|x| x),
        "Where" => {
            let (condition, yes, no) = (call.input(0)?, call.input(1)?, call.input(2)?);
            let pick =
                |a: &Tensor, wanted: bool| condition.zip(a, move |c, v| if (c != 0.0) == wanted { v } else { 0.0 });
            let sum = pick(yes, true).zip(pick(no, false)).and_then(|(a, b)| a.zip(&b, |x, y| x + y));
            sum.map(Some).ok_or_else(|| call.fail("shapes do not broadcast"))
        }
        "BatchNormalization" => batch_normalization(call).map(Some),
        _ => Ok(None),
    }
}

fn batch_normalization(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let x = call.input(0)?;
    let [scale, bias, mean, variance] = [call.input(1)?, call.input(2)?, call.input(3)?, call.input(4)?];
    let epsilon = f64::from(call.node.float("epsilon", 1e-5));
    let plane: usize = x.shape[2..].iter().product();
    let mut y = x.clone();
    for (i, v) in y.data.iter_mut().enumerate() {
        let c = i / plane % x.shape[1];
        *v = (*v - mean.data[c]) / (variance.data[c] + epsilon).sqrt() * scale.data[c] + bias.data[c];
    }
    Ok(y)
}

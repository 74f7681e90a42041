//! Functions of one value, entry by entry, written as the operator's definition says.

use super::{Call, Tensor};
use crate::onnx::file::OnnxError;

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Tensor>, OnnxError> {
    let node = call.node;
    let float = |name: &str, default: f32| f64::from(node.float(name, default));
    let apply = |f: &dyn Fn(f64) -> f64| call.input(0).map(|x| Some(x.map(f)));
    if !node.is_onnx() {
        return contributed(call);
    }
    match node.op_type.as_str() {
        "Abs" => apply(&f64::abs),
        "Acos" => apply(&f64::acos),
        "Acosh" => apply(&f64::acosh),
        "Asin" => apply(&f64::asin),
        "Asinh" => apply(&f64::asinh),
        "Atan" => apply(&f64::atan),
        "Atanh" => apply(&f64::atanh),
        "Ceil" => apply(&f64::ceil),
        "Celu" => {
            let alpha = float("alpha", 1.0);
            apply(&|x| x.max(0.0) + (alpha * ((x / alpha).exp() - 1.0)).min(0.0))
        }
        "Cos" => apply(&f64::cos),
        "Cosh" => apply(&f64::cosh),
        "Elu" => {
            let alpha = float("alpha", 1.0);
            apply(&|x| if x < 0.0 { alpha * (x.exp() - 1.0) } else { x })
        }
        "Erf" => apply(&erf),
        "Exp" => apply(&f64::exp),
        "Floor" => apply(&f64::floor),
        "Gelu" if node.string("approximate", "none") == "tanh" => apply(&gelu_tanh),
        "Gelu" => apply(&gelu),
        "HardSigmoid" => {
            let (alpha, beta) = (float("alpha", 0.2), float("beta", 0.5));
            apply(&|x| (alpha * x + beta).clamp(0.0, 1.0))
        }
        "HardSwish" => apply(&|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        "LeakyRelu" => {
            let alpha = float("alpha", 0.01);
            apply(&|x| if x < 0.0 { alpha * x } else { x })
        }
        "Log" => apply(&f64::ln),
        "Mish" => apply(&|x| x * softplus(x).tanh()),
        "Neg" => apply(&|x| -x),
        "Not" => apply(&|x| f64::from(x == 0.0)),
        "Reciprocal" => apply(&|x| 1.0 / x),
        "Relu" => apply(&|x| if x > 0.0 { x } else { 0.0 }),
        "Round" => apply(&f64::round_ties_even),
        "Selu" => {
            let (alpha, gamma) = (float("alpha", 1.673_263_2), float("gamma", 1.050_701));
            apply(&|x| gamma * if x <= 0.0 { alpha * (x.exp() - 1.0) } else { x })
        }
        "Shrink" => {
            let (bias, lambda) = (float("bias", 0.0), float("lambd", 0.5));
            apply(&|x| match x {
                x if x < -lambda => x + bias,
                x if x > lambda => x - bias,
                _ => 0.0,
            })
        }
        "Sigmoid" => apply(&sigmoid),
        "Sign" => apply(&|x| if x == 0.0 { 0.0 } else { x.signum() }),
        "Sin" => apply(&f64::sin),
        "Sinh" => apply(&f64::sinh),
        "Softplus" => apply(&softplus),
        "Softsign" => apply(&|x| x / (1.0 + x.abs())),
        "Sqrt" => apply(&f64::sqrt),
        "Swish" => {
            let alpha = float("alpha", 1.0);
            apply(&|x| x * sigmoid(alpha * x))
        }
        "Tan" => apply(&f64::tan),
        "Tanh" => apply(&f64::tanh),
        "ThresholdedRelu" => {
            let alpha = float("alpha", 1.0);
            apply(&|x| if x > alpha { x } else { 0.0 })
        }
        _ => Ok(None),
    }
}

/// ONNX Runtime's own operators.
fn contributed(call: &Call<'_>) -> Result<Option<Tensor>, OnnxError> {
    let biased = || {
        let (x, bias) = (call.input(0)?, call.optional(1));
        let fail = || call.fail("the bias does not broadcast");
        bias.map_or(Some(x.clone()), |b| x.zip(b, |x, b| x + b)).ok_or_else(fail)
    };
    match call.node.op_type.as_str() {
        "Gelu" | "BiasGelu" => Ok(Some(biased()?.map(gelu))),
        "FastGelu" => Ok(Some(biased()?.map(gelu_tanh))),
        "QuickGelu" => {
            let alpha = f64::from(call.node.float("alpha", 1.702));
            Ok(Some(call.input(0)?.map(|x| x * sigmoid(alpha * x))))
        }
        _ => Ok(None),
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / 2_f64.sqrt()))
}

fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// `erf(x) = 2/√π · exp(−x²) · Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!!` (DLMF 7.6.2): all terms have one sign, so nothing cancels.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
        if term.abs() < f64::EPSILON / 4.0 * sum.abs() {
            break;
        }
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_has_the_values_of_the_tables() {
        // Abramowitz and Stegun, table 7.1.
        for (x, wanted) in [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)] {
            assert!((erf(x) - wanted).abs() < 1e-10 && (erf(-x) + wanted).abs() < 1e-10, "{x}");
        }
        assert!((erf(5.9) - 1.0).abs() < 1e-14);
    }
}

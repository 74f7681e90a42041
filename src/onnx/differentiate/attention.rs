//! Scaled dot products: `Attention` of set 23, which newer exporters write as one node.
//!
//! With `P = softmax(scale · Q Kᵀ + mask)` and `Y = P V`: `dV = Pᵀ dY`, `dS = P · (dP − Σ dP·P)` for `dP = dY Vᵀ`,
//! `dQ = scale · dS K`, `dK = scale · dSᵀ Q`. The weights `P` are computed again; the forward node stays one.

use super::reduction::over_axes;
use super::{Rule, Tape};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{AttributeProto, NodeProto, data_type};

pub(super) const RULES: &[(&str, Rule)] = &[("Attention", attention)];

/// What all parts of the rule need.
struct Heads {
    /// Number of heads of `[n, tokens, heads · size]`; absent if the values are `[n, heads, tokens, size]` already.
    split: Option<i64>,
    scale: f32,
}

impl Heads {
    fn of(tape: &Tape<'_>, node: &NodeProto) -> Result<Self, OnnxError> {
        let shape = tape.shape(node, tape.input(node, 0)?)?;
        let other = tape.shape(node, tape.input(node, 1)?)?;
        let unknown = || tape.unsupported(node, "the number or the size of the heads is not fixed");
        let (split, counts, size) = match (shape, other) {
            ([_, q, _, size], [_, k, ..]) => (None, (q.fixed(), k.fixed()), size.fixed()),
            ([_, _, width], [_, _, _]) => {
                let count = |name: &str| usize::try_from(node.int(name, 0)).ok().filter(|c| *c > 0);
                let (q, k) = (count("q_num_heads"), count("kv_num_heads"));
                (q.map(|q| q as i64), (q, k), width.fixed().zip(q).map(|(w, q)| w / q))
            }
            _ => return Err(tape.unsupported(node, "wanted [n, heads, tokens, size] or [n, tokens, heads · size]")),
        };
        let ((Some(q), Some(k)), Some(size)) = (counts, size) else { return Err(unknown()) };
        if q != k {
            let reason = format!("{q} heads of queries share {k} of keys; grouped heads have no rule");
            return Err(tape.unsupported(node, reason));
        }
        let scale = node.attribute("scale").and_then(|a| a.f).unwrap_or(1.0 / (size as f32).sqrt());
        Ok(Self { split, scale })
    }

    /// As `[n, heads, tokens, size]`.
    fn apart(&self, tape: &mut Tape<'_>, value: &str) -> String {
        let Some(count) = self.split else { return value.to_string() };
        let shape = tape.builder().list(&[0, 0, count, -1]);
        let split = tape.op("Reshape", &[value, &shape]);
        tape.node("Transpose", &[&split], vec![AttributeProto::ints("perm", &[0, 2, 1, 3])])
    }

    /// Adds the gradient of [`Heads::apart`] of a value.
    fn give(&self, tape: &mut Tape<'_>, value: &str, gradient: String) {
        if self.split.is_none() {
            return tape.add(value, gradient);
        }
        let joined = tape.node("Transpose", &[&gradient], vec![AttributeProto::ints("perm", &[0, 2, 1, 3])]);
        let joined = tape.reshape_like(&joined, value);
        tape.add(value, joined);
    }
}

fn attention(tape: &mut Tape<'_>, node: &NodeProto, dy: &str) -> Result<(), OnnxError> {
    if (4..7).any(|i| node.input_name(i).is_some()) || node.float("softcap", 0.0) != 0.0 {
        return Err(tape.unsupported(node, "a cache of keys and values or a softcap has no rule"));
    }
    let heads = Heads::of(tape, node)?;
    let [query, key, value] = [tape.input(node, 0)?, tape.input(node, 1)?, tape.input(node, 2)?];
    let [q, k, v, dy] = [query, key, value, dy].map(|x| heads.apart(tape, x));
    let turned =
        |tape: &mut Tape<'_>, x: &str| tape.node("Transpose", &[x], vec![AttributeProto::ints("perm", &[0, 1, 3, 2])]);

    let weights = weights(tape, node, &q, &k, heads.scale)?;
    if tape.wants(value) {
        let across = turned(tape, &weights);
        let gradient = tape.op("MatMul", &[&across, &dy]);
        heads.give(tape, value, gradient);
    }
    if !tape.wants(query) && !tape.wants(key) {
        return Ok(());
    }
    let across = turned(tape, &v);
    let dp = tape.op("MatMul", &[&dy, &across]);
    let product = tape.op("Mul", &[&dp, &weights]);
    let sum = over_axes(tape, "ReduceSum", &product, &[-1]);
    let rest = tape.op("Sub", &[&dp, &sum]);
    let slope = tape.op("Mul", &[&weights, &rest]);
    let ds = tape.scale(&slope, heads.scale);
    if tape.wants(query) {
        let gradient = tape.op("MatMul", &[&ds, &k]);
        heads.give(tape, query, gradient);
    }
    if tape.wants(key) {
        let across = turned(tape, &ds);
        let gradient = tape.op("MatMul", &[&across, &q]);
        heads.give(tape, key, gradient);
    }
    Ok(())
}

/// `softmax(scale · Q Kᵀ + mask)`.
fn weights(tape: &mut Tape<'_>, node: &NodeProto, q: &str, k: &str, scale: f32) -> Result<String, OnnxError> {
    let turned = tape.node("Transpose", &[k], vec![AttributeProto::ints("perm", &[0, 1, 3, 2])]);
    let scores = tape.op("MatMul", &[q, &turned]);
    let mut scores = tape.scale(&scores, scale);
    if let Some(mask) = node.input_name(3) {
        if tape.wants(mask) {
            return Err(tape.unsupported(node, "the mask depends on the image"));
        }
        scores = match tape.facts().elem_type(mask) {
            Some(data_type::BOOL) => {
                let lowest = tape.builder().scalar(f32::MIN);
                tape.op("Where", &[mask, &scores, &lowest])
            }
            _ => tape.op("Add", &[&scores, mask]),
        };
    }
    if node.int("is_causal", 0) != 0 {
        let tokens = |i: usize| {
            let shape = tape.shape(node, tape.input(node, i)?)?;
            Ok::<_, OnnxError>(shape.get(shape.len() - 2).and_then(|d| d.fixed()))
        };
        let (Some(rows), Some(columns)) = (tokens(0)?, tokens(1)?) else {
            return Err(tape.unsupported(node, "is_causal with a number of tokens that is not fixed has no rule"));
        };
        if rows.saturating_mul(columns) > 1 << 24 {
            return Err(tape.unsupported(node, format!("is_causal over {rows} × {columns} tokens has no rule")));
        }
        let later = |i: usize| if i % columns > i / columns { f32::MIN } else { 0.0 };
        let mask: Vec<f32> = (0..rows * columns).map(later).collect();
        let mask = tape.builder().constant("grad_causal_mask", &[rows, columns], &mask);
        scores = tape.op("Add", &[&scores, &mask]);
    }
    Ok(tape.node("Softmax", &[&scores], vec![AttributeProto::int("axis", -1)]))
}

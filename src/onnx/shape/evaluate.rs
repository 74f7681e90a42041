//! Values of the constant parts of a graph: what exporters compute from fixed shapes, masks, position tables, weights
//! that are made of other weights.
//!
//! The float64 interpreter does the work, node by node, and each result is rounded to its element type as the runtime
//! would. Large or expensive parts stay unevaluated, so that a hostile file costs bounded time and memory.

use super::{Facts, element_count};
use crate::onnx::access::Dim;
use crate::onnx::element;
use crate::onnx::graph::OPSET;
use crate::onnx::interpret::{self, Tensor};
use crate::onnx::proto::{NodeProto, TensorProto, data_type};

/// Most entries of one input or output of an evaluated node.
const MOST_ENTRIES: usize = 1 << 22;

/// Entries read, written and combined by the evaluated nodes of a graph so far. Shape arithmetic has an account of its
/// own, so that large weights cannot use it up.
#[derive(Debug, Clone, Default)]
pub(super) struct Work {
    small: usize,
    large: usize,
}

impl Work {
    /// Most work of a node that counts as small.
    const SMALL: usize = 1 << 14;
    /// Most work of all small nodes.
    const MOST_SMALL: usize = 1 << 28;
    /// Most work of all others: about a second.
    const MOST_LARGE: usize = 1 << 26;

    /// Whether the work may be done; if so it counts.
    fn allow(&mut self, cost: usize) -> bool {
        let (account, most) = match cost {
            0..=Self::SMALL => (&mut self.small, Self::MOST_SMALL),
            _ => (&mut self.large, Self::MOST_LARGE),
        };
        let allowed = cost <= most - *account;
        if allowed {
            *account += cost;
        }
        allowed
    }
}

/// Operators that are evaluated. Others are not needed for shapes and weights.
const EVALUATED: &[&str] = &[
    "Abs",
    "Add",
    "And",
    "Cast",
    "CastLike",
    "Ceil",
    "Concat",
    "ConstantOfShape",
    "Cos",
    "CumSum",
    "Div",
    "Equal",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "GatherND",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "Less",
    "LessOrEqual",
    "Log",
    "MatMul",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "Pad",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Reshape",
    "Resize",
    "ScatterElements",
    "ScatterND",
    "Shape",
    "Sigmoid",
    "Sign",
    "Sin",
    "Size",
    "Slice",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
    "Xor",
];

/// What a `Constant` node holds, in whichever attribute; absent for strings and sparse tensors.
pub(super) fn constant(node: &NodeProto) -> Option<TensorProto> {
    let a = node.attribute.first()?;
    Some(match a.name.as_str() {
        "value" => a.t.clone()?,
        "value_float" => TensorProto::from_f32("", &[], &[a.f?]),
        "value_floats" => TensorProto::from_f32("", &[a.floats.len()], &a.floats),
        "value_int" => TensorProto::from_i64("", &[], &[a.i?]),
        "value_ints" => TensorProto::from_i64("", &[a.ints.len()], &a.ints),
        _ => return None,
    })
}

/// A list of integers, with the shape of the node's output.
pub(super) fn list(numbers: &[i64], shape: Option<&Vec<Dim>>, elem_type: i32) -> Option<TensorProto> {
    let shape = super::fixed(shape?)?;
    let data: Vec<f64> = numbers.iter().map(|n| *n as f64).collect();
    let exact = data.iter().zip(numbers).all(|(f, n)| *f as i64 == *n);
    (exact && element_count(&shape) == Some(data.len())).then_some(())?;
    tensor(&Tensor { shape, data }, elem_type)
}

/// Names and values of the node's outputs, if all its inputs are constant and it is small enough. `shapes` are those of
/// its outputs.
pub(super) fn results(facts: &mut Facts, node: &NodeProto, shapes: &[Vec<Dim>]) -> Option<Vec<(String, TensorProto)>> {
    if node.input.is_empty() || !EVALUATED.contains(&node.op_type.as_str()) {
        return None;
    }
    let given = || node.input.iter().filter(|name| !name.is_empty());
    if !given().all(|name| facts.constants.contains_key(name)) {
        return None;
    }
    let output = node.output.first()?;
    if matches!(node.op_type.as_str(), "Identity") {
        let tensor = facts.constants.get(node.input_name(0)?)?.clone();
        return Some(vec![(output.clone(), tensor)]);
    }
    let cost = cost(facts, node, shapes)?;
    facts.work.allow(cost).then_some(())?;

    let types: Vec<i32> = node.input.iter().map(|name| facts.elem_type(name).unwrap_or(0)).collect();
    let tensors: Vec<Option<Tensor>> = node
        .input
        .iter()
        .map(|name| facts.constants.get(name).map(interpret::constant).transpose())
        .collect::<Result<_, _>>()
        .ok()?;
    let inputs: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
    let results = interpret::visit(node, &inputs, &types, OPSET).ok()?;
    let types = element::results(node, &types);
    let named = node.output.iter().zip(&results).zip(&types).filter(|((name, _), _)| !name.is_empty());
    named.map(|((name, value), elem_type)| Some((name.clone(), tensor(value, *elem_type)?))).collect()
}

/// Entries read, written and combined; absent if the node is too large, or its size cannot be told beforehand.
fn cost(facts: &Facts, node: &NodeProto, shapes: &[Vec<Dim>]) -> Option<usize> {
    let size = |shape: &[Dim]| super::fixed(shape).and_then(|s| element_count(&s)).filter(|n| *n <= MOST_ENTRIES);
    let mut read = 0usize;
    for name in node.input.iter().filter(|name| !name.is_empty()) {
        read += size(facts.shape(name)?)?;
    }
    if shapes.len() < node.output.len() {
        return None;
    }
    let mut written = 0usize;
    for shape in shapes {
        written += match node.op_type.as_str() {
            // Its size is in the values; it is at most this.
            "NonZero" => read.checked_mul(shape.first()?.fixed()?)?,
            _ => size(shape)?,
        };
    }
    let rank = shapes.first().map_or(1, Vec::len).max(1);
    let per_entry = match node.op_type.as_str() {
        "MatMul" => facts.shape(node.input_name(0)?)?.last()?.fixed()?,
        // Up to four taps on every axis, more where antialiasing shrinks.
        "Resize" => 64,
        "CumSum" => facts.shape(node.input_name(0)?)?.iter().filter_map(Dim::fixed).max().unwrap_or(1),
        _ => rank,
    };
    written.checked_mul(per_entry)?.checked_add(read)
}

/// A tensor of the given element type; absent for types that the interpreter does not make.
fn tensor(value: &Tensor, elem_type: i32) -> Option<TensorProto> {
    let (shape, data) = (&value.shape, &value.data);
    if element_count(shape) != Some(data.len()) {
        return None;
    }
    let raw: Vec<u8> = match elem_type {
        data_type::FLOAT => data.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
        data_type::DOUBLE => data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        data_type::FLOAT16 => data.iter().flat_map(|v| half::f16::from_f64(*v).to_le_bytes()).collect(),
        data_type::INT64 => data.iter().flat_map(|v| (*v as i64).to_le_bytes()).collect(),
        data_type::INT32 => data.iter().flat_map(|v| (*v as i64 as i32).to_le_bytes()).collect(),
        data_type::UINT8 => data.iter().map(|v| *v as i64 as u8).collect(),
        data_type::BOOL => data.iter().map(|v| u8::from(*v != 0.0)).collect(),
        _ => return None,
    };
    Some(TensorProto {
        dims: shape.iter().map(|d| *d as i64).collect(),
        data_type: elem_type,
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::fixtures::Net;
    use crate::onnx::proto::AttributeProto;

    /// The numbers that `body` computes, as [`Facts`] knows them.
    fn value(body: impl FnOnce(&mut Net) -> String) -> Option<Vec<i64>> {
        let mut net = Net::new([2, 4, 3]);
        let name = body(&mut net);
        Facts::infer(net.b.graph()).unwrap().integers(&name)
    }

    #[test]
    fn integers_divide_as_integers() {
        let quotient = value(|net| {
            let (a, b) = (net.b.list(&[7, -7, 8]), net.b.list(&[2]));
            net.op("Div", &[&a, &b])
        });
        assert_eq!(quotient.unwrap(), [3, -3, 4]);
    }

    #[test]
    fn sizes_that_go_through_floats_come_back_as_integers() {
        let size = value(|net| {
            let shape = net.op("Shape", &["image"]);
            let spatial = net.b.list(&[2, 3]);
            let size = net.op("Gather", &[&shape, &spatial]);
            let size = net.b.node("Cast", &[&size], vec![AttributeProto::int("to", 1)]);
            let factor = net.b.scalar(1.4);
            let size = net.op("Mul", &[&size, &factor]);
            let size = net.op("Floor", &[&size]);
            net.b.node("Cast", &[&size], vec![AttributeProto::int("to", 7)])
        });
        assert_eq!(size.unwrap(), [5, 4]);
    }

    #[test]
    fn a_mask_is_found() {
        let mask = value(|net| {
            let numbers = [0, 6, 1].map(|v| net.b.constant_i64("number", &[], &[v]));
            let range = net.op("Range", &[&numbers[0], &numbers[1], &numbers[2]]);
            let three = net.b.list(&[3]);
            let below = net.op("Less", &[&range, &three]);
            let (yes, no) = (net.b.list(&[-1]), net.b.list(&[5]));
            let list = net.op("Where", &[&below, &yes, &no]);
            let high = net.op("Greater", &[&list, &three]);
            net.op("NonZero", &[&high])
        });
        assert_eq!(mask.unwrap(), [3, 4, 5]);
    }

    #[test]
    fn large_weights_do_not_use_up_the_account_of_shapes() {
        let mut work = Work::default();
        assert!(work.allow(Work::MOST_LARGE) && !work.allow(Work::SMALL + 1));
        assert!(work.allow(Work::SMALL));
        assert!(!Work::default().allow(usize::MAX));
    }

    #[test]
    fn what_is_too_large_stays_unknown_and_costs_nothing() {
        let huge = value(|net| {
            let shape = net.b.list(&[1 << 15, 1 << 15]);
            let zeros = net.op("ConstantOfShape", &[&shape]);
            net.b.node("Cast", &[&zeros], vec![AttributeProto::int("to", 7)])
        });
        assert_eq!(huge, None);
    }
}

//! Element types of the values of a graph, told from operators and the types of their inputs.

use super::proto::{NodeProto, data_type};

/// Whether arithmetic on this element type is integer arithmetic: division truncates, booleans excluded.
pub fn is_integer(elem_type: i32) -> bool {
    // uint8, int8, uint16, int16, int32, int64; uint32, uint64.
    matches!(elem_type, 2..=7 | 12 | 13)
}

/// Element types of a node's outputs, in order; 0 where it cannot be told. `inputs` are those of its inputs, 0 for one
/// that is unknown or omitted.
pub fn results(node: &NodeProto, inputs: &[i32]) -> Vec<i32> {
    let first = inputs.first().copied().unwrap_or(0);
    let at = |i: usize| inputs.get(i).copied().unwrap_or(0);
    let all = |elem_type: i32| vec![elem_type; node.output.len()];
    let declared = |name: &str| node.attribute(name).and_then(|a| a.i).and_then(|i| i32::try_from(i).ok());
    if !node.is_onnx() {
        return all(0);
    }
    match node.op_type.as_str() {
        "Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" => all(data_type::INT64),
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" | "Xor" | "Not" | "IsNaN"
        | "IsInf" => all(data_type::BOOL),
        "Cast" => all(declared("to").unwrap_or(0)),
        "CastLike" | "Where" | "DequantizeLinear" => all(at(1)),
        "OneHot" => all(at(2)),
        "Constant" => all(constant(node)),
        "ConstantOfShape" => {
            all(node.attribute("value").and_then(|a| a.t.as_ref()).map_or(data_type::FLOAT, |t| t.data_type))
        }
        "EyeLike" | "RandomNormalLike" | "RandomUniformLike" => all(declared("dtype").unwrap_or(first)),
        "RandomNormal" | "RandomUniform" => all(declared("dtype").unwrap_or(data_type::FLOAT)),
        "QuantizeLinear" => all(if at(2) == 0 { data_type::UINT8 } else { at(2) }),
        "ConvInteger" | "MatMulInteger" => all(data_type::INT32),
        "MaxPool" | "TopK" => with_second(first, data_type::INT64, node.output.len()),
        "Dropout" => with_second(first, data_type::BOOL, node.output.len()),
        "If" | "Loop" | "Scan" => all(0),
        _ => all(first),
    }
}

fn with_second(first: i32, second: i32, count: usize) -> Vec<i32> {
    (0..count).map(|i| if i == 0 { first } else { second }).collect()
}

fn constant(node: &NodeProto) -> i32 {
    match node.attribute.first().map(|a| (a.name.as_str(), a)) {
        Some(("value", a)) => a.t.as_ref().map_or(0, |t| t.data_type),
        Some(("value_float" | "value_floats", _)) => data_type::FLOAT,
        Some(("value_int" | "value_ints", _)) => data_type::INT64,
        Some(("value_string" | "value_strings", _)) => data_type::STRING,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::AttributeProto;

    #[test]
    fn types_follow_the_operators() {
        let node = |op: &str, attribute: Vec<AttributeProto>| NodeProto {
            op_type: op.into(),
            output: vec!["a".into(), "b".into()],
            attribute,
            ..NodeProto::default()
        };
        assert_eq!(results(&node("MaxPool", vec![]), &[1]), [data_type::FLOAT, data_type::INT64]);
        assert_eq!(results(&node("Where", vec![]), &[9, 7, 7]), [7, 7]);
        assert_eq!(results(&node("Cast", vec![AttributeProto::int("to", 6)]), &[1]), [6, 6]);
        assert_eq!(results(&node("Less", vec![]), &[1, 1])[0], data_type::BOOL);
        let foreign = NodeProto { domain: "com.example".into(), ..node("Relu", vec![]) };
        assert_eq!(results(&foreign, &[1]), [0, 0]);
    }
}

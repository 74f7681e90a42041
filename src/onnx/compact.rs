//! Weights that a file stores compactly, as 8-bit integers or half floats behind a node that widens them, written out in
//! float32 for the attack graph: a rule that needs the numbers of a weight finds them.
//!
//! The numbers are those that the node computes, bit for bit.

use std::collections::{HashMap, HashSet};

use super::inline::captured;
use super::proto::{ModelProto, NodeProto, TensorProto, data_type};

/// Replaces every `Cast` to float32 and every `DequantizeLinear` of a constant by its result.
pub fn widen(mut model: ModelProto) -> ModelProto {
    let Some(graph) = &mut model.graph else { return model };
    let mut constants: HashMap<String, TensorProto> = HashMap::new();
    for tensor in &graph.initializer {
        constants.insert(tensor.name.clone(), tensor.clone());
    }
    let nodes = std::mem::take(&mut graph.node);
    let mut replaced: HashSet<String> = HashSet::new();
    for node in nodes {
        if let (true, "Constant", Some(tensor)) =
            (node.is_onnx(), node.op_type.as_str(), node.attribute("value").and_then(|a| a.t.as_ref()))
        {
            constants.extend(node.output.first().map(|o| (o.clone(), tensor.clone())));
        }
        let wide = match (node.is_onnx(), node.op_type.as_str()) {
            (true, "Cast") => cast(&node, &constants),
            (true, "DequantizeLinear") => dequantized(&node, &constants),
            _ => None,
        };
        // A damaged file may want more outputs of it than it has.
        match (wide, node.output.first().filter(|_| node.output.len() == 1)) {
            (Some((dims, values)), Some(output)) => {
                let tensor = TensorProto::from_f32(output, &dims, &values);
                constants.insert(output.clone(), tensor.clone());
                graph.initializer.push(tensor);
                replaced.extend(node.input);
            }
            _ => graph.node.push(node),
        }
    }
    // What only the replaced nodes read is not carried along.
    let read = graph.node.iter().flat_map(|node| node.input.iter().map(String::as_str).chain(captured(node)));
    for name in read.chain(graph.output.iter().map(|value| value.name.as_str())) {
        replaced.remove(name);
    }
    graph.initializer.retain(|tensor| !replaced.contains(&tensor.name));
    graph.input.retain(|value| !replaced.contains(&value.name));
    model
}

type Constants = HashMap<String, TensorProto>;

fn constant<'a>(node: &NodeProto, i: usize, constants: &'a Constants) -> Option<&'a TensorProto> {
    constants.get(node.input_name(i)?)
}

fn cast(node: &NodeProto, constants: &Constants) -> Option<(Vec<usize>, Vec<f32>)> {
    let tensor = constant(node, 0, constants)?;
    (node.int("to", 0) == i64::from(data_type::FLOAT)).then_some(())?;
    // Casting float64 rounds to nearest, as reading it does.
    let values = tensor.to_f32().or_else(|| Some(tensor.to_i64()?.into_iter().map(|v| v as f32).collect()))?;
    Some((tensor.shape(), values))
}

/// `(x − zero point) · scale`, with one scale, or one per entry of an axis. Blocks of scales are left to the runtime.
fn dequantized(node: &NodeProto, constants: &Constants) -> Option<(Vec<usize>, Vec<f32>)> {
    let (x, scale) = (constant(node, 0, constants)?, constant(node, 1, constants)?);
    if scale.data_type != data_type::FLOAT || node.int("block_size", 0) != 0 {
        return None;
    }
    // An int32 (a bias) may lie beyond what float32 holds exactly; the runtime rounds it the same way.
    let narrow = [data_type::INT8, data_type::UINT8, data_type::INT16, data_type::UINT16, data_type::INT32]
        .contains(&x.data_type);
    let (values, scales) = (narrow.then(|| x.to_i64())??, scale.to_f32()?);
    let zeros = match node.input_name(2) {
        Some(_) => constant(node, 2, constants)?.to_i64()?,
        None => vec![0; scales.len()],
    };
    let shape = x.shape();
    let per_axis = scale.dims.len() == 1 && scales.len() > 1;
    // Entry `i` of the axis covers `inner` neighbours, again and again.
    let (inner, entries) = match per_axis {
        false => (1, 1),
        true => {
            let axis = node.int("axis", 1);
            let axis = usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).ok()?;
            (shape.get(axis + 1..)?.iter().product::<usize>().max(1), *shape.get(axis)?)
        }
    };
    if scales.len() != entries || zeros.len() != entries {
        return None;
    }
    let wide = |(at, v): (usize, &i64)| {
        let entry = at / inner % entries;
        (v - zeros[entry]) as f32 * scales[entry]
    };
    Some((shape, values.iter().enumerate().map(wide).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::GraphBuilder;
    use crate::onnx::proto::AttributeProto;

    fn integers(name: &str, element: i32, dims: &[i64], values: &[i32]) -> TensorProto {
        TensorProto {
            name: name.into(),
            data_type: element,
            dims: dims.to_vec(),
            int32_data: values.to_vec(),
            ..TensorProto::default()
        }
    }

    fn widened(tensors: Vec<TensorProto>, attributes: Vec<AttributeProto>, op: &str) -> ModelProto {
        let mut b = GraphBuilder::new("t");
        let names: Vec<String> = tensors.iter().map(|t| t.name.clone()).collect();
        b.push(op, &names.iter().map(String::as_str).collect::<Vec<_>>(), &["y"], attributes);
        let mut model = b.finish();
        model.graph.as_mut().unwrap().initializer = tensors;
        widen(model)
    }

    fn result(model: &ModelProto) -> Option<Vec<f32>> {
        let graph = model.graph.as_ref().unwrap();
        assert_eq!(graph.node.len() + graph.initializer.iter().filter(|t| t.name == "y").count(), 1);
        graph.initializer.iter().find(|t| t.name == "y")?.to_f32()
    }

    #[test]
    fn eight_bit_weights_are_written_out() {
        // ONNX's DequantizeLinear: (x − zero point) · scale; two rows with their own scales.
        let tensors = vec![
            integers("x", data_type::INT8, &[2, 2], &[-3, 5, 7, 0]),
            TensorProto::from_f32("s", &[2], &[0.5, 2.0]),
            integers("z", data_type::INT8, &[2], &[1, -1]),
        ];
        let model = widened(tensors, vec![AttributeProto::int("axis", 0)], "DequantizeLinear");
        assert_eq!(result(&model), Some(vec![-2.0, 2.0, 16.0, 2.0]));
    }

    #[test]
    fn one_scale_serves_a_whole_tensor() {
        let tensors = vec![
            integers("x", data_type::UINT8, &[3], &[0, 128, 255]),
            TensorProto::from_f32("s", &[], &[0.25]),
            integers("z", data_type::UINT8, &[], &[128]),
        ];
        assert_eq!(result(&widened(tensors, vec![], "DequantizeLinear")), Some(vec![-32.0, 0.0, 31.75]));
    }

    #[test]
    fn a_weight_that_nothing_reads_any_more_is_dropped() {
        let half = || integers("x", data_type::FLOAT16, &[2], &[0x3e00, 0xc000]);
        let cast = || vec![AttributeProto::int("to", i64::from(data_type::FLOAT))];
        let names = |model: &ModelProto| -> Vec<String> {
            model.graph.as_ref().unwrap().initializer.iter().map(|t| t.name.clone()).collect()
        };
        assert_eq!(names(&widened(vec![half()], cast(), "Cast")), ["y"]);
        let mut b = GraphBuilder::new("t");
        b.push("Cast", &["x"], &["y"], cast());
        b.push("Shape", &["x"], &["read again"], vec![]);
        let mut model = b.finish();
        model.graph.as_mut().unwrap().initializer = vec![half()];
        assert_eq!(names(&widen(model)), ["x", "y"]);
    }

    #[test]
    fn half_weights_behind_a_cast_are_written_out() {
        let half = integers("x", data_type::FLOAT16, &[2], &[0x3e00, 0xc000]);
        let cast = |to: i32| vec![AttributeProto::int("to", i64::from(to))];
        assert_eq!(result(&widened(vec![half.clone()], cast(data_type::FLOAT), "Cast")), Some(vec![1.5, -2.0]));
        assert_eq!(result(&widened(vec![half], cast(data_type::INT32), "Cast")), None);
    }

    #[test]
    fn scales_that_do_not_fit_are_left_to_the_runtime() {
        let tensors = vec![
            integers("x", data_type::INT8, &[2, 2], &[-3, 5, 7, 0]),
            TensorProto::from_f32("s", &[3], &[0.5, 2.0, 1.0]),
        ];
        assert_eq!(result(&widened(tensors, vec![AttributeProto::int("axis", 0)], "DequantizeLinear")), None);
    }
}

//! A plain float64 interpreter of ONNX graphs: naive loops but for products of matrices, one thread, for checks and for
//! the constant parts of a graph.
//!
//! It shares no code with ONNX Runtime, so that agreement of the two means something, and its float64 forward pass
//! is what central differences are taken of (ONNX Runtime's CPU provider has no float64 convolution).

mod attention;
mod elementwise;
mod functions;
mod fused;
mod indexing;
mod integers;
mod layout;
mod linear;
mod normalisation;
mod reduction;
mod sliding;
mod tensor;

use std::collections::HashMap;

pub use tensor::Tensor;

use super::element;
use super::file::OnnxError;
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto};

/// Values by name.
pub type Values = HashMap<String, Tensor>;

/// Runs a graph and returns every value it computes, inputs and constants included.
///
/// # Errors
/// [`OnnxError::Node`] for an operator that the interpreter lacks or inputs that do not fit it; [`OnnxError::Graph`]
/// for a missing input.
pub fn run(model: &ModelProto, inputs: &[(&str, Tensor)]) -> Result<Values, OnnxError> {
    let prepared = Prepared::new(model)?;
    let mut values = prepared.values(inputs, |_, _| true)?;
    values.extend(prepared.constants);
    Ok(values)
}

/// A graph with its constants read, for many passes.
#[derive(Debug)]
pub struct Prepared<'a> {
    graph: &'a GraphProto,
    opset: i64,
    constants: Values,
    /// Element types of constants and inputs.
    types: HashMap<&'a str, i32>,
    /// The last node that reads a value.
    last_user: HashMap<&'a str, usize>,
}

impl<'a> Prepared<'a> {
    /// Reads the constants.
    ///
    /// # Errors
    /// [`OnnxError::Graph`] for one that cannot be read.
    pub fn new(model: &'a ModelProto) -> Result<Self, OnnxError> {
        let graph = model.graph.as_ref().ok_or_else(|| OnnxError::Graph("no graph".into()))?;
        let constants = graph.initializer.iter().map(|tensor| Ok((tensor.name.clone(), constant(tensor)?)));
        let constants = constants.collect::<Result<Values, OnnxError>>()?;
        let mut types: HashMap<&str, i32> =
            graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor.data_type)).collect();
        types.extend(graph.true_inputs().filter_map(|i| Some((i.name.as_str(), i.elem_type()?))));
        let reads = graph.node.iter().enumerate();
        let last_user = reads.flat_map(|(i, node)| node.input.iter().map(move |name| (name.as_str(), i))).collect();
        Ok(Self { graph, opset: model.opset(), constants, types, last_user })
    }

    /// One value of a pass. No other is kept longer than nodes read it.
    ///
    /// # Errors
    /// As [`run`]; [`OnnxError::Graph`] if no node makes that value.
    pub fn output(&self, inputs: &[(&str, Tensor)], name: &str) -> Result<Tensor, OnnxError> {
        let mut values = self.values(inputs, |value, node| {
            value == name || self.last_user.get(value).is_some_and(|last| *last > node)
        })?;
        values.remove(name).ok_or_else(|| OnnxError::Graph(format!("no node makes `{name}`")))
    }

    /// The values that are kept after the node: `keep` is asked for each of them whenever a node has read or made it.
    fn values(&self, inputs: &[(&str, Tensor)], keep: impl Fn(&str, usize) -> bool) -> Result<Values, OnnxError> {
        let mut values: Values = inputs.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
        let mut types = self.types.clone();
        let known = |values: &Values, name: &str| values.contains_key(name) || self.constants.contains_key(name);
        if let Some(missing) = self.graph.true_inputs().find(|i| !known(&values, &i.name)) {
            return Err(OnnxError::Graph(format!("input `{}` is missing", missing.name)));
        }
        for (i, node) in self.graph.node.iter().enumerate() {
            let find = |name: &String| values.get(name).or_else(|| self.constants.get(name));
            let inputs: Vec<Option<&Tensor>> = node.input.iter().map(find).collect();
            let input_types: Vec<i32> =
                node.input.iter().map(|name| types.get(name.as_str()).copied().unwrap_or(0)).collect();
            let results = visit(node, &inputs, &input_types, self.opset)?;
            types.extend(node.output.iter().map(String::as_str).zip(element::results(node, &input_types)));
            let made = node.output.iter().zip(results).filter(|(name, _)| !name.is_empty() && keep(name, i));
            values.extend(made.map(|(name, result)| (name.clone(), result)));
            node.input.iter().filter(|name| !keep(name, i)).for_each(|name| drop(values.remove(name)));
        }
        Ok(values)
    }
}

pub(super) fn constant(tensor: &TensorProto) -> Result<Tensor, OnnxError> {
    let floats = tensor.to_f32().map(|v| v.into_iter().map(f64::from).collect());
    let data = floats.or_else(|| tensor.to_i64().map(|v| v.into_iter().map(|i| i as f64).collect()));
    let data = data.ok_or_else(|| OnnxError::Graph(format!("constant `{}` cannot be read", tensor.name)))?;
    Ok(Tensor { shape: tensor.shape(), data })
}

/// A node with its inputs looked up.
struct Call<'a> {
    node: &'a NodeProto,
    /// Version of ONNX's own operators in this file.
    opset: i64,
    inputs: &'a [Option<&'a Tensor>],
    /// Element types of the inputs; 0 where unknown.
    types: &'a [i32],
}

impl<'a> Call<'a> {
    fn input(&self, i: usize) -> Result<&'a Tensor, OnnxError> {
        self.optional(i).ok_or_else(|| self.fail(format!("input {i} is missing")))
    }

    fn optional(&self, i: usize) -> Option<&'a Tensor> {
        self.inputs.get(i).copied().flatten()
    }

    /// An axis of a value with `rank` axes, counted from the front.
    fn axis(&self, axis: i64, rank: usize) -> Result<usize, OnnxError> {
        let wrapped = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        let inside = usize::try_from(wrapped).ok().filter(|a| *a < rank);
        inside.ok_or_else(|| self.fail(format!("axis {axis} of a value with {rank} axes")))
    }

    /// Several axes, all different.
    fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, OnnxError> {
        let mut result: Vec<usize> = vec![];
        for axis in axes {
            let wrapped = self.axis(*axis, rank)?;
            if result.contains(&wrapped) {
                return Err(self.fail(format!("axis {axis} is named twice")));
            }
            result.push(wrapped);
        }
        Ok(result)
    }

    /// Input `i` as sizes, none of them negative, whose product can be held.
    fn sizes(&self, i: usize) -> Result<Vec<usize>, OnnxError> {
        let sizes: Option<Vec<usize>> =
            self.input(i)?.integers().into_iter().map(|d| usize::try_from(d).ok()).collect();
        let fits = sizes.filter(|s| tensor::element_count(s).is_some_and(|n| n <= crate::onnx::shape::LARGEST));
        fits.ok_or_else(|| self.fail(format!("input {i} is no shape")))
    }

    /// Whether arithmetic on the first input is integer arithmetic.
    fn is_integer(&self) -> bool {
        self.types.first().is_some_and(|t| element::is_integer(*t))
    }

    fn fail(&self, reason: impl Into<String>) -> OnnxError {
        OnnxError::Node {
            node: self.node.label().into(),
            op: self.node.op_type.clone(),
            reason: format!("interpreter: {}", reason.into()),
        }
    }
}

/// Runs one node of a file of operator set `opset`. `types` are the element types of the inputs, 0 where unknown:
/// integers divide as integers.
pub(super) fn visit(
    node: &NodeProto,
    inputs: &[Option<&Tensor>],
    types: &[i32],
    opset: i64,
) -> Result<Vec<Tensor>, OnnxError> {
    let call = Call { node, opset, inputs, types };
    type Family = fn(&Call<'_>) -> Result<Option<Tensor>, OnnxError>;
    let families: [Family; 8] = [
        attention::visit,
        fused::visit,
        integers::visit,
        elementwise::visit,
        functions::visit,
        layout::visit,
        linear::visit,
        reduction::visit,
    ];
    for family in families {
        if let Some(result) = family(&call)? {
            return Ok(vec![result]);
        }
    }
    for family in [indexing::visit, normalisation::visit, sliding::visit] {
        if let Some(results) = family(&call)? {
            return Ok(results);
        }
    }
    Err(call.fail("the operator is not implemented"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::graph::{FLOAT, GraphBuilder};

    #[test]
    fn large_entries_overflow_no_power() {
        let mut b = GraphBuilder::new("large");
        let x = b.input("x", FLOAT, &[1.into(), 3.into()]);
        let names = ["Softmax", "LogSoftmax", "ReduceLogSumExp", "Softplus"].map(|op| b.node(op, &[&x], vec![]));
        let values = run(&b.finish(), &[("x", Tensor::from_f32(&[1, 3], &[1000.0, 998.0, -1000.0]))]).unwrap();
        let sum = 1.0 + (-2f64).exp();
        let wanted: [&[f64]; 4] = [
            &[1.0 / sum, (-2f64).exp() / sum, 0.0],
            &[-sum.ln(), -2.0 - sum.ln(), -2000.0 - sum.ln()],
            &[1000.0 + sum.ln()],
            &[1000.0, 998.0, 0.0],
        ];
        for (name, wanted) in names.iter().zip(wanted) {
            let got = &values[name].data;
            assert!(got.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9), "{name}: {got:?}, wanted {wanted:?}");
        }
    }
}

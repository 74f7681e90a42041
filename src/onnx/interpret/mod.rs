//! A plain float64 interpreter of ONNX graphs: naive loops, one thread, for checks only.
//!
//! It shares no code with ONNX Runtime, so that agreement of the two means something, and its float64 forward pass
//! is what central differences are taken of (ONNX Runtime's CPU provider has no float64 convolution).

mod elementwise;
mod functions;
mod layout;
mod linear;
mod normalisation;
mod reduction;
mod sliding;
mod tensor;

use std::collections::HashMap;

pub use tensor::Tensor;

use super::file::OnnxError;
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto};

/// Values by name.
pub type Values = HashMap<String, Tensor>;

/// Runs a graph and returns every value it computes, inputs included.
///
/// # Errors
/// [`OnnxError::Node`] for an operator that the interpreter lacks or inputs that do not fit it; [`OnnxError::Graph`]
/// for a missing input.
pub fn run(model: &ModelProto, inputs: &[(&str, Tensor)]) -> Result<Values, OnnxError> {
    let graph = model.graph.as_ref().ok_or_else(|| OnnxError::Graph("no graph".into()))?;
    let mut values: Values = HashMap::new();
    for tensor in &graph.initializer {
        values.insert(tensor.name.clone(), constant(tensor)?);
    }
    values.extend(inputs.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())));
    if let Some(missing) = graph.true_inputs().find(|i| !values.contains_key(&i.name)) {
        return Err(OnnxError::Graph(format!("input `{}` is missing", missing.name)));
    }
    for node in &graph.node {
        let results = visit(node, graph, model.opset(), &values)?;
        for (name, result) in node.output.iter().zip(results).filter(|(name, _)| !name.is_empty()) {
            values.insert(name.clone(), result);
        }
    }
    Ok(values)
}

fn constant(tensor: &TensorProto) -> Result<Tensor, OnnxError> {
    let floats = tensor.to_f32().map(|v| v.into_iter().map(f64::from).collect());
    let data = floats.or_else(|| tensor.to_i64().map(|v| v.into_iter().map(|i| i as f64).collect()));
    let data = data.ok_or_else(|| OnnxError::Graph(format!("constant `{}` cannot be read", tensor.name)))?;
    Ok(Tensor { shape: tensor.shape(), data })
}

/// A node with its inputs looked up.
struct Call<'a> {
    node: &'a NodeProto,
    graph: &'a GraphProto,
    /// Version of ONNX's own operators in this file.
    opset: i64,
    inputs: Vec<Option<&'a Tensor>>,
}

impl<'a> Call<'a> {
    fn input(&self, i: usize) -> Result<&'a Tensor, OnnxError> {
        self.optional(i).ok_or_else(|| self.fail(format!("input {i} is missing")))
    }

    fn optional(&self, i: usize) -> Option<&'a Tensor> {
        self.inputs.get(i).copied().flatten()
    }

    fn fail(&self, reason: impl Into<String>) -> OnnxError {
        OnnxError::Node {
            node: self.node.label().into(),
            op: self.node.op_type.clone(),
            reason: format!("interpreter: {}", reason.into()),
        }
    }
}

fn visit(node: &NodeProto, graph: &GraphProto, opset: i64, values: &Values) -> Result<Vec<Tensor>, OnnxError> {
    let inputs = node.input.iter().map(|name| values.get(name)).collect();
    let call = Call { node, graph, opset, inputs };
    type Family = fn(&Call<'_>) -> Result<Option<Tensor>, OnnxError>;
    let families: [Family; 5] = [elementwise::visit, functions::visit, layout::visit, linear::visit, reduction::visit];
    for family in families {
        if let Some(result) = family(&call)? {
            return Ok(vec![result]);
        }
    }
    for family in [normalisation::visit, sliding::visit] {
        if let Some(results) = family(&call)? {
            return Ok(results);
        }
    }
    Err(call.fail("the operator is not implemented"))
}

//! A plain float64 interpreter of ONNX graphs: naive loops, one thread, for checks only.
//!
//! It shares no code with ONNX Runtime, so that agreement of the two means something, and its float64 forward pass
//! is what central differences are taken of (ONNX Runtime's CPU provider has no float64 convolution).

mod elementwise;
mod layout;
mod sliding;
mod tensor;

use std::collections::HashMap;

pub use tensor::Tensor;

use super::file::OnnxError;
use super::proto::{ModelProto, NodeProto, TensorProto};

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
        let results = visit(node, &values)?;
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

fn visit(node: &NodeProto, values: &Values) -> Result<Vec<Tensor>, OnnxError> {
    let inputs = node.input.iter().map(|name| values.get(name)).collect();
    let call = Call { node, inputs };
    if let Some(result) = elementwise::visit(&call)? {
        return Ok(vec![result]);
    }
    if let Some(result) = layout::visit(&call)? {
        return Ok(vec![result]);
    }
    if let Some(results) = sliding::visit(&call)? {
        return Ok(results);
    }
    Err(call.fail("the operator is not implemented"))
}

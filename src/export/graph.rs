//! The ONNX interpreter of a [`Network`]: one branch of it as a graph.

use crate::digest::Digest;
use crate::network::weights::{Tensor, Weights};
use crate::network::{Network, NetworkError, Node, NodeId, Op, branch_parameter};
use crate::onnx::graph::{FLOAT, l2_normalize, normalize_pixels};
use crate::onnx::proto::{AttributeProto, ModelProto};
use crate::onnx::{Dim, GraphBuilder};
use crate::suite::attack::Branch;

use super::fold::{Norm, fold};

/// Where a model comes from; written into the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportNotes {
    /// Of the recipe and everything else that made the weights.
    pub recipe: Digest,
    /// The seed it was trained with.
    pub seed: u64,
}

/// Why a model cannot be written as ONNX.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A branch that the network does not have.
    #[error("the network has no branch `{branch}`, only main and {auxiliary_branches} auxiliary ones")]
    Branch {
        /// What was asked for.
        branch: Branch,
        /// How many there are beside main.
        auxiliary_branches: u8,
    },
    /// A tensor that the weights lack, or of another shape.
    #[error("weights: `{name}` has shape {got:?}, wanted {wanted:?}; they belong to another network")]
    Tensor {
        /// The tensor.
        name: String,
        /// Its shape, if it is there.
        got: Option<Vec<usize>>,
        /// The network's.
        wanted: Vec<usize>,
    },
    /// A number that is not finite.
    #[error("weights: `{0}` holds NaN or infinity; the training has diverged, lower its learning rate")]
    NotFinite(String),
    /// An image size that the network cannot take.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Name of a branch's file: `model.onnx` for main, `model.aux1.onnx` for the first auxiliary.
pub fn file_name(branch: Branch) -> String {
    match branch {
        Branch::Main => "model.onnx".into(),
        Branch::Aux(n) => format!("model.aux{n}.onnx"),
    }
}

/// Name of the input of an exported model.
pub const PIXELS: &str = "pixels";
/// Name of the output of an exported model.
pub const EMBEDDING: &str = "embedding";

/// One branch of a network as an ONNX model; the same bytes for the same arguments.
///
/// Input `pixels` `[N, 3, image_size, image_size]` in `[0, 1]`, output `embedding` `[N, d]` with rows of unit length; `N`
/// is free. A batch norm behind a convolution is folded into it ([`fold`]); any other stays a node.
///
/// # Errors
/// [`ExportError`] for a branch that does not exist, weights that do not fit or are not finite, or too small an image.
pub fn export_branch(
    network: &Network,
    weights: &Weights,
    branch: Branch,
    image_size: usize,
    notes: &ExportNotes,
) -> Result<ModelProto, ExportError> {
    if !network.branches().contains(&branch) {
        return Err(ExportError::Branch { branch, auxiliary_branches: network.auxiliary_branches });
    }
    network.output_shapes(image_size, image_size)?;
    check(network, weights, branch)?;
    let mut writer = Writer { network, weights, branch, graph: GraphBuilder::new("mdprop") };
    let pixels: [Dim; 4] = ["N".into(), 3.into(), image_size.into(), image_size.into()];
    let pixels = writer.graph.input(PIXELS, FLOAT, &pixels);
    // The output's name is kept free for the last node: a ResNet's head has the same.
    let mut values: Vec<String> = Vec::with_capacity(network.nodes.len());
    for (i, node) in network.nodes.iter().enumerate() {
        let inputs: Vec<&str> = node.inputs.iter().map(|&from| values[from].as_str()).collect();
        let value = match node.op {
            Op::Input => normalize_pixels(&mut writer.graph, &pixels, &network.mean, &network.std),
            _ => writer.node(i, node, &inputs),
        };
        values.push(value);
    }
    let mut graph = writer.graph;
    let last = values.pop().unwrap_or_default();
    graph.output(&last, FLOAT, &["N".into(), network.embedding_dim.into()]);
    let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
    graph.metadata("mdprop.input_range", "0-1");
    graph.metadata("mdprop.embedding_dim", &network.embedding_dim.to_string());
    graph.metadata("mdprop.mean", &list(&network.mean));
    graph.metadata("mdprop.std", &list(&network.std));
    graph.metadata("mdprop.recipe", notes.recipe.as_str());
    graph.metadata("mdprop.seed", &notes.seed.to_string());
    graph.metadata("mdprop.branch", &branch.to_string());
    Ok(graph.finish())
}

/// Whether every tensor of the branch is there, fits and is finite.
fn check(network: &Network, weights: &Weights, branch: Branch) -> Result<(), ExportError> {
    for spec in network.parameters().into_iter().filter(|s| s.branch.is_none_or(|b| b == branch)) {
        let tensor = weights.tensors.get(&spec.name);
        match tensor {
            Some(t) if t.shape == spec.shape && t.data.len() == spec.count() => {
                if t.data.iter().any(|v| !v.is_finite()) {
                    return Err(ExportError::NotFinite(spec.name));
                }
            }
            _ => {
                let got = tensor.map(|t| t.shape.clone());
                return Err(ExportError::Tensor { name: spec.name, got, wanted: spec.shape });
            }
        }
    }
    Ok(())
}

struct Writer<'a> {
    network: &'a Network,
    weights: &'a Weights,
    branch: Branch,
    graph: GraphBuilder,
}

impl Writer<'_> {
    /// Writes one node; returns the name of its value.
    fn node(&mut self, i: NodeId, node: &Node, inputs: &[&str]) -> String {
        let name = if node.name == EMBEDDING { format!("{}.linear", node.name) } else { node.name.clone() };
        let window = |kernel: usize, stride: usize, padding: usize| {
            let (kernel, stride, padding) = (kernel as i64, stride as i64, padding as i64);
            vec![
                AttributeProto::ints("kernel_shape", &[kernel; 2]),
                AttributeProto::ints("pads", &[padding; 4]),
                AttributeProto::ints("strides", &[stride; 2]),
            ]
        };
        match node.op {
            Op::Conv { kernel, stride, padding, bias, .. } => {
                let weight = self.tensor(node, "weight");
                let bias = bias.then(|| self.tensor(node, "bias").data.as_slice());
                let (data, bias) = match self.only_user(i) {
                    Some((norm, epsilon)) => fold(&weight.data, bias, self.norm(norm, epsilon)),
                    None => (weight.data.clone(), bias.map_or_else(|| vec![0.0; weight.shape[0]], <[f32]>::to_vec)),
                };
                let shape = weight.shape.clone();
                let weight = self.graph.constant(&format!("{name}.weight"), &shape, &data);
                let bias = self.graph.constant(&format!("{name}.bias"), &shape[..1], &bias);
                self.graph.named_node("Conv", &name, &[inputs[0], &weight, &bias], window(kernel, stride, padding))
            }
            Op::BatchNorm { epsilon, .. } => {
                let folded = node.inputs.first().is_some_and(|&from| self.only_user(from).is_some());
                if folded {
                    return inputs[0].to_string();
                }
                let mut operands = vec![inputs[0].to_string()];
                for entry in ["weight", "bias", "running_mean", "running_var"] {
                    let tensor = self.tensor(node, entry).clone();
                    operands.push(self.graph.constant(&format!("{name}.{entry}"), &tensor.shape, &tensor.data));
                }
                let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
                let epsilon = AttributeProto::float("epsilon", epsilon as f32);
                self.graph.named_node("BatchNormalization", &name, &operands, vec![epsilon])
            }
            Op::Relu => self.graph.named_node("Relu", &name, inputs, vec![]),
            Op::MaxPool { kernel, stride, padding } => {
                self.graph.named_node("MaxPool", &name, inputs, window(kernel, stride, padding))
            }
            Op::Add => self.graph.named_node("Add", &name, inputs, vec![]),
            Op::GlobalAveragePool => {
                let pooled = self.graph.named_node("GlobalAveragePool", &name, inputs, vec![]);
                let axis = AttributeProto::int("axis", 1);
                self.graph.named_node("Flatten", &format!("{name}.flat"), &[&pooled], vec![axis])
            }
            Op::Linear { .. } => {
                let (weight, bias) = (self.tensor(node, "weight").clone(), self.tensor(node, "bias").clone());
                let weight = self.graph.constant(&format!("{name}.weight"), &weight.shape, &weight.data);
                let bias = self.graph.constant(&format!("{name}.bias"), &bias.shape, &bias.data);
                let transposed = AttributeProto::int("transB", 1);
                self.graph.named_node("Gemm", &name, &[inputs[0], &weight, &bias], vec![transposed])
            }
            Op::Normalize => l2_normalize(&mut self.graph, inputs[0]),
            Op::Input => inputs.first().map(|s| s.to_string()).unwrap_or_default(),
        }
    }

    /// A tensor of this branch, or the one that all branches share. [`check`] has seen it.
    fn tensor(&self, node: &Node, entry: &str) -> &Tensor {
        let branch = if matches!(node.op, Op::BatchNorm { .. }) { self.branch } else { Branch::Main };
        &self.weights.tensors[&branch_parameter(&node.name, branch, entry)]
    }

    fn norm<'a>(&'a self, node: &Node, epsilon: f64) -> Norm<'a> {
        let [scale, shift, mean, var] = ["weight", "bias", "running_mean", "running_var"]
            .map(|entry| &self.weights.tensors[&branch_parameter(&node.name, self.branch, entry)].data);
        Norm { scale, shift, mean, var, epsilon }
    }

    /// The batch norm that alone reads convolution `id`, with its epsilon.
    fn only_user(&self, id: NodeId) -> Option<(&Node, f64)> {
        if !matches!(self.network.nodes[id].op, Op::Conv { .. }) {
            return None;
        }
        let mut users = self.network.nodes.iter().filter(|n| n.inputs.contains(&id));
        match (users.next(), users.next()) {
            (Some(node), None) => match node.op {
                Op::BatchNorm { epsilon, .. } => Some((node, epsilon)),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;

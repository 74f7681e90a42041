//! Shapes of all values, with the batch axis known by name only, and the integer lists that PyTorch's exporter computes
//! from shapes (`x.view(x.size(0), -1)` becomes `Shape`, `Gather`, `Concat`, `Reshape`).
//!
//! A value whose shape cannot be told has none; only a rule that needs it fails, naming the node.

mod elementwise;
mod linear;
mod normalisation;
mod reduction;

use std::collections::HashMap;

use super::access::Dim;
use super::file::OnnxError;
use super::proto::{GraphProto, NodeProto, TensorProto};
use super::window::Window;

/// What is known about the values of a graph before it runs.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    shapes: HashMap<String, Vec<Dim>>,
    lists: HashMap<String, Vec<Dim>>,
    constants: HashMap<String, TensorProto>,
}

impl Facts {
    /// Walks the graph once.
    ///
    /// # Errors
    /// [`OnnxError::Node`] for a node whose inputs contradict its operator.
    pub fn infer(graph: &GraphProto) -> Result<Self, OnnxError> {
        let mut facts = Self::default();
        for tensor in &graph.initializer {
            facts.constant_value(&tensor.name, tensor);
        }
        for value in graph.true_inputs() {
            if let Some(dims) = value.dims() {
                facts.shapes.insert(value.name.clone(), dims);
            }
        }
        for node in &graph.node {
            facts.visit(node)?;
        }
        Ok(facts)
    }

    /// The shape of a value, if known.
    pub fn shape(&self, value: &str) -> Option<&[Dim]> {
        self.shapes.get(value).map(Vec::as_slice)
    }

    /// The tensor behind a value that is constant.
    pub fn constant(&self, value: &str) -> Option<&TensorProto> {
        self.constants.get(value)
    }

    /// A constant list of integers (axes, for instance).
    pub fn integers(&self, value: &str) -> Option<Vec<i64>> {
        self.constants.get(value)?.to_i64()
    }

    fn constant_value(&mut self, name: &str, tensor: &TensorProto) {
        self.shapes.insert(name.into(), tensor.shape().into_iter().map(Dim::Fixed).collect());
        // Only lists: large integer tensors are no shapes.
        if tensor.dims.len() <= 1
            && tensor.shape().iter().product::<usize>() <= 16
            && let Some(list) = tensor.to_i64()
        {
            let dims = list.iter().map(|v| usize::try_from(*v).map_or(Dim::Symbol(v.to_string()), Dim::Fixed));
            self.lists.insert(name.into(), dims.collect());
        }
        // The bytes are shared, so this clone is cheap.
        self.constants.insert(name.into(), tensor.clone());
    }

    fn visit(&mut self, node: &NodeProto) -> Result<(), OnnxError> {
        let Some(output) = node.output.first() else { return Ok(()) };
        if let Some(list) = self.list_result(node) {
            self.lists.insert(output.clone(), list);
        }
        match node.op_type.as_str() {
            "Constant" => {
                if let Some(tensor) = node.attribute("value").and_then(|a| a.t.as_ref()) {
                    self.constant_value(output, tensor);
                } else if let Some(a) = node.attribute("value_float") {
                    self.constant_value(output, &TensorProto::from_f32("", &[], &[a.f.unwrap_or(0.0)]));
                } else if let Some(a) = node.attribute("value_int") {
                    self.constant_value(output, &TensorProto::from_i64("", &[], &[a.i.unwrap_or(0)]));
                } else if let Some(a) = node.attribute("value_ints") {
                    self.constant_value(output, &TensorProto::from_i64("", &[a.ints.len()], &a.ints));
                }
                return Ok(());
            }
            "Identity" => {
                if let Some(tensor) = node.input_name(0).and_then(|i| self.constants.get(i)).cloned() {
                    self.constant_value(output, &tensor);
                    return Ok(());
                }
            }
            _ => {}
        }
        if let Some(shape) = self.result_shape(node)? {
            self.shapes.insert(output.clone(), shape);
        }
        Ok(())
    }

    fn list_result(&self, node: &NodeProto) -> Option<Vec<Dim>> {
        let list = |i: usize| self.lists.get(node.input_name(i)?);
        match node.op_type.as_str() {
            "Shape" => Some(self.shapes.get(node.input_name(0)?)?.clone()),
            "Gather" => {
                let (from, indices) = (list(0)?, self.integers(node.input_name(1)?)?);
                let pick = |i: &i64| from.get(usize::try_from(if *i < 0 { i + from.len() as i64 } else { *i }).ok()?);
                indices.iter().map(|i| pick(i).cloned()).collect()
            }
            "Concat" => (0..node.input.len())
                .map(list)
                .collect::<Option<Vec<_>>>()
                .map(|parts| parts.into_iter().flatten().cloned().collect()),
            "Unsqueeze" | "Squeeze" | "Cast" | "Identity" => list(0).cloned(),
            _ => None,
        }
    }

    fn result_shape(&self, node: &NodeProto) -> Result<Option<Vec<Dim>>, OnnxError> {
        let inputs = Inputs { facts: self, node };
        for family in [elementwise::shape, linear::shape, normalisation::shape, reduction::shape] {
            if let Some(shape) = family(&inputs)? {
                return Ok(Some(shape));
            }
        }
        let shape = |i: usize| node.input_name(i).and_then(|name| self.shape(name));
        let fail = |reason: String| OnnxError::Node { node: node.label().into(), op: node.op_type.clone(), reason };
        let Some(first) = shape(0) else { return Ok(None) };
        let wrap = |axis: i64, rank: usize| {
            let wrapped = if axis < 0 { axis + rank as i64 } else { axis };
            usize::try_from(wrapped)
                .ok()
                .filter(|a| *a < rank)
                .ok_or_else(|| fail(format!("axis {axis} of a value with {rank} axes")))
        };
        Ok(match node.op_type.as_str() {
            "Conv" => {
                let Some([out, _, kernel @ ..]) = shape(1) else { return Ok(None) };
                let (out, kernel) = (out.clone(), fixed(kernel));
                self.windowed(node, first, out, kernel)?
            }
            "MaxPool" | "AveragePool" => {
                let kernel = node.ints("kernel_shape").map(|k| k.iter().map(|v| *v as usize).collect());
                let channels = first.get(1).cloned().ok_or_else(|| fail("wanted [n, c, ...]".into()))?;
                self.windowed(node, first, channels, kernel)?
            }
            "GlobalAveragePool" | "GlobalMaxPool" => {
                let pooled = |(axis, d): (usize, &Dim)| if axis < 2 { d.clone() } else { Dim::Fixed(1) };
                Some(first.iter().enumerate().map(pooled).collect())
            }
            "Flatten" => {
                let axis = node.int("axis", 1);
                let axis = if axis == first.len() as i64 { first.len() } else { wrap(axis, first.len())? };
                Some(vec![product(&first[..axis]), product(&first[axis..])])
            }
            "Reshape" => {
                let list = node.input_name(1).and_then(|name| self.lists.get(name));
                list.and_then(|list| reshape(first, list, node.int("allowzero", 0) != 0))
            }
            "Transpose" => {
                let reversed: Vec<i64> = (0..first.len() as i64).rev().collect();
                let order = node.ints("perm").unwrap_or(&reversed);
                Some(order.iter().map(|a| wrap(*a, first.len()).map(|a| first[a].clone())).collect::<Result<_, _>>()?)
            }
            "Unsqueeze" => {
                let Some(axes) = node.input_name(1).and_then(|name| self.integers(name)) else { return Ok(None) };
                let rank = first.len() + axes.len();
                let axes: Vec<usize> = axes.iter().map(|a| wrap(*a, rank)).collect::<Result<_, _>>()?;
                let mut rest = first.iter().cloned();
                (0..rank).map(|a| if axes.contains(&a) { Some(Dim::Fixed(1)) } else { rest.next() }).collect()
            }
            "Squeeze" => {
                let axes = match node.input_name(1) {
                    Some(name) => self.integers(name),
                    None => Some((0..first.len() as i64).filter(|a| first[*a as usize] == Dim::Fixed(1)).collect()),
                };
                let Some(axes) = axes else { return Ok(None) };
                let axes: Vec<usize> = axes.iter().map(|a| wrap(*a, first.len())).collect::<Result<_, _>>()?;
                Some(first.iter().enumerate().filter(|(a, _)| !axes.contains(a)).map(|(_, d)| d.clone()).collect())
            }
            "Concat" => {
                let axis = wrap(node.int("axis", 0), first.len())?;
                let mut result = first.to_vec();
                for i in 1..node.input.len() {
                    let Some(other) = shape(i) else { return Ok(None) };
                    let sum = result[axis].fixed().zip(other.get(axis).and_then(Dim::fixed)).map(|(a, b)| a + b);
                    let Some(sum) = sum else { return Ok(None) };
                    result[axis] = Dim::Fixed(sum);
                }
                Some(result)
            }
            "Shape" => Some(vec![Dim::Fixed(first.len())]),
            _ => None,
        })
    }

    /// The axes of a reduction, all of them if none are given (none of them with `noop_with_empty_axes`); absent if
    /// they are not constant.
    pub fn axes(&self, node: &NodeProto, rank: usize) -> Option<Vec<usize>> {
        let axes = match node.input_name(1) {
            Some(name) => self.integers(name)?,
            None => node.ints("axes").unwrap_or_default().to_vec(),
        };
        let all = axes.is_empty() && node.int("noop_with_empty_axes", 0) == 0;
        let axes = if all { (0..rank as i64).collect() } else { axes };
        axes.iter().map(|a| usize::try_from(if *a < 0 { a + rank as i64 } else { *a }).ok()).collect()
    }

    fn windowed(
        &self,
        node: &NodeProto,
        input: &[Dim],
        channels: Dim,
        kernel: Option<Vec<usize>>,
    ) -> Result<Option<Vec<Dim>>, OnnxError> {
        let ([batch, _, spatial @ ..], Some(kernel)) = (input, kernel) else { return Ok(None) };
        let Some(spatial) = fixed(spatial) else { return Ok(None) };
        let window = Window::of(node, &spatial, &kernel)?;
        Ok(Some([batch.clone(), channels].into_iter().chain(window.output.into_iter().map(Dim::Fixed)).collect()))
    }
}

/// A node and what is known of its inputs, as the shape rules of a family see it.
struct Inputs<'a> {
    facts: &'a Facts,
    node: &'a NodeProto,
}

impl<'a> Inputs<'a> {
    /// Shape of input `i`; absent if the input is or its shape cannot be told.
    fn shape(&self, i: usize) -> Option<&'a [Dim]> {
        self.node.input_name(i).and_then(|name| self.facts.shape(name))
    }

    fn fail(&self, reason: impl Into<String>) -> OnnxError {
        OnnxError::Node { node: self.node.label().into(), op: self.node.op_type.clone(), reason: reason.into() }
    }

    /// An axis of a value with `rank` axes, counted from the front.
    fn axis(&self, axis: i64, rank: usize) -> Result<usize, OnnxError> {
        let wrapped = if axis < 0 { axis + rank as i64 } else { axis };
        let inside = usize::try_from(wrapped).ok().filter(|a| *a < rank);
        inside.ok_or_else(|| self.fail(format!("axis {axis} of a value with {rank} axes")))
    }
}

/// All axes as numbers, if they are.
pub fn fixed(dims: &[Dim]) -> Option<Vec<usize>> {
    dims.iter().map(Dim::fixed).collect()
}

/// A shape for messages: `[n, 3, 8, 8]`.
pub fn show(dims: &[Dim]) -> String {
    let text: Vec<String> = dims.iter().map(Dim::to_string).collect();
    format!("[{}]", text.join(", "))
}

fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let at = |s: &[Dim], axis: usize| (axis + s.len()).checked_sub(rank).map_or(Dim::Fixed(1), |i| s[i].clone());
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (Dim::Fixed(1), d) | (d, Dim::Fixed(1)) => Some(d),
            (a, b) if a == b => Some(a),
            // A symbol against a number: the number is what the run will have to show.
            (Dim::Symbol(_), Dim::Fixed(n)) | (Dim::Fixed(n), Dim::Symbol(_)) => Some(Dim::Fixed(n)),
            (Dim::Symbol(a), Dim::Symbol(_)) => Some(Dim::Symbol(a)),
            _ => None,
        })
        .collect()
}

fn product(dims: &[Dim]) -> Dim {
    match (fixed(dims), dims) {
        (Some(sizes), _) => Dim::Fixed(sizes.iter().product()),
        (None, [single]) => single.clone(),
        (None, many) => {
            // A symbol times ones is that symbol.
            let rest: Vec<&Dim> = many.iter().filter(|d| **d != Dim::Fixed(1)).collect();
            if let [single] = rest[..] { single.clone() } else { Dim::Symbol(show(many)) }
        }
    }
}

/// `-1` arrives as the symbol `"-1"`, see [`Facts::constant_value`].
fn reshape(from: &[Dim], list: &[Dim], allow_zero: bool) -> Option<Vec<Dim>> {
    let mut result: Vec<Dim> = list.to_vec();
    for (axis, dim) in result.iter_mut().enumerate() {
        if *dim == Dim::Fixed(0) && !allow_zero {
            *dim = from.get(axis)?.clone();
        }
    }
    let Some(hole) = result.iter().position(|d| *d == Dim::Symbol("-1".into())) else { return Some(result) };
    let mut left: Vec<Dim> = from.to_vec();
    let mut divisor = 1;
    for (axis, dim) in result.iter().enumerate() {
        match dim {
            _ if axis == hole => {}
            Dim::Fixed(n) => divisor *= n,
            symbol => {
                let at = left.iter().position(|d| d == symbol)?;
                left.remove(at);
            }
        }
    }
    let symbols: Vec<Dim> = left.iter().filter(|d| d.fixed().is_none()).cloned().collect();
    let numbers: usize = left.iter().filter_map(Dim::fixed).product();
    result[hole] = match &symbols[..] {
        [] if divisor > 0 && numbers.is_multiple_of(divisor) => Dim::Fixed(numbers / divisor),
        [symbol] if numbers == divisor => symbol.clone(),
        _ => return None,
    };
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::fixtures::{Net, little_resnet, uniform};
    use crate::onnx::interpret::{self, Tensor};

    #[test]
    fn every_shape_is_the_one_that_a_run_has() {
        let model = little_resnet(13, 11);
        let facts = Facts::infer(model.graph.as_ref().unwrap()).unwrap();
        let x = Tensor::from_f32(&[2, 3, 13, 11], &uniform(1, 858, 0.0, 1.0));
        for (name, value) in interpret::run(&model, &[("image", x)]).unwrap() {
            let told = facts.shape(&name).unwrap_or_else(|| panic!("no shape for {name}"));
            let told: Vec<usize> = told.iter().map(|d| d.fixed().unwrap_or(2)).collect();
            assert_eq!(told, value.shape, "{name}");
        }
    }

    #[test]
    fn reshape_follows_the_batch_symbol() {
        let dims = |list: &[i64]| -> Vec<Dim> {
            list.iter().map(|v| usize::try_from(*v).map_or(Dim::Symbol(v.to_string()), Dim::Fixed)).collect()
        };
        let from = [Dim::from("n"), Dim::Fixed(8), Dim::Fixed(1), Dim::Fixed(1)];
        assert_eq!(reshape(&from, &dims(&[0, -1]), false).unwrap(), [Dim::from("n"), Dim::Fixed(8)]);
        assert_eq!(reshape(&from, &dims(&[-1, 8]), false).unwrap(), [Dim::from("n"), Dim::Fixed(8)]);
        assert_eq!(reshape(&from, &dims(&[-1, 3]), false), None);
    }

    #[test]
    fn shapes_that_do_not_broadcast_name_the_node() {
        let mut net = Net::new([2, 4, 3]);
        let w = net.weight(&[5], 0.0, 1.0);
        net.op("Add", &["image", &w]);
        let error = Facts::infer(&net.b.graph().clone()).unwrap_err().to_string();
        assert_eq!(error, "node `add/Add` (Add): shapes [n, 2, 4, 3] and [5] do not broadcast");
    }
}

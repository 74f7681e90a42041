//! Shapes of all values, with the batch axis known by name only, the integer lists that exporters compute from shapes
//! (`x.view(x.size(0), -1)` becomes `Shape`, `Gather`, `Concat`, `Reshape`), and the values of all constant parts.
//!
//! A value whose shape cannot be told has none; only a rule that needs it fails, naming the node. Sizes are checked: a
//! file cannot make this code, or the rules that believe it, allocate more than [`LARGEST`] entries at once.

mod attention;
mod elementwise;
mod evaluate;
pub(crate) mod layout;
mod linear;
mod lists;
mod normalisation;
mod reduction;
pub(crate) mod spatial;
mod symbol;

use std::collections::HashMap;

use self::lists::Entry;
use super::access::Dim;
use super::element;
use super::file::OnnxError;
use super::proto::{GraphProto, NodeProto, TensorProto, data_type};

/// Most entries that a value of fixed shape may have. The largest activation of an encoder is a thousandth of it.
pub const LARGEST: usize = 1 << 31;

/// Most axes that a value may have. Encoders have six.
const MOST_AXES: usize = 64;

/// What is known about the values of a graph before it runs.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    shapes: HashMap<String, Vec<Dim>>,
    types: HashMap<String, i32>,
    lists: HashMap<String, Vec<Entry>>,
    constants: HashMap<String, TensorProto>,
    /// Spent on evaluating constant parts so far.
    work: evaluate::Work,
}

/// Shapes of a node's outputs, in order; those behind the end are unknown. Absent if the operator is of another family.
type Shapes = Option<Vec<Vec<Dim>>>;

impl Facts {
    /// Walks the graph once.
    ///
    /// # Errors
    /// [`OnnxError::Node`] for a node whose inputs contradict its operator.
    pub fn infer(graph: &GraphProto) -> Result<Self, OnnxError> {
        let mut facts = Self::default();
        for tensor in &graph.initializer {
            facts.constant_value(&tensor.name, tensor)?;
        }
        for value in graph.true_inputs() {
            if let Some(dims) = value.dims() {
                check_size(&dims).map_err(|reason| OnnxError::Graph(format!("input `{}`: {reason}", value.name)))?;
                facts.shapes.insert(value.name.clone(), dims);
            }
            if let Some(elem_type) = value.elem_type() {
                facts.types.insert(value.name.clone(), elem_type);
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

    /// The element type of a value, if known.
    pub fn elem_type(&self, value: &str) -> Option<i32> {
        self.types.get(value).copied()
    }

    /// The tensor behind a value that is constant, given as such or computed from constants.
    pub fn constant(&self, value: &str) -> Option<&TensorProto> {
        self.constants.get(value)
    }

    /// A constant list of integers (axes, for instance).
    pub fn integers(&self, value: &str) -> Option<Vec<i64>> {
        self.constants.get(value)?.to_i64()
    }

    /// A node together with what is known of its inputs.
    pub(crate) fn inputs<'a>(&'a self, node: &'a NodeProto) -> Inputs<'a> {
        Inputs { facts: self, node }
    }

    fn constant_value(&mut self, name: &str, tensor: &TensorProto) -> Result<(), OnnxError> {
        if let Some(negative) = tensor.dims.iter().find(|d| **d < 0) {
            return Err(OnnxError::Graph(format!("constant `{name}` has the size {negative} on one axis")));
        }
        let shape: Vec<Dim> = tensor.shape().into_iter().map(Dim::Fixed).collect();
        check_size(&shape).map_err(|reason| OnnxError::Graph(format!("constant `{name}`: {reason}")))?;
        self.shapes.insert(name.into(), shape);
        self.types.insert(name.into(), tensor.data_type);
        // The bytes are shared, so this clone is cheap.
        self.constants.insert(name.into(), tensor.clone());
        Ok(())
    }

    fn visit(&mut self, node: &NodeProto) -> Result<(), OnnxError> {
        let types: Vec<i32> = node.input.iter().map(|i| self.types.get(i).copied().unwrap_or(0)).collect();
        let types = element::results(node, &types);
        let known = node.output.iter().zip(types).filter(|(name, elem_type)| !name.is_empty() && *elem_type != 0);
        self.types.extend(known.map(|(name, elem_type)| (name.clone(), elem_type)));
        if node.op_type == "Constant" && node.is_onnx() {
            return match (node.output.first(), evaluate::constant(node)) {
                (Some(output), Some(tensor)) => self.constant_value(output, &tensor),
                _ => Ok(()),
            };
        }
        let shapes = self.result_shapes(node)?;
        for (name, shape) in node.output.iter().zip(&shapes).filter(|(name, _)| !name.is_empty()) {
            check_size(shape).map_err(|reason| self.inputs(node).fail(reason))?;
            self.shapes.insert(name.clone(), shape.clone());
        }
        if !node.is_onnx() {
            return Ok(());
        }
        if let Some(results) = evaluate::results(self, node, &shapes) {
            for (name, tensor) in results {
                self.constant_value(&name, &tensor)?;
            }
            return Ok(());
        }
        let inputs = self.inputs(node);
        if let (Some(list), Some(output)) = (lists::result(&inputs), node.output.first()) {
            match list.iter().map(Entry::known).collect::<Option<Vec<i64>>>() {
                Some(numbers) => {
                    if let Some(tensor) = evaluate::list(&numbers, shapes.first(), inputs.output_type()) {
                        self.constant_value(output, &tensor)?;
                    }
                }
                None => {
                    self.lists.insert(output.clone(), list);
                }
            }
        }
        Ok(())
    }

    fn result_shapes(&self, node: &NodeProto) -> Result<Vec<Vec<Dim>>, OnnxError> {
        let inputs = self.inputs(node);
        // ONNX Runtime's own convolution has the shapes of ONNX's.
        if node.is_onnx() || node.op_type == "FusedConv" {
            for family in [layout::shapes, spatial::shapes] {
                if let Some(shapes) = family(&inputs)? {
                    return Ok(shapes);
                }
            }
        }
        if let Some(shapes) = normalisation::shapes(&inputs)? {
            return Ok(shapes);
        }
        for family in [attention::shape, elementwise::shape, linear::shape, reduction::shape] {
            if let Some(shape) = family(&inputs)? {
                return Ok(vec![shape]);
            }
        }
        Ok(vec![])
    }

    /// The axes of a reduction, all of them if none are given; absent if they are not constant.
    pub fn axes(&self, node: &NodeProto, rank: usize) -> Option<Vec<usize>> {
        let axes = match node.input_name(1) {
            Some(name) => self.integers(name)?,
            None => node.ints("axes").unwrap_or_default().to_vec(),
        };
        let all = axes.is_empty() && node.int("noop_with_empty_axes", 0) == 0;
        let axes = if all { (0..rank as i64).collect() } else { axes };
        axes.iter().map(|a| usize::try_from(if *a < 0 { a + rank as i64 } else { *a }).ok()).collect()
    }
}

/// A node and what is known of its inputs.
pub(crate) struct Inputs<'a> {
    facts: &'a Facts,
    node: &'a NodeProto,
}

impl<'a> Inputs<'a> {
    /// Shape of input `i`; absent if the input is or its shape cannot be told.
    pub(crate) fn shape(&self, i: usize) -> Option<&'a [Dim]> {
        self.node.input_name(i).and_then(|name| self.facts.shape(name))
    }

    /// Input `i`, if it is constant.
    pub(crate) fn constant(&self, i: usize) -> Option<&'a TensorProto> {
        self.facts.constant(self.node.input_name(i)?)
    }

    /// Input `i`, if it is a constant tensor of integers; row-major.
    pub(crate) fn integers(&self, i: usize) -> Option<Vec<i64>> {
        self.constant(i)?.to_i64()
    }

    /// Input `i`, if it is a short list whose entries are numbers or sizes known by name.
    fn list(&self, i: usize) -> Option<Vec<Entry>> {
        let name = self.node.input_name(i)?;
        if let Some(list) = self.facts.lists.get(name) {
            return Some(list.clone());
        }
        let tensor = self.facts.constant(name)?;
        let short = element_count(&tensor.shape()).is_some_and(|n| n <= lists::LONGEST);
        let numbers = if short { tensor.to_i64()? } else { return None };
        Some(numbers.into_iter().map(Entry::Known).collect())
    }

    /// Input `i` as sizes; absent if one of them cannot be told or is negative.
    pub(crate) fn sizes(&self, i: usize) -> Option<Vec<Dim>> {
        self.list(i)?.iter().map(Entry::dim).collect()
    }

    /// Element type of the node's first output; 0 if it cannot be told.
    fn output_type(&self) -> i32 {
        self.node.output.first().and_then(|o| self.facts.elem_type(o)).unwrap_or(data_type::UNDEFINED)
    }

    /// An error about the node.
    pub(crate) fn fail(&self, reason: impl Into<String>) -> OnnxError {
        OnnxError::Node { node: self.node.label().into(), op: self.node.op_type.clone(), reason: reason.into() }
    }

    /// An axis of a value with `rank` axes, counted from the front.
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Result<usize, OnnxError> {
        let wrapped = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        let inside = usize::try_from(wrapped).ok().filter(|a| *a < rank);
        inside.ok_or_else(|| self.fail(format!("axis {axis} of a value with {rank} axes")))
    }

    /// Several axes, all different.
    pub(crate) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, OnnxError> {
        if axes.len() > MOST_AXES {
            return Err(self.fail(format!("names {} axes, wanted at most {MOST_AXES}", axes.len())));
        }
        let mut result: Vec<usize> = vec![];
        for axis in axes {
            let wrapped = self.axis(*axis, rank)?;
            if result.contains(&wrapped) {
                return Err(self.fail(format!("axis {axis} is named twice in {axes:?}")));
            }
            result.push(wrapped);
        }
        Ok(result)
    }
}

/// Number of entries of a shape; absent if it overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    // An empty axis makes the whole value empty, whatever the others are.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))
}

/// Refuses fixed shapes of more than [`LARGEST`] entries or [`MOST_AXES`] axes.
fn check_size(shape: &[Dim]) -> Result<(), String> {
    if shape.len() > MOST_AXES {
        return Err(format!("a value has {} axes, wanted at most {MOST_AXES}", shape.len()));
    }
    let fixed: Vec<usize> = shape.iter().filter_map(Dim::fixed).collect();
    match element_count(&fixed) {
        Some(count) if count <= LARGEST => Ok(()),
        _ => Err(format!("shape {} is more than the {LARGEST} entries that are allowed", show(shape))),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::fixtures::{Net, little_resnet, uniform};
    use crate::onnx::interpret::{self, Tensor};
    use crate::onnx::proto::AttributeProto;

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
        let dims = |list: &[i64]| -> Vec<Entry> { list.iter().map(|v| Entry::Known(*v)).collect() };
        let reshape = layout::reshaped;
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

    /// The error of a graph with one node, given integer lists as inputs.
    fn refusal(op: &str, lists: &[&[i64]], attributes: Vec<AttributeProto>) -> String {
        let mut net = Net::new([2, 4, 3]);
        let mut inputs = vec!["image".to_string()];
        inputs.extend(lists.iter().map(|list| net.b.list(list)));
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).skip(usize::from(op == "ConstantOfShape")).collect();
        net.b.node(op, &inputs, attributes);
        Facts::infer(net.b.graph()).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn sizes_beyond_all_memory_are_refused_and_never_allocated() {
        let allowed = "more than the 2147483648 entries";
        assert!(refusal("ConstantOfShape", &[&[1 << 20, 1 << 20]], vec![]).contains(allowed));
        assert!(refusal("Expand", &[&[1 << 40, 1, 4, 3]], vec![]).contains(allowed));
        assert!(refusal("Tile", &[&[1, 1 << 60, 1 << 60, 1]], vec![]).contains(allowed));
        assert!(refusal("Pad", &[&[0, 0, 1 << 30, 0, 0, 0, 0, 0]], vec![]).contains(allowed));
        assert!(refusal("Pad", &[&[0, 0, i64::MAX, 0, 0, 0, i64::MAX, 0]], vec![]).contains("a pad of"));
        let pads = AttributeProto::ints("pads", &[i64::MAX, 0, i64::MAX, 0]);
        let kernel = AttributeProto::ints("kernel_shape", &[1, 1]);
        refusal("MaxPool", &[], vec![pads, kernel.clone()]);
        let dilations = AttributeProto::ints("dilations", &[i64::MAX, 1]);
        refusal("MaxPool", &[], vec![AttributeProto::ints("kernel_shape", &[i64::MAX, 2]), dilations]);
        refusal("MaxPool", &[], vec![kernel, AttributeProto::ints("strides", &[0, 1])]);
        refusal("DepthToSpace", &[], vec![AttributeProto::int("blocksize", i64::MAX)]);
    }

    #[test]
    fn wrong_lists_name_the_node_and_what_is_wrong() {
        assert!(refusal("Transpose", &[], vec![AttributeProto::ints("perm", &[0, 1, 1, 2])]).contains("named twice"));
        assert!(refusal("Transpose", &[], vec![AttributeProto::ints("perm", &[0, 9, 1, 2])]).contains("axis 9"));
        assert!(refusal("Slice", &[&[0], &[1], &[1], &[0]], vec![]).contains("a step is 0"));
        assert!(refusal("Slice", &[&[0], &[1, 2]], vec![]).contains("different lengths"));
        assert!(refusal("Split", &[&[1, 2]], vec![AttributeProto::int("axis", 1)]).contains("do not make up axis 1"));
        assert!(refusal("Squeeze", &[&[2]], vec![]).contains("has not the size 1"));
        assert!(refusal("Reshape", &[&[-1, -1]], vec![]).contains("two sizes are left open"));
        assert!(refusal("Gather", &[&[0]], vec![AttributeProto::int("axis", 7)]).contains("axis 7"));
    }

    #[test]
    fn a_symbolic_batch_survives_windows() {
        let windows = [Dim::from("n"), Dim::Fixed(64), Dim::Fixed(49), Dim::Fixed(8)];
        let list = |list: &[i64]| -> Vec<Entry> { list.iter().map(|v| Entry::Known(*v)).collect() };
        let merged = layout::reshaped(&windows, &list(&[-1, 49, 8]), false).unwrap();
        assert_eq!(merged[0], Dim::from("64*n"));
        assert_eq!(layout::reshaped(&merged, &list(&[-1, 8, 8, 49, 8]), false).unwrap()[0], Dim::from("n"));
    }
}

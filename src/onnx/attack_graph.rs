//! From a model to one graph that evaluates the loss, its gradient and the next iterate of an attack.
//!
//! `(x, lower, upper, step_size, targets, weights, …) → (x_next, embedding, loss, gradient_l1, nonzero_share)`.
//! Losses are per sample, so that the result of one image does not depend on its batch.

use super::access::Dim;
use super::differentiate;
use super::file::OnnxError;
use super::graph::{FLOAT, GraphBuilder};
use super::loss_head::{self, LossHead};
use super::proto::{AttributeProto, ModelProto, data_type};
use super::shape::{Facts, fixed, show};
use super::{compact, inline, opset, promote, validate, wrap};

/// What the caller decides.
#[derive(Debug, Clone)]
pub struct AttackGraphOptions {
    /// Form of the loss.
    pub head: LossHead,
    /// Fixed batch size; symbolic as in the model if absent.
    pub batch_size: Option<usize>,
    /// Targets per sample, T; symbolic if absent.
    pub targets_per_sample: Option<usize>,
    /// Whether the gradient itself is an output too (for tests and checks).
    pub gradient_output: bool,
    /// Whether operators whose gradient is zero almost everywhere (rounding, quantisation) get a straight-through
    /// estimate; otherwise they are an error. See [`AttackGraph::straight_through`].
    pub straight_through: bool,
}

/// The emitted graph and the names of its inputs and outputs.
#[derive(Debug, Clone)]
pub struct AttackGraph {
    /// The graph.
    pub model: ModelProto,
    /// Current iterate, `[n, c, h, w]`.
    pub x: String,
    /// Lower bound of every pixel, `[n, c, h, w]`.
    pub lower: String,
    /// Upper bound of every pixel, `[n, c, h, w]`.
    pub upper: String,
    /// Step per sample and channel, `[n, c, 1, 1]`.
    pub step_size: String,
    /// Target embeddings, `[n, T, d]`; empty if the head has none.
    pub targets: String,
    /// Weight of each target, `[n, T]`; empty if the head has none.
    pub weights: String,
    /// Numbers of each sample, if the head has any: see [`LossHead::table_columns`].
    pub table: Option<String>,
    /// The gallery, if the head has one: `[N, d]`, and its marks, `[4, N]`.
    pub gallery: Option<[String; 2]>,
    /// Output: `clip(x − step · sign(gradient), lower, upper)`.
    pub x_next: String,
    /// Output: the embedding of `x`, `[n, d]`.
    pub embedding: String,
    /// Output: the loss at `x`, `[n]`.
    pub loss: String,
    /// Output: sum of the absolute gradient entries, `[n]`; not finite if any entry is not.
    pub gradient_l1: String,
    /// Output: share of gradient entries that are not exactly zero, `[n]`.
    pub nonzero_share: String,
    /// Output, if asked for: the gradient, `[n, c, h, w]`.
    pub gradient: Option<String>,
    /// Whether the graph computes in float32 what the model computes, at least in part, in another float type.
    pub promoted: bool,
    /// Nodes whose gradient is a straight-through estimate, not a gradient. If there are any, every number that the
    /// graph leads to needs a mark.
    pub straight_through: Vec<String>,
}

/// An image encoder as its file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Name of the image input.
    pub input: String,
    /// `[n, c, h, w]`; the batch may be a symbol.
    pub input_dims: [Dim; 4],
    /// Name of the embedding output.
    pub output: String,
    /// Entries of one embedding, if the file says so.
    pub embedding_dim: Option<usize>,
}

/// Checks that the model is an image encoder: one float input `[n, c, h, w]`, one float output `[n, d]`, and no value in
/// between that no machine holds.
///
/// # Errors
/// [`OnnxError::Graph`] saying what was found and what is wanted; [`OnnxError::Fault`] naming a value that is too large.
pub fn signature(model: &ModelProto) -> Result<Signature, OnnxError> {
    let fail = |reason: String| Err(OnnxError::Graph(format!("not an image encoder: {reason}")));
    let written_out;
    let model = if model.functions.is_empty() {
        model
    } else {
        written_out = inline::functions(model.clone())?;
        &written_out
    };
    let Some(graph) = &model.graph else { return fail("no graph".into()) };
    let inputs: Vec<_> = graph.true_inputs().collect();
    let names = |list: &[&super::proto::ValueInfoProto]| {
        let names: Vec<String> = list.iter().map(|v| format!("`{}`", v.name)).collect();
        names.join(", ")
    };
    let [input] = inputs[..] else {
        return fail(format!("{} inputs ({}), wanted one image [n, c, h, w]", inputs.len(), names(&inputs)));
    };
    let outputs: Vec<_> = graph.output.iter().collect();
    let [output] = outputs[..] else {
        return fail(format!(
            "{} outputs ({}), wanted one embedding [n, d]; export the embedding alone",
            outputs.len(),
            names(&outputs)
        ));
    };
    for value in [input, output] {
        if !value.elem_type().is_some_and(data_type::is_float) {
            let got = value.elem_type().map_or("no tensor".into(), data_type::name);
            return fail(format!(
                "`{}` is {got}, wanted float32; export the model from its float image to its float embedding",
                value.name
            ));
        }
    }
    let dims = input.dims().unwrap_or_default();
    let Ok(input_dims) = <[Dim; 4]>::try_from(dims.clone()) else {
        return fail(format!("input `{}` has shape {}, wanted [n, c, h, w]", input.name, show(&dims)));
    };
    let declared = output.dims();
    let facts = Facts::infer(graph)?;
    validate::value_sizes(graph, |value| facts.shape(value))?;
    let found = facts.shape(&output.name).map(<[Dim]>::to_vec).or_else(|| declared.clone());
    let embedding_dim = match found.as_deref() {
        None => None,
        Some([_, d]) => d.fixed().or_else(|| declared.as_ref()?.get(1)?.fixed()),
        Some(other) => {
            return fail(format!("output `{}` has shape {}, wanted [n, d]", output.name, show(other)));
        }
    };
    Ok(Signature { input: input.name.clone(), input_dims, output: output.name.clone(), embedding_dim })
}

/// The model as rules and interpreter see it: functions written out, lifted to today's operator set, branches decided.
///
/// # Errors
/// [`OnnxError::Node`] naming what cannot be written out or lifted.
pub fn written_out(model: ModelProto) -> Result<ModelProto, OnnxError> {
    inline::branches(opset::lift(inline::functions(model)?)?)
}

/// Emits the attack graph of a model. Image sizes must be fixed. A model that computes in other float types is attacked
/// through its float32 copy.
///
/// # Errors
/// [`OnnxError::Graph`] if the model is no image encoder or its image size is not fixed; [`OnnxError::NoRule`] or
/// [`OnnxError::Node`] naming the node that cannot be differentiated.
pub fn build(model: ModelProto, options: &AttackGraphOptions) -> Result<AttackGraph, OnnxError> {
    let model = wrap::float32_border(inline::functions(model)?);
    let promoted = promote::is_needed(&model);
    let model = compact::widen(if promoted { promote::to_float32(model) } else { model });
    let signature = signature(&model)?;
    let [batch, image @ ..] = signature.input_dims.clone();
    let Some(image) = fixed(&image) else {
        let shape = show(&signature.input_dims);
        return Err(OnnxError::Graph(format!("input `{}` has shape {shape}, wanted a fixed c, h, w", signature.input)));
    };
    let batch = options.batch_size.map_or(batch, Dim::Fixed);
    let mut model = opset::lift(model)?;
    let shape: Vec<Dim> = std::iter::once(batch.clone()).chain(image.iter().map(|d| Dim::Fixed(*d))).collect();
    if let Some(graph) = &mut model.graph {
        fix_input(graph, &signature.input, &shape);
        graph.output.clear();
        // Declared inner shapes may carry another batch size.
        graph.value_info.clear();
    }
    let model = inline::branches(model)?;
    let facts = Facts::infer(model.graph.as_ref().unwrap_or(&super::proto::GraphProto::default()))?;
    let mut b = GraphBuilder::extend(model);

    let d = signature.embedding_dim.map_or(Dim::Symbol("d".into()), Dim::Fixed);
    let t = options.targets_per_sample.map_or(Dim::Symbol("t".into()), Dim::Fixed);
    let x = signature.input.clone();
    let embedding = signature.output.clone();
    let lower = b.input("lower", FLOAT, &shape);
    let upper = b.input("upper", FLOAT, &shape);
    let step_size = b.input("step_size", FLOAT, &[batch.clone(), image[0].into(), 1.into(), 1.into()]);
    let inputs = loss_head::inputs(&mut b, options.head, [&batch, &t, &d]);
    let (loss, seed) = loss_head::emit(&mut b, options.head, &embedding, &inputs);
    let differentiate::Backward { gradient, straight_through } =
        differentiate::backward(&mut b, &facts, &x, &embedding, &seed, options.straight_through)?;

    let sign = b.named_node("Sign", "direction", &[&gradient], vec![]);
    let step = b.named_node("Mul", "step", &[&sign, &step_size], vec![]);
    let moved = b.named_node("Sub", "moved", &[&x, &step], vec![]);
    let raised = b.named_node("Max", "raised", &[&moved, &lower], vec![]);
    let x_next = b.named_node("Min", "x_next", &[&raised, &upper], vec![]);

    let axes = b.list(&[1, 2, 3]);
    let drop = || vec![AttributeProto::int("keepdims", 0)];
    let gradient_l1 = b.named_node("ReduceL1", "gradient_l1", &[&gradient, &axes], drop());
    let magnitude = b.named_node("Abs", "moves", &[&sign], vec![]);
    let nonzero_share = b.named_node("ReduceMean", "nonzero_share", &[&magnitude, &axes], drop());

    b.output(&x_next, FLOAT, &shape);
    b.output(&embedding, FLOAT, &[batch.clone(), d]);
    for per_sample in [&loss, &gradient_l1, &nonzero_share] {
        b.output(per_sample, FLOAT, std::slice::from_ref(&batch));
    }
    let gradient = options.gradient_output.then(|| {
        let name = b.named_node("Identity", "gradient", &[&gradient], vec![]);
        b.output(&name, FLOAT, &shape);
        name
    });
    let model = b.finish();
    Ok(AttackGraph {
        model,
        x,
        lower,
        upper,
        step_size,
        targets: inputs.targets,
        weights: inputs.weights,
        table: inputs.table,
        gallery: inputs.gallery.zip(inputs.gallery_marks).map(|(gallery, marks)| [gallery, marks]),
        x_next,
        embedding,
        loss,
        gradient_l1,
        nonzero_share,
        gradient,
        promoted,
        straight_through,
    })
}

/// The model alone, with its batch size fixed and float32 at its border.
pub fn with_batch_size(model: ModelProto, batch_size: usize) -> ModelProto {
    let mut model = wrap::float32_border(model);
    if let (Ok(signature), Some(graph)) = (signature(&model), &mut model.graph) {
        let mut shape = signature.input_dims.to_vec();
        shape[0] = Dim::Fixed(batch_size);
        fix_input(graph, &signature.input, &shape);
        graph.value_info.clear();
        if let Some(output) = graph.output.first_mut() {
            let d = signature.embedding_dim.map_or(Dim::Symbol("d".into()), Dim::Fixed);
            *output = super::proto::ValueInfoProto::tensor(&output.name, FLOAT, &[Dim::Fixed(batch_size), d]);
        }
    }
    model
}

/// Fixes height and width of the image input where the file leaves them open.
pub fn fix_sides(model: &mut ModelProto, sides: [usize; 2]) {
    if let (Ok(signature), Some(graph)) = (signature(model), &mut model.graph) {
        let mut shape = signature.input_dims.to_vec();
        let open = shape[2..].iter_mut().zip(sides).filter(|(dim, _)| dim.fixed().is_none());
        let mut changed = false;
        for (dim, side) in open {
            *dim = Dim::Fixed(side);
            changed = true;
        }
        if changed {
            fix_input(graph, &signature.input, &shape);
            graph.value_info.clear();
        }
    }
}

fn fix_input(graph: &mut super::proto::GraphProto, input: &str, shape: &[Dim]) {
    for value in graph.input.iter_mut().filter(|v| v.name == input) {
        *value = super::proto::ValueInfoProto::tensor(input, FLOAT, shape);
    }
}

//! Small good models that the mutations begin with.

use mdprop::onnx::graph::{FLOAT, GraphBuilder, l2_normalize, normalize_pixels};
use mdprop::onnx::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
    data_type,
};
use mdprop::onnx::{Dim, encode};

/// Models that can be attacked.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let models = vec![
        ("convolutions", convolutions()),
        ("shapes", shapes()),
        ("half", half()),
        ("compact", compact()),
        ("old", old()),
        ("pools", pools()),
        ("elementwise", elementwise()),
        ("products", products()),
    ];
    models.into_iter().map(|(name, model)| (name, encode(&model))).collect()
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + 11) % 29) as f32 / 29.0 - 0.4).collect()
}

struct Net {
    b: GraphBuilder,
}

impl Net {
    fn new(c: usize, h: usize, w: usize) -> Self {
        let mut b = GraphBuilder::new("seed");
        b.input("x", FLOAT, &["n".into(), c.into(), h.into(), w.into()]);
        Self { b }
    }

    fn weight(&mut self, dims: &[usize]) -> String {
        self.b.constant("w", dims, &numbers(dims.iter().product()))
    }

    fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.b.node(op, inputs, vec![])
    }

    fn with(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.b.node(op, inputs, attributes)
    }

    /// Pools away what is behind the channels.
    fn finish(mut self, x: &str, d: usize) -> ModelProto {
        let pooled = self.op("GlobalAveragePool", &[x]);
        let flat = self.op("Flatten", &[&pooled]);
        self.b.output(&flat, FLOAT, &["n".into(), Dim::Fixed(d)]);
        self.b.finish()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto::ints(name, values)
}

fn convolutions() -> ModelProto {
    let mut net = Net::new(3, 8, 7);
    let x = normalize_pixels(&mut net.b, "x", &[0.4; 3], &[0.2; 3]);
    let w = net.weight(&[4, 3, 3, 3]);
    let x = net.with("Conv", &[&x, &w], vec![ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1])]);
    let norms = [0; 4].map(|_| net.b.constant("norm", &[4], &[0.5, 1.0, 0.25, 2.0]));
    let [a, b, c, d] = norms.each_ref().map(String::as_str);
    let x = net.op("BatchNormalization", &[&x, a, b, c, d]);
    let x = net.op("Relu", &[&x]);
    let w = net.weight(&[4, 2, 3, 3]);
    let lists = vec![ints("pads", &[2, 2, 2, 2]), ints("dilations", &[2, 2]), AttributeProto::int("group", 2)];
    let y = net.with("Conv", &[&x, &w], lists);
    let x = net.op("Add", &[&x, &y]);
    let pooled = net.op("GlobalAveragePool", &[&x]);
    let flat = net.op("Flatten", &[&pooled]);
    let (w, bias) = (net.weight(&[5, 4]), net.weight(&[5]));
    let y = net.with("Gemm", &[&flat, &w, &bias], vec![AttributeProto::int("transB", 1)]);
    let y = l2_normalize(&mut net.b, &y);
    net.b.output(&y, FLOAT, &["n".into(), 5.into()]);
    net.b.finish()
}

fn shapes() -> ModelProto {
    let mut net = Net::new(2, 4, 4);
    let shape = net.op("Shape", &["x"]);
    let (zero, rest, axis) = (net.b.constant_i64("zero", &[], &[0]), net.b.list(&[-1]), net.b.list(&[0]));
    let n = net.op("Gather", &[&shape, &zero]);
    let n = net.op("Unsqueeze", &[&n, &axis]);
    let target = net.with("Concat", &[&n, &rest], vec![AttributeProto::int("axis", 0)]);
    let flat = net.op("Reshape", &["x", &target]);
    let shape = net.b.constant_i64("image", &[4], &[0, 4, 2, -1]);
    let x = net.op("Reshape", &[&flat, &shape]);
    let x = net.with("Transpose", &[&x], vec![ints("perm", &[0, 2, 3, 1])]);
    let axes = net.b.list(&[1]);
    let x = net.op("Unsqueeze", &[&x, &axes]);
    let x = net.op("Squeeze", &[&x, &axes]);
    let x = net.with("Concat", &[&x, &x], vec![AttributeProto::int("axis", -1)]);
    net.finish(&x, 2)
}

fn half() -> ModelProto {
    let mut model = Net::new(1, 3, 3).half("Conv");
    // Weights in the typed field, as older writers keep them.
    let graph = model.graph.as_mut().unwrap();
    for tensor in graph.initializer.iter_mut().filter(|t| t.data_type == FLOAT) {
        let values = tensor.to_f32().unwrap();
        tensor.data_type = data_type::FLOAT16;
        tensor.raw_data = None;
        tensor.int32_data = values.iter().map(|v| if *v < 0.0 { 0xb800 } else { 0x3800 }).collect();
    }
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        value.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = data_type::FLOAT16;
    }
    model
}

impl Net {
    fn half(mut self, op: &str) -> ModelProto {
        let w = self.weight(&[2, 1, 3, 3]);
        let y = self.op(op, &["x", &w]);
        self.finish(&y, 2)
    }
}

fn compact() -> ModelProto {
    let mut net = Net::new(1, 3, 3);
    let bytes: Vec<u8> = (0..18).map(|i| i * 13).collect();
    let quantised = TensorProto {
        name: "q".into(),
        data_type: data_type::INT8,
        dims: vec![2, 1, 3, 3],
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    };
    let scale = net.b.constant("scale", &[2], &[0.01, 0.02]);
    let narrow = TensorProto {
        name: "bias16".into(),
        data_type: data_type::BFLOAT16,
        dims: vec![2],
        raw_data: Some(vec![0x80, 0x3f, 0, 0x40].into()),
        ..TensorProto::default()
    };
    let w = net.with("DequantizeLinear", &["q", &scale], vec![AttributeProto::int("axis", 0)]);
    let bias = net.with("Cast", &["bias16"], vec![AttributeProto::int("to", 1)]);
    let y = net.op("Conv", &["x", &w, &bias]);
    let mut model = net.finish(&y, 2);
    model.graph.as_mut().unwrap().initializer.extend([quantised, narrow]);
    model
}

fn old() -> ModelProto {
    let mut net = Net::new(2, 4, 3);
    let bounds = vec![AttributeProto::float("min", -0.2), AttributeProto::float("max", 0.7)];
    let x = net.with("Clip", &["x"], bounds);
    let x = net.with("Dropout", &[&x], vec![AttributeProto::float("ratio", 0.5)]);
    let constant = TensorProto::from_f32("", &[2, 1, 1], &[1.0, 2.0]);
    let two = net.with("Constant", &[], vec![AttributeProto::tensor("value", constant)]);
    let x = net.op("Mul", &[&x, &two]);
    let keep = vec![ints("axes", &[2]), AttributeProto::int("keepdims", 1)];
    let x = net.with("ReduceMean", &[&x], keep);
    let mut model = net.finish(&x, 2);
    model.opset_import[0].version = 9;
    model.ir_version = 3;
    // IR version 3 lists initialisers as inputs.
    let graph = model.graph.as_mut().unwrap();
    let listed = graph.initializer.iter().map(|t| {
        let dims: Vec<Dim> = t.shape().into_iter().map(Dim::Fixed).collect();
        ValueInfoProto::tensor(&t.name, t.data_type, &dims)
    });
    graph.input.extend(listed.collect::<Vec<_>>());
    model
}

fn pools() -> ModelProto {
    let mut net = Net::new(2, 9, 8);
    let window = |k: i64, s: i64| vec![ints("kernel_shape", &[k, k]), ints("strides", &[s, s])];
    let with = |mut list: Vec<AttributeProto>, more: Vec<AttributeProto>| {
        list.extend(more);
        list
    };
    let x = net.with("MaxPool", &["x"], with(window(3, 2), vec![ints("pads", &[1, 1, 1, 1])]));
    let ceil = vec![AttributeProto::int("ceil_mode", 1), AttributeProto::int("count_include_pad", 1)];
    let x = net.with("AveragePool", &[&x], with(window(2, 2), ceil));
    let same = vec![AttributeProto::string("auto_pad", "SAME_UPPER")];
    let x = net.with("MaxPool", &[&x], with(window(2, 1), same));
    net.finish(&x, 2)
}

fn elementwise() -> ModelProto {
    let mut net = Net::new(2, 3, 3);
    let scale = net.weight(&[2, 1, 1]);
    let x = net.op("Mul", &["x", &scale]);
    let mut sum = net.op("Sigmoid", &[&x]);
    for op in ["Tanh", "Exp", "Abs", "LeakyRelu", "Neg"] {
        let y = net.op(op, &[&x]);
        sum = net.op("Add", &[&sum, &y]);
    }
    let (floor, two) = (net.b.scalar(0.5), net.b.scalar(2.0));
    let bounded = net.op("Clip", &[&sum, &floor]);
    let root = net.op("Sqrt", &[&bounded]);
    let log = net.op("Log", &[&bounded]);
    let square = net.op("Pow", &[&root, &two]);
    let y = net.op("Div", &[&square, &bounded]);
    let y = net.op("Sub", &[&y, &log]);
    net.finish(&y, 2)
}

fn products() -> ModelProto {
    let mut net = Net::new(2, 4, 4);
    let turned = net.with("Transpose", &["x"], vec![ints("perm", &[0, 1, 3, 2])]);
    let scores = net.op("MatMul", &["x", &turned]);
    let w = net.weight(&[4, 6]);
    let y = net.op("MatMul", &[&scores, &w]);
    let axes = net.b.list(&[2, 3]);
    let y = net.with("ReduceSum", &[&y, &axes], vec![AttributeProto::int("keepdims", 0)]);
    net.b.output(&y, FLOAT, &["n".into(), 2.into()]);
    net.b.finish()
}

/// Models that must be read, whether or not they can be attacked: sub-graphs, functions, operators of every family.
pub fn readable() -> Vec<(&'static str, Vec<u8>)> {
    let models = [("branch", branch()), ("function", function()), ("attention", attention()), ("layout", layout())];
    models.into_iter().map(|(name, model)| (name, encode(&model))).collect()
}

fn node(op: &str, input: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: input.iter().map(|i| i.to_string()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn branch() -> ModelProto {
    let mut net = Net::new(2, 3, 3);
    let dims = [Dim::from("n"), 2.into(), 3.into(), 3.into()];
    let inner = |op: &str, output: &str| GraphProto {
        name: op.into(),
        node: vec![node(op, &["x"], output)],
        output: vec![ValueInfoProto::tensor(output, FLOAT, &dims)],
        ..GraphProto::default()
    };
    let condition = TensorProto {
        name: "condition".into(),
        data_type: data_type::BOOL,
        raw_data: Some(vec![1].into()),
        ..TensorProto::default()
    };
    let graph = |name: &str, g: GraphProto| AttributeProto {
        name: name.into(),
        r#type: 5,
        g: Some(g),
        ..AttributeProto::default()
    };
    let both = vec![graph("then_branch", inner("Relu", "a")), graph("else_branch", inner("Neg", "b"))];
    let y = net.with("If", &["condition"], both);
    let mut model = net.finish(&y, 2);
    model.graph.as_mut().unwrap().initializer.push(condition);
    model
}

fn function() -> ModelProto {
    let mut net = Net::new(2, 3, 3);
    net.b.push("Gate", &["x"], &["y"], vec![AttributeProto::float("by", 2.0)]);
    let mut model = net.finish("y", 2);
    model.graph.as_mut().unwrap().node[0].domain = "local".into();
    let reference =
        AttributeProto { name: "alpha".into(), r#type: 1, ref_attr_name: "by".into(), ..AttributeProto::default() };
    let mut leaky = node("LeakyRelu", &["v"], "w");
    leaky.attribute.push(reference);
    model.functions = vec![FunctionProto {
        name: "Gate".into(),
        domain: "local".into(),
        input: vec!["v".into()],
        output: vec!["r".into()],
        attribute: vec!["by".into()],
        node: vec![leaky, node("Sigmoid", &["w"], "r")],
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 18 }],
        ..FunctionProto::default()
    }];
    model.opset_import.push(OperatorSetIdProto { domain: "local".into(), version: 1 });
    model
}

fn attention() -> ModelProto {
    let mut net = Net::new(2, 4, 4);
    let (scale, bias) = (net.weight(&[4]), net.weight(&[4]));
    let x = net.op("LayerNormalization", &["x", &scale, &bias]);
    let turned = net.with("Transpose", &[&x], vec![ints("perm", &[0, 1, 3, 2])]);
    let scores = net.op("MatMul", &[&x, &turned]);
    let mask = net.b.constant("mask", &[4, 4], &[0.0, f32::NEG_INFINITY, 0.0, 0.0].repeat(4));
    let scores = net.op("Add", &[&scores, &mask]);
    let weights = net.with("Softmax", &[&scores], vec![AttributeProto::int("axis", -1)]);
    let y = net.op("MatMul", &[&weights, &x]);
    let gate = net.op("Erf", &[&y]);
    let y = net.op("Mul", &[&y, &gate]);
    net.finish(&y, 2)
}

fn layout() -> ModelProto {
    let mut net = Net::new(4, 4, 4);
    let pads = net.b.constant_i64("pads", &[8], &[0, 0, 1, 1, 0, 0, 1, 1]);
    let x = net.with("Pad", &["x", &pads], vec![AttributeProto::string("mode", "reflect")]);
    let [starts, ends, axes, steps] =
        [net.b.list(&[1, 1]), net.b.list(&[-1, 100]), net.b.list(&[2, 3]), net.b.list(&[1, 2])];
    let x = net.op("Slice", &[&x, &starts, &ends, &axes, &steps]);
    let scales = net.b.constant("scales", &[4], &[1.0, 1.0, 2.0, 2.0]);
    let x = net.with("Resize", &[&x, "", &scales], vec![AttributeProto::string("mode", "linear")]);
    let indices = net.b.constant_i64("indices", &[2], &[0, -1]);
    let x = net.with("Gather", &[&x, &indices], vec![AttributeProto::int("axis", 1)]);
    let shape = net.b.constant_i64("shape", &[4], &[1, 2, 1, 1]);
    let x = net.op("Expand", &[&x, &shape]);
    let repeats = net.b.constant_i64("repeats", &[4], &[1, 1, 2, 1]);
    let x = net.op("Tile", &[&x, &repeats]);
    let made = net.with(
        "ConstantOfShape",
        &[&shape],
        vec![AttributeProto::tensor("value", TensorProto::from_f32("", &[1], &[0.5]))],
    );
    let x = net.op("Mul", &[&x, &made]);
    net.b.push(
        "Split",
        &[&x],
        &["first", "second"],
        vec![AttributeProto::int("axis", 1), AttributeProto::int("num_outputs", 2)],
    );
    let x = net.with("Einsum", &["first", "second"], vec![AttributeProto::string("equation", "nchw,nchw->nchw")]);
    let x = net.with("DepthToSpace", &[&x], vec![AttributeProto::int("blocksize", 1)]);
    let x = net.with("ConvTranspose", &[&x, "w"], vec![ints("strides", &[2, 2])]);
    let mut model = net.finish(&x, 2);
    model.graph.as_mut().unwrap().initializer.push(TensorProto::from_f32("w", &[1, 2, 3, 3], &numbers(18)));
    model
}

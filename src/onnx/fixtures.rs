//! Small nets with random weights for the tests of this layer and of the encoder.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::access::Dim;
use super::graph::{FLOAT, GraphBuilder, l2_normalize, normalize_pixels};
use super::proto::{AttributeProto, ModelProto, data_type};

/// Uniform numbers in `[low, high)`.
pub(crate) fn uniform(seed: u64, count: usize, low: f32, high: f32) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(low..high)).collect()
}

/// A net under construction with shorthands; each weight has its own seed.
pub(crate) struct Net {
    pub(crate) b: GraphBuilder,
    pub(crate) seed: u64,
}

impl Net {
    pub(crate) fn new(image: [usize; 3]) -> Self {
        let mut b = GraphBuilder::new("net");
        b.input("image", FLOAT, &["n".into(), image[0].into(), image[1].into(), image[2].into()]);
        Self { b, seed: 1 }
    }

    pub(crate) fn weight(&mut self, dims: &[usize], low: f32, high: f32) -> String {
        self.seed += 1;
        let values = uniform(self.seed, dims.iter().product(), low, high);
        self.b.constant("w", dims, &values)
    }

    /// `dims`: `[m, c/group, kh, kw]`.
    pub(crate) fn conv(&mut self, x: &str, dims: [usize; 4], stride: i64, pad: i64) -> String {
        self.conv_with(x, dims, &[("strides", &[stride; 2]), ("pads", &[pad; 4])], 1)
    }

    pub(crate) fn conv_with(&mut self, x: &str, dims: [usize; 4], lists: &[(&str, &[i64])], group: i64) -> String {
        let bound = (3.0 / (dims[1] * dims[2] * dims[3]) as f32).sqrt();
        let w = self.weight(&dims, -bound, bound);
        let mut attributes: Vec<_> = lists.iter().map(|(n, v)| AttributeProto::ints(n, v)).collect();
        attributes.push(AttributeProto::int("group", group));
        self.b.node("Conv", &[x, &w], attributes)
    }

    pub(crate) fn batch_norm(&mut self, x: &str, c: usize) -> String {
        let [scale, bias, mean, variance] =
            [(0.5, 1.5), (-0.2, 0.2), (-0.2, 0.2), (0.5, 1.5)].map(|(low, high)| self.weight(&[c], low, high));
        self.b.node("BatchNormalization", &[x, &scale, &bias, &mean, &variance], vec![])
    }

    pub(crate) fn op(&mut self, op: &str, inputs: &[&str]) -> String {
        self.b.node(op, inputs, vec![])
    }

    pub(crate) fn max_pool(&mut self, x: &str, k: i64, stride: i64, pad: i64) -> String {
        let lists = [("kernel_shape", vec![k; 2]), ("strides", vec![stride; 2]), ("pads", vec![pad; 4])];
        self.b.node("MaxPool", &[x], lists.iter().map(|(n, v)| AttributeProto::ints(n, v)).collect())
    }

    /// Pools, flattens, multiplies to `d` entries and normalises.
    pub(crate) fn head(&mut self, x: &str, c: usize, d: usize) -> String {
        let pooled = self.op("GlobalAveragePool", &[x]);
        let flat = self.op("Flatten", &[&pooled]);
        self.linear_head(&flat, c, d)
    }

    pub(crate) fn linear_head(&mut self, flat: &str, c: usize, d: usize) -> String {
        let w = self.weight(&[d, c], -0.5, 0.5);
        let bias = self.weight(&[d], -0.1, 0.1);
        let y = self.b.node("Gemm", &[flat, &w, &bias], vec![AttributeProto::int("transB", 1)]);
        l2_normalize(&mut self.b, &y)
    }

    pub(crate) fn finish(mut self, output: &str, d: usize) -> ModelProto {
        self.b.output(output, FLOAT, &["n".into(), Dim::Fixed(d)]);
        self.b.finish()
    }
}

/// The stem of a ResNet, one plain and one strided residual block, for any image size; embedding of 5 entries.
pub(crate) fn little_resnet(height: usize, width: usize) -> ModelProto {
    let mut net = Net::new([3, height, width]);
    let x = normalize_pixels(&mut net.b, "image", &[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);
    let x = net.conv(&x, [8, 3, 7, 7], 2, 3);
    let x = net.batch_norm(&x, 8);
    let x = net.op("Relu", &[&x]);
    let x = net.max_pool(&x, 3, 2, 1);
    let mut x = x;
    for (from, to, stride) in [(8, 8, 1), (8, 16, 2)] {
        let y = net.conv(&x, [to, from, 3, 3], stride, 1);
        let y = net.batch_norm(&y, to);
        let y = net.op("Relu", &[&y]);
        let y = net.conv(&y, [to, to, 3, 3], 1, 1);
        let y = net.batch_norm(&y, to);
        if stride != 1 {
            x = net.conv(&x, [to, from, 1, 1], stride, 0);
            x = net.batch_norm(&x, to);
        }
        let sum = net.op("Add", &[&y, &x]);
        x = net.op("Relu", &[&sum]);
    }
    let e = net.head(&x, 16, 5);
    net.finish(&e, 5)
}

/// The same model in another float type: weights, input and output.
pub(crate) fn narrowed(mut model: ModelProto, element: i32) -> ModelProto {
    let bytes = |v: f32| match element {
        data_type::FLOAT16 => half::f16::from_f32(v).to_le_bytes().to_vec(),
        data_type::BFLOAT16 => half::bf16::from_f32(v).to_le_bytes().to_vec(),
        data_type::DOUBLE => f64::from(v).to_le_bytes().to_vec(),
        other => panic!("element type {other}"),
    };
    let graph = model.graph.as_mut().unwrap();
    for tensor in graph.initializer.iter_mut().filter(|t| t.data_type == FLOAT) {
        let raw: Vec<u8> = tensor.to_f32().unwrap().into_iter().flat_map(bytes).collect();
        tensor.data_type = element;
        tensor.raw_data = Some(raw.into());
    }
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        value.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = element;
    }
    model
}

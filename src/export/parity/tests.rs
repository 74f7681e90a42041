//! The proof accepts rounding and nothing else.

use super::*;
use crate::batch::Embeddings;
use crate::digest::Digest;
use crate::encoder::onnx::{OnnxEncoder, OnnxOptions, Runtime};
use crate::encoder::{Descent, EncoderSpec, GradientSteps};
use crate::export::{ExportNotes, export_branch};
use crate::network::build;
use crate::onnx::interpret;
use crate::suite::recipe::{BackboneSpec, StrideIn};
use crate::train::formula;

/// The model itself, with one entry of one image moved.
struct Moved {
    spec: EncoderSpec,
    model: Model,
    image: usize,
    by: f32,
    seen: usize,
}

impl Encoder for Moved {
    fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    fn embed(&mut self, images: &Images) -> Result<Embeddings, EncoderError> {
        let input = Tensor::from_slice(images.as_slice()).view(images.shape().map(|s| s as i64));
        let rows = tch::no_grad(|| self.model.forward(&self.model.normalize(&input), Pass::Eval(Branch::Aux(1))));
        let mut data: Vec<f32> = Vec::try_from(rows.contiguous().view([-1])).unwrap();
        if let Some(entry) = (self.image * 5 + 3).checked_sub(self.seen * 5).filter(|&e| e < data.len()) {
            data[entry] += self.by;
        }
        self.seen += images.len();
        Ok(Embeddings::new([images.len(), 5], data).unwrap())
    }

    fn descend<'a>(&'a mut self, _: &Descent<'_>) -> Result<Box<dyn GradientSteps + 'a>, EncoderError> {
        Err(EncoderError::NoGradient { name: "moved".into(), node: "none".into(), op: "none".into() })
    }
}

fn model() -> Model {
    let network = build(&BackboneSpec::Convnet { widths: vec![4, 6] }, 5, 1).unwrap();
    Model::from_weights(&network, &formula::weights(&network), Device::Cpu).unwrap()
}

fn moved(image: usize, by: f32) -> Moved {
    let spec = EncoderSpec {
        name: "moved".into(),
        input: [3, 12, 12],
        embedding_dim: 5,
        std: vec![1.0; 3],
        provider: "cpu".into(),
        notes: vec![],
        straight_through: vec![],
    };
    Moved { spec, model: model(), image, by, seen: 0 }
}

fn images(count: usize) -> Images {
    square(count, 12)
}

fn square(count: usize, side: usize) -> Images {
    Images::new([count, 3, side, side], formula::pixels([count, 3, side, side])).unwrap()
}

fn runtime() -> Runtime {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/.deps/onnxruntime/lib/libonnxruntime.so.1.32.0");
    let path = std::env::var_os("ORT_DYLIB_PATH").unwrap_or_else(|| default.into());
    Runtime::load(std::path::Path::new(&path)).unwrap()
}

/// An exported graph in the float64 interpreter, which shares no code with libtorch or ONNX Runtime.
struct Interpreted {
    spec: EncoderSpec,
    graph: crate::onnx::proto::ModelProto,
}

impl Encoder for Interpreted {
    fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    fn embed(&mut self, images: &Images) -> Result<Embeddings, EncoderError> {
        let input = interpret::Tensor::from_f32(&images.shape(), images.as_slice());
        let values = interpret::run(&self.graph, &[("pixels", input)]).unwrap();
        let embedding = &values["embedding"];
        let data = embedding.data.iter().map(|v| *v as f32).collect();
        Ok(Embeddings::new([embedding.shape[0], embedding.shape[1]], data).unwrap())
    }

    fn descend<'a>(&'a mut self, _: &Descent<'_>) -> Result<Box<dyn GradientSteps + 'a>, EncoderError> {
        Err(EncoderError::NoGradient { name: "interpreted".into(), node: "none".into(), op: "none".into() })
    }
}

#[test]
fn an_exported_file_computes_what_the_model_does_on_every_branch() {
    let convnet = BackboneSpec::Convnet { widths: vec![4, 6, 8] };
    let resnet = |depth, stride_in| BackboneSpec::Resnet { depth, stride_in };
    for (backbone, branches, side, count) in
        [(convnet, 2, 13, 4), (resnet(18, StrideIn::Conv2), 1, 33, 2), (resnet(50, StrideIn::Conv1), 0, 33, 1)]
    {
        let network = build(&backbone, 7, branches).unwrap();
        let weights = formula::weights(&network);
        let model = Model::from_weights(&network, &weights, Device::Cpu).unwrap();
        let notes = ExportNotes { recipe: Digest::of_bytes(b""), seed: 1 };
        for branch in network.branches() {
            let graph = export_branch(&network, &weights, branch, side, &notes).unwrap();
            let spec = EncoderSpec { embedding_dim: 7, input: [3, side, side], ..moved(0, 0.0).spec };
            let mut file = Interpreted { spec, graph };
            let parity = prove(&model, branch, &mut file, &square(count, side)).unwrap();
            // f32 rounding of libtorch and of the folded weights, through up to 53 layers.
            assert!(parity.max_abs_difference < 5e-6, "{backbone:?} {branch}: {parity:?}");
            assert!(parity.min_cosine > 0.999_999_999, "{backbone:?} {branch}: {parity:?}");

            let options = OnnxOptions { batch_size: 8, ..OnnxOptions::default() };
            let mut runtime = OnnxEncoder::from_model(&runtime(), file.graph, "exported", &options).unwrap();
            assert_eq!(runtime.spec().std, network.std);
            let parity = prove(&model, branch, &mut runtime, &square(9, side)).unwrap();
            assert!(parity.max_abs_difference < 5e-6, "{backbone:?} {branch}: {parity:?}");
            // The statistics of the branches differ, so the file of one does not pass for another.
            if branch != Branch::Main {
                let error = prove(&model, Branch::Main, &mut runtime, &square(1, side)).unwrap_err().to_string();
                assert!(error.contains("branch main: image 0"), "{error}");
            }
        }
    }
}

#[test]
fn rounding_passes_and_is_measured() {
    let parity = prove(&model(), Branch::Aux(1), &mut moved(38, 5e-5), &images(40)).unwrap();
    assert_eq!(parity.images, 40);
    assert!((parity.max_abs_difference - 5e-5).abs() < 1e-6, "{parity:?}");
    assert!(parity.min_cosine > 0.999_999 && parity.min_cosine < 1.0, "{parity:?}");
}

#[test]
fn more_than_rounding_nan_another_branch_and_no_image_are_refused() {
    let refuse = |branch, image, by, count| {
        prove(&model(), branch, &mut moved(image, by), &images(count)).unwrap_err().to_string()
    };
    let text = refuse(Branch::Aux(1), 38, 2e-4, 40);
    assert!(text.contains("branch aux1: image 38: embedding entry 3 is"), "{text}");
    assert!(refuse(Branch::Aux(1), 2, f32::NAN, 4).contains("entry 3 is NaN"));
    assert!(refuse(Branch::Main, 0, 0.0, 4).contains("branch main: image 0"));
    assert!(refuse(Branch::Aux(1), 0, 0.0, 0).contains("no images"));
}

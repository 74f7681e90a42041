//! The proof accepts rounding and nothing else.

use super::*;
use crate::batch::Embeddings;
use crate::encoder::{Descent, EncoderSpec, GradientSteps};
use crate::network::build;
use crate::suite::recipe::BackboneSpec;
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
    let mut model = Model::new(&network, 1, Device::Cpu).unwrap();
    model.load_weights(&formula::weights(&network)).unwrap();
    model
}

fn moved(image: usize, by: f32) -> Moved {
    let spec = EncoderSpec {
        name: "moved".into(),
        input: [3, 12, 12],
        embedding_dim: 5,
        std: vec![1.0; 3],
        provider: "cpu".into(),
    };
    Moved { spec, model: model(), image, by, seen: 0 }
}

fn images(count: usize) -> Images {
    Images::new([count, 3, 12, 12], formula::pixels([count, 3, 12, 12])).unwrap()
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

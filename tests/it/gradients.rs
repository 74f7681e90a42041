//! The emitted gradient against libtorch's autograd, on ResNets that this program exports. (The same gradient against
//! central differences in float64 is tested beside the rules, in `onnx::differentiate`.)

use std::path::PathBuf;

use mdprop::batch::Images;
use mdprop::digest::Digest;
use mdprop::encoder::onnx::{OnnxEncoder, OnnxOptions, Runtime};
use mdprop::encoder::{Descent, Distance, Encoder as _, Loss};
use mdprop::export::{ExportNotes, export_branch};
use mdprop::network::build;
use mdprop::network::pretrained::apply_pretrained;
use mdprop::network::weights::Weights;
use mdprop::rng;
use mdprop::suite::attack::Branch;
use mdprop::suite::recipe::{AuxiliaryStart, BackboneSpec, StrideIn};
use mdprop::train::model::{Model, Pass, Slice};
use tch::{Device, Kind, Tensor};

const IMAGES: usize = 2;
const TARGETS: usize = 3;
const DIM: usize = 64;

fn runtime() -> Runtime {
    let library = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".deps/onnxruntime/lib/libonnxruntime.so.1.32.0")
    });
    Runtime::load(&library).unwrap()
}

fn random_images(size: usize) -> Images {
    let mut stream = rng::stream(5, "gradient-test", &[]);
    // Smooth pictures with some noise: white noise alone would put every activation near its mean.
    let mut data = Vec::new();
    for image in 0..IMAGES {
        for channel in 0..3 {
            for place in 0..size * size {
                let (y, x) = (place / size, place % size);
                let wave = ((x * (image + 1) + y * (channel + 1)) as f32 / size as f32 * 6.0).sin();
                data.push((0.5 + 0.3 * wave + 0.2 * (rng::unit(&mut stream) - 0.5)).clamp(0.0, 1.0));
            }
        }
    }
    Images::new([IMAGES, 3, size, size], data).unwrap()
}

/// A network with random weights, but with residual branches as quiet as training makes them: at their initial loudness
/// gradients of fifty layers grow from block to block until rounding alone decides many signs.
fn random_model(depth: u32) -> Model {
    let backbone = BackboneSpec::Resnet { depth, stride_in: StrideIn::Conv2 };
    let network = build(&backbone, DIM, 1).unwrap();
    let mut model = Model::new(&network, 3, Device::Cpu).unwrap();
    let mut weights = model.to_weights();
    let last = if depth < 50 { ".bn2." } else { ".bn3." };
    for (name, tensor) in &mut weights.tensors {
        if name.contains(last) && name.ends_with("weight") {
            tensor.data.iter_mut().for_each(|scale| *scale *= 0.3);
        }
    }
    model.load_weights(&weights).unwrap();
    model
}

/// Gives every branch the running statistics of real activations, each its own. Shifted copies make the sample large
/// enough that no channel of the last stage has a variance of nearly nothing.
fn calibrate(model: &Model, images: &Images) {
    let shape = images.shape().map(|side| side as i64);
    let pixels = Tensor::from_slice(images.as_slice()).reshape(shape);
    let copies: Vec<Tensor> = (0..6).map(|k| pixels.roll([5 * k, 9 * k], [2, 3]) * (1.0 - 0.08 * k as f64)).collect();
    let many = Tensor::cat(&copies, 0);
    let both = Tensor::cat(&[&many, &(&many * 0.8)], 0);
    let slices = [Branch::Main, Branch::Aux(1)].map(|branch| Slice { branch, count: many.size()[0] });
    for _ in 0..12 {
        let _ = tch::no_grad(|| model.forward(&model.normalize(&both), Pass::Train(&slices)));
    }
}

/// Share of pixels where the signs of the two gradients agree, and the largest difference of the losses.
fn compare(model: &Model, images: &Images, branch: Branch) -> (f64, f64) {
    let network = model.network();
    let [_, _, size, _] = images.shape();
    let shape = [IMAGES as i64, 3, size as i64, size as i64];
    let pixels = Tensor::from_slice(images.as_slice()).reshape(shape);
    let mut stream = rng::stream(6, "gradient-test", &[]);
    let targets: Vec<f32> =
        (0..IMAGES * TARGETS * DIM).map(|_| rng::normal(&mut stream) / (DIM as f32).sqrt()).collect();

    let leaf = pixels.detach().set_requires_grad(true);
    let embedding = model.forward(&model.normalize(&leaf), Pass::Eval(branch));
    let aims = Tensor::from_slice(&targets).reshape([IMAGES as i64, TARGETS as i64, DIM as i64]);
    let distances = (embedding.unsqueeze(1) - aims).square().sum_dim_intlist(2, false, Kind::Float).sqrt();
    let losses = distances.mean_dim(1, false, Kind::Float);
    let gradient = Tensor::run_backward(&[losses.sum(Kind::Float)], &[&leaf], false, false).remove(0);
    let wanted: Vec<f32> = Vec::try_from(gradient.reshape([-1])).unwrap();
    let losses: Vec<f32> = Vec::try_from(losses).unwrap();

    let notes = ExportNotes { recipe: Digest::of_bytes(b"test"), seed: 3 };
    let exported = export_branch(network, &model.to_weights(), branch, size, &notes).unwrap();
    let options = OnnxOptions { batch_size: IMAGES, ..OnnxOptions::default() };
    let mut encoder = OnnxEncoder::from_model(&runtime(), exported, "resnet", &options).unwrap();
    let bound = |value: f32| Images::new(images.shape(), vec![value; images.as_slice().len()]).unwrap();
    let (lower, upper) = (bound(-10.0), bound(10.0));
    let mut steps = encoder
        .descend(&Descent {
            loss: Loss::weighted(Distance::Euclidean, TARGETS, &targets, &[1.0 / TARGETS as f32; IMAGES * TARGETS]),
            start: images,
            lower: &lower,
            upper: &upper,
        })
        .unwrap();
    // One step of length 1 shows the sign: x_next = x − sign(gradient).
    let told = steps.step(&[1.0; IMAGES * 3]).unwrap();
    steps.evaluate().unwrap();
    let mut moved = vec![0.0; images.as_slice().len()];
    moved.chunks_mut(images.stride()).enumerate().for_each(|(i, out)| steps.copy_evaluated(i, out));
    let equal = moved
        .iter()
        .zip(images.as_slice())
        .zip(&wanted)
        .filter(|((after, before), gradient)| (*before - *after).round() == gradient.signum())
        .count();
    let difference = told.loss.iter().zip(&losses).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    (equal as f64 / wanted.len() as f64, difference)
}

fn assert_equal_signs(model: &Model, images: &Images, branch: Branch) {
    let (equal, difference) = compare(model, images, branch);
    assert!(equal >= 0.999, "{branch}: {equal} of the signs are equal");
    assert!(difference < 1e-4, "{branch}: losses differ by {difference}");
    println!("{branch}: {:.4} % of the signs are equal, losses differ by {difference:.1e}", equal * 100.0);
}

#[test]
fn resnet18_gradients_have_autograd_s_signs_in_every_branch() {
    let (model, images) = (random_model(18), random_images(64));
    calibrate(&model, &images);
    for branch in [Branch::Main, Branch::Aux(1)] {
        assert_equal_signs(&model, &images, branch);
    }
}

#[test]
fn resnet50_gradients_have_autograd_s_signs() {
    let (model, images) = (random_model(50), random_images(96));
    calibrate(&model, &images);
    assert_equal_signs(&model, &images, Branch::Main);
}

#[test]
fn pretrained_resnet50_gradients_have_autograd_s_signs_on_photographs() {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let (file, photographs) = (data.join("resnet50-v1-imagenet-f16.safetensors"), data.join("cub127.tar"));
    if !file.is_file() || !photographs.is_file() {
        println!("skipped: no {}", data.display());
        return;
    }
    let backbone = BackboneSpec::Resnet { depth: 50, stride_in: StrideIn::Conv1 };
    let network = build(&backbone, DIM, 0).unwrap();
    let mut model = Model::new(&network, 3, Device::Cpu).unwrap();
    let mut weights = model.to_weights();
    let (pretrained, _) = Weights::load(&file).unwrap();
    apply_pretrained(&network, &mut weights, &pretrained, AuxiliaryStart::CopyAll).check(&network).unwrap();
    model.load_weights(&weights).unwrap();
    assert_equal_signs(&model, &first_photographs(&photographs), Branch::Main);
}

/// The first pictures of a tar of 160 px JPEGs.
fn first_photographs(path: &std::path::Path) -> Images {
    let mut data = vec![];
    let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap().extension().is_none_or(|e| e != "jpg") {
            continue;
        }
        let mut bytes = vec![];
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        let picture = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (160, 160));
        for channel in 0..3 {
            data.extend(picture.pixels().map(|pixel| f32::from(pixel.0[channel]) / 255.0));
        }
        if data.len() == IMAGES * 3 * 160 * 160 {
            break;
        }
    }
    Images::new([IMAGES, 3, 160, 160], data).unwrap()
}

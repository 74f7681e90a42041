//! The interpreter against PyTorch (`tests/data/network/make.py`), and what the training loop relies on.

use std::collections::BTreeMap;

use tch::Kind;

use super::*;
use crate::network::build;
use crate::network::pretrained::apply_pretrained;
use crate::suite::recipe::{AuxiliaryStart, BackboneSpec, StrideIn};
use crate::train::formula;

fn convnet(widths: &[usize], dim: usize, branches: u8) -> Network {
    build(&BackboneSpec::Convnet { widths: widths.to_vec() }, dim, branches).unwrap()
}

fn with_formula(network: &Network) -> Model {
    Model::from_weights(network, &formula::weights(network), Device::Cpu).unwrap()
}

fn pixels(shape: [usize; 4]) -> Tensor {
    Tensor::from_slice(&formula::pixels(shape)).view(shape.map(|s| s as i64))
}

fn list(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.detach().contiguous().view([-1])).unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[derive(serde::Deserialize)]
struct Answer {
    depth: u32,
    stride_in: StrideIn,
    embedding: Vec<f32>,
}

#[test]
fn resnets_of_both_strides_answer_as_torchvision() {
    let text = include_str!("../../../tests/data/network/resnet_forward.json");
    let answers: Vec<Answer> = serde_json::from_str(text).unwrap();
    assert_eq!(answers.len(), 3);
    for answer in answers {
        let backbone = BackboneSpec::Resnet { depth: answer.depth, stride_in: answer.stride_in };
        let model = with_formula(&build(&backbone, 8, 0).unwrap());
        let input = model.normalize(&pixels([2, 3, 64, 64]));
        let got = tch::no_grad(|| model.forward(&input, Pass::Eval(Branch::Main)));
        // 53 layers of f32 in another order of summation; entries are about 0.35.
        let difference = largest_difference(&list(&got), &answer.embedding);
        assert!(difference < 1e-5, "ResNet-{} {:?}: {difference}", answer.depth, answer.stride_in);
    }
}

#[derive(serde::Deserialize)]
struct MixFixture {
    embedding: Vec<f32>,
    statistics: BTreeMap<String, Vec<f32>>,
    gradients: BTreeMap<String, Vec<f32>>,
}

const SLICES: [Slice; 3] = [
    Slice { branch: Branch::Main, count: 4 },
    Slice { branch: Branch::Aux(1), count: 2 },
    Slice { branch: Branch::Aux(2), count: 2 },
];

/// Embeddings, running statistics and gradients of a training pass of three branches, as a fixture has them.
fn mixed_pass(precision: Precision) -> MixFixture {
    let model = with_formula(&convnet(&[4, 6], 5, 2)).with_precision(precision);
    let embedding = model.forward(&model.normalize(&pixels([8, 3, 12, 12])), Pass::Train(&SLICES));
    let factors = Tensor::from_slice(&formula::tensor("loss.bias", &[8, 5])).view([8, 5]);
    let gradient = model.gradient(&(&embedding * factors).sum(Kind::Float), None).unwrap().0;
    let gradient = model.to_file_order(&Tensor::cat(&gradient, 0)).unwrap();
    let (names, counts): (Vec<_>, Vec<_>) =
        model.parameters().into_iter().map(|(name, tensor)| (name.to_string(), tensor.numel() as i64)).unzip();
    let gradients = gradient.split_with_sizes(counts.as_slice(), 0);
    MixFixture {
        embedding: list(&embedding),
        statistics: model.buffers().into_iter().map(|(name, t)| (name.to_string(), list(t))).collect(),
        gradients: names.into_iter().zip(gradients.iter().map(list)).collect(),
    }
}

fn fixture(text: &str) -> MixFixture {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_mixed_training_pass_equals_pytorchs_batch_norms_per_slice() {
    let wanted = fixture(include_str!("../../../tests/data/network/mix_batch_norm.json"));
    let got = mixed_pass(Precision::Float32);
    assert!(largest_difference(&got.embedding, &wanted.embedding) < 1e-5);
    assert_eq!(got.statistics.len(), wanted.statistics.len());
    for (name, wanted) in &wanted.statistics {
        assert!(largest_difference(&got.statistics[name], wanted) < 1e-6, "{name}");
    }
    assert_eq!(got.gradients.len(), wanted.gradients.len());
    for (name, wanted) in &wanted.gradients {
        let difference = largest_difference(&got.gradients[name], wanted);
        // Gradients are sums over up to 576 positions, about 0.1 each.
        assert!(difference < 2e-6, "{name}: {difference}");
    }
}

/// Euclidean distance over the length of the second.
fn relative(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let length = |v: &mut dyn Iterator<Item = f32>| v.map(|x| x * x).sum::<f32>().sqrt();
    length(&mut a.iter().zip(b).map(|(x, y)| x - y)) / length(&mut b.iter().copied())
}

#[test]
fn a_pass_in_bfloat16_equals_pytorchs_autocast() {
    let wanted = fixture(include_str!("../../../tests/data/network/mix_batch_norm_bf16.json"));
    let (got, single) = (mixed_pass(Precision::Bf16Mixed), mixed_pass(Precision::Float32));
    // The same bits on a processor of the fixture's kind. Another one may add up in another order or imitate the format,
    // which rounds a few entries to their neighbour: PyTorch itself is then 0.4 % away from its own gradient, and float32
    // is 2.4 % away. A single tensor near zero may be further off than float32 is, so all gradients are one vector.
    let near = |name: &str, of: &dyn Fn(&MixFixture) -> Vec<f32>| {
        let [ours, full] = [&got, &single].map(|pass| relative(&of(pass), &of(&wanted)));
        assert!(ours < 0.3 * full, "{name}: {ours} from PyTorch's, float32 is {full}");
    };
    near("embedding", &|pass| pass.embedding.clone());
    wanted.statistics.keys().for_each(|name| near(name, &|pass| pass.statistics[name].clone()));
    near("gradients", &|pass| wanted.gradients.keys().flat_map(|name| pass.gradients[name].clone()).collect());
}

#[test]
fn bfloat16_is_for_training_and_judged_is_the_full_precision() {
    let (single, half) = [Precision::Float32, Precision::Bf16Mixed]
        .map(|precision| with_formula(&convnet(&[4, 6], 5, 1)).with_precision(precision))
        .into();
    let input = single.normalize(&pixels([4, 3, 12, 12]));
    let judged = |model: &Model| list(&model.forward(&input, Pass::Eval(Branch::Main)));
    assert_eq!(judged(&single), judged(&half));
    let attacked = |model: &Model| list(&model.inference(Branch::Main).unwrap().forward(&input).unwrap());
    let (wanted, got) = (attacked(&single), attacked(&half));
    let difference = relative(&got, &wanted);
    assert!(difference > 1e-5 && difference < 1e-2, "{difference}");
    let (_, features) =
        half.forward_with_features(&input, Pass::Train(&[Slice { branch: Branch::Main, count: 4 }])).unwrap();
    assert_eq!(features.kind(), Kind::Float);
    assert!(half.parameters().into_iter().chain(half.buffers()).all(|(_, t)| t.kind() == Kind::Float));
}

#[test]
fn an_evaluation_moves_nothing_and_each_branch_answers_with_its_own_statistics() {
    let model = with_formula(&convnet(&[4, 6], 5, 2));
    let before = model.to_weights();
    let input = model.normalize(&pixels([4, 3, 12, 12]));
    let answers: Vec<_> =
        model.network().branches().iter().map(|&b| list(&model.forward(&input, Pass::Eval(b)))).collect();
    assert_eq!(model.to_weights(), before);
    assert!(largest_difference(&answers[0], &answers[1]) > 1e-3);
    assert!(largest_difference(&answers[1], &answers[2]) > 1e-3);
    for row in answers[0].chunks(5) {
        assert!((row.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[test]
fn a_change_of_the_flat_buffer_is_a_change_of_every_parameter() {
    let model = with_formula(&convnet(&[4, 6], 5, 1));
    let input = model.normalize(&pixels([4, 3, 12, 12]));
    let pass = [Slice { branch: Branch::Main, count: 4 }];
    let first = model.forward(&input, Pass::Train(&pass));
    let gradient = Tensor::cat(&model.gradient(&first.sum(Kind::Float), None).unwrap().0, 0);
    // The unused branch has no gradient.
    let mut offset = 0;
    for (name, leaf) in model.parameters() {
        let largest = f64::try_from(gradient.narrow(0, offset, leaf.numel() as i64).abs().max()).unwrap();
        assert_eq!(largest == 0.0, name.contains("aux1"), "{name} {largest}");
        offset += leaf.numel() as i64;
    }
    let step = model.flat_parameters().numel() as i64;
    tch::no_grad(|| {
        let mut flat = model.flat_parameters().shallow_clone();
        let numbered = model.from_file_order(&Tensor::arange(step, (Kind::Float, Device::Cpu))).unwrap();
        let _ = flat.g_add_(&numbered);
    });
    let start = formula::weights(model.network());
    let mut offset = 0.0;
    for (name, leaf) in model.parameters() {
        assert!(leaf.is_leaf() && leaf.requires_grad());
        for (i, (new, old)) in list(leaf).iter().zip(&start.tensors[name].data).enumerate() {
            assert_eq!(*new, old + (offset + i as f32), "{name}[{i}]");
        }
        offset += leaf.numel() as f32;
    }
    let second = model.forward(&input, Pass::Train(&pass));
    assert!(largest_difference(&list(&first), &list(&second)) > 1e-3);
}

#[test]
fn what_lies_in_the_buffer_goes_to_files_in_the_order_of_the_network() {
    let model = with_formula(&convnet(&[4, 6], 5, 1));
    let trained = model.parameters().into_iter().flat_map(|(_, tensor)| list(tensor)).collect::<Vec<_>>();
    let lying = list(model.flat_parameters());
    assert_ne!(lying, trained, "kernels of 3×3 lie channels last on the CPU");
    assert_eq!(list(&model.to_file_order(model.flat_parameters()).unwrap()), trained);
    assert_eq!(list(&model.from_file_order(&Tensor::from_slice(&trained)).unwrap()), lying);
    assert!(model.to_file_order(&Tensor::from_slice(&trained[1..])).is_err());
}

#[test]
fn products_are_the_convolutions_that_they_stand_for() {
    // Kernels of stage 4 have a million entries, for four pixels of output; strides in front and behind.
    let network = build(&BackboneSpec::Resnet { depth: 50, stride_in: StrideIn::Conv1 }, 8, 1).unwrap();
    let slices = [Slice { branch: Branch::Main, count: 2 }, Slice { branch: Branch::Aux(1), count: 2 }];
    let [convolved, multiplied] = [false, true].map(|products| {
        let mut model = Model::new(&network, 5, Device::Cpu).unwrap();
        model.products = products;
        let maps = Tensor::zeros([4, 1024, 3, 3], (Kind::Float, Device::Cpu));
        let chosen = (0..network.nodes.len()).filter(|&i| model.is_product(i, &maps)).count();
        assert_eq!(chosen > 20, products, "{chosen}");
        let input = model.normalize(&pixels([4, 3, 65, 65])).set_requires_grad(true);
        // By running statistics: those of four images enlarge what the last bit of a sum leaves.
        let embedding = model.forward(&input, Pass::Frozen(&slices));
        let loss = (&embedding * embedding.roll([1], [0])).sum(Kind::Float);
        let (gradient, own) = model.gradient(&loss, Some(&input)).unwrap();
        // Attacks have their norms inside the convolutions.
        let attacked = model.inference(Branch::Aux(1)).unwrap().forward(&input).unwrap();
        let loss = (&attacked * attacked.roll([1], [0])).sum(Kind::Float);
        let toward = Tensor::run_backward(&[loss], &[&input], false, false).remove(0);
        [embedding, Tensor::cat(&gradient, 0), own.unwrap(), attacked, toward].map(|tensor| list(&tensor))
    });
    assert_ne!(convolved[1], multiplied[1], "a training pass takes products");
    assert_ne!(convolved[4], multiplied[4], "an attack takes products");
    // The last bit of a sum may decide on which side of a kink an activation lies, and a gradient then jumps.
    for ((a, b), limit) in convolved.iter().zip(&multiplied).zip([1e-4, 1e-2, 1e-2, 1e-4, 1e-2]) {
        let off = relative(a, b);
        assert!(off < limit, "{off}");
    }
}

#[test]
fn in_place_steps_change_no_gradient() {
    // The same network with every overwriting step switched off is the reference.
    let network = build(&BackboneSpec::Resnet { depth: 18, stride_in: StrideIn::Conv2 }, 8, 0).unwrap();
    let gradients = [true, false].map(|in_place| {
        let mut model = with_formula(&network);
        model.steps.iter_mut().for_each(|s| s.in_place &= in_place);
        let input = model.normalize(&pixels([2, 3, 33, 33])).set_requires_grad(true);
        let embedding = model.forward(&input, Pass::Train(&[Slice { branch: Branch::Main, count: 2 }]));
        let loss = (&embedding * embedding.roll([1], [0])).sum(Kind::Float);
        let wanted: Vec<_> = model.parameters().into_iter().map(|(_, t)| t).chain(std::iter::once(&input)).collect();
        Tensor::run_backward(&[&loss], &wanted, false, false).iter().map(list).collect::<Vec<_>>()
    });
    assert_eq!(gradients[0], gradients[1]);
}

/// Not in the repository; looked for beside it.
const PRETRAINED: &str = "shared/data/resnet50-v1-imagenet-f16.safetensors";

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn the_imagenet_file_fills_a_resnet50_with_the_stride_in_its_first_convolution() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(path) = root.ancestors().skip(1).map(|folder| folder.join(PRETRAINED)).find(|p| p.exists()) else {
        eprintln!("skipped: no {PRETRAINED} in a folder above {}", root.display());
        return;
    };
    let backbone = BackboneSpec::Resnet { depth: 50, stride_in: StrideIn::Conv1 };
    let network = build(&backbone, 8, 1).unwrap();
    let (file, _) = Weights::load(&path).unwrap();
    let mut weights = formula::weights(&network);
    let report = apply_pretrained(&network, &mut weights, &file, AuxiliaryStart::CopyAll);
    report.check(&network).unwrap();
    assert_eq!(report.missing, ["embedding.weight", "embedding.bias"]);
    assert_eq!(report.unexpected, [""; 0]);
    let model = Model::from_weights(&network, &weights, Device::Cpu).unwrap();
    let input = model.normalize(&pixels([2, 3, 64, 64]));
    let answers = [Branch::Main, Branch::Aux(1)].map(|b| list(&tch::no_grad(|| model.forward(&input, Pass::Eval(b)))));
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].iter().all(|v| v.is_finite()));
    // The other stride has the same shapes and other features.
    let v15 = build(&BackboneSpec::Resnet { depth: 50, stride_in: StrideIn::Conv2 }, 8, 1).unwrap();
    let v15 = Model::from_weights(&v15, &weights, Device::Cpu).unwrap();
    let other = list(&tch::no_grad(|| v15.forward(&input, Pass::Eval(Branch::Main))));
    assert!(largest_difference(&answers[0], &other) > 1e-2);
}

#[test]
fn first_weights_follow_pytorchs_distributions_and_only_the_seed() {
    let network = convnet(&[16, 32], 64, 1);
    let [a, b, c] = [1, 1, 2].map(|seed| Model::new(&network, seed, Device::Cpu).unwrap().to_weights());
    assert_eq!(a, b);
    assert_ne!(a.tensors["block1.conv.weight"], c.tensors["block1.conv.weight"]);
    let conv = &a.tensors["block2.conv.weight"].data;
    let bound = 1.0 / (16.0 * 9.0_f32).sqrt();
    assert!(conv.iter().all(|v| v.abs() <= bound));
    // Variance of a uniform draw in ±b is b²/3; 4,608 draws know it to about 1 %.
    assert!((variance(conv) / (bound * bound / 3.0) - 1.0).abs() < 0.06);
    assert!(a.tensors["embed.bias"].data.iter().all(|v| v.abs() <= 1.0 / 32.0_f32.sqrt()));
    assert_eq!(a.tensors["block1.bn.aux1.weight"].data, [1.0; 16]);
    assert_eq!(a.tensors["block1.bn.aux1.running_mean"].data, [0.0; 16]);

    let resnet = build(&BackboneSpec::Resnet { depth: 18, stride_in: StrideIn::Conv2 }, 8, 0).unwrap();
    let weights = Model::new(&resnet, 1, Device::Cpu).unwrap().to_weights();
    let conv = &weights.tensors["layer1.0.conv1.weight"].data;
    assert!((variance(conv) / (2.0 / (64.0 * 9.0)) - 1.0).abs() < 0.03);
}

fn variance(values: &[f32]) -> f32 {
    values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32
}

#[test]
fn weights_of_another_network_are_refused_and_nothing_changes() {
    let mut model = with_formula(&convnet(&[4, 6], 5, 1));
    let before = model.to_weights();
    let refuse = |model: &mut Model, weights: &Weights| model.load_weights(weights).unwrap_err().to_string();
    let plain = formula::weights(&convnet(&[4, 6], 5, 0));
    assert!(refuse(&mut model, &plain).contains("`block1.bn.aux1.weight`"));
    let more = formula::weights(&convnet(&[4, 6], 5, 2));
    assert!(refuse(&mut model, &more).contains("`block1.bn.aux2.bias`"));
    let wide = formula::weights(&convnet(&[4, 7], 5, 1));
    let text = refuse(&mut model, &wide);
    assert!(text.contains("`block2.conv.weight` has shape [7, 4, 3, 3], wanted [6, 4, 3, 3]"), "{text}");
    assert_eq!(model.to_weights(), before);
}

#[test]
fn a_pass_that_does_not_fit_the_batch_is_an_error() {
    let model = with_formula(&convnet(&[4], 5, 1));
    let input = model.normalize(&pixels([4, 3, 8, 8]));
    let short = [Slice { branch: Branch::Main, count: 3 }];
    assert!(model.try_forward(&input, Pass::Train(&short)).unwrap_err().to_string().contains("[3]"));
    let empty = [Slice { branch: Branch::Main, count: 4 }, Slice { branch: Branch::Aux(1), count: 0 }];
    assert!(model.try_forward(&input, Pass::Train(&empty)).unwrap_err().to_string().contains("[4, 0]"));
    let error = model.try_forward(&input, Pass::Eval(Branch::Aux(2))).unwrap_err().to_string();
    assert!(error.contains("no branch `aux2`"), "{error}");
}

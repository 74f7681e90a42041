//! Steps against plain PyTorch: same weights, batch, targets and noise.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Tensor};

use super::*;
use crate::network::build;
use crate::network::weights::Weights;
use crate::suite::recipe::Preset;
use crate::train::fixture::recipe;

const TWO_BRANCHES: &str = "mdprop = { branches = [{ targets = 1 }, { targets = 2 }] }";

fn furthest(a: &Tensor, b: &Tensor) -> f64 {
    (a.reshape([-1]) - b.reshape([-1])).abs().max().double_value(&[])
}

struct Fixture(BTreeMap<String, crate::network::weights::Tensor>);

impl Fixture {
    fn load(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/train/step-{name}.safetensors"));
        Self(Weights::load(&path).unwrap().0.tensors)
    }

    fn tensor(&self, name: &str) -> Tensor {
        let tensor = &self.0[name];
        let shape: Vec<i64> = tensor.shape.iter().map(|&s| s as i64).collect();
        Tensor::from_slice(&tensor.data).reshape(shape)
    }

    fn model(&self) -> Weights {
        let own = self.0.iter().filter_map(|(k, v)| Some((k.strip_prefix("model.")?.to_string(), v.clone())));
        Weights { tensors: own.collect() }
    }

    fn draws(&self) -> Vec<Draws> {
        let group = |g: usize| {
            let targets = self.0.get(&format!("targets.{g}"))?;
            let rows = targets.data.chunks(targets.shape[1]);
            let targets = rows.map(|row| row.iter().map(|&v| v as i64).collect()).collect();
            Some(Draws { targets, noise: self.0[&format!("noise.{g}")].data.clone() })
        };
        (0..).map_while(group).collect()
    }
}

/// Runs the step of a fixture and compares adversarial images, loss, gradients and running statistics.
fn check(name: &str, method: &str, preset: Preset, epsilon: &str, steps: usize) {
    let fixture = Fixture::load(name);
    let mut recipe = recipe(method);
    recipe.preset = preset;
    recipe.embedding_dim = 5;
    recipe.optimizer.weight_decay = 0.0;
    recipe.backbone = toml::from_str("convnet = { widths = [4, 6] }").unwrap();
    recipe.attack = Some(toml::from_str(&format!("epsilon = {epsilon}\nsteps = {steps}")).unwrap());
    let network = build(&recipe.backbone, 5, recipe.method.auxiliary_branches()).unwrap();
    let mut model = Model::new(&network, 0, Device::Cpu).unwrap();
    model.load_weights(&fixture.model()).unwrap();
    let mut trainer = Trainer::new(&recipe, model, &[0, 1, 2, 3], 0).unwrap();
    let (pixels, draws) = (fixture.tensor("pixels"), fixture.draws());

    let adversarial = trainer.attack(&trainer.model.normalize(&pixels), &draws).unwrap();
    assert_eq!(adversarial.len(), draws.len());
    for (g, ours) in adversarial.iter().enumerate() {
        let off = furthest(ours, &fixture.tensor(&format!("adversarial.{g}")));
        assert!(off < 1e-5, "{name}: adversarial images of group {g} are off by {off}");
    }

    let loss =
        trainer.step(&pixels, &[0, 0, 1, 1, 2, 2, 3, 3], &draws, 1e-3, &mut rng::stream(0, "test", &[])).unwrap();
    let wanted = fixture.tensor("loss").double_value(&[0]);
    assert!((loss - wanted).abs() < 1e-5, "{name}: loss {loss} against {wanted}");

    // After one step without weight decay, Adam's mean is a tenth of the gradient.
    let gradients: Vec<Tensor> = trainer
        .model
        .parameters()
        .iter()
        .map(|(k, _)| fixture.tensor(&format!("gradient.{k}")).reshape([-1]))
        .collect();
    let wanted = Tensor::cat(&gradients, 0);
    let mean = trainer.model.to_file_order(trainer.adam.moments().0).unwrap();
    let off = furthest(&(mean * 10.0), &wanted);
    let largest = wanted.abs().max().double_value(&[]);
    assert!(off < 1e-5 && off < 1e-4 * largest, "{name}: gradient is off by {off}, its largest entry is {largest}");

    let buffers = trainer.model.buffers();
    assert_eq!(buffers.len(), 4 * network.branches().len());
    for (key, ours) in buffers {
        let off = furthest(ours, &fixture.tensor(&format!("after.{key}")));
        assert!(off < 1e-5, "{name}: {key} is off by {off}");
    }
}

#[test]
fn a_step_of_the_code_preset_matches_pytorch() {
    check(
        "code",
        "mdprop = { branches = [{ targets = 1 }, { targets = 3 }] }",
        Preset::Code,
        "{ normalized = 0.1 }",
        1,
    );
    check("code-two-steps", TWO_BRANCHES, Preset::Code, "{ normalized = 0.3 }", 2);
}

#[test]
fn a_step_of_the_paper_preset_matches_pytorch() {
    check("paper", TWO_BRANCHES, Preset::Paper, "{ normalized = 0.1 }", 1);
    check("paper-pixels", TWO_BRANCHES, Preset::Paper, "\"8/255\"", 2);
}

#[test]
fn a_step_of_adversarial_training_matches_pytorch() {
    check("paper-adversarial", "adversarial = {}", Preset::Paper, "{ normalized = 0.1 }", 1);
}

fn trainer(method: &str) -> Trainer {
    let recipe = recipe(method);
    let network = build(&recipe.backbone, recipe.embedding_dim, recipe.method.auxiliary_branches()).unwrap();
    Trainer::new(&recipe, Model::new(&network, 3, Device::Cpu).unwrap(), &[0, 1, 2, 3], 0).unwrap()
}

#[test]
fn parts_cover_an_odd_batch_as_the_official_halves_do() {
    assert_eq!(parts(5, 2), [0..2, 2..5]);
    assert_eq!(parts(8, 3), [0..2, 2..5, 5..8]);
    let mut trainer = trainer(TWO_BRANCHES);
    let labels = [0, 0, 1, 1, 2];
    let draws = trainer.draw(1, (0, 0), &labels, 3 * 8 * 8);
    let pixels = Tensor::rand([5, 3, 8, 8], (tch::Kind::Float, Device::Cpu));
    assert!(trainer.step(&pixels, &labels, &draws, 1e-3, &mut rng::stream(0, "test", &[])).unwrap().is_finite());
}

#[test]
fn draws_are_named_by_position_and_approach_distinct_other_identities() {
    let trainer = trainer("advprop = {}");
    let labels: Vec<u32> = (0..12).map(|i| i / 2).collect();
    let first = trainer.draw(1, (0, 3), &labels, 4);
    assert_eq!(first, trainer.draw(1, (0, 3), &labels, 4));
    for other in
        [trainer.draw(2, (0, 3), &labels, 4), trainer.draw(1, (1, 3), &labels, 4), trainer.draw(1, (0, 4), &labels, 4)]
    {
        assert_ne!(first, other);
    }
    assert_eq!(first[0].noise.len(), 48);
    assert!(first[0].noise.iter().all(|v| v.abs() <= 0.0005) && first[0].noise.iter().any(|v| v.abs() > 0.0004));

    let adversary = trainer.adversary.as_ref().unwrap();
    for counter in 0..20 {
        let mut rng = rng::stream(1, "test", &[counter]);
        let draws = adversary.draw(&mut rng, &labels, (BranchGoal::OtherIdentity, 5), 0);
        for (i, own) in labels.iter().enumerate() {
            let mut seen: Vec<u32> = draws.targets.iter().map(|list| labels[list[i] as usize]).collect();
            seen.push(*own);
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4, 5], "five distinct identities and none the own");
        }
    }
}

#[test]
fn too_few_other_identities_are_used_in_turn() {
    let trainer = trainer("advprop = {}");
    let adversary = trainer.adversary.as_ref().unwrap();
    let draws = adversary.draw(&mut rng::stream(1, "test", &[]), &[7, 7, 8], (BranchGoal::OtherIdentity, 3), 0);
    assert!(draws.targets.iter().all(|list| list[0] == 2 && list[1] == 2 && list[2] < 2));
    let alone = adversary.draw(&mut rng::stream(1, "test", &[]), &[7, 7, 7], (BranchGoal::OtherIdentity, 2), 0);
    assert_eq!(alone.targets.len(), 2);
}

#[test]
fn the_attack_stays_in_its_ball_lowers_the_distance_and_leaves_the_model_alone() {
    let trainer = trainer("advprop = {}");
    let labels = [0, 0, 1, 1, 2, 2];
    let draws = trainer.draw(1, (0, 0), &labels, 3 * 8 * 8);
    let clean = trainer.model.normalize(&Tensor::rand([6, 3, 8, 8], (tch::Kind::Float, Device::Cpu)));
    let before = trainer.model.to_weights();
    let adversarial = trainer.attack(&clean, &draws).unwrap().remove(0);
    assert_eq!(trainer.model.to_weights(), before);
    assert!(!adversarial.requires_grad());
    assert!(trainer.model.parameters().iter().all(|(_, p)| !p.grad().defined()));
    let moved = furthest(&adversarial, &clean);
    assert!(moved <= 0.1 + 1e-6 && moved > 0.09, "moved by {moved}");
    let embed = |x: &Tensor| tch::no_grad(|| trainer.model.forward(x, Pass::Eval(Branch::Aux(1))));
    let targets = embed(&clean).index_select(0, &Tensor::from_slice(&draws[0].targets[0]));
    let distance = |x: &Tensor| (embed(x) - &targets).square().sum(Kind::Float).double_value(&[]);
    assert!(distance(&adversarial) < distance(&clean));
}

#[test]
fn unadversarial_targets_are_other_images_of_the_same_identity() {
    let trainer = trainer("adversarial = { targets = 2, goal = \"same-identity\" }");
    let adversary = trainer.adversary.as_ref().unwrap();
    let labels = [0, 1, 0, 0, 2, 1];
    for counter in 0..10 {
        let mut rng = rng::stream(1, "test", &[counter]);
        let targets = adversary.draw(&mut rng, &labels, (BranchGoal::SameIdentity, 2), 0).targets;
        let pair = |i: usize| (targets[0][i], targets[1][i]);
        assert!([(2, 3), (3, 2)].contains(&pair(0)));
        assert_eq!((pair(1), pair(5)), ((5, 5), (1, 1)));
        assert_eq!(pair(4), (4, 4), "a lone image has only itself");
    }
}

#[test]
fn frozen_norms_keep_their_statistics_and_train_scale_and_shift() {
    let mut recipe = recipe("standard = {}");
    recipe.norms = Norms::Frozen;
    let network = build(&recipe.backbone, recipe.embedding_dim, 0).unwrap();
    let labels = [0, 0, 1, 1, 2, 2];
    let mut trainer = Trainer::new(&recipe, Model::new(&network, 3, Device::Cpu).unwrap(), &labels, 0).unwrap();
    let before = trainer.model.to_weights();
    tch::manual_seed(5);
    let pixels = Tensor::rand([6, 3, 8, 8], (tch::Kind::Float, Device::Cpu));
    trainer.step(&pixels, &labels, &[], 1e-3, &mut rng::stream(0, "test", &[])).unwrap();
    let after = trainer.model.to_weights();
    let mut moved = 0;
    for spec in network.parameters() {
        let same = before.tensors[&spec.name] == after.tensors[&spec.name];
        assert!(same || spec.kind.is_trained(), "{} moved", spec.name);
        moved += usize::from(!same && spec.name.contains("bn"));
    }
    assert!(moved >= 2, "scale and shift of the norms must move, {moved} did");
}

#[test]
fn parameter_groups_have_their_rates_and_a_long_gradient_is_cut() {
    let mut recipe = recipe("advprop = {}");
    recipe.optimizer.weight_decay = 0.0;
    recipe.optimizer.auxiliary_learning_rate = Some(1e-12);
    recipe.optimizer.head_learning_rate = Some(1e-12);
    let network = build(&recipe.backbone, recipe.embedding_dim, 1).unwrap();
    let labels = [0, 0, 1, 1, 2, 2];
    tch::manual_seed(6);
    let pixels = Tensor::rand([6, 3, 8, 8], (tch::Kind::Float, Device::Cpu));
    let run = |recipe: &Recipe| {
        let model = Model::new(&network, 3, Device::Cpu).unwrap();
        let mut trainer = Trainer::new(recipe, model, &labels, 0).unwrap();
        let before = trainer.model.to_weights();
        let draws = trainer.draw(1, (0, 0), &labels, 3 * 8 * 8);
        let rate = recipe.optimizer.learning_rate;
        trainer.step(&pixels, &labels, &draws, rate, &mut rng::stream(0, "test", &[])).unwrap();
        let length = trainer.adam.moments().0.norm().double_value(&[]) * 10.0;
        let after = trainer.model.to_weights();
        let distance = |name: &str| {
            let pairs = before.tensors[name].data.iter().zip(&after.tensors[name].data);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max)
        };
        let of = |wanted: &dyn Fn(&ParameterSpec) -> bool| {
            let specs = network.parameters().into_iter().filter(|s| s.kind.is_trained() && wanted(s));
            specs.map(|s| distance(&s.name)).fold(0.0f32, f32::max)
        };
        let auxiliary = of(&|s| matches!(s.branch, Some(Branch::Aux(_))));
        let head = of(&|s| s.name.starts_with("embedding."));
        let rest = of(&|s| s.branch.is_none() && !s.name.starts_with("embedding."));
        (auxiliary, head, rest, length)
    };
    let (auxiliary, head, rest, length) = run(&recipe);
    assert!(auxiliary < 1e-8 && head < 1e-8 && rest > 5e-3, "{auxiliary} {head} {rest}");
    recipe.optimizer.clip_norm = Some(length / 4.0);
    assert!((run(&recipe).3 - length / 4.0).abs() < 1e-4 * length);
    recipe.optimizer.clip_norm = Some(length * 4.0);
    assert!((run(&recipe).3 - length).abs() < 1e-4 * length);
}

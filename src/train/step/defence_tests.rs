//! Defended steps against plain PyTorch, and what the defences promise.

use std::path::Path;

use tch::{Device, Tensor};

use super::*;
use crate::network::build;
use crate::network::weights::Weights;
use crate::train::fixture::recipe;

const EUCLIDEAN: &str = "loss.triplet = { distance = \"euclidean\", miner.hardest = {} }";

fn defended(method: &str, loss: &str, attack: &str) -> Recipe {
    let mut recipe = recipe(method);
    let table: toml::Table = toml::from_str(&format!("{loss}\nattack = {attack}\n")).unwrap();
    recipe.loss = table["loss"].clone().try_into().unwrap();
    recipe.attack = Some(table["attack"].clone().try_into().unwrap());
    recipe.quirks.start_noise = Some(0.0);
    recipe.optimizer.weight_decay = 0.0;
    recipe.backbone = toml::from_str("convnet = { widths = [4, 6] }").unwrap();
    recipe.embedding_dim = 5;
    recipe
}

fn furthest(a: &Tensor, b: &Tensor) -> f64 {
    (a.reshape([-1]) - b.reshape([-1])).abs().max().double_value(&[])
}

struct Fixture(Weights);

impl Fixture {
    fn load(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/train/defence-{name}.safetensors"));
        Self(Weights::load(&path).unwrap().0)
    }

    fn tensor(&self, name: &str) -> Tensor {
        let tensor = &self.0.tensors[name];
        let shape: Vec<i64> = tensor.shape.iter().map(|&s| s as i64).collect();
        Tensor::from_slice(&tensor.data).reshape(shape)
    }

    fn trainer(&self, recipe: &Recipe) -> Trainer {
        let own = self.0.tensors.iter().filter_map(|(k, v)| Some((k.strip_prefix("model.")?.to_string(), v.clone())));
        let network = build(&recipe.backbone, recipe.embedding_dim, 0).unwrap();
        let mut model = Model::new(&network, 0, Device::Cpu).unwrap();
        model.load_weights(&Weights { tensors: own.collect() }).unwrap();
        Trainer::new(recipe, model, &[0, 1, 2, 3], 0).unwrap()
    }

    /// Loss, gradient and running statistics after a step.
    fn compare(&self, name: &str, trainer: &Trainer, loss: f64) {
        let wanted = self.tensor("loss").double_value(&[0]);
        assert!((loss - wanted).abs() < 1e-5, "{name}: loss {loss} against {wanted}");
        let parameters = trainer.model.parameters();
        let gradients: Vec<Tensor> =
            parameters.iter().map(|(k, _)| self.tensor(&format!("gradient.{k}")).reshape([-1])).collect();
        // After one step without weight decay, Adam's mean is a tenth of the gradient.
        let mean = trainer.model.to_file_order(trainer.adam.moments().0).unwrap();
        let off = furthest(&mean, &(Tensor::cat(&gradients, 0) / 10.0));
        assert!(off < 1e-5, "{name}: a tenth of the gradient is off by {off}");
        for (key, ours) in trainer.model.buffers() {
            let off = furthest(ours, &self.tensor(&format!("after.{key}")));
            assert!(off < 1e-5, "{name}: {key} is off by {off}");
        }
    }
}

const LABELS: [u32; 8] = [0, 0, 1, 1, 2, 2, 3, 3];

fn check(name: &str, method: &str, attack: &str, previous: Option<f64>) {
    let fixture = Fixture::load(name);
    let mut trainer = fixture.trainer(&defended(method, EUCLIDEAN, attack));
    trainer.restore_previous(previous);
    let pixels = fixture.tensor("pixels");
    let loss = trainer.step(&pixels, &LABELS, &[], 1e-3, &mut rng::stream(0, "test", &[])).unwrap();
    fixture.compare(name, &trainer, loss);
}

#[test]
fn steps_of_act_and_hm_match_pytorch() {
    check("act", "act = {}", "{ epsilon = \"8/255\", steps = 3, step_size = \"2/255\" }", None);
    let attack = "{ epsilon = { normalized = 0.1 }, steps = 2, step_size = { normalized = 0.05 } }";
    check("hm-gradual", "hm = {}", attack, Some(0.15));
    check("hm-ics", "hm = { intra_class = 0.5 }", attack, None);
    let constant = "hm = { destination.constant = { value = 2.2 }, intra_class = 0.05 }";
    check("hm-constant", constant, "{ epsilon = { normalized = 0.3 }, steps = 3 }", None);
}

#[test]
fn a_step_of_est_matches_pytorch() {
    let fixture = Fixture::load("est");
    let attack = "{ epsilon = { normalized = 0.1 }, steps = 2 }";
    let mut trainer = fixture.trainer(&defended("est = {}", "loss.multi-similarity = {}", attack));
    let clean = trainer.model.normalize(&fixture.tensor("pixels"));
    let noise: Vec<f32> = Vec::try_from(fixture.tensor("noise").reshape([-1])).unwrap();
    let moved = defence::shift(trainer.adversary.as_ref().unwrap(), &trainer.model, &clean, &noise).unwrap();
    let off = furthest(&moved, &fixture.tensor("adversarial"));
    assert!(off < 1e-5, "shifted images are off by {off}");
    let classes: Vec<i64> = LABELS.iter().map(|&l| i64::from(l)).collect();
    let loss = trainer.joint_loss(vec![moved], &classes, &[], &mut rng::stream(0, "test", &[])).unwrap();
    let loss = trainer.update(&loss, 1e-3, &Silent).unwrap();
    fixture.compare("est", &trainer, loss);
}

/// A step's loss and the trainer after it, with noise as the recipe's preset has it.
fn step(recipe: &Recipe) -> (f64, Trainer) {
    let fixture = Fixture::load("hm-constant");
    let mut trainer = fixture.trainer(recipe);
    let loss = trainer.step(&fixture.tensor("pixels"), &LABELS, &[], 1e-3, &mut rng::stream(3, "test", &[])).unwrap();
    (loss, trainer)
}

#[test]
fn a_destination_as_hard_as_the_source_is_plain_training() {
    let attack = "{ epsilon = { normalized = 0.3 }, steps = 3 }";
    let same = "hm = { destination.triplet = { miner.hardest = {} } }";
    let plain = "hm = { destination.constant = { value = -3 } }";
    let harder = "hm = { destination.triplet = { miner.hardest = {}, boost = 2 } }";
    let loss = |method: &str| step(&defended(method, EUCLIDEAN, attack)).0;
    assert_eq!(loss(same), loss(plain), "no image may move");
    let fixture = Fixture::load("hm-constant");
    let mut trainer = fixture.trainer(&defended(harder, EUCLIDEAN, attack));
    trainer.restore_previous(Some(0.0));
    let pixels = fixture.tensor("pixels");
    let late = trainer.step(&pixels, &LABELS, &[], 1e-3, &mut rng::stream(3, "test", &[])).unwrap();
    assert!(late > loss(plain) + 0.02, "{late} against {}", loss(plain));
}

#[test]
fn a_harder_destination_makes_a_larger_loss() {
    let attack = "{ epsilon = { normalized = 0.3 }, steps = 4 }";
    let at = |value: f64| {
        let method = format!("hm = {{ destination.constant = {{ value = {value} }} }}");
        step(&defended(&method, EUCLIDEAN, attack)).0
    };
    let (easy, middle, hard) = (at(-3.0), at(0.1), at(2.2));
    assert!(easy < middle && middle <= hard && easy < hard, "{easy} {middle} {hard}");
}

#[test]
fn the_gradual_adversary_remembers_the_triplet_loss_without_the_structure_term() {
    let attack = "{ epsilon = { normalized = 0.1 }, steps = 2 }";
    let (loss, trainer) = step(&defended("hm = { intra_class = 0.5 }", EUCLIDEAN, attack));
    let previous = trainer.previous().unwrap();
    assert!(previous < loss && previous >= 0.0, "{previous} of {loss}");
    let (loss, trainer) = step(&defended("act = {}", EUCLIDEAN, attack));
    assert_eq!(trainer.previous(), Some(loss));
}

#[test]
fn triplet_defences_refuse_another_loss() {
    let recipe = defended("act = {}", "loss.multi-similarity = {}", "{ epsilon = \"8/255\", steps = 1 }");
    let network = build(&recipe.backbone, 5, 0).unwrap();
    let model = Model::new(&network, 0, Device::Cpu).unwrap();
    let refused = Trainer::new(&recipe, model, &[0, 1], 0).err().unwrap().to_string();
    assert!(refused.contains("`act`: builds triplets, got loss `multi-similarity`"), "{refused}");
    let problems = crate::suite::check::recipe_problems(&recipe);
    assert!(problems.iter().any(|p| p.contains("method act makes triplets")), "{problems:?}");
    let mut recipe = defended("est = {}", EUCLIDEAN, "{ epsilon = \"8/255\", steps = 1 }");
    recipe.quirks.start_noise = Some(0.0);
    let problems = crate::suite::check::recipe_problems(&recipe);
    assert!(problems.iter().any(|p| p.contains("no direction to shift")), "{problems:?}");
}

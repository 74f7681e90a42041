//! Every loss against plain loops in PyTorch: value, gradient of the embeddings, gradient of its own parameters.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Fixture {
    labels: Vec<i64>,
    classes: usize,
    embeddings: Vec<f32>,
    features: Vec<f32>,
    feature_shape: Vec<i64>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    loss: f64,
    gradient: Vec<f32>,
    parameters: Vec<f32>,
    parameter_gradient: Vec<f32>,
}

#[derive(Deserialize)]
struct Holder {
    loss: LossSpec,
}

fn spec(text: &str) -> LossSpec {
    toml::from_str::<Holder>(&format!("loss.{text}")).unwrap().loss
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../../tests/data/train/losses.json")).unwrap()
}

fn setting(fixture: &Fixture) -> Setting {
    let dim = fixture.embeddings.len() / fixture.labels.len();
    let channels = fixture.feature_shape[1] as usize;
    Setting { classes: fixture.classes, dim, channels, learning_rate: 1e-3, seed: 1, device: Device::Cpu }
}

/// Value and gradients by embeddings and by the loss's own parameters.
fn evaluate(loss: &dyn Loss, fixture: &Fixture) -> (f64, Tensor, Option<Tensor>) {
    let n = fixture.labels.len() as i64;
    let embeddings = Tensor::from_slice(&fixture.embeddings).reshape([n, -1]).set_requires_grad(true);
    let features = Tensor::from_slice(&fixture.features).reshape(fixture.feature_shape.as_slice());
    let features = loss.wants_features().then_some(&features);
    let random = &mut rng::stream(0, "test", &[]);
    let mut input = LossInput { embeddings: &embeddings, labels: &fixture.labels, features, step: 0, random };
    let value = loss.value(&mut input).unwrap();
    let mut leaves = vec![&embeddings];
    leaves.extend(loss.parameters().map(|own| &own.flat));
    let mut gradients = Tensor::run_backward(&[&value], &leaves, false, false).into_iter();
    (value.double_value(&[]), gradients.next().unwrap(), gradients.next())
}

/// Largest difference, relative to the largest entry.
fn off(got: &Tensor, wanted: &[f32]) -> f64 {
    let wanted = Tensor::from_slice(wanted);
    let scale = wanted.abs().max().double_value(&[]).max(1.0);
    (got.reshape([-1]) - wanted).abs().max().double_value(&[]) / scale
}

#[test]
fn values_and_gradients_match_loops_in_pytorch() {
    let fixture = fixture();
    assert_eq!(fixture.cases.len(), 10);
    for case in &fixture.cases {
        let loss = from_spec(&spec(&case.name), setting(&fixture));
        if let Some(own) = loss.parameters() {
            tch::no_grad(|| own.flat.detach().copy_(&Tensor::from_slice(&case.parameters)));
        }
        let (value, gradient, own) = evaluate(loss.as_ref(), &fixture);
        let difference = (value - case.loss).abs() / case.loss.abs().max(1.0);
        assert!(difference < 1e-5, "{}: {value} against {}", case.name, case.loss);
        assert!(
            off(&gradient, &case.gradient) < 1e-5,
            "{}: gradient off by {}",
            case.name,
            off(&gradient, &case.gradient)
        );
        assert_eq!(own.is_some(), !case.parameters.is_empty(), "{}", case.name);
        if let Some(own) = own {
            let off = off(&own, &case.parameter_gradient);
            assert!(off < 1e-5, "{}: own gradient off by {off}", case.name);
        }
    }
}

#[test]
fn the_official_arcface_margin_changes_nothing_but_the_clamp() {
    let fixture = fixture();
    let value = |text: &str| evaluate(from_spec(&spec(text), setting(&fixture)).as_ref(), &fixture).0;
    let none = value("arcface = { applied = \"no-op\", margin = 0.0 }");
    assert_eq!(value("arcface = { applied = \"no-op\", margin = 0.5 }"), none);
    assert!(value("arcface = { margin = 0.5 }") > value("arcface = { margin = 0.0 }") + 0.5);
}

#[test]
fn feature_distillation_waits_for_its_step() {
    let fixture = fixture();
    let at = |step: u64| {
        let loss = from_spec(&spec("s2sd = { dims = [4], feature_delay = 3 }"), setting(&fixture));
        let n = fixture.labels.len() as i64;
        let embeddings = Tensor::from_slice(&fixture.embeddings).reshape([n, -1]);
        let features = Tensor::from_slice(&fixture.features).reshape(fixture.feature_shape.as_slice());
        let (features, random) = (Some(&features), &mut rng::stream(0, "test", &[]));
        let mut input = LossInput { embeddings: &embeddings, labels: &fixture.labels, features, step, random };
        loss.value(&mut input).unwrap().double_value(&[])
    };
    assert_eq!(at(0), at(2));
    assert!(at(3) > at(2) + 1e-3);
}

#[test]
fn a_batch_without_a_triplet_is_zero_with_a_zero_gradient() {
    let mut fixture = fixture();
    fixture.labels = vec![0; fixture.labels.len()];
    for text in ["triplet = {}", "margin = {}", "contrastive = {}"] {
        let (value, gradient, _) = evaluate(from_spec(&spec(text), setting(&fixture)).as_ref(), &fixture);
        assert_eq!((value, gradient.abs().max().double_value(&[])), (0.0, 0.0), "{text}");
    }
}

#[test]
fn first_values_follow_the_seed() {
    let fixture = fixture();
    let first = |seed: u64| {
        let loss = from_spec(&spec("proxy-anchor = {}"), Setting { seed, ..setting(&fixture) });
        Vec::<f32>::try_from(loss.parameters().unwrap().flat.detach()).unwrap()
    };
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
    assert!(first(1).iter().all(|v| v.abs() <= 1.0 / 6f32.sqrt()));
}

//! Whole trainings of a tiny convnet.

use std::path::Path;

use tch::Device;

use super::fixture::{image_set, recipe};
use super::*;
use crate::dataset::ImageSet;
use crate::progress::{Cancel, Observer, Silent};
use crate::suite::recipe::{Precision, Preset, Recipe, Selection};

fn job<'a>(recipe: &'a Recipe, images: &'a ImageSet, folder: &'a Path, cancel: &'a Cancel) -> TrainJob<'a> {
    TrainJob {
        model: "tiny",
        recipe,
        seed: 1,
        images,
        start: None,
        device: Device::Cpu,
        threads: 1,
        folder,
        observer: &Silent,
        cancel,
    }
}

fn run(recipe: &Recipe, folder: &Path) -> Trained {
    train(&job(recipe, &image_set(), folder, &Cancel::default())).unwrap()
}

/// Asks for a stop after some images.
struct StopAfter {
    cancel: Cancel,
    left: std::sync::atomic::AtomicI64,
}

impl Observer for StopAfter {
    fn advance(&self, done: u64) {
        if self.left.fetch_sub(done as i64, std::sync::atomic::Ordering::Relaxed) <= done as i64 {
            self.cancel.cancel();
        }
    }
}

#[test]
fn a_stopped_training_continues_to_the_same_bits() {
    let mut weights = vec![];
    for (method, precision) in [
        ("standard = {}", Precision::Float32),
        ("mdprop = { branches = [{ targets = 1 }, { targets = 2 }] }", Precision::Float32),
        ("mdprop = { branches = [{ targets = 1 }, { targets = 2 }] }", Precision::Bf16Mixed),
    ] {
        let recipe = Recipe { precision, ..recipe(method) };
        let images = image_set();
        let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let uninterrupted = run(&recipe, whole.path());
        // 36 images make 4 batches of 8: 6 steps are one epoch and a half.
        let cancel = Cancel::default();
        let observer = StopAfter { cancel: cancel.clone(), left: (6 * 8).into() };
        let stop = train(&TrainJob { observer: &observer, ..job(&recipe, &images, stopped.path(), &cancel) });
        assert!(matches!(stop, Err(TrainError::Cancelled(_))), "{stop:?}");
        assert_eq!(run(&recipe, stopped.path()), uninterrupted, "{method}");
        assert_eq!(uninterrupted.curve.len(), 3);
        weights.push(uninterrupted.weights.digest());
    }
    assert_ne!(weights[1], weights[2], "the precision changes the numbers");
}

#[test]
fn a_finished_training_gives_its_result_again_without_a_step() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe("advprop = {}");
    let first = run(&recipe, folder.path());
    let cancel = Cancel::default();
    cancel.cancel();
    let again = train(&job(&recipe, &image_set(), folder.path(), &cancel)).unwrap();
    assert_eq!(again, first);
}

#[test]
fn every_loss_trains_and_continues_to_the_same_bits() {
    for loss in [
        "triplet = {}",
        "margin = { miner.soft-hard = {} }",
        "contrastive = { miner.semi-hard = {} }",
        "normalized-softmax = {}",
        "arcface = {}",
        "proxy-nca = {}",
        "proxy-anchor = {}",
        "s2sd = { dims = [8, 6], feature_delay = 5 }",
    ] {
        let mut recipe = recipe("advprop = {}");
        let text = format!("loss.{loss}");
        let table: toml::Table = toml::from_str(&text).unwrap();
        recipe.loss = table["loss"].clone().try_into().unwrap();
        let images = image_set();
        let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let uninterrupted = run(&recipe, whole.path());
        assert!(uninterrupted.curve.iter().all(|point| point.loss.is_finite()), "{loss}");
        let cancel = Cancel::default();
        let observer = StopAfter { cancel: cancel.clone(), left: (6 * 8).into() };
        let stop = train(&TrainJob { observer: &observer, ..job(&recipe, &images, stopped.path(), &cancel) });
        assert!(matches!(stop, Err(TrainError::Cancelled(_))), "{stop:?}");
        assert_eq!(run(&recipe, stopped.path()), uninterrupted, "{loss}");
    }
}

#[test]
fn every_defence_learns_and_continues_to_the_same_bits() {
    for method in [
        "est = {}",
        "act = {}",
        "hm = { intra_class = 0.5 }",
        "hm = { destination.triplet = { miner.semi-hard = {}, boost = 0.1 } }",
    ] {
        let mut recipe = recipe(method);
        let table: toml::Table =
            toml::from_str("loss.triplet = { distance = \"euclidean\", miner.random = {} }").unwrap();
        recipe.loss = table["loss"].clone().try_into().unwrap();
        let images = image_set();
        let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let uninterrupted = run(&recipe, whole.path());
        assert!(uninterrupted.curve.iter().all(|point| point.loss.is_finite()), "{method}");
        // Three classes of six images: chance is 5/17.
        let best = uninterrupted.curve.iter().filter_map(|point| point.selection_recall).fold(0.0, f64::max);
        assert!(best > 0.5, "{method}: recall@1 {best}");
        let cancel = Cancel::default();
        let observer = StopAfter { cancel: cancel.clone(), left: (6 * 8).into() };
        let stop = train(&TrainJob { observer: &observer, ..job(&recipe, &images, stopped.path(), &cancel) });
        assert!(matches!(stop, Err(TrainError::Cancelled(_))), "{stop:?}");
        assert_eq!(run(&recipe, stopped.path()), uninterrupted, "{method}");
    }
}

#[test]
fn every_method_learns_classes_it_does_not_see() {
    let methods = [
        "standard = {}",
        "adversarial = {}",
        "advprop = {}",
        "mdprop = { branches = [{ targets = 1 }, { targets = 2 }, { targets = 3 }] }",
    ];
    for method in methods {
        let folder = tempfile::tempdir().unwrap();
        let mut recipe = recipe(method);
        recipe.epochs = 6;
        let trained = run(&recipe, folder.path());
        let (first, last) = (&trained.curve[0], &trained.curve[5]);
        assert!(last.loss < first.loss, "{method}: loss from {} to {}", first.loss, last.loss);
        // Three classes of six images: chance is 5/17.
        let best = trained.curve[trained.selected_epoch as usize - 1].selection_recall.unwrap();
        assert!(best > 0.6, "{method}: recall@1 {best}");
        assert_eq!(trained.selected_on, Selection::Validation);
    }
}

#[test]
fn another_seed_or_recipe_refuses_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe("standard = {}");
    recipe.epochs = 1;
    run(&recipe, folder.path());
    recipe.about = "words do not matter".into();
    run(&recipe, folder.path());
    recipe.optimizer.weight_decay = 0.0;
    let refused = train(&job(&recipe, &image_set(), folder.path(), &Cancel::default())).unwrap_err().to_string();
    assert!(refused.contains("belongs to training"), "{refused}");
}

#[test]
fn selection_follows_the_preset_and_needs_images() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe("standard = {}");
    (recipe.preset, recipe.epochs) = (Preset::Code, 1);
    assert_eq!(run(&recipe, &folder.path().join("code")).selected_on, Selection::Test);
    recipe.quirks.selection = Some(Selection::Last);
    let last = run(&recipe, &folder.path().join("last"));
    assert_eq!((last.selected_epoch, last.curve[0].selection_recall), (1, None));
    recipe.quirks.selection = Some(Selection::Validation);
    let mut images = image_set();
    images.split.validation.truncate(1);
    let refused = train(&job(&recipe, &images, folder.path(), &Cancel::default())).unwrap_err().to_string();
    assert!(refused.contains("has no validation image"), "{refused}");
}

#[test]
fn a_backbone_too_deep_for_the_images_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe("standard = {}");
    recipe.backbone = crate::suite::recipe::BackboneSpec::Convnet { widths: vec![4; 5] };
    let refused = train(&job(&recipe, &image_set(), folder.path(), &Cancel::default())).unwrap_err().to_string();
    assert!(refused.contains("8x8 pixels has shrunk") && refused.contains("fewer blocks"), "{refused}");
}

#[test]
fn a_loss_that_is_not_finite_stops_with_the_batch_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe("standard = {}");
    recipe.optimizer.learning_rate = f64::NAN;
    let stop = train(&job(&recipe, &image_set(), folder.path(), &Cancel::default())).unwrap_err();
    assert!(matches!(stop, TrainError::NotFinite { epoch: 1, step: 2, .. }), "{stop}");
    assert!(stop.to_string().contains("image "), "{stop}");
}

#[test]
fn a_method_with_branches_needs_an_attack() {
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe("advprop = {}");
    recipe.attack = None;
    let refused = train(&job(&recipe, &image_set(), folder.path(), &Cancel::default())).unwrap_err().to_string();
    assert!(refused.starts_with("method `advprop`"), "{refused}");
}

//! One file is timed, and searched for a moment where how long a trial takes depends on the model.

use std::collections::BTreeMap;

use super::pilot::{Ground, courses, depends_on_the_model, key};
use super::{Ask, Prices, Scene, prices};
use crate::digest::Digest;
use crate::encoder::Encoder as _;
use crate::encoder::onnx::{OnnxEncoder, OnnxOptions, Runtime};
use crate::run::RunError;
use crate::run::clock::since_start;
use crate::run::models::ReadyModel;
use crate::run::trials;
use crate::suite::attack::{Branch, Method};
use crate::suite::cost::{Course, Sizes, Way, search};
use crate::suite::plan::TrialSpec;

pub(super) fn sizes(scene: &Scene<'_>, batch: usize, lanes: usize) -> Sizes {
    Sizes { queries: scene.queries.chosen.len(), gallery: scene.images.split.test.len(), batch, lanes }
}

/// Whether a trial asks for gradients outside of the attack graph.
fn walks(trial: &TrialSpec) -> bool {
    let legs = trial.epsilon().map(|epsilon| trial.method.legs(epsilon)).unwrap_or_default();
    matches!(trial.method, Method::Universal(_)) || legs.iter().any(|leg| leg.way == Way::Gradient)
}

/// Times a file, unless one of the same network was, and searches a little where its robustness matters.
pub(super) fn look_at(
    ask: &Ask<'_>,
    scene: &Scene<'_>,
    file: &ReadyModel,
    runtime: &Runtime,
    (network, timed): (&Digest, &mut BTreeMap<Digest, (Prices, usize)>),
    searches: bool,
) -> Result<BTreeMap<String, Course>, RunError> {
    let trials = scene.plan.trials(&file.id, &file.branches());
    let open = || -> Result<OnnxEncoder, RunError> {
        let options = OnnxOptions {
            name: Some(file.id.clone()),
            threads: ask.threads,
            clock: Some(since_start),
            batch_size: scene.plan.suite.evaluation.batch_size,
            straight_through: file.straight_through,
            provider: ask.provider,
            scratch: ask.scratch.clone(),
            ..OnnxOptions::default()
        };
        let path = &file.files.get(&Branch::Main).expect("every model has a main branch").path;
        let encoder = OnnxEncoder::open(runtime, path, &options)?;
        let (wanted, got) = (encoder.spec().input, scene.images.size);
        if wanted != [3, got, got] {
            return Err(RunError::InputSize { model: file.id.clone(), wanted, got });
        }
        Ok(encoder)
    };
    let mut encoder = None;
    let (prices, batch) = match timed.get(network) {
        Some(known) => *known,
        None => {
            let gradients = trials.iter().any(|trial| trial.method.needs_gradient());
            let walks = trials.iter().any(walks);
            let (prices, opened) = prices::measure(scene, open, (gradients, walks))?;
            let batch = opened.batch_size();
            encoder = Some(opened);
            timed.insert(network.clone(), (prices, batch));
            (prices, batch)
        }
    };
    let adaptive: Vec<&TrialSpec> = trials.iter().filter(|trial| depends_on_the_model(trial)).collect();
    let mut found = BTreeMap::new();
    if !searches || adaptive.is_empty() {
        return Ok(found);
    }
    let mut encoder = match encoder {
        Some(encoder) => encoder,
        None => open()?,
    };
    let sizes = sizes(scene, batch, prices.lanes);
    let longest = |trial: &TrialSpec| {
        let course = Course::to_the_end();
        prices.seconds(&search(trial, &trial.method, sizes, &course), false)
    };
    let all: f64 = adaptive.iter().map(|trial| longest(trial)).sum();
    let ground = Ground::embed(scene, &mut encoder, (sizes, &prices), 0.02 * all)?;
    let mut left = adaptive;
    while let Some(first) = left.first().copied() {
        let group: Vec<&TrialSpec> = trials::curve_of(&trials, first);
        // Another branch or model that crafts is searched as the model's own main branch is.
        left.retain(|trial| !group.contains(trial));
        if found.contains_key(&key(first)) {
            continue;
        }
        let most = group.iter().map(|trial| longest(trial)).sum();
        found.extend(courses(scene, &mut encoder, &ground, &group, (sizes, &prices, most))?);
    }
    Ok(found)
}

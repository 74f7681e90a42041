//! Checks of recipes: all mistakes are collected, then reported together.

use super::seed_problems;
use crate::suite::loss::LossSpec;
use crate::suite::recipe::{AugmentationSpec, BackboneSpec, Norms, Recipe, ScheduleSpec, TrainingMethod};
use crate::units::Epsilon;

/// Most images of a training batch.
const MOST_IMAGES: usize = 65_536;

/// Every mistake of a recipe, in file order. Empty if there is none.
pub fn recipe_problems(recipe: &Recipe) -> Vec<String> {
    let mut problems = Vec::new();
    if recipe.schema != 1 {
        problems.push(format!("schema = {} is unknown; this program reads schema = 1", recipe.schema));
    }
    problems.extend(seed_problems("recipe", &recipe.seeds));
    network_problems(recipe, &mut problems);
    if recipe.epochs == 0 || recipe.epochs > 100_000 {
        problems.push(format!("epochs = {} is outside 1 to 100000", recipe.epochs));
    }
    if recipe.per_class < 2
        || recipe.batch_size < 2 * recipe.per_class
        || !recipe.batch_size.is_multiple_of(recipe.per_class)
    {
        problems.push(format!(
            "batch_size = {} with per_class = {}: a batch needs at least two classes of at least two images, and a whole number of classes",
            recipe.batch_size, recipe.per_class
        ));
    }
    if recipe.batch_size > MOST_IMAGES {
        problems.push(format!("batch_size = {} is above {MOST_IMAGES} images", recipe.batch_size));
    }
    optimizer_problems(recipe, &mut problems);
    problems.extend(recipe.loss.problems());
    if let AugmentationSpec::ShiftFlip { pixels } = recipe.augmentation
        && pixels > 256
    {
        problems.push(format!("augmentation.shift-flip.pixels = {pixels} is larger than 256"));
    }
    training_problems(recipe, &mut problems);
    problems
}

fn optimizer_problems(recipe: &Recipe, problems: &mut Vec<String>) {
    let optimizer = &recipe.optimizer;
    let rates = [
        ("learning_rate", Some(optimizer.learning_rate)),
        ("head_learning_rate", optimizer.head_learning_rate),
        ("auxiliary_learning_rate", optimizer.auxiliary_learning_rate),
    ];
    for (name, value) in rates {
        // Embeddings have unit length, so that even weights which explode leave a finite loss: nothing later would tell.
        if let Some(value) = value.filter(|v| !(*v > 0.0 && *v <= 1.0)) {
            problems.push(format!(
                "optimizer.{name} = {value:e} is outside 0 (excluded) to 1: Adam moves a weight by about that much in a step"
            ));
        }
    }
    if !(0.0..=1.0).contains(&optimizer.weight_decay) {
        problems.push(format!(
            "optimizer.weight_decay = {:e} is outside 0 to 1: beyond, the decay outweighs every gradient",
            optimizer.weight_decay
        ));
    }
    if let Some(value) = optimizer.clip_norm.filter(|v| !(v.is_finite() && *v > 0.0)) {
        problems.push(format!("optimizer.clip_norm = {value} must be a positive number"));
    }
    match &optimizer.schedule {
        ScheduleSpec::MultiStep { milestones, gamma } => {
            if milestones.is_empty() || !milestones.is_sorted_by(|a, b| a < b) {
                problems.push(format!("schedule.multi-step.milestones = {milestones:?} must be ascending epochs"));
            }
            if !(gamma.is_finite() && *gamma > 0.0) {
                problems.push(format!("schedule.multi-step.gamma = {gamma} must be a positive number"));
            }
        }
        ScheduleSpec::Cosine { minimum } if !(0.0..=optimizer.learning_rate).contains(minimum) => {
            problems.push(format!("schedule.cosine.minimum = {minimum} must be from 0 to the learning rate"));
        }
        _ => {}
    }
}

fn network_problems(recipe: &Recipe, problems: &mut Vec<String>) {
    if recipe.embedding_dim == 0 || recipe.embedding_dim > 65_536 {
        problems.push(format!("embedding_dim = {} is outside 1 to 65536", recipe.embedding_dim));
    }
    match &recipe.backbone {
        BackboneSpec::Convnet { widths } => {
            if widths.is_empty() || widths.len() > 12 || widths.iter().any(|w| *w == 0 || *w > 8192) {
                problems.push(format!("backbone.convnet.widths = {widths:?} must be 1 to 12 numbers from 1 to 8192"));
            }
        }
        BackboneSpec::Resnet { depth, .. } => {
            if ![18, 34, 50, 101, 152].contains(depth) {
                problems.push(format!("backbone.resnet.depth = {depth}; known are 18, 34, 50, 101 and 152"));
            }
        }
    }
}

fn training_problems(recipe: &Recipe, problems: &mut Vec<String>) {
    let adversaries = recipe.method.adversaries();
    match (&recipe.method, &recipe.attack) {
        (TrainingMethod::Standard {}, Some(_)) => {
            problems.push("method standard makes no adversarial images; remove [attack]".into());
        }
        (TrainingMethod::Standard {}, None) => {}
        (_, None) => problems.push(format!(
            "method {} needs [attack] with epsilon and steps, such as epsilon = {{ normalized = 0.01 }}, steps = 1",
            recipe.method.name()
        )),
        (_, Some(attack)) if attack.steps == 0 => problems.push("attack.steps = 0 makes no adversarial images".into()),
        (_, Some(attack)) if matches!(attack.epsilon, Epsilon::L2(_)) => problems.push(
            "attack.epsilon: training takes signed steps in the L∞ norm; write \"8/255\" or { normalized = 0.01 }"
                .into(),
        ),
        _ => {}
    }
    defence_problems(recipe, problems);
    if recipe.norms == Norms::Frozen {
        if recipe.weights.is_none() {
            problems.push("norms = \"frozen\" keeps the statistics of pretrained weights; add [weights]".into());
        }
        if recipe.method.auxiliary_branches() > 0 {
            let method = recipe.method.name();
            problems
                .push(format!("norms = \"frozen\" leaves the branches of {method} without statistics of their own"));
        }
    }
    if let TrainingMethod::Mdprop { branches } = &recipe.method
        && (branches.is_empty() || branches.len() > 8)
    {
        problems.push(format!("method mdprop has {} branches; 1 to 8 are possible", branches.len()));
    }
    let groups = recipe.method.auxiliary_branches().max(1) as usize;
    if !recipe.batch_size.is_multiple_of(groups) {
        problems.push(format!(
            "batch_size = {} does not divide into the {groups} branches; take a multiple of {groups}",
            recipe.batch_size
        ));
    }
    for branch in &adversaries {
        let part = recipe.batch_size / groups;
        if branch.targets == 0 || branch.targets >= part {
            problems.push(format!(
                "targets = {} is impossible: each branch attacks {part} images of a batch, so 1 to {} targets",
                branch.targets,
                part.saturating_sub(1)
            ));
        }
    }
    if let Some(noise) = recipe.quirks.start_noise
        && !(noise.is_finite() && noise >= 0.0)
    {
        problems.push(format!("quirks.start_noise = {noise} must be a number of at least 0"));
    }
}

/// What the ranking defences ask of the rest of a recipe.
fn defence_problems(recipe: &Recipe, problems: &mut Vec<String>) {
    let name = recipe.method.name();
    if recipe.method.wants_triplets() && !matches!(recipe.loss, LossSpec::Triplet { .. }) {
        let got = recipe.loss.name();
        problems.push(format!(
            "method {name} makes triplets, loss is {got}; take loss.triplet = {{ distance = \"euclidean\" }}"
        ));
    }
    if let TrainingMethod::Hm { destination, intra_class } = &recipe.method {
        problems.extend(destination.problem());
        if !(intra_class.is_finite() && *intra_class >= 0.0) {
            problems.push(format!("method.hm.intra_class = {intra_class} must be a number of at least 0"));
        }
    }
    if let (TrainingMethod::Est {}, Some(noise)) = (&recipe.method, recipe.quirks.start_noise)
        && noise == 0.0
    {
        problems.push("method est has no direction to shift to without quirks.start_noise; leave it out".into());
    }
    if let Some(step) = recipe.attack.as_ref().and_then(|attack| attack.step_size.as_ref())
        && step.is_zero()
    {
        problems.push("attack.step_size is 0, so nothing would move".into());
    }
    if matches!(recipe.attack.as_ref().and_then(|attack| attack.step_size.as_ref()), Some(Epsilon::L2(_))) {
        problems.push("attack.step_size: training takes signed steps in the L∞ norm; write \"1/255\"".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(optimizer: &str) -> Vec<String> {
        let text = include_str!("../../../models/smoke-standard.toml");
        let line = text.lines().find(|line| line.starts_with("optimizer")).unwrap();
        let recipe: Recipe = toml::from_str(&text.replace(line, &format!("optimizer = {{ {optimizer} }}"))).unwrap();
        recipe_problems(&recipe)
    }

    #[test]
    fn rates_beyond_all_use_are_refused_and_the_ends_are_not() {
        for fine in ["learning_rate = 1e-5, weight_decay = 4e-4", "learning_rate = 1.0, weight_decay = 0.0"] {
            assert_eq!(problems(fine), Vec::<String>::new());
        }
        for (optimizer, said) in [
            ("learning_rate = 0.0, weight_decay = 0.0", "optimizer.learning_rate = 0e0 is outside"),
            ("learning_rate = 1e30, weight_decay = 0.0", "optimizer.learning_rate = 1e30 is outside"),
            ("learning_rate = nan, weight_decay = 0.0", "optimizer.learning_rate = NaN is outside"),
            ("learning_rate = 1e-3, weight_decay = 1e38", "optimizer.weight_decay = 1e38 is outside 0 to 1"),
            ("learning_rate = 1e-3, weight_decay = -1e-9", "optimizer.weight_decay = -1e-9 is outside 0 to 1"),
            ("learning_rate = 1e-3, weight_decay = 0.0, head_learning_rate = 1.5", "optimizer.head_learning_rate"),
        ] {
            let problems = problems(optimizer);
            assert!(problems.len() == 1 && problems[0].starts_with(said), "{optimizer}: {problems:?}");
        }
    }
}

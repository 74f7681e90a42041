//! Checks of suites and recipes: all mistakes are collected, then reported together.

use std::collections::BTreeSet;

use super::attack::{Branch, CORRUPTION_MEAN, Goal, Method, Robrank, Side, Stop, method_problems};
use super::loss::LossSpec;
use super::published;
use super::recipe::{AugmentationSpec, BackboneSpec, Norms, Recipe, ScheduleSpec, TrainingMethod};
use super::wire::{Attack, Expectation, SuiteWire};
use crate::metric::kind::{Metric, Scope};
use crate::units::Epsilon;

/// Whether `name` can be an id: lower-case words of letters and digits joined by single hyphens.
pub fn is_id(name: &str) -> bool {
    !name.is_empty()
        && name
            .split('-')
            .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// Every mistake of a suite, in file order. Empty if there is none.
pub fn suite_problems(suite: &SuiteWire) -> Vec<String> {
    let mut problems = Vec::new();
    if suite.schema != 1 {
        problems.push(format!("schema = {} is unknown; this program reads schema = 1", suite.schema));
    }
    if suite.about.trim().is_empty() {
        problems.push("about is empty; say in a sentence what the suite answers".into());
    }
    if suite.models.is_empty() {
        problems.push("no [[model]]; name at least one file of models/".into());
    }
    let mut seen = BTreeSet::new();
    for model in &suite.models {
        if !is_id(&model.id) {
            problems.push(format!("model id `{}` must be lower-case words joined by hyphens", model.id));
        }
        if !seen.insert(&model.id) {
            problems.push(format!("model `{}` is named twice", model.id));
        }
        if let Some(seeds) = &model.seeds {
            problems.extend(seed_problems(&format!("model `{}`", model.id), seeds));
        }
    }
    evaluation_problems(suite, &mut problems);
    let mut names = BTreeSet::new();
    for attack in &suite.attacks {
        if !is_id(&attack.name) || attack.name == "clean" {
            problems.push(format!(
                "attack name `{}` must be lower-case words joined by hyphens, and not `clean`",
                attack.name
            ));
        }
        if !names.insert(attack.name.as_str()) {
            problems.push(format!("attack `{}` is named twice", attack.name));
        }
        attack_problems(attack, &mut problems);
        problems.extend(transfer_problems(suite, attack));
    }
    problems.extend(suite.checks.problems());
    for expectation in &suite.expectations {
        expectation_problems(suite, expectation, &mut problems);
    }
    problems.extend(published::problems(suite));
    problems
}

fn seed_problems(owner: &str, seeds: &[u64]) -> Vec<String> {
    let distinct: BTreeSet<_> = seeds.iter().collect();
    let mut problems = Vec::new();
    if seeds.is_empty() {
        problems.push(format!("{owner}: seeds is empty; write at least one, such as seeds = [0]"));
    }
    if distinct.len() != seeds.len() {
        problems.push(format!("{owner}: a seed stands twice in {seeds:?}"));
    }
    problems
}

fn evaluation_problems(suite: &SuiteWire, problems: &mut Vec<String>) {
    let evaluation = &suite.evaluation;
    let ks = &evaluation.recall_at;
    if ks.is_empty() || ks[0] == 0 || ks.windows(2).any(|pair| pair[0] >= pair[1]) {
        problems.push(format!("evaluation.recall_at = {ks:?} must be ascending numbers from 1, such as [1, 2, 4, 8]"));
    }
    if ks.last().is_some_and(|&k| k > 1000) {
        problems.push("evaluation.recall_at goes beyond 1000 neighbours".into());
    }
    metric_problems(&evaluation.metrics, problems);
    if evaluation.queries == Some(0) {
        problems.push("evaluation.queries = 0 measures nothing; leave it out to use every test image".into());
    }
    if !(1..=100).contains(&evaluation.cluster_restarts) {
        problems.push(format!("evaluation.cluster_restarts = {} is outside 1 to 100", evaluation.cluster_restarts));
    }
    if evaluation.batch_size == 0 || evaluation.batch_size > 4096 {
        problems.push(format!("evaluation.batch_size = {} is outside 1 to 4096", evaluation.batch_size));
    }
    if evaluation.gallery > 50 {
        problems.push(format!("evaluation.gallery = {} would make an unreadable page; at most 50", evaluation.gallery));
    }
}

fn metric_problems(metrics: &[Metric], problems: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for metric in metrics {
        let at = |text: &str| format!("evaluation.metrics: {metric} {text}");
        match metric {
            Metric::RecallAt(k) => problems.push(at(&format!("has a list of its own; write {k} into recall_at"))),
            Metric::Success | Metric::Shift => problems.push(at("is always measured; leave it out")),
            other if other.scope() == Scope::Robrank => problems.push(at("is measured by goal.robrank; leave it out")),
            other if other.scope() == Scope::Suite => problems.push(at("is always in the report; leave it out")),
            _ => {}
        }
        if !seen.insert(metric) {
            problems.push(at("stands twice"));
        }
    }
}

fn attack_problems(attack: &Attack, problems: &mut Vec<String>) {
    let at = |text: String| format!("attack `{}`: {text}", attack.name);
    if let Goal::MultiTarget { targets, .. } = &attack.goal
        && (*targets == 0 || *targets > 1000)
    {
        problems.push(at(format!("targets = {targets} is outside 1 to 1000")));
    }
    if let Goal::SameIdentity { targets } = &attack.goal
        && (*targets == 0 || *targets > 1000)
    {
        problems.push(at(format!("targets = {targets} is outside 1 to 1000")));
    }
    if let Goal::Robrank(robrank) = &attack.goal {
        problems.extend(robrank_problems(robrank, attack).into_iter().map(at));
    }
    if attack.crafted_on.is_empty() {
        problems.push(at("crafted_on is empty; leave it out to use the main branch".into()));
    }
    problems.extend(method_problems(&attack.method, &attack.goal, attack.side).into_iter().map(at));
}

/// Mistakes of an attack that crosses models.
fn transfer_problems(suite: &SuiteWire, attack: &Attack) -> Vec<String> {
    let at = |text: String| format!("attack `{}`: {text}", attack.name);
    let mut problems = Vec::new();
    let known = |id: &String| id == "all" || suite.models.iter().any(|model| model.id == *id);
    for id in attack.crafted_by.iter().filter(|id| !known(id)) {
        let ids: Vec<&str> = suite.models.iter().map(|model| model.id.as_str()).collect();
        problems
            .push(at(format!("crafted_by names `{id}`, which is no model of this suite; write \"all\" or {ids:?}")));
    }
    let other_branch =
        attack.crafted_on.iter().any(|branch| *branch != Branch::Main) || attack.answered_by != Branch::Main;
    if !attack.crafted_by.is_empty() && other_branch {
        problems.push(at("crafted_by crosses main branches; leave crafted_on and answered_by out".into()));
    }
    problems
}

fn robrank_problems(robrank: &Robrank, attack: &Attack) -> Vec<String> {
    let mut problems = Vec::new();
    let distinct: BTreeSet<_> = robrank.parts.iter().collect();
    if robrank.parts.is_empty() {
        problems.push("parts is empty; leave it out for all of RobRank's attacks".into());
    }
    if distinct.len() != robrank.parts.len() {
        problems.push("a part stands twice in parts".into());
    }
    for (name, count) in [("w", robrank.w), ("m", robrank.m)] {
        if count == 0 || count > 1000 {
            problems.push(format!("{name} = {count} is outside 1 to 1000"));
        }
    }
    if attack.method.stop() == Stop::Broken {
        problems.push("stop = \"broken\" looks at recall@1, which is not what these attacks want; leave it out".into());
    }
    if attack.side != Side::Query {
        problems
            .push("RobRank perturbs one image at a time, as a query or as a candidate: write side = \"query\"".into());
    }
    problems
}

fn expectation_problems(suite: &SuiteWire, expectation: &Expectation, problems: &mut Vec<String>) {
    let at = |text: String| {
        format!("expect {} of `{}` under `{}`: {text}", expectation.metric, expectation.model, expectation.attack)
    };
    if !suite.models.iter().any(|m| m.id == expectation.model) {
        problems.push(at("no such model in this suite".into()));
    }
    match expectation.metric.parse::<Metric>() {
        Err(error) => problems.push(at(error.to_string())),
        Ok(metric) => problems.extend(expected_metric_problems(suite, expectation, metric).into_iter().map(at)),
    }
    if expectation.at_least.is_none() && expectation.at_most.is_none() {
        problems.push(at("give at_least, at_most or both".into()));
    }
    if expectation.attack == "clean" {
        return;
    }
    match expected_attack(suite, expectation) {
        None => problems.push(at("no such attack in this suite".into())),
        Some(attack) => {
            let radii = budgets_in_words(attack);
            match &expectation.epsilon {
                Some(epsilon) if !radii.contains(epsilon) => {
                    problems.push(at(format!("epsilon \"{epsilon}\" is none of the attack's {radii:?}")));
                }
                None if radii.len() > 1 => {
                    problems.push(at(format!("the attack has several radii; add epsilon = one of {radii:?}")));
                }
                _ => {}
            }
        }
    }
}

/// How its rows show their budgets, each once.
fn budgets_in_words(attack: &Attack) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (_, form) in attack.method.forms() {
        for words in form.epsilons().iter().map(|epsilon| form.budget_in_words(epsilon)) {
            if !all.contains(&words) {
                all.push(words);
            }
        }
    }
    if let Method::Corruption(_) = attack.method {
        all.push(CORRUPTION_MEAN.into());
    }
    all
}

/// The entry whose trial, or whose score of several trials, is expected.
fn expected_attack<'a>(suite: &'a SuiteWire, expectation: &Expectation) -> Option<&'a Attack> {
    suite.attacks.iter().find(|attack| attack.has_trial(&expectation.attack))
}

/// Whether the expected metric is measured where it is expected, and whether its bounds are possible.
fn expected_metric_problems(suite: &SuiteWire, expectation: &Expectation, metric: Metric) -> Vec<String> {
    let evaluation = &suite.evaluation;
    if metric.scope() == Scope::Suite {
        return vec!["it belongs to several attacks together and is in the report; expect recall@1 of each".into()];
    }
    let mut problems = Vec::new();
    let attack = expected_attack(suite, expectation);
    let of_robrank = attack.is_some_and(|a| matches!(a.goal, Goal::Robrank(_)));
    if metric.scope() == Scope::Robrank && !of_robrank {
        return vec!["only RobRank's attacks have it".into()];
    }
    let measured = match metric {
        metric if metric.scope() == Scope::Robrank => true,
        Metric::RecallAt(k) => evaluation.recall_at.contains(&k),
        Metric::Success | Metric::Shift => true,
        other => evaluation.metrics.contains(&other),
    };
    if !measured {
        let list = if let Metric::RecallAt(_) = metric { "recall_at" } else { "metrics" };
        problems.push(format!("it is not measured; add it to evaluation.{list}"));
    }
    let of_set = matches!(metric.scope(), Scope::Geometry | Scope::Clustering);
    if of_set && attack.is_some_and(|a| a.side == Side::Query) {
        problems.push("the gallery stays clean under side = \"query\"; expect it under `clean`".into());
    }
    if metric.scope() == Scope::Attack && expectation.attack == "clean" {
        problems.push("only attacks have it".into());
    }
    let aimless = attack.is_some_and(|a| !a.goal.has_success());
    if matches!(metric, Metric::Success | Metric::TargetRank) && aimless {
        problems.push("an untargeted attack has no target".into());
    }
    let (low, high) = metric.about().range;
    for bound in [expectation.at_least, expectation.at_most].into_iter().flatten() {
        if !(low..=high).contains(&bound) {
            let percent = if metric.about().percent { "; 40 % is written as 0.4" } else { "" };
            problems.push(format!("{bound} is outside {low} to {high}{percent}"));
        }
    }
    problems
}

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
    if !(optimizer.learning_rate.is_finite() && optimizer.learning_rate > 0.0) {
        problems.push(format!("optimizer.learning_rate = {} must be a positive number", optimizer.learning_rate));
    }
    if !(optimizer.weight_decay.is_finite() && optimizer.weight_decay >= 0.0) {
        problems.push(format!("optimizer.weight_decay = {} must be a number of at least 0", optimizer.weight_decay));
    }
    let optional = [
        ("head_learning_rate", optimizer.head_learning_rate),
        ("auxiliary_learning_rate", optimizer.auxiliary_learning_rate),
        ("clip_norm", optimizer.clip_norm),
    ];
    for (name, value) in optional {
        if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0)) {
            problems.push(format!("optimizer.{name} = {value} must be a positive number"));
        }
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

//! Checks of suites: all mistakes are collected, then reported together. Those of recipes are in `check/recipe.rs`.

mod recipe;

use std::collections::BTreeSet;

use super::attack::{Branch, CORRUPTION_MEAN, Goal, Method, Robrank, Side, Stop, method_problems};
use super::published;
use super::wire::{Attack, Expectation, SuiteWire};
use crate::metric::kind::{Metric, Scope};
pub use recipe::recipe_problems;

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

//! A suite with its models read and its trials listed, in the order in which they are reported.

use std::path::Path;

use serde::Serialize;

use super::attack::{Branch, Goal, Method, Side};
use super::card::OnnxCard;
use super::load::{ModelSource, SuiteError, read_model, read_suite};
use super::recipe::Recipe;
use super::wire::{Attack, SuiteWire};
use crate::digest::Digest;
use crate::units::Epsilon;

/// Everything a run is going to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The suite's path below `suites/`, without extension (`demo`, `attack/targeted`).
    pub name: String,
    /// The checked suite.
    pub suite: SuiteWire,
    /// Its models in the suite's order.
    pub models: Vec<PlannedModel>,
}

/// A model of the suite.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedModel {
    /// Its id.
    pub id: String,
    /// A recipe or a foreign file.
    pub source: ModelSource,
    /// One trained model per seed; a foreign file has the single seed 0.
    pub seeds: Vec<u64>,
}

impl PlannedModel {
    /// The branches that it has or will have, main first.
    pub fn branches(&self) -> Vec<Branch> {
        match &self.source {
            ModelSource::Onnx(_) => vec![Branch::Main],
            ModelSource::Recipe(recipe) => {
                std::iter::once(Branch::Main).chain((1..=recipe.method.auxiliary_branches()).map(Branch::Aux)).collect()
            }
        }
    }
}

/// One trial of one trained model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrialSpec {
    /// Attack name, or `clean`.
    pub attack: String,
    /// Who is perturbed; `None` for clean.
    pub side: Option<Side>,
    /// What the attacker wants; `None` for clean.
    pub goal: Option<Goal>,
    /// How; its list of radii holds exactly the one of this trial.
    pub method: Method,
    /// Branch whose gradients are used.
    pub crafted_on: Branch,
    /// Branch that answers.
    pub answered_by: Branch,
    /// The model that crafts; `None`: the one that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crafted_by: Option<String>,
    /// The name that random draws go by where it is not `attack`: so trials that differ in who crafts share their targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drawn_as: Option<String>,
    /// Smaller radii of a curve, ascending: this trial begins where the last of them ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Epsilon>,
}

impl TrialSpec {
    /// Whether the main branch of the answering model crafts and answers.
    pub fn is_on_deployed_branch(&self) -> bool {
        self.crafted_by.is_none() && self.crafted_on == Branch::Main && self.answered_by == Branch::Main
    }

    /// The radius; `None` for clean.
    pub fn epsilon(&self) -> Option<&Epsilon> {
        self.method.epsilons().first()
    }
}

impl Plan {
    /// Reads a suite and every model it names.
    ///
    /// # Errors
    /// [`SuiteError`] of the first file that is wrong.
    pub fn read(suite_path: &Path, models: &Path) -> Result<Self, SuiteError> {
        let suite = read_suite(suite_path)?;
        let planned = suite
            .models
            .iter()
            .map(|model| {
                let source = read_model(suite_path, models, &model.id)?;
                let seeds = match (&source, &model.seeds) {
                    (ModelSource::Onnx(_), _) => vec![0],
                    (ModelSource::Recipe(_), Some(seeds)) => seeds.clone(),
                    (ModelSource::Recipe(recipe), None) => recipe.seeds.clone(),
                };
                Ok(PlannedModel { id: model.id.clone(), source, seeds })
            })
            .collect::<Result<Vec<_>, SuiteError>>()?;
        let plan = Self { name: suite_name(suite_path), suite, models: planned };
        let problems = plan.attacks_without_trial();
        if !problems.is_empty() {
            return Err(SuiteError::Problems { path: suite_path.into(), problems });
        }
        Ok(plan)
    }

    /// Attacks on or by branches that no model of the suite has: nothing would be measured, and nothing would say so.
    fn attacks_without_trial(&self) -> Vec<String> {
        let has = |branch: &Branch| self.models.iter().any(|model| model.branches().contains(branch));
        let lost = self.suite.attacks.iter().filter(|a| !has(&a.answered_by) || !a.crafted_on.iter().any(has));
        lost.map(|attack| {
            let crafted: Vec<String> = attack.crafted_on.iter().map(ToString::to_string).collect();
            format!(
                "attack `{}` is crafted on {} and answered by {}: no model of this suite has that branch; a foreign file and \
                 a model of one norm have `main` alone",
                attack.name,
                crafted.join(", "),
                attack.answered_by
            )
        })
        .collect()
    }

    /// Of everything that can change a number: the suite without its prose, and the models.
    pub fn digest(&self) -> Digest {
        let mut suite = self.suite.clone();
        suite.about.clear();
        suite.published.clear();
        suite.checks = Default::default();
        let models: Vec<_> = self
            .models
            .iter()
            .map(|model| match &model.source {
                ModelSource::Recipe(recipe) => (&model.id, Some(without_prose(recipe)), None, &model.seeds),
                ModelSource::Onnx(card) => {
                    let card = OnnxCard { about: String::new(), ..(**card).clone() };
                    (&model.id, None, Some(card), &model.seeds)
                }
            })
            .collect();
        Digest::of_value(&(suite, models))
    }

    /// The trials of one model, clean first. Branches that the model lacks are left out; so is `answered_by` of such a
    /// branch.
    pub fn trials(&self, model: &str, branches: &[Branch]) -> Vec<TrialSpec> {
        let mut trials = vec![TrialSpec {
            attack: "clean".into(),
            side: None,
            goal: None,
            method: Method::None {},
            crafted_on: Branch::Main,
            answered_by: Branch::Main,
            crafted_by: None,
            drawn_as: None,
            after: vec![],
        }];
        for attack in self.suite.attacks.iter().filter(|attack| branches.contains(&attack.answered_by)) {
            for (part, goal) in attack.parts() {
                for crafter in attack.crafters(model, self.models.iter().map(|m| m.id.as_str())) {
                    for (kind, form) in attack.method.forms() {
                        let first = trials.len();
                        trials.extend(radii_and_branches(attack, branches, &form));
                        let by = (!attack.crafted_by.is_empty()).then(|| crafter.unwrap_or(model));
                        let name = [Some(part.as_str()), by, kind].into_iter().flatten().collect::<Vec<_>>().join(":");
                        for trial in &mut trials[first..] {
                            trial.goal = Some(goal.clone());
                            trial.crafted_by = crafter.map(str::to_string);
                            trial.drawn_as = (name != part).then(|| part.clone());
                            trial.attack.clone_from(&name);
                        }
                    }
                }
            }
        }
        trials
    }
}

/// One form of an attack at every radius, on every branch that there is.
fn radii_and_branches(attack: &Attack, branches: &[Branch], method: &Method) -> Vec<TrialSpec> {
    let mut trials = Vec::new();
    for epsilon in method.epsilons() {
        for crafted_on in attack.crafted_on.iter().filter(|b| branches.contains(b)) {
            trials.push(TrialSpec {
                attack: attack.name.clone(),
                side: Some(attack.side),
                goal: Some(attack.goal.clone()),
                method: method.with_epsilons(vec![epsilon.clone()]),
                crafted_on: *crafted_on,
                answered_by: attack.answered_by,
                crafted_by: None,
                drawn_as: None,
                after: smaller_radii(method, epsilon),
            });
        }
    }
    trials
}

impl Plan {
    /// Whether a trial has the largest radius of its attack, or its heaviest severity.
    pub fn is_strongest(&self, trial: &TrialSpec) -> bool {
        let own = |a: &&Attack| a.has_trial(&trial.attack);
        if let Method::Corruption(one) = &trial.method {
            let heaviest = self.suite.attacks.iter().filter(own).filter_map(|a| match &a.method {
                Method::Corruption(kinds) => kinds.severities.iter().max(),
                _ => None,
            });
            return heaviest.max() == one.severities.first();
        }
        let size = |epsilon: &Epsilon| epsilon.nominal(&[1.0]);
        let radius = trial.epsilon().map(size);
        let all = self.suite.attacks.iter().filter(own).flat_map(|a| a.method.epsilons());
        all.map(size).all(|other| radius.is_some_and(|radius| radius >= other))
    }
}

/// Radii of a curve below `epsilon`, ascending; none for a method whose radii do not follow each other.
fn smaller_radii(method: &Method, epsilon: &Epsilon) -> Vec<Epsilon> {
    let size = |epsilon: &Epsilon| epsilon.nominal(&[1.0]);
    let below = |other: &&Epsilon| method.is_curve() && size(other) < size(epsilon);
    let mut radii: Vec<Epsilon> = method.epsilons().iter().filter(below).cloned().collect();
    radii.sort_by(|a, b| size(a).total_cmp(&size(b)));
    radii
}

/// A recipe reduced to what can change a weight of one seed's model: no prose, no list of seeds, no path.
pub fn without_prose(recipe: &Recipe) -> Recipe {
    let mut bare = recipe.clone();
    bare.about.clear();
    bare.seeds.clear();
    if let Some(weights) = &mut bare.weights {
        weights.file = Default::default();
    }
    bare
}

fn suite_name(path: &Path) -> String {
    let bare = path.with_extension("");
    let parts: Vec<String> = bare.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    match parts.iter().rposition(|part| part == "suites") {
        Some(at) if at + 1 < parts.len() => parts[at + 1..].join("/"),
        _ => parts.last().cloned().unwrap_or_else(|| "suite".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_the_path_below_suites() {
        assert_eq!(suite_name(Path::new("/a/suites/attack/targeted.toml")), "attack/targeted");
        assert_eq!(suite_name(Path::new("suites/demo.toml")), "demo");
        assert_eq!(suite_name(Path::new("/elsewhere/mine.toml")), "mine");
    }
}

//! Measurements grouped: model × condition over training seeds. Nothing here formats a page.

use std::collections::{BTreeSet, HashMap};

use super::seed_mean::{IntervalKind, SeedMean, seed_mean};
use crate::record::{Estimate, Measurement, Run};

/// One column of the headline table: what was done to the queries and which branch answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Data set id.
    pub dataset: String,
    /// `clean` or the suite's name of the attack.
    pub attack: String,
    /// Goal in the record's words.
    pub goal: String,
    /// `pgd`, `fgsm`, `noise`, `none`.
    pub method: String,
    /// Who is perturbed.
    pub side: String,
    /// Budget as written.
    pub epsilon: String,
    /// Largest budget of its rows, pixel units.
    pub epsilon_pixels: f64,
    /// Branch whose gradients made it.
    pub crafted_on: String,
    /// Branch that answered.
    pub answered_by: String,
    /// Gradient steps.
    pub steps: u32,
    /// Restarts.
    pub restarts: u32,
    /// Whether some model answered what another one crafted.
    pub is_transfer: bool,
}

impl Condition {
    fn of(m: &Measurement) -> Self {
        Self {
            dataset: m.dataset.clone(),
            attack: m.attack.clone(),
            goal: m.goal.clone(),
            method: m.method.clone(),
            side: m.side.clone(),
            epsilon: m.epsilon.clone(),
            epsilon_pixels: m.epsilon_pixels,
            crafted_on: m.crafted_on.clone(),
            answered_by: m.answered_by.clone(),
            steps: m.steps,
            restarts: m.restarts,
            is_transfer: m.is_transfer(),
        }
    }

    /// Equal but for the nominal radius, which differs between models when the budget is written normalised, and for whether
    /// the model crafted it itself.
    pub(super) fn matches(&self, m: &Measurement) -> bool {
        let own = Self { epsilon_pixels: m.epsilon_pixels, is_transfer: m.is_transfer(), ..self.clone() };
        own == Self::of(m)
    }

    /// Whether nothing was perturbed.
    pub fn is_clean(&self) -> bool {
        self.method == "none" || self.attack == "clean"
    }

    /// Whether somebody searched for the change: neither clean nor noise nor a corruption.
    pub fn is_adversarial(&self) -> bool {
        !self.is_clean() && !self.method.contains("noise") && self.chapter() != Chapter::Corruptions
    }

    /// Whether the budget is a length over all pixels, which does not compare with one of each pixel.
    pub fn is_l2(&self) -> bool {
        self.epsilon.ends_with("L2")
    }

    /// The model that crafted, where others answer.
    pub fn crafter(&self) -> Option<&str> {
        self.attack.rsplit(':').next().filter(|_| self.is_transfer)
    }

    /// The section it belongs to.
    pub fn chapter(&self) -> Chapter {
        let begins = |text: &str, list: &[&str]| list.iter().any(|word| text.starts_with(word));
        if self.is_clean() {
            Chapter::Clean
        } else if begins(&self.method, &["corruption"]) || begins(&self.goal, &["corruption"]) {
            Chapter::Corruptions
        } else if self.is_transfer {
            Chapter::Transfer
        } else if begins(&self.method, &BLACK_BOX) {
            Chapter::BlackBox
        } else if self.goal == "single-target" {
            Chapter::SingleTarget
        } else if self.goal.starts_with("multi-target") {
            Chapter::MultiTarget
        } else if begins(&self.goal, &RANKING) {
            Chapter::Ranking
        } else {
            Chapter::Others
        }
    }

    /// Short name for a column: `clean`, `single 8/255`; branches only where they are not main.
    pub fn label(&self) -> String {
        let mut text = self.attack.clone();
        if !self.is_clean() {
            text = format!("{text} {}", self.epsilon);
        }
        if self.answered_by != "main" {
            text = format!("{text}, answered by {}", self.answered_by);
        }
        if !self.is_clean() && self.crafted_on != self.answered_by {
            text = format!("{text}, crafted on {}", self.crafted_on);
        }
        text
    }

    /// `the single-target attack at 8/255`, for a sentence.
    pub fn in_words(&self) -> String {
        let name = match self.goal.as_str() {
            "single-target" | "untargeted" => format!("the {} attack", self.goal),
            goal if goal.starts_with("multi-target") => "the multi-target attack".to_string(),
            _ => format!("the attack {}", self.attack),
        };
        format!("{name} at {}", self.epsilon)
    }
}

/// What a condition is about: the sections of a report, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chapter {
    /// Nothing was perturbed.
    Clean,
    /// White-box attacks towards one other identity.
    SingleTarget,
    /// White-box attacks towards several.
    MultiTarget,
    /// Attacks on the order of the result list (RobRank's goals).
    Ranking,
    /// White-box attacks with any other goal, and ensembles.
    Others,
    /// Attacks made on another model.
    Transfer,
    /// Attacks without gradients, and the noise that every attack must beat.
    BlackBox,
    /// What happens to pictures without an attacker.
    Corruptions,
}

impl Chapter {
    /// All, in the order of the report.
    pub const ALL: [Self; 8] = [
        Self::Clean,
        Self::SingleTarget,
        Self::MultiTarget,
        Self::Ranking,
        Self::Others,
        Self::Transfer,
        Self::BlackBox,
        Self::Corruptions,
    ];

    /// Heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Clean => "Clean retrieval",
            Self::SingleTarget => "Single-target attacks",
            Self::MultiTarget => "Multi-target attacks",
            Self::Ranking => "Ranking attacks",
            Self::Others => "Other attacks",
            Self::Transfer => "Transfer",
            Self::BlackBox => "Black box and noise",
            Self::Corruptions => "Corruptions",
        }
    }

    /// Anchor in the page.
    pub fn id(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::SingleTarget => "single-target",
            Self::MultiTarget => "multi-target",
            Self::Ranking => "ranking",
            Self::Others => "others",
            Self::Transfer => "transfer",
            Self::BlackBox => "black-box",
            Self::Corruptions => "corruptions",
        }
    }
}

/// Methods that see no gradient.
const BLACK_BOX: [&str; 6] = ["noise", "square", "nes", "spsa", "gaussian", "rank"];

/// How the goals of ranking attacks begin, in the record's words.
const RANKING: [&str; 9] = ["robrank", "ca+", "ca-", "qa+", "qa-", "tma", "es", "ltm", "gt"];

/// A check that failed in one trial.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedCheck {
    /// Training seed.
    pub seed: u64,
    /// Name of the check.
    pub name: String,
    /// What was found.
    pub detail: String,
}

impl FailedCheck {
    /// For a footnote.
    pub fn in_words(&self) -> String {
        format!("seed {}: check {} failed: {}", self.seed, self.name, self.detail)
    }
}

/// recall@1 of one model under one condition, over its seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Mean over seeds; `None` if every trial failed.
    pub recall: Option<SeedMean>,
    /// Checks that failed, in the rows' order.
    pub failed_checks: Vec<FailedCheck>,
    /// Errors of trials that failed.
    pub errors: Vec<String>,
}

/// A model and its cells, one per condition.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelRow {
    /// Model id.
    pub model: String,
    /// Training method word.
    pub training: String,
    /// Place in the suite's order: decides its colour and mark.
    pub style: usize,
    /// One per condition; `None` where the suite measured nothing.
    pub cells: Vec<Option<Cell>>,
}

/// A run, grouped.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Columns in plan order: clean first, then each attack by growing budget.
    pub conditions: Vec<Condition>,
    /// Rows in the suite's order.
    pub models: Vec<ModelRow>,
    /// Index of the row that the others are compared with.
    pub baseline: Option<usize>,
}

impl Summary {
    /// Groups the measurements of a run.
    pub fn of(run: &Run) -> Self {
        let mut conditions: Vec<Condition> = Vec::new();
        // Each kind and severity of a corruption is in the mean's row, and by itself in the table of all trials.
        for m in run.measurements.iter().filter(|m| !m.is_part_of_mean()) {
            match conditions.iter_mut().find(|c| c.matches(m)) {
                Some(found) => {
                    found.epsilon_pixels = found.epsilon_pixels.max(m.epsilon_pixels);
                    found.is_transfer |= m.is_transfer();
                }
                None => conditions.push(Condition::of(m)),
            }
        }
        // Plan order of the attacks, growing budget within each.
        let mut first: HashMap<(String, String, String, String), usize> = HashMap::new();
        for (index, c) in conditions.iter().enumerate() {
            first.entry(family(c)).or_insert(index);
        }
        conditions.sort_by(|a, b| {
            let key = |c: &Condition| (!c.is_clean(), first[&family(c)]);
            key(a).cmp(&key(b)).then(a.epsilon_pixels.total_cmp(&b.epsilon_pixels))
        });
        let mut ids: Vec<&str> = run.manifest.models.iter().map(|(id, _)| id.as_str()).collect();
        for m in &run.measurements {
            if !ids.contains(&m.model.as_str()) {
                ids.push(&m.model);
            }
        }
        let models: Vec<ModelRow> =
            ids.iter().enumerate().filter_map(|(style, id)| model_row(run, &conditions, style, id)).collect();
        let baseline = models.iter().position(|m| m.training == "standard");
        Self { conditions, models, baseline }
    }

    /// The clean column answered by the main branch, or the first clean one.
    pub fn clean(&self) -> Option<usize> {
        let clean = || self.conditions.iter().enumerate().filter(|(_, c)| c.is_clean());
        clean().find(|(_, c)| c.answered_by == "main").or_else(|| clean().next()).map(|(i, _)| i)
    }

    /// The column that the sentence is about: the largest budget of the first white-box attack that reaches it, L∞ before
    /// L2; without one the same of any attack.
    pub fn strongest(&self) -> Option<usize> {
        self.strongest_of(|_| true)
    }

    /// [`Self::strongest`] among the columns for which `fits` holds.
    pub fn strongest_of(&self, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let white = |c: &Condition| c.chapter() < Chapter::Transfer;
        let kinds: [&dyn Fn(&Condition) -> bool; 3] = [&|c| white(c) && !c.is_l2(), &white, &|_| true];
        kinds.iter().find_map(|wanted| {
            let adversarial = |(i, c): &(usize, &Condition)| c.is_adversarial() && wanted(c) && fits(*i);
            let own = self.conditions.iter().enumerate().filter(adversarial);
            own.fold(None, |best: Option<usize>, (i, c)| match best {
                Some(b) if self.conditions[b].epsilon_pixels >= c.epsilon_pixels => Some(b),
                _ => Some(i),
            })
        })
    }

    /// One column per attack family, each at its largest budget, after the clean one.
    pub fn headline(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = self.clean().into_iter().collect();
        let mut seen = BTreeSet::new();
        for (i, c) in self.conditions.iter().enumerate().filter(|(_, c)| !c.is_clean()) {
            if seen.insert(family(c)) {
                columns.push(i);
            } else if let Some(last) = columns.iter_mut().rfind(|l| family(&self.conditions[**l]) == family(c)) {
                *last = i;
            }
        }
        columns
    }

    /// Attack families with their columns, in order.
    pub fn families(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (i, c) in self.conditions.iter().enumerate().filter(|(_, c)| !c.is_clean()) {
            match groups.iter_mut().find(|g| family(&self.conditions[g[0]]) == family(c)) {
                Some(group) => group.push(i),
                None => groups.push(vec![i]),
            }
        }
        groups
    }

    /// The columns of a section, in order.
    pub fn columns_of(&self, chapter: Chapter) -> Vec<usize> {
        let own = |(i, c): (usize, &Condition)| (c.chapter() == chapter).then_some(i);
        self.conditions.iter().enumerate().filter_map(own).collect()
    }

    /// Row and column that a trial is part of.
    pub fn place(&self, m: &Measurement) -> Option<(usize, usize)> {
        let model = self.models.iter().position(|row| row.model == m.model)?;
        Some((model, self.conditions.iter().position(|c| c.matches(m))?))
    }

    /// recall@1 of a model under a condition.
    pub fn recall(&self, model: usize, condition: usize) -> Option<&SeedMean> {
        self.models.get(model)?.cells.get(condition)?.as_ref()?.recall.as_ref()
    }

    /// The model's recall@1 divided by the baseline's. `None` without a baseline, for the baseline itself, or if the
    /// baseline has none right.
    pub fn ratio(&self, model: usize, condition: usize) -> Option<f64> {
        let baseline = self.baseline.filter(|b| *b != model)?;
        let below = self.recall(baseline, condition)?.value;
        (below > 0.0).then_some(self.recall(model, condition)?.value / below)
    }

    /// The kinds of interval that occur.
    pub fn kinds(&self) -> Vec<IntervalKind> {
        let cells = self.models.iter().flat_map(|m| m.cells.iter().flatten());
        cells.filter_map(|c| c.recall.as_ref().map(|r| r.kind)).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

type Family = (String, String, String, String);

fn family(c: &Condition) -> Family {
    (c.dataset.clone(), c.attack.clone(), c.crafted_on.clone(), c.answered_by.clone())
}

fn recall_at_1(m: &Measurement) -> Option<Estimate> {
    m.recall.iter().find(|r| r.k == 1).map(|r| r.estimate)
}

fn model_row(run: &Run, conditions: &[Condition], style: usize, id: &str) -> Option<ModelRow> {
    let rows: Vec<&Measurement> = run.measurements.iter().filter(|m| m.model == id).collect();
    let training = rows.first()?.training.clone();
    let cell = |c: &Condition| {
        let rows: Vec<&Measurement> = rows.iter().copied().filter(|m| c.matches(m)).collect();
        (!rows.is_empty()).then(|| Cell {
            recall: seed_mean(&rows, (0.0, 1.0), recall_at_1),
            failed_checks: rows
                .iter()
                .flat_map(|m| m.checks.iter().filter(|c| !c.passed).map(move |c| (m.model_seed, c)))
                .map(|(seed, c)| FailedCheck { seed, name: c.name.clone(), detail: c.detail.clone() })
                .collect(),
            errors: rows
                .iter()
                .filter_map(|m| m.error.as_ref().map(|e| format!("seed {}: the trial failed: {e}", m.model_seed)))
                .collect(),
        })
    };
    Some(ModelRow { model: id.to_string(), training, style, cells: conditions.iter().map(cell).collect() })
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;

//! `check`: tonight's run against the accepted one. Three classes, chosen from digests for each model and never mixed.
//!
//! 1. The same files on the same images: what may differ is rounding. Counted in queries whose outcome flipped.
//! 2. A new file, the same queries: paired one-sided tests, Holm over the grid; a night fails if a metric is worse beyond
//!    chance **and** by more than its floor.
//! 3. A model trained again with several seeds: Welch's test between the seeds then and now.
//!
//! What is missing fails before anything is compared; other images are not compared at all.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::baseline::{Baseline, BaselineError};
use super::pairing::Question;
use super::slow::Slow;
use crate::metric::kind::{Direction, Metric};
use crate::record::{Measurement, Run};
use crate::stats::holm;

mod cells;
mod coverage;
mod suspects;

pub(crate) use cells::number as cell_number;
#[cfg(test)]
mod tests;

/// Chance that a night without a change fails.
pub const SIGNIFICANCE: f64 = 0.05;

/// Part of [`SIGNIFICANCE`] that clean recall@1 has for itself, all models together: the number by which a model is chosen.
pub const HEADLINE_SHARE: f64 = 2.0 / 3.0;

/// Share of queries whose outcome may flip when nothing but the machine changed; at least one query.
pub const FLIPS: f64 = 0.005;

/// Which question is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The same files: has rounding changed?
    Same,
    /// New files: are they worse, query by query?
    NewArtefact,
    /// Trained again with several seeds: are the seeds worse than the seeds before?
    Retrained,
}

impl Class {
    /// In words.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Same => "same file: flipped queries are counted",
            Self::NewArtefact => "new file: paired tests per query",
            Self::Retrained => "trained again: compared with the spread over seeds",
        }
    }
}

/// What one metric of one question says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    /// Nothing moved.
    Identical,
    /// Moved as chance or rounding would move it.
    Within,
    /// Worse beyond chance, but by less than the floor.
    BelowFloor,
    /// Better beyond chance.
    Better,
    /// The metric has no direction, or nothing to test it with; shown only.
    Shown,
    /// Fails: worse beyond chance and floor, or more flips than rounding makes.
    Drift,
}

/// One metric of one question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// The question in words.
    pub question: String,
    /// Key of tonight's trial; absent where several seeds are one question.
    pub trial: Option<String>,
    /// The metric.
    pub metric: Metric,
    /// How it is judged.
    pub class: Class,
    /// Queries, or seeds, compared.
    pub n: usize,
    /// Then.
    pub accepted: f64,
    /// Now.
    pub tonight: f64,
    /// 95 % interval of the change, if there is one.
    pub interval: Option<(f64, f64)>,
    /// Queries that lost and that gained, for outcomes per query.
    pub flipped: Option<(u64, u64)>,
    /// Flips allowed, for the same file.
    pub allowed: Option<u64>,
    /// One-sided p-value of "worse", and of "better".
    #[serde(skip)]
    pub p: Option<(f64, f64)>,
    /// That of "worse" after correction over the grid.
    pub p_adjusted: Option<f64>,
    /// Smallest change that fails.
    pub floor: f64,
    /// What follows.
    pub says: Says,
}

impl Cell {
    /// Now minus then.
    pub fn change(&self) -> f64 {
        self.tonight - self.accepted
    }
}

/// What kind of failure it is, in the order of their exit codes' precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A trial failed, or something that was accepted is missing.
    Coverage,
    /// Other images or queries: the numbers cannot be compared.
    Data,
    /// A soundness check failed.
    Soundness,
    /// A metric is worse, or rounding is more than rounding.
    Drift,
    /// A pinned model's file is not the accepted one.
    Artefact,
    /// Many small steps add up.
    SlowDrift,
}

impl Kind {
    /// Exit code of a night whose worst finding it is.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Coverage => 4,
            Self::Data => 2,
            Self::Soundness => 3,
            Self::Drift | Self::Artefact | Self::SlowDrift => 1,
        }
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coverage => "coverage",
            Self::Data => "data",
            Self::Soundness => "soundness",
            Self::Drift => "drift",
            Self::Artefact => "artefact",
            Self::SlowDrift => "slow-drift",
        }
    }
}

/// A reason to fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its kind.
    pub kind: Kind,
    /// The question in words, or the suite.
    pub place: String,
    /// The metric, if it is one's.
    pub metric: Option<Metric>,
    /// What was found, what was wanted.
    pub text: String,
    /// Key of tonight's trial, if measuring it again can tell more.
    pub trial: Option<String>,
}

/// Everything a night says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// The suite.
    pub suite: String,
    /// Who accepted the baseline, when and why.
    pub accepted: String,
    /// How each model is judged.
    pub models: Vec<(String, Class)>,
    /// Every metric of every question, failures first.
    pub cells: Vec<Cell>,
    /// Reasons to fail, worst kind first.
    pub findings: Vec<Finding>,
    /// What to know besides.
    pub notes: Vec<String>,
    /// What changed since the baseline and may be the cause.
    pub suspects: Vec<String>,
    /// The course of each metric since the acceptance, for those that can be followed.
    pub slow: Vec<Slow>,
}

impl Judgement {
    /// 0 all well; otherwise that of the worst kind: 4 coverage, 2 data, 3 soundness, 1 drift.
    pub fn exit_code(&self) -> u8 {
        self.findings.iter().map(|f| f.kind).min().map_or(0, Kind::exit_code)
    }

    /// Keys of the trials whose failures would be confirmed, or not, by measuring them again.
    pub fn to_confirm(&self) -> BTreeSet<String> {
        self.findings.iter().filter_map(|f| f.trial.clone()).collect()
    }

    /// Keeps the failures that a second measurement of the same trials shows too; the others become notes.
    pub fn confirmed_by(&mut self, again: &Self) {
        let same =
            |f: &Finding| again.findings.iter().any(|g| (g.kind, &g.place, g.metric) == (f.kind, &f.place, f.metric));
        let (confirmed, refuted): (Vec<Finding>, Vec<Finding>) =
            std::mem::take(&mut self.findings).into_iter().partition(|f| f.trial.is_none() || same(f));
        for finding in refuted {
            let metric = finding.metric.map(|m| format!(" {m}")).unwrap_or_default();
            self.notes.push(format!(
                "not confirmed: {}{metric} failed once ({}) and not when measured again; the machine does not repeat itself",
                finding.place, finding.text
            ));
            for cell in
                self.cells.iter_mut().filter(|c| c.question == finding.place && Some(c.metric) == finding.metric)
            {
                cell.says = Says::Within;
            }
        }
        if !confirmed.is_empty() && confirmed.iter().any(|f| f.trial.is_some()) {
            self.notes.push("failures were confirmed by measuring their trials again".into());
        }
        self.findings = confirmed;
    }

    /// Adds the course of the metrics and the failures that follow.
    pub fn watch(&mut self, slow: Vec<Slow>) {
        for s in slow.iter().filter(|s| s.alarm) {
            self.findings.push(Finding {
                kind: Kind::SlowDrift,
                place: s.question.clone(),
                metric: Some(s.metric),
                text: s.in_words(),
                trial: None,
            });
        }
        self.findings.sort_by_key(|f| f.kind);
        self.slow = slow;
    }
}

/// The smallest change of a metric that can fail a night: one point for shares, 2 % of the accepted value for the rest.
pub fn floor(metric: Metric, accepted: f64, floors: &BTreeMap<String, f64>) -> f64 {
    let default = if metric.about().percent { 0.01 } else { 0.02 * accepted.abs() };
    floors.get(&metric.to_string()).copied().unwrap_or(default)
}

/// Metrics that are made of others which are tested themselves.
pub(super) fn is_derived(metric: Metric) -> bool {
    use Metric::{PrecisionAt1, RecallDrop, RetainedShare, RobustRecallAt1, RobustnessArea};
    matches!(metric, PrecisionAt1 | RecallDrop | RetainedShare | RobustRecallAt1 | RobustnessArea)
}

/// Compares tonight's run with the baseline.
///
/// # Errors
/// [`BaselineError::Suite`] if they are of different suites. Everything else is a finding.
pub fn check(baseline: &Baseline, tonight: &Run) -> Result<Judgement, BaselineError> {
    let accepted = &baseline.run;
    if accepted.manifest.suite != tonight.manifest.suite {
        let (baseline, run) = (accepted.manifest.suite.clone(), tonight.manifest.suite.clone());
        return Err(BaselineError::Suite { baseline, run });
    }
    let last = baseline.last();
    let mut judgement = Judgement {
        suite: tonight.manifest.suite.clone(),
        accepted: format!("{} by {}: {}", last.when, last.who, last.why),
        models: vec![],
        cells: vec![],
        findings: vec![],
        notes: vec![],
        suspects: suspects::list(accepted, tonight),
        slow: vec![],
    };
    judgement.notes.extend(baseline.ratchet());
    let (then, now) = (accepted.manifest.started_unix_s, tonight.manifest.started_unix_s);
    if now < then {
        judgement.notes.push(format!(
            "the run began at {}, before the accepted one ({}): an old run, or a clock that is wrong",
            super::utc(now),
            super::utc(then)
        ));
    }
    let found = coverage::examine(accepted, tonight, &mut judgement);
    if accepted.manifest.dataset_digest == tonight.manifest.dataset_digest {
        let classes = classes(accepted, tonight);
        if baseline.pinned {
            judgement.findings.extend(moved_files(&classes, accepted, tonight));
        }
        judgement.cells = cells::all(&found, &classes, &baseline.floors);
        judgement.models = classes.into_iter().collect();
        judge(&mut judgement);
    }
    judgement.findings.sort_by_key(|f| f.kind);
    judgement.cells.sort_by_key(|cell| cell.says != Says::Drift);
    Ok(judgement)
}

/// Which class each model is in.
fn classes(accepted: &Run, tonight: &Run) -> BTreeMap<String, Class> {
    let files = |run: &Run, model: &str| -> BTreeMap<(u64, String), (String, String)> {
        let rows = run.measurements.iter().filter(|m| m.model == model && m.error.is_none());
        rows.map(|m| ((m.model_seed, question(m)), (m.artefact.clone(), m.crafter.clone()))).collect()
    };
    let mut classes = BTreeMap::new();
    for m in &accepted.measurements {
        if classes.contains_key(&m.model) {
            continue;
        }
        let (then, now) = (files(accepted, &m.model), files(tonight, &m.model));
        // A crafter that an old record does not name is not another file.
        let same = |(a, b): (&(String, String), &(String, String))| {
            a.0 == b.0 && (a.1 == b.1 || a.1.is_empty() || b.1.is_empty())
        };
        let common: Vec<_> = then.iter().filter_map(|(key, file)| Some((file, now.get(key)?))).collect();
        let seeds = |files: &BTreeMap<(u64, String), _>| files.keys().map(|key| key.0).collect::<BTreeSet<u64>>().len();
        let class = if common.into_iter().all(same) {
            Class::Same
        } else if m.training != "foreign" && seeds(&then) > 1 && seeds(&now) > 1 {
            Class::Retrained
        } else {
            Class::NewArtefact
        };
        classes.insert(m.model.clone(), class);
    }
    classes
}

fn question(m: &Measurement) -> String {
    Question::of(m, true).to_string()
}

/// Models that should be the accepted files and are not.
fn moved_files(classes: &BTreeMap<String, Class>, accepted: &Run, tonight: &Run) -> Vec<Finding> {
    let file = |run: &Run, model: &str| -> String {
        let files: BTreeSet<&str> =
            run.measurements.iter().filter(|m| m.model == model).map(|m| m.artefact.as_str()).collect();
        files.into_iter().collect::<Vec<_>>().join(", ")
    };
    let moved = classes.iter().filter(|(_, class)| **class != Class::Same);
    let finding = |(model, _): (&String, &Class)| Finding {
        kind: Kind::Artefact,
        place: model.clone(),
        metric: None,
        text: format!(
            "its file is {}, accepted (and pinned) is {}; put the accepted file back, or accept this one",
            file(tonight, model),
            file(accepted, model)
        ),
        trial: None,
    };
    moved.map(finding).collect()
}

/// Corrects over the grid, decides every cell and turns failures into findings.
fn judge(judgement: &mut Judgement) {
    decide(&mut judgement.cells);
    for cell in judgement.cells.iter().filter(|cell| cell.says == Says::Drift) {
        judgement.findings.push(Finding {
            kind: Kind::Drift,
            place: cell.question.clone(),
            metric: Some(cell.metric),
            text: cells::in_words(cell),
            trial: cell.trial.clone(),
        });
    }
    let better = judgement.cells.iter().filter(|cell| cell.says == Says::Better).count();
    if better > 0 {
        judgement.notes.push(format!(
            "{better} metrics are better beyond chance; accept the run, so that they are not lost again unnoticed"
        ));
    }
}

/// Sets `p_adjusted` and `says` of every cell that has p-values.
///
/// Weighted Holm: clean recall@1 has [`HEADLINE_SHARE`] of [`SIGNIFICANCE`], everything else shares the rest.
pub fn decide(cells: &mut [Cell]) {
    let tested: Vec<usize> = (0..cells.len()).filter(|&i| cells[i].p.is_some()).collect();
    let headline = |cell: &Cell| cell.metric == Metric::RecallAt(1) && cell.question.ends_with(" clean");
    let count = tested.iter().filter(|&&i| headline(&cells[i])).count();
    let rest = tested.len() - count;
    let weights: Vec<f64> = tested
        .iter()
        .map(|&i| match headline(&cells[i]) {
            _ if count == 0 || rest == 0 => 1.0,
            true => HEADLINE_SHARE / count as f64,
            false => (1.0 - HEADLINE_SHARE) / rest as f64,
        })
        .collect();
    let adjusted = |side: fn((f64, f64)) -> f64, cells: &[Cell]| {
        let p: Vec<f64> = tested.iter().map(|&i| cells[i].p.map_or(f64::NAN, side)).collect();
        holm::weighted(&p, &weights)
    };
    let (worse, better) = (adjusted(|p| p.0, cells), adjusted(|p| p.1, cells));
    for ((&i, worse), better) in tested.iter().zip(worse).zip(better) {
        let cell = &mut cells[i];
        cell.p_adjusted = Some(worse).filter(|p| !p.is_nan());
        let loss = match cell.metric.direction() {
            Direction::Higher => -cell.change(),
            _ => cell.change(),
        };
        cell.says = if worse < SIGNIFICANCE && loss > cell.floor {
            Says::Drift
        } else if worse < SIGNIFICANCE {
            Says::BelowFloor
        } else if better < SIGNIFICANCE {
            Says::Better
        } else if cell.change() == 0.0 && cell.flipped.is_none_or(|f| f == (0, 0)) {
            Says::Identical
        } else {
            Says::Within
        };
    }
}

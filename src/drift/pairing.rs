//! Which trials of two runs, or of two models of a run, answer the same question on the same queries.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::record::{Measurement, QueryOutcome, Run};

/// Why two results cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriftError {
    /// Other images.
    #[error("the runs are of different data sets: {a} and {b}; measure both on the same one")]
    Dataset {
        /// Digest of the first.
        a: String,
        /// Digest of the second.
        b: String,
    },
    /// A model that the run does not have.
    #[error("the run has no model `{wanted}`; it has {}", .known.join(", "))]
    UnknownModel {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Nothing in common.
    #[error(
        "the two have no trial in common, of {a} and {b}; a trial is the same if data set, attack, budget, branches and seeds are"
    )]
    NothingInCommon {
        /// Trials of the first.
        a: usize,
        /// Trials of the second.
        b: usize,
    },
    /// The same trial on other queries.
    #[error(
        "{question}: {a} queries in the first and {b} in the second, {common} of them the same; choose the same queries and seed in both suites"
    )]
    Queries {
        /// Which trial.
        question: Box<Question>,
        /// Queries of the first.
        a: usize,
        /// Queries of the second.
        b: usize,
        /// Queries of both.
        common: usize,
    },
    /// Per-query rows are missing.
    #[error("{question}: the table of queries lacks its rows; the run folder is damaged, run the suite again")]
    NoQueries {
        /// Which trial.
        question: Box<Question>,
    },
}

/// What a trial asks, without who answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// Data set id.
    pub dataset: String,
    /// Model id; absent when two models are compared.
    pub model: Option<String>,
    /// Training seed.
    pub model_seed: u64,
    /// Name of the attack, or `clean`.
    pub attack: String,
    /// Goal, method and side.
    pub how: [String; 3],
    /// Branch that crafted and branch that answered.
    pub branches: [String; 2],
    /// Budget as written.
    pub epsilon: String,
    /// Gradient steps and restarts.
    pub effort: [u32; 2],
    /// Suite seed.
    pub seed: u64,
}

impl Question {
    /// The question that a row answers; `with_model`: who is asked is part of it.
    pub fn of(m: &Measurement, with_model: bool) -> Self {
        Self {
            dataset: m.dataset.clone(),
            model: with_model.then(|| m.model.clone()),
            model_seed: m.model_seed,
            attack: m.attack.clone(),
            how: [m.goal.clone(), m.method.clone(), m.side.clone()],
            branches: [m.crafted_on.clone(), m.answered_by.clone()],
            epsilon: m.epsilon.clone(),
            effort: [m.steps, m.restarts],
            seed: m.seed,
        }
    }
}

impl Question {
    /// In words, for all training seeds together.
    pub fn without_seed(&self) -> String {
        let model = self.model.iter().map(|model| format!("{model} "));
        model.chain([self.tail()]).collect()
    }

    /// Attack, budget and branches.
    fn tail(&self) -> String {
        let radius = if self.attack == "clean" { String::new() } else { format!(" {}", self.epsilon) };
        let [crafted, answered] = &self.branches;
        let deployed = crafted == answered && crafted == "main";
        let branches = if deployed { String::new() } else { format!(" {crafted}→{answered}") };
        format!("{}{radius}{branches}", self.attack)
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(model) = &self.model {
            write!(f, "{model} ")?;
        }
        write!(f, "seed {} {}", self.model_seed, self.tail())
    }
}

/// The same question answered twice, on the same queries in the same order.
#[derive(Debug, Clone)]
pub struct Pair<'a> {
    /// The question.
    pub question: Question,
    /// The first answer.
    pub a: &'a Measurement,
    /// The second answer.
    pub b: &'a Measurement,
    /// Outcomes of the first, by query.
    pub outcomes_a: Vec<&'a QueryOutcome>,
    /// Outcomes of the second, the same queries.
    pub outcomes_b: Vec<&'a QueryOutcome>,
}

/// Every pair of two runs, by question, and the questions that only one of them answers.
///
/// Failed trials answer nothing.
///
/// # Errors
/// [`DriftError`].
pub fn runs<'a>(a: &'a Run, b: &'a Run) -> Result<(Vec<Pair<'a>>, Vec<Question>), DriftError> {
    let (first, second) = (&a.manifest.dataset_digest, &b.manifest.dataset_digest);
    if first != second {
        let short = |digest: &str| digest.chars().take(12).collect();
        return Err(DriftError::Dataset { a: short(first), b: short(second) });
    }
    pair((a, a.measurements.iter()), (b, b.measurements.iter()), true)
}

/// Every pair of two models of one run.
///
/// # Errors
/// [`DriftError`].
pub fn models_of_a_run<'a>(run: &'a Run, a: &str, b: &str) -> Result<(Vec<Pair<'a>>, Vec<Question>), DriftError> {
    let mut known: Vec<String> = run.measurements.iter().map(|m| m.model.clone()).collect();
    known.dedup();
    if let Some(wanted) = [a, b].into_iter().find(|id| !known.iter().any(|k| k == id)) {
        return Err(DriftError::UnknownModel { wanted: wanted.into(), known });
    }
    let of = |id: &str| run.measurements.iter().filter(move |m| m.model == id).collect::<Vec<_>>();
    pair((run, of(a).into_iter()), (run, of(b).into_iter()), false)
}

fn pair<'a>(
    a: (&'a Run, impl Iterator<Item = &'a Measurement>),
    b: (&'a Run, impl Iterator<Item = &'a Measurement>),
    with_model: bool,
) -> Result<(Vec<Pair<'a>>, Vec<Question>), DriftError> {
    let index = |rows: &mut dyn Iterator<Item = &'a Measurement>| -> Vec<(Question, &'a Measurement)> {
        rows.filter(|m| m.error.is_none()).map(|m| (Question::of(m, with_model), m)).collect()
    };
    let ((run_a, mut rows_a), (run_b, mut rows_b)) = (a, b);
    let (list_a, list_b) = (index(&mut rows_a), index(&mut rows_b));
    let by_question: BTreeMap<&Question, &Measurement> = list_b.iter().map(|(q, m)| (q, *m)).collect();
    let (outcomes_a, outcomes_b) = (by_trial(run_a), by_trial(run_b));
    let (mut pairs, mut alone) = (Vec::new(), Vec::new());
    for (question, a) in &list_a {
        match by_question.get(question) {
            Some(b) => pairs.push(join(question, (a, &outcomes_a), (b, &outcomes_b))?),
            None => alone.push(question.clone()),
        }
    }
    let answered: std::collections::BTreeSet<&Question> = list_a.iter().map(|(q, _)| q).collect();
    alone.extend(list_b.iter().filter(|(q, _)| !answered.contains(q)).map(|(q, _)| q.clone()));
    if pairs.is_empty() {
        return Err(DriftError::NothingInCommon { a: list_a.len(), b: list_b.len() });
    }
    Ok((pairs, alone))
}

/// Outcomes by the key of their trial.
pub(super) type ByTrial<'a> = HashMap<&'a str, Vec<&'a QueryOutcome>>;

/// One pass over the table of queries: it may have a million rows.
pub(super) fn by_trial(run: &Run) -> ByTrial<'_> {
    let mut found: ByTrial<'_> = HashMap::new();
    for outcome in &run.queries {
        found.entry(outcome.trial.as_str()).or_default().push(outcome);
    }
    found
}

fn join<'a>(
    question: &Question,
    (a, outcomes_a): (&'a Measurement, &ByTrial<'a>),
    (b, outcomes_b): (&'a Measurement, &ByTrial<'a>),
) -> Result<Pair<'a>, DriftError> {
    let sorted = |m: &Measurement, all: &ByTrial<'a>| {
        let mut list = all.get(m.trial.as_str()).cloned().unwrap_or_default();
        list.sort_by_key(|q| q.query);
        list
    };
    let (first, second) = (sorted(a, outcomes_a), sorted(b, outcomes_b));
    let boxed = || Box::new(question.clone());
    if first.is_empty() || second.is_empty() {
        return Err(DriftError::NoQueries { question: boxed() });
    }
    if !first.iter().map(|q| q.query).eq(second.iter().map(|q| q.query)) {
        let known: std::collections::HashSet<u32> = first.iter().map(|q| q.query).collect();
        let common = second.iter().filter(|q| known.contains(&q.query)).count();
        return Err(DriftError::Queries { question: boxed(), a: first.len(), b: second.len(), common });
    }
    Ok(Pair { question: question.clone(), a, b, outcomes_a: first, outcomes_b: second })
}

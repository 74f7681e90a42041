//! Is everything there that was accepted? Trials, queries, metrics; and are they of the same images?

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::pairing::{ByTrial, Pair, Question, by_trial};
use super::{Finding, Judgement, Kind};
use crate::drift::baseline::values;
use crate::record::{Measurement, QueryOutcome, Run};

/// Share of queries that must be common before pairing makes sense.
const COMMON: f64 = 0.5;

/// Pairs what can be paired and reports what is missing, failed or other.
pub(super) fn examine<'a>(accepted: &'a Run, tonight: &'a Run, judgement: &mut Judgement) -> Vec<Pair<'a>> {
    if accepted.manifest.dataset_digest != tonight.manifest.dataset_digest {
        judgement.findings.push(other_data(accepted, tonight));
    }
    let now: BTreeMap<Question, &Measurement> =
        tonight.measurements.iter().map(|m| (Question::of(m, true), m)).collect();
    let (outcomes_then, outcomes_now) = (by_trial(accepted), by_trial(tonight));
    let mut pairs = Vec::new();
    for then in &accepted.measurements {
        let question = Question::of(then, true);
        let Some(m) = now.get(&question) else {
            judgement.findings.push(finding(
                Kind::Coverage,
                &question,
                "the trial is missing; it was accepted".into(),
                None,
            ));
            continue;
        };
        let key = Some(m.trial.clone());
        if let Some(error) = &m.error {
            judgement.findings.push(finding(Kind::Coverage, &question, format!("the trial failed: {error}"), key));
            continue;
        }
        judgement.findings.extend(missing_metrics(&question, then, m));
        match join(&question, (then, &outcomes_then), (m, &outcomes_now)) {
            Ok((pair, note)) => {
                pairs.push(pair);
                judgement.notes.extend(note);
            }
            Err(missing) => {
                if let Some(pair) = missing.1 {
                    pairs.push(pair);
                }
                judgement.findings.push(missing.0);
            }
        }
    }
    for m in &tonight.measurements {
        for check in m.checks.iter().filter(|check| !check.passed && !check.is_label()) {
            let text = format!("check {} failed: {}", check.name, check.detail);
            judgement.findings.push(finding(Kind::Soundness, &Question::of(m, true), text, None));
        }
    }
    let known: BTreeSet<Question> = accepted.measurements.iter().map(|m| Question::of(m, true)).collect();
    let new = now.keys().filter(|q| !known.contains(q)).count();
    if new > 0 {
        judgement.notes.push(format!("{new} trials are new, nothing accepted to compare them with; accept the run"));
    }
    pairs
}

fn finding(kind: Kind, question: &Question, text: String, trial: Option<String>) -> Finding {
    Finding { kind, place: question.to_string(), metric: None, text, trial }
}

fn missing_metrics(question: &Question, then: &Measurement, now: &Measurement) -> Option<Finding> {
    let now = values(now);
    let missing: Vec<String> =
        values(then).keys().filter(|metric| !now.contains_key(metric)).map(ToString::to_string).collect();
    (!missing.is_empty()).then(|| {
        let text = format!("no value for {}; accepted were some", missing.join(", "));
        finding(Kind::Coverage, question, text, None)
    })
}

/// Which classes' images have another label or are gone, as far as the queries tell.
fn other_data(accepted: &Run, tonight: &Run) -> Finding {
    let labels = |run: &Run| -> BTreeMap<u32, u32> { run.queries.iter().map(|q| (q.query, q.label)).collect() };
    let (then, now) = (labels(accepted), labels(tonight));
    let moved: BTreeSet<u32> = then
        .iter()
        .filter(|(query, label)| now.get(query).is_some_and(|l| l != *label))
        .map(|(_, label)| *label)
        .collect();
    let name = |label: &u32| {
        let known = tonight.manifest.test_classes.iter().find(|(l, _)| l == label);
        known.map_or_else(|| label.to_string(), |(label, name)| format!("{label} ({name})"))
    };
    let mut text = format!(
        "the images or their labels are not the accepted ones ({} beside {}), so no number can be compared",
        short(&tonight.manifest.dataset_digest),
        short(&accepted.manifest.dataset_digest)
    );
    if !moved.is_empty() && moved.len() <= 20 {
        let names: Vec<String> = moved.iter().map(name).collect();
        text += &format!("; queries of class {} have another label now", names.join(", "));
    } else if !moved.is_empty() {
        text += &format!("; queries of {} classes have another label now", moved.len());
    }
    text += "; restore the data, or accept a run on the new";
    Finding { kind: Kind::Data, place: tonight.manifest.dataset.clone(), metric: None, text, trial: None }
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

type Missing<'a> = Box<(Finding, Option<Pair<'a>>)>;

/// Pairs two trials over the queries that both have.
fn join<'a>(
    question: &Question,
    (then, outcomes_then): (&'a Measurement, &ByTrial<'a>),
    (now, outcomes_now): (&'a Measurement, &ByTrial<'a>),
) -> Result<(Pair<'a>, Option<String>), Missing<'a>> {
    let list = |m: &Measurement, all: &ByTrial<'a>| all.get(m.trial.as_str()).cloned().unwrap_or_default();
    let by_query: HashMap<u32, &QueryOutcome> = list(now, outcomes_now).into_iter().map(|q| (q.query, q)).collect();
    let mut before = list(then, outcomes_then);
    before.sort_by_key(|q| q.query);
    let wanted = before.len();
    before.retain(|q| by_query.contains_key(&q.query));
    let (missing, extra) = (wanted - before.len(), by_query.len() - before.len());
    let after: Vec<&QueryOutcome> = before.iter().map(|q| by_query[&q.query]).collect();
    let pair = Pair { question: question.clone(), a: then, b: now, outcomes_a: before, outcomes_b: after };
    let enough = pair.outcomes_a.len() as f64 >= COMMON * wanted as f64 && wanted > 0;
    match (missing, extra) {
        (0, 0) if wanted > 0 => Ok((pair, None)),
        (0, extra) if wanted > 0 => {
            Ok((pair, Some(format!("{question}: {extra} queries are new; compared on the {wanted} accepted ones"))))
        }
        (_, extra) if extra > 0 || wanted == 0 || !enough && missing < wanted => {
            let text = format!(
                "other queries: {missing} of {wanted} accepted ones are missing and {extra} are new; choose the same queries and seed"
            );
            let kind = if wanted == 0 || extra > 0 { Kind::Data } else { Kind::Coverage };
            Err(Box::new((finding(kind, question, text, None), None)))
        }
        (missing, _) => {
            let text =
                format!("{missing} of {wanted} queries are missing ({:.1} %)", 100.0 * missing as f64 / wanted as f64);
            Err(Box::new((finding(Kind::Coverage, question, text, None), enough.then_some(pair))))
        }
    }
}

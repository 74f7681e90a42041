//! The grid: every metric of every question, with what its class has to say about it.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::super::baseline::values;
use super::super::outcome::{self, Outcome};
use super::super::pairing::{Pair, Question};
use super::{Cell, Class, FLIPS, Says, floor, is_derived};
use crate::metric::kind::{Direction, Metric};
use crate::record::{Estimate, QueryOutcome};
use crate::stats::{normal, seeds};

type Floors = BTreeMap<String, f64>;

/// Every cell; those of classes 2 and 3 still undecided.
pub(super) fn all(pairs: &[Pair<'_>], classes: &BTreeMap<String, Class>, floors: &Floors) -> Vec<Cell> {
    let class = |pair: &Pair<'_>| classes.get(&pair.a.model).copied().unwrap_or(Class::NewArtefact);
    let of = |pair: &Pair<'_>| match class(pair) {
        Class::Same => same(pair, floors),
        Class::NewArtefact => new_artefact(pair, floors),
        Class::Retrained => vec![],
    };
    let mut cells: Vec<Cell> = pairs.par_iter().map(of).flatten_iter().collect();
    cells.extend(retrained(pairs.iter().filter(|pair| class(pair) == Class::Retrained), floors));
    cells
}

fn empty(
    question: &str,
    trial: Option<&str>,
    metric: Metric,
    class: Class,
    means: (f64, f64),
    floors: &Floors,
) -> Cell {
    Cell {
        question: question.into(),
        trial: trial.map(Into::into),
        metric,
        class,
        n: 0,
        accepted: means.0,
        tonight: means.1,
        interval: None,
        flipped: None,
        allowed: None,
        p: None,
        p_adjusted: None,
        floor: floor(metric, means.0, floors),
        says: Says::Shown,
    }
}

/// The outcomes per query that were accepted as metrics. A baseline keeps ranks, not scores: those are compared by their
/// intervals.
fn outcomes(pair: &Pair<'_>) -> Vec<Outcome> {
    let known = values(pair.a);
    Outcome::of_pair(pair)
        .into_iter()
        .filter(|o| known.contains_key(&o.metric()) && !matches!(o, Outcome::Score(_)))
        .collect()
}

/// An outcome of a pair: the cell without a verdict, and its test.
fn paired(pair: &Pair<'_>, outcome: Outcome, class: Class, floors: &Floors) -> (Cell, outcome::Tested) {
    let answered = outcome::answered(pair, outcome);
    let value = |q: &QueryOutcome| outcome.value(q).unwrap_or_default();
    let (a, b): (Vec<f64>, Vec<f64>) = answered.iter().map(|(x, y)| (value(x), value(y))).unzip();
    let labels: Vec<u32> = answered.iter().map(|(x, _)| x.label).collect();
    let tested = outcome::test(&a, &b, &labels, outcome.is_hit());
    let cell = Cell {
        n: tested.queries,
        interval: Some(tested.interval()),
        flipped: Some(if outcome.higher_is_better() { tested.only } else { (tested.only.1, tested.only.0) }),
        ..empty(&pair.question.to_string(), Some(&pair.b.trial), outcome.metric(), class, tested.means, floors)
    };
    (cell, tested)
}

/// Class 1: flips are counted both ways; a figure without queries may move as little.
fn same(pair: &Pair<'_>, floors: &Floors) -> Vec<Cell> {
    let question = pair.question.to_string();
    let mut cells = Vec::new();
    for outcome in outcomes(pair).into_iter().filter(|o| o.is_hit()) {
        let (mut cell, tested) = paired(pair, outcome, Class::Same, floors);
        let (flips, allowed) = (tested.only.0 + tested.only.1, (FLIPS * tested.queries as f64).max(1.0) as u64);
        cell.allowed = Some(allowed);
        cell.says = match flips {
            0 => Says::Identical,
            flips if flips <= allowed => Says::Within,
            _ => Says::Drift,
        };
        cells.push(cell);
    }
    let (then, now) = (values(pair.a), values(pair.b));
    for (metric, accepted) in &then {
        let Some(tonight) = now.get(metric).filter(|_| cells.iter().all(|c| c.metric != *metric)) else { continue };
        let mut cell =
            empty(&question, Some(&pair.b.trial), *metric, Class::Same, (accepted.value, tonight.value), floors);
        let scale = if metric.about().percent { 1.0 } else { accepted.value.abs().max(1e-6) };
        // One query of a few moves a mean by more than the share that may flip.
        let allowed = FLIPS.max(1.0 / f64::from(accepted.n.max(1))) * scale;
        cell.n = accepted.n as usize;
        cell.says = match cell.change().abs() {
            0.0 => Says::Identical,
            change if change <= allowed || metric.direction() == Direction::Neutral => Says::Within,
            _ => Says::Drift,
        };
        cells.push(cell);
    }
    cells
}

/// Class 2: paired where there is an outcome per query; else the two intervals, taken as independent, which errs on the
/// quiet side.
fn new_artefact(pair: &Pair<'_>, floors: &Floors) -> Vec<Cell> {
    let question = pair.question.to_string();
    let mut cells = Vec::new();
    for outcome in outcomes(pair) {
        let (mut cell, tested) = paired(pair, outcome, Class::NewArtefact, floors);
        let (smaller, larger) = tested.p;
        cell.p = Some(if outcome.higher_is_better() { (smaller, larger) } else { (larger, smaller) });
        cells.push(cell);
    }
    let now = values(pair.b);
    for (metric, accepted) in values(pair.a) {
        let Some(tonight) = now.get(&metric).filter(|_| cells.iter().all(|c| c.metric != metric)) else { continue };
        let means = (accepted.value, tonight.value);
        let mut cell = empty(&question, Some(&pair.b.trial), metric, Class::NewArtefact, means, floors);
        cell.n = accepted.n as usize;
        if metric.direction() != Direction::Neutral && !is_derived(metric) {
            cell.p = unpaired(metric, &accepted, tonight);
        }
        cells.push(cell);
    }
    cells
}

/// One-sided p-values of worse and better from two intervals.
fn unpaired(metric: Metric, accepted: &Estimate, tonight: &Estimate) -> Option<(f64, f64)> {
    let error = |e: &Estimate| (e.high - e.low) / (2.0 * normal::quantile(0.975));
    if accepted.basis.is_none() || tonight.basis.is_none() {
        return None;
    }
    let spread = error(accepted).hypot(error(tonight));
    if spread <= 0.0 {
        return None;
    }
    let gain = match metric.direction() {
        Direction::Higher => tonight.value - accepted.value,
        _ => accepted.value - tonight.value,
    } / spread;
    Some((normal::cdf(gain), normal::cdf(-gain)))
}

/// Class 3: one cell for all seeds of a question.
fn retrained<'a>(pairs: impl Iterator<Item = &'a Pair<'a>>, floors: &Floors) -> Vec<Cell> {
    let mut by_question: BTreeMap<Question, Vec<&Pair<'a>>> = BTreeMap::new();
    for pair in pairs {
        let question = Question { model_seed: 0, ..pair.question.clone() };
        by_question.entry(question).or_default().push(pair);
    }
    let mut cells = Vec::new();
    for pairs in by_question.into_values() {
        let question = pairs[0].question.without_seed();
        for metric in values(pairs[0].a).into_keys() {
            let side = |pick: fn(&Pair<'a>) -> Option<BTreeMap<Metric, Estimate>>| -> Vec<f64> {
                pairs.iter().filter_map(|pair| Some(pick(pair)?.get(&metric)?.value)).collect()
            };
            let (then, now) = (side(|pair| Some(values(pair.a))), side(|pair| Some(values(pair.b))));
            let (Some(a), Some(b)) = (seeds::summarise(&then), seeds::summarise(&now)) else { continue };
            let mut cell = empty(&question, None, metric, Class::Retrained, (a.mean, b.mean), floors);
            cell.n = now.len();
            let (below, above) = (seeds::welch_below(&then, &now), seeds::welch_below(&now, &then));
            cell.p = match metric.direction() {
                Direction::Neutral => None,
                _ if is_derived(metric) => None,
                Direction::Higher => below.zip(above),
                Direction::Lower => above.zip(below),
            };
            cells.push(cell);
        }
    }
    cells
}

/// A failure in words and numbers.
pub(super) fn in_words(cell: &Cell) -> String {
    let (then, now) = (number(cell.metric, cell.accepted), number(cell.metric, cell.tonight));
    let base = format!("{} was {then}, is {now}", cell.metric);
    match (cell.class, cell.flipped, cell.allowed) {
        (Class::Same, Some((lost, gained)), Some(allowed)) => format!(
            "{base}: the same file gives {} of {} queries another outcome ({lost} lost, {gained} gained), {allowed} may flip by rounding",
            lost + gained,
            cell.n
        ),
        (Class::Same, ..) => format!("{base}: the same file gives another value than rounding explains"),
        (Class::NewArtefact, Some((lost, gained)), _) => format!(
            "{base}: {lost} queries lost and {gained} gained of {} (p = {:.2e} after Holm, more than the floor of {})",
            cell.n,
            cell.p_adjusted.unwrap_or(f64::NAN),
            number(cell.metric, cell.floor)
        ),
        (Class::NewArtefact, None, _) => format!(
            "{base} (p = {:.2e} after Holm, more than the floor of {})",
            cell.p_adjusted.unwrap_or(f64::NAN),
            number(cell.metric, cell.floor)
        ),
        (Class::Retrained, ..) => format!(
            "{base}, means over {} seeds (Welch, p = {:.2e} after Holm, more than the floor of {})",
            cell.n,
            cell.p_adjusted.unwrap_or(f64::NAN),
            number(cell.metric, cell.floor)
        ),
    }
}

/// Percent for shares, four digits for the rest.
pub(crate) fn number(metric: Metric, value: f64) -> String {
    if metric.about().percent { format!("{:.2} %", 100.0 * value) } else { format!("{value:.4}") }
}

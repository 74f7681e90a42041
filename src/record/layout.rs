//! Which columns each kind of row has, and back.
//!
//! Lists of indices are text with spaces between, and checks are one JSON text: every Parquet reader and every
//! spreadsheet takes those, and nothing depends on how a library nests lists.

use std::collections::BTreeSet;

use super::columns::{ColumnError, Columns, Values, list_text};
use super::{Check, Estimate, Measurement, MetricEstimate, QueryOutcome, RecallAt, StepPoint, TrainingPoint};
use crate::metric::kind::Metric;

fn texts<T>(rows: &[T], get: impl Fn(&T) -> &str) -> Values {
    Values::Text(rows.iter().map(|row| get(row).to_string()).collect())
}

fn wholes<T>(rows: &[T], get: impl Fn(&T) -> u32) -> Values {
    Values::Whole(rows.iter().map(get).collect())
}

fn reals<T>(rows: &[T], get: impl Fn(&T) -> Option<f64>) -> Values {
    Values::Real(rows.iter().map(get).collect())
}

fn push_estimate<T>(columns: &mut Columns, name: &str, rows: &[T], get: impl Fn(&T) -> Option<Estimate>) {
    let bound = |row: &T| get(row).filter(|e| e.basis.is_some());
    columns.push(name, reals(rows, |row| get(row).map(|e| e.value)));
    columns.push(&format!("{name}_low"), reals(rows, |row| bound(row).map(|e| e.low)));
    columns.push(&format!("{name}_high"), reals(rows, |row| bound(row).map(|e| e.high)));
    columns.push(&format!("{name}_n"), wholes(rows, |row| get(row).map_or(0, |e| e.n)));
    let basis = |row: &T| bound(row).and_then(|e| e.basis).map(|basis| basis.to_string()).unwrap_or_default();
    columns.push(&format!("{name}_interval"), Values::Text(rows.iter().map(basis).collect()));
}

fn estimates(columns: &Columns, name: &str) -> Result<Vec<Option<Estimate>>, ColumnError> {
    let value = columns.real(name)?;
    let (low, high) = (columns.real(&format!("{name}_low"))?, columns.real(&format!("{name}_high"))?);
    let (n, interval) = (columns.whole(&format!("{name}_n"))?, format!("{name}_interval"));
    let texts = columns.text(&interval)?;
    let row = |row: usize| -> Result<Option<Estimate>, ColumnError> {
        let Some(point) = value[row] else { return Ok(None) };
        let text = &texts[row];
        let wanted = "where an interval comes from, such as `BCa over 12 classes`";
        let wrong = |_| ColumnError::Cell { name: interval.clone(), row, got: text.clone(), wanted };
        let basis = if text.is_empty() { None } else { Some(text.parse().map_err(wrong)?) };
        let (low, high) = (low[row].unwrap_or(point), high[row].unwrap_or(point));
        Ok(Some(Estimate { value: point, low, high, n: n[row], basis }))
    };
    (0..value.len()).map(row).collect()
}

/// One group of columns for each metric that any row has.
fn push_metrics(columns: &mut Columns, rows: &[Measurement]) {
    let metrics: BTreeSet<Metric> = rows.iter().flat_map(|m| m.metrics.iter().map(|e| e.metric)).collect();
    for metric in metrics {
        let at = |m: &Measurement| m.metrics.iter().find(|e| e.metric == metric).cloned();
        push_estimate(columns, &metric.column(), rows, |m| at(m).and_then(|e| e.estimate));
        let note = |m: &Measurement| at(m).map(|e| e.note).unwrap_or_default();
        columns.push(&format!("{}_note", metric.column()), Values::Text(rows.iter().map(note).collect()));
    }
}

type MetricColumn = (Metric, Vec<Option<Estimate>>, Vec<String>);

/// The groups of columns that [`push_metrics`] made.
fn metric_columns(columns: &Columns) -> Result<Vec<MetricColumn>, ColumnError> {
    let mut found = Vec::new();
    for (name, _) in &columns.0 {
        if let Some(metric) = Metric::of_column(name).filter(|metric| !matches!(metric, Metric::RecallAt(_))) {
            found.push((metric, estimates(columns, name)?, columns.text(&format!("{name}_note"))?.to_vec()));
        }
    }
    Ok(found)
}

/// Shares are in `[0, 1]`; the unit of everything else is in the column's name.
pub(super) fn from_measurements(rows: &[Measurement]) -> Columns {
    let mut c = Columns::default();
    c.push("trial", texts(rows, |m| &m.trial));
    c.push("suite", texts(rows, |m| &m.suite));
    c.push("dataset", texts(rows, |m| &m.dataset));
    c.push("split", texts(rows, |m| &m.split));
    c.push("model", texts(rows, |m| &m.model));
    c.push("training", texts(rows, |m| &m.training));
    c.push("model_seed", Values::Wide(rows.iter().map(|m| m.model_seed).collect()));
    c.push("artefact", texts(rows, |m| &m.artefact));
    c.push("crafter", texts(rows, |m| &m.crafter));
    c.push("attack", texts(rows, |m| &m.attack));
    c.push("goal", texts(rows, |m| &m.goal));
    c.push("method", texts(rows, |m| &m.method));
    c.push("side", texts(rows, |m| &m.side));
    c.push("crafted_by", texts(rows, |m| &m.crafted_by));
    c.push("crafted_on", texts(rows, |m| &m.crafted_on));
    c.push("answered_by", texts(rows, |m| &m.answered_by));
    c.push("epsilon", texts(rows, |m| &m.epsilon));
    c.push("epsilon_pixels", reals(rows, |m| Some(m.epsilon_pixels)));
    c.push("norm", texts(rows, |m| &m.norm));
    c.push("steps", wholes(rows, |m| m.steps));
    c.push("restarts", wholes(rows, |m| m.restarts));
    c.push("seed", Values::Wide(rows.iter().map(|m| m.seed).collect()));
    c.push("queries", wholes(rows, |m| m.queries));
    c.push("queries_available", wholes(rows, |m| m.queries_available));
    c.push("queries_without_positive", wholes(rows, |m| m.without_positive));
    c.push("query_classes", wholes(rows, |m| m.query_classes));
    c.push("gallery_images", wholes(rows, |m| m.gallery));
    let ks: BTreeSet<u32> = rows.iter().flat_map(|m| m.recall.iter().map(|r| r.k)).collect();
    for k in ks {
        let at = |m: &Measurement| m.recall.iter().find(|r| r.k == k).map(|r| r.estimate);
        push_estimate(&mut c, &format!("recall_at_{k}"), rows, at);
    }
    push_estimate(&mut c, "success_share", rows, |m| m.success);
    push_estimate(&mut c, "shift_distance", rows, |m| m.shift);
    push_metrics(&mut c, rows);
    c.push("linf_max_pixels", reals(rows, |m| m.linf_max));
    c.push("l2_mean_pixels", reals(rows, |m| m.l2_mean));
    c.push("evaluations_mean", reals(rows, |m| m.evaluations_mean));
    let checks = |m: &Measurement| serde_json::to_string(&m.checks).expect("checks are text and flags");
    c.push("checks", Values::Text(rows.iter().map(checks).collect()));
    c.push("provider", texts(rows, |m| &m.provider));
    c.push("selected_on", texts(rows, |m| &m.selected_on));
    c.push("error", Values::OptionalText(rows.iter().map(|m| m.error.clone()).collect()));
    c
}

pub(super) fn to_measurements(c: &Columns) -> Result<Vec<Measurement>, ColumnError> {
    let mut recalls: Vec<(u32, Vec<Option<Estimate>>)> = Vec::new();
    for (name, _) in &c.0 {
        if let Some(k) = name.strip_prefix("recall_at_").and_then(|k| k.parse().ok()) {
            recalls.push((k, estimates(c, name)?));
        }
    }
    recalls.sort_by_key(|(k, _)| *k);
    let (success, shift) = (estimates(c, "success_share")?, estimates(c, "shift_distance")?);
    let metrics = metric_columns(c)?;
    let epsilon_pixels = c.present("epsilon_pixels")?;
    let checks = c.text("checks")?;
    let mut rows = Vec::with_capacity(c.rows());
    for row in 0..c.rows() {
        let text = |name: &str| c.text(name).map(|values| values[row].clone());
        // Columns that older files lack.
        let text_or_empty = |name: &str| c.text(name).map_or_else(|_| String::new(), |values| values[row].clone());
        let whole = |name: &str| c.whole(name).map(|values| values[row]);
        let at = |(k, values): &(u32, Vec<Option<Estimate>>)| values[row].map(|estimate| RecallAt { k: *k, estimate });
        // A metric that a row does not have has neither a value nor a note.
        let metric = |(metric, values, notes): &MetricColumn| {
            let (estimate, note) = (values[row], notes[row].clone());
            (estimate.is_some() || !note.is_empty()).then_some(MetricEstimate { metric: *metric, estimate, note })
        };
        let checks: Vec<Check> = serde_json::from_str(&checks[row]).map_err(|_| ColumnError::Cell {
            name: "checks".into(),
            row,
            got: checks[row].clone(),
            wanted: "a JSON list of checks",
        })?;
        rows.push(Measurement {
            trial: text("trial")?,
            suite: text("suite")?,
            dataset: text("dataset")?,
            split: if c.has("split") { text("split")? } else { String::new() },
            model: text("model")?,
            training: text("training")?,
            model_seed: c.wide("model_seed")?[row],
            artefact: text("artefact")?,
            // Files of earlier versions lack it.
            crafter: c.text("crafter").map_or_else(|_| String::new(), |column| column[row].clone()),
            attack: text("attack")?,
            goal: text("goal")?,
            method: text("method")?,
            side: text("side")?,
            crafted_by: text_or_empty("crafted_by"),
            crafted_on: text("crafted_on")?,
            answered_by: text("answered_by")?,
            epsilon: text("epsilon")?,
            epsilon_pixels: epsilon_pixels[row],
            // Columns that older files lack.
            norm: if c.has("norm") { text("norm")? } else { String::new() },
            steps: whole("steps")?,
            restarts: whole("restarts")?,
            seed: c.wide("seed")?[row],
            queries: whole("queries")?,
            queries_available: whole("queries_available")?,
            without_positive: whole("queries_without_positive")?,
            query_classes: whole("query_classes")?,
            gallery: whole("gallery_images")?,
            recall: recalls.iter().filter_map(at).collect(),
            success: success[row],
            shift: shift[row],
            metrics: metrics.iter().filter_map(metric).collect(),
            linf_max: c.real("linf_max_pixels")?[row],
            l2_mean: c.real("l2_mean_pixels")?[row],
            evaluations_mean: if c.has("evaluations_mean") { c.real("evaluations_mean")?[row] } else { None },
            checks,
            provider: text("provider")?,
            selected_on: text("selected_on")?,
            error: c.optional_text("error")?[row].clone(),
        });
    }
    Ok(rows)
}

pub(super) fn from_queries(rows: &[QueryOutcome]) -> Columns {
    let single = |get: fn(&QueryOutcome) -> f32| Values::Single(rows.iter().map(get).collect());
    let mut c = Columns::default();
    c.push("trial", texts(rows, |q| &q.trial));
    c.push("query", wholes(rows, |q| q.query));
    c.push("label", wholes(rows, |q| q.label));
    c.push("first_hit", wholes(rows, |q| q.first_hit));
    c.push("neighbors", Values::Text(rows.iter().map(|q| list_text(&q.neighbors)).collect()));
    c.push("targets", Values::Text(rows.iter().map(|q| list_text(&q.targets)).collect()));
    c.push("success", Values::Flag(rows.iter().map(|q| q.success).collect()));
    c.push("target_rank", wholes(rows, |q| q.target_rank));
    c.push("shift_distance", single(|q| q.shift));
    c.push("linf_pixels", single(|q| q.linf));
    c.push("l2_pixels", single(|q| q.l2));
    c.push("loss", single(|q| q.loss));
    c.push("score", reals(rows, |q| q.score));
    c.push("map_at_r", reals(rows, |q| q.map_at_r));
    c.push("broken_by", texts(rows, |q| &q.broken_by));
    c.push("evaluations", wholes(rows, |q| q.evaluations));
    c
}

pub(super) fn to_queries(c: &Columns) -> Result<Vec<QueryOutcome>, ColumnError> {
    let (trial, query, label) = (c.text("trial")?, c.whole("query")?, c.whole("label")?);
    let (first_hit, success) = (c.whole("first_hit")?, c.flag("success")?);
    let target_rank = c.whole("target_rank")?;
    let (shift, linf, l2) = (c.single("shift_distance")?, c.single("linf_pixels")?, c.single("l2_pixels")?);
    let loss = c.single("loss")?;
    // Columns that older files lack.
    let (score, map_at_r) = (c.real_if_there("score")?, c.real_if_there("map_at_r")?);
    let broken_by = if c.has("broken_by") { c.text("broken_by")?.to_vec() } else { vec![String::new(); c.rows()] };
    let evaluations = if c.has("evaluations") { c.whole("evaluations")?.to_vec() } else { vec![0; c.rows()] };
    let lists = c.lists("neighbors")?.into_iter().zip(c.lists("targets")?);
    let row = |(i, (neighbors, targets)): (usize, (Vec<u32>, Vec<u32>))| QueryOutcome {
        trial: trial[i].clone(),
        query: query[i],
        label: label[i],
        first_hit: first_hit[i],
        neighbors,
        targets,
        success: success[i],
        target_rank: target_rank[i],
        shift: shift[i],
        linf: linf[i],
        l2: l2[i],
        loss: loss[i],
        score: score[i],
        map_at_r: map_at_r[i],
        broken_by: broken_by[i].clone(),
        evaluations: evaluations[i],
    };
    Ok(lists.enumerate().map(row).collect())
}

/// The columns of queries that a comparison needs.
pub(super) const OUTCOMES: [&str; 8] =
    ["trial", "query", "label", "first_hit", "success", "target_rank", "score", "map_at_r"];

/// Rows with what [`OUTCOMES`] holds; lists are empty and distances zero.
pub(super) fn to_outcomes(mut c: Columns) -> Result<Vec<QueryOutcome>, ColumnError> {
    // A million keys: moved, not copied.
    let trial = c.take_text("trial")?;
    let (query, label, first_hit) = (c.whole("query")?, c.whole("label")?, c.whole("first_hit")?);
    let (success, target_rank) = (c.flag("success")?, c.whole("target_rank")?);
    let (score, map_at_r) = (c.real_if_there("score")?, c.real_if_there("map_at_r")?);
    let row = |(i, trial): (usize, String)| QueryOutcome {
        trial,
        query: query[i],
        label: label[i],
        first_hit: first_hit[i],
        success: success[i],
        target_rank: target_rank[i],
        score: score[i],
        map_at_r: map_at_r[i],
        ..QueryOutcome::default()
    };
    Ok(trial.into_iter().enumerate().map(row).collect())
}

/// The columns of queries that a report needs.
pub(super) const REPORTED: [&str; 5] = ["trial", "query", "label", "first_hit", "shift_distance"];

/// Rows with what [`REPORTED`] holds.
pub(super) fn to_reported(mut c: Columns) -> Result<Vec<QueryOutcome>, ColumnError> {
    let trial = c.take_text("trial")?;
    let (query, label, first_hit) = (c.whole("query")?, c.whole("label")?, c.whole("first_hit")?);
    let shift = c.single("shift_distance")?;
    let row = |(i, trial): (usize, String)| QueryOutcome {
        trial,
        query: query[i],
        label: label[i],
        first_hit: first_hit[i],
        shift: shift[i],
        ..QueryOutcome::default()
    };
    Ok(trial.into_iter().enumerate().map(row).collect())
}

const QUARTILES: [&str; 3] = ["loss_quartile_1", "loss_median", "loss_quartile_3"];

pub(super) fn from_steps(rows: &[StepPoint]) -> Columns {
    let mut c = Columns::default();
    c.push("trial", texts(rows, |s| &s.trial));
    c.push("step", wholes(rows, |s| s.step));
    c.push("images", wholes(rows, |s| s.images));
    c.push("running", wholes(rows, |s| s.running));
    c.push("loss_mean", reals(rows, |s| Some(s.loss)));
    for (place, name) in QUARTILES.iter().enumerate() {
        c.push(name, reals(rows, |s| Some(s.quartiles[place])));
    }
    c
}

pub(super) fn to_steps(mut c: Columns) -> Result<Vec<StepPoint>, ColumnError> {
    let trial = c.take_text("trial")?;
    let (step, images, running) = (c.whole("step")?, c.whole("images")?, c.whole("running")?);
    let loss = c.present("loss_mean")?;
    let [first, second, third] = QUARTILES.map(|name| c.present(name));
    let (first, second, third) = (first?, second?, third?);
    let row = |(i, trial): (usize, String)| StepPoint {
        trial,
        step: step[i],
        images: images[i],
        running: running[i],
        loss: loss[i],
        quartiles: [first[i], second[i], third[i]],
    };
    Ok(trial.into_iter().enumerate().map(row).collect())
}

pub(super) fn from_training(rows: &[TrainingPoint]) -> Columns {
    let mut c = Columns::default();
    c.push("model", texts(rows, |t| &t.model));
    c.push("seed", Values::Wide(rows.iter().map(|t| t.seed).collect()));
    c.push("epoch", wholes(rows, |t| t.epoch));
    c.push("loss", reals(rows, |t| Some(t.loss)));
    c.push("selection_recall_at_1", reals(rows, |t| t.selection_recall));
    c.push("learning_rate", reals(rows, |t| Some(t.learning_rate)));
    c
}

pub(super) fn to_training(c: &Columns) -> Result<Vec<TrainingPoint>, ColumnError> {
    let (model, seed, epoch) = (c.text("model")?, c.wide("seed")?, c.whole("epoch")?);
    let (loss, learning_rate) = (c.present("loss")?, c.present("learning_rate")?);
    let selection = c.real("selection_recall_at_1")?;
    let row = |i: usize| TrainingPoint {
        model: model[i].clone(),
        seed: seed[i],
        epoch: epoch[i],
        loss: loss[i],
        selection_recall: selection[i],
        learning_rate: learning_rate[i],
    };
    Ok((0..c.rows()).map(row).collect())
}

//! Tables as data; pages, Markdown and the terminal only lay them out.

use std::collections::BTreeSet;

use super::seed_mean::SeedMean;
use super::summary::{Cell, Condition, Summary};
use super::words::ratio;
use crate::record::{Estimate, Measurement, Run};

/// A cell: text, perhaps an interval below it, perhaps marks of footnotes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableCell {
    /// What it says.
    pub text: String,
    /// Smaller, beside or below.
    pub detail: Option<String>,
    /// Numbers of notes, from 1.
    pub marks: Vec<usize>,
}

impl TableCell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), detail: None, marks: vec![] }
    }
}

/// A table with a row header in its first column.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// What it shows, with the unit.
    pub caption: String,
    /// Column heads.
    pub head: Vec<String>,
    /// Leading columns that hold words; the rest are numbers, aligned right.
    pub words: usize,
    /// Rows, as long as the head.
    pub rows: Vec<Vec<TableCell>>,
    /// Numbered notes.
    pub notes: Vec<String>,
    /// Notes without a number.
    pub remarks: Vec<String>,
}

fn share(value: f64) -> String {
    format!("{:.1}", 100.0 * value)
}

fn span(low: f64, high: f64) -> String {
    format!("[{}, {}]", share(low), share(high))
}

/// recall@1 per model and condition, with intervals and marks.
pub fn headline(summary: &Summary) -> Table {
    let mut table = Table {
        caption: "recall@1 in percent (a hit rate): share of queries whose nearest other image has their class".into(),
        head: std::iter::once("model".to_string()).chain(summary.conditions.iter().map(Condition::label)).collect(),
        words: 1,
        ..Table::default()
    };
    for model in &summary.models {
        let mut row = vec![TableCell::new(&model.model)];
        for (cell, condition) in model.cells.iter().zip(&summary.conditions) {
            row.push(recall_cell(cell.as_ref(), &model.model, condition, &mut table.notes));
        }
        table.rows.push(row);
    }
    let seeds: BTreeSet<(usize, u32)> = (summary.models.iter())
        .flat_map(|m| m.cells.iter().flatten().filter_map(|c| c.recall.as_ref()))
        .map(|r| (r.seeds, r.queries))
        .collect();
    let counts: Vec<String> = seeds.iter().map(|(s, q)| format!("{s} × {q}")).collect();
    if !counts.is_empty() {
        table.remarks.push(format!("Trained seeds × queries: {}.", counts.join(", ")));
    }
    table.remarks.extend(summary.kinds().iter().map(|k| format!("Brackets, {}.", k.in_words())));
    let recalls = summary.models.iter().flat_map(|m| m.cells.iter().flatten().filter_map(|c| c.recall.as_ref()));
    table.remarks.extend(bases_in_words(recalls));
    table
}

/// Where the intervals of the trials behind these numbers come from.
pub(super) fn bases_in_words<'a>(means: impl Iterator<Item = &'a SeedMean>) -> Option<String> {
    let bases: BTreeSet<String> = means.flat_map(|mean| mean.bases.iter().map(ToString::to_string)).collect();
    let list: Vec<String> = bases.into_iter().collect();
    (!list.is_empty()).then(|| format!("95 % intervals of single trials: {}.", list.join(", ")))
}

fn recall_cell(cell: Option<&Cell>, model: &str, condition: &Condition, notes: &mut Vec<String>) -> TableCell {
    let Some(cell) = cell else { return TableCell::new("–") };
    let mut out = match &cell.recall {
        Some(r) => TableCell { text: share(r.value), detail: Some(span(r.low, r.high)), marks: vec![] },
        None if cell.errors.is_empty() => TableCell::new("–"),
        None => TableCell::new("failed"),
    };
    for why in cell.failed_checks.iter().chain(&cell.errors) {
        notes.push(format!("{model}, {}, {why}", condition.label()));
        out.marks.push(notes.len());
    }
    out
}

/// recall@1 divided by the baseline's; `None` without a baseline or a second model.
pub fn ratios(summary: &Summary) -> Option<Table> {
    let baseline = &summary.models[summary.baseline.filter(|_| summary.models.len() > 1)?];
    let mut table = Table {
        caption: format!("recall@1 divided by that of {}", baseline.model),
        head: std::iter::once("model".to_string()).chain(summary.conditions.iter().map(Condition::label)).collect(),
        words: 1,
        ..Table::default()
    };
    for (index, model) in summary.models.iter().enumerate().filter(|(i, _)| Some(*i) != summary.baseline) {
        let cell = |c| TableCell::new(summary.ratio(index, c).map_or("–".into(), |r| format!("{} ×", ratio(r))));
        let cells = (0..summary.conditions.len()).map(cell);
        table.rows.push(std::iter::once(TableCell::new(&model.model)).chain(cells).collect());
    }
    Some(table)
}

/// Each check by name: how many rows it held in, and the rows where it did not.
pub fn checks(run: &Run) -> Option<Table> {
    let mut names: Vec<&str> = Vec::new();
    for check in run.measurements.iter().flat_map(|m| &m.checks) {
        if !names.contains(&check.name.as_str()) {
            names.push(&check.name);
        }
    }
    let row = |name: &&str| {
        let all = || run.measurements.iter().flat_map(|m| &m.checks).filter(|c| c.name == *name);
        let failed = all().filter(|c| !c.passed).count();
        let verdict = if failed == 0 { "✓ held".into() } else { format!("✗ failed in {failed}") };
        vec![TableCell::new(*name), TableCell::new(verdict), TableCell::new(all().count().to_string())]
    };
    (!names.is_empty()).then(|| Table {
        caption: "Soundness checks that travelled with the numbers".into(),
        head: vec!["check".into(), "verdict".into(), "trials".into()],
        words: 2,
        rows: names.iter().map(row).collect(),
        ..Table::default()
    })
}

fn estimate(e: Option<Estimate>, scale: f64, digits: usize) -> TableCell {
    e.map_or(TableCell::new("–"), |e| TableCell {
        text: format!("{:.digits$}", scale * e.value),
        detail: e.basis.map(|_| format!("[{:.digits$}, {:.digits$}]", scale * e.low, scale * e.high)),
        marks: vec![],
    })
}

/// One row per trial, everything measured.
pub fn trials(run: &Run) -> Table {
    let ks: BTreeSet<u32> = run.measurements.iter().flat_map(|m| m.recall.iter().map(|r| r.k)).collect();
    let words = ["model", "seed", "attack", "goal", "method", "side", "branches", "epsilon"];
    let mut head: Vec<String> = words.iter().map(|w| w.to_string()).collect();
    head.extend(ks.iter().map(|k| format!("recall@{k} %")));
    head.extend(["success %", "shift", "L∞ max /255", "L2 mean", "queries", "checks"].map(String::from));
    let row = |m: &Measurement| {
        let branches = format!("{} → {}", m.crafted_on, m.answered_by);
        let method =
            if m.steps > 0 { format!("{}, {} × {}", m.method, m.steps, m.restarts) } else { m.method.clone() };
        let seed = m.model_seed.to_string();
        let texts = [&m.model, &seed, &m.attack, &m.goal, &method, &m.side, &branches, &m.epsilon];
        let mut row: Vec<TableCell> = texts.into_iter().map(TableCell::new).collect();
        if let Some(error) = &m.error {
            row.push(TableCell { text: "failed".into(), detail: Some(error.clone()), marks: vec![] });
            row.resize_with(words.len() + ks.len() + 5, || TableCell::new("–"));
        } else {
            let at = |k: &u32| m.recall.iter().find(|r| r.k == *k).map(|r| r.estimate);
            row.extend(ks.iter().map(|k| estimate(at(k), 100.0, 1)));
            row.push(estimate(m.success, 100.0, 1));
            row.push(estimate(m.shift, 1.0, 3));
            row.push(TableCell::new(m.linf_max.map_or("–".into(), |v| format!("{:.2}", 255.0 * v))));
            row.push(TableCell::new(m.l2_mean.map_or("–".into(), |v| format!("{v:.3}"))));
            let left_out = match m.without_positive {
                0 => String::new(),
                n => format!(", {n} without another image of their class"),
            };
            row.push(TableCell::new(format!("{} of {}{left_out}", m.queries, m.queries_available)));
        }
        let failed: Vec<&str> = m.checks.iter().filter(|c| !c.passed).map(|c| c.name.as_str()).collect();
        let verdict = match (m.checks.is_empty(), failed.is_empty()) {
            (true, _) => "–".into(),
            (_, true) => "✓".into(),
            _ => format!("✗ {}", failed.join(", ")),
        };
        row.push(TableCell::new(verdict));
        row
    };
    Table {
        caption: "Every trial. Shift is the mean Euclidean distance between clean and attacked embedding; L2 in pixel units; method: steps × restarts; branches: crafted on → answered by".into(),
        head,
        words: words.len(),
        rows: run.measurements.iter().map(row).collect(),
        ..Table::default()
    }
}

/// The last epoch of each training, and the epoch with the best selection recall.
pub fn training(run: &Run) -> Option<Table> {
    let mut keys: Vec<(&str, u64)> = Vec::new();
    for point in &run.training {
        if !keys.contains(&(point.model.as_str(), point.seed)) {
            keys.push((&point.model, point.seed));
        }
    }
    let row = |(model, seed): &(&str, u64)| {
        let points = || run.training.iter().filter(|p| p.model == *model && p.seed == *seed);
        let last = points().max_by_key(|p| p.epoch);
        let best = points()
            .filter_map(|p| p.selection_recall.map(|r| (r, p.epoch)))
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        vec![
            TableCell::new(*model),
            TableCell::new(seed.to_string()),
            TableCell::new(last.map_or("–".into(), |p| p.epoch.to_string())),
            TableCell::new(last.map_or("–".into(), |p| format!("{:.4}", p.loss))),
            TableCell::new(best.map_or("–".into(), |(r, _)| share(r))),
            TableCell::new(best.map_or("–".into(), |(_, epoch)| epoch.to_string())),
        ]
    };
    (!keys.is_empty()).then(|| Table {
        caption: "Trainings".into(),
        head: ["model", "seed", "epochs", "last loss", "best selection recall@1 %", "in epoch"]
            .map(String::from)
            .into(),
        words: 2,
        rows: keys.iter().map(row).collect(),
        ..Table::default()
    })
}

/// What was done, in words, one sentence per attack family.
pub fn threat_model(summary: &Summary) -> Vec<String> {
    let sentence = |columns: &Vec<usize>| {
        let c = &summary.conditions[columns[0]];
        let from = match c.method.as_str() {
            "noise" => String::new(),
            _ => format!("white box: gradients of branch {} of the exported ONNX file; ", c.crafted_on),
        };
        let budgets: Vec<&str> = columns.iter().map(|i| summary.conditions[*i].epsilon.as_str()).collect();
        let wish = match c.goal.as_str() {
            "single-target" => "each image is moved until its embedding lies on that of one image of another identity",
            "untargeted" => "each embedding is moved away from its clean place, anywhere",
            goal if goal.starts_with("multi-target") => {
                "each embedding is moved towards images of several other identities at once"
            }
            _ => "no goal: the control that every attack must beat",
        };
        let who = match c.side.as_str() {
            "query" => "only the query is perturbed, the gallery stays clean",
            "all" => "queries and gallery are the same perturbed set",
            _ => "who is perturbed is not recorded",
        };
        let how = match c.method.as_str() {
            "pgd" => {
                format!("projected gradient descent, {} steps, restarts: {}, best iterate kept", c.steps, c.restarts)
            }
            "fgsm" => "one signed gradient step".into(),
            "noise" => "uniform noise".into(),
            other => other.to_string(),
        };
        format!(
            "{} ({}): {wish}; {who}; {how}; L∞ budget {} in pixel units; {from}answered by branch {}.",
            c.attack,
            c.goal,
            budgets.join(", "),
            c.answered_by
        )
    };
    summary.families().iter().map(sentence).collect()
}

/// How the run was made; without times and threads, so that the same inputs give the same report.
pub fn manifest(run: &Run) -> Table {
    let m = &run.manifest;
    let mut rows = vec![
        ("suite".to_string(), m.suite.clone()),
        ("command".into(), m.command.clone()),
        ("program".into(), m.program.clone()),
        ("plan digest".into(), m.plan.clone()),
        ("data set".into(), m.dataset.clone()),
        ("data set digest".into(), m.dataset_digest.clone()),
    ];
    rows.extend(m.versions.iter().cloned());
    rows.extend(m.models.iter().map(|(id, about)| (format!("model {id}"), about.clone())));
    let mut artefacts = BTreeSet::new();
    for row in &run.measurements {
        artefacts.insert((
            &row.model,
            row.model_seed,
            &row.answered_by,
            &row.artefact,
            &row.selected_on,
            &row.provider,
        ));
    }
    for (model, seed, branch, artefact, selected, provider) in artefacts {
        rows.push((
            format!("{model}, seed {seed}, {branch}"),
            format!("ONNX file {artefact}, epoch selected on {selected}, ran on {provider}"),
        ));
    }
    Table {
        caption: "How this run was made; times and threads are in manifest.json".into(),
        head: vec!["what".into(), "value".into()],
        words: 2,
        rows: rows.into_iter().map(|(k, v)| vec![TableCell::new(k), TableCell::new(v)]).collect(),
        ..Table::default()
    }
}

//! Tables as data; pages, Markdown and the terminal only lay them out.

use std::collections::BTreeSet;

use super::seed_mean::SeedMean;
use super::summary::{Cell, Chapter, Condition, Summary};
use super::words::ratio;
use crate::record::{Check, Estimate, Measurement, Run};
use crate::suite::soundness;

/// A cell: text, perhaps an interval below it, perhaps marks of footnotes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableCell {
    /// What it says.
    pub text: String,
    /// Smaller, beside or below.
    pub detail: Option<String>,
    /// Numbers of notes, from 1.
    pub marks: Vec<usize>,
    /// Anchor of the trials behind it, in the page.
    pub link: Option<String>,
    /// Whether it is the best of its column.
    pub best: bool,
}

impl TableCell {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// Anchor of the trials of a model under a condition.
pub(super) fn anchor(model: usize, condition: usize) -> String {
    format!("m{model}c{condition}")
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

/// recall@1 per model: clean, and under each attack at its largest budget; with intervals and marks.
pub fn headline(summary: &Summary) -> Table {
    let mut table = recall(summary, &summary.headline());
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

/// recall@1 per model under the conditions at `columns`.
///
/// What no query is right or wrong under, as an attacked candidate or a score of several attacks, has no column.
pub fn recall(summary: &Summary, columns: &[usize]) -> Table {
    let says = |cell: &Cell| cell.recall.is_some() || !cell.errors.is_empty() || !cell.failed_checks.is_empty();
    let any = |column: &usize| {
        summary.conditions[*column].is_clean()
            || summary.models.iter().any(|m| m.cells[*column].as_ref().is_some_and(says))
    };
    let columns: Vec<usize> = columns.iter().copied().filter(any).collect();
    let columns = columns.as_slice();
    let heads = columns.iter().map(|c| summary.conditions[*c].label());
    let mut table = Table {
        caption: "recall@1 in percent (a hit rate): share of queries whose nearest other image has their class".into(),
        head: std::iter::once("model".to_string()).chain(heads).collect(),
        words: 1,
        ..Table::default()
    };
    let shown: Vec<usize> = rows_of(summary, columns);
    let mut reasons = Reasons::default();
    for &index in &shown {
        let model = &summary.models[index];
        let mut row = vec![TableCell::new(&model.model)];
        for &column in columns {
            let condition = &summary.conditions[column];
            let cell = recall_cell(model.cells[column].as_ref(), &model.model, condition, &mut reasons);
            let link = model.cells[column].is_some().then(|| anchor(index, column));
            row.push(TableCell { link, best: shown.len() > 1 && is_best(summary, index, column), ..cell });
        }
        table.rows.push(row);
    }
    table.notes = reasons.notes();
    table
}

/// recall@1 under all conditions of a section; of a transfer the matrix of who crafts and who answers.
pub fn chapter(summary: &Summary, chapter: Chapter, columns: &[usize]) -> Table {
    let mut table = recall(summary, columns);
    if chapter != Chapter::Transfer {
        return table;
    }
    table.caption =
        "recall@1 in percent: rows answer, columns say at their end who crafted; where both are one model it is \
                     the white box"
            .into();
    for row in &mut table.rows {
        let model = row[0].text.clone();
        for (cell, column) in row[1..].iter_mut().zip(columns) {
            if summary.conditions[*column].crafter() == Some(&model) {
                let interval = cell.detail.take().map(|detail| detail + " ").unwrap_or_default();
                cell.detail = Some(interval + "white box");
            }
        }
    }
    table
}

/// Why numbers of a table are marked: one note a check, however many trials failed it, and one for each trial's error.
#[derive(Default)]
struct Reasons(Vec<Reason>);

struct Reason {
    /// Name of the check; empty for an error.
    check: String,
    /// The first trial, and what was found in it.
    first: (String, String),
    trials: usize,
}

impl Reasons {
    /// The mark of a check that failed, or of an error if it has no name.
    fn mark(&mut self, check: &str, place: String, found: &str) -> usize {
        let same = |reason: &&mut Reason| !check.is_empty() && reason.check == check;
        if let Some(known) = self.0.iter_mut().find(same) {
            known.trials += 1;
        } else {
            self.0.push(Reason { check: check.into(), first: (place, found.into()), trials: 1 });
            return self.0.len();
        }
        self.0.iter().position(|reason| reason.check == check).map_or(0, |place| place + 1)
    }

    fn notes(self) -> Vec<String> {
        let note = |Reason { check, first: (place, found), trials }: Reason| match (check.is_empty(), trials) {
            (true, _) => format!("{place}: {found}"),
            (_, 1) => format!("{place}: check {check} failed: {found}"),
            _ => format!("check {check} failed in {trials} trials of this table; the first, {place}: {found}"),
        };
        self.0.into_iter().map(note).collect()
    }
}

/// Models that were measured under any of the conditions.
fn rows_of(summary: &Summary, columns: &[usize]) -> Vec<usize> {
    let any = |index: &usize| columns.iter().any(|c| summary.models[*index].cells[*c].is_some());
    (0..summary.models.len()).filter(any).collect()
}

/// Whether no other model has a higher recall@1 there, as it is printed; never where none is above zero.
fn is_best(summary: &Summary, model: usize, column: usize) -> bool {
    let shown = |m: usize| summary.recall(m, column).map(|r| (1000.0 * r.value).round());
    let best = (0..summary.models.len()).filter_map(shown).fold(0.0, f64::max);
    best > 0.0 && shown(model) == Some(best)
}

/// Where the intervals of the trials behind these numbers come from.
pub(super) fn bases_in_words<'a>(means: impl Iterator<Item = &'a SeedMean>) -> Option<String> {
    let bases: BTreeSet<String> = means.flat_map(|mean| mean.bases.iter().map(ToString::to_string)).collect();
    let list: Vec<String> = bases.into_iter().collect();
    (!list.is_empty()).then(|| format!("95 % intervals of single trials: {}.", list.join(", ")))
}

fn recall_cell(cell: Option<&Cell>, model: &str, condition: &Condition, reasons: &mut Reasons) -> TableCell {
    let Some(cell) = cell else { return TableCell::new("–") };
    let mut out = match &cell.recall {
        Some(r) if r.has_interval() => {
            TableCell { detail: Some(span(r.low, r.high)), ..TableCell::new(share(r.value)) }
        }
        Some(r) => TableCell::new(share(r.value)),
        None if cell.errors.is_empty() => TableCell::new("–"),
        None => TableCell::new("failed"),
    };
    let place = format!("{model}, {}", condition.label());
    for failed in &cell.failed_checks {
        let mark = reasons.mark(&failed.name, format!("{place}, seed {}", failed.seed), &failed.detail);
        if !out.marks.contains(&mark) {
            out.marks.push(mark);
        }
    }
    out.marks.extend(cell.errors.iter().map(|error| reasons.mark("", place.clone(), error)));
    out
}

/// recall@1 divided by the baseline's, in the headline's columns; `None` without a baseline or a second model.
pub fn ratios(summary: &Summary) -> Option<Table> {
    let baseline = &summary.models[summary.baseline.filter(|_| summary.models.len() > 1)?];
    let columns = summary.headline();
    let heads = columns.iter().map(|c| summary.conditions[*c].label());
    let mut table = Table {
        caption: format!("recall@1 divided by that of {}", baseline.model),
        head: std::iter::once("model".to_string()).chain(heads).collect(),
        words: 1,
        ..Table::default()
    };
    for (index, model) in summary.models.iter().enumerate().filter(|(i, _)| Some(*i) != summary.baseline) {
        let cell = |c| TableCell::new(summary.ratio(index, c).map_or("–".into(), |r| format!("{} ×", ratio(r))));
        let cells = columns.iter().copied().map(cell);
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
        let verdict = if failed == 0 { "✓ held".to_string() } else { format!("✗ failed in {failed}") };
        let holds = soundness::about(name).map_or("", |about| about.holds);
        [*name, holds, &verdict, &all().count().to_string()].map(TableCell::new).into()
    };
    let failed = |name: &&&str| run.measurements.iter().flat_map(|m| &m.checks).any(|c| c.name == **name && !c.passed);
    let advice = |name: &&str| {
        let about = soundness::about(name)?;
        Some(format!("{name} failed, what to do: {}.", about.otherwise))
    };
    (!names.is_empty()).then(|| Table {
        caption: "Soundness checks that travelled with the numbers".into(),
        head: ["check", "what holds where it passes", "verdict", "trials"].map(String::from).into(),
        words: 3,
        rows: names.iter().map(row).collect(),
        remarks: names.iter().filter(failed).filter_map(advice).collect(),
        ..Table::default()
    })
}

/// Every check that failed, with its trial.
pub fn failed_checks(run: &Run) -> Option<Table> {
    let row = |m: &Measurement, check: &Check| {
        let key = TableCell { link: Some(format!("t-{}", m.trial)), ..TableCell::new(&m.trial) };
        let place = format!("{}, seed {}, {} {}", m.model, m.model_seed, m.attack, m.epsilon);
        vec![TableCell::new(&check.name), key, TableCell::new(place), TableCell::new(&check.detail)]
    };
    let failed = |m: &'_ Measurement| -> Vec<Vec<TableCell>> {
        m.checks.iter().filter(|check| !check.passed).map(|check| row(m, check)).collect()
    };
    let rows: Vec<Vec<TableCell>> = run.measurements.iter().flat_map(failed).collect();
    (!rows.is_empty()).then(|| Table {
        caption: "Checks that failed: the numbers of these trials are marked wherever they are shown".into(),
        head: ["check", "trial", "of", "what was found"].map(String::from).into(),
        words: 4,
        rows,
        ..Table::default()
    })
}

/// What each model is, in its card's or recipe's words.
pub fn models(run: &Run) -> Option<Table> {
    let described = run.manifest.models.iter().filter(|(id, _)| run.measurements.iter().any(|m| m.model == *id));
    let row = |(id, about): &(String, String)| {
        let own = || run.measurements.iter().filter(|m| m.model == *id);
        let seeds: BTreeSet<u64> = own().map(|m| m.model_seed).collect();
        let training = own().next().map_or(String::new(), |m| m.training.clone());
        let selected: BTreeSet<&str> = own().map(|m| m.selected_on.as_str()).collect();
        let selected = selected.into_iter().collect::<Vec<_>>().join(", ");
        let seeds = TableCell::new(seeds.len().to_string());
        [id, &training, about, &selected].map(TableCell::new).into_iter().chain([seeds]).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<TableCell>> = described.map(row).collect();
    (!rows.is_empty()).then(|| Table {
        caption: "The models".into(),
        head: ["model", "training", "what it is", "epoch chosen on", "seeds"].map(String::from).into(),
        words: 4,
        rows,
        ..Table::default()
    })
}

fn estimate(e: Option<Estimate>, scale: f64, digits: usize) -> TableCell {
    let Some(e) = e.filter(|e| e.value.is_finite()) else { return TableCell::new("–") };
    let interval = e.basis.filter(|_| e.low.is_finite() && e.high.is_finite());
    TableCell {
        detail: interval.map(|_| format!("[{:.digits$}, {:.digits$}]", scale * e.low, scale * e.high)),
        ..TableCell::new(format!("{:.digits$}", scale * e.value))
    }
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
            row.push(TableCell { detail: Some(error.clone()), ..TableCell::new("failed") });
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
            TableCell::new(last.filter(|p| p.loss.is_finite()).map_or("–".into(), |p| format!("{:.4}", p.loss))),
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

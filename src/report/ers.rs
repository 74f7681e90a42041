//! RobRank's ten scores and their mean, ERS: what a suite with `goal.robrank` asks for.

use super::metrics::{cell, figure};
use super::seed_mean::{SeedMean, seed_mean};
use super::summary::Summary;
use super::table::{Table, TableCell, anchor, bases_in_words};
use crate::metric::ers::SCORES;
use crate::metric::kind::Metric;
use crate::record::{Measurement, Run};

/// The goal of the row that RobRank's attacks together make.
const GOAL: &str = "robrank";

/// ERS first, its ten scores behind it, a row for each model: a table for each entry of the suite that asks for all of
/// them.
pub fn tables(run: &Run, summary: &Summary) -> Vec<Table> {
    let columns = (0..summary.conditions.len()).filter(|column| summary.conditions[*column].goal == GOAL);
    columns.filter_map(|column| table(run, summary, column)).collect()
}

/// ERS of every model under the first entry that asks for it, the best first.
pub fn sentence(run: &Run, summary: &Summary) -> Option<String> {
    let column = (0..summary.conditions.len()).find(|column| summary.conditions[*column].goal == GOAL)?;
    let condition = &summary.conditions[column];
    let of = |model: &str| {
        let own = run.measurements.iter().filter(|m| m.error.is_none() && m.model == model && condition.matches(m));
        seed_mean(&own.collect::<Vec<_>>(), Metric::Ers.about().range, |m| figure(m, Metric::Ers))
    };
    let mut found: Vec<(&str, f64)> =
        summary.models.iter().filter_map(|m| Some((m.model.as_str(), of(&m.model)?.value))).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    let list: Vec<String> = found.iter().map(|(model, ers)| format!("{ers:.1} for {model}")).collect();
    (!list.is_empty()).then(|| format!("Ranking robustness, ERS of 100 ({}): {}.", condition.label(), list.join(", ")))
}

fn table(run: &Run, summary: &Summary, column: usize) -> Option<Table> {
    let metrics: Vec<Metric> = std::iter::once(Metric::Ers).chain(SCORES).collect();
    let condition = &summary.conditions[column];
    let mut table = Table {
        caption: format!(
            "{}: ERS, the mean of RobRank's ten scores on one scale from 0 (broken) to 100 (untouched), and the scores as \
             they are: percent, tma a cosine, es-d a distance; the arrow says what a robust model has",
            condition.label()
        ),
        head: std::iter::once("model".into()).chain(metrics.iter().map(head)).collect(),
        words: 1,
        ..Table::default()
    };
    let mut shown: Vec<SeedMean> = Vec::new();
    for (index, model) in summary.models.iter().enumerate() {
        let own: Vec<&Measurement> = (run.measurements.iter())
            .filter(|m| m.error.is_none() && m.model == model.model && condition.matches(m))
            .collect();
        let mut line = vec![TableCell::new(&model.model)];
        for metric in &metrics {
            let mean = seed_mean(&own, metric.about().range, |m| figure(m, *metric));
            let link = mean.is_some().then(|| anchor(index, column));
            let is_mean_of_all = matches!(metric, Metric::Ers);
            let mut cell = TableCell { link, ..cell(*metric, mean.as_ref(), &[], &mut vec![]) };
            cell.detail = cell.detail.filter(|_| is_mean_of_all);
            line.push(cell);
            shown.extend(mean.filter(|_| is_mean_of_all));
        }
        table.rows.push(line);
    }
    table.remarks.extend(bases_in_words(shown.iter()));
    (!shown.is_empty()).then_some(table)
}

/// A score under the name of its attack, with the way that is better.
fn head(metric: &Metric) -> String {
    format!("{metric} {}", metric.about().direction.arrow())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample::{self, Shape};
    use crate::record::{Estimate, MetricEstimate};

    #[test]
    fn ers_stands_first_and_its_row_has_no_column_of_recall() {
        let mut run = sample::make(&Shape { queries: 12, levels: vec![8], seeds: 1, stories: 0, ..Shape::default() });
        assert_eq!(tables(&run, &Summary::of(&run)), vec![]);
        let models: Vec<String> = Summary::of(&run).models.iter().map(|m| m.model.clone()).collect();
        for (place, model) in models.iter().enumerate() {
            let mut row = run.measurements.iter().find(|m| m.model == *model).unwrap().clone();
            row.trial = format!("ers{place}");
            (row.attack, row.goal, row.epsilon) = ("all-ten".into(), GOAL.into(), "8/255".into());
            (row.recall, row.checks) = (vec![], vec![]);
            let estimate = |metric, value| {
                let estimate = Estimate { value, low: value - 1.0, high: value + 1.0, n: 12, basis: None };
                MetricEstimate { metric, estimate: Some(estimate), note: String::new() }
            };
            row.metrics = vec![estimate(Metric::Ers, 30.125 + place as f64), estimate(Metric::Tma, 0.5)];
            run.measurements.push(row);
        }
        let summary = Summary::of(&run);
        let found = tables(&run, &summary);
        assert_eq!(found.len(), 1);
        assert!(found[0].caption.starts_with("all-ten: ERS"), "{}", found[0].caption);
        assert_eq!(found[0].head.len(), 12);
        assert_eq!((found[0].head[1].as_str(), found[0].head[6].as_str()), ("ers ↑", "tma ↓"));
        let second: Vec<&str> = found[0].rows[1].iter().map(|cell| cell.text.as_str()).collect();
        assert_eq!((second[0], second[1], second[6], second[2]), (models[1].as_str(), "31.125", "0.500", "–"));
        let best_first: Vec<String> =
            models.iter().enumerate().rev().map(|(place, model)| format!("{}.1 for {model}", 30 + place)).collect();
        let sentence = format!("Ranking robustness, ERS of 100 (all-ten): {}.", best_first.join(", "));
        assert_eq!(super::sentence(&run, &summary), Some(sentence));
        let heads = crate::report::table::headline(&summary).head;
        assert!(!heads.iter().any(|head| head.contains("all-ten")), "{heads:?}");
    }
}

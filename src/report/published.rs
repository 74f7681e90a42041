//! Measured numbers beside published ones.

use super::table::{Table, TableCell};
use crate::metric::kind::Metric;
use crate::record::{Measurement, Run};
use crate::suite::published::Published;

/// One row for each published number of the suite; `None` if it has none.
///
/// The measured one is the mean over training seeds of the trials that the deployed branch both crafted and answered.
pub fn table(run: &Run) -> Option<Table> {
    let published = &run.manifest.published;
    if published.is_empty() {
        return None;
    }
    let rows = published.iter().map(|entry| row(entry, &run.measurements)).collect();
    let head = ["model", "attack", "metric", "published in", "measured", "published", "difference"];
    Some(Table {
        caption: "Measured beside published".into(),
        head: head.map(String::from).to_vec(),
        words: 4,
        rows,
        remarks: vec![
            "Measured: mean ± standard deviation over training seeds; recalls and their differences in percent and points."
                .into(),
        ],
        ..Table::default()
    })
}

fn row(entry: &Published, measurements: &[Measurement]) -> Vec<TableCell> {
    let metric: Option<Metric> = entry.metric.parse().ok();
    let percent = metric.is_some_and(|metric| metric.about().percent);
    let (scale, digits) = if percent { (100.0, 1) } else { (1.0, 3) };
    let number = |value: f64| format!("{:.digits$}", value * scale);
    let spread = |value: f64, sd: Option<f64>| match sd {
        Some(sd) => format!("{} ± {}", number(value), number(sd)),
        None => number(value),
    };
    let values: Vec<f64> = measurements
        .iter()
        .filter(|m| m.model == entry.model && m.attack == entry.attack && m.crafted_on == m.answered_by)
        .filter_map(|m| measured(m, metric?))
        .collect();
    let n = values.len() as f64;
    let mean = (n > 0.0).then(|| values.iter().sum::<f64>() / n);
    let squares = |mean: f64| values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    let sd = mean.filter(|_| n > 1.0).map(|mean| (squares(mean) / (n - 1.0)).sqrt());
    let measured = mean.map_or_else(|| "not measured".into(), |mean| spread(mean, sd));
    let difference = mean.map_or_else(String::new, |mean| format!("{:+.digits$}", (mean - entry.value) * scale));
    let texts = [&entry.model, &entry.attack, &entry.metric, &entry.source].map(TableCell::new);
    let numbers = [measured, spread(entry.value, entry.sd), difference].map(TableCell::new);
    texts.into_iter().chain(numbers).collect()
}

fn measured(row: &Measurement, metric: Metric) -> Option<f64> {
    let estimate = match (&row.error, metric) {
        (Some(_), _) => None,
        (None, Metric::RecallAt(k)) => row.recall.iter().find(|r| r.k == k).map(|r| r.estimate),
        (None, metric) => row.metrics.iter().find(|m| m.metric == metric).and_then(|m| m.estimate),
    };
    estimate.map(|estimate| estimate.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn a_row_has_both_numbers_and_what_lies_between() {
        let mut run = sample::run();
        assert_eq!(table(&run), None);
        let first = run.measurements.iter().find(|m| m.attack == "clean").unwrap().clone();
        let seeds: Vec<f64> = run
            .measurements
            .iter()
            .filter(|m| m.attack == "clean" && m.model == first.model)
            .map(|m| m.recall[0].estimate.value)
            .collect();
        let mean = 100.0 * seeds.iter().sum::<f64>() / seeds.len() as f64;
        let entry = |model: &str| Published {
            model: model.into(),
            attack: "clean".into(),
            metric: format!("recall@{}", first.recall[0].k),
            value: 0.5,
            sd: Some(0.01),
            source: "table S1".into(),
        };
        run.manifest.published = vec![entry(&first.model), entry("absent")];
        let table = table(&run).unwrap();
        let text = |row: usize, column: usize| table.rows[row][column].text.as_str();
        assert!(text(0, 4).starts_with(&format!("{mean:.1}")), "{} for {mean}", text(0, 4));
        assert_eq!(text(0, 5), "50.0 ± 1.0");
        assert_eq!(text(0, 6), format!("{:+.1}", mean - 50.0));
        assert_eq!((text(1, 4), text(1, 6)), ("not measured", ""));
        assert!(table.rows.iter().all(|row| row.len() == table.head.len()));
    }
}

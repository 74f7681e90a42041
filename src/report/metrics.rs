//! Every metric of the suite, model beside model: of ranked lists, and of the embeddings themselves.

use super::seed_mean::{SeedMean, seed_mean};
use super::summary::{Chapter, Summary};
use super::table::{Table, TableCell, anchor, bases_in_words};
use crate::metric::kind::{Metric, Scope};
use crate::record::{Estimate, Measurement, Run};

/// What is measured of ranked lists and of attacks: one table for the clean images, then one for each attack at its
/// largest budget; of one chapter alone if one is named.
pub fn retrieval(run: &Run, summary: &Summary, chapter: Option<Chapter>) -> Vec<Table> {
    let wanted = |metric: Metric| matches!(metric.scope(), Scope::Ranking | Scope::Attack | Scope::Robrank);
    tables(run, summary, "retrieval", chapter, wanted)
}

/// What is measured of the searched embeddings: the clean gallery, and attacked ones where they are searched too.
pub fn geometry(run: &Run, summary: &Summary) -> Vec<Table> {
    let wanted = |metric: Metric| matches!(metric.scope(), Scope::Geometry | Scope::Clustering);
    tables(run, summary, "the searched embeddings", None, wanted)
}

fn tables(
    run: &Run,
    summary: &Summary,
    what: &str,
    chapter: Option<Chapter>,
    wanted: impl Fn(Metric) -> bool,
) -> Vec<Table> {
    let mut explained: Vec<Metric> = Vec::new();
    let columns = summary.headline().into_iter();
    let columns = columns.filter(|c| chapter.is_none_or(|chapter| summary.conditions[*c].chapter() == chapter));
    columns.filter_map(|column| table(run, summary, column, what, &wanted, &mut explained)).collect()
}

/// The metrics of some rows, in their order, with recall@k first.
fn metrics_of(rows: &[&Measurement], wanted: &impl Fn(Metric) -> bool) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    for row in rows {
        let mut own: Vec<Metric> = row.recall.iter().map(|r| Metric::RecallAt(r.k)).collect();
        own.extend(row.success.map(|_| Metric::Success));
        own.extend(row.shift.map(|_| Metric::Shift));
        // A folder that is read again has them in another order than the suite.
        let mut further: Vec<Metric> = row.metrics.iter().map(|m| m.metric).collect();
        further.sort();
        own.extend(further);
        for metric in own.into_iter().filter(|metric| wanted(*metric)) {
            if !metrics.contains(&metric) {
                metrics.push(metric);
            }
        }
    }
    metrics
}

/// The figure of one metric in one row.
pub(super) fn figure(row: &Measurement, metric: Metric) -> Option<Estimate> {
    match metric {
        Metric::RecallAt(k) => row.recall.iter().find(|r| r.k == k).map(|r| r.estimate),
        Metric::Success => row.success,
        Metric::Shift => row.shift,
        other => row.metrics.iter().find(|m| m.metric == other).and_then(|m| m.estimate),
    }
}

fn table(
    run: &Run,
    summary: &Summary,
    column: usize,
    what: &str,
    wanted: &impl Fn(Metric) -> bool,
    explained: &mut Vec<Metric>,
) -> Option<Table> {
    let condition = &summary.conditions[column];
    let rows: Vec<&Measurement> =
        run.measurements.iter().filter(|m| m.error.is_none() && condition.matches(m)).collect();
    let metrics = metrics_of(&rows, wanted);
    let models: Vec<&str> = summary.models.iter().map(|m| m.model.as_str()).collect();
    let mut table = Table {
        caption: format!("{}: {what}", condition.label()),
        head: ["metric", "what it is", "better"].into_iter().chain(models.iter().copied()).map(String::from).collect(),
        words: 3,
        ..Table::default()
    };
    let mut shown: Vec<SeedMean> = Vec::new();
    for metric in &metrics {
        let about = metric.about();
        let unit = if about.percent { " %" } else { "" };
        let mut line = vec![
            TableCell::new(format!("{metric}{unit}")),
            TableCell::new(explanation(*metric, explained)),
            TableCell::new(about.direction.to_string()),
        ];
        for (index, model) in models.iter().enumerate() {
            let own: Vec<&Measurement> = rows.iter().copied().filter(|m| m.model == *model).collect();
            let mean = seed_mean(&own, about.range, |m| figure(m, *metric));
            let link = mean.is_some().then(|| anchor(index, column));
            line.push(TableCell { link, ..cell(*metric, mean.as_ref(), &own, &mut table.notes) });
            shown.extend(mean);
        }
        table.rows.push(line);
    }
    table.remarks.extend(counts(&shown));
    table.remarks.extend(bases_in_words(shown.iter()));
    (!metrics.is_empty()).then_some(table)
}

/// What a metric is, said once; of recall@k for the first k.
fn explanation(metric: Metric, explained: &mut Vec<Metric>) -> &'static str {
    let once = if let Metric::RecallAt(_) = metric { Metric::RecallAt(1) } else { metric };
    if explained.contains(&once) {
        return "";
    }
    explained.push(once);
    metric.about().definition
}

/// `Images or queries behind a number: 200 to 512.`
fn counts(means: &[SeedMean]) -> Option<String> {
    let (least, most) = (means.iter().map(|m| m.queries).min()?, means.iter().map(|m| m.queries).max()?);
    let text = if least == most { least.to_string() } else { format!("{least} to {most}") };
    Some(format!(
        "n, the queries or images behind a number of one trial: {text}; each has its own in measurements.csv."
    ))
}

/// A number with its interval, or a dash; the reason and remarks as a note, once for all that share it.
pub(super) fn cell(
    metric: Metric,
    mean: Option<&SeedMean>,
    rows: &[&Measurement],
    notes: &mut Vec<String>,
) -> TableCell {
    let digits = |v: f64| if metric.about().percent { format!("{:.1}", 100.0 * v) } else { format!("{v:.3}") };
    let mut cell = TableCell::new(mean.map_or("–".into(), |m| digits(m.value)));
    if let Some(mean) = mean.filter(|mean| mean.has_interval()) {
        cell.detail = Some(format!("[{}, {}]", digits(mean.low), digits(mean.high)));
    }
    if let Some(sd) = mean.and_then(|mean| mean.sd) {
        let before = cell.detail.map(|detail| detail + " ").unwrap_or_default();
        cell.detail = Some(format!("{before}sd {}", digits(sd)));
    }
    for found in rows.iter().flat_map(|m| &m.metrics).filter(|m| m.metric == metric && !m.note.is_empty()) {
        let note = match found.estimate {
            Some(_) => found.note.clone(),
            None => format!("{metric} is undefined: {}", found.note),
        };
        let place = notes.iter().position(|n| *n == note).unwrap_or_else(|| {
            notes.push(note);
            notes.len() - 1
        });
        if !cell.marks.contains(&(place + 1)) {
            cell.marks.push(place + 1);
        }
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    fn text(table: &Table, row: usize, column: usize) -> (&str, Option<&str>) {
        let cell = &table.rows[row][column];
        (&cell.text, cell.detail.as_deref())
    }

    #[test]
    fn a_table_for_the_clean_images_and_for_each_attack_at_its_largest_budget() {
        let run = sample::run();
        let summary = Summary::of(&run);
        let captions = |tables: &[Table]| tables.iter().map(|t| t.caption.clone()).collect::<Vec<_>>();
        let tables = retrieval(&run, &summary, None);
        assert_eq!(captions(&tables), ["clean: retrieval", "single 24/255: retrieval", "multi 24/255: retrieval"]);
        assert_eq!(captions(&geometry(&run, &summary)), ["clean: the searched embeddings"]);
        let names = |table: &Table| table.rows.iter().map(|row| row[0].text.clone()).collect::<Vec<_>>();
        assert_eq!(
            names(&tables[0]),
            ["recall@1 %", "recall@2 %", "recall@4 %", "recall@8 %", "map@r %", "hub-skewness"]
        );
        assert!(names(&tables[1]).contains(&"target-rank %".to_string()));
        // Said once: recall@k for the first k, MAP@R in the first table.
        let said = |table: &Table, name: &str| {
            table.rows.iter().find(|row| row[0].text == name).is_some_and(|row| !row[1].text.is_empty())
        };
        assert!(said(&tables[0], "recall@1 %") && said(&tables[0], "map@r %") && said(&tables[1], "target-rank %"));
        assert!(!said(&tables[0], "recall@2 %") && !said(&tables[1], "map@r %"));
    }

    #[test]
    fn numbers_come_with_interval_n_and_unit_and_what_is_undefined_with_its_reason() {
        let run = sample::run();
        let summary = Summary::of(&run);
        let table = &retrieval(&run, &summary, None)[0];
        let mean = summary.recall(0, 0).unwrap();
        let wanted = format!("{:.1}", 100.0 * mean.value);
        assert_eq!(text(table, 0, 3).0, wanted);
        // Two seeds: MAP@R of the sample is 0.235 with ± 0.05 in both; the skewness has no interval.
        assert_eq!(text(table, 4, 3), ("23.5", Some("[18.5, 28.5] sd 0.0")));
        assert_eq!(text(table, 5, 3), ("1.250", Some("sd 0.000")));
        assert!(table.remarks.iter().any(|r| r.contains("BCa over 20 classes")), "{:?}", table.remarks);
        assert!(table.remarks.iter().any(|r| r.contains(": 200;")), "{:?}", table.remarks);
        let table = &geometry(&run, &summary)[0];
        let rho = table.rows.iter().find(|row| row[0].text == "rho@1").unwrap();
        assert_eq!((rho[3].text.as_str(), &rho[3].marks), ("–", &vec![1]));
        assert_eq!(table.notes, ["rho@1 is undefined: a singular value is zero"]);
    }
}

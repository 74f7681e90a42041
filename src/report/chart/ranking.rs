//! Data of the charts of ranking attacks, transfer and corruptions, where a run has such trials.

use super::super::corruptions;
use super::super::material::Material;
use super::super::seed_mean::seed_mean;
use super::super::summary::{Chapter, Summary};
use super::{ChartError, DotRow, Heat, dots, heat};

use crate::metric::kind::Metric;
use crate::record::Measurement;

type Drawn = (&'static str, String, Result<String, ChartError>);

/// Name, caption and picture of each chart that has data.
pub(super) fn charts(material: &Material<'_>) -> Vec<Drawn> {
    let mut out: Vec<Drawn> = Vec::new();
    let maps = [
        ("transfer", "recall@1 in %: who crafts and who answers", transfer(&material.summary)),
        ("corruptions", "recall@1 in % of corrupted queries", corruptions::heat_map(material)),
    ];
    for (name, title, map) in maps {
        if let Some(map) = map {
            let caption = format!("{title}; dark is high, each cell says its number.");
            out.push((name, caption, heat(title, &map)));
        }
    }
    let (names, rows) = ers_rows(material);
    if !rows.is_empty() {
        let caption = "RobRank's scores and their mean in the 0 to 100 form, ERS: higher is more robust in the last row; in \
                       the others as the table says.";
        out.push(("ers", caption.into(), dots("RobRank's scores", "score", &names, &rows)));
    }
    let (names, rows) = ranking_rows(&material.summary);
    if rows.len() > 1 {
        let caption = "recall@1 under each ranking attack at its largest budget, a mark a model.";
        out.push(("ranking", caption.into(), dots("Ranking attacks", "recall@1 in %", &names, &rows)));
    }
    out
}

/// The scores of the row that joins all of RobRank's attacks, at its largest budget: the models, and one row a score.
pub(super) fn ers_rows(material: &Material<'_>) -> (Vec<(String, usize)>, Vec<DotRow>) {
    let summary = &material.summary;
    let joined = summary.headline().into_iter().rfind(|c| summary.conditions[*c].goal == "robrank");
    let Some(condition) = joined.map(|c| &summary.conditions[c]) else { return (vec![], vec![]) };
    let of_model = |model: &str| -> Vec<&Measurement> {
        let rows = material.run.measurements.iter();
        rows.filter(|m| m.model == model && m.error.is_none() && condition.matches(m)).collect()
    };
    let models: Vec<(&str, usize, Vec<&Measurement>)> =
        summary.models.iter().map(|m| (m.model.as_str(), m.style, of_model(&m.model))).collect();
    let mut metrics: Vec<Metric> = Vec::new();
    for found in models.iter().flat_map(|m| &m.2).flat_map(|row| &row.metrics) {
        if !metrics.contains(&found.metric) {
            metrics.push(found.metric);
        }
    }
    // A folder that is read again has them in another order than the run.
    metrics.sort();
    let value = |rows: &[&Measurement], metric: Metric| {
        let get = |m: &Measurement| m.metrics.iter().find(|e| e.metric == metric).and_then(|e| e.estimate);
        seed_mean(rows, metric.about().range, get).map(|mean| mean.value)
    };
    let row = |metric: &Metric| DotRow {
        label: metric.to_string(),
        values: models.iter().map(|(_, _, rows)| value(rows, *metric)).collect(),
    };
    let names = models.iter().map(|(model, style, _)| (model.to_string(), *style)).collect();
    (names, metrics.iter().map(row).collect())
}

/// Models that craft against models that answer; `None` for fewer than two cells.
pub(super) fn transfer(summary: &Summary) -> Option<Heat> {
    let columns = summary.columns_of(Chapter::Transfer);
    let models: Vec<usize> =
        (0..summary.models.len()).filter(|m| columns.iter().any(|c| summary.recall(*m, *c).is_some())).collect();
    let value = |m: usize, c: usize| summary.recall(m, c).map(|r| 100.0 * r.value);
    (columns.len() * models.len() > 1).then(|| Heat {
        rows: columns.iter().map(|c| summary.conditions[*c].label()).collect(),
        columns: models.iter().map(|m| summary.models[*m].model.clone()).collect(),
        axes: ("crafted".into(), "answered by".into()),
        values: columns.iter().map(|c| models.iter().map(|m| value(*m, *c)).collect()).collect(),
    })
}

/// Ranking attacks at their largest budget: the models, and one row an attack.
pub(super) fn ranking_rows(summary: &Summary) -> (Vec<(String, usize)>, Vec<DotRow>) {
    let columns: Vec<usize> =
        summary.headline().into_iter().filter(|c| summary.conditions[*c].chapter() == Chapter::Ranking).collect();
    let models: Vec<usize> =
        (0..summary.models.len()).filter(|m| columns.iter().any(|c| summary.recall(*m, *c).is_some())).collect();
    let names = models.iter().map(|m| (summary.models[*m].model.clone(), summary.models[*m].style)).collect();
    let row = |c: &usize| DotRow {
        label: summary.conditions[*c].label(),
        values: models.iter().map(|m| summary.recall(*m, *c).map(|r| 100.0 * r.value)).collect(),
    };
    (names, columns.iter().map(row).collect())
}

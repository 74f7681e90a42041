//! Data of the charts of ranking attacks, transfer and corruptions, where a run has such trials.

use super::super::material::Material;
use super::super::summary::{Chapter, Summary};
use super::{ChartError, DotRow, Heat, dots, heat};

type Drawn = (&'static str, String, Result<String, ChartError>);

/// Name, caption and picture of each chart that has data.
pub(super) fn charts(material: &Material<'_>) -> Vec<Drawn> {
    let mut out: Vec<Drawn> = Vec::new();
    for (chapter, name, title) in [
        (Chapter::Transfer, "transfer", "recall@1 in % under attacks made on another model"),
        (Chapter::Corruptions, "corruptions", "recall@1 in % of corrupted queries"),
    ] {
        if let Some(map) = heat_map(&material.summary, chapter) {
            let caption = format!("{title}; dark is high, each cell says its number.");
            out.push((name, caption, heat(title, &map)));
        }
    }
    let (names, rows) = ranking_rows(&material.summary);
    if rows.len() > 1 {
        let caption = "recall@1 under each ranking attack at its largest budget, a mark a model.";
        out.push(("ranking", caption.into(), dots("Ranking attacks", "recall@1 in %", &names, &rows)));
    }
    out
}

/// Models against the conditions of a chapter; `None` for fewer than two cells.
pub(super) fn heat_map(summary: &Summary, chapter: Chapter) -> Option<Heat> {
    let columns = summary.columns_of(chapter);
    let models: Vec<usize> =
        (0..summary.models.len()).filter(|m| columns.iter().any(|c| summary.recall(*m, *c).is_some())).collect();
    let value = |m: usize, c: usize| summary.recall(m, c).map(|r| 100.0 * r.value);
    (columns.len() * models.len() > 1).then(|| Heat {
        rows: columns.iter().map(|c| summary.conditions[*c].label()).collect(),
        columns: models.iter().map(|m| summary.models[*m].model.clone()).collect(),
        axes: ("attack".into(), "answered by".into()),
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

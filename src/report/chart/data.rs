//! Which charts a run has, and the data of those of recall, budgets and training.

use super::super::material::Material;
use super::super::seed_mean::SeedMean;
use super::super::summary::Summary;
use super::{Bar, BarGroup, ChartError, Panel, ParetoPoint, Series, bars, curves, pareto};
use super::{ranking, space, steps};
use crate::record::Run;

/// A finished chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// File name without ending.
    pub name: String,
    /// What it shows, for captions.
    pub caption: String,
    /// The picture.
    pub svg: String,
}

/// Every chart that the run has data for, in the order of the report.
///
/// # Errors
/// [`ChartError`] if one cannot be drawn.
pub fn charts(material: &Material<'_>) -> Result<Vec<Chart>, ChartError> {
    let Material { run, summary, .. } = material;
    let mut out = Vec::new();
    let mut add = |name: &str, caption: &str, svg: Option<Result<String, ChartError>>| -> Result<(), ChartError> {
        if let Some(svg) = svg {
            out.push(Chart { name: name.into(), caption: caption.into(), svg: svg? });
        }
        Ok(())
    };
    let n = count(summary);
    let groups = bar_groups(summary);
    let axis = format!("recall@1 in % (bars: mean over seeds; whiskers: interval; {n})");
    let title = "recall@1, clean and under each attack at its largest budget";
    let caption = "recall@1 per model, clean and under each attack at its largest budget.";
    add("recall", caption, (!groups.is_empty()).then(|| bars(title, &axis, &groups)))?;
    let caption = "Clean recall@1 against robust recall@1, a point a model, whiskers: intervals; the line joins the \
                   models that no other beats in both.";
    add(
        "pareto",
        caption,
        pareto_points(summary).map(|(words, points)| {
            let axes = (format!("clean recall@1 in % ({n})"), format!("recall@1 in % under {words}"));
            pareto("Clean against robust", (&axes.0, &axes.1), &points)
        }),
    )?;
    let panels = training_panels(run, summary);
    let caption = "Training loss, and recall@1 on the images that chose the epoch.";
    add("training", caption, (!panels.is_empty()).then(|| curves("Training, one line per seed", &panels)))?;
    let panels = epsilon_panels(summary);
    let caption = "recall@1 against the attack's budget; 0 is clean; bands are intervals.";
    let title = format!("recall@1 against the budget ({n})");
    add("epsilon", caption, (!panels.is_empty()).then(|| curves(&title, &panels)))?;
    let panels = material.trend.map_or_else(Vec::new, |trend| trend.panels(summary));
    let caption = "recall@1 over the nights; bands: the accepted value and the smallest change that fails a night.";
    add("history", caption, (!panels.is_empty()).then(|| curves("Trend over the nights", &panels)))?;
    for (name, caption, svg) in steps::charts(material) {
        add(&name, &caption, Some(svg))?;
    }
    for (name, caption, svg) in ranking::charts(material) {
        add(name, &caption, Some(svg))?;
    }
    for (name, caption, svg) in space::charts(material) {
        add(name, &caption, Some(svg))?;
    }
    Ok(out)
}

/// Clean against the strongest attack, in words, of the models that have both; `None` for fewer than two.
pub(super) fn pareto_points(summary: &Summary) -> Option<(String, Vec<ParetoPoint>)> {
    let (clean, strongest) = (summary.clean()?, summary.strongest()?);
    let point = |(index, row): (usize, &crate::report::summary::ModelRow)| {
        let (x, y) = (summary.recall(index, clean)?, summary.recall(index, strongest)?);
        let interval = |r: &SeedMean| r.has_interval().then_some((100.0 * r.low, 100.0 * r.high));
        let finite = x.value.is_finite() && y.value.is_finite();
        finite.then(|| ParetoPoint {
            label: row.model.clone(),
            style: row.style,
            at: (100.0 * x.value, 100.0 * y.value),
            intervals: [interval(x), interval(y)],
        })
    };
    let points: Vec<ParetoPoint> = summary.models.iter().enumerate().filter_map(point).collect();
    (points.len() > 1).then(|| (summary.conditions[strongest].in_words(), points))
}

fn count(summary: &Summary) -> String {
    let cells = summary.models.iter().flat_map(|m| m.cells.iter().flatten()).filter_map(|c| c.recall.as_ref());
    let (low, high) = cells.fold((u32::MAX, 0), |(l, h), r| (l.min(r.queries), h.max(r.queries)));
    if low >= high { format!("n = {high} queries") } else { format!("n = {low} to {high} queries") }
}

pub(super) fn bar_groups(summary: &Summary) -> Vec<BarGroup> {
    let bar = |model: usize, column: usize| {
        let r = summary.recall(model, column)?;
        let row = &summary.models[model];
        let whisker = r.has_interval();
        let value = 100.0 * r.value;
        let (low, high) = if whisker { (100.0 * r.low, 100.0 * r.high) } else { (value, value) };
        value.is_finite().then(|| Bar { label: row.model.clone(), style: row.style, value, low, high, whisker })
    };
    let group = |column: &usize| BarGroup {
        label: summary.conditions[*column].label(),
        bars: (0..summary.models.len()).filter_map(|m| bar(m, *column)).collect(),
    };
    summary.headline().iter().map(group).filter(|g| !g.bars.is_empty()).collect()
}

pub(super) fn epsilon_panels(summary: &Summary) -> Vec<Panel> {
    let panel = |columns: &Vec<usize>| {
        let first = &summary.conditions[columns[0]];
        // The clean column of the same data set and branch is the point at 0.
        let clean = summary
            .conditions
            .iter()
            .position(|c| c.is_clean() && c.dataset == first.dataset && c.answered_by == first.answered_by);
        let series = (0..summary.models.len()).filter_map(|m| {
            let points: Vec<(f64, f64, f64, f64)> = clean
                .into_iter()
                .chain(columns.iter().copied())
                .filter_map(|c| {
                    let r = summary.recall(m, c).filter(|r| r.value.is_finite())?;
                    let unit = if first.is_l2() { 1.0 } else { 255.0 };
                    let x = if Some(c) == clean { 0.0 } else { unit * summary.conditions[c].epsilon_pixels };
                    Some((x, 100.0 * r.value, 100.0 * r.low, 100.0 * r.high))
                })
                .collect();
            (points.len() > 1).then(|| Series {
                label: summary.models[m].model.clone(),
                style: summary.models[m].style,
                lines: vec![points.iter().map(|p| (p.0, p.1)).collect()],
                band: points.iter().filter(|p| p.2.is_finite() && p.3.is_finite()).map(|p| (p.0, p.2, p.3)).collect(),
                marked: true,
                dash: None,
            })
        });
        Panel {
            title: if first.answered_by == "main" && first.crafted_on == "main" {
                first.attack.clone()
            } else {
                format!("{}, {} → {}", first.attack, first.crafted_on, first.answered_by)
            },
            x_axis: if first.is_l2() { "budget ε, L2 length" } else { "budget ε in grey levels (of 255)" }.into(),
            y_axis: "recall@1 in %".into(),
            series: series.collect(),
            common_range: true,
        }
    };
    summary.families().iter().map(panel).filter(|p| !p.series.is_empty()).collect()
}

pub(super) fn training_panels(run: &Run, summary: &Summary) -> Vec<Panel> {
    let lines = |model: &str, get: &dyn Fn(&crate::record::TrainingPoint) -> Option<f64>| {
        let mut seeds: Vec<u64> = Vec::new();
        for p in run.training.iter().filter(|p| p.model == model) {
            if !seeds.contains(&p.seed) {
                seeds.push(p.seed);
            }
        }
        let line = |seed: &u64| -> Vec<(f64, f64)> {
            let points = run.training.iter().filter(|p| p.model == model && p.seed == *seed);
            points.filter_map(|p| get(p).map(|y| (f64::from(p.epoch), y))).filter(|p| p.1.is_finite()).collect()
        };
        seeds.iter().map(line).filter(|l| !l.is_empty()).collect::<Vec<_>>()
    };
    let panel = |title: &str, y_axis: &str, get: &dyn Fn(&crate::record::TrainingPoint) -> Option<f64>| {
        let series = summary.models.iter().map(|m| Series {
            label: m.model.clone(),
            style: m.style,
            lines: lines(&m.model, get),
            band: vec![],
            marked: false,
            dash: None,
        });
        Panel {
            title: title.into(),
            x_axis: "epoch".into(),
            y_axis: y_axis.into(),
            series: series.filter(|s| !s.lines.is_empty()).collect(),
            common_range: false,
        }
    };
    let panels = [
        panel("training loss", "mean loss of the epoch (no unit)", &|p| Some(p.loss)),
        panel("selection", "recall@1 in % on selection images", &|p| p.selection_recall.map(|r| 100.0 * r)),
    ];
    panels.into_iter().filter(|p| !p.series.is_empty()).collect()
}

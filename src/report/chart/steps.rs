//! Data of the charts of an attack's loss against its steps: whether it had enough of them.

use super::super::material::Material;
use super::super::summary::{Chapter, Condition};
use super::{ChartError, Panel, Series, curves};
use crate::record::StepPoint;

type Drawn = (String, String, Result<String, ChartError>);

/// Name, caption and picture for each section that has such attacks.
pub(super) fn charts(material: &Material<'_>) -> Vec<Drawn> {
    let drawn = |chapter: Chapter| {
        let panels = panels(material, chapter);
        let caption = "The loss that the attack brings down, step by step through its first run, at its largest budget: \
                       mean over the attacked images, a line a training seed; band: the middle half of the images, first \
                       seed. A line that still falls at its end had too few steps; images that are left alone once broken \
                       count with their last loss.";
        let title = format!("Loss against steps: {}", chapter.title().to_lowercase());
        (!panels.is_empty()).then(|| (format!("{}-loss", chapter.id()), caption.to_string(), curves(&title, &panels)))
    };
    Chapter::ALL.into_iter().filter_map(drawn).collect()
}

/// One panel for each attack of a section at its largest budget.
pub(super) fn panels(material: &Material<'_>, chapter: Chapter) -> Vec<Panel> {
    let summary = &material.summary;
    let conditions = summary.headline().into_iter().map(|c| &summary.conditions[c]);
    conditions.filter(|c| c.chapter() == chapter).filter_map(|c| panel(material, c)).collect()
}

fn panel(material: &Material<'_>, condition: &Condition) -> Option<Panel> {
    let rows = material.run.measurements.iter().filter(|m| m.error.is_none() && condition.matches(m));
    let rows: Vec<_> = rows.collect();
    let mut images = 0;
    let mut series = Vec::new();
    for model in &material.summary.models {
        let own = rows.iter().filter(|m| m.model == model.model);
        let runs: Vec<Vec<&StepPoint>> =
            own.map(|m| material.steps_of(&m.trial)).filter(|steps| steps.len() > 1).collect();
        let Some(first) = runs.first() else { continue };
        images = runs.iter().flatten().map(|s| s.images).fold(images, u32::max);
        let line = |steps: &Vec<&StepPoint>| steps.iter().map(|s| (f64::from(s.step), s.loss)).collect();
        series.push(Series {
            label: model.model.clone(),
            style: model.style,
            lines: runs.iter().map(line).collect(),
            band: first.iter().map(|s| (f64::from(s.step), s.quartiles[0], s.quartiles[2])).collect(),
            marked: false,
            dash: None,
        });
    }
    (!series.is_empty()).then(|| Panel {
        title: condition.label(),
        x_axis: format!("step (n = {images} images a line)"),
        y_axis: "loss (lower: nearer to the goal)".into(),
        series,
        common_range: false,
    })
}

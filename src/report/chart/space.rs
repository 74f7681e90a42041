//! Data of the charts of the embedding space: how far attacks move queries, how classes lie, where queries went.

use super::super::material::Material;
use super::super::summary::Condition;
use super::{ChartError, MapArrow, MapPanel, Panel, Series, curves, maps};
use crate::record::EmbeddingView;

/// Bins of the histograms of shifts.
const BINS: usize = 32;

/// Models that get a panel of their own.
const PANELS: usize = 8;

type Drawn = (&'static str, String, Result<String, ChartError>);

/// Name, caption and picture of each chart that has data.
pub(super) fn charts(material: &Material<'_>) -> Vec<Drawn> {
    let mut out: Vec<Drawn> = Vec::new();
    let panels = map_panels(material);
    if !panels.is_empty() {
        let caption = "Each model's embeddings, the plane in which its clean gallery varies most (PCA). Grey dots: gallery \
                       images; arrows: queries, from clean (ring) to attacked (disc); solid with a full disc: right \
                       before, wrong after; dashed with an empty one: the others. Scales differ between models.";
        out.push(("map", caption.into(), maps("Where attacked queries go", &panels)));
    }
    let panels = shift_panels(material);
    if !panels.is_empty() {
        let caption = "How far each attack moves the embeddings, at its largest budget: share of the queries of all seeds \
                       in each bin of the Euclidean distance between clean and attacked embedding.";
        out.push(("shift", caption.into(), curves("Embedding shift", &panels)));
    }
    let panels = density_panels(material);
    if !panels.is_empty() {
        let caption = "Distances between clean gallery images of one class (solid) and of different classes (dashed), \
                       first seed: the less they overlap, the better a search can tell.";
        out.push(("densities", caption.into(), curves("Distances within and between classes", &panels)));
    }
    let panel = spectrum_panel(material);
    if !panel.series.is_empty() {
        let caption = "Singular values of each model's clean gallery, divided by their sum, first seed: a steep line uses \
                       few dimensions.";
        out.push(("spectrum", caption.into(), curves("Spectrum of the embeddings", &[panel])));
    }
    out
}

/// Each model's clean view with its place in the suite.
fn clean_views<'a>(material: &'a Material<'_>) -> Vec<(&'a EmbeddingView, usize)> {
    let views = |model: &str| material.run.views.iter().find(|v| v.model == model && v.gallery.is_some());
    material.summary.models.iter().filter_map(|m| Some((views(&m.model)?, m.style))).collect()
}

pub(super) fn map_panels(material: &Material<'_>) -> Vec<MapPanel> {
    let attack = strongest_view(material);
    let panel = |(view, style): (&EmbeddingView, usize)| {
        let gallery = view.gallery.as_ref().filter(|g| g.points.len() > 2)?;
        let moved = attack.and_then(|(attack, epsilon)| {
            let own = |v: &&EmbeddingView| v.model == view.model && v.attack == attack && v.epsilon == epsilon;
            material.run.views.iter().find(own)
        });
        let pair = |p: [f64; 2]| (p[0], p[1]);
        let arrows: Vec<MapArrow> = moved
            .iter()
            .flat_map(|v| &v.arrows)
            .map(|a| MapArrow { from: pair(a.from), to: pair(a.to), flipped: a.flipped })
            .collect();
        let under = moved.map_or(String::new(), |v| format!(", {} {}", v.attack, v.epsilon));
        let [x, y] = gallery.variance.map(|share| 100.0 * share);
        Some(MapPanel {
            title: format!("{}{under}", view.model),
            style,
            axes: format!(
                "{x:.0} % and {y:.0} % of the variance; {} of {} images, {} queries",
                gallery.points.len(),
                gallery.images,
                arrows.len()
            ),
            points: gallery.points.iter().map(|p| pair(p.at)).collect(),
            arrows,
        })
    };
    clean_views(material).into_iter().filter_map(panel).take(PANELS).collect()
}

/// The attack that the arrows are drawn of: the answer's, or else the first that has arrows.
fn strongest_view<'a>(material: &'a Material<'_>) -> Option<(&'a str, &'a str)> {
    let key = |v: &'a EmbeddingView| (v.attack.as_str(), v.epsilon.as_str());
    let all = || material.run.views.iter().filter(|v| !v.arrows.is_empty());
    let answer = material.summary.strongest().map(|c| &material.summary.conditions[c]);
    let wanted = answer.and_then(|c| all().find(|v| v.attack == c.attack && v.epsilon == c.epsilon));
    wanted.or_else(|| all().next()).map(key)
}

pub(super) fn shift_panels(material: &Material<'_>) -> Vec<Panel> {
    let summary = &material.summary;
    let headline = summary.headline().into_iter().map(|c| &summary.conditions[c]);
    headline.filter(|c| !c.is_clean()).filter_map(|c| shift_panel(material, c)).collect()
}

fn shift_panel(material: &Material<'_>, condition: &Condition) -> Option<Panel> {
    let values = |model: &str| -> Vec<f64> {
        let rows = material.run.measurements.iter();
        let trials = rows.filter(|m| m.model == model && m.error.is_none() && condition.matches(m));
        let outcomes = trials.filter_map(|m| material.outcomes.of(&m.trial)).flatten();
        outcomes.map(|o| f64::from(o.shift)).filter(|v| v.is_finite()).collect()
    };
    let lists: Vec<(usize, Vec<f64>)> =
        material.summary.models.iter().enumerate().map(|(i, m)| (i, values(&m.model))).collect();
    let farthest = lists.iter().flat_map(|l| &l.1).copied().fold(0.0, f64::max);
    if farthest <= 0.0 {
        return None;
    }
    let width = farthest * (1.0 + 1e-9) / BINS as f64;
    let line = |values: &[f64]| -> Vec<(f64, f64)> {
        let mut bins = [0usize; BINS];
        values.iter().for_each(|v| bins[((v / width) as usize).min(BINS - 1)] += 1);
        let share = |count: usize| 100.0 * count as f64 / values.len() as f64;
        bins.iter().enumerate().map(|(i, count)| ((i as f64 + 0.5) * width, share(*count))).collect()
    };
    let series = |(index, values): &(usize, Vec<f64>)| Series {
        label: material.summary.models[*index].model.clone(),
        style: material.summary.models[*index].style,
        lines: vec![line(values)],
        band: vec![],
        marked: false,
        dash: None,
    };
    let most = lists.iter().map(|l| l.1.len()).max().unwrap_or(0);
    Some(Panel {
        title: format!("{} (n = {most} a model)", condition.label()),
        x_axis: "Euclidean distance, clean to attacked".into(),
        y_axis: "share of queries in %".into(),
        series: lists.iter().filter(|l| !l.1.is_empty()).map(series).collect(),
        common_range: false,
    })
}

pub(super) fn density_panels(material: &Material<'_>) -> Vec<Panel> {
    let panel = |(view, style): (&EmbeddingView, usize)| {
        let gallery = view.gallery.as_ref()?;
        let line = |bins: &[f64]| -> Vec<(f64, f64)> {
            let at = |(i, share): (usize, &f64)| ((i as f64 + 0.5) * gallery.bin_width, 100.0 * share);
            bins.iter().enumerate().map(at).collect()
        };
        let series = |label: &str, bins: &[f64], dash| Series {
            label: label.into(),
            style,
            lines: vec![line(bins)],
            band: line(bins).into_iter().map(|(x, y)| (x, 0.0, y)).collect(),
            marked: false,
            dash: Some(dash),
        };
        (gallery.pairs[1] > 0).then(|| Panel {
            title: format!("{} (pairs: {} and {})", view.model, gallery.pairs[0], gallery.pairs[1]),
            x_axis: "Euclidean distance".into(),
            y_axis: "share of pairs in %".into(),
            series: [("same class", &gallery.intra, 0), ("others", &gallery.inter, 1)]
                .into_iter()
                .filter(|(_, bins, _)| bins.iter().any(|share| *share > 0.0))
                .map(|(label, bins, dash)| series(label, bins, dash))
                .collect(),
            common_range: false,
        })
    };
    clean_views(material).into_iter().filter_map(panel).take(PANELS).collect()
}

pub(super) fn spectrum_panel(material: &Material<'_>) -> Panel {
    let series = |(view, style): (&EmbeddingView, usize)| {
        let values = &view.gallery.as_ref()?.spectrum;
        let point = |(i, v): (usize, &f64)| (*v > 0.0).then(|| (i as f64 + 1.0, v.log10()));
        let line: Vec<(f64, f64)> = values.iter().enumerate().filter_map(point).collect();
        let (label, lines) = (view.model.clone(), vec![line]);
        (lines[0].len() > 1).then(|| Series { label, style, lines, band: vec![], marked: false, dash: None })
    };
    let images = clean_views(material).iter().filter_map(|v| Some(v.0.gallery.as_ref()?.images)).max().unwrap_or(0);
    Panel {
        title: format!("n = {images} images"),
        x_axis: "singular value, from the largest".into(),
        y_axis: "log10 of its share".into(),
        series: clean_views(material).into_iter().filter_map(series).collect(),
        common_range: false,
    }
}

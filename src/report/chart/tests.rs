//! Tests of data, labels and form; never of pixels.

use super::super::summary::Summary;
use super::data::{bar_groups, epsilon_panels, training_panels};
use super::*;
use crate::record::sample::{self, Shape};

/// Whether the tags close in order; enough of an XML check for what plotters writes.
fn assert_well_formed(svg: &str) {
    let mut open: Vec<String> = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        let end = rest[at..].find('>').expect("every tag ends") + at;
        let tag = &rest[at + 1..end];
        assert!(!tag.contains('<'), "a tag inside a tag: {tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "open quote in {tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
        } else if !tag.ends_with('/') && !tag.starts_with(['?', '!']) {
            open.push(tag.split_whitespace().next().unwrap().to_string());
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "left open: {open:?}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    for amp in svg.match_indices('&') {
        assert!(svg[amp.0..].find(';').is_some_and(|e| e < 8), "a bare ampersand");
    }
}

#[test]
fn charts_hold_the_summary_s_numbers_and_names() {
    let run = sample::run();
    let summary = Summary::of(&run);
    let groups = bar_groups(&summary);
    assert_eq!(groups.iter().map(|g| g.label.as_str()).collect::<Vec<_>>(), ["clean", "single 24/255", "multi 24/255"]);
    assert_eq!(groups[1].bars[3].value, 100.0 * summary.recall(3, 3).unwrap().value);
    let panels = epsilon_panels(&summary);
    assert_eq!(panels.len(), 2);
    let x: Vec<f64> = panels[0].series[0].lines[0].iter().map(|p| p.0.round()).collect();
    assert_eq!(x, [0.0, 8.0, 16.0, 24.0]);
    let panels = training_panels(&run, &summary);
    assert_eq!((panels[0].series[0].lines.len(), panels[0].series[0].lines[0].len()), (2, 12));
    assert_eq!(panels[1].series[0].lines[0].len(), 6);
    let all = charts(&run, &summary).unwrap();
    assert_eq!(all.iter().map(|c| c.name).collect::<Vec<_>>(), ["recall", "epsilon", "training"]);
    for chart in &all {
        assert_well_formed(&chart.svg);
        for model in ["standard", "adversarial", "advprop", "mdprop"] {
            assert!(chart.svg.contains(model), "{model} not in {}", chart.name);
        }
    }
    assert!(all[0].svg.contains(&format!("\n{:.1}\n", groups[1].bars[3].value)), "the bar's number is written");
    assert!(all[1].svg.contains("grey levels (of 255)") && all[1].svg.contains("n = 200 queries"));
}

#[test]
fn the_same_data_gives_the_same_bytes() {
    let run = sample::run();
    assert_eq!(charts(&run, &Summary::of(&run)), charts(&run.clone(), &Summary::of(&run.clone())));
}

#[test]
fn odd_runs_are_drawn_too() {
    let odd = |models: Vec<(String, String, f64, f64)>, seeds, levels| {
        sample::make(&Shape { models, seeds, levels, queries: 60, stories: 0 })
    };
    let named = |id: &str, clean| (id.to_string(), "standard".to_string(), clean, 0.0);
    let fifty = (0..50).map(|i| named(&format!("model-{i}"), 0.5)).collect();
    for run in [
        odd(vec![named("only", 0.4)], 1, vec![8]),
        odd(vec![named("zero", 0.0), named("zero-too", 0.0)], 2, vec![8]),
        odd(vec![named(&"long-".repeat(40), 0.4), named("<script>\"x\"&'\u{1}", 0.3)], 1, vec![8, 16]),
        odd(fifty, 1, vec![8, 16]),
        odd(vec![named("clean-only", 0.4)], 1, vec![]),
    ] {
        for chart in charts(&run, &Summary::of(&run)).unwrap() {
            assert_well_formed(&chart.svg);
            assert!(!chart.svg.contains("<script>"));
        }
    }
}

#[test]
fn neighbouring_models_differ_in_more_than_colour() {
    for i in 0..28 {
        for j in 0..i {
            assert!(colour(i) != colour(j) || dash(i) != dash(j), "{i} and {j} look alike");
        }
    }
}

#[test]
fn ticks_are_round_and_cover_the_range() {
    assert_eq!(ticks(0.0, 52.0), [0.0, 20.0, 40.0, 60.0]);
    assert!(ticks(0.0, 0.0).len() >= 2);
    let odd = ticks(0.31, 1.27);
    assert!(odd[0] <= 0.31 && odd[odd.len() - 1] >= 1.27);
}

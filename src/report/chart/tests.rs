//! Tests of data, labels and form; never of pixels.

use super::super::material::Material;
use super::super::summary::{Chapter, Summary};
use super::data::{bar_groups, epsilon_panels, pareto_points, training_panels};
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
    let all = charts(&Material::of(&run)).unwrap();
    let names: Vec<&str> = all.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "recall",
            "pareto",
            "training",
            "epsilon",
            "single-target-loss",
            "multi-target-loss",
            "map",
            "shift",
            "densities",
            "spectrum"
        ]
    );
    for chart in &all {
        assert_well_formed(&chart.svg);
        for model in ["standard", "adversarial", "advprop", "mdprop"] {
            assert!(chart.svg.contains(model), "{model} not in {}", chart.name);
        }
    }
    assert!(all[0].svg.contains(&format!("\n{:.1}\n", groups[1].bars[3].value)), "the bar's number is written");
    assert!(all[3].svg.contains("grey levels (of 255)") && all[3].svg.contains("n = 200 queries"));
}

#[test]
fn losses_are_drawn_step_by_step_with_their_quartiles() {
    let run = sample::run();
    let panels = steps::panels(&Material::of(&run), Chapter::SingleTarget);
    assert_eq!(panels.len(), 1);
    assert_eq!(panels[0].title, "single 24/255");
    let names: Vec<&str> = panels[0].series.iter().map(|s| s.label.as_str()).collect();
    assert_eq!(names, ["standard", "adversarial", "advprop", "mdprop"]);
    let series = &panels[0].series[1];
    // Two training seeds, a start and twenty steps.
    assert_eq!((series.lines.len(), series.lines[0].len(), series.band.len()), (2, 21, 21));
    let recorded: Vec<&crate::record::StepPoint> = run.steps.iter().filter(|s| s.trial == "t010single024").collect();
    for (point, step) in series.lines[0].iter().zip(&recorded) {
        assert_eq!(*point, (f64::from(step.step), step.loss));
    }
    assert_eq!(series.band[3], (3.0, recorded[3].quartiles[0], recorded[3].quartiles[2]));
    let svg = curves("Loss against steps", &panels).unwrap();
    assert_well_formed(&svg);
    assert!(
        svg.contains("loss (lower: nearer to the goal)")
            && svg.contains("\nstep (n = 200 images a line)\n")
            && svg.contains("mdprop")
    );
    assert!(steps::panels(&Material::of(&run), Chapter::Clean).is_empty());
}

#[test]
fn the_embedding_space_is_drawn_as_recorded() {
    let run = sample::run();
    let material = Material::of(&run);
    let maps = space::map_panels(&material);
    assert_eq!(maps.len(), 4);
    assert_eq!((maps[1].style, maps[1].points.len(), maps[1].arrows.len()), (1, 120, 24));
    assert_eq!(maps[0].title, "standard, single 24/255");
    assert!(maps[0].axes.contains("21 % and 12 % of the variance"));
    assert_eq!(maps[0].arrows.iter().filter(|a| a.flipped).count(), 16);
    let shifts = space::shift_panels(&material);
    assert_eq!(
        shifts.iter().map(|p| p.title.as_str()).collect::<Vec<_>>(),
        ["single 24/255 (n = 400 a model)", "multi 24/255 (n = 400 a model)"]
    );
    let total: f64 = shifts[0].series[2].lines[0].iter().map(|p| p.1).sum();
    assert!((total - 100.0).abs() < 1e-9, "{total}");
    let densities = space::density_panels(&material);
    assert_eq!(densities[0].series.iter().map(|s| s.label.as_str()).collect::<Vec<_>>(), ["same class", "others"]);
    let peak = |line: &[(f64, f64)]| line.iter().copied().fold((0.0, 0.0), |m, p| if p.1 > m.1 { p } else { m }).0;
    assert!((peak(&densities[0].series[0].lines[0]) - 0.6).abs() < 0.05);
    assert!((peak(&densities[0].series[1].lines[0]) - 1.3).abs() < 0.05);
    let spectrum = space::spectrum_panel(&material);
    assert_eq!((spectrum.series.len(), spectrum.series[0].lines[0].len()), (4, 32));
    assert!(spectrum.series[3].lines[0][31].1 < spectrum.series[0].lines[0][31].1);
}

#[test]
fn the_front_is_of_those_that_no_other_beats() {
    let point = |x, y| ParetoPoint { label: "m".into(), style: 0, at: (x, y), intervals: [None, None] };
    let points = [point(50.0, 10.0), point(40.0, 20.0), point(40.0, 9.0), point(50.0, 10.0)];
    let front: Vec<bool> = (0..4).map(|i| super::pareto::on_front(&points, i)).collect();
    assert_eq!(front, [true, true, false, true]);
    let summary = Summary::of(&sample::run());
    let (words, points) = pareto_points(&summary).unwrap();
    assert_eq!((words.as_str(), points.len()), ("the single-target attack at 24/255", 4));
    assert_eq!(
        points[3].at,
        (100.0 * summary.recall(3, 0).unwrap().value, 100.0 * summary.recall(3, 3).unwrap().value)
    );
}

#[test]
fn ranking_and_transfer_are_drawn_where_there_are_such_trials() {
    let mut run = sample::run();
    for m in &mut run.measurements {
        match m.attack.as_str() {
            "single" => (m.attack, m.goal) = (format!("raise-{}", m.steps), "qa+(M=1)".into()),
            "multi" => {
                (m.attack, m.method) = ("multi:standard".into(), "pgd".into());
                if m.model != "standard" {
                    m.crafted_by = "standard".into();
                }
            }
            _ => {}
        }
    }
    let other = run.measurements.iter().filter(|m| m.goal == "qa+(M=1)").cloned().collect::<Vec<_>>();
    run.measurements.extend(other.into_iter().map(|m| crate::record::Measurement { attack: "lower".into(), ..m }));
    let material = Material::of(&run);
    let (names, rows) = ranking::ranking_rows(&material.summary);
    assert_eq!((names.len(), rows.len(), rows[1].label.as_str()), (4, 2, "lower 24/255"));
    let map = ranking::transfer(&material.summary).unwrap();
    assert_eq!((map.rows.len(), map.columns.len()), (3, 4));
    let charts = charts(&material).unwrap();
    for name in ["ranking", "transfer"] {
        let chart = charts.iter().find(|c| c.name == name).unwrap();
        assert_well_formed(&chart.svg);
        assert!(chart.svg.contains("mdprop"));
    }
    let printed = map.values[0][0].unwrap();
    let svg = &charts.iter().find(|c| c.name == "transfer").unwrap().svg;
    assert!(svg.contains(&format!("\n{printed:.1}\n")), "each cell says its number");
}

#[test]
fn the_same_data_gives_the_same_bytes() {
    let run = sample::run();
    assert_eq!(charts(&Material::of(&run)), charts(&Material::of(&run.clone())));
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
        for chart in charts(&Material::of(&run)).unwrap() {
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

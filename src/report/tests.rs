//! Tests of whole reports.

use super::*;
use crate::record::sample::{self, Shape};

const EVIL: &str = "<script>\"x\"&'";

fn page(run: &Run) -> String {
    let summary = Summary::of(run);
    html::page(run, &summary, &chart::charts(run, &summary).unwrap()).unwrap()
}

/// Every tag that must close does, in order.
fn assert_balanced(html: &str) {
    let void = ["meta", "img", "br", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let end = at + rest[at..].find('>').unwrap();
        let tag = &rest[at + 1..end];
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') && !void.contains(&name) {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn writing_twice_gives_the_same_bytes_whatever_the_clock_says() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut run = sample::run();
    let files = write(&run, first.path()).unwrap();
    run.manifest.started_unix_s += 1000;
    run.manifest.stages.clear();
    run.manifest.threads = 64;
    write(&run, second.path()).unwrap();
    let mut names = vec![files.html, files.markdown];
    names.extend(files.charts);
    assert_eq!(names.len(), 5);
    for path in names {
        let other = second.path().join(path.strip_prefix(first.path()).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(other).unwrap(), "{}", path.display());
    }
    if let Some(folder) = std::env::var_os("MDPROP_KEEP_REPORT") {
        write(&run, Path::new(&folder)).unwrap();
    }
}

#[test]
fn the_page_is_whole_and_self_contained() {
    let run = sample::run();
    let html = page(&run);
    assert_balanced(&html);
    assert!(html.len() < 5 << 20);
    let outside = ["<script", "<link", "src=\"http", "href=\"http", "@import", "url("];
    assert!(outside.iter().all(|o| !html.contains(o)));
    let order = [
        "class=\"answer\"",
        "results",
        "charts",
        "retrieval",
        "geometry",
        "classes",
        "threat",
        "gallery",
        "training",
        "checks",
        "trials",
        "manifest",
    ];
    let places: Vec<usize> =
        order
            .iter()
            .map(|s| {
                if s.contains('=') {
                    html.find(s).unwrap()
                } else {
                    html.find(&format!("<section id=\"{s}\"")).unwrap()
                }
            })
            .collect();
    assert!(places.is_sorted(), "{places:?}");
    let wanted = format!("{:.1}", 100.0 * Summary::of(&run).recall(3, 3).unwrap().value);
    assert!(html.contains(&format!("<td class=\"number\">{wanted}<span class=\"detail\">[")));
    assert!(html.contains("check zero-gradients failed: 7 of 200"));
}

#[test]
fn every_text_is_escaped() {
    let mut run = sample::run();
    for row in &mut run.measurements {
        if row.model == "mdprop" {
            row.model = EVIL.into();
        }
        for text in [&mut row.goal, &mut row.side, &mut row.provider, &mut row.selected_on, &mut row.artefact] {
            *text = EVIL.into();
        }
        if row.attack == "multi" {
            row.attack = EVIL.into();
        }
        row.checks.push(crate::record::Check { name: EVIL.into(), passed: false, detail: EVIL.into() });
    }
    run.measurements[3].error = Some(EVIL.into());
    for point in &mut run.training {
        point.model = EVIL.into();
    }
    for item in &mut run.gallery {
        (item.model, item.attack, item.clean.class) = (EVIL.into(), EVIL.into(), EVIL.into());
        item.targets[0].class = EVIL.into();
        item.clean_neighbors[0].class = EVIL.into();
    }
    let m = &mut run.manifest;
    for text in [&mut m.suite, &mut m.about, &mut m.command, &mut m.program, &mut m.plan, &mut m.dataset] {
        *text = EVIL.into();
    }
    m.versions.push((EVIL.into(), EVIL.into()));
    m.models[3] = (EVIL.into(), EVIL.into());
    let html = page(&run);
    assert!(!html.contains("<script") && !html.contains(EVIL));
    assert_balanced(&html);
    let summary = Summary::of(&run);
    let markdown = markdown::page(&run, &summary, &[]);
    // An indented block is verbatim in Markdown; everywhere else markup is escaped.
    let elsewhere: String = markdown.lines().filter(|l| !l.starts_with("    ")).collect();
    assert!(!elsewhere.contains("<script"));
}

#[test]
fn sections_without_data_do_not_appear() {
    let shape = Shape { levels: vec![], stories: 0, seeds: 1, ..Shape::default() };
    let mut run = sample::make(&shape);
    run.training.clear();
    for row in &mut run.measurements {
        row.checks.clear();
    }
    let html = page(&run);
    for absent in ["threat", "gallery", "training", "checks"] {
        assert!(!html.contains(&format!("<section id=\"{absent}\"")), "{absent}");
    }
    run.measurements.clear();
    run.queries.clear();
    let html = page(&run);
    assert_balanced(&html);
    assert!(html.contains("No trial on clean images succeeded") && !html.contains("<section id=\"results\""));
}

#[test]
fn markdown_tables_have_equal_rows() {
    let run = sample::run();
    let summary = Summary::of(&run);
    let charts = chart::charts(&run, &summary).unwrap();
    let text = markdown::page(&run, &summary, &charts);
    let mut width = None;
    for line in text.lines() {
        let bars = line.replace("\\|", "").matches('|').count();
        if bars == 0 {
            width = None;
        } else {
            assert_eq!(*width.get_or_insert(bars), bars, "{line}");
        }
    }
    assert!(text.contains("](charts/recall.svg)") && text.contains("](charts/training.svg)"));
}

#[test]
fn odd_runs_make_reports() {
    let named = |id: String, clean| (id, "standard".to_string(), clean, 0.0);
    let fifty: Vec<_> = (0..50).map(|i| named(format!("model-{i}"), 0.5)).collect();
    let long = vec![named("a-long-name-".repeat(20), 0.0)];
    for (models, seeds, levels) in [(fifty, 1, vec![8]), (long, 1, vec![8]), (Shape::default().models, 3, vec![8])] {
        let run = sample::make(&Shape { models, seeds, levels, queries: 40, stories: 0 });
        let html = page(&run);
        assert_balanced(&html);
        assert!(!html.contains("NaN"));
    }
}

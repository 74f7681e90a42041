//! Tests of whole reports.

use super::*;
use crate::record::sample::{self, Shape};

/// Compares with `tests/data/report/NAME`; `MDPROP_WRITE_SNAPSHOTS=1` writes it instead.
pub(super) fn assert_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/report").join(name);
    if std::env::var_os("MDPROP_WRITE_SNAPSHOTS").is_some() {
        crate::artefact::write_bytes(&path, text.as_bytes()).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    let place = text.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    assert!(
        text == wanted,
        "{} differs from line {:?} on; if the new text is right: MDPROP_WRITE_SNAPSHOTS=1 cargo test report",
        path.display(),
        place.map(|at| at + 1)
    );
}

#[test]
fn the_markdown_is_as_it_was() {
    let shape = Shape { queries: 60, levels: vec![8], seeds: 1, stories: 1, ..Shape::default() };
    let run = sample::make(&shape);
    let material = Material::of(&run);
    let charts = chart::charts(&material).unwrap();
    assert_snapshot("report.md", &markdown::page(&material, &charts));
}

const EVIL: &str = "<script>\"x\"&'";

fn page(run: &Run) -> String {
    let material = Material::of(run);
    page::page(&material, &chart::charts(&material).unwrap()).unwrap()
}

/// Every tag that must close does, in order.
fn assert_balanced(html: &str) {
    let void = ["meta", "img", "br", "!doctype", "input"];
    let mut open: Vec<&str> = Vec::new();
    // A script's own signs are no tags.
    let script = html.find("<script>").unwrap();
    let html = format!("{}{}", &html[..script], &html[html.find("</script>").unwrap() + 9..]);
    let mut rest = html.as_str();
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
    let files = write(&run, first.path(), Extras { png: Some(1), trend: None }).unwrap();
    run.manifest.started_unix_s += 1000;
    run.manifest.stages.clear();
    run.manifest.threads = 64;
    write(&run, second.path(), Extras { png: Some(1), trend: None }).unwrap();
    let mut names = vec![files.html, files.markdown];
    names.extend(files.charts);
    names.extend(files.tables);
    assert_eq!(names.len(), 2 + 2 * 10 + 3);
    for path in names {
        let other = second.path().join(path.strip_prefix(first.path()).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(other).unwrap(), "{}", path.display());
    }
    if let Some(folder) = std::env::var_os("MDPROP_KEEP_REPORT") {
        write(&run, Path::new(&folder), Extras::default()).unwrap();
    }
}

#[test]
fn the_page_is_whole_and_self_contained() {
    let run = sample::run();
    let html = page(&run);
    assert_balanced(&html);
    assert!(html.len() < 5 << 20);
    let outside = ["<link", "src=\"http", "href=\"http", "@import", "url("];
    assert!(outside.iter().all(|o| !html.contains(o)));
    assert_eq!(html.matches("<script>").count(), 1);
    let order = [
        "results",
        "models",
        "clean",
        "single-target",
        "multi-target",
        "curves",
        "pictures",
        "flips",
        "geometry",
        "checks",
        "trials",
        "manifest",
    ];
    let sections: Vec<&str> = html.split("<section id=\"").skip(1).map(|s| s.split('"').next().unwrap()).collect();
    assert_eq!(sections, order);
    assert!(html.find("class=\"answer\"").unwrap() < html.find("<section").unwrap());
    assert!(html.contains("check zero-gradients failed: 7 of 200"));
}

#[test]
fn every_number_links_to_its_trials_and_every_trial_shows_its_command() {
    let run = sample::run();
    let html = page(&run);
    let wanted = format!("{:.1}", 100.0 * Summary::of(&run).recall(3, 3).unwrap().value);
    assert!(html.contains("<a href=\"#m3c3\">") && html.contains(&format!("{wanted}</a><span class=\"detail\">[")));
    let ids: std::collections::BTreeSet<&str> =
        html.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let links: Vec<&str> = html.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(links.len() > 100);
    for link in links {
        assert!(ids.contains(link), "nothing has the id {link}");
    }
    for m in &run.measurements {
        assert!(html.contains(&format!("mdprop run suites/demo.toml --trial {}</code>", m.trial)), "{}", m.trial);
    }
}

/// The policy in the page's head names the one script by its digest; another script would not run.
#[test]
fn the_policy_allows_the_one_script_and_no_request() {
    use sha2::Digest as _;
    let html = page(&sample::run());
    let script = html.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
    let digest =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, sha2::Sha256::digest(script.as_bytes()));
    assert!(html.contains(&format!("script-src 'sha256-{digest}'\"")) && html.contains("content=\"default-src 'none'"));
}

/// A run in which every text that comes from outside is markup.
fn hostile() -> Run {
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
    for flip in &mut run.flips {
        (flip.b, flip.query.class, flip.nearest_a[0].class) = (EVIL.into(), EVIL.into(), EVIL.into());
    }
    let m = &mut run.manifest;
    for text in [&mut m.suite, &mut m.about, &mut m.command, &mut m.program, &mut m.plan, &mut m.dataset] {
        *text = EVIL.into();
    }
    m.versions.push((EVIL.into(), EVIL.into()));
    m.models[3] = (EVIL.into(), EVIL.into());
    run
}

#[test]
fn every_text_is_escaped() {
    let run = hostile();
    let html = page(&run);
    assert_eq!(html.matches("<script").count(), 1, "only our own");
    assert!(!html.contains(EVIL));
    assert_balanced(&html);
    let markdown = markdown::page(&Material::of(&run), &[]);
    // An indented block is verbatim in Markdown; everywhere else markup is escaped.
    let elsewhere: String = markdown.lines().filter(|l| !l.starts_with("    ")).collect();
    assert!(!elsewhere.contains("<script"));
}

#[test]
fn a_comparison_has_its_tables_and_its_pictures_and_escapes() {
    let mut run = hostile();
    for flip in &mut run.flips {
        flip.question = "seed 0 clean".into();
    }
    let (pairs, _) = crate::drift::models_of_a_run(&run, "standard", EVIL).unwrap();
    let comparison = crate::drift::compare("standard", EVIL, &pairs, vec![EVIL.into()], 0);
    let contests = crate::drift::contests(&comparison, &pairs);
    let runs = [(EVIL.to_string(), &run.manifest)];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/page.html");
    let compared = Compared { comparison: &comparison, contests: &contests, flips: &run.flips, runs: &runs };
    write_comparison(&compared, &path).unwrap();
    let html = std::fs::read_to_string(&path).unwrap();
    assert_balanced(&html);
    assert!(!html.contains(EVIL) && html.matches("<script").count() == 1);
    let sections: Vec<&str> = html.split("<section id=\"").skip(1).map(|s| s.split('"').next().unwrap()).collect();
    assert_eq!(sections, ["differences", "flips", "manifest"]);
    assert_eq!(html.matches("class=\"flip\"").count(), 2);
    assert_eq!(html.matches("<th scope=\"col\">says</th>").count(), 2, "recall@1, and every metric below");
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
    for absent in ["single-target", "multi-target", "curves", "pictures", "checks"] {
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
    let material = Material::of(&run);
    let text = markdown::page(&material, &chart::charts(&material).unwrap());
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

/// Console errors, requests, overflow, contrast, links, sorting and filtering, on a desktop and a phone, light and dark.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped check must be seen")]
fn pages_hold_in_a_browser_if_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let named = |id: String| (id, "standard".to_string(), 0.5, 0.2);
    let of = |models, stories| sample::make(&Shape { models, seeds: 1, levels: vec![8], queries: 40, stories });
    let runs = [
        ("plain", sample::run()),
        ("hostile", hostile()),
        ("fifty", of((0..50).map(|i| named(format!("model-{i}"))).collect(), 0)),
        ("long", of((0..2).map(|i| named(format!("{}{i}", "a-long-name-".repeat(20)))).collect(), 2)),
        ("zero", of(["none", "none-too"].map(|id| (id.into(), "standard".into(), 0.0, 0.0)).into(), 0)),
    ];
    let mut command = std::process::Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/check.py"));
    for (name, run) in &runs {
        let path = folder.path().join(format!("{name}.html"));
        std::fs::write(&path, page(run)).unwrap();
        command.arg(path);
    }
    let Ok(done) = command.output() else {
        eprintln!("skipped: python3 could not be started");
        return;
    };
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.code() == Some(77) {
        eprintln!("{said}");
        return;
    }
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(said.matches(": good (").count(), runs.len(), "{said}");
}

#[test]
fn a_leaderboard_is_whole_filters_without_a_request_and_escapes() {
    let folder = tempfile::tempdir().unwrap();
    let mut shape = Shape::default();
    shape.models[1].0 = EVIL.into();
    let runs = [("demo".to_string(), sample::make(&shape)), (EVIL.to_string(), sample::run())];
    let boards = leaderboard::boards(&runs, &leaderboard::Filter::default());
    let names: Vec<String> = runs.iter().map(|r| r.0.clone()).collect();
    let html = write_leaderboard(&boards, &names, folder.path(), None).unwrap();
    let html = std::fs::read_to_string(html).unwrap();
    assert_balanced(&html);
    assert!(!html.contains(EVIL) && html.matches("<script").count() == 1);
    assert_eq!(html.matches("<section class=\"board\"").count(), 6);
    assert!(html.contains("<option>emoji-64</option>"));
    let markdown = std::fs::read_to_string(folder.path().join("leaderboard.md")).unwrap();
    assert!(!markdown.contains("<script") && markdown.matches("| rank |").count() == 6);
    for name in ["leaderboard.csv", "leaderboard.parquet", "charts/board-1.svg"] {
        assert!(folder.path().join(name).is_file(), "{name}");
    }
    let empty = write_leaderboard(&[], &names, folder.path(), None).unwrap();
    assert!(std::fs::read_to_string(empty).unwrap().contains("No result fits"));
}

#[test]
fn odd_runs_make_reports() {
    let named = |id: String, clean| (id, "standard".to_string(), clean, 0.0);
    let fifty: Vec<_> = (0..50).map(|i| named(format!("model-{i}"), 0.5)).collect();
    let long = vec![named("a-long-name-".repeat(20), 0.0)];
    let zero = vec![named("none".into(), 0.0), named("none-too".into(), 0.0)];
    for (models, seeds, levels) in
        [(fifty, 1, vec![8]), (long, 1, vec![8]), (zero, 2, vec![8]), (Shape::default().models, 3, vec![8])]
    {
        let run = sample::make(&Shape { models, seeds, levels, queries: 40, stories: 0 });
        let html = page(&run);
        assert_balanced(&html);
        assert!(!html.contains("NaN") && html.len() < 5 << 20);
    }
}

#[test]
fn an_interval_or_a_number_that_is_none_is_left_out() {
    let mut run = sample::run();
    for row in run.measurements.iter_mut().filter(|m| m.model == "advprop") {
        for recall in &mut row.recall {
            (recall.estimate.low, recall.estimate.high) = (f64::NAN, f64::NAN);
        }
        if row.attack == "multi" {
            row.recall[0].estimate.value = f64::NAN;
        }
    }
    run.training[3].loss = f64::NAN;
    run.queries[5].shift = f32::NAN;
    let html = page(&run);
    assert_balanced(&html);
    let odd = ["NaN", ">inf", "[inf", "-inf", ", inf"];
    assert_eq!(odd.into_iter().find(|word| html.contains(word)), None);
    assert!(markdown::page(&Material::of(&run), &[]).contains("| advprop |"));
}

#[test]
fn names_that_differ_only_at_their_end_stay_whole_in_the_tables() {
    let name = |i: u32| (format!("{}{i}", "the-same-beginning-".repeat(8)), "standard".to_string(), 0.4, 0.1);
    let run = sample::make(&Shape { models: (0..3).map(name).collect(), ..Shape::default() });
    let html = page(&run);
    for i in 0..3 {
        assert!(html.contains(&format!("<th scope=\"row\">{}</th>", name(i).0)));
    }
}

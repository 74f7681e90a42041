use super::*;
use crate::record::sample;

fn good() -> Run {
    let mut run = sample::run();
    run.measurements.iter_mut().flat_map(|m| &mut m.checks).for_each(|check| check.passed = true);
    run
}

fn decision(unix_s: u64) -> Decision {
    let (who, why) = ("Ada \"the\" first".into(), "looks right |\nto me".into());
    Decision { who, why, unix_s, floors: BTreeMap::new(), pinned: None }
}

#[test]
fn a_baseline_comes_back_with_every_outcome_and_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let path = Baseline::path(folder.path(), "attack/demo");
    let first = Baseline::accept(good(), "run", None, &decision(1_000_000_000)).unwrap();
    first.write(&path).unwrap();
    let read = Baseline::read(&path).unwrap();
    assert_eq!(read.acceptances, first.acceptances);
    assert_eq!(read.last().when, "2001-09-09T01:46:40Z");
    for (a, b) in read.run.measurements.iter().zip(&first.run.measurements) {
        assert_eq!(values(a), values(b));
        assert_eq!(super::super::Question::of(a, true), super::super::Question::of(b, true));
        assert_eq!((&a.artefact, &a.crafter, a.queries), (&b.artefact, &b.crafter, b.queries));
    }
    let key =
        |q: &crate::record::QueryOutcome| (q.trial.clone(), q.query, q.label, q.first_hit, q.success, q.target_rank);
    assert!(read.run.queries.iter().map(key).eq(first.run.queries.iter().map(key)));
    // MAP@R of a query is kept at four decimals.
    let maps = |run: &Run| run.queries.iter().map(|q| q.map_at_r.unwrap()).collect::<Vec<f64>>();
    for (kept, exact) in maps(&read.run).iter().zip(maps(&first.run)) {
        assert!((kept - exact).abs() <= 0.5e-4 + 1e-12, "{kept} for {exact}");
    }
    // The gate sees no difference, and a second acceptance keeps the first, its floors and its pin.
    let judgement = crate::drift::check(&read, &first.run).unwrap();
    assert_eq!((judgement.exit_code(), judgement.suspects.len()), (0, 0), "{:?}", judgement.findings);
    let mut moved = good();
    moved.measurements[0].recall[0].estimate.value += 0.25;
    let floors = BTreeMap::from([("recall@1".to_string(), 0.02)]);
    let stricter = Decision { floors: floors.clone(), pinned: Some(true), ..decision(1_000_000_001) };
    let second = Baseline::accept(moved.clone(), "run", Some(&read), &stricter).unwrap();
    assert_eq!(second.acceptances.len(), 2);
    assert_eq!(second.last().changes.len(), 1);
    assert!(second.last().changes[0].contains("clean recall@1"), "{:?}", second.last().changes);
    second.write(&path).unwrap();
    let third =
        Baseline::accept(moved, "run", Some(&Baseline::read(&path).unwrap()), &decision(1_000_000_002)).unwrap();
    assert_eq!((third.floors, third.pinned, third.acceptances.len()), (floors, true, 3));
}

#[test]
fn small_steps_that_were_all_accepted_are_added_up() {
    let mut baseline: Option<Baseline> = None;
    for step in 0..4u64 {
        let mut run = good();
        for m in run.measurements.iter_mut().filter(|m| m.attack == "clean") {
            m.recall[0].estimate.value = 0.5 - 0.004 * step as f64;
        }
        let next = Baseline::accept(run, "run", baseline.as_ref(), &decision(100 + step)).unwrap();
        assert_eq!(next.ratchet().is_empty(), step < 3, "1.2 points are more than one");
        baseline = Some(next);
    }
    let lines = baseline.unwrap().ratchet();
    assert!(lines[0].contains("accepted at 50.00 % on 1970-01-01T00:01:40Z"), "{lines:?}");
    assert!(lines[0].contains("it is 48.80 % now"), "{lines:?}");
}

#[test]
fn a_hand_edited_or_cut_baseline_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    Baseline::accept(good(), "run", None, &decision(1)).unwrap().write(&path).unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    let text = |content: &str| {
        std::fs::write(&path, content).unwrap();
        Baseline::read(&path).unwrap_err().to_string()
    };
    let edited = text(&whole.replacen("0.", "1.", 1));
    assert!(edited.contains("edited by hand") && edited.contains("git checkout") && edited.contains(FILE), "{edited}");
    let cut = text(&whole[..whole.len() / 2]);
    assert!(cut.contains("not a whole baseline"), "{cut}");
    // Edited by somebody who also knows the checksum: still no panic, and the line is named.
    let sealed = |body: &str| {
        let body = &body[..body.rfind("# checksum ").unwrap()];
        format!("{body}# checksum {}\n", checksum(body))
    };
    for (from, to, wanted) in [
        ("schema = 1", "schema = 9", "has schema 9, wanted 1"),
        ("threads = 2", "thraeds = 2", "thraeds"),
        ("first_hits = \"\"\"\n", "first_hits = \"\"\"\n7 ", "201 first_hits for 200 queries"),
        ("images = \"\"\"\n", "images = \"\"\"\n4000000000*1 ", "no run of numbers"),
        ("of_queries = 0", "of_queries = 5", "queries that are not there"),
        ("[\"map@r\"", "[\"mapr\"", "unknown metric `mapr`"),
    ] {
        let text = text(&sealed(&whole.replacen(from, to, 1)));
        assert!(text.contains(wanted), "{from}: {text}");
    }
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert!(Baseline::read(&path).unwrap_err().to_string().contains("not a text file"));
    std::fs::remove_file(&path).unwrap();
    assert!(Baseline::read(&path).unwrap_err().to_string().contains("mdprop accept RUN"));
}

#[test]
fn what_must_not_be_accepted_is_not() {
    let refuse = |run: Run, before: Option<&Baseline>, decision: &Decision| {
        Baseline::accept(run, "reports/runs/x", before, decision).unwrap_err().to_string()
    };
    let text = refuse(sample::run(), None, &decision(1));
    assert!(text.contains("reports/runs/x: soundness check zero-gradients"), "{text}");
    let mut failed = good();
    failed.measurements[2].error = Some("out of memory".into());
    assert!(refuse(failed, None, &decision(1)).contains("failed (out of memory)"));
    let mut empty = good();
    empty.queries.clear();
    assert!(refuse(empty, None, &decision(1)).contains("no results"));
    let silent = Decision { why: "  ".into(), ..decision(1) };
    assert!(refuse(good(), None, &silent).contains("the reason is empty"));
    let before = Baseline::accept(good(), "x", None, &decision(1000)).unwrap();
    let early = refuse(good(), Some(&before), &decision(999));
    assert!(early.contains("the clock says 1970-01-01T00:16:39Z") && early.contains("00:16:40Z"), "{early}");
    let mut other = good();
    other.manifest.suite = "other".into();
    assert!(refuse(other, Some(&before), &decision(1001)).contains("of suite `demo`, the run of `other`"));
}

#[test]
fn a_full_disk_leaves_the_baseline_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let baseline = Baseline::accept(good(), "run", None, &decision(1)).unwrap();
    baseline.write(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    // The temporary file cannot be made: its place is taken by a folder.
    std::fs::create_dir(folder.path().join(format!(".{FILE}.{}.tmp", std::process::id()))).unwrap();
    let error = baseline.write(&path).unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains(FILE), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

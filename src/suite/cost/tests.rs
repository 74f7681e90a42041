use proptest::prelude::*;

use super::sizes::at_most;
use super::*;
use crate::suite::plan::PlannedModel;

fn sizes(queries: usize, lanes: usize) -> Sizes {
    Sizes { queries, gallery: 4 * queries, batch: 16, lanes }
}

fn plan(attacks: &str) -> Plan {
    let text = format!(
        "schema = 1\nabout = \"costs\"\nseed = 1\n[dataset.glyphs]\nimage_size = 16\nclasses = 8\nper_class = 4\nseed = 1\n\
         [[model]]\nid = \"m\"\n{attacks}"
    );
    let suite: crate::suite::wire::SuiteWire = toml::from_str(&text).unwrap();
    let card = "schema = 1\nonnx = \"m.onnx\"\nabout = \"a file\"\n";
    let source = crate::suite::load::ModelSource::Onnx(Box::new(toml::from_str(card).unwrap()));
    Plan { name: "costs".into(), suite, models: vec![PlannedModel { id: "m".into(), source, seeds: vec![0] }] }
}

fn attack(name: &str, method: &str) -> String {
    format!("[[attack]]\nname = \"{name}\"\nside = \"query\"\ngoal.misrank = {{}}\nmethod.{method}\n")
}

#[test]
fn a_round_is_a_full_batch_on_every_lane() {
    // Portions of 8 batches of 16: 128 images in 4 rounds of 2 lanes, 16 more in one that leaves a lane idle.
    assert_eq!(sizes(0, 2).rounds(128), 4.0);
    assert_eq!(sizes(0, 2).rounds(129), 5.0);
    assert_eq!(sizes(0, 2).rounds(144), 5.0);
    assert_eq!((sizes(0, 1).rounds(144), sizes(0, 1).rounds(0)), (9.0, 0.0));
}

/// Rounds of queries that leave at random, by drawing them: each alone in its row of the batch, as a search keeps them.
fn drawn(sizes: Sizes, images: usize, share: f64) -> f64 {
    let mut stream = crate::rng::stream(9, "costs", &[]);
    let times = 4000;
    let rounds = (0..times).map(|_| {
        let mut rows = vec![0usize; sizes.batch];
        for i in 0..images {
            rows[i % sizes.batch] += usize::from(f64::from(crate::rng::unit(&mut stream)) < share);
        }
        rows.into_iter().max().unwrap_or(0).div_ceil(sizes.lanes)
    });
    rounds.sum::<usize>() as f64 / times as f64
}

#[test]
fn who_thins_out_still_fills_rounds() {
    for (images, share, lanes) in [(128, 0.5, 1), (128, 0.03, 1), (64, 0.2, 2), (128, 0.9, 2), (8, 0.1, 2)] {
        let (counted, wanted) = (sizes(images, lanes).rounds_of(images, share), drawn(sizes(0, lanes), images, share));
        assert!((counted - wanted).abs() < 0.05, "{images} images, {share}: {counted}, drawn {wanted}");
    }
}

#[test]
fn a_search_is_counted_look_by_look() {
    let plan = plan(&attack("pgd", "pgd = { epsilon = \"8/255\", steps = 10, restarts = 2 }"));
    let counted = of_model(&plan, ("m", 0), &[Branch::Main], sizes(128, 1), &|_| Course::to_the_end());
    let [clean, pgd] = &counted[..] else { panic!("{counted:?}") };
    // The clean images, 8 + 32 rounds; twice 16 of the queries again; and half the rounds for half the batch.
    assert_eq!((clean.work.forward, clean.work.opened), (40.0 + 2.0 + 40.0, 2.0));
    assert_eq!((clean.work.step, clean.work.gradient), (0.0, 0.0));
    // 22 looks at 8 rounds, the probe's 8 at 2, 42 looks of more steps at 2, and 22 looks of other batches.
    assert_eq!(pgd.work.step, 22.0 * 8.0 + 8.0 * 2.0 + 42.0 * 2.0 + 22.0 * 8.0);
    assert_eq!((pgd.work.gradient, pgd.work.moved), (2.0, 0.0));
    // The probe's two graphs, the trial's, and that of the other batches.
    assert_eq!((pgd.work.losses, pgd.work.opened), (4.0, 1.0));
}

#[test]
fn an_ensemble_is_its_members_and_broken_queries_cost_less() {
    let plan = plan(&attack("auto", "auto = { epsilon = \"8/255\" }"));
    let trial = &plan.trials("m", &[Branch::Main])[1];
    let all = search(trial, &trial.method, sizes(128, 1), &Course::to_the_end());
    assert_eq!((all.gradient, all.forward), (3.0 * 101.0 * 8.0, 1000.0 * 8.0 + 8.0));
    assert_eq!((all.ranked, all.rankings), (1303.0 * 128.0, 1303.0));
    // The Square attack alone looks at the loss outside of the graph.
    assert_eq!(all.compared, 1000.0 * 128.0);
    let course = Course { begun: 1.0, alive: vec![1.0, 0.25], tail: 0.5 };
    let few = search(trial, &trial.method, sizes(128, 1), &course);
    assert!(few.in_passes() < 0.3 * all.in_passes() && few.ranked < 0.1 * all.ranked, "{few:?}");
    assert!(few.rankings > 0.8 * all.rankings, "one or two of 128 are mostly left: {few:?}");
    assert!((course.share(7) - 0.125).abs() < 1e-12 && course.share(0) == 1.0);
}

#[test]
fn losses_are_opened_once_while_their_sessions_are_kept() {
    let mut open = Open::default();
    let place: Place = (None, Branch::Main);
    let mut opened = |loss: &str, way| open.loss(&place, loss, way).losses;
    assert_eq!([opened("a", Way::Step), opened("a", Way::Gradient), opened("b", Way::Step)], [1.0; 3]);
    assert_eq!([opened("a", Way::Step), opened("b", Way::Step)], [0.0; 2]);
    // A third loss closes the one that was used longest ago, both of its graphs.
    assert_eq!([opened("c", Way::Step), opened("b", Way::Step), opened("a", Way::Gradient)], [1.0, 0.0, 1.0]);
}

proptest! {
    #[test]
    fn more_of_anything_is_never_cheaper(queries in 1usize..600, lanes in 1usize..5, share in 0.0f64..1.0) {
        let (a, b) = (sizes(queries, lanes), sizes(queries + 16, lanes));
        prop_assert!(a.rounds(queries) <= b.rounds(queries + 16));
        prop_assert!(a.rounds_of(queries, share) <= a.rounds_of(queries, 1.0) + 1e-9);
        prop_assert!(at_most(8, share, 3) <= at_most(8, share, 4) + 1e-12);
        let one = Sizes { lanes: 1, ..a };
        prop_assert!(a.rounds(queries) <= one.rounds(queries));
        prop_assert!(one.rounds(queries) * 16.0 >= queries as f64);
    }
}

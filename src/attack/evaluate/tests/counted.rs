//! What a trial asks of a model, against what [`cost`](crate::suite::cost) counts before it is run.

use std::cell::Cell;

use super::*;
use crate::batch::Images;
use crate::encoder::{Descent, EncoderError, EncoderSpec, Evaluation, Gradient, GradientSteps};
use crate::suite::attack::{Branch, Corruption, Corruptions};
use crate::suite::cost::{self, BATCHES_AT_ONCE, Course, Sizes, Work};
use crate::suite::plan::TrialSpec;

/// Images in a pass.
const PASS: usize = 2;

/// Counts passes.
struct Counting {
    inner: LinearEncoder,
    forward: Cell<usize>,
    gradient: Cell<usize>,
    step: Cell<usize>,
}

struct CountingSteps<'a> {
    inner: Box<dyn GradientSteps + 'a>,
    step: &'a Cell<usize>,
    n: usize,
}

fn add(count: &Cell<usize>, images: usize) {
    count.set(count.get() + images.div_ceil(PASS));
}

impl GradientSteps for CountingSteps<'_> {
    fn step(&mut self, step_size: &[f32]) -> Result<Evaluation, EncoderError> {
        add(self.step, self.n);
        self.inner.step(step_size)
    }

    fn evaluate(&mut self) -> Result<Evaluation, EncoderError> {
        add(self.step, self.n);
        self.inner.evaluate()
    }

    fn copy_evaluated(&self, i: usize, out: &mut [f32]) {
        self.inner.copy_evaluated(i, out);
    }

    fn copy_current(&self, i: usize, out: &mut [f32]) {
        self.inner.copy_current(i, out);
    }

    fn replace(&mut self, i: usize, sample: &crate::encoder::Sample<'_>) -> Result<(), EncoderError> {
        self.inner.replace(i, sample)
    }

    fn shrink(&mut self, n: usize) {
        self.n = n;
        self.inner.shrink(n);
    }
}

impl Encoder for Counting {
    fn spec(&self) -> &EncoderSpec {
        self.inner.spec()
    }

    fn pass_size(&self) -> usize {
        PASS
    }

    fn embed(&mut self, images: &Images) -> Result<Embeddings, EncoderError> {
        add(&self.forward, images.len());
        self.inner.embed(images)
    }

    fn descend<'a>(&'a mut self, descent: &Descent<'_>) -> Result<Box<dyn GradientSteps + 'a>, EncoderError> {
        let (step, n) = (&self.step, descent.start.len());
        Ok(Box::new(CountingSteps { inner: self.inner.descend(descent)?, step, n }))
    }

    fn gradient(&mut self, at: &Descent<'_>) -> Result<Gradient, EncoderError> {
        add(&self.gradient, at.start.len());
        self.inner.gradient(at)
    }
}

/// Passes (forward, gradient, step) that a trial took, those that it is counted to take, and its outcomes. `course`: how
/// long its queries are searched for, told by the outcomes.
fn passes(
    method: &Method,
    side: Side,
    course: impl Fn(&[QueryOutcome]) -> Course,
) -> ([f64; 3], [f64; 3], Vec<QueryOutcome>) {
    let bench = Bench { batch_size: PASS * BATCHES_AT_ONCE, metrics: vec![], ..Bench::new() };
    let goal = Goal::Untargeted {};
    let epsilon = method.epsilons()[0].clone();
    let mut encoder =
        Counting { inner: encoder(1), forward: Cell::default(), gradient: Cell::default(), step: Cell::default() };
    let (outcome, _) = bench.run_with(&mut encoder, Some(attack(&goal, method, &epsilon, side))).unwrap();
    let sizes = Sizes { queries: bench.queries.len(), gallery: bench.all.len(), batch: PASS, lanes: 1 };
    let trial = TrialSpec {
        attack: "test".into(),
        side: Some(side),
        goal: Some(goal),
        method: method.clone(),
        crafted_on: Branch::Main,
        answered_by: Branch::Main,
        crafted_by: None,
        drawn_as: None,
        after: vec![],
    };
    let Work { forward, gradient, step, .. } = cost::search(&trial, method, sizes, &course(&outcome.queries));
    // The clean embeddings are made before the trial.
    let clean = sizes.rounds(sizes.queries) + sizes.rounds(sizes.gallery);
    let took = [encoder.forward.get() as f64 - clean, encoder.gradient.get() as f64, encoder.step.get() as f64];
    (took, [forward, gradient, step], outcome.queries)
}

fn method(text: &str) -> Method {
    #[derive(serde::Deserialize)]
    struct Holder {
        method: Method,
    }
    toml::from_str::<Holder>(&format!("method.{text}")).unwrap().method
}

#[test]
fn every_method_takes_the_passes_that_it_is_counted_to_take() {
    let to_the_end = |_: &[QueryOutcome]| Course::to_the_end();
    let one = Corruptions { families: vec![Corruption::Fog], severities: vec![2] };
    let methods = [
        method("fgsm = { epsilon = \"8/255\" }"),
        method("pgd = { epsilon = \"8/255\", steps = 5, restarts = 2 }"),
        method("pgd = { epsilon = { l2 = 0.3 }, steps = 5, restarts = 2 }"),
        method("pgd = { epsilon = 0, steps = 5 }"),
        method("momentum = { epsilon = \"8/255\", steps = 5 }"),
        method("apgd = { epsilon = \"8/255\", steps = 6, restarts = 2 }"),
        method("square = { epsilon = \"8/255\", queries = 9, restarts = 2 }"),
        method("nes = { epsilon = \"8/255\", queries = 43 }"),
        method("spsa = { epsilon = { l2 = 0.3 }, queries = 43 }"),
        method("noise = { epsilon = \"8/255\" }"),
        method("patch = { size = 0.5, steps = 5 }"),
        method("universal = { epsilon = \"8/255\", steps = 3 }"),
        Method::Corruption(one),
    ];
    for method in methods {
        for side in [Side::Query, Side::All] {
            let (took, counted, _) = passes(&method, side, to_the_end);
            assert_eq!(took, counted, "{} {side:?}", method.label());
        }
    }
    let (took, counted, _) =
        passes(&method("auto = { epsilon = \"8/255\", stop = \"never\" }"), Side::Query, to_the_end);
    assert_eq!(took, counted);
}

#[test]
fn queries_that_are_left_alone_are_counted_while_they_are_searched_for() {
    // What the first look leaves, the second, and so on.
    let course = |outcomes: &[QueryOutcome]| {
        let most = outcomes.iter().map(|o| o.evaluations as usize).max().unwrap_or(0);
        let after = |look: usize| outcomes.iter().filter(|o| o.evaluations as usize > look).count();
        let alive = (0..most).map(|look| after(look) as f64 / outcomes.len() as f64).collect();
        Course { begun: 1.0, alive, tail: 0.0 }
    };
    for text in [
        "pgd = { epsilon = \"12/255\", steps = 30, stop = \"broken\" }",
        "apgd = { epsilon = \"6/255\", steps = 30, stop = \"broken\" }",
        "square = { epsilon = \"12/255\", queries = 60, stop = \"broken\" }",
    ] {
        let (took, counted, outcomes) = passes(&method(text), Side::Query, course);
        let broken = outcomes.iter().filter(|o| o.first_hit != 1).count();
        assert!((4..outcomes.len()).contains(&broken), "{text}: {broken} are broken");
        for (took, counted) in took.iter().zip(counted) {
            assert!((took - counted).abs() <= 0.2 * took + 3.0, "{text}: took {took}, counted {counted}");
        }
    }
}

//! What the trials of a plan ask of a machine, counted before any of them is run: the one place that knows how often a
//! model is shown an image. [`shards`](super::shards) weighs parts by it, `mdprop plan` turns it into seconds.
//!
//! Everything is counted in *rounds*: as many passes of the model as there are lanes, side by side, each of a full batch.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Add, AddAssign};

use serde::Serialize;

use super::attack::{AUTO_QUERIES, AUTO_STEPS, Access, Branch, Goal, Method, Side, Stop, TargetLoss};
use super::plan::{Plan, TrialSpec};
use super::repeats::{KEPT_PICTURES, MORE_STEPS_QUERIES, OTHER_BATCH_QUERIES};
use crate::units::{Epsilon, Norm};

/// Batches that are handed to an encoder at once, so that its threads have one each. Each is still computed by itself: no
/// number depends on this.
pub const BATCHES_AT_ONCE: usize = 8;
/// What a gradient costs in forward passes; measured 2.3 to 3.0, see the README's table.
pub const STEP: f64 = 2.5;
/// Losses whose sessions an encoder keeps, as `encoder::onnx` does.
const KEPT_LOSSES: usize = 2;
/// Looks of the gradient probe's unbounded attack, its queries, and the images that the other probes look at.
const PROBE: (f64, usize, usize) = (33.0, 32, 16);
/// Forward passes of the probes: the same images twice, and the loss at ten places along a line.
const PROBE_PASSES: f64 = 12.0;

/// How much there is to measure, and in what portions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Queries of a trial.
    pub queries: usize,
    /// Images of the gallery.
    pub gallery: usize,
    /// Images in one pass of the model.
    pub batch: usize,
    /// Passes side by side.
    pub lanes: usize,
}

impl Sizes {
    /// What a plan alone says: as many queries as it asks for (a thousand if it takes all), and a gallery as large.
    pub fn nominal(plan: &Plan) -> Self {
        let queries = plan.suite.evaluation.queries.unwrap_or(1000);
        Self { queries, gallery: queries, batch: plan.suite.evaluation.batch_size.max(1), lanes: 1 }
    }

    /// Rounds that `images` take once: the last batch is padded, the last round may leave lanes idle.
    pub fn rounds(&self, images: usize) -> f64 {
        let portion = |n: usize| n.div_ceil(self.batch).div_ceil(self.lanes);
        let together = self.batch * BATCHES_AT_ONCE;
        (images / together * portion(together) + portion(images % together)) as f64
    }

    /// Rounds of one look at `images` of which each is still searched for with probability `share`. Who is left keeps
    /// the row of the batch that it had, so that the row with the most of them decides.
    fn rounds_of(&self, images: usize, share: f64) -> f64 {
        if share >= 1.0 || images == 0 {
            return self.rounds(images);
        }
        let (rows, each) = (images.min(self.batch), images.div_ceil(self.batch));
        let alive = each.div_ceil(self.lanes);
        (0..alive).map(|round| 1.0 - at_most(each, share, round * self.lanes).powi(rows as i32)).sum()
    }

    /// Rounds of a search, the images that it shows in all, and the evaluations that show them. `share`: of the queries
    /// that are still searched for at a look.
    fn search(&self, images: usize, looks: usize, share: impl Fn(usize) -> f64) -> (f64, f64, f64) {
        let together = (self.batch * BATCHES_AT_ONCE).min(images);
        let shares: Vec<f64> = (0..looks).map(share).collect();
        let (sum, all) = (shares.iter().sum::<f64>(), shares.iter().all(|s| *s >= 1.0));
        let shown = images as f64 * sum;
        if all {
            let evaluations = images.div_ceil(self.batch * BATCHES_AT_ONCE) * looks;
            return (self.rounds(images) * looks as f64, shown, evaluations as f64);
        }
        // Who leaves makes place for who waits; only the last ones thin out.
        let full = (images - together) as f64 * sum / (self.batch * self.lanes) as f64;
        let last: f64 = shares.iter().map(|share| self.rounds_of(together, *share)).sum();
        let any: f64 = shares.iter().map(|share| 1.0 - at_most(together, *share, 0)).sum();
        (full + last, shown, (images - together) as f64 * sum / together.max(1) as f64 + any)
    }
}

/// Probability that at most `most` of `n` independent things of probability `p` happen.
fn at_most(n: usize, p: f64, most: usize) -> f64 {
    if most >= n {
        return 1.0;
    }
    let mut term = (1.0 - p).powi(n as i32);
    let mut sum = term;
    for k in 0..most {
        term *= (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
        sum += term;
    }
    sum.min(1.0)
}

/// What is asked of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Work {
    /// Rounds of forward passes.
    pub forward: f64,
    /// Rounds of gradient steps that the attack graph takes.
    pub step: f64,
    /// Rounds of gradients that a walk outside of the graph takes.
    pub gradient: f64,
    /// Images that a walk outside of the graph moves, each time counted.
    pub moved: f64,
    /// Queries that are ranked against the gallery while they are searched for.
    pub ranked: f64,
    /// How often some of them are.
    pub rankings: f64,
    /// Trials whose answers are measured, as shares of one with all queries.
    pub answers: f64,
    /// Files that are opened.
    pub opened: f64,
    /// Losses whose backward pass is opened.
    pub losses: f64,
}

impl Work {
    /// The same in rounds of forward passes; what is no pass of the model is left out.
    pub fn in_passes(&self) -> f64 {
        self.forward + STEP * (self.step + self.gradient)
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            forward: self.forward + other.forward,
            step: self.step + other.step,
            gradient: self.gradient + other.gradient,
            moved: self.moved + other.moved,
            ranked: self.ranked + other.ranked,
            rankings: self.rankings + other.rankings,
            answers: self.answers + other.answers,
            opened: self.opened + other.opened,
            losses: self.losses + other.losses,
        }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Steps inside the attack graph.
    Step,
    /// A walk that asks for gradients.
    Gradient,
    /// A walk that asks for answers.
    Answer,
}

/// A search that every query of a trial makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// Who looks.
    pub way: Way,
    /// Looks at one query at most, all restarts together.
    pub looks: usize,
}

impl Method {
    /// Its searches at one radius, in order; none for what does not search, or not query by query.
    pub fn legs(&self, epsilon: &Epsilon) -> Vec<Leg> {
        if epsilon.is_zero() {
            return vec![];
        }
        let walk = if epsilon.norm() == Norm::L2 { Way::Gradient } else { Way::Step };
        let leg = |way, looks: usize| vec![Leg { way, looks: looks * self.restarts() }];
        match self {
            Self::None {} | Self::Noise { .. } | Self::Corruption(_) | Self::Universal(_) => vec![],
            // The last iterate is looked at too.
            Self::Fgsm { .. } | Self::Pgd { .. } => leg(walk, self.steps() + 1),
            Self::Patch(_) => leg(Way::Step, self.steps() + 1),
            Self::Momentum { .. } | Self::Apgd { .. } => leg(Way::Gradient, self.steps() + 1),
            Self::Square { .. } | Self::Nes(_) | Self::Spsa(_) => leg(Way::Answer, self.queries()),
            Self::Auto { .. } => {
                let apgd = Leg { way: Way::Gradient, looks: AUTO_STEPS + 1 };
                vec![apgd, apgd, apgd, Leg { way: Way::Answer, looks: AUTO_QUERIES }]
            }
        }
    }
}

/// How long queries are searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// Share of the queries that are searched for at all at this radius: smaller ones have not broken them.
    pub begun: f64,
    /// Share that is still searched for at each look, from the first one on.
    pub alive: Vec<f64>,
    /// Beyond these looks: the last share times `(look / looks) ^ −tail`.
    pub tail: f64,
}

impl Course {
    /// Every query to the end: the most that a search can take.
    pub fn to_the_end() -> Self {
        Self { begun: 1.0, alive: vec![], tail: 0.0 }
    }

    /// Share of all queries that is looked at at `look`, counted from 0 over all legs.
    pub fn share(&self, look: usize) -> f64 {
        match (self.alive.get(look), self.alive.last()) {
            (Some(share), _) => *share,
            (None, None) => self.begun,
            (None, Some(last)) => last * ((look + 1) as f64 / self.alive.len() as f64).powf(-self.tail),
        }
    }
}

/// Work of a trial's search and of the answers to it, without what opens a model and without repetitions.
pub fn search(trial: &TrialSpec, method: &Method, sizes: Sizes, course: &Course) -> Work {
    let Some(epsilon) = trial.epsilon() else { return Work { answers: 1.0, ..Work::default() } };
    let whole_gallery = matches!(trial.side, Some(Side::Gallery | Side::All));
    let images = if whole_gallery { sizes.gallery } else { sizes.queries };
    let once = sizes.rounds((images as f64 * course.begun).ceil() as usize);
    let mut work = Work { forward: once, answers: 1.0, ..Work::default() };
    if let Method::Noise { .. } | Method::Corruption(_) | Method::Universal(_) = method {
        work.forward += once;
    }
    if let Method::Universal(universal) = method
        && !epsilon.is_zero()
    {
        let training = (images / 2).min(universal.training);
        let batch = training.min(sizes.batch * BATCHES_AT_ONCE);
        work.gradient += 2.0 * universal.steps as f64 * sizes.rounds(batch);
        work.moved += 2.0 * (universal.steps * batch) as f64;
    }
    let judges = trial.side == Some(Side::Query) && method.stop() == Stop::Broken;
    let mut before = 0;
    for leg in method.legs(epsilon) {
        let (rounds, shown, evaluations) = sizes.search(images, leg.looks, |look| course.share(before + look));
        before += leg.looks;
        match leg.way {
            Way::Step => work.step += rounds,
            Way::Gradient => work.gradient += rounds,
            Way::Answer => work.forward += rounds,
        }
        work.moved += if leg.way == Way::Step { 0.0 } else { shown };
        // Whether it is broken, and what the ranking says where nothing else is seen.
        let asked = f64::from(u8::from(judges) + u8::from(matches!(method.access(), Access::Ranking(_))));
        work.ranked += asked * shown;
        work.rankings += asked * evaluations;
    }
    work
}

/// A trial, who crafts for it, and what it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// The trial.
    pub trial: TrialSpec,
    /// By the model that crafts it.
    pub work: Work,
}

/// Work of the checks that repeat a trial in another way. `opening`: whether what is opened for it counts too.
fn repetitions(plan: &Plan, trial: &TrialSpec, (model, seed): (&str, u64), sizes: Sizes, course: &Course) -> Work {
    let mut work = Work::default();
    if trial.side == Some(Side::Query) {
        work.forward += sizes.rounds(sizes.queries.min(KEPT_PICTURES));
    }
    if let Some(method) = plan.with_more_steps(trial, model, seed) {
        let few = Sizes { queries: sizes.queries.min(MORE_STEPS_QUERIES), ..sizes };
        let share = few.queries as f64 / sizes.queries.max(1) as f64;
        let again = search(trial, &method, few, course);
        work += Work { answers: share, ..again };
    }
    if plan.is_repeated_in_other_batches(trial, model, seed) {
        let batch = if sizes.batch == 1 { 2 } else { sizes.batch / 2 };
        let few = Sizes { queries: sizes.queries.min(OTHER_BATCH_QUERIES), batch, ..sizes };
        let (share, smaller) = (few.queries as f64 / sizes.queries.max(1) as f64, batch as f64 / sizes.batch as f64);
        let again = search(trial, &trial.method, few, course);
        let clean = few.rounds(few.queries) + few.rounds(few.gallery);
        work += Work {
            forward: (again.forward + clean) * smaller,
            step: again.step * smaller,
            gradient: again.gradient * smaller,
            answers: share,
            opened: 1.0,
            losses: f64::from(u8::from(trial.method.needs_gradient())),
            ..again
        };
    }
    work
}

/// Work of a trial and of its repetitions; what opens a model and probes it is left to [`of_model`].
pub fn of_trial(plan: &Plan, trial: &TrialSpec, model: (&str, u64), sizes: Sizes, course: &Course) -> Work {
    search(trial, &trial.method, sizes, course) + repetitions(plan, trial, model, sizes, course)
}

/// A branch of another model (by its id) or of the model itself.
type Place = (Option<String>, Branch);

/// What is open of the models that craft and answer, as a run keeps it.
#[derive(Default)]
struct Open {
    places: BTreeSet<Place>,
    probed: BTreeSet<(Place, bool)>,
    losses: BTreeMap<Place, Vec<String>>,
}

impl Open {
    fn place(&mut self, place: Place, sizes: Sizes) -> Work {
        if !self.places.insert(place) {
            return Work::default();
        }
        Work { forward: sizes.rounds(sizes.queries) + sizes.rounds(sizes.gallery), opened: 1.0, ..Work::default() }
    }

    /// A loss in a graph that steps or in one that does not; the sessions of the last few losses are kept.
    fn loss(&mut self, place: &Place, loss: &str, way: Way) -> Work {
        let kept = self.losses.entry(place.clone()).or_default();
        let name = format!("{loss} {way:?}");
        let known = kept.contains(&name);
        let base = |name: &str| name.rsplit_once(' ').map_or(name.to_string(), |(loss, _)| loss.to_string());
        kept.retain(|other| *other != name);
        kept.push(name);
        let mut last: Vec<String> = Vec::new();
        for name in kept.iter().rev() {
            if !last.contains(&base(name)) {
                last.push(base(name));
            }
        }
        last.truncate(KEPT_LOSSES);
        kept.retain(|name| last.contains(&base(name)));
        Work { losses: f64::from(u8::from(!known)), ..Work::default() }
    }

    fn probes(&mut self, place: &Place, gradient: bool, sizes: Sizes) -> Work {
        let mut work = Work::default();
        if self.probed.insert((place.clone(), false)) {
            work.forward += 2.0;
        }
        if gradient && self.probed.insert((place.clone(), true)) {
            let (looks, queries, _) = PROBE;
            work += self.loss(place, "squared", Way::Gradient);
            work += self.loss(place, "squared", Way::Step);
            work += Work {
                forward: PROBE_PASSES - 2.0,
                gradient: 1.0,
                step: looks * sizes.rounds(queries.min(sizes.queries)),
                ranked: looks * queries as f64 + sizes.queries as f64,
                rankings: looks + 1.0,
                ..Work::default()
            };
        }
        work
    }
}

/// Losses that share an attack graph have the same word.
fn loss_word(goal: &Goal) -> String {
    match goal {
        Goal::SingleTarget {} | Goal::Untargeted {} | Goal::SameIdentity { .. } => "squared".into(),
        Goal::MultiTarget { loss, .. } => match loss {
            TargetLoss::MeanDistance => "distance".into(),
            TargetLoss::SoftMin => "soft".into(),
            TargetLoss::MeanSquaredDistance | TargetLoss::SquaredDistanceToMean => "squared".into(),
        },
        other => other.to_string(),
    }
}

/// The trials of one model in order, each with all that it takes: also what has to be opened and probed for it because no
/// trial before it did. `course` says how long its queries are searched for.
pub fn of_model(
    plan: &Plan,
    (model, seed): (&str, u64),
    branches: &[Branch],
    sizes: Sizes,
    course: &dyn Fn(&TrialSpec) -> Course,
) -> Vec<Counted> {
    let mut open = Open::default();
    let mut counted = Vec::new();
    for trial in plan.trials(model, branches) {
        let crafter: Place = (trial.crafted_by.clone(), trial.crafted_on);
        let mut work = open.place(crafter.clone(), sizes) + open.place((None, trial.answered_by), sizes);
        if let (Some(goal), true) = (&trial.goal, trial.method.needs_gradient()) {
            let legs = trial.epsilon().map(|epsilon| trial.method.legs(epsilon)).unwrap_or_default();
            let ways: Vec<Way> = legs.iter().map(|leg| leg.way).filter(|way| *way != Way::Answer).collect();
            match &trial.method {
                Method::Auto { .. } => {
                    for loss in ["misrank", "distance", "squared"].iter().take(ways.len()) {
                        work += open.loss(&crafter, loss, Way::Gradient);
                    }
                }
                _ => {
                    for way in ways {
                        work += open.loss(&crafter, &loss_word(goal), way);
                    }
                }
            }
        }
        work += open.probes(&crafter, trial.method.needs_gradient(), sizes);
        work += of_trial(plan, &trial, (model, seed), sizes, &course(&trial));
        counted.push(Counted { trial, work });
    }
    counted
}

#[cfg(test)]
mod tests;

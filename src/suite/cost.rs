//! What the trials of a plan ask of a machine, counted before any of them is run: the one place that knows how often a
//! model is shown an image. [`shards`](super::shards) weighs parts by it, `mdprop plan` turns it into seconds.
//!
//! Everything is counted in *rounds*: as many passes of the model as there are lanes, side by side, each of a full batch.

mod open;
mod sizes;
mod work;

use self::open::{Open, Place};
pub use self::sizes::Sizes;
pub use self::work::Work;
use super::attack::{AUTO_QUERIES, AUTO_STEPS, Access, Branch, Goal, Method, Side, Stop, TargetLoss};
use super::plan::{Plan, TrialSpec};
use super::repeats::{KEPT_PICTURES, MORE_STEPS_QUERIES, OTHER_BATCH_GALLERY, OTHER_BATCH_QUERIES};
use crate::units::{Epsilon, Norm};

/// Batches that are handed to an encoder at once, so that its threads have one each. Each is still computed by itself: no
/// number depends on this.
pub const BATCHES_AT_ONCE: usize = 8;
/// What a gradient costs in forward passes; measured 2.3 to 3.0, see the README's table.
pub const STEP: f64 = 2.5;

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
    if method.legs(epsilon).is_empty() {
        // The loss is looked at before the answer is.
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
        let compares = leg.way == Way::Answer && matches!(trial.goal, Some(Goal::Misrank {}));
        work.compared += if compares { shown } else { 0.0 };
        // Whether it is broken, and what the ranking says where nothing else is seen.
        let asked = f64::from(u8::from(judges) + u8::from(matches!(method.access(), Access::Ranking(_))));
        work.ranked += asked * shown;
        work.rankings += asked * evaluations;
    }
    work
}

/// A trial and what it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// The trial.
    pub trial: TrialSpec,
    /// All of it.
    pub work: Work,
}

/// Work of the checks that repeat a trial in another way.
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
        // The gallery is kept from the clean trial on, which is the first.
        let gallery = if trial.goal.is_none() { few.gallery.min(OTHER_BATCH_GALLERY) } else { 0 };
        let clean = few.rounds(few.queries) + few.rounds(gallery);
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

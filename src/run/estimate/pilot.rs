//! How long the queries of a model are searched for: found out by searching for a few of them, a few looks long.
//!
//! Where broken queries are left alone, how long a trial takes depends on how robust the model is. The first looks of the
//! real search tell what share of the queries each of them leaves; beyond them the share is continued as a power of the
//! number of looks, whose exponent is that of the pilot's second half.

use std::collections::BTreeMap;

use super::Scene;
use super::prices::Prices;
use crate::attack::evaluate::{AttackInput, TrialInput, embed_all, run_curve, run_trial};
use crate::batch::Embeddings;
use crate::encoder::Encoder;
use crate::progress::Silent;
use crate::record::QueryOutcome;
use crate::run::RunError;
use crate::suite::attack::{EpsilonList, Method, Side, Stop};
use crate::suite::cost::{BATCHES_AT_ONCE, Course, Leg, Sizes, Way};
use crate::suite::plan::TrialSpec;
use crate::units::Epsilon;

/// Looks of a pilot along a gradient, and without one.
const LOOKS: (usize, usize) = (20, 64);
/// Fewest looks that say anything.
const FEWEST: usize = 6;
/// Share of the longest search that its pilot may take, at least so many seconds.
const SPENT: (f64, f64) = (0.02, 0.5);
/// Steepest tail that a pilot is believed.
const STEEPEST: f64 = 3.0;

/// What names a trial's course: its attack, the branch and the model that craft it, and its radius.
pub(super) fn key(trial: &TrialSpec) -> String {
    let radius = trial.epsilon().map(ToString::to_string).unwrap_or_default();
    format!("{}/{}/{}", trial.attack, trial.crafted_on, radius)
}

/// Whether how long a trial takes depends on the model.
pub(super) fn depends_on_the_model(trial: &TrialSpec) -> bool {
    trial.side == Some(Side::Query) && trial.method.stop() == Stop::Broken
}

/// The method with so few looks, its steps as long as they are.
fn shortened(method: &Method, epsilon: &Epsilon, looks: usize) -> Option<Method> {
    let mut short = method.clone();
    let radii = EpsilonList(vec![epsilon.clone()]);
    match &mut short {
        Method::Auto { .. } => {
            let steps = looks.saturating_sub(1).max(1);
            short = Method::Apgd { epsilon: radii, steps, restarts: 1, stop: Stop::Broken, warm_start: true };
        }
        Method::Apgd { steps, restarts, .. } => (*steps, *restarts) = ((*steps).min(looks - 1), 1),
        Method::Pgd { steps, restarts, step_size, .. } => {
            let length = step_size.take().or_else(|| share_of(epsilon, (2.5 / *steps as f64).min(1.0)));
            (*steps, *restarts, *step_size) = ((*steps).min(looks - 1), 1, length);
        }
        Method::Momentum { steps, restarts, step_size, .. } => {
            let length = step_size.take().or_else(|| share_of(epsilon, 1.0 / *steps as f64));
            (*steps, *restarts, *step_size) = ((*steps).min(looks - 1), 1, length);
        }
        Method::Square { queries, restarts, .. } => (*queries, *restarts) = ((*queries).min(looks), 1),
        Method::Nes(estimation) | Method::Spsa(estimation) => {
            let share = (2.5 / estimation.steps().max(1) as f64).min(1.0);
            let length = estimation.step_size.take().or_else(|| share_of(epsilon, share));
            (estimation.queries, estimation.restarts) = (estimation.queries.min(looks), 1);
            estimation.step_size = length;
        }
        _ => return None,
    }
    Some(short)
}

/// A length that is a share of a radius, written as that is.
fn share_of(epsilon: &Epsilon, share: f64) -> Option<Epsilon> {
    Some(match epsilon {
        Epsilon::Pixels(amount) => Epsilon::Pixels(format!("{:.9}", amount.value() * share).parse().ok()?),
        Epsilon::Normalized(radius) => Epsilon::Normalized(radius * share),
        Epsilon::L2(length) => Epsilon::L2(length * share),
    })
}

/// The gallery that pilots search in.
pub(super) struct Ground {
    gallery: Vec<usize>,
    embeddings: Embeddings,
}

impl Ground {
    /// Embeds the gallery, or as much of it as `seconds` allow, every so-manieth image.
    pub(super) fn embed(
        scene: &Scene<'_>,
        encoder: &mut dyn Encoder,
        (sizes, prices): (Sizes, &Prices),
        seconds: f64,
    ) -> Result<Self, RunError> {
        let all = &scene.images.split.test;
        let rounds = (seconds / prices.forward.max(1e-9)).max(8.0);
        let most = (rounds * (sizes.batch * sizes.lanes) as f64) as usize;
        let every = all.len().div_ceil(most.max(1)).max(1);
        let gallery: Vec<usize> = all.iter().copied().step_by(every).collect();
        let batch = sizes.batch * BATCHES_AT_ONCE;
        let embeddings = embed_all(encoder, scene.images, &gallery, batch, &Silent, scene.cancel)?;
        Ok(Self { gallery, embeddings })
    }
}

/// Searches for a few queries of trials that are one search (all radii of a curve, ascending, or one trial) and gives the
/// course of each radius. `most`: seconds that the whole search takes at most.
///
/// # Errors
/// The model's errors, a stop by the user.
pub(super) fn courses(
    scene: &Scene<'_>,
    encoder: &mut dyn Encoder,
    ground: &Ground,
    group: &[&TrialSpec],
    (sizes, prices, most): (Sizes, &Prices, f64),
) -> Result<BTreeMap<String, Course>, RunError> {
    let mut found = BTreeMap::new();
    let leg = |trial: &TrialSpec| trial.epsilon().and_then(|radius| trial.method.legs(radius).first().copied());
    let searched: Vec<(&TrialSpec, Leg)> = group.iter().filter_map(|trial| Some((*trial, leg(trial)?))).collect();
    let Some((first, leg)) = searched.first().copied() else { return Ok(found) };
    let (price, looks) = match leg.way {
        Way::Step => (prices.step, LOOKS.0),
        Way::Gradient => (prices.gradient, LOOKS.0),
        Way::Answer => (prices.forward, LOOKS.1),
    };
    // As many whole rounds of queries as there is time for, each the given number of looks long; at least a short one.
    let each = (sizes.batch * sizes.lanes) as f64 * (prices.moved + prices.compared + prices.ranked) + prices.rankings;
    let rounds = (SPENT.0 * most).max(SPENT.1) / ((price + each) * searched.len() as f64).max(1e-9);
    let looks = looks.min(leg.looks).min((rounds as usize).max(FEWEST));
    let count = ((rounds / looks as f64) as usize).max(1) * sizes.batch * sizes.lanes;
    let count = count.min(sizes.queries);
    let rows: Vec<usize> = (0..count).collect();
    let queries = &scene.queries.chosen[..count];
    let batch = sizes.batch * BATCHES_AT_ONCE;
    let own = embed_all(encoder, scene.images, queries, batch, &Silent, scene.cancel)?;
    let methods: Option<Vec<Method>> =
        searched.iter().map(|(trial, _)| shortened(&trial.method, trial.epsilon()?, looks)).collect();
    let (Some(methods), Some(goal)) = (methods, &first.goal) else { return Ok(found) };
    let name = match &first.method {
        // So that what is drawn is what its first member draws.
        Method::Auto { .. } => format!("{}/apgd-misrank", first.drawn_as.as_ref().unwrap_or(&first.attack)),
        _ => first.drawn_as.as_ref().unwrap_or(&first.attack).clone(),
    };
    let inputs: Vec<TrialInput<'_>> = searched
        .iter()
        .zip(&methods)
        .filter_map(|((trial, _), method)| {
            let attack = AttackInput { name: &name, goal, method, epsilon: trial.epsilon()?, side: Side::Query };
            Some(TrialInput {
                queries,
                query_embeddings: &own,
                gallery: &ground.gallery,
                gallery_embeddings: &ground.embeddings,
                metrics: &[],
                ..scene.input(Some(attack))
            })
        })
        .collect();
    let outcomes = match &inputs[..] {
        [input] => vec![run_trial(encoder, None, input)?],
        _ => run_curve(encoder, None, &inputs)?,
    };
    let mut before = vec![0; rows.len()];
    for ((trial, leg), outcome) in searched.iter().zip(&outcomes) {
        found.insert(key(trial), course(&outcome.queries, &mut before, looks.min(leg.looks)));
    }
    Ok(found)
}

/// The course at one radius. `before`: looks at each query at smaller radii, brought up to date.
fn course(outcomes: &[QueryOutcome], before: &mut [u32], looks: usize) -> Course {
    let spent: Vec<u32> = outcomes
        .iter()
        .zip(before)
        .map(|(outcome, before)| outcome.evaluations.saturating_sub(std::mem::replace(before, outcome.evaluations)))
        .collect();
    let n = spent.len().max(1) as f64;
    let more_than = |look: usize| spent.iter().filter(|spent| **spent as usize > look).count() as f64 / n;
    let alive: Vec<f64> = (0..looks).map(more_than).collect();
    let (half, last) = (alive.get(looks / 2).copied(), alive.last().copied());
    let tail = match (half, last) {
        (Some(half), Some(last)) if last > 0.0 && half > last => {
            let (from, to) = ((looks / 2 + 1) as f64, looks as f64);
            ((half / last).ln() / (to / from).ln()).min(STEEPEST)
        }
        _ => 0.0,
    };
    Course { begun: more_than(0), alive, tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(evaluations: &[u32]) -> Vec<QueryOutcome> {
        evaluations.iter().map(|&evaluations| QueryOutcome { evaluations, ..QueryOutcome::default() }).collect()
    }

    #[test]
    fn a_course_is_what_each_look_leaves() {
        let mut before = vec![0; 4];
        let first = course(&outcomes(&[1, 2, 8, 8]), &mut before, 8);
        assert_eq!((first.begun, &first.alive[..3]), (1.0, &[1.0, 0.75, 0.5][..]));
        assert_eq!((first.share(7), first.share(100), first.tail), (0.5, 0.5, 0.0));
        // At the next radius the broken two are left alone; another breaks at once.
        let second = course(&outcomes(&[1, 2, 9, 16]), &mut before, 8);
        assert_eq!((second.begun, &second.alive[..2]), (0.5, &[0.5, 0.25][..]));
        assert_eq!(before, [1, 2, 9, 16]);
    }

    #[test]
    fn what_still_falls_goes_on_falling() {
        // Half of what looked five times is gone at ten: the share goes as one over the looks.
        let mut before = vec![0; 4];
        let falling = course(&outcomes(&[6, 6, 10, 10]), &mut before, 10);
        assert!((falling.tail - 2f64.ln() / (10f64 / 6.0).ln()).abs() < 1e-12);
        assert!(falling.share(99) < 0.1 * falling.share(9) && falling.share(99) > 0.0);
    }

    #[test]
    fn shorter_searches_keep_the_length_of_their_steps() {
        #[derive(serde::Deserialize)]
        struct Holder {
            method: Method,
        }
        let method = |text: &str| toml::from_str::<Holder>(&format!("method.{text}")).unwrap().method;
        let short = |text: &str, looks| {
            let method = method(text);
            shortened(&method, &method.epsilons()[0], looks).unwrap()
        };
        let Method::Pgd { steps, step_size: Some(step), .. } =
            short("pgd = { epsilon = \"8/255\", steps = 40, stop = \"broken\" }", 10)
        else {
            panic!()
        };
        assert_eq!(steps, 9);
        assert!((step.nominal(&[1.0]) - 8.0 / 255.0 * 2.5 / 40.0).abs() < 1e-6);
        assert_eq!(short("square = { epsilon = \"8/255\", restarts = 2 }", 64).queries(), 64);
        assert!(matches!(short("auto = { epsilon = \"8/255\" }", 20), Method::Apgd { steps: 19, .. }));
    }
}

//! One trial: attack the queries batch by batch, embed the result, rank it, and check that the number can be trusted.
//!
//! Memory is bounded by the batch: embeddings are kept, pixels are not, except of the images asked for by `keep`.

mod attacked;
mod hunted;
pub mod ranked;
mod retrieval;
mod row;
mod searched;

use crate::attack::{AttackError, checks, losses};
use crate::batch::Embeddings;
use crate::dataset::ImageSet;
use crate::encoder::Encoder;
use crate::metric::kind::Metric;
use crate::metric::neighbors::{Depth, Found};
use crate::metric::recall::mean_pairwise_cosine;
use crate::progress::{Cancel, Observer};
use crate::record::{Check, Estimate, MetricEstimate, QueryOutcome, RecallAt, StepPoint};
use crate::score;
use crate::suite::attack::{Access, Goal, Method, RankingPart, Side, Stop};
use crate::units::Epsilon;
use attacked::Attacked;
use retrieval::{Places, Sides};

/// The attack of a trial, with one radius chosen from its list.
#[derive(Debug, Clone, Copy)]
pub struct AttackInput<'a> {
    /// The suite's name of the attack: part of the name of every draw.
    pub name: &'a str,
    /// What the attacker wants. Noise draws the goal's targets too, so that its success can be compared.
    pub goal: &'a Goal,
    /// How it searches. [`Method::None`] leaves the pixels as they are.
    pub method: &'a Method,
    /// The radius.
    pub epsilon: &'a Epsilon,
    /// Who is perturbed.
    pub side: Side,
}

/// Everything one trial needs besides the models.
#[derive(Clone, Copy)]
pub struct TrialInput<'a> {
    /// Key of the trial, copied to each outcome.
    pub trial: &'a str,
    /// Pixels and labels.
    pub images: &'a ImageSet,
    /// Indices of the queries in `images`.
    pub queries: &'a [usize],
    /// How many queries could have been asked for.
    pub queries_available: usize,
    /// Indices of the gallery in `images`; a query's own image is excluded by index. With [`Side::All`] all of it is
    /// attacked and every query must be in it.
    pub gallery: &'a [usize],
    /// Clean embeddings of the queries by the answering model, in the order of `queries` (see [`embed_all`]).
    pub query_embeddings: &'a Embeddings,
    /// Clean embeddings of the gallery by the answering model.
    pub gallery_embeddings: &'a Embeddings,
    /// Clean embeddings of queries and gallery by the crafting model; `None` if the same model answers.
    pub crafter_embeddings: Option<(&'a Embeddings, &'a Embeddings)>,
    /// `None` is the clean trial.
    pub attack: Option<AttackInput<'a>>,
    /// Images at once.
    pub batch_size: usize,
    /// Suite seed.
    pub seed: u64,
    /// The k of recall@k, ascending.
    pub ks: &'a [u32],
    /// Further metrics; those that a trial of this kind does not have are left out.
    pub metrics: &'a [Metric],
    /// How k-means is run for the metrics that need it.
    pub clustering: score::Clustering,
    /// Indices (in `images`) whose adversarial bytes are wanted.
    pub keep: &'a [usize],
    /// Told about progress, in images.
    pub observer: &'a dyn Observer,
    /// Looked at between batches.
    pub cancel: &'a Cancel,
}

/// What a trial found.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialOutcome {
    /// One per query, in the order of `queries`.
    pub queries: Vec<QueryOutcome>,
    /// recall@k; queries without another image of their class in the gallery are left out. Where broken queries are left
    /// alone, for k = 1 only.
    pub recall: Vec<RecallAt>,
    /// Such queries.
    pub without_positive: usize,
    /// Share of queries whose nearest image has a target's identity; `None` if nobody is aimed at.
    pub success: Option<Estimate>,
    /// Mean Euclidean distance between clean and attacked embedding.
    pub shift: Option<Estimate>,
    /// The further metrics, in the order of asking.
    pub metrics: Vec<MetricEstimate>,
    /// Largest L∞ perturbation, pixel units.
    pub linf_max: Option<f64>,
    /// Mean L2 perturbation, pixel units.
    pub l2_mean: Option<f64>,
    /// Images that the model was shown for a query on average; `None` where it is the same for all.
    pub evaluations_mean: Option<f64>,
    /// The attack's loss step by step; empty where nothing was searched step by step.
    pub steps: Vec<StepPoint>,
    /// In a fixed order.
    pub checks: Vec<Check>,
    /// Adversarial `[3, size, size]` bytes of the images in `keep` that were attacked, rounded inside the budget.
    pub kept: Vec<(usize, Vec<u8>)>,
    /// Embeddings of the attacked images as the answering model gave them; `None` for a clean trial.
    pub attacked: Option<Embeddings>,
}

/// Embeds the images at `indices` in batches: the clean embeddings that a trial wants.
///
/// A zero radius gives exactly the clean outcomes only if the clean queries were embedded here with the trial's own
/// list and batch size: a runtime may round differently in batches of another size.
///
/// # Errors
/// [`AttackError`]: batch size 0, the encoder's errors, a stop by the user.
pub fn embed_all(
    encoder: &mut dyn Encoder,
    images: &ImageSet,
    indices: &[usize],
    batch_size: usize,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Embeddings, AttackError> {
    want("batch size", batch_size, "at least 1", batch_size > 0)?;
    let dim = encoder.spec().embedding_dim;
    let mut rows = Vec::with_capacity(indices.len() * dim);
    for batch in indices.chunks(batch_size) {
        cancel.check()?;
        rows.extend_from_slice(encoder.embed(&images.images(batch))?.as_slice());
        observer.advance(batch.len() as u64);
    }
    let got = rows.len();
    Embeddings::new([indices.len(), dim], rows).map_err(|_| AttackError::Input {
        what: "entries of all embeddings",
        got: got.to_string(),
        wanted: (indices.len() * dim).to_string(),
    })
}

fn want(what: &'static str, got: usize, wanted: &str, holds: bool) -> Result<(), AttackError> {
    if holds { Ok(()) } else { Err(AttackError::Input { what, got: got.to_string(), wanted: wanted.into() }) }
}

/// Runs one trial. `answerer` is the model that embeds the adversarial images; `None`: the crafting one.
///
/// # Errors
/// [`AttackError`]: inputs that do not fit each other, numbers that are not finite, a model that fails, a stop.
pub fn run_trial(
    crafter: &mut dyn Encoder,
    answerer: Option<&mut dyn Encoder>,
    input: &TrialInput<'_>,
) -> Result<TrialOutcome, AttackError> {
    check_input(input)?;
    let places = Places::new(input);
    let attacked = match &input.attack {
        Some(attack) if searched::is_search(attack, &crafter.spec().std)? => {
            searched::search_all(crafter, answerer, std::slice::from_ref(input), &places.own)?.pop()
        }
        Some(attack) if !matches!(attack.method, Method::None {}) => {
            Some(attacked::attack_all(crafter, answerer, input, attack, &places.own)?)
        }
        _ => None,
    };
    finish(input, attacked, &places)
}

/// Runs the trials of a curve: the same attack at ascending radii, each beginning where the one before ended. A query
/// that is broken at one radius is answered with the same image at all larger ones.
///
/// # Errors
/// As [`run_trial`]; also if the trials differ in more than their radius and name, or do not ascend.
pub fn run_curve(
    crafter: &mut dyn Encoder,
    answerer: Option<&mut dyn Encoder>,
    inputs: &[TrialInput<'_>],
) -> Result<Vec<TrialOutcome>, AttackError> {
    let Some(first) = inputs.first() else { return Ok(vec![]) };
    inputs.iter().try_for_each(check_input)?;
    let std = crafter.spec().std.clone();
    let radius = |input: &TrialInput<'_>| input.attack.map_or(0.0, |attack| attack.epsilon.nominal(&std));
    for pair in inputs.windows(2) {
        let (got, wanted) = (radius(&pair[1]).to_string(), format!("above {}", radius(&pair[0])));
        if radius(&pair[1]) <= radius(&pair[0]) {
            return Err(AttackError::Input { what: "radius of a curve", got, wanted });
        }
    }
    let places = Places::new(first);
    let attacked = searched::search_all(crafter, answerer, inputs, &places.own)?;
    want("attacked radii", attacked.len(), &inputs.len().to_string(), attacked.len() == inputs.len())?;
    inputs.iter().zip(attacked).map(|(input, attacked)| finish(input, Some(attacked), &places)).collect()
}

/// Ranks the (attacked) images and measures.
fn finish(input: &TrialInput<'_>, attacked: Option<Attacked>, places: &Places) -> Result<TrialOutcome, AttackError> {
    let sides = Sides::new(input, attacked.as_ref(), places);
    let excluded = &places.own;
    let depths = score::depths(input.ks, input.metrics, &sides.query_labels, &sides.gallery_labels, excluded);
    let found = sides.search(places, Depth::PerQuery(&depths))?;
    let has_success = input.attack.is_some_and(|attack| attack.goal.has_success());
    let of_gallery = matches!(input.attack, Some(AttackInput { side: Side::Gallery, .. }));
    let target_ranks = match &attacked {
        Some(attacked) if has_success && !of_gallery && input.metrics.contains(&Metric::TargetRank) => {
            sides.target_ranks(input, attacked, places)?
        }
        _ => vec![],
    };
    let mut queries = outcomes(input, attacked.as_ref(), places, &found, &target_ranks);
    let part = ranked::part_of(input);
    let scores = match (part, &attacked) {
        (Some(part), Some(attacked)) => ranked::score(part, input, attacked, places, &mut queries),
        _ => vec![],
    };
    // An attacked candidate is searched for, it finds nothing.
    let searches = !part.is_some_and(RankingPart::perturbs_candidate);
    if searches && !first_only(input) && input.metrics.contains(&Metric::MapAtR) {
        let each = score::map_at_r_of_each(&sides.lists(&found, places));
        queries.iter_mut().zip(each).for_each(|(query, value)| query.map_at_r = value);
    }
    let labels = &sides.query_labels;
    let ranks: Vec<u32> = queries.iter().map(|q| q.first_hit).collect();
    let without_positive = ranks.iter().filter(|&&rank| rank == 0).count();
    let with = ranks.len() - without_positive;
    let wanted = "at least 1; recall is undefined otherwise";
    want("queries with another image of their class in the gallery", with, wanted, with > 0 || !searches)?;
    let clean = match &attacked {
        Some(_) => {
            // Lists are compared only where they must be equal.
            let zero = input.attack.is_some_and(|attack| attack.epsilon.is_zero());
            let depth = if zero { Depth::PerQuery(&depths) } else { Depth::Fixed(0) };
            Some(Sides::new(input, None, places).search(places, depth)?)
        }
        None => None,
    };
    let targeted = has_success && (of_gallery || queries.iter().any(|q| !q.targets.is_empty()));
    let column = |value: fn(&QueryOutcome) -> f64| queries.iter().map(value).collect::<Vec<f64>>();
    let mean = |values: &[f64], metric: Metric| score::mean(values, labels, metric.about().range, input.seed);
    let attack_ran = attacked.is_some();
    // What moved: the queries, or a gallery whose queries stayed clean.
    let moved = |of_query: fn(&QueryOutcome) -> f64, of_image: fn(&attacked::Sample) -> f64| match &attacked {
        Some(attacked) if of_gallery => attacked.samples.iter().map(of_image).collect::<Vec<f64>>(),
        _ => column(of_query),
    };
    let l2 = moved(|q| f64::from(q.l2), |s| f64::from(s.l2));
    let linf = moved(|q| f64::from(q.linf), |s| f64::from(s.linf));
    let shifts = moved(|q| f64::from(q.shift), |s| f64::from(s.shift));
    let moved_labels = if of_gallery { &sides.gallery_labels } else { labels };
    let shift = score::mean(&shifts, moved_labels, Metric::Shift.about().range, input.seed).filter(|_| attack_ran);
    Ok(TrialOutcome {
        recall: score::recall_at(&told(input), &ranks, labels, input.seed),
        without_positive: if searches { without_positive } else { 0 },
        success: if targeted { mean(&column(|q| f64::from(u8::from(q.success))), Metric::Success) } else { None },
        shift,
        metrics: if searches {
            let found = (places, &found[..], clean.as_deref(), &target_ranks[..]);
            further(input, attacked.as_ref(), &sides, found).into_iter().chain(scores).collect()
        } else {
            scores
        },
        linf_max: attack_ran.then(|| linf.iter().copied().fold(0.0, f64::max)),
        l2_mean: attack_ran.then(|| l2.iter().sum::<f64>() / l2.len() as f64),
        evaluations_mean: queries.iter().any(|q| q.evaluations > 0).then(|| {
            let evaluations = column(|q| f64::from(q.evaluations));
            evaluations.iter().sum::<f64>() / evaluations.len() as f64
        }),
        steps: attacked.as_ref().map_or_else(Vec::new, |attacked| {
            losses::summary(input.trial, attacked.samples.iter().map(|sample| &sample.path))
        }),
        checks: run_checks(input, attacked.as_ref(), (&found, clean.as_deref()), &queries),
        attacked: attacked.as_ref().map(|a| a.embeddings.clone()),
        kept: attacked.map_or_else(Vec::new, |a| a.kept),
        queries,
    })
}

/// Whether the nearest image alone says something: a query that is left alone once that one is wrong was never pushed
/// further down.
fn first_only(input: &TrialInput<'_>) -> bool {
    // The members of an ensemble agree on what is kept, whenever they stop.
    let left_alone = |method: &Method| method.stop() == Stop::Broken && !matches!(method, Method::Auto { .. });
    input.attack.is_some_and(|attack| left_alone(attack.method))
}

/// The k of recall@k that say something.
fn told(input: &TrialInput<'_>) -> Vec<u32> {
    let first_only = first_only(input);
    input.ks.iter().copied().filter(|&k| k == 1 || !first_only).collect()
}

/// Why a metric that looks beyond the nearest image says nothing; see [`first_only`].
const LEFT_ALONE: &str =
    "broken queries are left alone once their nearest image is wrong; stop = \"never\" measures it";

/// The suite's further metrics. The geometry of a clean gallery belongs to the clean trial alone.
fn further(
    input: &TrialInput<'_>,
    attacked: Option<&Attacked>,
    sides: &Sides<'_>,
    (places, found, clean, target_ranks): (&Places, &[Found], Option<&[Found]>, &[u32]),
) -> Vec<MetricEstimate> {
    let Sides { query_labels, gallery_labels, gallery, .. } = sides;
    let (untold, told): (Vec<Metric>, Vec<Metric>) =
        input.metrics.iter().partition(|metric| first_only(input) && metric.looks_beyond_the_nearest());
    let mut answers = score::of_lists(&told, &sides.lists(found, places), input.seed);
    answers.extend(untold.into_iter().map(|metric| MetricEstimate::undefined(metric, LEFT_ALONE)));
    if attacked.is_none() || matches!(input.attack, Some(AttackInput { side: Side::Gallery | Side::All, .. })) {
        let set =
            score::Set { embeddings: gallery, labels: gallery_labels, clustering: input.clustering, seed: input.seed };
        answers.extend(score::of_set(input.metrics, &set));
    }
    if let Some(clean) = clean {
        let ranks = |found: &[Found]| found.iter().map(|f| f.first_hit).collect::<Vec<u32>>();
        let attack = score::Attack {
            labels: query_labels,
            clean_first_hits: &ranks(clean),
            first_hits: &ranks(found),
            target_ranks,
            candidates: &places.candidates(input.gallery.len()),
        };
        answers.extend(score::of_attack(&told, &attack, input.seed));
    }
    score::in_order(input.metrics, answers)
}

fn check_input(input: &TrialInput<'_>) -> Result<(), AttackError> {
    want("batch size", input.batch_size, "at least 1", input.batch_size > 0)?;
    want("number of queries", 0, "at least 1", !input.queries.is_empty())?;
    want("number of k for recall@k", 0, "at least 1", !input.ks.is_empty())?;
    want("k of recall@k", 0, "at least 1", !input.ks.contains(&0))?;
    let mut pairs = vec![(input.query_embeddings, input.gallery_embeddings)];
    pairs.extend(input.crafter_embeddings);
    for (queries, gallery) in pairs {
        let (q, g) = (input.queries.len(), input.gallery.len());
        want("clean query embeddings", queries.len(), &format!("{q}, one for each query"), queries.len() == q)?;
        want("clean gallery embeddings", gallery.len(), &format!("{g}, one for each image"), gallery.len() == g)?;
    }
    for &image in input.queries.iter().chain(input.gallery) {
        let wanted = format!("below {}, the size of `{}`", input.images.len(), input.images.id);
        want("index of an image", image, &wanted, image < input.images.len())?;
    }
    if let Some(AttackInput { side: Side::All, .. }) = input.attack {
        let gallery: std::collections::HashSet<usize> = input.gallery.iter().copied().collect();
        for &image in input.queries {
            want("query of an attack on side `all`", image, "an image of the gallery", gallery.contains(&image))?;
        }
    }
    Ok(())
}

fn outcomes(
    input: &TrialInput<'_>,
    attacked: Option<&Attacked>,
    places: &Places,
    found: &[Found],
    target_ranks: &[u32],
) -> Vec<QueryOutcome> {
    let deepest = input.ks.iter().copied().max().unwrap_or(1) as usize;
    let label = |image: usize| input.images.labels[image];
    let has_success = input.attack.is_some_and(|attack| attack.goal.has_success());
    let of_gallery = matches!(input.attack, Some(AttackInput { side: Side::Gallery, .. }));
    let outcome = |(i, found): (usize, &Found)| {
        let image = input.queries[i];
        let sample = attacked.zip(places.attacked_of(i)).map(|(a, place)| &a.samples[place]);
        let targets = sample.map_or(&[][..], |s| &s.targets);
        let nearest = found.neighbors.first().map(|&place| label(input.gallery[place as usize]));
        QueryOutcome {
            trial: input.trial.into(),
            query: image as u32,
            label: label(image),
            first_hit: found.first_hit,
            neighbors: found
                .neighbors
                .iter()
                .take(deepest)
                .map(|&place| input.gallery[place as usize] as u32)
                .collect(),
            targets: targets.iter().map(|&target| target as u32).collect(),
            // Of an attacked gallery: the nearest image was made to be found by this query's class.
            success: has_success
                && match attacked {
                    Some(attacked) if of_gallery => found.neighbors.first().is_some_and(|&place| {
                        attacked.samples[place as usize].targets.iter().any(|&target| label(target) == label(image))
                    }),
                    _ => targets.iter().any(|&target| nearest == Some(label(target))),
                },
            target_rank: target_ranks.get(i).copied().unwrap_or(0),
            shift: sample.map_or(0.0, |s| s.shift),
            linf: sample.map_or(0.0, |s| s.linf),
            l2: sample.map_or(0.0, |s| s.l2),
            loss: sample.map_or(0.0, |s| s.loss),
            score: None,
            map_at_r: None,
            broken_by: sample.map_or_else(String::new, |s| s.broken_by.clone()),
            evaluations: sample.map_or(0, |s| s.evaluations),
        }
    };
    found.iter().enumerate().map(outcome).collect()
}

fn run_checks(
    input: &TrialInput<'_>,
    attacked: Option<&Attacked>,
    (found, clean): (&[Found], Option<&[Found]>),
    queries: &[QueryOutcome],
) -> Vec<Check> {
    let mut list = vec![checks::coverage(queries.len(), input.queries.len(), input.queries_available)];
    if let Some(cosine) = mean_pairwise_cosine(input.gallery_embeddings) {
        list.push(checks::no_collapse(cosine));
    }
    let (Some(attacked), Some(attack), Some(clean)) = (attacked, &input.attack, clean) else { return list };
    list.push(checks::budget_obeyed(attacked.excess));
    list.push(checks::budget_obeyed_in_8_bits(attacked.byte_excess, attacked.plain_byte_excess));
    list.push(checks::pixels_in_range(attacked.lowest, attacked.highest));
    list.push(checks::loss_recomputed(attacked.loss_difference));
    list.extend(attacked.outside_patch.map(checks::patch_stays_inside));
    if attack.goal.aims_at_others() {
        let identities: Vec<(u32, Vec<u32>)> =
            attacked.samples.iter().map(|s| (s.label, input.images.labels_of(&s.targets))).collect();
        list.push(checks::targets_sound(identities.iter().map(|(own, targets)| (*own, targets.as_slice()))));
    }
    if attack.epsilon.is_zero() {
        let differing = found.iter().zip(clean).filter(|(a, b)| a != b).count();
        list.push(checks::zero_epsilon_equals_clean(differing, queries.len()));
    } else if !matches!(attack.method, Method::Noise { .. }) {
        // An image that broke its query was kept for that, not for its loss.
        let survived = || attacked.samples.iter().filter(|s| !s.broken);
        let n = survived().count();
        if attack.method.needs_gradient() {
            // One whose loss fell on the way shows that the gradient leads somewhere; one broken before the search does not.
            let led = attacked.samples.iter().filter(|s| s.broken && s.loss < s.start_loss).count();
            list.push(checks::zero_gradients(survived().filter(|s| s.loss >= s.start_loss).count(), led + n));
        }
        let keeps_last = matches!(attack.goal, Goal::Robrank(robrank) if robrank.quirks().last_iterate);
        // Who sees the ranking alone brings that down, not the loss.
        if attack.method.access() == Access::Embedding && !keeps_last {
            list.push(checks::loss_not_worse(survived().filter(|s| s.loss > s.start_loss).count(), n));
        }
    }
    list
}

#[cfg(test)]
mod tests;

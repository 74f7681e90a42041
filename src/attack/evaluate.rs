//! One trial: attack the queries batch by batch, embed the result, rank it, and check that the number can be trusted.
//!
//! Memory is bounded by the batch: embeddings are kept, pixels are not, except of the images asked for by `keep`.

mod attacked;
mod hunted;

use crate::attack::{AttackError, checks};
use crate::batch::Embeddings;
use crate::dataset::ImageSet;
use crate::encoder::{Encoder, EncoderSpec};
use crate::metric::neighbors::{Depth, Distance, Found, Search, search};
use crate::metric::recall::{mean_pairwise_cosine, recall_at_k};
use crate::progress::{Cancel, Observer};
use crate::record::{Check, Estimate, Measurement, QueryOutcome, RecallAt};
use crate::stats::bootstrap::{Resampling, cluster_mean};
use crate::suite::attack::{Goal, Method, Side};
use crate::units::Epsilon;
use attacked::Attacked;

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
    /// recall@k; queries without another image of their class in the gallery are left out.
    pub recall: Vec<RecallAt>,
    /// Such queries.
    pub without_positive: usize,
    /// Share of queries whose nearest image has a target's identity; `None` for clean and untargeted trials.
    pub success: Option<Estimate>,
    /// Mean Euclidean distance between clean and attacked embedding.
    pub shift: Option<Estimate>,
    /// Largest L∞ perturbation, pixel units.
    pub linf_max: Option<f64>,
    /// Mean L2 perturbation, pixel units.
    pub l2_mean: Option<f64>,
    /// In a fixed order.
    pub checks: Vec<Check>,
    /// Adversarial `[3, size, size]` bytes of the images in `keep` that were attacked, rounded inside the budget.
    pub kept: Vec<(usize, Vec<u8>)>,
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
        Some(attack) if !matches!(attack.method, Method::None {}) => {
            Some(attacked::attack_all(crafter, answerer, input, attack, &places.own)?)
        }
        _ => None,
    };
    let found = rank(input, attacked.as_ref(), &places)?;
    let queries = outcomes(input, attacked.as_ref(), &places, &found);
    let labels: Vec<u32> = queries.iter().map(|q| q.label).collect();
    let estimate = |values: &[f64], labels: &[u32]| {
        cluster_mean(values, labels, Resampling::new(input.seed)).map(|i| Estimate {
            value: i.value,
            low: i.low,
            high: i.high,
        })
    };
    let ranks: Vec<u32> = queries.iter().map(|q| q.first_hit).collect();
    let without_positive = ranks.iter().filter(|&&rank| rank == 0).count();
    let with: Vec<&QueryOutcome> = queries.iter().filter(|q| q.first_hit > 0).collect();
    let with_labels: Vec<u32> = with.iter().map(|q| q.label).collect();
    let recall = input.ks.iter().filter_map(|&k| {
        let point = recall_at_k(&ranks, k)?;
        let hits: Vec<f64> = with.iter().map(|q| f64::from(q.first_hit <= k)).collect();
        Some(RecallAt { k, estimate: Estimate { value: point.share, ..estimate(&hits, &with_labels)? } })
    });
    let recall: Vec<RecallAt> = recall.collect();
    let wanted = "at least 1; recall is undefined otherwise";
    want("queries with another image of their class in the gallery", with.len(), wanted, !with.is_empty())?;
    let targeted = queries.iter().any(|q| !q.targets.is_empty());
    let column = |value: fn(&QueryOutcome) -> f64| queries.iter().map(value).collect::<Vec<f64>>();
    let l2 = column(|q| f64::from(q.l2));
    let attack_ran = attacked.is_some();
    Ok(TrialOutcome {
        recall,
        without_positive,
        success: targeted.then(|| estimate(&column(|q| f64::from(u8::from(q.success))), &labels)).flatten(),
        shift: attack_ran.then(|| estimate(&column(|q| f64::from(q.shift)), &labels)).flatten(),
        linf_max: attack_ran.then(|| column(|q| f64::from(q.linf)).into_iter().fold(0.0, f64::max)),
        l2_mean: attack_ran.then(|| l2.iter().sum::<f64>() / l2.len() as f64),
        checks: run_checks(input, attacked.as_ref(), &places, &found, &queries)?,
        kept: attacked.map_or_else(Vec::new, |a| a.kept),
        queries,
    })
}

impl TrialOutcome {
    /// Fills the columns of a row that this trial knows; model, suite, artefact and branch are the caller's.
    pub fn write_into(&self, input: &TrialInput<'_>, spec: &EncoderSpec, row: &mut Measurement) {
        let attack = input.attack.filter(|a| !matches!(a.method, Method::None {}));
        row.trial = input.trial.into();
        row.dataset = input.images.id.clone();
        row.attack = attack.map_or("clean", |a| a.name).into();
        row.goal = attack.map_or("none".into(), |a| a.goal.to_string());
        row.method = attack.map_or("none", |a| a.method.name()).into();
        row.side = attack.map_or("none", |a| side_word(a.side)).into();
        row.epsilon = attack.map_or("0".into(), |a| a.epsilon.to_string());
        row.epsilon_pixels = attack.map_or(0.0, |a| a.epsilon.nominal(&spec.std));
        (row.steps, row.restarts) = match attack.map(|a| a.method) {
            Some(Method::Pgd { steps, restarts, .. }) => (*steps as u32, *restarts as u32),
            Some(Method::Fgsm { .. }) => (1, 1),
            _ => (0, 0),
        };
        row.seed = input.seed;
        row.queries = self.queries.len() as u32;
        row.queries_available = input.queries_available as u32;
        row.gallery = input.gallery.len() as u32;
        row.recall = self.recall.clone();
        row.success = self.success;
        row.shift = self.shift;
        row.linf_max = self.linf_max;
        row.l2_mean = self.l2_mean;
        row.checks = self.checks.clone();
        row.provider = spec.provider.clone();
        row.error = None;
    }
}

fn side_word(side: Side) -> &'static str {
    match side {
        Side::Query => "query",
        Side::All => "all",
    }
}

/// Positions of the queries in the gallery and in the list of attacked images.
struct Places {
    own: Vec<Option<usize>>,
    attacked: Vec<usize>,
}

impl Places {
    fn new(input: &TrialInput<'_>) -> Self {
        let places: std::collections::HashMap<usize, usize> =
            input.gallery.iter().enumerate().map(|(place, &image)| (image, place)).collect();
        let own: Vec<Option<usize>> = input.queries.iter().map(|image| places.get(image).copied()).collect();
        let all = matches!(input.attack, Some(AttackInput { side: Side::All, .. }));
        let attacked = if all { own.iter().flatten().copied().collect() } else { (0..own.len()).collect() };
        Self { own, attacked }
    }
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

/// Ranks the (attacked) queries against the (attacked) gallery.
fn rank(input: &TrialInput<'_>, attacked: Option<&Attacked>, places: &Places) -> Result<Vec<Found>, AttackError> {
    let all = matches!(input.attack, Some(AttackInput { side: Side::All, .. }));
    let selected = attacked.filter(|_| all).map(|a| a.embeddings.select(&places.attacked));
    let (queries, gallery) = match (attacked, &selected) {
        (Some(attacked), Some(queries)) => (queries, &attacked.embeddings),
        (Some(attacked), None) => (&attacked.embeddings, input.gallery_embeddings),
        (None, _) => (input.query_embeddings, input.gallery_embeddings),
    };
    Ok(search(Search {
        queries,
        query_labels: &input.images.labels_of(input.queries),
        gallery,
        gallery_labels: &input.images.labels_of(input.gallery),
        excluded: &places.own,
        depth: Depth::Fixed(input.ks.iter().copied().max().unwrap_or(1) as usize),
        distance: Distance::Euclidean,
    })?)
}

fn outcomes(
    input: &TrialInput<'_>,
    attacked: Option<&Attacked>,
    places: &Places,
    found: &[Found],
) -> Vec<QueryOutcome> {
    let label = |image: usize| input.images.labels[image];
    let outcome = |(i, found): (usize, &Found)| {
        let image = input.queries[i];
        let sample = attacked.map(|a| &a.samples[places.attacked[i]]);
        let targets = sample.map_or(&[][..], |s| &s.targets);
        let nearest = found.neighbors.first().map(|&place| label(input.gallery[place as usize]));
        QueryOutcome {
            trial: input.trial.into(),
            query: image as u32,
            label: label(image),
            first_hit: found.first_hit,
            neighbors: found.neighbors.iter().map(|&place| input.gallery[place as usize] as u32).collect(),
            targets: targets.iter().map(|&target| target as u32).collect(),
            success: targets.iter().any(|&target| nearest == Some(label(target))),
            shift: sample.map_or(0.0, |s| s.shift),
            linf: sample.map_or(0.0, |s| s.linf),
            l2: sample.map_or(0.0, |s| s.l2),
            loss: sample.map_or(0.0, |s| s.loss),
        }
    };
    found.iter().enumerate().map(outcome).collect()
}

fn run_checks(
    input: &TrialInput<'_>,
    attacked: Option<&Attacked>,
    places: &Places,
    found: &[Found],
    queries: &[QueryOutcome],
) -> Result<Vec<Check>, AttackError> {
    let mut list = vec![checks::coverage(queries.len(), input.queries.len(), input.queries_available)];
    if let Some(cosine) = mean_pairwise_cosine(input.gallery_embeddings) {
        list.push(checks::no_collapse(cosine));
    }
    let (Some(attacked), Some(attack)) = (attacked, &input.attack) else { return Ok(list) };
    list.push(checks::budget_obeyed(attacked.excess));
    list.push(checks::budget_obeyed_in_8_bits(attacked.byte_excess, attacked.plain_byte_excess));
    list.push(checks::pixels_in_range(attacked.lowest, attacked.highest));
    list.push(checks::loss_recomputed(attacked.loss_difference));
    if !matches!(attack.goal, Goal::Untargeted {}) {
        let identities: Vec<(u32, Vec<u32>)> =
            attacked.samples.iter().map(|s| (s.label, input.images.labels_of(&s.targets))).collect();
        list.push(checks::targets_sound(identities.iter().map(|(own, targets)| (*own, targets.as_slice()))));
    }
    if attack.epsilon.is_zero() {
        let clean = rank(input, None, places)?;
        let differing = found.iter().zip(&clean).filter(|(a, b)| a != b).count();
        list.push(checks::zero_epsilon_equals_clean(differing, queries.len()));
    } else if !matches!(attack.method, Method::Noise { .. }) {
        // An image that broke its query was kept for that, not for its loss.
        let searched = || attacked.samples.iter().filter(|s| !s.broken);
        let n = searched().count();
        list.push(checks::zero_gradients(searched().filter(|s| s.loss >= s.start_loss).count(), n));
        list.push(checks::loss_not_worse(searched().filter(|s| s.loss > s.start_loss).count(), n));
    }
    Ok(list)
}

#[cfg(test)]
mod tests;

//! The loop over batches of one trial: draw targets, craft, embed, and measure every image before its pixels are let go.

use super::hunted::hunt_all;
use super::{AttackInput, TrialInput};
use crate::attack::AttackError;
use crate::attack::aim::{Aim, Scene};
use crate::attack::budget::{Budget, Schedule};
use crate::attack::goal::Objective;
use crate::attack::losses::LossPath;
use crate::attack::pgd::{Crafted, Job, Keep, craft};
use crate::attack::{corruption, noise, patch, universal};
use crate::batch::{Embeddings, Images};
use crate::encoder::{Distance, Encoder};
use crate::suite::attack::{Distribution, Goal, Method, Side, Stop};

/// One attacked image.
pub(super) struct Sample {
    pub label: u32,
    /// Data-set indices.
    pub targets: Vec<usize>,
    pub shift: f32,
    pub linf: f32,
    pub l2: f32,
    pub start_loss: f32,
    pub loss: f32,
    /// The search kept this image because it broke its query, whatever the loss.
    pub broken: bool,
    /// The member of an ensemble that broke the query; empty: nobody did, or there is no ensemble.
    pub broken_by: String,
    /// Images that the model was shown for it; 0 where that is the same for all.
    pub evaluations: u32,
    /// Losses along its first run.
    pub path: LossPath,
}

/// All attacked images of a trial.
pub(super) struct Attacked {
    pub embeddings: Embeddings,
    pub samples: Vec<Sample>,
    pub kept: Vec<(usize, Vec<u8>)>,
    /// Largest change minus its radius.
    pub excess: f64,
    /// The same of the stored bytes, rounded inside the budget.
    pub byte_excess: f64,
    /// The same of plainly rounded bytes.
    pub plain_byte_excess: f64,
    pub lowest: f32,
    pub highest: f32,
    /// Pixels that moved although they lie outside the patch; `None`: there is no patch.
    pub outside_patch: Option<usize>,
    /// Largest difference between the attack's loss and its recomputation, relative to `max(1, |loss|)`.
    pub loss_difference: f64,
}

/// Attacks the queries, or the whole gallery for [`Side::All`], in the way that the method says. `places`: each query's
/// own place in the gallery.
pub(super) fn attack_all(
    crafter: &mut dyn Encoder,
    mut answerer: Option<&mut dyn Encoder>,
    input: &TrialInput<'_>,
    attack: &AttackInput<'_>,
    places: &[Option<usize>],
) -> Result<Attacked, AttackError> {
    let std = crafter.spec().std.clone();
    let budget = Budget::new(attack.epsilon, &std);
    let schedule = Schedule::resolve(attack.method, attack.goal, attack.epsilon, &std)?;
    if let (Some(schedule), Method::Pgd { stop: Stop::Broken, .. }) = (&schedule, attack.method)
        && attack.side == Side::Query
        && !budget.is_zero()
    {
        return hunt_all(crafter, answerer, (input, attack), (&budget, schedule), places);
    }
    let answered = (input.query_embeddings, input.gallery_embeddings);
    let crafted_by = input.crafter_embeddings.unwrap_or(answered);
    let (list, clean, clean_by_crafter) = match attack.side {
        Side::Query => (input.queries, answered.0, crafted_by.0),
        Side::Gallery | Side::All => (input.gallery, answered.1, crafted_by.1),
    };
    let shared = match attack.method {
        Method::Universal(spec) => {
            let task = universal::Task { images: input.images, list, clean: clean_by_crafter, attack, budget: &budget };
            let run = universal::Run { batch: input.batch_size, seed: input.seed, cancel: input.cancel };
            Some(universal::Universal::craft(crafter, spec, &task, &run)?)
        }
        _ => None,
    };
    let aim = aim_at(input, attack, list, (clean_by_crafter, crafted_by.1));
    let quirks = match attack.goal {
        Goal::Robrank(robrank) => Some(robrank.quirks()),
        _ => None,
    };
    let keep = if quirks.is_some_and(|q| q.last_iterate) { Keep::Last } else { Keep::Best };
    let early_shift = quirks.is_some_and(|q| q.penultimate_shift);
    let mut tally = Tally::new(input, &budget, list.len());
    let mut rows: Vec<f32> = Vec::with_capacity(list.len() * clean.dim());
    for (number, batch) in list.chunks(input.batch_size).enumerate() {
        input.cancel.check()?;
        let first = number * input.batch_size;
        let aimed = first..first + batch.len();
        let targets: Vec<Vec<usize>> = aimed.map(|i| aim.targets(i, attack.goal)).collect::<Result<_, _>>()?;
        let objective = aim.objective(first, &targets, attack.goal)?;
        let pixels = input.images.images(batch);
        let crafted = match (attack.method, &schedule) {
            (Method::Corruption(kinds), _) => {
                let damaged = |(family, severity)| corruption::corrupt(&pixels, family, severity, input.seed, batch);
                let adversarial = kinds.only().map_or_else(|| pixels.clone(), damaged);
                untuned(crafter, adversarial, &objective, attack.goal)?
            }
            (Method::Universal(_), _) => {
                let adversarial = match &shared {
                    Some(shared) => shared.apply(&pixels, &budget, first)?,
                    None => pixels.clone(),
                };
                untuned(crafter, adversarial, &objective, attack.goal)?
            }
            (Method::Patch(patch), _) => {
                let named = (input.seed, attack.name, batch);
                let (crafted, outside) = patch::craft(crafter, patch, &pixels, &objective, named, input.cancel)?;
                tally.attacked.outside_patch = Some(tally.attacked.outside_patch.unwrap_or(0) + outside);
                crafted
            }
            (_, Some(schedule)) => {
                let (seed, name) = (input.seed, attack.name);
                let (clean, budget, objective) = (&pixels, &budget, &objective);
                let cancel = input.cancel;
                let job = Job { clean, images: batch, budget, schedule, objective, seed, attack: name, cancel, keep };
                craft(crafter, job)?
            }
            (_, None) => {
                let named = (input.seed, attack.name, attack.method.distribution());
                add_noise(crafter, &pixels, batch, &budget, &objective, named)?
            }
        };
        let embedded = match answerer.as_deref_mut() {
            Some(answerer) => answerer.embed(&crafted.adversarial)?,
            None => crafter.embed(&crafted.adversarial)?,
        };
        // The same model's plain forward pass where there is one; else the embedding that the attack graph gave.
        let judged = if answerer.is_some() { &crafted.embeddings } else { &embedded };
        tally.compare_losses(&crafted, &objective, judged);
        for (i, &image) in batch.iter().enumerate() {
            let shift = match &crafted.penultimate {
                Some(before) if early_shift => {
                    Distance::Euclidean.between(clean_by_crafter.row(first + i), before.row(i))
                }
                _ => Distance::Euclidean.between(clean.row(first + i), embedded.row(i)),
            } as f32;
            let targets = targets[i].iter().map(|&place| input.gallery[place]).collect();
            let (start_loss, loss) = (crafted.start_loss[i], crafted.loss[i]);
            tally.add(image, pixels.image(i), crafted.adversarial.image(i), |linf, l2| Sample {
                label: input.images.labels[image],
                targets,
                shift,
                linf,
                l2,
                start_loss,
                loss,
                broken: false,
                broken_by: String::new(),
                evaluations: 0,
                path: crafted.paths[i].clone(),
            });
        }
        rows.extend_from_slice(embedded.as_slice());
        input.observer.advance(batch.len() as u64);
    }
    let embeddings = Embeddings::new([list.len(), clean.dim()], rows).map_err(|error| AttackError::Input {
        what: "embeddings of the attacked images",
        got: error.to_string(),
        wanted: format!("{} entries each, as the clean ones have", clean.dim()),
    })?;
    tally.attacked.embeddings = embeddings;
    Ok(tally.attacked)
}

/// How the images of a trial are aimed. `own`, `gallery`: clean embeddings by the crafting model, of the list and of the
/// gallery.
pub(super) fn aim_at<'a>(
    input: &TrialInput<'a>,
    attack: &AttackInput<'a>,
    list: &'a [usize],
    (own, gallery): (&'a Embeddings, &'a Embeddings),
) -> Aim<'a> {
    Aim::new(Scene {
        seed: input.seed,
        attack: attack.name,
        labels: &input.images.labels,
        list,
        gallery: input.gallery,
        own,
        gallery_embeddings: gallery,
    })
}

/// What was made without looking at this image's loss: the loss is told, from the clean image's on.
fn untuned(
    crafter: &mut dyn Encoder,
    adversarial: Images,
    objective: &Objective,
    goal: &Goal,
) -> Result<Crafted, AttackError> {
    let embeddings = crafter.embed(&adversarial)?;
    let loss: Vec<f32> = (0..adversarial.len()).map(|i| objective.loss(i, embeddings.row(i)) as f32).collect();
    // An untargeted loss is 0 at the clean image; others are not needed where nothing is searched for.
    let start_loss = if goal.is_flat_at_clean() { vec![0.0; loss.len()] } else { loss.clone() };
    let paths = vec![LossPath::default(); loss.len()];
    Ok(Crafted { adversarial, embeddings, start_loss, loss, paths, penultimate: None })
}

fn add_noise(
    crafter: &mut dyn Encoder,
    clean: &Images,
    images: &[usize],
    budget: &Budget,
    objective: &Objective,
    (seed, attack, distribution): (u64, &str, Distribution),
) -> Result<Crafted, AttackError> {
    let (lower, upper) = budget.bounds(clean)?;
    let purpose = format!("noise/{attack}");
    let adversarial = match (distribution, budget.l2()) {
        (Distribution::Uniform, None) => {
            noise::uniform(clean, (&lower, &upper), budget.radii(), (seed, &purpose), images, 0)
        }
        _ => noise::in_region(clean, budget, distribution, (seed, &purpose), images),
    };
    let embeddings = crafter.embed(&adversarial)?;
    let loss: Vec<f32> = (0..images.len()).map(|i| objective.loss(i, embeddings.row(i)) as f32).collect();
    let paths = vec![LossPath::default(); loss.len()];
    Ok(Crafted { adversarial, embeddings, start_loss: loss.clone(), loss, paths, penultimate: None })
}

/// Collects samples and the extremes that the checks want.
pub(super) struct Tally<'a> {
    input: &'a TrialInput<'a>,
    budget: Budget,
    pub(super) attacked: Attacked,
}

impl<'a> Tally<'a> {
    pub(super) fn new(input: &'a TrialInput<'a>, budget: &Budget, n: usize) -> Self {
        let attacked = Attacked {
            embeddings: input.query_embeddings.select(&[]),
            samples: Vec::with_capacity(n),
            kept: Vec::new(),
            excess: f64::NEG_INFINITY,
            byte_excess: f64::NEG_INFINITY,
            plain_byte_excess: f64::NEG_INFINITY,
            lowest: f32::INFINITY,
            highest: f32::NEG_INFINITY,
            outside_patch: None,
            loss_difference: 0.0,
        };
        Self { input, budget: budget.clone(), attacked }
    }

    fn compare_losses(&mut self, crafted: &Crafted, objective: &Objective, embeddings: &Embeddings) {
        for (i, &loss) in crafted.loss.iter().enumerate() {
            self.compare_loss(loss, objective.loss(i, embeddings.row(i)));
        }
    }

    /// Notes by how much the attack's loss and its recomputation differ.
    pub(super) fn compare_loss(&mut self, loss: f32, again: f64) {
        let difference = (f64::from(loss) - again).abs() / again.abs().max(1.0);
        // Keeps a NaN, which `max` would drop.
        if difference.is_nan() || difference > self.attacked.loss_difference {
            self.attacked.loss_difference = difference;
        }
    }

    pub(super) fn add(
        &mut self,
        image: usize,
        clean: &[f32],
        adversarial: &[f32],
        sample: impl FnOnce(f32, f32) -> Sample,
    ) {
        let (mut linf, mut squared) = (0.0f64, 0.0f64);
        let found = &mut self.attacked;
        for (a, b) in clean.iter().zip(adversarial) {
            let change = f64::from(*b) - f64::from(*a);
            linf = linf.max(change.abs());
            squared += change * change;
            found.lowest = found.lowest.min(*b);
            found.highest = found.highest.max(*b);
        }
        found.excess = found.excess.max(self.budget.excess(clean, adversarial));
        let bytes = self.budget.to_bytes_inside(adversarial, self.input.images.bytes(image));
        let pixels = |bytes: &[u8]| bytes.iter().map(|&b| f32::from(b) / 255.0).collect::<Vec<f32>>();
        found.byte_excess = found.byte_excess.max(self.budget.excess(clean, &pixels(&bytes)));
        let plain: Vec<f32> = adversarial.iter().map(|x| (x * 255.0).round() / 255.0).collect();
        let excess = self.budget.excess(clean, &plain) / self.budget.rounding_factor(plain.len());
        found.plain_byte_excess = found.plain_byte_excess.max(excess);
        if self.input.keep.contains(&image) {
            found.kept.push((image, bytes));
        }
        found.samples.push(sample(linf as f32, squared.sqrt() as f32));
    }
}

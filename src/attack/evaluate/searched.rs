//! Trials whose images walk by themselves (see [`search`](crate::attack::search)): one radius, or a curve of radii in which
//! each begins where the smaller one ended.
//!
//! Images are searched a cohort at a time, so that memory does not grow with their number. Within a cohort all radii and
//! all members of an ensemble are gone through; what is broken is carried to every larger radius as it is, image and
//! embedding, so that recall@1 never rises with the radius.

use std::sync::Arc;

use super::attacked::{Attacked, Sample, Tally, aim_at};
use super::{AttackInput, TrialInput};
use crate::attack::AttackError;
use crate::attack::aim::Aim;
use crate::attack::auto;
use crate::attack::budget::Budget;
use crate::attack::goal::Objective;
use crate::attack::losses::LossPath;
use crate::attack::region::Region;
use crate::attack::route::Route;
use crate::attack::search::{Found, Hunted, Leg, Search, Until, Victims};
use crate::batch::{Embeddings, Images};
use crate::encoder::{Distance, Encoder};
use crate::metric::neighbors::{self, Depth, Search as Neighbors, search};
use crate::suite::attack::{Access, Goal, Method, Side, Stop};

/// Pixels of a cohort and of what is kept for it, in bytes.
const COHORT_BYTES: usize = 256 << 20;

/// Whether a trial is searched here.
pub(super) fn is_search(attack: &AttackInput<'_>, std: &[f32]) -> Result<bool, AttackError> {
    let route = Route::resolve(attack.method, attack.goal, attack.epsilon, std)?;
    Ok(route.is_some() || matches!(attack.method, Method::Auto { .. }))
}

/// Where the walks of one stage ended, for each image that is to go on from there.
type Ends = Vec<Option<Vec<f32>>>;

/// One search of the trial.
struct Stage {
    /// In the record, if an ensemble says who broke a query.
    member: String,
    /// Of its draws.
    name: String,
    goal: Goal,
    route: Route,
    restarts: usize,
}

/// The images of a trial, judged by recall@1 among the clean gallery of the crafting model.
struct Targets<'a> {
    input: &'a TrialInput<'a>,
    attack: &'a AttackInput<'a>,
    aim: Aim<'a>,
    /// Data-set indices of the attacked images.
    list: &'a [usize],
    /// Clean embeddings by the crafting model.
    gallery: &'a Embeddings,
    gallery_labels: Vec<u32>,
    /// Each image's own place in the gallery.
    places: Vec<Option<usize>>,
}

impl Targets<'_> {
    fn found(
        &self,
        images: &[usize],
        embeddings: &Embeddings,
        depth: usize,
    ) -> Result<Vec<neighbors::Found>, AttackError> {
        let labels: Vec<usize> = images.iter().map(|&i| self.list[i]).collect();
        let excluded: Vec<Option<usize>> = images.iter().map(|&i| self.places[i]).collect();
        Ok(search(Neighbors {
            queries: embeddings,
            query_labels: &self.input.images.labels_of(&labels),
            gallery: self.gallery,
            gallery_labels: &self.gallery_labels,
            excluded: &excluded,
            depth: Depth::Fixed(depth),
            distance: neighbors::Distance::Euclidean,
        })?)
    }
}

impl Victims for Targets<'_> {
    fn objective(&self, i: usize, goal: &Goal) -> Result<Objective, AttackError> {
        self.aim.objective_of(i, goal)
    }

    fn broken(&self, images: &[usize], embeddings: &Embeddings) -> Result<Vec<bool>, AttackError> {
        // 0: no image of its class is in the gallery, so there is nothing to lose.
        Ok(self.found(images, embeddings, 0)?.iter().map(|found| found.first_hit > 1).collect())
    }

    /// The discounted gain of what the attacker does not want to be found (the image's own class), or the negative one of
    /// what is to be found (the targets' classes): each image in the list counts `1 / log2(1 + rank)`.
    fn score_ranking(
        &self,
        images: &[usize],
        goal: &Goal,
        embeddings: &Embeddings,
        depth: usize,
    ) -> Result<Vec<f64>, AttackError> {
        let found = self.found(images, embeddings, depth)?;
        let score = |(found, &i): (&neighbors::Found, &usize)| {
            let targets = self.aim.targets(i, goal)?;
            let wanted: Vec<u32> = targets.iter().map(|&place| self.gallery_labels[place]).collect();
            let own = self.input.images.labels[self.list[i]];
            let (classes, sign) = if wanted.is_empty() { (vec![own], 1.0) } else { (wanted, -1.0) };
            let gain = |(rank, place): (usize, &u32)| {
                let counts = classes.contains(&self.gallery_labels[*place as usize]);
                if counts { 1.0 / (rank as f64 + 2.0).log2() } else { 0.0 }
            };
            Ok(sign * found.neighbors.iter().enumerate().map(gain).sum::<f64>())
        };
        found.iter().zip(images).map(score).collect()
    }
}

/// What counts for one image of a cohort, from the radius on at which it was found.
struct Settled {
    found: Found,
    /// Which stage found it.
    stage: usize,
    /// Images that the model was shown up to then.
    evaluations: usize,
    /// By the answering model.
    embedding: Vec<f32>,
    /// Nobody looks for anything better at a larger radius.
    over: bool,
}

/// One radius of a trial.
struct Radius<'a> {
    budget: Budget,
    stages: Vec<Stage>,
    tally: Tally<'a>,
    rows: Vec<f32>,
}

/// A trial, or a curve of them, on its way.
struct Trial<'a> {
    inputs: &'a [TrialInput<'a>],
    victims: Targets<'a>,
    until: Until,
    access: Access,
    /// Clean embeddings of the attacked images by the answering model.
    clean: &'a Embeddings,
}

/// Attacks the images of a trial at every radius of `inputs`, which differ in nothing else and ascend. `places`: each
/// query's own place in the gallery.
pub(super) fn search_all(
    crafter: &mut dyn Encoder,
    mut answerer: Option<&mut dyn Encoder>,
    inputs: &[TrialInput<'_>],
    places: &[Option<usize>],
) -> Result<Vec<Attacked>, AttackError> {
    let Some((input, attack)) = inputs.first().and_then(|input| Some((input, input.attack.as_ref()?))) else {
        return Ok(vec![]);
    };
    let std = crafter.spec().std.clone();
    let trial = Trial::new(inputs, input, attack, places);
    let mut radii = Vec::with_capacity(inputs.len());
    for input in inputs {
        let Some(attack) = &input.attack else { continue };
        let budget = Budget::new(attack.epsilon, &std);
        let stages = trial.stages(attack, &std)?;
        let tally = Tally::new(input, &budget, trial.victims.list.len());
        let rows = Vec::with_capacity(trial.victims.list.len() * trial.clean.dim());
        radii.push(Radius { budget, stages, tally, rows });
    }
    let first: Vec<usize> = (0..trial.victims.list.len()).collect();
    let stages = radii.first().map_or(1, |radius| radius.stages.len());
    for cohort in first.chunks(cohort_size(input, crafter.spec().input, stages)) {
        trial.attack_cohort(crafter, &mut answerer, &mut radii, cohort)?;
    }
    let shape = [trial.victims.list.len(), trial.clean.dim()];
    let finish = |radius: Radius<'_>| {
        let Radius { rows, mut tally, .. } = radius;
        tally.attacked.embeddings = Embeddings::new(shape, rows).map_err(|error| AttackError::Input {
            what: "embeddings of the attacked images",
            got: error.to_string(),
            wanted: format!("{} entries each, as the clean ones have", shape[1]),
        })?;
        Ok(tally.attacked)
    };
    radii.into_iter().map(finish).collect()
}

/// So many images that their pixels, and those of the best image of every stage, fit into [`COHORT_BYTES`]; whole batches.
fn cohort_size(input: &TrialInput<'_>, [c, h, w]: [usize; 3], stages: usize) -> usize {
    let bytes = c * h * w * size_of::<f32>() * (5 + stages);
    let batches = COHORT_BYTES / bytes.max(1) / input.batch_size.max(1);
    batches.max(1) * input.batch_size.max(1)
}

impl<'a> Trial<'a> {
    fn new(
        inputs: &'a [TrialInput<'a>],
        input: &'a TrialInput<'a>,
        attack: &'a AttackInput<'a>,
        places: &[Option<usize>],
    ) -> Self {
        let answered = (input.query_embeddings, input.gallery_embeddings);
        let crafted_by = input.crafter_embeddings.unwrap_or(answered);
        let (list, clean, own, places) = match attack.side {
            Side::Query => (input.queries, answered.0, crafted_by.0, places.to_vec()),
            Side::Gallery | Side::All => {
                (input.gallery, answered.1, crafted_by.1, (0..input.gallery.len()).map(Some).collect())
            }
        };
        let until = match (attack.side, attack.method.stop(), attack.method) {
            (Side::Query, Stop::Broken, _) => Until::Broken,
            (Side::Query, Stop::Never, Method::Auto { .. }) => Until::EndAlthoughBroken,
            _ => Until::End,
        };
        let gallery_labels = input.images.labels_of(input.gallery);
        let aim = aim_at(input, attack, list, (own, crafted_by.1));
        let victims = Targets { attack, input, aim, list, gallery: crafted_by.1, gallery_labels, places };
        Self { inputs, victims, until, access: attack.method.access(), clean }
    }

    /// The searches of one radius.
    fn stages(&self, attack: &AttackInput<'_>, std: &[f32]) -> Result<Vec<Stage>, AttackError> {
        if let Method::Auto { .. } = attack.method {
            let classes: std::collections::BTreeSet<u32> = self.victims.gallery_labels.iter().copied().collect();
            let stage = |member: auto::Member| Stage {
                member: member.name.to_string(),
                name: format!("{}/{}", attack.name, member.name),
                goal: member.goal,
                route: member.route,
                restarts: 1,
            };
            return Ok(auto::members(classes.len().saturating_sub(1)).into_iter().map(stage).collect());
        }
        let route = Route::resolve(attack.method, attack.goal, attack.epsilon, std)?;
        let stage = |route| Stage {
            member: String::new(),
            name: attack.name.to_string(),
            goal: attack.goal.clone(),
            route,
            restarts: attack.method.restarts(),
        };
        Ok(route.map(stage).into_iter().collect())
    }

    /// All radii for some images, given by their places in the list.
    fn attack_cohort(
        &self,
        crafter: &mut dyn Encoder,
        answerer: &mut Option<&mut dyn Encoder>,
        radii: &mut [Radius<'_>],
        cohort: &[usize],
    ) -> Result<(), AttackError> {
        let input = &self.inputs[0];
        let mut settled: Vec<Option<Settled>> = cohort.iter().map(|_| None).collect();
        // Where each stage ended, for the next radius: by stage and place in the cohort.
        let stages = radii.first().map_or(0, |radius| radius.stages.len());
        let mut ends: Vec<Vec<Option<Vec<f32>>>> = vec![vec![None; cohort.len()]; stages];
        let mut evaluations = vec![0usize; cohort.len()];
        let last = radii.len().saturating_sub(1);
        for (number, radius) in radii.iter_mut().enumerate() {
            let open: Vec<usize> =
                (0..cohort.len()).filter(|&at| settled[at].as_ref().is_none_or(|settled| !settled.over)).collect();
            let through = if radius.budget.is_zero() { cohort.len() } else { cohort.len() - open.len() };
            input.observer.advance(through as u64);
            let mut found = self.walk_stages(crafter, radius, (cohort, &open), (&mut ends, &mut evaluations))?;
            if number == last {
                ends.iter_mut().flatten().for_each(|end| *end = None);
            }
            let pixels: Vec<f32> = found.iter().flat_map(|(found, _)| &found.adversarial).copied().collect();
            if !open.is_empty() {
                let [_, c, h, w] = input.images.images(&[]).shape();
                let images = Images::new([open.len(), c, h, w], pixels).expect("one image for each open one");
                let embedded = match answerer {
                    Some(answerer) => answerer.embed(&images)?,
                    None => crafter.embed(&images)?,
                };
                let queries: Vec<usize> = open.iter().map(|&at| cohort[at]).collect();
                let over = match (self.until, answerer.is_some()) {
                    (Until::End, _) => vec![false; open.len()],
                    (_, true) => found.iter().map(|(found, _)| found.broken).collect(),
                    // The plain forward pass has the last word: it is what the trial's own recall is made of.
                    (_, false) => self.victims.broken(&queries, &embedded)?,
                };
                for (i, (found, stage)) in found.drain(..).enumerate() {
                    let (at, embedding) = (open[i], embedded.row(i).to_vec());
                    let judged = if answerer.is_some() { &found.embedding } else { &embedding };
                    let goal = radius.stages.get(stage).map_or(self.victims.attack.goal, |stage| &stage.goal);
                    let again = self.victims.objective(cohort[at], goal)?.loss(0, judged);
                    radius.tally.compare_loss(found.loss as f32, again);
                    let (evaluations, over) = (evaluations[at], over[i]);
                    settled[at] = Some(Settled { found, stage, evaluations, embedding, over });
                }
            }
            for (at, &query) in cohort.iter().enumerate() {
                if let Some(settled) = &settled[at] {
                    self.tally(radius, query, settled)?;
                }
            }
        }
        Ok(())
    }

    /// Goes through the stages of one radius with the images that are open; gives for each the image that counts and the
    /// stage that found it: the first that breaks it, else that of the first stage.
    fn walk_stages(
        &self,
        crafter: &mut dyn Encoder,
        radius: &Radius<'_>,
        (cohort, open): (&[usize], &[usize]),
        (ends, evaluations): (&mut [Ends], &mut [usize]),
    ) -> Result<Vec<(Found, usize)>, AttackError> {
        let input = &self.inputs[0];
        if radius.budget.is_zero() {
            return self.clean_images(crafter, radius, (cohort, open));
        }
        let [_, c, h, w] = input.images.images(&[]).shape();
        let mut chosen: Vec<Option<(Found, usize)>> = vec![None; open.len()];
        let mut standing: Vec<usize> = (0..open.len()).collect();
        let (places, seed, cancel, observer) = (input.batch_size, input.seed, input.cancel, input.observer);
        let search = Search { places, seed, cancel, observer };
        for (number, stage) in radius.stages.iter().enumerate() {
            let enter = |&i: &usize| {
                let (at, query) = (open[i], cohort[open[i]]);
                let image = self.victims.list[query];
                let region = Region::new(input.images.images(&[image]).into_vec(), [c, h, w], &radius.budget);
                let (warm, evaluations) = (ends[number][at].take(), evaluations[at]);
                Hunted { query, image, region: Arc::new(region), warm, found: None, evaluations }
            };
            let mut list: Vec<Hunted> = standing.iter().map(enter).collect();
            let leg = Leg {
                name: &stage.name,
                goal: &stage.goal,
                route: &stage.route,
                restarts: stage.restarts,
                access: self.access,
                until: self.until,
                last: number + 1 == radius.stages.len(),
            };
            search.run(crafter, &self.victims, &leg, &mut list)?;
            let mut left = Vec::with_capacity(standing.len());
            for (hunted, i) in list.into_iter().zip(standing) {
                evaluations[open[i]] = hunted.evaluations;
                let Some(found) = hunted.found else { continue };
                if !found.broken || self.until == Until::EndAlthoughBroken {
                    left.push(i);
                }
                if self.inputs.len() > 1 {
                    ends[number][open[i]] = Some(found.adversarial.clone());
                }
                let better = match &chosen[i] {
                    None => true,
                    Some((before, _)) => found.broken && !before.broken,
                };
                if better {
                    chosen[i] = Some((found, number));
                }
            }
            standing = left;
        }
        Ok(chosen.into_iter().flatten().collect())
    }

    /// What a zero radius finds: the clean images.
    fn clean_images(
        &self,
        crafter: &mut dyn Encoder,
        radius: &Radius<'_>,
        (cohort, open): (&[usize], &[usize]),
    ) -> Result<Vec<(Found, usize)>, AttackError> {
        let images: Vec<usize> = open.iter().map(|&at| self.victims.list[cohort[at]]).collect();
        let pixels = self.inputs[0].images.images(&images);
        let embeddings = crafter.embed(&pixels)?;
        let queries: Vec<usize> = open.iter().map(|&at| cohort[at]).collect();
        let broken = match self.until {
            Until::End => vec![false; open.len()],
            _ => self.victims.broken(&queries, &embeddings)?,
        };
        let goal = radius.stages.first().map_or(self.victims.attack.goal, |stage| &stage.goal);
        let found = |(i, &query): (usize, &usize)| {
            let loss = self.victims.objective(query, goal)?.loss(0, embeddings.row(i));
            let (adversarial, embedding) = (pixels.image(i).to_vec(), embeddings.row(i).to_vec());
            let (path, broken) = (LossPath::default(), broken[i]);
            Ok((Found { adversarial, embedding, loss, score: loss, start_score: loss, broken, path }, 0))
        };
        queries.iter().enumerate().map(found).collect()
    }

    /// Notes what counts for one image at one radius.
    fn tally(&self, radius: &mut Radius<'_>, query: usize, settled: &Settled) -> Result<(), AttackError> {
        let input = &self.inputs[0];
        let image = self.victims.list[query];
        let targets = self.victims.aim.targets(query, self.victims.attack.goal)?;
        let shift = Distance::Euclidean.between(self.clean.row(query), &settled.embedding) as f32;
        let clean = input.images.images(&[image]);
        let member = radius.stages.get(settled.stage).map_or("", |stage| &stage.member);
        // Several stages have several losses, and a curve goes on where a smaller radius ended.
        let one_walk = radius.stages.len() == 1 && self.inputs.len() == 1;
        let path = if one_walk { settled.found.path.clone() } else { LossPath::default() };
        let broken_by = if settled.over { member.to_string() } else { String::new() };
        radius.tally.add(image, clean.image(0), &settled.found.adversarial, |linf, l2| Sample {
            label: input.images.labels[image],
            targets: targets.iter().map(|&place| input.gallery[place]).collect(),
            shift,
            linf,
            l2,
            start_loss: settled.found.start_score as f32,
            loss: settled.found.loss as f32,
            broken: settled.found.broken,
            broken_by,
            evaluations: settled.evaluations as u32,
            path,
        });
        radius.rows.extend_from_slice(&settled.embedding);
        Ok(())
    }
}

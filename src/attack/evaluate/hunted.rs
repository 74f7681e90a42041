//! The trial whose queries are left alone once they are broken; see [`survivors`](crate::attack::survivors).

use super::attacked::{Attacked, Sample, Tally, aim_at};
use super::{AttackInput, TrialInput};
use crate::attack::AttackError;
use crate::attack::aim::Aim;
use crate::attack::budget::{Budget, Schedule};
use crate::attack::survivors::{Ended, Hunt, Survivors, Victim, Victims};
use crate::batch::{Embeddings, Images, ShapeError};
use crate::encoder::{Distance, Encoder};
use crate::metric::neighbors::{self, Depth, Search, search};

/// Queries of a trial, judged by recall@1 among the clean gallery of the crafting model.
struct Queries<'a> {
    input: &'a TrialInput<'a>,
    attack: &'a AttackInput<'a>,
    aim: Aim<'a>,
    /// Clean embeddings by the crafting model.
    gallery: &'a Embeddings,
    gallery_labels: Vec<u32>,
    /// Each query's own place in the gallery.
    places: &'a [Option<usize>],
}

impl Victims for Queries<'_> {
    fn load(&self, i: usize) -> Result<Victim, AttackError> {
        let image = self.input.queries[i];
        let objective = self.aim.objective_of(i, self.attack.goal)?;
        Ok(Victim { image, clean: self.input.images.images(&[image]), objective })
    }

    fn broken(&self, queries: &[usize], embeddings: &Embeddings) -> Result<Vec<bool>, AttackError> {
        let images: Vec<usize> = queries.iter().map(|&i| self.input.queries[i]).collect();
        let excluded: Vec<Option<usize>> = queries.iter().map(|&i| self.places[i]).collect();
        let found = search(Search {
            queries: embeddings,
            query_labels: &self.input.images.labels_of(&images),
            gallery: self.gallery,
            gallery_labels: &self.gallery_labels,
            excluded: &excluded,
            depth: Depth::Fixed(0),
            distance: neighbors::Distance::Euclidean,
        })?;
        // 0: no image of its class is in the gallery, so there is nothing to lose.
        Ok(found.iter().map(|f| f.first_hit > 1).collect())
    }
}

/// Attacks the queries until each is broken or its schedule is over.
pub(super) fn hunt_all(
    crafter: &mut dyn Encoder,
    mut answerer: Option<&mut dyn Encoder>,
    (input, attack): (&TrialInput<'_>, &AttackInput<'_>),
    (budget, schedule): (&Budget, &Schedule),
    places: &[Option<usize>],
) -> Result<Attacked, AttackError> {
    let answered = (input.query_embeddings, input.gallery_embeddings);
    let (own, gallery) = input.crafter_embeddings.unwrap_or(answered);
    let gallery_labels = input.images.labels_of(input.gallery);
    let aim = aim_at(input, attack, input.queries, (own, gallery));
    let queries = Queries { input, attack, aim, gallery, gallery_labels, places };
    let n = input.queries.len();
    let hunt = Hunt {
        budget,
        schedule,
        places: input.batch_size,
        seed: input.seed,
        attack: attack.name,
        cancel: input.cancel,
    };
    let mut running = hunt.start(crafter, &Survivors::all(n))?;
    let mut tally = Tally::new(input, budget, n);
    let (mut order, mut rows) = (Vec::with_capacity(n), Vec::with_capacity(n * answered.0.dim()));
    loop {
        let ended = running.advance(crafter, &queries, input.batch_size)?;
        if ended.is_empty() {
            break;
        }
        let adversarial = images_of(&ended)?;
        let embedded = match answerer.as_deref_mut() {
            Some(answerer) => answerer.embed(&adversarial)?,
            None => crafter.embed(&adversarial)?,
        };
        for (i, query) in ended.iter().enumerate() {
            let judged = if answerer.is_some() { &query.embedding } else { embedded.row(i) };
            tally.compare_loss(query.loss, query.victim.objective.loss(0, judged));
            let targets = queries.aim.targets(query.query, attack.goal)?.into_iter().map(|place| input.gallery[place]);
            let sample = sample(query, targets.collect(), (answered.0.row(query.query), embedded.row(i)), input);
            tally.add(query.victim.image, query.victim.clean.image(0), &query.adversarial, sample);
            order.push(query.query);
        }
        rows.extend_from_slice(embedded.as_slice());
        input.observer.advance(ended.len() as u64);
    }
    into_list_order(tally.attacked, &order, rows, input)
}

/// The finished row of one query; its perturbation is filled in by the tally.
fn sample(
    query: &Ended,
    targets: Vec<usize>,
    (clean, embedded): (&[f32], &[f32]),
    input: &TrialInput<'_>,
) -> impl FnOnce(f32, f32) -> Sample {
    let label = input.images.labels[query.victim.image];
    let shift = Distance::Euclidean.between(clean, embedded) as f32;
    let (start_loss, loss, broken) = (query.start_loss, query.loss, query.broken);
    let (broken_by, evaluations, path) = (String::new(), query.evaluations as u32, query.path.clone());
    move |linf, l2| Sample { label, targets, shift, linf, l2, start_loss, loss, broken, broken_by, evaluations, path }
}

fn images_of(ended: &[Ended]) -> Result<Images, AttackError> {
    let [_, c, h, w] = ended[0].victim.clean.shape();
    let pixels = ended.iter().flat_map(|e| &e.adversarial).copied().collect();
    Images::new([ended.len(), c, h, w], pixels).map_err(|error| unfit("attacked images", &error))
}

fn unfit(what: &'static str, error: &ShapeError) -> AttackError {
    AttackError::Input { what, got: error.to_string(), wanted: "one of the shape of each query".into() }
}

/// Queries end in any order; the trial lists them in its own.
fn into_list_order(
    mut attacked: Attacked,
    order: &[usize],
    rows: Vec<f32>,
    input: &TrialInput<'_>,
) -> Result<Attacked, AttackError> {
    let shape = [order.len(), input.query_embeddings.dim()];
    let rows = Embeddings::new(shape, rows).map_err(|error| unfit("embeddings of the attacked images", &error))?;
    let mut places: Vec<usize> = (0..order.len()).collect();
    places.sort_unstable_by_key(|&place| order[place]);
    attacked.embeddings = rows.select(&places);
    let mut samples: Vec<Option<Sample>> = attacked.samples.into_iter().map(Some).collect();
    attacked.samples = places.iter().filter_map(|&place| samples[place].take()).collect();
    let position = |image: usize| input.queries.iter().position(|&query| query == image);
    attacked.kept.sort_by_key(|(image, _)| position(*image));
    Ok(attacked)
}

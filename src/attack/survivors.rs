//! A gradient search over many queries in a fixed number of places: who is broken leaves, the next one enters.
//!
//! Most queries break after a few steps; running all of them to the end spends most of the time on what is decided.
//! Here every place of the batch holds one query with its own run and step. When the query is broken, or its schedule
//! is over, the place goes to the next one that waits; when nobody waits, the batch shrinks. Nothing that decides a
//! query's numbers changes: the batch size of a single pass stays, losses are per sample, and a query keeps its row
//! (see [`Encoder::pass_size`]). So the outcome is that of the full run to the bit, only sooner.
//!
//! What *broken* means is the caller's word, see [`Victims::broken`].

use std::collections::VecDeque;

use super::AttackError;
use super::budget::{Budget, Schedule};
use super::goal::Objective;
use super::losses::LossPath;
use super::pgd::first_iterate;
use crate::batch::{Embeddings, Images};
use crate::encoder::{Encoder, EncoderError, GradientSteps, Sample};
use crate::progress::Cancel;

/// One query before the attack.
#[derive(Debug, Clone, PartialEq)]
pub struct Victim {
    /// Data-set index: the name of its random starts.
    pub image: usize,
    /// Clean pixels, `[1, c, h, w]`.
    pub clean: Images,
    /// What to minimise, for this one sample.
    pub objective: Objective,
}

/// Where queries come from, and who judges them. A query is named by its place in the caller's list.
pub trait Victims {
    /// Query `i`, when its turn comes.
    ///
    /// # Errors
    /// [`AttackError`] if its targets cannot be drawn.
    fn load(&self, i: usize) -> Result<Victim, AttackError>;

    /// Whether each query is broken by the iterate with this embedding. A query is never looked at again once it is.
    ///
    /// # Shapes
    /// `embeddings`: `[queries.len(), d]`, as the attack graph saw them.
    /// # Errors
    /// [`AttackError`] if the embeddings cannot be judged.
    fn broken(&self, queries: &[usize], embeddings: &Embeddings) -> Result<Vec<bool>, AttackError>;
}

/// Queries that stand, in ascending order. A cheap attack takes all and leaves some; the next one takes those.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survivors(Vec<usize>);

impl Survivors {
    /// Queries `0..n`.
    pub fn all(n: usize) -> Self {
        Self((0..n).collect())
    }

    /// Takes out those that `ended` broken.
    pub fn strike(&mut self, ended: &[Ended]) {
        let gone: std::collections::HashSet<usize> = ended.iter().filter(|e| e.broken).map(|e| e.query).collect();
        self.0.retain(|query| !gone.contains(query));
    }

    /// The queries.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }
}

/// How all queries are attacked.
#[derive(Debug, Clone, Copy)]
pub struct Hunt<'a> {
    /// How far a pixel may move; not zero.
    pub budget: &'a Budget,
    /// How to search.
    pub schedule: &'a Schedule,
    /// Queries at once.
    pub places: usize,
    /// Suite seed.
    pub seed: u64,
    /// The suite's name of the attack.
    pub attack: &'a str,
    /// Looked at between steps.
    pub cancel: &'a Cancel,
}

/// What became of one query.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Its place in the caller's list.
    pub query: usize,
    /// Whether an iterate broke it.
    pub broken: bool,
    /// Evaluations spent on it.
    pub evaluations: usize,
    /// It, as it was loaded.
    pub victim: Victim,
    /// The first iterate that broke it; else the one with the lowest loss of all runs, `[c, h, w]`.
    pub adversarial: Vec<f32>,
    /// Embedding of that iterate as the crafting graph saw it, `[d]`.
    pub embedding: Vec<f32>,
    /// Loss at the first iterate of the first run.
    pub start_loss: f32,
    /// Loss of that iterate.
    pub loss: f32,
    /// Losses of the first run's iterates.
    pub path: LossPath,
}

/// The state of a [`Hunt`]: who waits and who is in which place. It lives between calls, so that the caller can use
/// the encoder for something else in between.
#[derive(Debug)]
pub struct Running<'a> {
    hunt: Hunt<'a>,
    /// By row: query `q` waits for a place of row `q % waiting.len()`.
    waiting: Vec<VecDeque<usize>>,
    /// Place `i` is in row `i % waiting.len()`. None where a row has run out of queries before others.
    places: Vec<Option<Place>>,
}

#[derive(Debug)]
struct Place {
    query: usize,
    victim: Victim,
    lower: Images,
    upper: Images,
    /// `[1, c, h, w]`; up to date between calls only.
    current: Images,
    restart: usize,
    step: usize,
    evaluations: usize,
    best: Option<Best>,
    path: LossPath,
}

#[derive(Debug)]
struct Best {
    adversarial: Vec<f32>,
    embedding: Vec<f32>,
    start_loss: f32,
    loss: f32,
}

impl<'a> Hunt<'a> {
    /// Lines the survivors up for an encoder.
    ///
    /// # Errors
    /// [`AttackError::Input`] if there is no place.
    pub fn start(self, encoder: &dyn Encoder, survivors: &Survivors) -> Result<Running<'a>, AttackError> {
        if self.places == 0 {
            let (got, wanted) = ("0".into(), "at least 1".into());
            return Err(AttackError::Input { what: "queries at once", got, wanted });
        }
        let rows = encoder.pass_size().clamp(1, self.places);
        let mut waiting = vec![VecDeque::new(); rows];
        survivors.0.iter().for_each(|&query| waiting[query % rows].push_back(query));
        Ok(Running { hunt: self, waiting, places: Vec::new() })
    }

    fn enter(&self, query: usize, victims: &dyn Victims) -> Result<Place, AttackError> {
        let victim = victims.load(query)?;
        let (lower, upper) = self.budget.bounds(&victim.clean)?;
        let current = self.first_iterate(&victim, (&lower, &upper), 0);
        Ok(Place {
            query,
            victim,
            lower,
            upper,
            current,
            restart: 0,
            step: 0,
            evaluations: 0,
            best: None,
            path: LossPath::default(),
        })
    }

    fn first_iterate(&self, victim: &Victim, bounds: (&Images, &Images), restart: usize) -> Images {
        let named = (self.seed, self.attack, &[victim.image][..]);
        first_iterate(&victim.clean, bounds, (self.budget, self.schedule), named, restart)
    }
}

impl Running<'_> {
    /// Goes on until at least `enough` queries have ended or none is left; gives them in the order in which they ended.
    /// Empty: all are through.
    ///
    /// # Errors
    /// [`AttackError::Loss`] names the image whose loss is not finite; the encoder's errors, those of `victims`, a stop.
    pub fn advance(
        &mut self,
        encoder: &mut dyn Encoder,
        victims: &dyn Victims,
        enough: usize,
    ) -> Result<Vec<Ended>, AttackError> {
        let mut ended = Vec::new();
        for i in self.places.len()..self.hunt.places {
            let next = self.next(i, victims)?;
            self.places.push(next);
        }
        self.forget_empty_end();
        let Some(mut steps) = descend(encoder, &self.places)? else { return Ok(ended) };
        while ended.len() < enough && !self.places.is_empty() {
            self.hunt.cancel.check()?;
            self.step(steps.as_mut(), victims, &mut ended)?;
        }
        for (i, place) in self.places.iter_mut().enumerate() {
            if let Some(place) = place {
                steps.copy_current(i, place.current.image_mut(0));
            }
        }
        Ok(ended)
    }

    /// Who is next in the row of place `i`.
    fn next(&mut self, i: usize, victims: &dyn Victims) -> Result<Option<Place>, AttackError> {
        let row = i % self.waiting.len();
        self.waiting[row].pop_front().map(|query| self.hunt.enter(query, victims)).transpose()
    }

    fn forget_empty_end(&mut self) {
        let taken = self.places.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.places.truncate(taken);
    }

    /// One evaluation of all places, and what follows for each.
    fn step(
        &mut self,
        steps: &mut dyn GradientSteps,
        victims: &dyn Victims,
        ended: &mut Vec<Ended>,
    ) -> Result<(), AttackError> {
        let evaluation = steps.step(&self.hunt.schedule.step.repeat(self.places.len()))?;
        let taken: Vec<usize> = (0..self.places.len()).filter(|&i| self.places[i].is_some()).collect();
        let queries: Vec<usize> = self.places.iter().flatten().map(|p| p.query).collect();
        let broken = victims.broken(&queries, &evaluation.embeddings.select(&taken))?;
        let mut free = Vec::new();
        let taken = self.places.iter_mut().enumerate().filter_map(|(i, place)| Some((i, place.as_mut()?)));
        for ((i, place), broken) in taken.zip(broken) {
            let loss = evaluation.loss[i];
            if !loss.is_finite() {
                return Err(AttackError::Loss { image: place.victim.image, step: place.step, loss });
            }
            place.see(loss, evaluation.embeddings.row(i), broken, |out| steps.copy_evaluated(i, out));
            let last_step = place.step == self.hunt.schedule.steps;
            if broken || (last_step && place.restart + 1 == self.hunt.schedule.restarts) {
                free.push((i, broken));
            } else if last_step {
                (place.step, place.restart) = (0, place.restart + 1);
                let bounds = (&place.lower, &place.upper);
                place.current = self.hunt.first_iterate(&place.victim, bounds, place.restart);
                steps.replace(i, &place.sample())?;
            } else {
                place.step += 1;
            }
        }
        // From behind, so that a place taken from the end is never one that is still to be filled.
        for (i, broken) in free.into_iter().rev() {
            let place = match self.next(i, victims)? {
                Some(place) => Some(place),
                None => self.last_of_row(i, &*steps),
            };
            if let Some(place) = &place {
                steps.replace(i, &place.sample())?;
            }
            ended.extend(std::mem::replace(&mut self.places[i], place).and_then(|left| left.end(broken)));
        }
        self.forget_empty_end();
        steps.shrink(self.places.len());
        Ok(())
    }

    /// Takes the last place of the same row behind place `i` away, to move its query forward.
    fn last_of_row(&mut self, i: usize, steps: &dyn GradientSteps) -> Option<Place> {
        let behind = (i + 1..self.places.len()).rev().filter(|j| j % self.waiting.len() == i % self.waiting.len());
        let last = behind.into_iter().find(|&j| self.places[j].is_some())?;
        let mut place = self.places[last].take()?;
        steps.copy_current(last, place.current.image_mut(0));
        Some(place)
    }
}

impl Place {
    fn sample(&self) -> Sample<'_> {
        Sample {
            start: self.current.as_slice(),
            lower: self.lower.as_slice(),
            upper: self.upper.as_slice(),
            targets: &self.victim.objective.targets,
            weights: &self.victim.objective.weights,
            table: &self.victim.objective.table,
        }
    }

    /// Takes the iterate over if it breaks the query or has the lowest loss so far.
    fn see(&mut self, loss: f32, embedding: &[f32], breaks: bool, copy: impl FnOnce(&mut [f32])) {
        self.evaluations += 1;
        if self.restart == 0 {
            self.path.push(loss);
        }
        let start_loss = self.best.as_ref().map_or(loss, |b| b.start_loss);
        if self.best.as_ref().is_none_or(|b| breaks || loss < b.loss) {
            let mut adversarial = self.best.take().map_or_else(|| vec![0.0; self.current.stride()], |b| b.adversarial);
            copy(&mut adversarial);
            self.best = Some(Best { adversarial, embedding: embedding.to_vec(), start_loss, loss });
        }
    }

    fn end(self, broken: bool) -> Option<Ended> {
        let Best { adversarial, embedding, start_loss, loss } = self.best?;
        let (query, evaluations, victim, path) = (self.query, self.evaluations, self.victim, self.path);
        Some(Ended { query, broken, evaluations, victim, adversarial, embedding, start_loss, loss, path })
    }
}

/// Opens a descent in which every place goes on where it is; none if nobody is there. Empty places do what the first
/// query does.
fn descend<'a>(
    encoder: &'a mut dyn Encoder,
    places: &[Option<Place>],
) -> Result<Option<Box<dyn GradientSteps + 'a>>, EncoderError> {
    let Some(first) = places.iter().flatten().next() else { return Ok(None) };
    let [_, c, h, w] = first.current.shape();
    let join = |part: fn(&Place) -> &[f32]| -> Vec<f32> {
        places.iter().flat_map(|place| part(place.as_ref().unwrap_or(first))).copied().collect()
    };
    let images = |part: fn(&Place) -> &[f32]| Images::new([places.len(), c, h, w], join(part)).expect("one image each");
    let whose = places.iter().map(|place| &place.as_ref().unwrap_or(first).victim.objective);
    let Some(objective) = Objective::join(whose) else { return Ok(None) };
    let (start, lower, upper) =
        (images(|p| p.current.as_slice()), images(|p| p.lower.as_slice()), images(|p| p.upper.as_slice()));
    let steps = encoder.descend(&objective.descent(&start, &lower, &upper))?;
    Ok(Some(steps))
}

#[cfg(test)]
mod tests;

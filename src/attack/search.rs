//! Walks of many queries in a fixed number of places of the model's batch.
//!
//! A [`Leg`] is one search that every query of a list makes. Each place of the batch holds one query's
//! [`Walk`]; one evaluation shows all of them where they stand. Who is through leaves its place to the
//! next query of the same row, and when nobody waits the batch shrinks. A query keeps its row (see
//! [`Encoder::pass_size`]) and losses are per sample, so nothing that decides its numbers depends on who else is searched:
//! leaving broken queries alone changes the time and nothing else.
//!
//! The harness, not the walk, keeps the result: the best candidate, or the first one that breaks the query.

use std::collections::VecDeque;
use std::sync::Arc;

use rayon::prelude::*;

use super::AttackError;
use super::goal::Objective;
use super::losses::LossPath;
use super::region::Region;
use super::route::Route;
use super::walk::{Seen, Walk};
use crate::batch::{Embeddings, Images};
use crate::encoder::Encoder;
use crate::progress::{Cancel, Observer};
use crate::rng;
use crate::suite::attack::{Access, Goal};

/// What the search asks about queries. A query is named by its place in the caller's list.
pub trait Victims {
    /// The loss of query `query` for a goal.
    ///
    /// # Errors
    /// [`AttackError`] if its targets cannot be drawn.
    fn objective(&self, query: usize, goal: &Goal) -> Result<Objective, AttackError>;

    /// Whether each query is broken by the image with this embedding.
    ///
    /// # Shapes
    /// `embeddings`: `[queries.len(), d]`.
    /// # Errors
    /// [`AttackError`] if the embeddings cannot be judged.
    fn broken(&self, queries: &[usize], embeddings: &Embeddings) -> Result<Vec<bool>, AttackError>;

    /// For each query, what the classes of its `depth` nearest images say of a goal: lower is better for the attacker.
    ///
    /// # Errors
    /// As [`Victims::broken`].
    fn score_ranking(
        &self,
        queries: &[usize],
        goal: &Goal,
        embeddings: &Embeddings,
        depth: usize,
    ) -> Result<Vec<f64>, AttackError>;
}

/// When a walk ends before its time, and which image of it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Nobody looks whether a query is broken: the best candidate counts.
    End,
    /// The first candidate that breaks the query counts, and the walk ends there.
    Broken,
    /// The first candidate that breaks the query counts, and the walk goes on to its end nevertheless.
    EndAlthoughBroken,
}

/// One search that every query makes.
#[derive(Debug, Clone, Copy)]
pub struct Leg<'a> {
    /// Names the draws.
    pub name: &'a str,
    /// What is wanted.
    pub goal: &'a Goal,
    /// How the image moves.
    pub route: &'a Route,
    /// Independent runs.
    pub restarts: usize,
    /// What is seen of an answer.
    pub access: Access,
    /// When to leave.
    pub until: Until,
    /// Whether no other leg follows: who is through with it is through.
    pub last: bool,
}

/// What all legs of a trial share.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// Queries at once.
    pub places: usize,
    /// Suite seed.
    pub seed: u64,
    /// Looked at between evaluations.
    pub cancel: &'a Cancel,
    /// Told of each query that is through: broken, or at the end of the last leg.
    pub observer: &'a dyn Observer,
}

/// One query on its way.
#[derive(Debug, Clone)]
pub struct Hunted {
    /// Its place in the caller's list.
    pub query: usize,
    /// Data-set index: the name of its draws.
    pub image: usize,
    /// The images that it may become.
    pub region: Arc<Region>,
    /// Where its first run begins, instead of where the route says.
    pub warm: Option<Vec<f32>>,
    /// What the leg found.
    pub found: Option<Found>,
    /// Images that the model was shown for it, over all legs.
    pub evaluations: usize,
}

/// The image that counts for one query.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// `[c, h, w]`.
    pub adversarial: Vec<f32>,
    /// Its embedding as the search saw it, `[d]`.
    pub embedding: Vec<f32>,
    /// The goal's loss there.
    pub loss: f64,
    /// What the walk brought down, there: the loss, or what the ranking said.
    pub score: f64,
    /// The same at the first candidate of the first run.
    pub start_score: f64,
    /// Whether it broke the query.
    pub broken: bool,
    /// The goal's losses at the candidates of the first run, up to the one that broke the query.
    pub path: LossPath,
}

struct Place {
    /// Position in the list of queries.
    at: usize,
    walk: Box<dyn Walk>,
    objective: Objective,
    restart: usize,
}

/// One evaluation of all places.
struct Looked {
    scores: Vec<f64>,
    losses: Vec<f64>,
    embeddings: Embeddings,
    /// `[n, c, h, w]`, empty without gradients.
    gradient: Vec<f32>,
}

impl Search<'_> {
    /// Walks one leg with every query of the list.
    ///
    /// # Errors
    /// [`AttackError::Input`] if there is no place; [`AttackError::Loss`] names the image whose loss is not finite; the
    /// encoder's errors, those of `victims`, a stop.
    pub fn run(
        &self,
        encoder: &mut dyn Encoder,
        victims: &dyn Victims,
        leg: &Leg<'_>,
        list: &mut [Hunted],
    ) -> Result<(), AttackError> {
        if self.places == 0 {
            let (got, wanted) = ("0".into(), "at least 1".into());
            return Err(AttackError::Input { what: "queries at once", got, wanted });
        }
        let rows = encoder.pass_size().clamp(1, self.places);
        let mut waiting = vec![VecDeque::new(); rows];
        list.iter().enumerate().for_each(|(at, hunted)| waiting[hunted.query % rows].push_back(at));
        let mut running = Running { search: self, leg, victims, list, waiting, places: Vec::new() };
        running.fill()?;
        while !running.places.is_empty() {
            self.cancel.check()?;
            running.look(encoder)?;
        }
        Ok(())
    }
}

struct Running<'a> {
    search: &'a Search<'a>,
    leg: &'a Leg<'a>,
    victims: &'a dyn Victims,
    list: &'a mut [Hunted],
    /// By row: positions in the list.
    waiting: Vec<VecDeque<usize>>,
    /// Place `i` is in row `i % waiting.len()`. None where a row has run out of queries before others.
    places: Vec<Option<Place>>,
}

impl Running<'_> {
    fn fill(&mut self) -> Result<(), AttackError> {
        let rows = self.waiting.len();
        for i in 0..self.search.places {
            let next = self.waiting[i % rows].pop_front().map(|at| self.enter(at)).transpose()?;
            self.places.push(next);
        }
        self.forget_empty_end();
        Ok(())
    }

    fn enter(&mut self, at: usize) -> Result<Place, AttackError> {
        self.list[at].found = None;
        let objective = self.victims.objective(self.list[at].query, self.leg.goal)?;
        Ok(Place { at, walk: self.begin(at, 0), objective, restart: 0 })
    }

    fn begin(&self, at: usize, restart: usize) -> Box<dyn Walk> {
        let hunted = &self.list[at];
        let purpose = format!("start/{}", self.leg.name);
        let stream = rng::stream(self.search.seed, &purpose, &[hunted.image as u64, restart as u64]);
        self.leg.route.begin(hunted.region.clone(), stream, restart, hunted.warm.as_deref())
    }

    fn forget_empty_end(&mut self) {
        let taken = self.places.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.places.truncate(taken);
    }

    /// One evaluation of all places, and what follows for each.
    fn look(&mut self, encoder: &mut dyn Encoder) -> Result<(), AttackError> {
        let looked = self.evaluate(encoder)?;
        let candidates: Vec<usize> =
            self.taken().filter(|(_, place)| place.walk.is_candidate()).map(|(i, _)| i).collect();
        let mut broken = vec![false; self.places.len()];
        if self.leg.until != Until::End && !candidates.is_empty() {
            let queries: Vec<usize> = candidates.iter().map(|&i| self.query(i)).collect();
            let judged = self.victims.broken(&queries, &looked.embeddings.select(&candidates))?;
            candidates.iter().zip(judged).for_each(|(&i, judged)| broken[i] = judged);
        }
        let mut free = Vec::new();
        for (i, broken) in broken.into_iter().enumerate() {
            let Some(mut place) = self.places[i].take() else { continue };
            if self.goes_on(&mut place, &looked, i, broken)? {
                self.places[i] = Some(place);
            } else {
                let gone = self.leg.last || (broken && self.leg.until == Until::Broken);
                self.search.observer.advance(u64::from(gone));
                free.push(i);
            }
        }
        // From behind, so that a place taken from the end is never one that is still to be filled.
        let rows = self.waiting.len();
        for i in free.into_iter().rev() {
            self.places[i] = match self.waiting[i % rows].pop_front() {
                Some(at) => Some(self.enter(at)?),
                None => self.last_of_row(i),
            };
        }
        self.forget_empty_end();
        Ok(())
    }

    fn taken(&self) -> impl Iterator<Item = (usize, &Place)> {
        self.places.iter().enumerate().filter_map(|(i, place)| Some((i, place.as_ref()?)))
    }

    fn query(&self, i: usize) -> usize {
        self.places[i].as_ref().map_or(0, |place| self.list[place.at].query)
    }

    /// Shows a walk what was seen; whether it keeps its place.
    fn goes_on(&mut self, place: &mut Place, looked: &Looked, i: usize, broken: bool) -> Result<bool, AttackError> {
        let hunted = &mut self.list[place.at];
        let (score, loss) = (looked.scores[i], looked.losses[i]);
        if !score.is_finite() || !loss.is_finite() {
            let (image, step) = (hunted.image, hunted.evaluations);
            return Err(AttackError::Loss { image, step, loss: loss as f32 });
        }
        hunted.evaluations += 1;
        if place.walk.is_candidate() {
            // Once a query is broken its image is decided, whether the walk goes on or not.
            let open = hunted.found.as_ref().is_none_or(|found| !found.broken);
            hunted.see(place.walk.point(), looked.embeddings.row(i), (score, loss), broken);
            if let Some(found) = hunted.found.as_mut().filter(|_| open && place.restart == 0) {
                found.path.push(loss as f32);
            }
        }
        if broken && self.leg.until == Until::Broken {
            return Ok(false);
        }
        let stride = place.walk.point().len();
        let gradient = looked.gradient.get(i * stride..(i + 1) * stride);
        if place.walk.learn(Seen { score, gradient }) {
            return Ok(true);
        }
        place.restart += 1;
        if place.restart < self.leg.restarts {
            place.walk = self.begin(place.at, place.restart);
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes the last place of the same row behind place `i` away, to move its query forward.
    fn last_of_row(&mut self, i: usize) -> Option<Place> {
        let rows = self.waiting.len();
        let behind = (i + 1..self.places.len()).rev().filter(|j| j % rows == i % rows);
        let last = behind.into_iter().find(|&j| self.places[j].is_some())?;
        self.places[last].take()
    }

    /// Shows the model where every walk stands. Empty places do what the first query does.
    fn evaluate(&self, encoder: &mut dyn Encoder) -> Result<Looked, AttackError> {
        let Some(first) = self.places.iter().flatten().next() else {
            return Ok(Looked { scores: vec![], losses: vec![], embeddings: encoder_rows(0, 0)?, gradient: vec![] });
        };
        let places: Vec<&Place> = self.places.iter().map(|place| place.as_ref().unwrap_or(first)).collect();
        let [c, h, w] = self.list[first.at].region.shape();
        let pixels: Vec<f32> = places.iter().flat_map(|place| place.walk.point()).copied().collect();
        let points = Images::new([places.len(), c, h, w], pixels).expect("one image for each place");
        if self.leg.route.needs_gradient() {
            let objective = Objective::join(places.iter().map(|place| &place.objective)).expect("at least one place");
            let found = encoder.gradient(&objective.descent(&points, &points, &points))?;
            let losses: Vec<f64> = found.evaluation.loss.iter().map(|loss| f64::from(*loss)).collect();
            let (embeddings, gradient) = (found.evaluation.embeddings, found.pixels);
            return Ok(Looked { scores: losses.clone(), losses, embeddings, gradient });
        }
        let embeddings = encoder.embed(&points)?;
        // A loss may look at the whole gallery: nothing for empty places, and the threads share the others.
        let objectives: Vec<Option<&Objective>> =
            self.places.iter().map(|place| place.as_ref().map(|place| &place.objective)).collect();
        let loss =
            |(i, objective): (usize, &Option<&Objective>)| objective.map_or(0.0, |o| o.loss(0, embeddings.row(i)));
        let losses: Vec<f64> = objectives.par_iter().enumerate().map(loss).collect();
        let scores = match self.leg.access {
            Access::Embedding => losses.clone(),
            Access::Ranking(depth) => {
                let queries: Vec<usize> = places.iter().map(|place| self.list[place.at].query).collect();
                self.victims.score_ranking(&queries, self.leg.goal, &embeddings, depth)?
            }
        };
        Ok(Looked { scores, losses, embeddings, gradient: vec![] })
    }
}

fn encoder_rows(n: usize, d: usize) -> Result<Embeddings, AttackError> {
    Embeddings::new([n, d], vec![0.0; n * d]).map_err(|error| AttackError::Input {
        what: "embeddings",
        got: error.to_string(),
        wanted: "one row for each image".into(),
    })
}

impl Hunted {
    /// Takes the candidate over if it is the first to break the query, or the best while none has.
    fn see(&mut self, point: &[f32], embedding: &[f32], (score, loss): (f64, f64), breaks: bool) {
        let (start_score, better) = match &self.found {
            None => (score, true),
            Some(found) => (found.start_score, !found.broken && (breaks || score < found.score)),
        };
        if better {
            let before = self.found.take().map(|found| (found.adversarial, found.path));
            let (mut adversarial, path) = before.unwrap_or_default();
            adversarial.clear();
            adversarial.extend_from_slice(point);
            let embedding = embedding.to_vec();
            self.found = Some(Found { adversarial, embedding, loss, score, start_score, broken: breaks, path });
        }
    }
}

#[cfg(test)]
mod tests;

//! The trials of one model: those that are finished come from the store, the others are measured and kept.

mod again;
mod identity;
mod told;

use std::collections::BTreeMap;

use super::RunError;
use super::models::{OnnxFile, ReadyModel};
use super::pictures::AdversarialBytes;
use super::queries::Queries;
use super::settings::Settings;
use super::soundness::{self, Probed};
use super::store::{StoredTrial, TrialStore};
use crate::attack::evaluate::{AttackInput, TrialInput, TrialOutcome, embed_all, run_curve, run_trial};
use crate::attack::probe::Subject;
use crate::attack::{AttackError, checks};
use crate::batch::Embeddings;
use crate::dataset::ImageSet;
use crate::digest::Digest;
use crate::encoder::Encoder;
use crate::encoder::onnx::{OnnxEncoder, OnnxOptions, Runtime};
use crate::record::{Check, Measurement, QueryOutcome};
use crate::score::Clustering;
use crate::suite::attack::{Branch, Side};
use crate::suite::cost::BATCHES_AT_ONCE;
use crate::suite::plan::{Plan, TrialSpec};
use crate::suite::repeats::KEPT_PICTURES;
use crate::suite::shards::Part;
use crate::suite::wire::Clusters;

/// What all trials of a run share.
pub struct TrialContext<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The images.
    pub images: &'a ImageSet,
    /// Every model of the run, or of the part: any of them may craft for another.
    pub ready: &'a [ReadyModel],
    /// The queries.
    pub queries: &'a Queries,
    /// Finished trials.
    pub store: &'a TrialStore,
    /// The part of the plan that is to be done; `None`: all of it.
    pub part: Option<&'a Part>,
    /// ONNX Runtime.
    pub runtime: &'a Runtime,
    /// Threads, progress, cancellation.
    pub settings: &'a Settings<'a>,
}

/// How a plan's embeddings are clustered.
pub(super) fn clustering(plan: &Plan, images: &ImageSet) -> Clustering {
    let clusters = match plan.suite.evaluation.clusters {
        Clusters::TestClasses => 0,
        Clusters::TrainingClasses => {
            let train = images.split.train.iter().map(|&i| images.labels[i]);
            train.collect::<std::collections::BTreeSet<u32>>().len()
        }
    };
    Clustering { clusters, restarts: plan.suite.evaluation.cluster_restarts }
}

/// Measures every trial of one model, or those of the part, clean first.
///
/// # Errors
/// [`RunError`] if a model cannot be opened, the disk is full or the user stops; an attack that fails is a row with its
/// error.
pub fn measure_model(context: &TrialContext<'_>, model: &ReadyModel) -> Result<Vec<StoredTrial>, RunError> {
    let mut session = Session { context, model, opened: BTreeMap::new(), probed: BTreeMap::new(), other_gallery: None };
    let mut done: Vec<StoredTrial> = Vec::new();
    let mut strangers = 0;
    let trials = context.plan.trials(&model.id, &model.branches());
    // A trial of another part is not even named: the model that crafts it may not be here.
    let wanted = |trial: &TrialSpec| {
        context.part.is_none_or(|part| part.unit(&model.id, model.seed, &trial.attack).is_some())
            && context.settings.only.as_ref().is_none_or(|keys| keys.contains(session.identity(trial).short()))
    };
    let own: Vec<bool> = trials.iter().map(wanted).collect();
    if !own.contains(&true) {
        return Ok(done);
    }
    for (trial, own) in trials.iter().zip(own) {
        // Others are compared with the clean trial, so it is made even where it is not asked for.
        if !own && trial.goal.is_some() {
            continue;
        }
        context.settings.cancel.check()?;
        let digest = session.identity(trial);
        let stored = match context.store.get(&digest) {
            Some(stored) => stored,
            None => {
                let clean = done.first().map(|first| first.queries.as_slice());
                let group: Vec<(TrialSpec, Digest)> =
                    curve_of(&trials, trial).into_iter().map(|t| (t.clone(), session.identity(t))).collect();
                let mut own = None;
                for ((_, other), stored) in group.iter().zip(session.measure(&group, clean)?) {
                    context.store.put(other, &stored)?;
                    own = own.or((*other == digest).then_some(stored));
                }
                own.expect("a trial is in its own group")
            }
        };
        strangers += usize::from(!own);
        done.push(stored);
    }
    Ok(done.split_off(strangers))
}

/// The trials that are measured together with one: all radii of its curve, ascending; else itself alone.
pub(super) fn curve_of<'t>(trials: &'t [TrialSpec], trial: &'t TrialSpec) -> Vec<&'t TrialSpec> {
    if !trial.method.is_curve() {
        return vec![trial];
    }
    let same = |t: &&TrialSpec| {
        (&t.attack, &t.crafted_by, t.crafted_on, t.answered_by)
            == (&trial.attack, &trial.crafted_by, trial.crafted_on, trial.answered_by)
    };
    let mut group: Vec<&TrialSpec> = trials.iter().filter(same).collect();
    group.sort_by_key(|t| t.after.len());
    group
}

/// An open branch of a model and what it makes of the clean images.
struct Opened {
    encoder: OnnxEncoder,
    queries: Embeddings,
    gallery: Embeddings,
}

/// What a trial wants to know besides the models. `embeddings`: clean queries and gallery by the answering model and, if
/// it is another one, by the crafting model.
fn trial_input<'b>(
    context: &'b TrialContext<'b>,
    trial: &'b TrialSpec,
    digest: &'b Digest,
    queries: &'b [usize],
    embeddings: (Pair<'b>, Option<Pair<'b>>),
) -> TrialInput<'b> {
    let evaluation = &context.plan.suite.evaluation;
    TrialInput {
        trial: digest.short(),
        images: context.images,
        queries,
        queries_available: context.queries.available,
        gallery: &context.images.split.test,
        query_embeddings: embeddings.0.0,
        gallery_embeddings: embeddings.0.1,
        crafter_embeddings: embeddings.1,
        attack: trial.side.zip(trial.goal.as_ref()).zip(trial.epsilon()).map(|((side, goal), epsilon)| AttackInput {
            name: trial.drawn_as.as_ref().unwrap_or(&trial.attack),
            goal,
            method: &trial.method,
            epsilon,
            side,
        }),
        batch_size: evaluation.batch_size * BATCHES_AT_ONCE,
        seed: context.plan.suite.seed,
        ks: &evaluation.recall_at,
        metrics: &evaluation.metrics,
        clustering: clustering(context.plan, context.images),
        keep: &queries[..queries.len().min(KEPT_PICTURES)],
        observer: context.settings.observer,
        cancel: &context.settings.cancel,
    }
}

type Pair<'b> = (&'b Embeddings, &'b Embeddings);

/// A branch of another model that crafts (by its id), or of the model that answers (`None`).
type Place = (Option<String>, Branch);

/// Open branches of one model, made when first needed.
struct Session<'a> {
    context: &'a TrialContext<'a>,
    model: &'a ReadyModel,
    opened: BTreeMap<Place, Opened>,
    /// What was found about each branch's answers and gradient.
    probed: BTreeMap<Place, Probed>,
    /// The gallery by the deployed branch, some of it embedded in batches of another size.
    other_gallery: Option<Embeddings>,
}

impl Session<'_> {
    fn file(&self, branch: Branch) -> &OnnxFile {
        self.model.files.get(&branch).expect("a plan lists only trials of branches that the model has")
    }

    /// The model that crafts: the one that answers, or another one of the same training seed (else of its first).
    fn crafter(&self, crafted_by: Option<&str>) -> &ReadyModel {
        let Some(id) = crafted_by else { return self.model };
        let named = || self.context.ready.iter().filter(|model| model.id == id);
        let same_seed = named().find(|model| model.seed == self.model.seed);
        same_seed.or_else(|| named().next()).expect("a run, and a part of one, makes every model ready that crafts")
    }

    /// The file that crafts: of another model always the main branch.
    fn crafting_file(&self, trial: &TrialSpec) -> &OnnxFile {
        match &trial.crafted_by {
            None => self.file(trial.crafted_on),
            Some(id) => self.crafter(Some(id)).files.get(&Branch::Main).expect("every model has a main branch"),
        }
    }

    fn encoder(&self, (by, branch): &Place, batch_size: usize) -> Result<OnnxEncoder, RunError> {
        let TrialContext { images, runtime, settings, .. } = self.context;
        let model = self.crafter(by.as_deref());
        let name = format!("{} ({branch})", model.id);
        let options = OnnxOptions {
            name: Some(name),
            threads: settings.threads,
            clock: Some(super::clock::since_start),
            batch_size,
            straight_through: model.straight_through,
            provider: settings.provider,
            scratch: settings.scratch.clone(),
            ..OnnxOptions::default()
        };
        let file = model.files.get(branch).expect("a plan lists only trials of branches that the model has");
        let encoder = OnnxEncoder::open(runtime, &file.path, &options)?;
        let wanted = encoder.spec().input;
        if wanted != [3, images.size, images.size] {
            return Err(RunError::InputSize { model: model.id.clone(), wanted, got: images.size });
        }
        Ok(encoder)
    }

    /// Opens a branch and embeds the clean images with it.
    fn open(&mut self, place: &Place) -> Result<(), RunError> {
        if self.opened.contains_key(place) {
            return Ok(());
        }
        let TrialContext { plan, images, queries, settings, .. } = self.context;
        let batch_size = plan.suite.evaluation.batch_size;
        let mut encoder = self.encoder(place, batch_size)?;
        let observer = settings.observer;
        let mut embed = |indices: &[usize]| {
            embed_all(&mut encoder, images, indices, batch_size * BATCHES_AT_ONCE, observer, &settings.cancel)
        };
        let what = format!("{} seed {} embeds ({})", self.crafter(place.0.as_deref()).id, self.model.seed, place.1);
        observer.begin(&what, (queries.chosen.len() + images.split.test.len()) as u64, "clean images");
        let embedded = embed(&queries.chosen).and_then(|queries| Ok((queries, embed(&images.split.test)?)));
        observer.end();
        let (queries, gallery) = embedded?;
        self.opened.insert(place.clone(), Opened { encoder, queries, gallery });
        Ok(())
    }

    /// Measures a trial, or all trials of a curve.
    fn measure(
        &mut self,
        group: &[(TrialSpec, Digest)],
        clean: Option<&[QueryOutcome]>,
    ) -> Result<Vec<StoredTrial>, RunError> {
        let Some((trial, _)) = group.first() else { return Ok(vec![]) };
        let (crafting, answering) = ((trial.crafted_by.clone(), trial.crafted_on), (None, trial.answered_by));
        self.open(&crafting)?;
        self.open(&answering)?;
        let places = (crafting, answering);
        let TrialContext { images, queries, settings, .. } = self.context;
        let mut crafter = self.opened.remove(&places.0).expect("opened above");
        let mut answerer = self.opened.remove(&places.1);
        let answers = answerer.as_ref().unwrap_or(&crafter);
        let (answer_queries, answer_gallery) = (answers.queries.clone(), answers.gallery.clone());
        let answering = (&answer_queries, &answer_gallery);
        let crafting = answerer.is_some().then_some((&crafter.queries, &crafter.gallery));
        let inputs: Vec<TrialInput<'_>> = group
            .iter()
            .map(|(trial, digest)| trial_input(self.context, trial, digest, &queries.chosen, (answering, crafting)))
            .collect();
        let radii: String = group.iter().filter_map(|(t, _)| t.epsilon()).map(|e| format!(" {e}")).collect();
        let what = format!("{} seed {} {}{radii}", self.model.id, self.model.seed, trial.attack);
        let whole_gallery = matches!(trial.side, Some(Side::Gallery | Side::All));
        let attacked = if whole_gallery { images.split.test.len() } else { queries.chosen.len() };
        settings.observer.begin(&what, (attacked * group.len()) as u64, "images");
        let answering = answerer.as_mut().map(|opened| &mut opened.encoder as &mut dyn Encoder);
        let outcomes = match &inputs[..] {
            [input] => run_trial(&mut crafter.encoder, answering, input).map(|outcome| vec![outcome]),
            _ => run_curve(&mut crafter.encoder, answering, &inputs),
        };
        settings.observer.end();
        let mut stored = Vec::with_capacity(group.len());
        match outcomes {
            Ok(outcomes) => {
                settings.observer.begin(&format!("{what}, checks"), 0, "trials");
                let finished = group.iter().zip(&inputs).zip(outcomes).map(|(((trial, digest), input), outcome)| {
                    let mut row = self.labels(trial);
                    outcome.write_into(input, crafter.encoder.spec(), &mut row);
                    row.attack.clone_from(&trial.attack);
                    let own = (&crafter.queries, &crafter.gallery);
                    let encoders = (&mut crafter.encoder, answerer.as_mut().map(|opened| &mut opened.encoder));
                    row.checks.extend(self.soundness(trial, input, &outcome, own, encoders)?);
                    let answered = (&answer_queries, &answer_gallery);
                    self.stored(trial, digest, (row, outcome), (clean, &crafter.encoder, answered))
                });
                let finished = finished.collect::<Result<Vec<_>, RunError>>();
                settings.observer.end();
                stored.extend(finished?);
            }
            Err(AttackError::Cancelled(stop)) => return Err(stop.into()),
            Err(error) => stored.extend(group.iter().map(|(trial, digest)| {
                let mut row = self.labels(trial);
                row.trial = digest.short().into();
                row.error = Some(error.to_string());
                row.suite.clone_from(&self.context.plan.name);
                StoredTrial { measurement: row, queries: vec![], steps: vec![], gallery: vec![], view: None }
            })),
        }
        if let Some(answerer) = answerer {
            self.opened.insert(places.1, answerer);
        }
        self.opened.insert(places.0, crafter);
        Ok(stored)
    }

    /// The checks of the models that made a number, and of the number made in another way.
    fn soundness(
        &mut self,
        trial: &TrialSpec,
        input: &TrialInput<'_>,
        outcome: &TrialOutcome,
        (query_embeddings, gallery_embeddings): Pair<'_>,
        (encoder, answerer): (&mut OnnxEncoder, Option<&mut OnnxEncoder>),
    ) -> Result<Vec<Check>, RunError> {
        let TrialContext { plan, images, queries, settings, .. } = self.context;
        let subject = Subject {
            images,
            queries: &queries.chosen,
            query_embeddings,
            gallery: &images.split.test,
            gallery_embeddings,
            seed: plan.suite.seed,
            cancel: &settings.cancel,
        };
        let probed = self.probed.entry((trial.crafted_by.clone(), trial.crafted_on)).or_default();
        let mut found = probed.checks(encoder, &subject, trial.method.needs_gradient())?;
        if let Some(method) = plan.with_more_steps(trial, &self.model.id, self.model.seed) {
            found.extend(soundness::more_steps(encoder, input, &method, &outcome.queries)?);
        }
        let answerer = answerer.unwrap_or(encoder);
        found.extend(soundness::saved_pictures(answerer, input, &outcome.kept, &outcome.queries)?);
        Ok(found)
    }

    /// A finished trial with what only the run can say of it.
    fn stored(
        &mut self,
        trial: &TrialSpec,
        digest: &Digest,
        (mut row, outcome): (Measurement, TrialOutcome),
        (clean, crafter, answered): (Option<&[QueryOutcome]>, &OnnxEncoder, Pair<'_>),
    ) -> Result<StoredTrial, RunError> {
        if trial.method.needs_gradient() {
            row.checks.extend(checks::gradient_exact(&crafter.spec().straight_through));
        }
        row.checks.extend(self.other_batch_size(trial, digest, &outcome.queries, answered.1)?);
        row.suite.clone_from(&self.context.plan.name);
        let kept: AdversarialBytes = outcome.kept.into_iter().collect();
        let gallery = self.stories(trial, clean, &outcome.queries, &kept);
        let view = self.view(trial, clean, &outcome.queries, answered, outcome.attacked.as_ref());
        Ok(StoredTrial { measurement: row, queries: outcome.queries, steps: outcome.steps, gallery, view })
    }

    fn is_first_seed(&self) -> bool {
        self.context.plan.is_first_seed(&self.model.id, self.model.seed)
    }
}

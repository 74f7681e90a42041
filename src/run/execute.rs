//! A whole run: data, models, trials, records, report. Every stage finds out by itself whether it is already done.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::RunError;
use super::derived;
use super::expect::{Verdict, judge};
use super::models::{self, ReadyModel};
use super::queries;
use super::settings::{Settings, Until};
use super::shard::{self, PartDone, merge};
use super::soundness;
use super::store::TrialStore;
use super::trials::{self, TrialContext};
use super::{demands, environment, ers, flips};
use crate::dataset::{self, ImageSet};
use crate::encoder::onnx::Runtime;
use crate::progress::{Cancel, Observer};
use crate::record::{Check, FlippedQuery, Manifest, Run, folder};
use crate::report::Extras;
use crate::suite::plan::Plan;
use crate::suite::shards::Part;
use crate::suite::soundness::{CheckMarks, Weight};
use crate::suite::wire::Expectation;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The run folder.
    pub folder: PathBuf,
    /// Folders or files of the models.
    pub models: Vec<PathBuf>,
    /// The results, if the run went so far.
    pub run: Option<Run>,
    /// What came of a part, if only a part was done.
    pub part: Option<PartDone>,
    /// The suite's weights of checks.
    pub marks: CheckMarks,
    /// The suite's expectations, judged.
    pub verdicts: Vec<Verdict>,
    /// The report's page, if it was written.
    pub report: Option<PathBuf>,
}

impl Outcome {
    /// 0 all well; 4 a trial failed; 3 a soundness check failed; 1 an expectation was not met.
    pub fn exit_code(&self) -> u8 {
        let rows = self.run.iter().flat_map(|run| &run.measurements);
        let part_failed = self.part.as_ref().is_some_and(|part| !part.failed.is_empty());
        if part_failed || rows.clone().any(|m| m.error.is_some()) {
            4
        } else if self.failed_checks().any(|(_, _, weight)| weight == Weight::Fatal) {
            3
        } else {
            u8::from(self.verdicts.iter().any(|v| !v.met))
        }
    }

    /// Every check that did not hold and is more than a label, with its trial in words and its weight in this suite.
    pub fn failed_checks(&self) -> impl Iterator<Item = (String, &Check, Weight)> {
        self.run.iter().flat_map(|run| &run.measurements).flat_map(|m| {
            let mut failed = Vec::new();
            for check in m.checks.iter().filter(|check| !check.passed) {
                let weight = self.marks.weight(&check.name);
                if weight != Weight::Label {
                    let place = format!("{} seed {} {} {}", m.model, m.model_seed, m.attack, m.epsilon);
                    failed.push((place, check, weight));
                }
            }
            failed
        })
    }
}

/// Runs a suite as far as the settings say.
///
/// # Errors
/// [`RunError`] for bad input, a broken set-up, a full disk or Ctrl-C; finished stages are kept. A trial that fails is a
/// row with its error, not an error of the run.
pub fn execute(suite: &Path, settings: &Settings<'_>) -> Result<Outcome, RunError> {
    let plan = Plan::read(suite, &settings.models)?;
    let part = settings.shard.map(|shard| Part::of(&plan, shard));
    let out = settings.out.clone().unwrap_or_else(|| match (settings.shard, &settings.only) {
        (Some(shard), _) => shard::default_folder(&plan.name, shard),
        (None, Some(keys)) => {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            Path::new("reports/runs").join(format!("{}.trials", plan.name)).join(keys.join("-"))
        }
        (None, None) => Path::new("reports/runs").join(&plan.name),
    });
    let mut stages = Stages::default();

    let runtime = Runtime::load(&settings.onnxruntime)?;
    runtime.require(settings.provider, &settings.scratch)?;
    let images = stages.time("data", || open_data(&plan, settings))?;
    demands::check(&plan, &images)?;
    let ready = stages.time("models", || models::prepare(&plan, &images, &runtime, settings, part.as_ref()))?;
    let mut outcome = Outcome {
        folder: out.clone(),
        models: ready.iter().map(|model| model.place.clone()).collect(),
        run: None,
        part: None,
        marks: plan.suite.checks.clone(),
        verdicts: vec![],
        report: None,
    };
    if settings.until <= Until::Exported {
        return Ok(outcome);
    }

    let queries = queries::choose(&images, plan.suite.evaluation.queries, plan.suite.seed);
    if queries.chosen.is_empty() {
        return Err(RunError::NoQueries { dataset: images.id.clone() });
    }
    let store = TrialStore::new(&out);
    let context = TrialContext {
        plan: &plan,
        images: &images,
        ready: &ready,
        queries: &queries,
        store: &store,
        part: part.as_ref(),
        runtime: &runtime,
        settings,
    };
    if let Some(part) = &part {
        let done = stages.time("attacks", || shard::measure(&context, &ready, part))?;
        let manifest = manifest(&plan, &images, &runtime, &ready, settings, &stages);
        outcome.part = Some(shard::write(&context, &ready, part, &done, manifest, &out)?);
        return Ok(outcome);
    }
    let mut run = stages.time("attacks", || measure(&context, &ready))?;
    run.manifest = manifest(&plan, &images, &runtime, &ready, settings, &stages);
    let known = |key: &&String| run.measurements.iter().any(|m| m.trial == **key);
    if let Some(key) = settings.only.iter().flatten().find(|key| !known(key)) {
        return Err(RunError::UnknownTrial { key: key.clone(), suite: plan.name });
    }
    let shows_pictures = plan.suite.evaluation.gallery > 0;
    let flips = |run: &Run| if shows_pictures { flips::of_run(run, || Ok(&images)) } else { Ok(vec![]) };
    finish(outcome, run, &plan.suite.expectations, settings.until, flips)
}

/// Where the pictures of a merged run come from: the parts have none of queries that two models of different parts answer
/// differently.
pub struct Album<'a> {
    /// Folder of data sets and their caches.
    pub data: PathBuf,
    /// Value of `PATH`, for the npm client that fetches data.
    pub search_path: OsString,
    /// Hears of progress.
    pub observer: &'a dyn Observer,
    /// Set by Ctrl-C.
    pub cancel: Cancel,
}

/// Joins the parts that several machines did into the run that one would have made, and writes it to `out` or
/// `reports/runs/SUITE`.
///
/// # Errors
/// [`RunError`]: parts that do not make a run, a damaged file, a full disk. Without the data set there are no pictures of
/// flipped queries, which is said and no error.
pub fn merge(places: &[PathBuf], out: Option<&Path>, album: &Album<'_>) -> Result<Outcome, RunError> {
    let merged = merge::merge(places, out)?;
    let outcome = Outcome {
        folder: merged.out,
        models: vec![],
        run: None,
        part: None,
        marks: merged.checks,
        verdicts: vec![],
        report: None,
    };
    let images = |run: &Run| {
        flips::images_of(&run.manifest, &album.data, Some(&album.search_path), album.observer, &album.cancel)
    };
    // The numbers of many machines are worth more than pictures of a data set that the merging one may not have.
    let flips = |run: &Run| {
        if merged.stories == 0 {
            return Ok(vec![]);
        }
        match flips::of_run(run, || images(run)) {
            Err(error @ (RunError::NoPictures { .. } | RunError::OtherPictures { .. })) => {
                album.observer.say(&format!("merged without pictures of flipped queries: {error}"));
                Ok(vec![])
            }
            flips => flips,
        }
    };
    finish(outcome, merged.run, &merged.expectations, Until::Reported, flips)
}

/// What all trials together say, the record and the report.
fn finish(
    mut outcome: Outcome,
    mut run: Run,
    expectations: &[Expectation],
    until: Until,
    flips: impl FnOnce(&Run) -> Result<Vec<FlippedQuery>, RunError>,
) -> Result<Outcome, RunError> {
    derived::add_rows(&mut run);
    soundness::compare_rows(&mut run);
    ers::add_rows(&mut run);
    run.flips = flips(&run)?;
    folder::write(&run, &outcome.folder)?;
    outcome.verdicts = expectations.iter().map(|e| judge(e, &run.measurements)).collect();
    if until >= Until::Reported {
        outcome.report = Some(crate::report::write(&run, &outcome.folder, Extras::default())?.html);
    }
    outcome.run = Some(run);
    Ok(outcome)
}

fn open_data(plan: &Plan, settings: &Settings<'_>) -> Result<ImageSet, RunError> {
    let spec = &plan.suite.dataset;
    Ok(dataset::fetch(spec, &settings.data, &settings.search_path, settings.observer, &settings.cancel)?)
}

fn measure(context: &TrialContext<'_>, ready: &[ReadyModel]) -> Result<Run, RunError> {
    let mut run = Run::default();
    for model in ready {
        for trial in trials::measure_model(context, model)? {
            run.measurements.push(trial.measurement);
            run.queries.extend(trial.queries);
            run.steps.extend(trial.steps);
            run.gallery.extend(trial.gallery);
            run.views.extend(trial.view);
        }
        run.training.extend(model.curve.iter().cloned());
    }
    Ok(run)
}

fn manifest(
    plan: &Plan,
    images: &ImageSet,
    runtime: &Runtime,
    ready: &[ReadyModel],
    settings: &Settings<'_>,
    stages: &Stages,
) -> Manifest {
    let mut versions = vec![("onnxruntime".to_string(), runtime.version().to_string())];
    versions.push(("provider".to_string(), settings.provider.name().to_string()));
    versions.extend(environment::linked_libtorch_version().map(|version| ("libtorch".to_string(), version)));
    let mut described: Vec<(String, String)> = Vec::new();
    for model in ready {
        if described.iter().all(|(id, _)| *id != model.id) {
            described.push((model.id.clone(), model.description.clone()));
        }
    }
    let split = &images.split;
    Manifest {
        schema: folder::SCHEMA,
        suite: plan.name.clone(),
        about: plan.suite.about.trim().to_string(),
        plan: plan.digest().to_string(),
        command: settings.command.clone(),
        program: settings.program.clone(),
        versions,
        dataset: format!(
            "{}, {} px: {} images of {} classes; {} train, {} validate, {} test, no class in two of them",
            images.id,
            images.size,
            images.len(),
            images.classes.len(),
            split.train.len(),
            split.validation.len(),
            split.test.len()
        ),
        dataset_digest: images.digest.to_string(),
        dataset_spec: Some(plan.suite.dataset.clone()),
        threads: settings.threads as u32,
        machine: environment::machine_in_words(),
        started_unix_s: settings.started_unix_s,
        stages: stages.0.clone(),
        models: described,
        test_classes: test_classes(images),
        published: plan.suite.published.clone(),
    }
}

/// Labels and names of the classes of the test images, ascending.
fn test_classes(images: &ImageSet) -> Vec<(u32, String)> {
    let labels = images.split.test.iter().map(|&i| images.labels[i]);
    let labels: std::collections::BTreeSet<u32> = labels.collect();
    let name = |label: u32| images.classes.get(label as usize).cloned().unwrap_or_else(|| label.to_string());
    labels.into_iter().map(|label| (label, name(label))).collect()
}

/// Wall time of each stage, in order.
#[derive(Debug, Default)]
struct Stages(Vec<(String, f64)>);

impl Stages {
    fn time<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
        let began = Instant::now();
        let result = work();
        self.0.push((name.to_string(), began.elapsed().as_secs_f64()));
        result
    }
}

//! The parts of a plan joined into one run, or the reason why they are not one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::card::{CardError, ShardCard, ShardModel};
use crate::artefact::{WriteError, write_bytes};
use crate::digest::Digest;
use crate::record::{Manifest, Run};
use crate::run::store::{StoredTrial, TrialStore};
use crate::suite::shards::{Shard, partition};
use crate::suite::soundness::CheckMarks;
use crate::suite::wire::Expectation;

/// Why parts cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A card.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A folder that could not be listed.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No part there.
    #[error(
        "{}: no shard.json in it or in a folder of it; a shard that was cut short has none: run it again, its finished trials are kept",
        .0.display()
    )]
    NoPart(PathBuf),
    /// Parts are missing.
    #[error("{} of {of} shards missing: {}; run each: mdprop run SUITE --shard I/{of}", missing.len(), list(missing))]
    Gap {
        /// Their indices, from 1.
        missing: Vec<usize>,
        /// Number of parts.
        of: usize,
    },
    /// The same part twice, with different results.
    #[error("shard {shard} is there twice and the two differ: {} and {}; leave out the one that is wrong", first.display(), second.display())]
    Overlap {
        /// Which.
        shard: Shard,
        /// One folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Parts of different runs.
    #[error("{} and {} are parts of different runs: {what} is {a} in the first and {b} in the second; run the shards again with one suite, one program and the same model files", first.display(), second.display())]
    Mixed {
        /// What differs.
        what: String,
        /// Value in the first.
        a: String,
        /// Value in the second.
        b: String,
        /// One folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A part that is not what its number says.
    #[error("{}: shard {shard} has other trials than the plan gives it; run it again", folder.display())]
    Partition {
        /// The folder.
        folder: PathBuf,
        /// Which.
        shard: Shard,
    },
    /// A trial's file is missing, cut short or edited.
    #[error("{}: {why}; delete shard.json beside it and run the shard again", path.display())]
    Trial {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

fn list(indices: &[usize]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = indices.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if indices.len() > SHOWN { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// The joined run, before what only all trials together say is added.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// Where its trials are and the run belongs.
    pub out: PathBuf,
    /// Trials in plan order.
    pub run: Run,
    /// What the suite expects.
    pub expectations: Vec<Expectation>,
    /// Its weights of checks.
    pub checks: CheckMarks,
    /// Picture stories that it wants of each attack; 0: no pictures at all.
    pub stories: usize,
}

/// Reads parts and joins them; copies their trials to `out` (default `reports/runs/SUITE`), so that the run can be continued
/// there.
///
/// `places`: folders of parts, or folders that hold such folders.
///
/// # Errors
/// [`MergeError`]: a gap, an overlap, parts of different runs, a damaged file. Nothing but finished trials is written
/// before everything is known to fit.
pub fn merge(places: &[PathBuf], out: Option<&Path>) -> Result<Merged, MergeError> {
    let parts = select(find(places)?)?;
    let named = || Path::new("reports/runs").join(&parts[0].1.manifest.suite);
    let out = out.map_or_else(named, Path::to_path_buf);
    let cards: Vec<&ShardCard> = parts.iter().map(|(_, card)| card).collect();
    let mut trials: BTreeMap<usize, Vec<StoredTrial>> = BTreeMap::new();
    let store = TrialStore::new(&out);
    for (folder, card) in &parts {
        for (unit, kept) in &card.done {
            let from = TrialStore::new(folder);
            let read = |key: &str, sha256: &Digest| {
                let path = from.path_of(key);
                let trial = |why: String| MergeError::Trial { path: path.clone(), why };
                let bytes = std::fs::read(&path).map_err(|error| trial(error.to_string()))?;
                let found = Digest::of_bytes(&bytes);
                if found != *sha256 {
                    return Err(trial(format!("its digest is {}, the card says {}", found.short(), sha256.short())));
                }
                let read: StoredTrial = serde_json::from_slice(&bytes).map_err(|error| trial(error.to_string()))?;
                // A failed trial is a row of the run, but is tried again when the run is.
                if read.measurement.error.is_none() {
                    write_bytes(&store.path_of(key), &bytes)?;
                }
                Ok(read)
            };
            let read = kept.iter().map(|trial| read(&trial.key, &trial.sha256)).collect::<Result<_, MergeError>>()?;
            trials.insert(*unit, read);
        }
    }
    let models = models(&cards);
    let mut run = Run {
        manifest: manifest(&cards, &models),
        measurements: vec![],
        queries: vec![],
        steps: vec![],
        training: models.iter().flat_map(|model| model.curve.iter().cloned()).collect(),
        gallery: vec![],
        flips: vec![],
        views: vec![],
    };
    for trial in trials.into_values().flatten() {
        run.measurements.push(trial.measurement);
        run.queries.extend(trial.queries);
        run.steps.extend(trial.steps);
        run.gallery.extend(trial.gallery);
        run.views.extend(trial.view);
    }
    let card = cards[0];
    let (expectations, checks) = (card.expectations.clone(), card.checks.clone());
    Ok(Merged { out, run, expectations, checks, stories: card.stories })
}

type Found = (PathBuf, ShardCard);

/// The cards below the places, in the order of the places and of the folders' names.
fn find(places: &[PathBuf]) -> Result<Vec<Found>, MergeError> {
    let mut found = Vec::new();
    for place in places {
        if let Some(card) = ShardCard::read(place)? {
            found.push((place.clone(), card));
            continue;
        }
        let listed = std::fs::read_dir(place).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
        let mut folders: Vec<PathBuf> = listed.map_err(|source| MergeError::Folder { path: place.clone(), source })?;
        folders.sort();
        let before = found.len();
        for folder in folders {
            if let Some(card) = ShardCard::read(&folder)? {
                found.push((folder, card));
            }
        }
        if found.len() == before {
            return Err(MergeError::NoPart(place.clone()));
        }
    }
    Ok(found)
}

/// One card a part, in order, all of one run, each with the units that are its own.
fn select(found: Vec<Found>) -> Result<Vec<Found>, MergeError> {
    let mut parts: BTreeMap<usize, Found> = BTreeMap::new();
    let Some(first) = found.first().cloned() else { return Err(MergeError::NoPart(PathBuf::new())) };
    for part in found {
        agree(&first, &part)?;
        match parts.get(&part.1.shard.index) {
            // Done twice with the same outcome: a scheduler that repeats a job.
            Some(other) if other.1.timeless() == part.1.timeless() => {}
            Some(other) => {
                let (shard, first, second) = (part.1.shard, other.0.clone(), part.0);
                return Err(MergeError::Overlap { shard, first, second });
            }
            None => {
                parts.insert(part.1.shard.index, part);
            }
        }
    }
    let of = first.1.shard.of;
    let missing: Vec<usize> = (1..=of).filter(|index| !parts.contains_key(index)).collect();
    if !missing.is_empty() {
        return Err(MergeError::Gap { missing, of });
    }
    let parts: Vec<Found> = parts.into_values().collect();
    let wanted = partition(&first.1.units, of);
    for ((folder, card), wanted) in parts.iter().zip(&wanted) {
        if !card.done.keys().eq(wanted) {
            return Err(MergeError::Partition { folder: folder.clone(), shard: card.shard });
        }
    }
    for (place, part) in parts.iter().enumerate() {
        parts[..place].iter().try_for_each(|other| agree(other, part))?;
    }
    Ok(parts)
}

/// Whether two parts can be of one run.
fn agree(first: &Found, second: &Found) -> Result<(), MergeError> {
    let (a, b) = (&first.1, &second.1);
    let mixed = |what: &str, a: String, b: String| {
        Err(MergeError::Mixed { what: what.into(), a, b, first: first.0.clone(), second: second.0.clone() })
    };
    let (x, y) = (&a.manifest, &b.manifest);
    let texts = [
        ("the suite", &x.suite, &y.suite),
        ("the plan's digest", &x.plan, &y.plan),
        ("the program", &x.program, &y.program),
        ("the data set's digest", &x.dataset_digest, &y.dataset_digest),
    ];
    if let Some((what, x, y)) = texts.into_iter().find(|(_, x, y)| x != y) {
        return mixed(what, x.clone(), y.clone());
    }
    if a.shard.of != b.shard.of {
        return mixed("the number of shards", a.shard.of.to_string(), b.shard.of.to_string());
    }
    if a.units != b.units {
        return mixed("the list of trials", format!("{} units", a.units.len()), format!("{} units", b.units.len()));
    }
    let version = |manifest: &Manifest| -> Vec<String> {
        manifest.versions.iter().map(|(name, version)| format!("{name} {version}")).collect()
    };
    if x.versions != y.versions {
        return mixed("the libraries", version(x).join(", "), version(y).join(", "));
    }
    for model in &a.models {
        let same = |other: &&ShardModel| (other.id.as_str(), other.seed) == (model.id.as_str(), model.seed);
        if let Some(other) = b.models.iter().find(same).filter(|other| other.files != model.files) {
            let what = format!("the file of model `{}` seed {}", model.id, model.seed);
            let short = |model: &ShardModel| {
                model.files.values().map(|file| file.short().to_string()).collect::<Vec<_>>().join(", ")
            };
            return mixed(&what, short(model), short(other));
        }
    }
    Ok(())
}

/// Every model once, in the order of the plan.
fn models<'a>(cards: &[&'a ShardCard]) -> Vec<&'a ShardModel> {
    let place = |model: &ShardModel| cards[0].units.iter().position(|u| u.id == model.id && u.seed == model.seed);
    let mut models: Vec<&ShardModel> = cards.iter().flat_map(|card| &card.models).collect();
    models.sort_by_key(|model| place(model));
    models.dedup_by_key(|model| (&model.id, model.seed));
    models
}

/// The first part's manifest, with all models and the times added up.
fn manifest(cards: &[&ShardCard], models: &[&ShardModel]) -> Manifest {
    let mut manifest = cards[0].manifest.clone();
    manifest.models = models.iter().map(|model| (model.id.clone(), model.description.clone())).collect();
    manifest.models.dedup_by(|a, b| a.0 == b.0);
    manifest.started_unix_s = cards.iter().map(|card| card.manifest.started_unix_s).min().unwrap_or(0);
    for card in &cards[1..] {
        for (name, seconds) in &card.manifest.stages {
            match manifest.stages.iter_mut().find(|stage| stage.0 == *name) {
                Some(stage) => stage.1 += seconds,
                None => manifest.stages.push((name.clone(), *seconds)),
            }
        }
    }
    manifest
}

//! A plan past one machine: each does its part into a folder of its own, and the folders are merged into the run that one
//! machine would have made.

pub mod card;
pub mod merge;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::card::{KeptTrial, SCHEMA, ShardCard, ShardModel};
use super::RunError;
use super::models::ReadyModel;
use super::store::StoredTrial;
use super::trials::{self, TrialContext};
use crate::record::Manifest;
use crate::record::folder::FolderError;
use crate::suite::shards::{Part, Shard};

/// Where a part lies if the user does not say.
pub fn default_folder(suite: &str, shard: Shard) -> PathBuf {
    Path::new("reports/runs").join(format!("{suite}.parts")).join(format!("{}-of-{}", shard.index, shard.of))
}

/// What came of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartDone {
    /// Which.
    pub shard: Shard,
    /// Trials of the part.
    pub trials: usize,
    /// Those that failed, with their errors.
    pub failed: Vec<String>,
}

/// The trials of a part by unit. A unit without trials (a branch that the model turned out to lack) is there, empty.
pub(super) fn measure(
    context: &TrialContext<'_>,
    ready: &[ReadyModel],
    part: &Part,
) -> Result<BTreeMap<usize, Vec<StoredTrial>>, RunError> {
    let mut done: BTreeMap<usize, Vec<StoredTrial>> = part.own.iter().map(|&unit| (unit, vec![])).collect();
    // The others only craft.
    for model in ready.iter().filter(|model| part.owns(&model.id, model.seed)) {
        for trial in trials::measure_model(context, model)? {
            let Some(unit) = part.unit(&model.id, model.seed, &trial.measurement.attack) else {
                let path = context.store.path_of(&trial.measurement.trial);
                let why = format!("its attack `{}` is none of this part", trial.measurement.attack);
                return Err(FolderError::Damaged { path, why }.into());
            };
            done.entry(unit).or_default().push(trial);
        }
    }
    Ok(done)
}

/// Writes the card of a part whose trials are all in its store.
pub(super) fn write(
    context: &TrialContext<'_>,
    ready: &[ReadyModel],
    part: &Part,
    done: &BTreeMap<usize, Vec<StoredTrial>>,
    manifest: Manifest,
    folder: &Path,
) -> Result<PartDone, RunError> {
    let kept = |trial: &StoredTrial| {
        let (key, sha256) = (trial.measurement.trial.clone(), context.store.sha256(&trial.measurement.trial)?);
        Ok(KeptTrial { key, sha256 })
    };
    let units =
        done.iter().map(|(unit, trials)| Ok((*unit, trials.iter().map(kept).collect::<Result<_, RunError>>()?)));
    let card = ShardCard {
        schema: SCHEMA,
        shard: part.shard,
        manifest,
        units: part.units.clone(),
        done: units.collect::<Result<_, RunError>>()?,
        models: ready
            .iter()
            .map(|model| ShardModel {
                id: model.id.clone(),
                seed: model.seed,
                description: model.description.clone(),
                files: model.files.iter().map(|(branch, file)| (*branch, file.sha256.clone())).collect(),
                curve: model.curve.clone(),
            })
            .collect(),
        expectations: context.plan.suite.expectations.clone(),
        checks: context.plan.suite.checks.clone(),
        stories: context.plan.suite.evaluation.gallery,
    };
    card.write(folder)?;
    let trials = done.values().flatten();
    let failed = trials.clone().filter_map(|t| {
        let m = &t.measurement;
        Some(format!("{} seed {} {} {}: {}", m.model, m.model_seed, m.attack, m.epsilon, m.error.as_ref()?))
    });
    Ok(PartDone { shard: part.shard, trials: trials.clone().count(), failed: failed.collect() })
}

//! The accepted results of a suite: one text file that a reviewer can read and git can diff.
//!
//! It holds who accepted what, when and why, the digests of everything, every metric, and the rank of the first hit of every
//! query of every trial, which is what pairing needs. Its last line is a checksum: accepted numbers are changed by
//! `mdprop accept`, not by an editor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::date::utc;
use crate::artefact::{WriteError, write_bytes};
use crate::digest::Digest;
use crate::metric::kind::Metric;
use crate::record::Run;

mod file;
#[cfg(test)]
mod tests;

/// Name of the file in `reports/baselines/<suite>/`.
pub const FILE: &str = "accepted.toml";

/// Version of the format.
pub const SCHEMA: u32 = 1;

/// Acceptances that are kept, newest last.
const KEPT: usize = 200;

/// Who accepted a run, when and why.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// Name of the person or the job.
    pub who: String,
    /// Date and time, UTC.
    pub when: String,
    /// The same in seconds since 1970.
    pub unix_s: u64,
    /// Their reason.
    pub why: String,
    /// Version of the program that measured.
    pub program: String,
    /// Digest of the plan.
    pub plan: String,
    /// recall@1 of every clean trial, by its question.
    pub recall: BTreeMap<String, f64>,
    /// What moved against the acceptance before: one line each, the largest changes first.
    pub changes: Vec<String>,
}

/// What was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// The accepted run: of its manifest the digests and versions, of its queries the outcomes.
    pub run: Run,
    /// Every acceptance, newest last. Never empty.
    pub acceptances: Vec<Acceptance>,
    /// Smallest change that can fail a night, by metric name; others have the default of [`super::gate::floor`].
    pub floors: BTreeMap<String, f64>,
    /// Whether a model whose file is not the accepted one fails by that alone.
    pub pinned: bool,
}

/// A baseline could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// It is not there.
    #[error("{}: no such file; measure the suite, look at the report, then `mdprop accept RUN --reason \"first\"`", .0.display())]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It was changed by something other than `accept`, or cut short.
    #[error(
        "{}: its checksum is {got}, the last line says {wanted}: it was edited by hand or cut short; restore it (git checkout) and change it with `mdprop accept`",
        path.display()
    )]
    Edited {
        /// The file.
        path: PathBuf,
        /// What it is.
        got: String,
        /// What it should be.
        wanted: String,
    },
    /// It is no baseline.
    #[error("{}: {why}; restore it (git checkout), or delete it and accept a run again", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A run that cannot be accepted.
    #[error("{run}: {why}")]
    Unfit {
        /// The run folder.
        run: String,
        /// What is wrong and how to mend it.
        why: String,
    },
    /// The clock stands before the last acceptance.
    #[error(
        "the clock says {now}, but the last acceptance was at {last}; set the clock, so that the history stays in order"
    )]
    Clock {
        /// Now.
        now: String,
        /// Then.
        last: String,
    },
    /// Of another suite.
    #[error("the baseline is of suite `{baseline}`, the run of `{run}`; give the one in reports/baselines/{run}")]
    Suite {
        /// The baseline's.
        baseline: String,
        /// The run's.
        run: String,
    },
    /// It could not be written; the one before it is untouched.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What the person who accepts decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Who.
    pub who: String,
    /// Why; must say something.
    pub why: String,
    /// Seconds since 1970.
    pub unix_s: u64,
    /// Floors to set; those of the baseline before stay otherwise.
    pub floors: BTreeMap<String, f64>,
    /// Whether to pin the models' files; `None`: as before.
    pub pinned: Option<bool>,
}

impl Baseline {
    /// A run taken as the baseline as it is, without anybody's acceptance.
    pub fn of_run(run: Run) -> Self {
        let manifest = &run.manifest;
        let acceptance = Acceptance {
            who: "nobody".into(),
            when: utc(manifest.started_unix_s),
            unix_s: manifest.started_unix_s,
            why: "a run folder taken as it is".into(),
            program: manifest.program.clone(),
            plan: manifest.plan.clone(),
            recall: clean_recall(&run),
            changes: vec![],
        };
        Self { run, acceptances: vec![acceptance], floors: BTreeMap::new(), pinned: false }
    }

    /// The last acceptance.
    pub fn last(&self) -> &Acceptance {
        self.acceptances.last().expect("reading refuses a baseline without an acceptance, accepting adds one")
    }

    /// `<folder>/<suite>/accepted.toml`.
    pub fn path(folder: &Path, suite: &str) -> PathBuf {
        folder.join(suite).join(FILE)
    }

    /// Reads a baseline; its checksum must be right.
    ///
    /// # Errors
    /// [`BaselineError`] naming the file and the way out.
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => BaselineError::Missing(path.to_path_buf()),
            std::io::ErrorKind::InvalidData => {
                BaselineError::Format { path: path.to_path_buf(), why: "not a text file".into() }
            }
            _ => BaselineError::Read { path: path.to_path_buf(), source },
        })?;
        file::parse(&text).map_err(|refusal| match refusal {
            file::Refusal::Checksum { got, wanted } => BaselineError::Edited { path: path.to_path_buf(), got, wanted },
            file::Refusal::Format(why) => BaselineError::Format { path: path.to_path_buf(), why },
        })
    }

    /// Writes the baseline whole or not at all: temporary file, fsync, rename.
    ///
    /// # Errors
    /// [`BaselineError::Write`]; the file before is untouched.
    pub fn write(&self, path: &Path) -> Result<(), BaselineError> {
        Ok(write_bytes(path, file::text(self).as_bytes())?)
    }

    /// The next baseline: `run` accepted after `before`.
    ///
    /// # Errors
    /// [`BaselineError::Unfit`] for a run with failed trials or checks, without queries or of another suite, or a reason that
    /// says nothing; [`BaselineError::Clock`] if now is before the last acceptance.
    pub fn accept(run: Run, name: &str, before: Option<&Self>, decision: &Decision) -> Result<Self, BaselineError> {
        let unfit = |why: String| BaselineError::Unfit { run: name.into(), why };
        if let Some(why) = unfit_for_acceptance(&run) {
            return Err(unfit(why));
        }
        if decision.why.trim().is_empty() {
            return Err(unfit("the reason is empty; say why these numbers are right: --reason \"...\"".into()));
        }
        let mut acceptances = Vec::new();
        if let Some(before) = before {
            let last = before.last();
            if before.run.manifest.suite != run.manifest.suite {
                let (baseline, run) = (before.run.manifest.suite.clone(), run.manifest.suite);
                return Err(BaselineError::Suite { baseline, run });
            }
            if decision.unix_s < last.unix_s {
                return Err(BaselineError::Clock { now: utc(decision.unix_s), last: last.when.clone() });
            }
            acceptances.clone_from(&before.acceptances);
        }
        acceptances.push(Acceptance {
            who: decision.who.trim().into(),
            when: utc(decision.unix_s),
            unix_s: decision.unix_s,
            why: decision.why.trim().into(),
            program: run.manifest.program.clone(),
            plan: run.manifest.plan.clone(),
            recall: clean_recall(&run),
            changes: before.map(|before| changes(&before.run, &run)).unwrap_or_default(),
        });
        acceptances.drain(..acceptances.len().saturating_sub(KEPT));
        let mut floors = before.map(|b| b.floors.clone()).unwrap_or_default();
        floors.extend(decision.floors.clone());
        let pinned = decision.pinned.unwrap_or_else(|| before.is_some_and(|b| b.pinned));
        Ok(Self { run, acceptances, floors, pinned })
    }
}

/// Why a run's numbers must not become the measure of others.
fn unfit_for_acceptance(run: &Run) -> Option<String> {
    if run.measurements.is_empty() || run.queries.is_empty() {
        return Some("it has no results; run the suite to its end first".into());
    }
    for m in &run.measurements {
        let place = format!("{} seed {} {} {}", m.model, m.model_seed, m.attack, m.epsilon);
        if let Some(error) = &m.error {
            return Some(format!("trial {place} failed ({error}); mend it and run the suite again"));
        }
        if let Some(check) = m.checks.iter().find(|check| !check.passed && !check.is_label()) {
            return Some(format!("soundness check {} of {place} failed ({}); mend it first", check.name, check.detail));
        }
    }
    None
}

/// All metrics of a row by name, those without a value left out.
pub fn values(m: &crate::record::Measurement) -> BTreeMap<Metric, crate::record::Estimate> {
    let recall = m.recall.iter().map(|r| (Metric::RecallAt(r.k), r.estimate));
    let own = [(Metric::Success, m.success), (Metric::Shift, m.shift)].into_iter();
    let further = m.metrics.iter().map(|e| (e.metric, e.estimate));
    recall.chain(own.chain(further).filter_map(|(metric, e)| Some((metric, e?)))).collect()
}

/// recall@1 of every clean trial.
fn clean_recall(run: &Run) -> BTreeMap<String, f64> {
    let clean = run.measurements.iter().filter(|m| m.attack == "clean" && m.error.is_none());
    let first = |m: &crate::record::Measurement| {
        let recall = m.recall.iter().find(|r| r.k == 1)?;
        Some((super::Question::of(m, true).to_string(), recall.estimate.value))
    };
    clean.filter_map(first).collect()
}

impl Baseline {
    /// Questions whose clean recall@1 was accepted lower and lower: each step had a reason, this is their sum. Compared with
    /// the best of the acceptances kept; a fall by no more than the floor is left out.
    pub fn ratchet(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (question, now) in &self.last().recall {
            let known = self.acceptances.iter().filter_map(|a| Some((a.recall.get(question)?, a)));
            let Some((best, when)) = known.max_by(|a, b| a.0.total_cmp(b.0)) else { continue };
            if best - now > super::gate::floor(Metric::RecallAt(1), *best, &self.floors) {
                lines.push(format!(
                    "{question}: recall@1 was accepted at {:.2} % on {}, step by step it is {:.2} % now",
                    100.0 * best,
                    when.when,
                    100.0 * now
                ));
            }
        }
        lines
    }
}

/// Lines of changes kept with an acceptance.
const CHANGES: usize = 12;

/// What moved between two runs, the largest relative changes first.
fn changes(before: &Run, now: &Run) -> Vec<String> {
    use super::pairing::Question;
    let old: BTreeMap<Question, _> = before.measurements.iter().map(|m| (Question::of(m, true), m)).collect();
    let mut found: Vec<(f64, String)> = Vec::new();
    let mut added = 0;
    for m in &now.measurements {
        let question = Question::of(m, true);
        let Some(before) = old.get(&question) else {
            added += 1;
            continue;
        };
        let (before, now) = (values(before), values(m));
        for (metric, estimate) in now {
            if let Some(was) = before.get(&metric).filter(|was| was.value != estimate.value) {
                let size = (estimate.value - was.value).abs() / was.value.abs().max(1e-3);
                found.push((size, format!("{question} {metric}: {:.4} → {:.4}", was.value, estimate.value)));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let more = found.len().saturating_sub(CHANGES);
    let mut lines: Vec<String> = found.into_iter().take(CHANGES).map(|(_, line)| line).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    if added > 0 {
        lines.push(format!("{added} new trials"));
    }
    lines
}

/// Digest of a text, for its last line.
fn checksum(body: &str) -> String {
    Digest::of_bytes(body.as_bytes()).short().to_string()
}

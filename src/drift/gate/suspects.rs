//! What changed besides the numbers: the first places to look.

use crate::record::Run;

/// One line for each thing that is not as it was when the baseline was accepted.
pub(super) fn list(accepted: &Run, tonight: &Run) -> Vec<String> {
    let (then, now) = (&accepted.manifest, &tonight.manifest);
    let models = models(accepted);
    let new_file = |model: &(&str, u64)| files(accepted, model) != files(tonight, model);
    let trained =
        |(model, _): &(&str, u64)| tonight.measurements.iter().any(|m| m.model == *model && m.training != "foreign");
    // What trains makes files and answers no query: where every file is the accepted one, or somebody else's, it has no part.
    let trained_again = models.iter().any(|model| trained(model) && new_file(model));
    let takes_part = |library: &str| library != "libtorch" || trained_again;
    let mut found = Vec::new();
    let mut differ = |what: &str, then: &str, now: &str| {
        if then != now && !(then.is_empty() || now.is_empty()) {
            found.push(format!("{what}: {then} → {now}"));
        }
    };
    for (name, version) in then.versions.iter().filter(|(name, _)| takes_part(name)) {
        let other = now.versions.iter().find(|(n, _)| n == name).map_or("absent", |(_, v)| v);
        differ(name, version, other);
    }
    let new = |(name, _): &&(String, String)| then.versions.iter().all(|(known, _)| known != name);
    for (name, version) in now.versions.iter().filter(new).filter(|(name, _)| takes_part(name)) {
        differ(name, "absent", version);
    }
    differ("mdprop", &then.program, &now.program);
    differ("machine", &then.machine, &now.machine);
    differ("threads", &then.threads.to_string(), &now.threads.to_string());
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    differ("suite or recipes (digest of the plan)", &short(&then.plan), &short(&now.plan));
    differ("images (digest)", &short(&then.dataset_digest), &short(&now.dataset_digest));
    for model in &models {
        differ(&format!("file of {} seed {}", model.0, model.1), &files(accepted, model), &files(tonight, model));
    }
    found
}

/// Every model with its seed, once.
fn models(run: &Run) -> Vec<(&str, u64)> {
    let mut models: Vec<(&str, u64)> = run.measurements.iter().map(|m| (m.model.as_str(), m.model_seed)).collect();
    models.dedup();
    models
}

/// The files that answered and crafted for a model.
fn files(run: &Run, (model, seed): &(&str, u64)) -> String {
    let rows = run.measurements.iter().filter(|m| m.model == *model && m.model_seed == *seed && m.error.is_none());
    let mut files: Vec<&str> = rows.flat_map(|m| [m.artefact.as_str(), m.crafter.as_str()]).collect();
    files.retain(|file| !file.is_empty());
    files.sort_unstable();
    files.dedup();
    files.join(" ")
}

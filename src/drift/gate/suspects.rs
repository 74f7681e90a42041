//! What changed besides the numbers: the first places to look.

use crate::record::Run;

/// One line for each thing that is not as it was when the baseline was accepted.
pub(super) fn list(accepted: &Run, tonight: &Run) -> Vec<String> {
    let (then, now) = (&accepted.manifest, &tonight.manifest);
    let mut found = Vec::new();
    let mut differ = |what: &str, then: &str, now: &str| {
        if then != now && !(then.is_empty() || now.is_empty()) {
            found.push(format!("{what}: {then} → {now}"));
        }
    };
    for (name, version) in &then.versions {
        let other = now.versions.iter().find(|(n, _)| n == name).map_or("absent", |(_, v)| v);
        differ(name, version, other);
    }
    for (name, version) in now.versions.iter().filter(|(n, _)| then.versions.iter().all(|(m, _)| m != n)) {
        differ(name, "absent", version);
    }
    differ("mdprop", &then.program, &now.program);
    differ("machine", &then.machine, &now.machine);
    differ("threads", &then.threads.to_string(), &now.threads.to_string());
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    differ("suite or recipes (digest of the plan)", &short(&then.plan), &short(&now.plan));
    differ("images (digest)", &short(&then.dataset_digest), &short(&now.dataset_digest));
    let mut models: Vec<(&str, u64)> = accepted.measurements.iter().map(|m| (m.model.as_str(), m.model_seed)).collect();
    models.dedup();
    for (model, seed) in models {
        let files = |run: &Run| {
            let rows =
                run.measurements.iter().filter(|m| m.model == model && m.model_seed == seed && m.error.is_none());
            let mut files: Vec<&str> = rows.flat_map(|m| [m.artefact.as_str(), m.crafter.as_str()]).collect();
            files.retain(|file| !file.is_empty());
            files.sort_unstable();
            files.dedup();
            files.join(" ")
        };
        differ(&format!("file of {model} seed {seed}"), &files(accepted), &files(tonight));
    }
    found
}

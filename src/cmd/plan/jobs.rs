//! Job files for the engines that place the parts of a plan: `plan --shards N --format github|slurm|kubernetes`.
//!
//! Each first makes the models (`export`), because models trained twice on different machines may differ in their last
//! bits and would not merge, then the parts, then the merge.

use std::path::Path;

use crate::suite::plan::Plan;
use crate::suite::shards::{Unit, partition, units};

/// What each part does.
pub(super) fn text(plan: &Plan, shards: usize) -> String {
    use std::fmt::Write as _;

    let units = units(plan);
    let parts = partition(&units, shards);
    let mut out = format!("{} ({}) in {shards} parts\n", plan.name, plan.digest().short());
    for (index, part) in parts.iter().enumerate() {
        let own = || part.iter().map(|&unit| &units[unit]);
        let (trials, passes) = own().fold((0, 0.0), |sum, u| (sum.0 + u.trials, sum.1 + u.passes));
        let _ = writeln!(out, "\n{}/{shards}: {trials} trials, {passes:.0} forward passes of a query", index + 1);
        for Unit { id, seed, attack, trials, .. } in own() {
            let plural = if *trials == 1 { "" } else { "s" };
            let _ = writeln!(out, "  {id} seed {seed} {attack}: {trials} trial{plural}");
        }
    }
    out
}

/// The parts as JSON.
pub(super) fn json(plan: &Plan, shards: usize) -> serde_json::Value {
    let units = units(plan);
    let parts = partition(&units, shards);
    serde_json::json!({
        "suite": plan.name,
        "digest": plan.digest(),
        "shards": parts
            .iter()
            .map(|part| part.iter().map(|&unit| &units[unit]).collect::<Vec<_>>())
            .collect::<Vec<_>>(),
    })
}

/// A word that a shell takes as one.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Letters, digits and dashes, as names of jobs want.
fn job_name(plan: &Plan) -> String {
    let name: String =
        plan.name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let name = name.trim_matches('-');
    format!("mdprop-{}", if name.is_empty() { "suite" } else { &name[..name.len().min(40)] })
        .trim_end_matches('-')
        .into()
}

/// A GitHub Actions workflow: one job makes the models, a matrix the parts, one the report.
pub(super) fn github(plan: &Plan, suite: &Path, shards: usize) -> String {
    let (name, suite) = (job_name(plan), quoted(&suite.display().to_string()));
    let indices: Vec<String> = (1..=shards).map(|i| i.to_string()).collect();
    let indices = indices.join(", ");
    format!(
        r#"# {name} on {shards} machines. Save as .github/workflows/{name}.yml.
name: {name}
on: workflow_dispatch
jobs:
  models:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: make setup && cargo build --release
      - run: target/release/mdprop export {suite}
      - uses: actions/upload-artifact@v4
        with: {{ name: models, path: models/artifacts, if-no-files-found: ignore }}
  part:
    needs: models
    runs-on: ubuntu-latest
    strategy:
      fail-fast: false
      matrix: {{ shard: [{indices}] }}
    steps:
      - uses: actions/checkout@v4
      - run: make setup && cargo build --release
      - uses: actions/download-artifact@v4
        with: {{ name: models, path: models/artifacts }}
        continue-on-error: true # a suite of foreign files has no models of its own
      - run: target/release/mdprop run {suite} --shard ${{{{ matrix.shard }}}}/{shards} --out parts/${{{{ matrix.shard }}}}
      - uses: actions/upload-artifact@v4
        with: {{ name: "part-${{{{ matrix.shard }}}}", path: "parts/${{{{ matrix.shard }}}}" }}
  merge:
    needs: part
    if: ${{{{ !cancelled() }}}}
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: make setup && cargo build --release
      - uses: actions/download-artifact@v4
        with: {{ pattern: "part-*", path: parts }}
      - run: target/release/mdprop merge parts --out run
      - uses: actions/upload-artifact@v4
        with: {{ name: run, path: run }}
"#
    )
}

/// A Slurm script that submits three dependent jobs.
pub(super) fn slurm(plan: &Plan, suite: &Path, shards: usize) -> String {
    let (name, suite) = (job_name(plan), quoted(&suite.display().to_string()));
    format!(
        r#"#!/bin/sh
# {name} on {shards} array tasks. Run with sh on the login node, in the repository, on a file system that all nodes see.
set -eu
models=$(sbatch --parsable --job-name={name}-models --wrap='mdprop export {suite}')
parts=$(sbatch --parsable --job-name={name} --array=1-{shards} --dependency=afterok:"$models" \
  --wrap='mdprop run {suite} --shard auto/{shards} --out reports/runs/{name}.parts/$SLURM_ARRAY_TASK_ID')
# A part that was killed keeps its finished trials: sbatch --array=I with the same line continues it.
sbatch --job-name={name}-merge --dependency=afterok:"$parts" --wrap='mdprop merge reports/runs/{name}.parts'
"#,
        suite = suite.replace('\'', "'\\''")
    )
}

/// A Kubernetes indexed Job for the parts.
pub(super) fn kubernetes(plan: &Plan, suite: &Path, shards: usize) -> String {
    let (name, suite) = (job_name(plan), quoted(&suite.display().to_string()));
    let suite = suite.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        r#"# {name} on {shards} pods. Needs an image with mdprop and a volume that all pods write to, both named below;
# first, once, on that volume: mdprop export {suite}
# last: mdprop merge /work/{name}.parts --out /work/{name}
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
spec:
  completionMode: Indexed
  completions: {shards}
  parallelism: {shards}
  backoffLimitPerIndex: 3 # a pod that is killed continues: finished trials are kept on the volume
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: mdprop
          image: REGISTRY/mdprop:TAG # yours
          workingDir: /work
          command: ["/bin/sh", "-c"]
          args: ["exec mdprop run {suite} --shard auto/{shards} --out /work/{name}.parts/$JOB_COMPLETION_INDEX"]
          volumeMounts:
            - {{ name: work, mountPath: /work }}
      volumes:
        - name: work
          persistentVolumeClaim: {{ claimName: mdprop-work }} # yours
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell_and_names_for_jobs() {
        assert_eq!(quoted("suites/a.toml"), "suites/a.toml");
        assert_eq!(quoted("my suite's.toml"), "'my suite'\\''s.toml'");
        assert_eq!(quoted(""), "''");
    }
}

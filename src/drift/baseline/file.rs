//! The text of a baseline, and back.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde::Deserialize;

use super::{Acceptance, Baseline, SCHEMA, checksum};
use crate::drift::outcome::MAP_UNITS;
use crate::metric::kind::Metric;
use crate::record::{Estimate, Manifest, Measurement, MetricEstimate, QueryOutcome, RecallAt, Run};

/// Why a text is no baseline.
pub(super) enum Refusal {
    /// Its checksum is another one.
    Checksum { got: String, wanted: String },
    /// Anything else.
    Format(String),
}

const HEAD: &str = "# Accepted results of a suite; `mdprop check` compares a run with them. Written by `mdprop accept`, sealed by a\n\
                    # sum of the whole in the last line: do not edit.\n";
const FOOT: &str = "# checksum ";

/// Numbers on a line of a list.
const PER_LINE: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    schema: u32,
    suite: String,
    plan: String,
    dataset: String,
    dataset_digest: String,
    program: String,
    versions: Vec<(String, String)>,
    threads: u32,
    machine: String,
    started_unix_s: u64,
    pinned: bool,
    floors: BTreeMap<String, f64>,
    acceptance: Vec<Acceptance>,
    #[serde(default)]
    queries: Vec<WireQueries>,
    trial: Vec<WireTrial>,
}

/// A list of queries that trials share.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireQueries {
    images: String,
    classes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTrial {
    trial: String,
    dataset: String,
    model: String,
    training: String,
    model_seed: u64,
    artefact: String,
    crafter: String,
    attack: String,
    goal: String,
    method: String,
    side: String,
    crafted_on: String,
    answered_by: String,
    epsilon: String,
    epsilon_pixels: f64,
    steps: u32,
    restarts: u32,
    seed: u64,
    queries: [u32; 4],
    gallery: u32,
    provider: String,
    selected_on: String,
    metrics: Vec<(String, f64, f64, f64, u32, String)>,
    of_queries: usize,
    first_hits: String,
    #[serde(default)]
    successes: String,
    #[serde(default)]
    target_ranks: String,
    /// In parts of [`MAP_UNITS`].
    #[serde(default)]
    map_at_r: String,
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn wrapped(numbers: impl Iterator<Item = u32>) -> String {
    let words: Vec<String> = numbers.map(|n| n.to_string()).collect();
    let lines: Vec<String> = words.chunks(PER_LINE).map(|line| line.join(" ")).collect();
    format!("\"\"\"\n{}\n\"\"\"", lines.join("\n"))
}

/// Numbers in which runs are written short: `960-1919` counts up, `24*7` is 24 times 7.
fn shortened(numbers: impl Iterator<Item = u32>) -> String {
    let list: Vec<u32> = numbers.collect();
    let mut words: Vec<String> = Vec::new();
    let mut at = 0;
    while at < list.len() {
        let run = |follows: &dyn Fn(usize) -> bool| 1 + (at + 1..list.len()).take_while(|&i| follows(i)).count();
        let up = run(&|i| list[i - 1].checked_add(1) == Some(list[i]));
        let same = run(&|i| list[i] == list[at]);
        let (word, taken) = match (up, same) {
            (_, same) if same > 1 => (format!("{same}*{}", list[at]), same),
            (up, _) if up > 2 => (format!("{}-{}", list[at], list[at + up - 1]), up),
            _ => (list[at].to_string(), 1),
        };
        words.push(word);
        at += taken;
    }
    let lines: Vec<String> = words.chunks(PER_LINE).map(|line| line.join(" ")).collect();
    format!("\"\"\"\n{}\n\"\"\"", lines.join("\n"))
}

/// Most numbers that a list may stand for, so that `4000000000*1` is refused before it fills the memory.
const MOST: usize = 50_000_000;

/// Reads [`shortened`].
fn lengthened(text: &str, what: &str) -> Result<Vec<u32>, Refusal> {
    let wrong =
        |word: &str| Refusal::Format(format!("{what} holds `{word}`, which is no number and no run of numbers"));
    let mut list: Vec<u32> = Vec::new();
    for word in text.split_ascii_whitespace() {
        let two = |at: char| {
            let (a, b) = word.split_once(at)?;
            Some((a.parse::<u32>().ok()?, b.parse::<u32>().ok()?))
        };
        match (word.parse::<u32>(), two('*'), two('-')) {
            (Ok(number), ..) => list.push(number),
            (_, Some((times, number)), _) if list.len() + times as usize <= MOST => {
                list.extend(std::iter::repeat_n(number, times as usize));
            }
            (_, _, Some((from, to))) if from <= to && list.len() + (to - from) as usize <= MOST => {
                list.extend(from..=to)
            }
            _ => return Err(wrong(word)),
        }
    }
    Ok(list)
}

/// The file's content.
pub(super) fn text(baseline: &Baseline) -> String {
    let mut out = String::from(HEAD);
    let (run, manifest) = (&baseline.run, &baseline.run.manifest);
    let _ = writeln!(out, "schema = {SCHEMA}");
    for (key, value) in [
        ("suite", &manifest.suite),
        ("plan", &manifest.plan),
        ("dataset", &manifest.dataset),
        ("dataset_digest", &manifest.dataset_digest),
        ("program", &manifest.program),
        ("machine", &manifest.machine),
    ] {
        let _ = writeln!(out, "{key} = {}", quoted(value));
    }
    let pairs = manifest.versions.iter().map(|(name, version)| format!("[{}, {}]", quoted(name), quoted(version)));
    let _ = writeln!(out, "versions = [{}]", pairs.collect::<Vec<_>>().join(", "));
    let _ = writeln!(out, "threads = {}\nstarted_unix_s = {}", manifest.threads, manifest.started_unix_s);
    let _ = writeln!(out, "pinned = {}\n\n[floors]", baseline.pinned);
    for (metric, floor) in &baseline.floors {
        let _ = writeln!(out, "{} = {floor:?}", quoted(metric));
    }
    for acceptance in &baseline.acceptances {
        let _ = write!(out, "\n[[acceptance]]\n{}", acceptance_text(acceptance));
    }
    let mut lists: Vec<Vec<(u32, u32)>> = Vec::new();
    let mut trials = String::new();
    let by_trial = crate::drift::pairing::by_trial(run);
    for m in &run.measurements {
        let mut outcomes = by_trial.get(m.trial.as_str()).cloned().unwrap_or_default();
        outcomes.sort_by_key(|q| q.query);
        let list: Vec<(u32, u32)> = outcomes.iter().map(|q| (q.query, q.label)).collect();
        let place = lists.iter().position(|known| *known == list).unwrap_or_else(|| {
            lists.push(list);
            lists.len() - 1
        });
        trials += &trial_text(m, &outcomes, place);
    }
    for list in &lists {
        let _ = writeln!(out, "\n[[queries]]\nimages = {}", shortened(list.iter().map(|q| q.0)));
        let _ = writeln!(out, "classes = {}", shortened(list.iter().map(|q| q.1)));
    }
    out += &trials;
    let sum = checksum(&out);
    let _ = writeln!(out, "{FOOT}{sum}");
    out
}

fn acceptance_text(a: &Acceptance) -> String {
    let mut out = String::new();
    for (key, value) in
        [("who", &a.who), ("when", &a.when), ("why", &a.why), ("program", &a.program), ("plan", &a.plan)]
    {
        let _ = writeln!(out, "{key} = {}", quoted(value));
    }
    let recall: Vec<String> = a.recall.iter().map(|(question, r)| format!("{} = {r:?}", quoted(question))).collect();
    let _ = writeln!(out, "unix_s = {}\nrecall = {{ {} }}", a.unix_s, recall.join(", "));
    let lines: String = a.changes.iter().map(|line| format!("\n    {},", quoted(line))).collect();
    let _ = writeln!(out, "changes = [{lines}{}]", if a.changes.is_empty() { "" } else { "\n" });
    out
}

fn trial_text(m: &Measurement, outcomes: &[&QueryOutcome], list: usize) -> String {
    let mut out = String::from("\n[[trial]]\n");
    for (key, value) in [
        ("model", &m.model),
        ("attack", &m.attack),
        ("epsilon", &m.epsilon),
        ("trial", &m.trial),
        ("dataset", &m.dataset),
        ("training", &m.training),
        ("artefact", &m.artefact),
        ("crafter", &m.crafter),
        ("goal", &m.goal),
        ("method", &m.method),
        ("side", &m.side),
        ("crafted_on", &m.crafted_on),
        ("answered_by", &m.answered_by),
        ("provider", &m.provider),
        ("selected_on", &m.selected_on),
    ] {
        let _ = writeln!(out, "{key} = {}", quoted(value));
    }
    let _ = writeln!(out, "model_seed = {}\nepsilon_pixels = {:?}", m.model_seed, m.epsilon_pixels);
    let _ = writeln!(out, "steps = {}\nrestarts = {}\nseed = {}", m.steps, m.restarts, m.seed);
    let counts = [m.queries, m.queries_available, m.without_positive, m.query_classes];
    let _ = writeln!(out, "queries = {counts:?}   # evaluated, available, without a partner, classes");
    let _ = writeln!(out, "gallery = {}\nmetrics = [", m.gallery);
    for (metric, e) in super::values(m) {
        let basis = e.basis.map(|basis| basis.to_string()).unwrap_or_default();
        let (name, basis) = (quoted(&metric.to_string()), quoted(&basis));
        let _ = writeln!(out, "    [{name}, {:?}, {:?}, {:?}, {}, {basis}],", e.value, e.low, e.high, e.n);
    }
    let _ = writeln!(out, "]\nof_queries = {list}\nfirst_hits = {}", wrapped(outcomes.iter().map(|q| q.first_hit)));
    if outcomes.iter().any(|q| q.success) {
        let flags = outcomes.iter().map(|q| if q.success { '1' } else { '0' }).collect::<Vec<char>>();
        let lines: Vec<String> = flags.chunks(2 * PER_LINE).map(|line| line.iter().collect()).collect();
        let _ = writeln!(out, "successes = \"\"\"\n{}\n\"\"\"", lines.join("\n"));
    }
    if outcomes.iter().any(|q| q.target_rank > 0) {
        let _ = writeln!(out, "target_ranks = {}", wrapped(outcomes.iter().map(|q| q.target_rank)));
    }
    if outcomes.iter().any(|q| q.map_at_r.is_some()) {
        let parts = |q: &&QueryOutcome| (q.map_at_r.unwrap_or(0.0) * MAP_UNITS).round() as u32;
        let _ = writeln!(out, "map_at_r = {}   # ten-thousandths", wrapped(outcomes.iter().map(parts)));
    }
    out
}

/// Reads the content of a file.
pub(super) fn parse(text: &str) -> Result<Baseline, Refusal> {
    let format = |why: &str| Refusal::Format(why.to_string());
    let at = text.rfind(FOOT).ok_or_else(|| format("not a whole baseline, its last line is no checksum"))?;
    let (body, wanted) = (&text[..at], text[at + FOOT.len()..].trim());
    let got = checksum(body);
    if got != wanted {
        return Err(Refusal::Checksum { got, wanted: wanted.into() });
    }
    let wire: Wire = toml::from_str(body).map_err(|e| Refusal::Format(e.to_string().trim_end().into()))?;
    if wire.schema != SCHEMA {
        let why =
            format!("has schema {}, wanted {SCHEMA}; read it with the version of mdprop that wrote it", wire.schema);
        return Err(Refusal::Format(why));
    }
    if wire.acceptance.is_empty() {
        return Err(format("nobody has accepted it"));
    }
    let lists = wire.queries.iter().map(queries).collect::<Result<Vec<_>, _>>()?;
    let mut run = Run::default();
    for trial in &wire.trial {
        let list = lists.get(trial.of_queries).ok_or_else(|| format("a trial names queries that are not there"))?;
        run.queries.extend(outcomes(trial, list)?);
        run.measurements.push(measurement(trial, &wire.suite)?);
    }
    run.manifest = Manifest {
        schema: crate::record::folder::SCHEMA,
        suite: wire.suite,
        plan: wire.plan,
        dataset: wire.dataset,
        dataset_digest: wire.dataset_digest,
        program: wire.program,
        versions: wire.versions,
        threads: wire.threads,
        machine: wire.machine,
        started_unix_s: wire.started_unix_s,
        ..Manifest::default()
    };
    Ok(Baseline { run, acceptances: wire.acceptance, floors: wire.floors, pinned: wire.pinned })
}

fn numbers(text: &str, what: &str) -> Result<Vec<u32>, Refusal> {
    let read = text.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>();
    read.map_err(|_| Refusal::Format(format!("{what} holds something that is no number")))
}

fn queries(wire: &WireQueries) -> Result<Vec<(u32, u32)>, Refusal> {
    let (images, classes) = (lengthened(&wire.images, "images")?, lengthened(&wire.classes, "classes")?);
    if images.len() != classes.len() {
        return Err(Refusal::Format(format!("{} images and {} classes of queries", images.len(), classes.len())));
    }
    Ok(images.into_iter().zip(classes).collect())
}

fn outcomes(trial: &WireTrial, list: &[(u32, u32)]) -> Result<Vec<QueryOutcome>, Refusal> {
    let optional = |values: Vec<u32>| if values.is_empty() { vec![0; list.len()] } else { values };
    let hits = numbers(&trial.first_hits, "first_hits")?;
    let ranks = optional(numbers(&trial.target_ranks, "target_ranks")?);
    let flags = trial.successes.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(2));
    let flags = flags.collect::<Option<Vec<u32>>>();
    let successes = optional(flags.ok_or_else(|| Refusal::Format("successes holds something besides 0 and 1".into()))?);
    let parts = numbers(&trial.map_at_r, "map_at_r")?;
    let has_map = !parts.is_empty();
    let parts = optional(parts);
    for (what, count) in [
        ("first_hits", hits.len()),
        ("target_ranks", ranks.len()),
        ("successes", successes.len()),
        ("map_at_r", parts.len()),
    ] {
        if count != list.len() {
            let why = format!("trial {}: {count} {what} for {} queries", trial.trial, list.len());
            return Err(Refusal::Format(why));
        }
    }
    let row = |(i, &(query, label)): (usize, &(u32, u32))| QueryOutcome {
        trial: trial.trial.clone(),
        query,
        label,
        first_hit: hits[i],
        success: successes[i] == 1,
        target_rank: ranks[i],
        map_at_r: has_map.then(|| f64::from(parts[i]) / MAP_UNITS),
        ..QueryOutcome::default()
    };
    Ok(list.iter().enumerate().map(row).collect())
}

fn measurement(t: &WireTrial, suite: &str) -> Result<Measurement, Refusal> {
    let [queries, queries_available, without_positive, query_classes] = t.queries;
    let mut m = Measurement {
        trial: t.trial.clone(),
        suite: suite.into(),
        dataset: t.dataset.clone(),
        model: t.model.clone(),
        training: t.training.clone(),
        model_seed: t.model_seed,
        artefact: t.artefact.clone(),
        crafter: t.crafter.clone(),
        attack: t.attack.clone(),
        goal: t.goal.clone(),
        method: t.method.clone(),
        side: t.side.clone(),
        crafted_on: t.crafted_on.clone(),
        answered_by: t.answered_by.clone(),
        epsilon: t.epsilon.clone(),
        epsilon_pixels: t.epsilon_pixels,
        steps: t.steps,
        restarts: t.restarts,
        seed: t.seed,
        queries,
        queries_available,
        without_positive,
        query_classes,
        gallery: t.gallery,
        provider: t.provider.clone(),
        selected_on: t.selected_on.clone(),
        ..Measurement::default()
    };
    let mut seen: HashMap<Metric, ()> = HashMap::new();
    for (name, value, low, high, n, basis) in &t.metrics {
        let metric: Metric = name.parse().map_err(|e| Refusal::Format(format!("trial {}: {e}", t.trial)))?;
        if seen.insert(metric, ()).is_some() {
            return Err(Refusal::Format(format!("trial {}: {name} twice", t.trial)));
        }
        let wrong = |_| Refusal::Format(format!("trial {}: `{basis}` says nothing about an interval", t.trial));
        let basis = if basis.is_empty() { None } else { Some(basis.parse().map_err(wrong)?) };
        let estimate = Estimate { value: *value, low: *low, high: *high, n: *n, basis };
        match metric {
            Metric::RecallAt(k) => m.recall.push(RecallAt { k, estimate }),
            Metric::Success => m.success = Some(estimate),
            Metric::Shift => m.shift = Some(estimate),
            metric => m.metrics.push(MetricEstimate { metric, estimate: Some(estimate), note: String::new() }),
        }
    }
    Ok(m)
}

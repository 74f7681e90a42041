//! `mdprop metrics EMBEDDINGS --labels LABELS`: every metric of embeddings that another program made.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use crate::cli::MetricsArgs;
use crate::metric::kind::{Metric, Scope};
use crate::metric::neighbors::Distance;
use crate::record::Estimate;
use crate::score::{Clustering, Embedded, Protocol, Scores, file};

/// Reads embeddings and labels and prints their numbers.
///
/// # Errors
/// Files that are missing or hold something else, numbers that are not finite, metrics that need an attack.
pub fn run(args: &MetricsArgs) -> anyhow::Result<ExitCode> {
    let metrics = wanted(args)?;
    let queries = file::embeddings(&args.embeddings)?;
    let query_names = file::labels(&args.labels)?;
    let ensure_length = |names: &[String], rows: usize, path: &std::path::Path| {
        ensure!(names.len() == rows, "{}: {} labels for {rows} embeddings", path.display(), names.len());
        Ok(())
    };
    ensure_length(&query_names, queries.len(), &args.labels)?;
    let apart = match (&args.gallery, &args.gallery_labels) {
        (Some(gallery), Some(labels)) => {
            let rows = file::embeddings(gallery)?;
            let names = file::labels(labels)?;
            ensure_length(&names, rows.len(), labels)?;
            Some((rows, names))
        }
        _ => None,
    };
    let names = apart.as_ref().map_or(query_names.as_slice(), |apart| &apart.1);
    let numbers = file::numbered(&[&query_names, names]);
    let embedded = Embedded {
        queries: &queries,
        query_labels: &numbers[0],
        gallery: apart.as_ref().map_or(&queries, |apart| &apart.0),
        gallery_labels: &numbers[1],
        protocol: if apart.is_some() { Protocol::QueryGallery } else { Protocol::LeaveOneOut },
        distance: if args.cosine { Distance::Cosine } else { Distance::Euclidean },
    };
    let clustering = Clustering { clusters: args.clusters.unwrap_or(0), restarts: args.cluster_restarts as usize };
    let scores = embedded
        .measure(&args.recall_at, &metrics, clustering, args.seed)
        .with_context(|| format!("cannot measure {}", args.embeddings.display()))?;
    super::print(&if args.json { json(&scores)? } else { text(&scores) })?;
    Ok(ExitCode::SUCCESS)
}

fn wanted(args: &MetricsArgs) -> anyhow::Result<Vec<Metric>> {
    let of_embeddings = |metric: &Metric| !matches!(metric.scope(), Scope::Attack | Scope::Robrank | Scope::Suite);
    if args.metrics.is_empty() {
        return Ok(Metric::defaults().into_iter().filter(of_embeddings).collect());
    }
    for metric in &args.metrics {
        ensure!(of_embeddings(metric), "metric `{metric}` is one of attacks; run a suite for it");
        let recall = matches!(metric, Metric::RecallAt(_));
        ensure!(!recall, "metric `{metric}` has an option of its own; write its K into --recall-at");
    }
    Ok(args.metrics.clone())
}

/// `[18.5, 28.5]  n 512, BCa over 20 classes`.
fn uncertainty(e: &Estimate, digits: &dyn Fn(f64) -> String) -> String {
    match e.basis {
        Some(basis) => format!("[{}, {}]  n {}, {basis}", digits(e.low), digits(e.high), e.n),
        None => format!("n {}, no interval", e.n),
    }
}

fn text(scores: &Scores) -> String {
    let mut out = String::new();
    let mut line = |metric: Metric, estimate: Option<&Estimate>, note: &str| {
        let percent = metric.about().percent;
        let digits = |v: f64| if percent { format!("{:.2}", 100.0 * v) } else { format!("{v:.4}") };
        let name = format!("{metric}{}", if percent { " %" } else { "" });
        let value = estimate.map_or("–".to_string(), |e| digits(e.value));
        let rest = estimate.map(|e| uncertainty(e, &digits)).into_iter();
        let rest: Vec<String> = rest.chain((!note.is_empty()).then(|| note.to_string())).collect();
        let _ = writeln!(out, "{name:24} {value:>9}  {}", rest.join("; "));
    };
    for recall in &scores.recall {
        line(Metric::RecallAt(recall.k), Some(&recall.estimate), "");
    }
    for found in &scores.metrics {
        line(found.metric, found.estimate.as_ref(), &found.note);
    }
    if scores.without_positive > 0 {
        let n = scores.without_positive;
        let _ = writeln!(out, "{n} queries are left out: the gallery holds no other image of their class");
    }
    out
}

fn json(scores: &Scores) -> anyhow::Result<String> {
    let value = serde_json::json!({
        "recall": scores.recall,
        "metrics": scores.metrics,
        "queries_without_positive": scores.without_positive,
        "query_classes": scores.query_classes,
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

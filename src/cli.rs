//! The command line as clap structs; meaning is in `cmd/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::encoder::onnx::Provider;
use crate::metric::kind::Metric;
use crate::onnx::wrap::{Colour, Layout};
use crate::run::verify::Differences;

mod shard;

pub use shard::{JobFormat, ShardWanted};

/// How well does an embedding model retrieve, clean and under attack, and is model B better than model A?
#[derive(Debug, Parser)]
#[command(name = "mdprop", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Do everything a suite asks for: data, training, export, attacks, report. Continues where it stopped.
    Run(RunArgs),
    /// Only train the models of a suite.
    Train(RunArgs),
    /// Train if needed, then write the ONNX files of a suite's models.
    Export(RunArgs),
    /// Do everything but the report.
    Measure(RunArgs),
    /// Show what a suite would do, without doing it.
    Plan(PlanArgs),
    /// Join the parts that several machines did (`run --shard`) into one run.
    Merge(MergeArgs),
    /// Write the report of a finished run again, or a leaderboard over several.
    Report(ReportArgs),
    /// Say whether B beats A: two runs, or two models of a run, paired per query.
    Compare(CompareArgs),
    /// Compare a run with the accepted one: has anything drifted? For nightly jobs.
    Check(CheckArgs),
    /// Make a run the accepted one of its suite.
    Accept(AcceptArgs),
    /// Compare ratios of benchmarks (`make bench`) with the accepted ones; warns, never fails.
    Speed(SpeedArgs),
    /// Look at somebody else's ONNX file: what it is, and whether attacks on it can be believed.
    Verify(VerifyArgs),
    /// Every metric of embeddings that another program made.
    Metrics(MetricsArgs),
    /// List, fetch or verify data sets.
    Data(DataArgs),
    /// Print the table of ONNX operators that can be differentiated.
    Operators,
    /// Say what is installed, what is found and what is wrong.
    Doctor(DoctorArgs),
}

/// Where things are.
#[derive(Debug, Clone, Args)]
pub struct FolderArgs {
    /// Folder of data sets and their caches.
    #[arg(long, value_name = "FOLDER", default_value = "data")]
    pub data: PathBuf,
    /// Folder of recipes and model cards.
    #[arg(long, value_name = "FOLDER", default_value = "models")]
    pub models: PathBuf,
    /// Folder of trained models.
    #[arg(long, value_name = "FOLDER", default_value = "models/artifacts")]
    pub artifacts: PathBuf,
}

/// Arguments of `run`, `train`, `export` and `measure`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The suite, such as suites/demo.toml.
    pub suite: PathBuf,
    /// Where things are.
    #[command(flatten)]
    pub folders: FolderArgs,
    /// Folder of the results; default reports/runs/SUITE.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Device of training: cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Who computes in ONNX Runtime: cpu or cuda. The run stops if another one did.
    #[arg(long, default_value = "cpu")]
    pub provider: Provider,
    /// Threads; default all cores. What is measured of a file does not depend on it, the last bits of a training do.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Do one of N parts of the trials, into a folder of its own: I/N with I from 1, or auto/N with the index of a Slurm
    /// array task or Kubernetes indexed job. `mdprop merge` joins them.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<ShardWanted>,
    /// Say where the time of a training's steps goes.
    #[arg(long)]
    pub profile: bool,
    /// Measure this one trial again and nothing else; a key of the column `trial` in measurements.csv. Results go to
    /// reports/runs/SUITE.trials/KEY.
    #[arg(long, value_name = "KEY", conflicts_with = "shard")]
    pub trial: Option<String>,
    /// Print the results as JSON on stdout instead of a table.
    #[arg(long)]
    pub json: bool,
    /// No progress on stderr.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Arguments of `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The file, such as encoder.onnx, or a card, such as models/foreign.toml.
    pub model: PathBuf,
    /// A card whose keys hold for the file (its `onnx` is not used); flags overrule it.
    #[arg(long, value_name = "CARD.toml")]
    pub card: Option<PathBuf>,
    /// Name of the image input.
    #[arg(long, value_name = "NAME")]
    pub input: Option<String>,
    /// Name of the output, or of the value inside the file, that is the embedding.
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// Order of the input's axes: nchw or nhwc.
    #[arg(long, value_parser = word::<Layout>)]
    pub layout: Option<Layout>,
    /// Order of the channels: rgb, bgr or grey.
    #[arg(long, value_parser = word::<Colour>)]
    pub colour: Option<Colour>,
    /// What black and white are for the model, such as 0,255.
    #[arg(long, value_name = "LOW,HIGH", value_delimiter = ',', allow_hyphen_values = true)]
    pub range: Option<Vec<f32>>,
    /// What the model expects subtracted, in the unit of the range: one number, or one for each channel.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_hyphen_values = true)]
    pub mean: Option<Vec<f32>>,
    /// What the model expects divided by, in the unit of the range.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    pub std: Option<Vec<f32>>,
    /// Side of the square images, where the file leaves it open or the card resizes.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub image_size: Option<u32>,
    /// Folder with pictures to try, sub-folders included; built-in drawings if left out.
    #[arg(long, value_name = "FOLDER")]
    pub images: Option<PathBuf>,
    /// Noise images and pictures to try, each.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub count: u32,
    /// Random directions for each of them.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub directions: u32,
    /// Precision of the differences that the gradient is compared with: auto, float64 or float32.
    #[arg(long, default_value = "auto", value_parser = word::<Differences>)]
    pub differences: Differences,
    /// Seed of noise, targets and directions.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Images at once, where the file allows it.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch_size: u32,
    /// Pass operators without a gradient straight through; every number made so is marked.
    #[arg(long)]
    pub straight_through: bool,
    /// Who computes in ONNX Runtime: cpu or cuda.
    #[arg(long, default_value = "cpu")]
    pub provider: Provider,
    /// Threads of the float64 differences; default all cores.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
    /// No progress on stderr.
    #[arg(long, short)]
    pub quiet: bool,
}

/// A word that a card's key takes.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let value: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        serde::de::IntoDeserializer::into_deserializer(text);
    T::deserialize(value).map_err(|e| e.to_string())
}

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The suite, such as suites/demo.toml.
    pub suite: PathBuf,
    /// Where things are.
    #[command(flatten)]
    pub folders: FolderArgs,
    /// Do not time the models: the plan alone, at once.
    #[arg(long)]
    pub no_timing: bool,
    /// Who will compute in ONNX Runtime: cpu or cuda.
    #[arg(long, default_value = "cpu")]
    pub provider: Provider,
    /// Threads that the run will have; default all cores.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Cut the plan into N parts of about equal cost.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub shards: Option<u32>,
    /// With --shards: what each part does, or a job file for the engine that places them.
    #[arg(long, default_value = "text", requires = "shards")]
    pub format: JobFormat,
    /// Print the plan as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `merge`.
#[derive(Debug, Clone, Args)]
pub struct MergeArgs {
    /// Folders of the parts, or one folder that holds them, such as reports/runs/demo.parts.
    #[arg(required = true)]
    pub parts: Vec<PathBuf>,
    /// Folder of the results; default reports/runs/SUITE.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Folder of data sets and their caches: the report shows pictures that no part has.
    #[arg(long, value_name = "FOLDER", default_value = "data")]
    pub data: PathBuf,
    /// Print the results as JSON on stdout instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Run folders, such as reports/runs/demo. One: its report is written again. Several, or a filter: a leaderboard.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Only results on data sets whose id contains this.
    #[arg(long, value_name = "TEXT")]
    pub dataset: Option<String>,
    /// Only threat models whose description contains this, such as multi-target or 8/255.
    #[arg(long, value_name = "TEXT")]
    pub threat: Option<String>,
    /// Draw the nights of this history too, such as reports/history.parquet (see check).
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// With --history: folder of the baselines, for the accepted band.
    #[arg(long, value_name = "FOLDER", default_value = "reports/baselines")]
    pub baselines: PathBuf,
    /// Folder of the leaderboard.
    #[arg(long, value_name = "FOLDER", default_value = "reports/leaderboard")]
    pub out: PathBuf,
    /// Write every chart as PNG too, this many times its size.
    #[arg(long, value_name = "SCALE", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub png: Option<u32>,
}

/// Arguments of `metrics`.
#[derive(Debug, Clone, Args)]
pub struct MetricsArgs {
    /// Embeddings, one row an image: a .npy file [n, d], or .safetensors with the tensor `embeddings`.
    pub embeddings: PathBuf,
    /// Their classes, one a row: a .npy file of whole numbers, .safetensors with `labels`, or a text file with one a line.
    #[arg(long, value_name = "FILE")]
    pub labels: PathBuf,
    /// Embeddings that are searched instead; without it every image searches all the others.
    #[arg(long, value_name = "FILE", requires = "gallery_labels")]
    pub gallery: Option<PathBuf>,
    /// Classes of the gallery.
    #[arg(long, value_name = "FILE", requires = "gallery")]
    pub gallery_labels: Option<PathBuf>,
    /// Every k of recall@k.
    #[arg(long, value_name = "K,...", value_delimiter = ',', default_values_t = [1, 2, 4, 8], value_parser = clap::value_parser!(u32).range(1..))]
    pub recall_at: Vec<u32>,
    /// Further metrics by the names of docs/metrics.md; default: those of a suite.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub metrics: Vec<Metric>,
    /// Search by cosine instead of Euclidean distance; the same for unit rows.
    #[arg(long)]
    pub cosine: bool,
    /// Clusters of k-means for nmi, ami and pairwise-f1; default: as many as there are classes.
    #[arg(long, value_name = "K")]
    pub clusters: Option<usize>,
    /// Runs of k-means, of which the one with the least inertia counts.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub cluster_restarts: u32,
    /// Seed of bootstrap and k-means.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// A run folder, such as reports/runs/demo.
    pub run: PathBuf,
    /// Another run folder of the same data set and queries.
    pub other: Option<PathBuf>,
    /// Two models of the one run.
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "other")]
    pub models: Vec<String>,
    /// How to print; json has the flipped queries too.
    #[arg(long, value_enum, default_value_t = CompareForm::Text)]
    pub format: CompareForm,
    /// Write a page with the comparison and pictures of flipped queries too, such as comparison.html.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// With --report: folder of data sets and their caches, where the pictures are.
    #[arg(long, value_name = "FOLDER", default_value = "data")]
    pub data: PathBuf,
}

/// Arguments of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// A run folder, such as reports/runs/nightly.
    pub run: PathBuf,
    /// What to compare with: a baseline file, its folder, or another run folder; default reports/baselines/SUITE.
    #[arg(long, value_name = "BASELINE")]
    pub against: Option<PathBuf>,
    /// Measure the trials that fail once more before failing: the suite's file.
    #[arg(long, value_name = "SUITE")]
    pub confirm: Option<PathBuf>,
    /// Where things are, for --confirm.
    #[command(flatten)]
    pub folders: FolderArgs,
    /// Threads of --confirm; default all cores.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Add the run to this history and look there for slow drift, such as reports/history.parquet.
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// How to print. github: annotations, and the summary to $GITHUB_STEP_SUMMARY.
    #[arg(long, value_enum, default_value_t = CheckForm::Text)]
    pub format: CheckForm,
    /// Write check.json, check.md, junit.xml and check.sarif into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub reports: Option<PathBuf>,
    /// No progress on stderr.
    #[arg(long, short)]
    pub quiet: bool,
}

/// How a check is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CheckForm {
    /// Aligned columns, what moved only.
    Text,
    /// A summary for GitHub and its like.
    Markdown,
    /// Everything, for machines.
    Json,
    /// JUnit XML.
    Junit,
    /// SARIF 2.1.0.
    Sarif,
    /// GitHub's workflow commands.
    Github,
}

/// Arguments of `speed`.
#[derive(Debug, Clone, Args)]
pub struct SpeedArgs {
    /// Folder of criterion's results.
    #[arg(long, value_name = "FOLDER", default_value = "target/criterion")]
    pub criterion: PathBuf,
    /// The accepted ratios.
    #[arg(long, value_name = "FILE", default_value = "reports/baselines/speed.toml")]
    pub against: PathBuf,
    /// Warn in GitHub's words.
    #[arg(long)]
    pub github: bool,
    /// Write the ratios of this run into the file as the accepted ones; its comments are lost.
    #[arg(long)]
    pub accept: bool,
}

/// Arguments of `accept`.
#[derive(Debug, Clone, Args)]
pub struct AcceptArgs {
    /// A run folder, such as reports/runs/nightly.
    pub run: PathBuf,
    /// Why these numbers are right; kept in the baseline.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who accepts; default git's user.name, GITHUB_ACTOR or USER.
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Folder of the baselines.
    #[arg(long, value_name = "FOLDER", default_value = "reports/baselines")]
    pub baselines: PathBuf,
    /// Smallest change of a metric that fails a night, such as recall@1=0.02; stays until set again. Default: 0.01 for
    /// shares, 2 % of the accepted value for other metrics.
    #[arg(long, value_name = "METRIC=CHANGE", value_parser = floor)]
    pub floor: Vec<(Metric, f64)>,
    /// Let a night fail if a model's file is not the accepted one, whatever it measures.
    #[arg(long)]
    pub pin: bool,
    /// Let models change again.
    #[arg(long, conflicts_with = "pin")]
    pub unpin: bool,
}

/// `recall@1=0.02`.
fn floor(text: &str) -> Result<(Metric, f64), String> {
    let wanted = "wanted METRIC=CHANGE, such as recall@1=0.02";
    let (name, value) = text.split_once('=').ok_or(wanted)?;
    let value = value.parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0);
    Ok((name.parse().map_err(|e| format!("{e}"))?, value.ok_or(wanted)?))
}

/// How a comparison is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CompareForm {
    /// Aligned columns.
    Text,
    /// A table for GitHub.
    Markdown,
    /// For machines.
    Json,
}

/// Arguments of `data`.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: DataAction,
    /// Folder of data sets and their caches.
    #[arg(long, value_name = "FOLDER", default_value = "data", global = true)]
    pub data: PathBuf,
}

/// What to do with data sets.
#[derive(Debug, Clone, Subcommand)]
pub enum DataAction {
    /// Every data set with its state, counts and licence.
    List {
        /// Print as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Download and prepare a data set that can be had (emoji).
    Fetch(DataSetArgs),
    /// Recompute counts and digests of a prepared data set.
    Verify(DataSetArgs),
}

/// Which data set.
#[derive(Debug, Clone, Args)]
pub struct DataSetArgs {
    /// Its id (emoji, glyphs), or a suite whose data set is meant.
    pub id: String,
    /// Side of the square images in pixels.
    #[arg(long, default_value_t = 32)]
    pub image_size: usize,
}

/// Arguments of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Folder of data sets and their caches.
    #[arg(long, value_name = "FOLDER", default_value = "data")]
    pub data: PathBuf,
    /// Print as JSON.
    #[arg(long)]
    pub json: bool,
}

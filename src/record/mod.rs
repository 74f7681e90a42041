//! Results: one row per trial, one row per query of a trial, one row per training epoch; in Parquet and CSV.
//!
//! Plain structs here are what the rest of the program sees; [`columns`] lays them out as flat columns, [`frames`] is the
//! only place that knows polars, [`csv`] writes the same columns for people, [`folder`] keeps a whole run on disk.

pub mod card;

use serde::{Deserialize, Serialize};

pub use flip::{FlippedQuery, Right};
pub use view::EmbeddingView;

pub use estimate::{Estimate, MetricEstimate, RecallAt};

pub mod columns;
pub mod csv;
pub mod estimate;
pub mod flip;
pub mod folder;
pub mod foreign;
pub mod frames;
pub mod history;
mod layout;
#[cfg(test)]
pub(crate) mod sample;
pub mod view;

/// One trial: model × dataset × side × goal × method × budget × branch × seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Measurement {
    /// Digest of everything that made this row, short form; the key into the per-query table.
    pub trial: String,
    /// Suite (`demo`, `attack/ranking-ers`).
    pub suite: String,
    /// Data set id.
    pub dataset: String,
    /// Digest of the data set's pixels, labels and split, short form; empty in older files.
    #[serde(default)]
    pub split: String,
    /// Model id (the recipe's file name).
    pub model: String,
    /// Training method word, or `foreign`.
    pub training: String,
    /// Training seed.
    pub model_seed: u64,
    /// Digest of the ONNX file that answered, short form.
    pub artefact: String,
    /// Digest of the ONNX file whose gradients made the attack, short form; empty in records of older versions.
    #[serde(default)]
    pub crafter: String,
    /// `clean` or the suite's name of the attack.
    pub attack: String,
    /// `none`, `single-target`, `multi-target(5)`, `untargeted`, `misrank`, `same-identity(1)`, `ca+`, `qa-(M=5)` ...,
    /// `robrank` for the row of ERS.
    pub goal: String,
    /// `none`, `pgd`, `fgsm`, `noise` ...; `pgd-until-broken` where a broken query is left alone, `square-by-rank` where only
    /// the ranking is seen.
    pub method: String,
    /// `query`, `candidate`, `all`; `none` for clean.
    pub side: String,
    /// Model whose gradients made the attack, as `id` or `id seed N`; empty: the one that answers.
    #[serde(default)]
    pub crafted_by: String,
    /// Branch whose gradients made the attack; `worst` for a row that takes each query's worst of several.
    pub crafted_on: String,
    /// Branch that answered.
    pub answered_by: String,
    /// Budget as written.
    pub epsilon: String,
    /// Budget in pixel units.
    pub epsilon_pixels: f64,
    /// How the budget is measured: `linf`, `l2` (then `epsilon_pixels` is a length); `none` for clean.
    pub norm: String,
    /// Gradient steps.
    pub steps: u32,
    /// Restarts.
    pub restarts: u32,
    /// Suite seed.
    pub seed: u64,
    /// Queries evaluated.
    pub queries: u32,
    /// Queries that could have been evaluated.
    pub queries_available: u32,
    /// Queries left out of every ranking metric because the gallery holds no other image of their class.
    pub without_positive: u32,
    /// Classes of the queries.
    pub query_classes: u32,
    /// Gallery size.
    pub gallery: u32,
    /// recall@k for each k, ascending in k.
    pub recall: Vec<RecallAt>,
    /// Share of queries whose nearest other image has a target identity.
    pub success: Option<Estimate>,
    /// Mean Euclidean distance between clean and attacked embedding.
    pub shift: Option<Estimate>,
    /// The suite's further metrics, those that this kind of trial has, in the suite's order.
    pub metrics: Vec<MetricEstimate>,
    /// Largest L∞ perturbation over queries, pixel units.
    pub linf_max: Option<f64>,
    /// Mean L2 perturbation over queries, pixel units.
    pub l2_mean: Option<f64>,
    /// Images that the model was shown for a query on average, probes included; absent where it is the same for all.
    pub evaluations_mean: Option<f64>,
    /// Checks that ran, in a fixed order.
    pub checks: Vec<Check>,
    /// Execution provider, as verified.
    pub provider: String,
    /// Which images chose the model's epoch: `validation`, `test`, `last`, `foreign`.
    pub selected_on: String,
    /// Filled if the trial failed; then the numbers are absent.
    pub error: Option<String>,
}

impl Measurement {
    /// Whether it is one kind and severity of a corruption, whose mean has a row of its own.
    pub fn is_part_of_mean(&self) -> bool {
        self.method == "corruption" && self.attack.contains(':')
    }

    /// Whether another model crafted what this one answers.
    pub fn is_transfer(&self) -> bool {
        !self.crafted_by.is_empty()
    }
}

/// The outcome of a soundness check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Stable name: `budget-obeyed`, `zero-epsilon-equals-clean`, `zero-gradients` ...
    pub name: String,
    /// Whether it held.
    pub passed: bool,
    /// What was measured, in words and numbers.
    pub detail: String,
}

impl Check {
    /// Name of the check that the gradient is that of the model and not a straight-through one.
    pub const GRADIENT_EXACT: &'static str = "gradient-exact";
    /// Name of the check that the branch that answers was attacked with its own gradient.
    pub const DEPLOYED_BRANCH: &'static str = "deployed-branch-attacked";

    /// Whether it says how a number was made rather than that something is wrong. A label marks the number wherever it is
    /// shown, but fails no run: the user asked for it.
    pub fn is_label(&self) -> bool {
        [Self::GRADIENT_EXACT, Self::DEPLOYED_BRANCH].contains(&self.name.as_str())
    }
}

/// One query of one trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct QueryOutcome {
    /// Key of its trial.
    pub trial: String,
    /// Index of the image in the data set.
    pub query: u32,
    /// Its class.
    pub label: u32,
    /// Rank (from 1) of the first same-class image, ties counted against the model. 0 if the gallery has none.
    pub first_hit: u32,
    /// Nearest gallery images, best first (index in the data set), as many as the largest k.
    pub neighbors: Vec<u32>,
    /// Target images (index in the data set), empty for clean and untargeted.
    pub targets: Vec<u32>,
    /// Whether the nearest image has a target's identity.
    pub success: bool,
    /// Rank (from 1) of the nearest image with a target's identity, ties counted against the attacker. 0 without targets
    /// or if the suite does not ask for `target-rank`.
    pub target_rank: u32,
    /// Euclidean distance between clean and attacked embedding.
    pub shift: f32,
    /// L∞ perturbation, pixel units.
    pub linf: f32,
    /// L2 perturbation, pixel units.
    pub l2: f32,
    /// Final (best) loss of the attack.
    pub loss: f32,
    /// Score of a ranking attack, in the unit of its metric (`ca-plus` ...); absent for every other trial. In a candidate
    /// attack the image is searched for, so that it has no neighbours and no hit.
    pub score: Option<f64>,
    /// MAP@R of this query alone; absent if the suite does not ask for `map@r`, if the gallery has no other image of its
    /// class, and in records of older versions.
    #[serde(default)]
    pub map_at_r: Option<f64>,
    /// The member of an ensemble that broke it (`apgd-misrank`); empty: none did, or the attack is no ensemble.
    pub broken_by: String,
    /// Images that the model was shown for it, probes and smaller radii of a curve included; 0 where that is the same for
    /// all.
    pub evaluations: u32,
}

/// One step of the attack of one trial, over the images that it attacks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepPoint {
    /// Key of its trial.
    pub trial: String,
    /// Steps taken in the first run; 0 is where it starts. Long runs have every so many steps, and the last.
    pub step: u32,
    /// Attacked images.
    pub images: u32,
    /// Those whose run was not over; the others, left alone once broken, count with their last loss.
    pub running: u32,
    /// Mean over the images of the loss that the attack brings down.
    pub loss: f64,
    /// Its quartiles over the images.
    pub quartiles: [f64; 3],
}

/// One epoch of one training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingPoint {
    /// Model id.
    pub model: String,
    /// Training seed.
    pub seed: u64,
    /// Epochs finished, from 1.
    pub epoch: u32,
    /// Mean training loss of the epoch.
    pub loss: f64,
    /// recall@1 on the selection images, if measured in this epoch.
    pub selection_recall: Option<f64>,
    /// Learning rate at its end.
    pub learning_rate: f64,
}

/// A picture story: one query, clean and attacked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GalleryItem {
    /// Key of the attacked trial.
    pub trial: String,
    /// Model id.
    pub model: String,
    /// Name of the attack.
    pub attack: String,
    /// Why it is shown: `flipped` (right before, wrong after), `worst` (thrown furthest back), `median`, `held`, or empty.
    #[serde(default)]
    pub kind: String,
    /// Side of the square pictures in pixels.
    pub size: u32,
    /// The query.
    pub clean: Thumbnail,
    /// The attacked query, planar bytes after rounding to 8 bits.
    pub adversarial: Thumbnail,
    /// `adversarial − clean`, as a picture: 128 is no change.
    pub perturbation: Thumbnail,
    /// By how much the perturbation was magnified in that picture.
    pub magnification: u32,
    /// Neighbours of the clean query, best first.
    pub clean_neighbors: Vec<Thumbnail>,
    /// Neighbours of the attacked query, best first.
    pub adversarial_neighbors: Vec<Thumbnail>,
    /// Target images.
    pub targets: Vec<Thumbnail>,
}

/// A small picture with its label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thumbnail {
    /// Index in the data set.
    pub index: u32,
    /// Class name.
    pub class: String,
    /// Whether it has the query's class.
    pub same_class: bool,
    /// `[3, size, size]` bytes, RGB planes.
    #[serde(with = "bytes_base64")]
    pub pixels: Vec<u8>,
}

mod bytes_base64 {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

/// What a run was made with and of. Only this file carries times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Manifest {
    /// Version of the run-folder format, 2.
    pub schema: u32,
    /// Suite name.
    pub suite: String,
    /// The suite's `about` text.
    pub about: String,
    /// Digest of the plan.
    pub plan: String,
    /// Command that makes the run again.
    pub command: String,
    /// Version of this program and its commit.
    pub program: String,
    /// Versions of ONNX Runtime, libtorch and the like, name and version.
    pub versions: Vec<(String, String)>,
    /// Digest, size and counts of the data set, in words.
    pub dataset: String,
    /// Digest of the data set.
    pub dataset_digest: String,
    /// The data set as the suite writes it, so that its pictures can be opened again; absent in folders of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_spec: Option<crate::suite::dataset::DatasetSpec>,
    /// Threads used.
    pub threads: u32,
    /// Processor and system; like times and threads it is in this file only.
    #[serde(default)]
    pub machine: String,
    /// Seconds since 1970, start.
    pub started_unix_s: u64,
    /// Stages with their wall time in seconds; 0 for a stage found done.
    pub stages: Vec<(String, f64)>,
    /// Models in the suite's order: id and description.
    pub models: Vec<(String, String)>,
    /// Labels and names of the test classes, ascending.
    pub test_classes: Vec<(u32, String)>,
    /// Published numbers that the suite wants beside the measured ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<crate::suite::published::Published>,
}

/// Everything a report shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Run {
    /// How it was made.
    pub manifest: Manifest,
    /// One row per trial, in plan order.
    pub measurements: Vec<Measurement>,
    /// Per-query outcomes of all trials.
    pub queries: Vec<QueryOutcome>,
    /// The attacks' losses step by step; none in folders of earlier versions.
    pub steps: Vec<StepPoint>,
    /// Training curves.
    pub training: Vec<TrainingPoint>,
    /// Picture stories.
    pub gallery: Vec<GalleryItem>,
    /// Queries that one model answers and another does not; none in folders of older versions.
    pub flips: Vec<FlippedQuery>,
    /// What pictures of the embedding spaces are drawn from.
    pub views: Vec<EmbeddingView>,
}

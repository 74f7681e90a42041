//! A suite file exactly as written. Unknown keys are errors that show the line.

use serde::{Deserialize, Serialize};

use super::attack::{Branch, Goal, Method, RankingPart, Robrank, Side};
use super::dataset::DatasetSpec;
use super::published::Published;
use super::soundness::CheckMarks;
use crate::metric::kind::Metric;

/// `suites/<group>/<name>.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuiteWire {
    /// Version of this format, 1.
    pub schema: u32,
    /// Why the suite exists and what is expected, in prose; printed in the report.
    pub about: String,
    /// Root of all randomness of the measurement (targets, starts, subsets).
    #[serde(default)]
    pub seed: u64,
    /// What is searched.
    pub dataset: DatasetSpec,
    /// How it is measured.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// Who is compared.
    #[serde(rename = "model")]
    pub models: Vec<ModelWire>,
    /// What is done to them. Clean retrieval is always measured.
    #[serde(rename = "attack", default)]
    pub attacks: Vec<Attack>,
    /// Which soundness checks end a run with exit code 3.
    #[serde(default, skip_serializing_if = "CheckMarks::is_default")]
    pub checks: CheckMarks,
    /// What must come out. A run that leaves it is a failed run.
    #[serde(rename = "expect", default)]
    pub expectations: Vec<Expectation>,
    /// What others published for these models and attacks; shown beside the measured numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
}

/// A model by the name of its file in `models/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelWire {
    /// `models/<id>.toml`.
    pub id: String,
    /// Training seeds; left out: the recipe's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,
}

/// How retrieval is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluation {
    /// Every k of recall@k, ascending.
    pub recall_at: Vec<u32>,
    /// Further metrics, by the names of `docs/metrics.md`; each is measured in every trial that has it.
    pub metrics: Vec<Metric>,
    /// How many clusters k-means makes for the metrics that need it.
    pub clusters: Clusters,
    /// Independent runs of k-means, of which the one with the least inertia counts; 1 to 100.
    pub cluster_restarts: usize,
    /// Queries drawn from the test images, the same for every model and attack; left out: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queries: Option<usize>,
    /// Images per forward pass. Part of a trial's identity, because rounding depends on it.
    pub batch_size: usize,
    /// Picture stories per model and attack in the report.
    pub gallery: usize,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            recall_at: vec![1, 2, 4, 8],
            metrics: Metric::defaults(),
            clusters: Clusters::TestClasses,
            cluster_restarts: 1,
            queries: None,
            batch_size: 32,
            gallery: 3,
        }
    }
}

/// How many clusters k-means makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clusters {
    /// As many as the searched images have classes.
    TestClasses,
    /// As many as the training images have classes, as the official code has it.
    TrainingClasses,
}

/// One attack; with several radii or branches it is several trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    /// Name in tables, unique in the suite.
    pub name: String,
    /// Who is perturbed.
    pub side: Side,
    /// What the attacker wants.
    pub goal: Goal,
    /// How it searches.
    pub method: Method,
    /// Branches whose gradients are used, one trial each; those that a model lacks are left out for it.
    #[serde(default = "main_only")]
    pub crafted_on: Vec<Branch>,
    /// Branch that answers.
    #[serde(default)]
    pub answered_by: Branch,
    /// Models of the suite whose main branch crafts, one trial each, named `name:id`; `"all"` stands for every one, the
    /// answering model included (then the rows of all models are the matrix of who breaks whom). Left out: the answering
    /// model alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crafted_by: Vec<String>,
}

impl Attack {
    /// Its trials' names and goals, but for radii and branches: itself, or one for each of RobRank's attacks, named
    /// `name:ca+` and so on.
    pub fn parts(&self) -> Vec<(String, Goal)> {
        match &self.goal {
            Goal::Robrank(robrank) => {
                let part = |part: &RankingPart| {
                    let goal = Goal::Robrank(Robrank { parts: vec![*part], ..robrank.clone() });
                    (format!("{}:{}", self.name, part.word()), goal)
                };
                robrank.parts.iter().map(part).collect()
            }
            goal => vec![(self.name.clone(), goal.clone())],
        }
    }
}

impl Attack {
    /// Whether one of its trials, or all of them together, has this name.
    pub fn has_trial(&self, name: &str) -> bool {
        let several = !self.crafted_by.is_empty() || self.method.forms().iter().any(|(kind, _)| kind.is_some());
        let prefix = name.split_once(':').map(|(prefix, _)| prefix);
        self.parts().iter().any(|(part, _)| part == name)
            || self.name == name
            || several && prefix == Some(self.name.as_str())
    }

    /// Ids of the models that craft for `model`, among all of the suite; `None` is the model itself.
    pub fn crafters<'a>(&'a self, model: &str, all: impl Iterator<Item = &'a str> + Clone) -> Vec<Option<&'a str>> {
        if self.crafted_by.is_empty() {
            return vec![None];
        }
        let named = |id: &str| self.crafted_by.iter().any(|by| by == id || by == "all");
        all.filter(|id| named(id)).map(|id| (id != model).then_some(id)).collect()
    }
}

fn main_only() -> Vec<Branch> {
    vec![Branch::Main]
}

/// A bound on a mean over training seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// `recall@K`, `success`, `shift`, or one of `evaluation.metrics`.
    pub metric: String,
    /// Model id.
    pub model: String,
    /// Attack name, `name:ca+` for a part of RobRank's, or `clean`.
    pub attack: String,
    /// Which radius, as written in the attack; needed if it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<String>,
    /// Smallest acceptable value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Largest acceptable value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

//! Every metric as one closed enum: its name in suites and reports, its column, its direction.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A metric. What each one is: [`Metric::about`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// `recall@K`, the hit rate.
    RecallAt(u32),
    /// `precision@1`.
    PrecisionAt1,
    /// `r-precision`.
    RPrecision,
    /// `map@r`.
    MapAtR,
    /// `map@1000`.
    MapAt1000,
    /// `mrr`.
    Mrr,
    /// `official-map-c`.
    OfficialMapC,
    /// `official-map-1000`.
    OfficialMap1000,
    /// `official-map-lim`.
    OfficialMapLim,
    /// `macro-recall@1`.
    MacroRecallAt1,
    /// `worst-class-recall@1`.
    WorstClassRecallAt1,
    /// `hub-skewness`.
    HubSkewness,
    /// `antihubs`.
    Antihubs,
    /// `nmi`.
    Nmi,
    /// `ami`.
    Ami,
    /// `pairwise-f1`.
    PairwiseF1,
    /// `pi-intra`.
    PiIntra,
    /// `pi-inter`.
    PiInter,
    /// `pi-ratio`.
    PiRatio,
    /// `alignment`.
    Alignment,
    /// `uniformity`.
    Uniformity,
    /// `mean-cosine`.
    MeanCosine,
    /// `rho@K`, K being −1 or from 1.
    Rho(i32),
    /// `effective-rank`.
    EffectiveRank,
    /// `success`.
    Success,
    /// `target-rank`.
    TargetRank,
    /// `shift`.
    Shift,
    /// `recall-drop`.
    RecallDrop,
    /// `retained-share`.
    RetainedShare,
    /// `ca-plus`, published as CA+.
    CaPlus,
    /// `ca-minus`, published as CA−.
    CaMinus,
    /// `qa-plus`, published as QA+.
    QaPlus,
    /// `qa-minus`, published as QA−.
    QaMinus,
    /// `tma`.
    Tma,
    /// `es-d`, published as ES:D.
    EsD,
    /// `es-r`, published as ES:R.
    EsR,
    /// `ltm`.
    Ltm,
    /// `gtm`.
    Gtm,
    /// `gtt`.
    Gtt,
    /// `ers`.
    Ers,
    /// `robust-recall@1`.
    RobustRecallAt1,
    /// `robustness-area`.
    RobustnessArea,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither by itself: it describes.
    Neutral,
}

impl Direction {
    /// The way that is better, as a sign: `↑`, `↓`; nothing where neither is.
    pub fn arrow(self) -> &'static str {
        match self {
            Self::Higher => "↑",
            Self::Lower => "↓",
            Self::Neutral => "",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::Neutral => "neither",
        })
    }
}

/// What a metric is computed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The ranked list of each query.
    Ranking,
    /// A clustering of the searched set.
    Clustering,
    /// The embeddings of the searched set.
    Geometry,
    /// Clean and attacked queries side by side.
    Attack,
    /// RobRank's attacks; they measure it themselves, it is never asked for.
    Robrank,
    /// Several attacks of a suite; always in the report, never asked for.
    Suite,
}

/// The names of those without a number of their own.
const NAMES: [(Metric, &str); 40] = [
    (Metric::PrecisionAt1, "precision@1"),
    (Metric::RPrecision, "r-precision"),
    (Metric::MapAtR, "map@r"),
    (Metric::MapAt1000, "map@1000"),
    (Metric::Mrr, "mrr"),
    (Metric::OfficialMapC, "official-map-c"),
    (Metric::OfficialMap1000, "official-map-1000"),
    (Metric::OfficialMapLim, "official-map-lim"),
    (Metric::MacroRecallAt1, "macro-recall@1"),
    (Metric::WorstClassRecallAt1, "worst-class-recall@1"),
    (Metric::HubSkewness, "hub-skewness"),
    (Metric::Antihubs, "antihubs"),
    (Metric::Nmi, "nmi"),
    (Metric::Ami, "ami"),
    (Metric::PairwiseF1, "pairwise-f1"),
    (Metric::PiIntra, "pi-intra"),
    (Metric::PiInter, "pi-inter"),
    (Metric::PiRatio, "pi-ratio"),
    (Metric::Alignment, "alignment"),
    (Metric::Uniformity, "uniformity"),
    (Metric::MeanCosine, "mean-cosine"),
    (Metric::EffectiveRank, "effective-rank"),
    (Metric::Success, "success"),
    (Metric::TargetRank, "target-rank"),
    (Metric::Shift, "shift"),
    (Metric::RecallDrop, "recall-drop"),
    (Metric::RetainedShare, "retained-share"),
    (Metric::CaPlus, "ca-plus"),
    (Metric::CaMinus, "ca-minus"),
    (Metric::QaPlus, "qa-plus"),
    (Metric::QaMinus, "qa-minus"),
    (Metric::Tma, "tma"),
    (Metric::EsD, "es-d"),
    (Metric::EsR, "es-r"),
    (Metric::Ltm, "ltm"),
    (Metric::Gtm, "gtm"),
    (Metric::Gtt, "gtt"),
    (Metric::Ers, "ers"),
    (Metric::RobustRecallAt1, "robust-recall@1"),
    (Metric::RobustnessArea, "robustness-area"),
];

impl Metric {
    /// What every trial is measured with unless the suite says otherwise, besides recall@k, success and shift.
    pub fn defaults() -> Vec<Self> {
        vec![
            Self::PrecisionAt1,
            Self::RPrecision,
            Self::MapAtR,
            Self::Mrr,
            Self::MacroRecallAt1,
            Self::HubSkewness,
            Self::PiIntra,
            Self::PiInter,
            Self::PiRatio,
            Self::Rho(1),
            Self::EffectiveRank,
            Self::TargetRank,
            Self::RecallDrop,
            Self::RetainedShare,
        ]
    }

    /// Whether a change behind the nearest image changes it, among what a trial's lists and ranks tell.
    pub fn looks_beyond_the_nearest(self) -> bool {
        match self {
            Self::RecallAt(k) => k > 1,
            Self::PrecisionAt1 | Self::MacroRecallAt1 | Self::WorstClassRecallAt1 => false,
            metric => metric.scope() == Scope::Ranking || metric == Self::TargetRank,
        }
    }

    /// Every metric once, in the order of reports; those with a number by an example.
    pub fn all() -> Vec<Self> {
        let mut all: Vec<Self> = NAMES.iter().map(|entry| entry.0).collect();
        all.extend([Self::RecallAt(1), Self::Rho(1)]);
        all.sort_unstable();
        all
    }

    /// The column of tables: the name with `@` as `at` and without hyphens (`map_at_r`, `rho_at_minus_1`).
    pub fn column(self) -> String {
        self.to_string().replace("@-", "_at_minus_").replace('@', "_at_").replace('-', "_")
    }

    /// The metric that a column holds.
    pub fn of_column(column: &str) -> Option<Self> {
        let named = NAMES.iter().map(|entry| entry.0).find(|metric| metric.column() == column);
        let number = |prefix: &str| column.strip_prefix(prefix).map(|k| k.replace("minus_", "-"));
        let recall = || number("recall_at_").and_then(|k| format!("recall@{k}").parse().ok());
        let rho = || number("rho_at_").and_then(|k| format!("rho@{k}").parse().ok());
        named.or_else(recall).or_else(rho)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecallAt(k) => write!(f, "recall@{k}"),
            Self::Rho(k) => write!(f, "rho@{k}"),
            other => f.write_str(NAMES.iter().find(|entry| entry.0 == *other).map_or("", |entry| entry.1)),
        }
    }
}

/// A name that is no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// Not in the list.
    #[error("unknown metric `{0}`, known are recall@K, rho@K, {list}", list = NAMES.map(|entry| entry.1).join(", "))]
    Unknown(String),
    /// A number that has no meaning.
    #[error("`{name}` has no meaning; {wanted}")]
    Number {
        /// What was written.
        name: String,
        /// What K may be.
        wanted: &'static str,
    },
}

impl FromStr for Metric {
    type Err = MetricError;

    fn from_str(name: &str) -> Result<Self, MetricError> {
        let wrong = |wanted| MetricError::Number { name: name.to_string(), wanted };
        if let Some(k) = name.strip_prefix("recall@") {
            let k = k.parse().ok().filter(|k| *k > 0).ok_or_else(|| wrong("K of recall@K counts neighbours from 1"))?;
            return Ok(Self::RecallAt(k));
        }
        if let Some(k) = name.strip_prefix("rho@") {
            let wanted = "K of rho@K is -1, or from 1 (0 is the whole spectrum and no number)";
            let k = k.parse().ok().filter(|k| *k >= -1 && *k != 0).ok_or_else(|| wrong(wanted))?;
            return Ok(Self::Rho(k));
        }
        let found = NAMES.iter().find(|entry| entry.1 == name);
        found.map(|entry| entry.0).ok_or_else(|| MetricError::Unknown(name.to_string()))
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_columns_come_back_and_are_unique() {
        let mut all = Metric::all();
        all.extend([Metric::RecallAt(1000), Metric::Rho(-1), Metric::Rho(10)]);
        let mut names = std::collections::BTreeSet::new();
        for metric in &all {
            assert_eq!(metric.to_string().parse(), Ok(*metric));
            assert_eq!(Metric::of_column(&metric.column()), Some(*metric));
            assert!(!metric.to_string().is_empty() && names.insert(metric.column()), "{metric}");
        }
        assert_eq!(Metric::Rho(-1).column(), "rho_at_minus_1");
        assert_eq!(Metric::of_column("recall_at_1_low"), None);
        assert!(Metric::defaults().iter().all(|metric| all.contains(metric)));
    }

    #[test]
    fn what_is_no_metric_is_said_with_what_is() {
        let text = |name: &str| name.parse::<Metric>().unwrap_err().to_string();
        assert!(text("map").contains("unknown metric `map`, known are recall@K") && text("map").contains("map@r"));
        for name in ["recall@0", "recall@x", "recall@-1"] {
            assert!(text(name).contains("from 1"), "{name}");
        }
        for name in ["rho@0", "rho@-2", "rho@", "rho@1.5"] {
            assert!(text(name).contains("-1, or from 1"), "{name}");
        }
    }
}

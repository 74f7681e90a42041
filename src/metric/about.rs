//! What each metric is, in words: the one table that reports show and `docs/metrics.md` is made of.

use super::kind::{Direction, Metric, Scope};

mod lists;
mod ranking;
mod sets;

/// Everything to know about a metric besides its code.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct About {
    /// What it is computed of.
    pub scope: Scope,
    /// Which way is better.
    pub direction: Direction,
    /// Smallest and largest possible value.
    pub range: (f64, f64),
    /// Whether it is shown in percent.
    pub percent: bool,
    /// One sentence for a reader.
    pub definition: &'static str,
    /// The formula.
    pub formula: &'static str,
    /// What happens at the edges.
    pub edges: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// How it differs from what others call by this name.
    pub namesakes: &'static str,
}

impl Metric {
    /// What this metric is.
    pub fn about(self) -> About {
        match self.scope() {
            Scope::Ranking => lists::ranking(self),
            Scope::Clustering => sets::clustering(self),
            Scope::Geometry => sets::geometry(self),
            Scope::Attack | Scope::Suite => lists::attack(self),
            Scope::Robrank => ranking::robrank(self),
        }
    }

    /// What this metric is computed of.
    pub fn scope(self) -> Scope {
        match self {
            Self::Nmi | Self::Ami | Self::PairwiseF1 => Scope::Clustering,
            Self::PiIntra | Self::PiInter | Self::PiRatio | Self::Alignment | Self::Uniformity => Scope::Geometry,
            Self::MeanCosine | Self::Rho(_) | Self::EffectiveRank => Scope::Geometry,
            Self::Success | Self::TargetRank | Self::Shift | Self::RecallDrop | Self::RetainedShare => Scope::Attack,
            Self::CaPlus | Self::CaMinus | Self::QaPlus | Self::QaMinus | Self::Tma | Self::EsD => Scope::Robrank,
            Self::EsR | Self::Ltm | Self::Gtm | Self::Gtt | Self::Ers => Scope::Robrank,
            Self::RobustRecallAt1 | Self::RobustnessArea => Scope::Suite,
            _ => Scope::Ranking,
        }
    }

    /// Which way is better.
    pub fn direction(self) -> Direction {
        self.about().direction
    }
}

fn entry(scope: Scope, direction: Direction, range: (f64, f64), words: [&'static str; 5]) -> About {
    let [definition, formula, edges, source, namesakes] = words;
    let percent = range == (0.0, 1.0);
    About { scope, direction, range, percent, definition, formula, edges, source, namesakes }
}

const SHARE: (f64, f64) = (0.0, 1.0);

/// `docs/metrics.md`.
pub fn markdown() -> String {
    let mut out = String::from(include_str!("about.md"));
    let heads = [
        (Scope::Ranking, "Of ranked lists"),
        (Scope::Clustering, "Of a clustering"),
        (Scope::Geometry, "Of the embeddings"),
        (Scope::Attack, "Of an attack"),
        (Scope::Robrank, "Of RobRank's attacks"),
        (Scope::Suite, "Of a suite"),
    ];
    for (scope, head) in heads {
        out += &format!("\n## {head}\n");
        for metric in Metric::all().into_iter().filter(|metric| metric.scope() == scope) {
            out += &section(metric);
        }
    }
    out
}

fn section(metric: Metric) -> String {
    let about = metric.about();
    let name = match metric {
        Metric::RecallAt(_) => "recall@K".to_string(),
        Metric::Rho(_) => "rho@K".to_string(),
        other => other.to_string(),
    };
    let number = |v: f64| match v {
        f64::INFINITY => "∞".to_string(),
        f64::NEG_INFINITY => "−∞".to_string(),
        v => v.to_string().replace('-', "−"),
    };
    let mut out = format!("\n### {name}\n\n{}.\n\n", capital(about.definition));
    let default = if Metric::defaults().contains(&metric) { "; measured by default" } else { "" };
    out += &format!("- Formula: {}\n", about.formula);
    let (low, high) = (number(about.range.0), number(about.range.1));
    out += &format!("- Range {low} to {high}, better: {}{default}\n", about.direction);
    let rest = [("Edges", about.edges), ("Source", about.source), ("Namesakes", about.namesakes)];
    for (head, text) in rest.into_iter().filter(|(_, text)| !text.is_empty()) {
        out += &format!("- {head}: {text}\n");
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_this_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        if std::env::var_os("MDPROP_WRITE_DOCS").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == markdown(),
            "docs/metrics.md is not what the code says; run this test with MDPROP_WRITE_DOCS=1"
        );
    }

    #[test]
    fn every_metric_says_what_it_is() {
        for metric in Metric::all() {
            let about = metric.about();
            assert!(!about.definition.is_empty() && !about.formula.is_empty() && !about.edges.is_empty(), "{metric}");
            assert!(about.range.0 < about.range.1, "{metric}");
            // recall@k is the last arm of its match: no other metric may fall into it.
            let recall = Metric::RecallAt(1).about().definition;
            assert!(matches!(metric, Metric::RecallAt(_)) || about.definition != recall, "{metric}");
        }
    }
}

//! RobRank's ranking attacks and the score made of them, ERS.
//!
//! Zhou et al. 2020 (arXiv:2002.11293) define the attacks on candidates and queries, Zhou et al. (arXiv:2106.03614) the
//! others and the score. What their program does beside the text are flags here.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::recipe::Preset;

/// One of the attacks. `es` gives two of the ten scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RankingPart {
    /// A candidate is raised for random queries.
    #[serde(rename = "ca+")]
    CandidateRaise,
    /// A candidate is lowered for queries that it is near to.
    #[serde(rename = "ca-")]
    CandidateLower,
    /// A query raises random candidates.
    #[serde(rename = "qa+")]
    QueryRaise,
    /// A query lowers candidates that are near to it.
    #[serde(rename = "qa-")]
    QueryLower,
    /// A query takes the direction of a random image's embedding (targeted mismatch).
    #[serde(rename = "tma")]
    TargetedMismatch,
    /// A query moves away from itself (embedding shift).
    #[serde(rename = "es")]
    EmbeddingShift,
    /// The farthest image of another class is pulled in and the nearest of the own class pushed away (learning to
    /// misrank).
    #[serde(rename = "ltm")]
    LearningToMisrank,
    /// The nearest image of another class is pulled in (greedy top-1 misranking).
    #[serde(rename = "gtm")]
    GreedyMisrank,
    /// The nearest image is pushed out of the first four (greedy top-1 translocation).
    #[serde(rename = "gtt")]
    GreedyTranslocation,
}

impl RankingPart {
    /// All, in the order of the published tables.
    pub const ALL: [Self; 9] = [
        Self::CandidateRaise,
        Self::CandidateLower,
        Self::QueryRaise,
        Self::QueryLower,
        Self::TargetedMismatch,
        Self::EmbeddingShift,
        Self::LearningToMisrank,
        Self::GreedyMisrank,
        Self::GreedyTranslocation,
    ];

    /// Its published name in lower case.
    pub fn word(self) -> &'static str {
        match self {
            Self::CandidateRaise => "ca+",
            Self::CandidateLower => "ca-",
            Self::QueryRaise => "qa+",
            Self::QueryLower => "qa-",
            Self::TargetedMismatch => "tma",
            Self::EmbeddingShift => "es",
            Self::LearningToMisrank => "ltm",
            Self::GreedyMisrank => "gtm",
            Self::GreedyTranslocation => "gtt",
        }
    }

    /// Whether the perturbed image is searched for, and not searched with.
    pub fn perturbs_candidate(self) -> bool {
        matches!(self, Self::CandidateRaise | Self::CandidateLower)
    }
}

/// What RobRank's program does beside its text; left out: what the preset says, `paper` none of it and `code` all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct RobrankQuirks {
    /// The last iterate counts, not the one with the lowest loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_iterate: Option<bool>,
    /// The shift of `es` is that of the iterate before the last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penultimate_shift: Option<bool>,
    /// In `ltm` the query's own clean image is one of its class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_is_positive: Option<bool>,
    /// In `gtm` another class is one that differs from the nearest image's, and the place of the nearest one in the
    /// list of those is taken for its place in the gallery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_index: Option<bool>,
}

/// The flags with the preset filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedQuirks {
    /// See [`RobrankQuirks::last_iterate`].
    pub last_iterate: bool,
    /// See [`RobrankQuirks::penultimate_shift`].
    pub penultimate_shift: bool,
    /// See [`RobrankQuirks::self_is_positive`].
    pub self_is_positive: bool,
    /// See [`RobrankQuirks::masked_index`].
    pub masked_index: bool,
}

/// Some or all of the attacks. In a plan each one is a trial by itself; with all of them there is a row for ERS too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Robrank {
    /// Which attacks.
    pub parts: Vec<RankingPart>,
    /// Queries that one candidate is raised or lowered for, W.
    pub w: usize,
    /// Candidates that one query raises or lowers, M.
    pub m: usize,
    /// Which reading fills in the quirks that are left open.
    pub preset: Preset,
    /// Single quirks.
    pub quirks: RobrankQuirks,
}

impl Default for Robrank {
    fn default() -> Self {
        let parts = RankingPart::ALL.to_vec();
        Self { parts, w: 1, m: 1, preset: Preset::Paper, quirks: RobrankQuirks::default() }
    }
}

impl Robrank {
    /// The only part of a trial's goal; `None` for a suite's list of several.
    pub fn part(&self) -> Option<RankingPart> {
        match self.parts[..] {
            [part] => Some(part),
            _ => None,
        }
    }

    /// Whether ERS follows from the parts.
    pub fn is_complete(&self) -> bool {
        RankingPart::ALL.iter().all(|part| self.parts.contains(part))
    }

    /// The flags, preset filled in.
    pub fn quirks(&self) -> ResolvedQuirks {
        let code = self.preset == Preset::Code;
        ResolvedQuirks {
            last_iterate: self.quirks.last_iterate.unwrap_or(code),
            penultimate_shift: self.quirks.penultimate_shift.unwrap_or(code),
            self_is_positive: self.quirks.self_is_positive.unwrap_or(code),
            masked_index: self.quirks.masked_index.unwrap_or(code),
        }
    }

    /// Images that a part is about besides the perturbed one: W queries or M candidates.
    pub fn count(&self) -> usize {
        match self.part() {
            Some(RankingPart::CandidateRaise | RankingPart::CandidateLower) => self.w,
            Some(RankingPart::QueryRaise | RankingPart::QueryLower) => self.m,
            _ => 1,
        }
    }

    /// How many other classes the gallery must have.
    pub(super) fn other_identities(&self) -> usize {
        let misranks = |part: &RankingPart| matches!(part, RankingPart::LearningToMisrank | RankingPart::GreedyMisrank);
        usize::from(self.parts.iter().any(misranks))
    }

    /// Target embeddings per image.
    pub(super) fn targets(&self) -> usize {
        if self.part() == Some(RankingPart::LearningToMisrank) { 0 } else { self.count() }
    }
}

impl fmt::Display for Robrank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part() {
            Some(part) => {
                f.write_str(part.word())?;
                match (self.count(), part.perturbs_candidate()) {
                    (1, _) => Ok(()),
                    (w, true) => write!(f, "(W={w})"),
                    (m, false) => write!(f, "(M={m})"),
                }
            }
            None => f.write_str("robrank"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_fill_in_the_flags_that_are_open() {
        let text = "preset = \"code\"\nw = 5\nparts = [\"ca+\"]\nquirks = { last_iterate = false }";
        let robrank: Robrank = toml::from_str(text).unwrap();
        assert!(!robrank.quirks().last_iterate && robrank.quirks().masked_index);
        assert_eq!((robrank.count(), robrank.to_string().as_str()), (5, "ca+(W=5)"));
        assert!(!robrank.is_complete() && Robrank::default().is_complete());
        assert!(!Robrank::default().quirks().self_is_positive);
        assert!(toml::from_str::<Robrank>("quirks = { masked = true }").is_err());
    }
}

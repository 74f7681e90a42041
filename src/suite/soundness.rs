//! The soundness checks by name: what each says, what to do where it does not hold, and whether it ends the run with
//! exit code 3.
//!
//! The checks themselves are made where their numbers are: in `attack/` and `run/`. A suite may raise or lower the weight
//! of any of them:
//!
//! ```toml
//! [checks]
//! fatal = ["more-steps-change-little"]
//! warning = ["stronger-than-noise"]
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What follows where a check does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The number is marked and the run ends with exit code 3.
    Fatal,
    /// The number is marked.
    Warning,
    /// The number is marked: not because something is wrong, but because of how it was made.
    Label,
}

/// A check in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckAbout {
    /// Its stable name.
    pub name: &'static str,
    /// What holds where it passes.
    pub holds: &'static str,
    /// What to do where it does not.
    pub otherwise: &'static str,
    /// What follows then, if the suite does not say.
    pub weight: Weight,
}

const fn check(name: &'static str, weight: Weight, holds: &'static str, otherwise: &'static str) -> CheckAbout {
    CheckAbout { name, holds, otherwise, weight }
}

use Weight::{Fatal, Label, Warning};

/// Every check, in the order in which a report lists them.
pub const CHECKS: &[CheckAbout] = &[
    check(
        "coverage",
        Fatal,
        "every query that was asked for has an outcome",
        "a trial ended early; run the suite again, finished trials are kept",
    ),
    check(
        "no-collapse",
        Fatal,
        "embeddings of different images differ",
        "the model maps everything to one point: look at its training, its normalisation, and the output that its card names",
    ),
    check(
        "two-runs-equal",
        Fatal,
        "the same images give the same embeddings twice",
        "the model draws random numbers when it answers: export it in evaluation mode without its noise; a randomised defence must be attacked in expectation, which a single gradient is not",
    ),
    check(
        "gradient-finite",
        Fatal,
        "loss and gradient are finite numbers",
        "the model overflows: look for exponentials, divisions and roots near 0 with `mdprop verify`",
    ),
    check(
        "gradient-not-zero",
        Fatal,
        "the gradient of the loss is not zero",
        "the gradient is masked (saturated activations, plateaus, rounding), so gradient attacks are blind and robust recall is not robustness: attack what is before the saturation, or use a method without gradients (square, nes)",
    ),
    check(
        "gradient-matches-differences",
        Fatal,
        "the slope of the loss is what its gradient says",
        "the gradient is not that of the model (straight-through, quantised input, random noise): add a method without gradients (square, nes) or transfer, and believe the lowest recall",
    ),
    check(
        "huge-budget-breaks",
        Fatal,
        "with an unbounded budget the attack breaks (almost) every query",
        "the search fails even where it may do anything: its gradient is masked or its steps are wrong; no number of this model's gradient attacks is a bound",
    ),
    check(
        "budget-obeyed",
        Fatal,
        "no pixel moved farther than the budget",
        "a fault of the program; please report the suite",
    ),
    check(
        "budget-obeyed-8-bit",
        Fatal,
        "the pictures saved in 8 bits obey the budget too",
        "a fault of the program; please report the suite",
    ),
    check(
        "patch-stays-inside",
        Fatal,
        "no pixel outside the patch moved",
        "a fault of the program; please report the suite",
    ),
    check("pixels-in-range", Fatal, "all pixels lie in [0, 1]", "a fault of the program; please report the suite"),
    check(
        "saved-pictures-agree",
        Warning,
        "the attacked pictures, rounded to 8 bits and embedded again, retrieve what the attack reported",
        "the attack lives in less than a grey level: what a camera or a file would keep of it is weaker than the number says",
    ),
    check(
        "zero-epsilon-equals-clean",
        Fatal,
        "a budget of zero changes no query's list",
        "the model does not answer the same twice, or a fault of the program; see two-runs-equal",
    ),
    check(
        "loss-recomputed",
        Fatal,
        "the loss that the attack saw equals its recomputation from the embeddings",
        "the attacked copy computes something else than the file (half floats, an unstable operator): run `mdprop verify`",
    ),
    check(
        "zero-gradients",
        Fatal,
        "the search lowered the loss of (almost) every image",
        "the gradient is masked or the step too long: see gradient-not-zero, and try a smaller step_size or a random start",
    ),
    check(
        "loss-not-worse",
        Fatal,
        "no image ends with a higher loss than it began with",
        "a fault of the program; please report the suite",
    ),
    check(
        "targets-sound",
        Fatal,
        "targets are of distinct identities, none the query's own",
        "a fault of the program; please report the suite",
    ),
    check(
        "batch-size-changes-little",
        Fatal,
        "another batch size gives the same outcomes",
        "the model mixes the images of a batch (batch norm in training mode?): export it in evaluation mode",
    ),
    check(
        "more-steps-change-little",
        Warning,
        "twice the steps break hardly any further query",
        "the search had not ended: raise `steps` or use apgd until this holds; the recall shown is too high",
    ),
    check(
        "monotone-in-budget",
        Fatal,
        "a larger budget never leaves more recall",
        "the search fails at the larger budget (step too long, gradient masked): raise steps or restarts, and believe the lower recall",
    ),
    check(
        "iterative-beats-one-step",
        Fatal,
        "an iterative attack does at least what one step does",
        "a typical sign of masked gradients or of steps that are too long; look at gradient-not-zero",
    ),
    check(
        "white-box-beats-transfer",
        Fatal,
        "the model's own gradient does at least what another model's does",
        "the gradient is masked: the transferred attack's recall is the honest one",
    ),
    check(
        "white-box-beats-black-box",
        Fatal,
        "the gradient does at least what a search without it does",
        "the gradient is masked: the black-box recall is the honest one",
    ),
    check(
        "transfer-beats-black-box",
        Warning,
        "another model's gradient does at least what a search without gradient does",
        "the models have little in common: transfer says nothing about this model",
    ),
    check(
        "stronger-than-noise",
        Fatal,
        "the attack does at least what noise of the same budget does",
        "the attack does not work: the search goes the wrong way or its gradient is masked",
    ),
    check(
        "transfer-beats-noise",
        Warning,
        "what was crafted elsewhere does at least what noise of the same budget does",
        "nothing transfers between these models; a transfer attack says nothing about their robustness",
    ),
    check(
        "ers-recomputed",
        Fatal,
        "the published score is what its nine parts give",
        "a fault of the program; please report the suite",
    ),
    check(
        "gradient-exact",
        Label,
        "every node on the gradient's way has a gradient of its own",
        "some nodes are passed straight through, as the card allows: add a method without gradients beside it",
    ),
    check(
        "deployed-branch-attacked",
        Label,
        "the branch that answers was attacked with its own gradient at this budget",
        "add \"main\" (or the answering branch) to crafted_on: an attack crafted on another branch is weaker than one on the branch that is deployed",
    ),
];

/// What is known of a check by its name.
pub fn about(name: &str) -> Option<&'static CheckAbout> {
    CHECKS.iter().find(|about| about.name == name)
}

/// Weights that a suite gives to checks by name; `"all"` stands for every one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct CheckMarks {
    /// Those that end the run with exit code 3. Stronger than `warning`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fatal: Vec<String>,
    /// Those that do not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warning: Vec<String>,
}

impl CheckMarks {
    /// Whether the suite leaves all weights as they are.
    pub fn is_default(&self) -> bool {
        self.fatal.is_empty() && self.warning.is_empty()
    }

    /// Weight of a check in this suite. A name that is not in [`CHECKS`] is fatal: who adds a check means it.
    ///
    /// A check named by itself goes before `"all"`, and `fatal` before `warning`. `"all"` leaves labels alone.
    pub fn weight(&self, name: &str) -> Weight {
        let names = |list: &[String], wanted: &str| list.iter().any(|n| n == wanted);
        let usual = about(name).map_or(Fatal, |about| about.weight);
        match usual {
            _ if names(&self.fatal, name) => Fatal,
            _ if names(&self.warning, name) => Warning,
            Label => Label,
            _ if names(&self.fatal, "all") => Fatal,
            _ if names(&self.warning, "all") => Warning,
            usual => usual,
        }
    }

    /// Every mistake: unknown names, a name in both lists.
    pub fn problems(&self) -> Vec<String> {
        let known = |name: &&String| *name == "all" || about(name).is_some();
        let mut problems: Vec<String> = Vec::new();
        for (list, names) in [("fatal", &self.fatal), ("warning", &self.warning)] {
            for name in names.iter().filter(|name| !known(name)) {
                let all: Vec<&str> = CHECKS.iter().map(|about| about.name).collect();
                problems.push(format!("checks.{list}: `{name}` is no check; known are all, {}", all.join(", ")));
            }
        }
        let fatal: BTreeSet<&String> = self.fatal.iter().collect();
        for name in self.warning.iter().filter(|name| fatal.contains(name)) {
            problems.push(format!("checks: `{name}` is both in fatal and in warning; leave it out of one"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(fatal: &[&str], warning: &[&str]) -> CheckMarks {
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        CheckMarks { fatal: list(fatal), warning: list(warning) }
    }

    #[test]
    fn a_suite_raises_and_lowers_weights_by_name_or_all_at_once() {
        let usual = CheckMarks::default();
        assert_eq!(usual.weight("coverage"), Fatal);
        assert_eq!(usual.weight("more-steps-change-little"), Warning);
        assert_eq!(usual.weight("gradient-exact"), Label);
        assert_eq!(usual.weight("a-new-one"), Fatal);
        let own = marks(&["gradient-exact"], &["all"]);
        assert_eq!(own.weight("gradient-exact"), Fatal);
        assert_eq!(own.weight("coverage"), Warning);
        assert_eq!(marks(&["all"], &[]).weight("more-steps-change-little"), Fatal);
        assert_eq!(marks(&["all"], &["no-collapse"]).weight("no-collapse"), Warning);
        assert_eq!(marks(&["all"], &[]).weight("deployed-branch-attacked"), Label);
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let problems = marks(&["coverge"], &[]).problems();
        assert!(problems[0].contains("`coverge` is no check") && problems[0].contains("coverage"), "{problems:?}");
        assert!(marks(&["coverage"], &["coverage"]).problems()[0].contains("both"));
        assert_eq!(marks(&["all"], &["coverage"]).problems(), Vec::<String>::new());
    }

    #[test]
    fn names_are_unique_and_everything_is_said() {
        let names: BTreeSet<&str> = CHECKS.iter().map(|about| about.name).collect();
        assert_eq!(names.len(), CHECKS.len());
        assert!(CHECKS.iter().all(|about| !about.holds.is_empty() && !about.otherwise.is_empty()));
    }
}

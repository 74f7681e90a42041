//! The performance gate: ratios of two benchmarks of one run of criterion. It warns and never fails, and has nothing to do
//! with the drift of metrics.
//!
//! A time says as much about the machine as about the program. Two times of the same run on the same machine, divided, say
//! mostly something about the program.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// `reports/baselines/speed.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeedBaseline {
    /// Version of the format, 1.
    pub schema: u32,
    /// The ratios that are watched.
    #[serde(rename = "ratio")]
    pub ratios: Vec<Ratio>,
}

/// A benchmark divided by another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// What it means, in words.
    pub about: String,
    /// The benchmark above the line, by criterion's id or the beginning of it up to a `/`.
    pub of: String,
    /// The one below.
    pub to: String,
    /// What it was.
    pub accepted: f64,
    /// By which share it may grow.
    pub slack: f64,
}

/// A ratio as measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// What was accepted.
    pub ratio: Ratio,
    /// What it is; `None` if one of the two was not measured.
    pub now: Option<f64>,
}

impl Measured {
    /// Whether it deserves a warning: slower than accepted, or not measured.
    pub fn warns(&self) -> bool {
        self.now.is_none_or(|now| !now.is_finite() || now > self.ratio.accepted * (1.0 + self.ratio.slack))
    }

    /// In words and numbers.
    pub fn in_words(&self) -> String {
        let Ratio { about, of, to, accepted, slack } = &self.ratio;
        match self.now {
            None => format!("{about}: not measured; run the benchmarks `{of}` and `{to}`"),
            Some(now) => {
                let word = if self.warns() { "slower" } else { "ok" };
                format!("{about}: {now:.2}, accepted {accepted:.2} (+{:.0} %): {word}", 100.0 * slack)
            }
        }
    }
}

/// Divides. `medians`: median time of each benchmark by its id, in any unit.
pub fn measure(baseline: &SpeedBaseline, medians: &BTreeMap<String, f64>) -> Vec<Measured> {
    let find = |id: &str| {
        let below = format!("{id}/");
        medians.iter().find(|(name, _)| *name == id || name.starts_with(&below)).map(|(_, time)| *time)
    };
    let of = |ratio: &Ratio| {
        let now = find(&ratio.of).zip(find(&ratio.to)).map(|(above, below)| above / below);
        Measured { ratio: ratio.clone(), now }
    };
    baseline.ratios.iter().map(of).collect()
}

/// One line for each ratio; with `github`, warnings as workflow commands.
pub fn text(found: &[Measured], github: bool) -> String {
    let mut out = String::new();
    for measured in found {
        let mark = match (measured.warns(), github) {
            (true, true) => "::warning title=performance::",
            (true, false) => "warning: ",
            (false, _) => "",
        };
        let _ = writeln!(out, "{mark}{}", measured.in_words());
    }
    out
}

const HEAD: &str = "# Ratios of benchmarks of one run, for `mdprop speed` after `make bench`: slower by more than the slack is a warning.\n\
                    # Written by `mdprop speed --accept`; which ratios there are, and their slack, is decided here.\n";

/// The file with the measured ratios in the place of the accepted ones.
///
/// # Errors
/// In words, if a ratio was not measured.
pub fn accept(mut baseline: SpeedBaseline, measured: &[Measured]) -> Result<String, String> {
    for (ratio, found) in baseline.ratios.iter_mut().zip(measured) {
        let now = found.now.filter(|now| now.is_finite() && *now > 0.0).ok_or_else(|| found.in_words())?;
        // Three figures: more would be noise.
        let digits = (2.0 - now.log10().floor()).max(0.0) as usize;
        ratio.accepted = format!("{now:.digits$}").parse().expect("a number that was just written");
    }
    Ok(HEAD.to_string() + &toml::to_string(&baseline).expect("plain numbers and names serialise"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline() -> SpeedBaseline {
        let text =
            "schema = 1\n[[ratio]]\nabout = \"a to b\"\nof = \"g/a\"\nto = \"g/b\"\naccepted = 3.0\nslack = 0.1\n";
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_slower_machine_is_no_warning_and_a_slower_program_is() {
        let times = |a: f64, b: f64| {
            BTreeMap::from([("g/a/64 px".to_string(), a), ("g/b".to_string(), b), ("g/ab".into(), 9.0)])
        };
        let warns = |a, b| measure(&baseline(), &times(a, b))[0].warns();
        assert!(!warns(3.0, 1.0) && !warns(300.0, 100.0) && !warns(3.2, 1.0));
        assert!(warns(3.4, 1.0));
        assert!(warns(1.0, 0.0), "no time at all is no measurement");
    }

    #[test]
    fn an_accepted_run_is_what_the_next_one_is_compared_with() {
        let times = BTreeMap::from([("g/a".to_string(), 4.0), ("g/b".to_string(), 3.0)]);
        let text = accept(baseline(), &measure(&baseline(), &times)).unwrap();
        let read: SpeedBaseline = toml::from_str(&text).unwrap();
        assert_eq!(read.ratios[0], Ratio { accepted: 1.33, ..baseline().ratios[0].clone() });
        let missing = accept(baseline(), &measure(&baseline(), &BTreeMap::new())).unwrap_err();
        assert!(missing.contains("a to b: not measured"), "{missing}");
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let found = measure(&baseline(), &BTreeMap::new());
        assert!(
            text(&found, true)
                .starts_with("::warning title=performance::a to b: not measured; run the benchmarks `g/a`")
        );
    }
}

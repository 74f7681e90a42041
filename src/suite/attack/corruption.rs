//! Kinds of damage that pictures suffer without an attacker, after Hendrycks & Dietterich 2019, arXiv:1903.12261.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Corruption {
    /// Normal noise.
    GaussianNoise,
    /// Too few photons: Poisson noise.
    ShotNoise,
    /// Values that are black or white: salt and pepper.
    ImpulseNoise,
    /// Normal noise in proportion to the value.
    SpeckleNoise,
    /// A Gaussian kernel.
    GaussianBlur,
    /// A disc.
    DefocusBlur,
    /// Frosted glass: near pixels change places.
    GlassBlur,
    /// A trail in one direction.
    MotionBlur,
    /// The camera moved towards the object.
    ZoomBlur,
    /// Plasma clouds in front.
    Fog,
    /// Flakes with trails, and a pale picture behind them.
    Snow,
    /// Ice crystals on the lens. The original pastes photographs of frost; here the crystals are ridges of plasma.
    Frost,
    /// Drops of water on the lens, or mud.
    Spatter,
    /// More light.
    Brightness,
    /// Less contrast.
    Contrast,
    /// Less or more colour.
    Saturate,
    /// Fewer, larger pixels.
    Pixelate,
    /// Small bends and a crooked frame.
    Elastic,
    /// JPEG at a low quality.
    Jpeg,
}

impl Corruption {
    /// Every kind, in the order of reports.
    pub const ALL: &'static [Self] = &[
        Self::GaussianNoise,
        Self::ShotNoise,
        Self::ImpulseNoise,
        Self::SpeckleNoise,
        Self::GaussianBlur,
        Self::DefocusBlur,
        Self::GlassBlur,
        Self::MotionBlur,
        Self::ZoomBlur,
        Self::Fog,
        Self::Snow,
        Self::Frost,
        Self::Spatter,
        Self::Brightness,
        Self::Contrast,
        Self::Saturate,
        Self::Pixelate,
        Self::Elastic,
        Self::Jpeg,
    ];

    /// The word in suites and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::GaussianNoise => "gaussian-noise",
            Self::ShotNoise => "shot-noise",
            Self::ImpulseNoise => "impulse-noise",
            Self::SpeckleNoise => "speckle-noise",
            Self::GaussianBlur => "gaussian-blur",
            Self::DefocusBlur => "defocus-blur",
            Self::GlassBlur => "glass-blur",
            Self::MotionBlur => "motion-blur",
            Self::ZoomBlur => "zoom-blur",
            Self::Fog => "fog",
            Self::Snow => "snow",
            Self::Frost => "frost",
            Self::Spatter => "spatter",
            Self::Brightness => "brightness",
            Self::Contrast => "contrast",
            Self::Saturate => "saturate",
            Self::Pixelate => "pixelate",
            Self::Elastic => "elastic",
            Self::Jpeg => "jpeg",
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The budget, in words, of the row that is the mean over all kinds and severities.
pub const CORRUPTION_MEAN: &str = "mean";

/// Which kinds at which severities; in TOML `method.corruption = {}` for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Corruptions {
    /// Kinds; left out: all.
    pub families: Vec<Corruption>,
    /// Severities from 1 (light) to 5 (heavy); left out: all five.
    pub severities: Vec<u8>,
}

impl Default for Corruptions {
    fn default() -> Self {
        Self { families: Corruption::ALL.to_vec(), severities: vec![1, 2, 3, 4, 5] }
    }
}

impl Corruptions {
    /// Every kind at every severity, kind by kind.
    pub fn each(&self) -> impl Iterator<Item = (Corruption, u8)> {
        self.families.iter().flat_map(|family| self.severities.iter().map(|severity| (*family, *severity)))
    }

    /// The kind and severity of a single trial; `None` if there are several.
    pub fn only(&self) -> Option<(Corruption, u8)> {
        match (&self.families[..], &self.severities[..]) {
            ([family], [severity]) => Some((*family, *severity)),
            _ => None,
        }
    }

    /// Every mistake.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let twice = |mut list: Vec<String>| {
            list.sort();
            list.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone())
        };
        if self.families.is_empty() {
            problems.push("corruption.families is empty; leave it out for all of them".into());
        }
        if self.severities.is_empty() {
            problems.push("corruption.severities is empty; leave it out for 1 to 5".into());
        }
        if let Some(other) = self.severities.iter().find(|s| !(1..=5).contains(*s)) {
            problems.push(format!("corruption.severities has {other}; severities are 1 (light) to 5 (heavy)"));
        }
        let families = twice(self.families.iter().map(ToString::to_string).collect());
        let severities = twice(self.severities.iter().map(ToString::to_string).collect());
        problems.extend(families.map(|name| format!("corruption.families names {name} twice")));
        problems.extend(severities.map(|severity| format!("corruption.severities names {severity} twice")));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_files() {
        for family in Corruption::ALL {
            assert_eq!(serde_json::to_value(family).unwrap(), family.word());
        }
        let all: Corruptions = toml::from_str("").unwrap();
        assert_eq!((all.families.len(), all.severities.len()), (19, 5));
        let error = toml::from_str::<Corruptions>("families = [\"rain\"]").unwrap_err();
        assert!(error.message().contains("rain") && error.message().contains("fog"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = Corruptions { families: vec![Corruption::Fog; 2], severities: vec![0, 6] };
        let problems = wrong.problems().join("\n");
        assert!(problems.contains("has 0") && problems.contains("fog twice"), "{problems}");
        assert!(Corruptions::default().problems().is_empty());
    }
}

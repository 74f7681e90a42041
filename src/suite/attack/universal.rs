//! Perturbations that are bound by their place (a patch) or shared by all images (universal).

use serde::{Deserialize, Serialize};

use super::EpsilonList;
use crate::units::{Epsilon, PixelAmount};

/// A square of free pixels; in TOML `method.patch = { size = 0.2 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// Its side as a share of the picture's, above 0 and at most 1; rounded to pixels, at least one.
    pub size: f64,
    /// Where it lies.
    #[serde(default)]
    pub place: PatchPlace,
    /// Gradient steps.
    #[serde(default = "hundred")]
    pub steps: usize,
    /// Length of a step; left out: `2.5 / steps`, at least one grey level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_size: Option<PixelAmount>,
}

/// Where a patch lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PatchPlace {
    /// Drawn for each image, anywhere inside it.
    #[default]
    Random,
    /// In the middle.
    Centre,
    /// Its upper left corner as shares of height and width, from 0 to 1, moved inside where it would stick out.
    At([f64; 2]),
}

/// One perturbation for all; in TOML `method.universal = { epsilon = "8/255" }`.
///
/// The images are cut into two halves by the suite seed. Each half gets a perturbation that was made with images of the
/// other one only, so every image is measured and none has seen its own perturbation being made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Universal {
    /// Radius in the L∞ norm, or a list of radii: one trial each.
    pub epsilon: EpsilonList,
    /// Steps, each on the next batch of training images.
    #[serde(default = "hundred")]
    pub steps: usize,
    /// Length of a step; left out: `4 · epsilon / steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_size: Option<Epsilon>,
    /// Images that it is made with, at most.
    #[serde(default = "many")]
    pub training: usize,
}

fn hundred() -> usize {
    100
}

fn many() -> usize {
    256
}

impl Patch {
    /// Every mistake.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(self.size > 0.0 && self.size <= 1.0) {
            problems.push(format!(
                "patch.size = {} must be a share of the picture's side, above 0 and at most 1; 16 of 64 pixels are 0.25",
                self.size
            ));
        }
        if let PatchPlace::At(at) = self.place
            && !at.iter().all(|share| (0.0..=1.0).contains(share))
        {
            problems.push(format!(
                "patch.place.at = {at:?} must be two shares from 0 to 1: of the height and of the width"
            ));
        }
        if self.step_size.as_ref().is_some_and(|step| step.value() == 0.0) {
            problems.push("patch.step_size is 0, so nothing would move".into());
        }
        problems
    }
}

impl Universal {
    /// Every mistake.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.training == 0 {
            problems.push("universal.training = 0 leaves nothing to make it with; leave it out for 256".into());
        }
        if self.epsilon.0.iter().chain(&self.step_size).any(|e| e.norm() != crate::units::Norm::Linf) {
            problems.push("a universal perturbation is made in the L∞ norm; write epsilon as \"8/255\"".into());
        }
        if self.step_size.as_ref().is_some_and(Epsilon::is_zero) {
            problems.push("universal.step_size is 0, so nothing would move".into());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let patch: Patch = toml::from_str("size = 16\nplace.at = [0.5, 2.0]").unwrap();
        let problems = patch.problems().join("\n");
        assert!(problems.contains("16 of 64 pixels are 0.25") && problems.contains("2.0"), "{problems}");
        let universal: Universal = toml::from_str("epsilon = { l2 = 1.0 }\ntraining = 0").unwrap();
        let problems = universal.problems().join("\n");
        assert!(problems.contains("L∞") && problems.contains("training = 0"), "{problems}");
        let fine: Universal = toml::from_str("epsilon = \"8/255\"").unwrap();
        assert_eq!((fine.problems().len(), fine.steps, fine.training), (0, 100, 256));
    }
}

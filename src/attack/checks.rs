//! Soundness checks: each measures one thing that must hold, says what it measured, and travels with the number.
//!
//! What each name means and what to do where it fails is in [`soundness`](crate::suite::soundness).

mod across;
mod model;

pub use across::{Knowledge, across, knowledge};
pub use model::{
    gradient_finite, gradient_matches_differences, gradient_not_zero, huge_budget_breaks, more_steps_change_little,
    saved_pictures_agree, two_runs_equal,
};

use crate::record::{Check, Measurement};

/// Rounding of `f32` pixels near 1, twice.
const PIXEL_ROUNDING: f64 = 2.5e-7;
/// Above this mean pairwise cosine the embedding is a point and recall says nothing about the attack.
const COLLAPSE: f64 = 0.98;
/// Largest share of images whose loss may stay where it started.
const UNMOVED: f64 = 0.05;
/// Largest share of outcomes that another batch size may change.
const OTHER_BATCH: f64 = 0.005;
/// Largest difference, relative to `max(1, |loss|)`, between the graph's loss and its recomputation.
const LOSS_DIFFERENCE: f64 = 1e-3;

fn check(name: &str, passed: bool, detail: String) -> Check {
    Check { name: name.into(), passed, detail }
}

/// The adversarial pixels lie in the ball. `excess`: the largest change minus its radius.
pub fn budget_obeyed(excess: f64) -> Check {
    let detail =
        format!("the largest change exceeds its radius by {:.1e} (allowed {PIXEL_ROUNDING:.1e})", excess.max(0.0));
    check("budget-obeyed", excess <= PIXEL_ROUNDING, detail)
}

/// The 8-bit picture that is stored lies in the ball too, and plain rounding leaves it by half a level at most.
///
/// `inside`: excess of the stored bytes, which are rounded to the nearest level inside the budget; `plain`: excess of
/// the nearest level whatsoever.
pub fn budget_obeyed_in_8_bits(inside: f64, plain: f64) -> Check {
    let passed = inside <= 1e-6 && plain <= 0.5 / 255.0 + 1e-6;
    let detail = format!(
        "stored bytes exceed the radius by {:.1e}; plain rounding would by {:.2} grey levels",
        inside.max(0.0),
        plain.max(0.0) * 255.0
    );
    check("budget-obeyed-8-bit", passed, detail)
}

/// A patch changes nothing around it.
pub fn patch_stays_inside(outside: usize) -> Check {
    check("patch-stays-inside", outside == 0, format!("{outside} pixels outside the patch moved"))
}

/// All adversarial pixels lie in `[0, 1]`.
pub fn pixels_in_range(lowest: f32, highest: f32) -> Check {
    check("pixels-in-range", lowest >= 0.0 && highest <= 1.0, format!("pixels in [{lowest}, {highest}]"))
}

/// With a zero radius every query finds what it finds clean.
pub fn zero_epsilon_equals_clean(differing: usize, queries: usize) -> Check {
    let detail = format!("{differing} of {queries} queries differ from the clean trial");
    check("zero-epsilon-equals-clean", differing == 0, detail)
}

/// The loss that the attack graph saw equals the loss recomputed from embeddings in `f64`.
///
/// `difference`: the largest, relative to `max(1, |loss|)`.
pub fn loss_recomputed(difference: f64) -> Check {
    let detail = format!("largest relative difference {difference:.1e} (allowed {LOSS_DIFFERENCE:.0e})");
    check("loss-recomputed", difference <= LOSS_DIFFERENCE, detail)
}

/// A mark rather than a failure: the gradient of some nodes is a straight-through one, which the user asked for. `None`
/// if the gradient is exact.
pub fn gradient_exact(straight_through: &[String]) -> Option<Check> {
    let nodes = straight_through.len();
    let shown = straight_through.iter().take(5).map(|node| format!("`{node}`")).collect::<Vec<_>>().join(", ");
    let more = if nodes > 5 { ", ..." } else { "" };
    let detail =
        format!("straight-through gradient at {nodes} nodes ({shown}{more}): the attack may be weaker than it could");
    (nodes > 0).then(|| check(Check::GRADIENT_EXACT, false, detail))
}

/// Few images have a loss that never fell below its start: more hint at masked or zero gradients. One of several says
/// nothing about the gradient, however few they are.
pub fn zero_gradients(unmoved: usize, images: usize) -> Check {
    let share = unmoved as f64 / images.max(1) as f64;
    let detail = format!(
        "the loss of {unmoved} of {images} images never fell below its start (allowed {:.0} %, or one image)",
        UNMOVED * 100.0
    );
    check("zero-gradients", share <= UNMOVED || (unmoved == 1 && images > 1), detail)
}

/// The kept iterate is never worse than the first one.
pub fn loss_not_worse(worse: usize, images: usize) -> Check {
    check("loss-not-worse", worse == 0, format!("{worse} of {images} images end with a higher loss than they started"))
}

/// Targets are of distinct identities, none of them the query's own. One pair (own identity, target identities) each.
pub fn targets_sound<'a>(queries: impl IntoIterator<Item = (u32, &'a [u32])>) -> Check {
    let (mut own_identity, mut repeated, mut count) = (0usize, 0usize, 0usize);
    for (own, targets) in queries {
        count += 1;
        own_identity += usize::from(targets.contains(&own));
        let mut sorted = targets.to_vec();
        sorted.sort_unstable();
        repeated += usize::from(sorted.windows(2).any(|pair| pair[0] == pair[1]));
    }
    let detail =
        format!("{own_identity} of {count} queries aim at their own identity, {repeated} at one identity twice");
    check("targets-sound", own_identity + repeated == 0, detail)
}

/// The clean embedding has not collapsed to a point.
pub fn no_collapse(mean_cosine: f64) -> Check {
    let detail = format!("mean cosine of two different clean images {mean_cosine:.3} (allowed below {COLLAPSE})");
    check("no-collapse", mean_cosine < COLLAPSE, detail)
}

/// ERS as the mean over images equals ERS of the ten scores. `of_scores`: `None` if one of them is undefined.
pub fn ers_recomputed(of_images: f64, of_scores: Option<f64>) -> Check {
    let difference = of_scores.map(|other| (of_images - other).abs());
    let detail = match difference {
        Some(difference) => format!("the mean over images and that of the ten scores differ by {difference:.1e}"),
        None => "one of the ten scores is undefined".into(),
    };
    check("ers-recomputed", difference.is_some_and(|d| d < 1e-6), detail)
}

/// Every query that was asked for has an outcome.
pub fn coverage(evaluated: usize, wanted: usize, available: usize) -> Check {
    check("coverage", evaluated == wanted, format!("{evaluated} of {wanted} queries evaluated, {available} available"))
}

/// Another batch size gives the same outcomes but for rounding.
///
/// `differing` of `outcomes`, one for each query and k of recall@k.
pub fn batch_size_changes_little(differing: usize, outcomes: usize, other: usize) -> Check {
    let share = differing as f64 / outcomes.max(1) as f64;
    let detail = format!(
        "{differing} of {outcomes} outcomes differ with {other} images at once (allowed {:.1} %)",
        OTHER_BATCH * 100.0
    );
    check("batch-size-changes-little", outcomes > 0 && share <= OTHER_BATCH, detail)
}

/// An attack does at least what noise of the same radius does; `None` if the two rows do not belong together.
///
/// Targeted goals are compared by success, untargeted ones by recall@k at the smallest k. The attack may lie anywhere
/// above the weaker end of the noise's interval: below it, a few lucky queries no longer explain it.
pub fn stronger_than_noise(attack: &Measurement, noise: &Measurement) -> Option<Check> {
    let setting = |m: &Measurement| {
        let model = (m.model.clone(), m.model_seed, m.artefact.clone(), m.answered_by.clone());
        (m.dataset.clone(), model, m.side.clone(), m.goal.clone(), m.epsilon.clone(), m.seed)
    };
    // Uniform or Gaussian: neither is an attack.
    let gradient = !attack.method.ends_with("noise") && attack.method != "none";
    if !gradient || !noise.method.ends_with("noise") || setting(attack) != setting(noise) {
        return None;
    }
    if attack.error.is_some() || noise.error.is_some() {
        return None;
    }
    let (passed, detail) = match (&attack.success, &noise.success) {
        (Some(a), Some(n)) => (a.value >= n.low, format!("success {:.3}, noise alone {:.3}", a.value, n.value)),
        _ => {
            let (a, n) = (attack.recall.first()?, noise.recall.first()?);
            let detail = format!("recall@{} {:.3}, under noise alone {:.3}", a.k, a.estimate.value, n.estimate.value);
            (a.k == n.k && a.estimate.value <= n.estimate.high, detail)
        }
    };
    Some(check("stronger-than-noise", passed, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Estimate, RecallAt};

    #[test]
    fn every_check_holds_and_fires() {
        let pairs = [
            (budget_obeyed(1e-8), budget_obeyed(1e-5)),
            (budget_obeyed_in_8_bits(0.0, 0.4 / 255.0), budget_obeyed_in_8_bits(0.003, 0.003)),
            (pixels_in_range(0.0, 1.0), pixels_in_range(-0.001, 0.9)),
            (patch_stays_inside(0), patch_stays_inside(3)),
            (zero_epsilon_equals_clean(0, 9), zero_epsilon_equals_clean(1, 9)),
            (loss_recomputed(1e-5), loss_recomputed(0.01)),
            (zero_gradients(5, 100), zero_gradients(6, 100)),
            (zero_gradients(1, 4), zero_gradients(2, 4)),
            (zero_gradients(0, 1), zero_gradients(1, 1)),
            (loss_not_worse(0, 5), loss_not_worse(1, 5)),
            (batch_size_changes_little(5, 1000, 8), batch_size_changes_little(6, 1000, 8)),
            (targets_sound([(1, &[2u32, 3][..])]), targets_sound([(1, &[2u32, 2][..])])),
            (targets_sound([(1, &[2u32][..])]), targets_sound([(1, &[2u32, 1][..])])),
            (no_collapse(0.3), no_collapse(0.985)),
            (ers_recomputed(33.3, Some(33.3)), ers_recomputed(33.3, Some(33.4))),
            (ers_recomputed(33.3, Some(33.3)), ers_recomputed(33.3, None)),
            (coverage(9, 9, 20), coverage(8, 9, 20)),
        ];
        for (holds, fires) in pairs {
            assert!(holds.passed, "{holds:?}");
            assert!(!fires.passed, "{fires:?}");
            assert_eq!(holds.name, fires.name);
        }
        let marked = gradient_exact(&["round".into()]).unwrap();
        assert!(marked.is_label() && !marked.passed && marked.detail.contains("`round`"));
        assert_eq!(gradient_exact(&[]), None);
        assert!(!loss_recomputed(f64::NAN).passed && !budget_obeyed(f64::NAN).passed);
        assert!(!pixels_in_range(f32::NAN, 1.0).passed && !no_collapse(f64::NAN).passed);
    }

    fn row(method: &str, success: Option<f64>, recall: f64) -> Measurement {
        let estimate = |value: f64| Estimate { value, low: value - 0.02, high: value + 0.02, ..Estimate::default() };
        Measurement {
            model: "m".into(),
            model_seed: 1,
            attack: method.into(),
            goal: "single-target".into(),
            method: method.into(),
            side: "query".into(),
            crafted_on: "main".into(),
            answered_by: "main".into(),
            epsilon: "8/255".into(),
            epsilon_pixels: 8.0 / 255.0,
            recall: vec![RecallAt { k: 1, estimate: estimate(recall) }],
            success: success.map(estimate),
            ..Measurement::default()
        }
    }

    #[test]
    fn noise_must_not_beat_an_attack() {
        let noise = row("noise", Some(0.10), 0.5);
        assert!(stronger_than_noise(&row("pgd", Some(0.60), 0.2), &noise).unwrap().passed);
        assert!(stronger_than_noise(&row("pgd", Some(0.09), 0.5), &noise).unwrap().passed);
        assert!(!stronger_than_noise(&row("pgd", Some(0.05), 0.2), &noise).unwrap().passed);
        let noise = row("noise", None, 0.5);
        assert!(stronger_than_noise(&row("pgd", None, 0.1), &noise).unwrap().passed);
        assert!(!stronger_than_noise(&row("pgd", None, 0.6), &noise).unwrap().passed);
        let other = Measurement { epsilon: "4/255".into(), ..noise.clone() };
        assert_eq!(stronger_than_noise(&row("pgd", None, 0.1), &other), None);
        assert_eq!(stronger_than_noise(&noise, &noise), None);
    }
}

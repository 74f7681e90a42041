//! Checks of a model rather than of a number: whether its gradient can be followed at all. Every number of an attack that
//! follows it carries them.

use super::check;
use crate::record::Check;

/// Largest distance between two embeddings of the same image, as a share of its length. Zero on a CPU; a GPU adds in any
/// order.
const TWO_RUNS: f64 = 1e-4;
/// Largest share of images without any gradient.
const WITHOUT_GRADIENT: f64 = 0.1;
/// Largest share of pixels without gradient, over all images.
const FLAT_PIXELS: f64 = 0.95;
/// Largest relative difference between slope and gradient, the median over images.
const SLOPE_ERROR: f64 = 0.25;
/// Largest share of queries that may survive a budget without bound.
const UNBROKEN: f64 = 0.1;
/// Largest share of queries that twice the steps may change.
const MORE_STEPS: f64 = 0.1;
/// Largest share of queries whose picture in 8 bits may retrieve something else.
const SAVED: f64 = 0.1;

/// The same images embedded twice give the same embeddings. `difference`: the largest, as a share of the length.
pub fn two_runs_equal(difference: f64, images: usize) -> Check {
    let detail = format!(
        "{images} images embedded twice differ by at most {difference:.1e} of their length (allowed {TWO_RUNS:.0e})"
    );
    check("two-runs-equal", difference <= TWO_RUNS, detail)
}

/// Loss and gradient are finite. `bad`: what is not, in words.
pub fn gradient_finite(bad: Option<&str>, images: usize) -> Check {
    let detail = match bad {
        Some(bad) => bad.to_string(),
        None => format!("loss and gradient of {images} images are finite"),
    };
    check("gradient-finite", bad.is_none(), detail)
}

/// The gradient is not zero. `flat_images` have none at all; `flat_pixels`: share of its entries that are exactly zero.
pub fn gradient_not_zero(flat_images: usize, images: usize, flat_pixels: f64) -> Check {
    let share = flat_images as f64 / images.max(1) as f64;
    let detail = format!(
        "the gradient of {flat_images} of {images} images is zero everywhere (allowed {:.0} %), {:.1} % of its entries are (allowed {:.0} %)",
        100.0 * WITHOUT_GRADIENT,
        100.0 * flat_pixels,
        100.0 * FLAT_PIXELS
    );
    check("gradient-not-zero", images > 0 && share <= WITHOUT_GRADIENT && flat_pixels <= FLAT_PIXELS, detail)
}

/// The loss changes along the gradient's sign as the gradient says. `error`: median over images of `|slope / expected − 1|`.
pub fn gradient_matches_differences(error: f64, images: usize) -> Check {
    let detail = format!(
        "measured slopes of {images} images differ from the gradient's by {:.1} % in the median (allowed {:.0} %)",
        100.0 * error,
        100.0 * SLOPE_ERROR
    );
    check("gradient-matches-differences", error <= SLOPE_ERROR, detail)
}

/// With an unbounded budget, (almost) no query still finds its class first.
pub fn huge_budget_breaks(unbroken: usize, queries: usize) -> Check {
    let share = unbroken as f64 / queries.max(1) as f64;
    let detail = format!(
        "{unbroken} of {queries} queries still find their class first with an unbounded budget (allowed {:.0} %)",
        100.0 * UNBROKEN
    );
    check("huge-budget-breaks", share <= UNBROKEN, detail)
}

/// Twice the steps give the same outcomes. `further`: queries that they break besides; `fewer`: that they do not break.
pub fn more_steps_change_little(further: usize, fewer: usize, queries: usize, steps: usize) -> Check {
    let share = further.saturating_sub(fewer) as f64 / queries.max(1) as f64;
    let detail = format!(
        "of {queries} queries, {steps} steps break {further} that half of them do not, and miss {fewer} that half of them break (allowed {:.0} % more)",
        100.0 * MORE_STEPS
    );
    check("more-steps-change-little", share <= MORE_STEPS, detail)
}

/// The attacked pictures, rounded to bytes and embedded again, give the outcomes of the attack.
pub fn saved_pictures_agree(differing: usize, pictures: usize) -> Check {
    let share = differing as f64 / pictures.max(1) as f64;
    let detail = format!(
        "{differing} of {pictures} pictures, rounded to 8 bits and embedded again, are right or wrong otherwise (allowed {:.0} %)",
        100.0 * SAVED
    );
    check("saved-pictures-agree", share <= SAVED, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_holds_and_fires() {
        let pairs = [
            (two_runs_equal(0.0, 8), two_runs_equal(1e-3, 8)),
            (gradient_finite(None, 8), gradient_finite(Some("the loss of image 3 is NaN"), 8)),
            (gradient_not_zero(0, 8, 0.2), gradient_not_zero(8, 8, 1.0)),
            (gradient_not_zero(0, 8, 0.2), gradient_not_zero(0, 8, 0.99)),
            (gradient_matches_differences(0.02, 8), gradient_matches_differences(0.9, 8)),
            (huge_budget_breaks(0, 32), huge_budget_breaks(8, 32)),
            (more_steps_change_little(2, 0, 32, 40), more_steps_change_little(8, 1, 32, 40)),
            (saved_pictures_agree(3, 64), saved_pictures_agree(20, 64)),
        ];
        for (holds, fires) in pairs {
            assert!(holds.passed, "{holds:?}");
            assert!(!fires.passed, "{fires:?}");
            assert_eq!(holds.name, fires.name);
            assert!(crate::suite::soundness::about(&holds.name).is_some(), "{} is not explained", holds.name);
        }
        let nothing_measured = [two_runs_equal(f64::NAN, 8), gradient_matches_differences(f64::NAN, 8)];
        assert!(nothing_measured.iter().all(|c| !c.passed) && !gradient_not_zero(0, 0, 0.0).passed);
    }
}

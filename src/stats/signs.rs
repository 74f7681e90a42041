//! The sign-flip test: is the sum of paired differences larger than fair coins would make it?
//!
//! Under "no difference" the sum of each unit (a class of queries) could as well have had the other sign. The tail of
//! `T = Σ ±sₖ` is computed, not drawn: whole numbers exactly, up to 16 units by all their signs, the rest by a
//! saddlepoint, whose relative error is below a percent where a decision is made.

use super::normal;

/// Units whose sign patterns are all visited.
const ENUMERATED: usize = 16;

/// Work (units × total) up to which the distribution of a sum of whole numbers is built exactly.
const EXACT_WORK: f64 = 2e6;

/// `P(T ≥ Σ sₖ)`: the one-sided p-value of "the differences are positive". 1 if no unit differs.
///
/// Negate the sums for the other side. Two-sided: twice the smaller one, as `T` is symmetric.
///
/// ```
/// use mdprop::stats::signs::p_value;
///
/// // Five classes, all positive: one of the 32 patterns.
/// assert_eq!(p_value(&[1.0, 2.0, 1.0, 3.0, 1.0]), 1.0 / 32.0);
/// ```
///
/// # Source
/// Good 2005, "Permutation, Parametric and Bootstrap Tests of Hypotheses", section 3.2 (matched pairs); the saddlepoint of
/// Lugannani & Rice 1980, as Robinson 1982 uses it for permutation tests.
pub fn p_value(sums: &[f64]) -> f64 {
    let sizes: Vec<f64> = sums.iter().map(|s| s.abs()).filter(|s| *s > 0.0).collect();
    let (seen, total): (f64, f64) = (sums.iter().sum(), sizes.iter().sum());
    if sizes.is_empty() {
        return 1.0;
    }
    // Rounding of another order of summation is no difference.
    let seen = seen - 1e-12 * total;
    let whole = sizes.iter().all(|s| s.fract() == 0.0);
    if whole && sizes.len() as f64 * total <= EXACT_WORK {
        of_whole_numbers(&sizes, seen)
    } else if sizes.len() <= ENUMERATED {
        of_all_patterns(&sizes, seen)
    } else {
        // A lattice is met half a step below.
        saddlepoint(&sizes, if whole { seen.round() - 1.0 } else { seen }, total)
    }
}

/// The distribution built unit by unit: `share[j]` is the chance of j below the line.
fn of_whole_numbers(sizes: &[f64], seen: f64) -> f64 {
    let total: f64 = sizes.iter().sum();
    let mut share = vec![0.0f64; total as usize + 1];
    share[0] = 1.0;
    let mut reach = 0;
    for size in sizes.iter().map(|s| *s as usize) {
        reach += size;
        // T = total − 2j, j being the sum of the units whose sign is negative.
        for j in (0..=reach).rev() {
            let moved = if j >= size { share[j - size] } else { 0.0 };
            share[j] = 0.5 * (share[j] + moved);
        }
    }
    let most = ((total - seen) / 2.0).floor().max(0.0) as usize;
    share.iter().take(most + 1).sum::<f64>().min(1.0)
}

fn of_all_patterns(sizes: &[f64], seen: f64) -> f64 {
    let patterns = 1u32 << sizes.len();
    let sum = |pattern: u32| -> f64 {
        sizes.iter().enumerate().map(|(k, s)| if pattern >> k & 1 == 0 { *s } else { -s }).sum()
    };
    (0..patterns).filter(|&pattern| sum(pattern) >= seen).count() as f64 / f64::from(patterns)
}

/// `1 − Φ(w) + φ(w)(1/u − 1/w)` with the cumulants of `Σ ±sₖ`, `K(θ) = Σ ln cosh θsₖ`.
fn saddlepoint(sizes: &[f64], seen: f64, total: f64) -> f64 {
    if seen < 0.0 {
        return (1.0 - saddlepoint(sizes, -seen, total)).clamp(0.0, 1.0);
    }
    if seen >= total * (1.0 - 1e-9) {
        return 0.5f64.powi(sizes.len() as i32);
    }
    let variance: f64 = sizes.iter().map(|s| s * s).sum();
    if seen * seen < 1e-8 * variance {
        return 0.5;
    }
    // K'(θ) = Σ s tanh θs grows from 0 to the total: bisection cannot fail.
    let slope = |theta: f64| sizes.iter().map(|s| s * (theta * s).tanh()).sum::<f64>();
    let (mut low, mut high) = (0.0, 1.0 / variance.sqrt());
    while slope(high) < seen && high < 1e12 {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if slope(middle) < seen { low = middle } else { high = middle }
    }
    let theta = 0.5 * (low + high);
    // ln cosh without overflow.
    let ln_cosh = |x: f64| x + (-2.0 * x).exp().ln_1p() - std::f64::consts::LN_2;
    let cumulant: f64 = sizes.iter().map(|s| ln_cosh(theta * s)).sum();
    let curvature: f64 = sizes.iter().map(|s| (s / (theta * s).cosh()).powi(2)).sum();
    let w = (2.0 * (theta * seen - cumulant)).max(0.0).sqrt();
    let u = theta * curvature.sqrt();
    if w < 1e-4 || u <= 0.0 {
        return 1.0 - normal::cdf(seen / variance.sqrt());
    }
    let density = (-0.5 * w * w).exp() / std::f64::consts::TAU.sqrt();
    (normal::cdf(-w) + density * (1.0 / u - 1.0 / w)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;
    use crate::stats::mcnemar::Discordance;
    use approx::assert_relative_eq;

    #[test]
    fn single_queries_give_mcnemars_test() {
        // Every class has one query: the sign-flip test is the exact binomial one.
        for (b, c) in [(9, 1), (30, 12), (84, 55), (5, 5)] {
            let sums: Vec<f64> = [vec![1.0; b], vec![-1.0; c], vec![0.0; 7]].concat();
            let two_sided = Discordance { only_a: c as u64, only_b: b as u64 }.p_value();
            assert_relative_eq!((2.0 * p_value(&sums)).min(1.0), two_sided, max_relative = 1e-9);
        }
    }

    #[test]
    fn three_ways_agree() {
        let sums: Vec<f64> = (0..16).map(|k| f64::from([3, 1, 2, -1, 4, 1, -2, 1][k % 8])).collect();
        let seen = sums.iter().sum::<f64>() - 1e-9;
        let sizes: Vec<f64> = sums.iter().map(|s| s.abs()).collect();
        assert_relative_eq!(of_whole_numbers(&sizes, seen), of_all_patterns(&sizes, seen), max_relative = 1e-12);
        // Real numbers, 40 units, deep in the tail: against two million drawn patterns.
        let mut stream = rng::stream(3, "sums", &[]);
        let sums: Vec<f64> = (0..40).map(|_| rng::unit_f64(&mut stream) * 2.0 - 0.6).collect();
        let (seen, draws) = (sums.iter().sum::<f64>(), 2_000_000u32);
        let mut as_large = 0u32;
        for _ in 0..draws {
            let mut bits = rand::RngCore::next_u64(&mut stream);
            let mut t = 0.0;
            for s in &sums {
                t += if bits & 1 == 0 { *s } else { -s };
                bits >>= 1;
            }
            as_large += u32::from(t >= seen);
        }
        let drawn = f64::from(as_large) / f64::from(draws);
        let (p, error) = (p_value(&sums), (drawn / f64::from(draws)).sqrt());
        assert!((p - drawn).abs() < 0.01 * drawn + 4.0 * error, "{p} beside {drawn} ± {error}");
    }

    #[test]
    fn the_saddlepoint_meets_the_exact_tail_of_a_lattice() {
        // The total is odd, and so is every sum.
        let sizes: Vec<f64> = (0..400).map(|k| f64::from(1 + k % 3)).collect();
        let total: f64 = sizes.iter().sum();
        for seen in [1.0, 41.0, 91.0, 141.0, 201.0] {
            let exact = of_whole_numbers(&sizes, seen);
            assert_relative_eq!(saddlepoint(&sizes, seen - 1.0, total), exact, max_relative = 0.01);
        }
    }

    #[test]
    fn edges() {
        assert_eq!(p_value(&[]), 1.0);
        assert_eq!(p_value(&[0.0, 0.0]), 1.0);
        assert_eq!(p_value(&[2.0]), 0.5);
        assert_eq!(p_value(&[-2.0]), 1.0);
        let many = vec![0.25; 100];
        assert_eq!(p_value(&many), 0.5f64.powi(100));
        assert!(p_value(&many.iter().map(|s| -s).collect::<Vec<_>>()) > 0.999);
    }
}

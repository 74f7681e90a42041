//! The standard normal distribution, to nearly the last digit of `f64`.

/// `P(X ≤ x)`.
///
/// ```
/// use mdprop::stats::normal::cdf;
///
/// assert!((cdf(1.959963984540054) - 0.975).abs() < 1e-15);
/// ```
pub fn cdf(x: f64) -> f64 {
    if x.is_nan() {
        return f64::NAN;
    }
    let tail = upper_tail(x.abs());
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// `P(X > x)` for `x ≥ 0`: the Taylor series of Φ near 0, the continued fraction of Mills' ratio beyond.
///
/// Abramowitz & Stegun 1964, 26.2.11 and 26.2.14.
fn upper_tail(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    if x < 2.5 {
        let (mut term, mut sum, mut n) = (x, x, 1.0);
        while term > sum * 1e-17 {
            n += 2.0;
            term *= x * x / n;
            sum += term;
        }
        return 0.5 - density * sum;
    }
    if x > 40.0 {
        return 0.0;
    }
    let fraction = (1..=200).rev().fold(x, |below, k| x + f64::from(k) / below);
    density / fraction
}

/// The x with `P(X ≤ x) = p`; infinite at 0 and 1, NaN outside.
///
/// ```
/// use mdprop::stats::normal::quantile;
///
/// assert!((quantile(0.975) - 1.959963984540054).abs() < 1e-14);
/// ```
pub fn quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    // Abramowitz & Stegun 26.2.23 is right to 4.5e-4; Newton's step with a second-order correction (Halley) triples the
    // digits each time.
    let t = (-2.0 * p.ln()).sqrt();
    let above = 2.515517 + t * (0.802853 + t * 0.010328);
    let mut x = above / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t;
    for _ in 0..3 {
        let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        let step = (cdf(x) - p) / density;
        x -= step / (1.0 + 0.5 * x * step);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_scipy() {
        // scipy 1.17.1: scipy.stats.norm.cdf(x)
        for (x, wanted) in [
            (0.0, 0.5),
            (0.1, 0.539827837277029),
            (-1.0, 0.15865525393145707),
            (2.4999, 0.9937885816250555),
            (2.5001, 0.9937920872851848),
            (-6.0, 9.865876450376946e-10),
            (-20.0, 2.7536241186061556e-89),
        ] {
            approx::assert_relative_eq!(cdf(x), wanted, max_relative = 1e-12);
        }
    }

    #[test]
    fn the_quantile_undoes_the_distribution() {
        for p in [1e-300, 1e-12, 1e-4, 0.01, 0.025, 0.3, 0.5, 0.77, 0.999, 1.0 - 1e-12] {
            approx::assert_relative_eq!(cdf(quantile(p)), p, max_relative = 1e-11);
        }
        assert_eq!((quantile(0.0), quantile(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
        assert!(quantile(-0.1).is_nan() && quantile(f64::NAN).is_nan());
    }
}

//! The exact McNemar test: do two models hit different queries more often than a coin would say?

use super::normal;

/// Queries on which two models disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Discordance {
    /// Hit by A only.
    pub only_a: u64,
    /// Hit by B only.
    pub only_b: u64,
}

impl Discordance {
    /// Counts the disagreements of two paired lists.
    ///
    /// # Panics
    /// If the lists differ in length.
    pub fn count(a: &[bool], b: &[bool]) -> Self {
        assert_eq!(a.len(), b.len(), "the same queries in both");
        a.iter().zip(b).fold(Self::default(), |found, pair| match pair {
            (true, false) => Self { only_a: found.only_a + 1, ..found },
            (false, true) => Self { only_b: found.only_b + 1, ..found },
            _ => found,
        })
    }

    /// Two-sided p-value: `min(1, 2 · P(X ≤ min(only_a, only_b)))` with `X ~ Binomial(only_a + only_b, 1/2)`.
    ///
    /// 1 if the models never disagree.
    ///
    /// ```
    /// use mdprop::stats::mcnemar::Discordance;
    ///
    /// // Ten disagreements, one in A's favour: 2 · (1 + 10) / 1024.
    /// let p = Discordance { only_a: 1, only_b: 9 }.p_value();
    /// assert!((p - 22.0 / 1024.0).abs() < 1e-12);
    /// ```
    ///
    /// # Source
    /// McNemar 1947, "Note on the sampling error of the difference between correlated proportions"; the exact form.
    pub fn p_value(self) -> f64 {
        (2.0 * self.lower_tail()).min(1.0)
    }

    /// `P(X ≤ min(only_a, only_b))`.
    fn lower_tail(self) -> f64 {
        let n = self.only_a + self.only_b;
        let fewest = self.only_a.min(self.only_b);
        // ln of the largest term, C(n, fewest) / 2^n; the others follow by C(n, j − 1) = C(n, j) · j / (n − j + 1).
        let mut largest = -(n as f64) * std::f64::consts::LN_2;
        for j in 1..=fewest {
            largest += ((n - fewest + j) as f64 / j as f64).ln();
        }
        let (mut term, mut sum) = (1.0f64, 1.0f64);
        for j in (1..=fewest).rev() {
            term *= j as f64 / (n - j + 1) as f64;
            sum += term;
            if term < sum * 1e-17 {
                break;
            }
        }
        (largest + sum.ln()).exp().min(1.0)
    }
}

impl Discordance {
    /// One-sided p-value of "B is worse": `P(X ≤ only_b)` with `X ~ Binomial(only_a + only_b, 1/2)`; swap the two for
    /// "better". 1 if the models never disagree.
    ///
    /// ```
    /// use mdprop::stats::mcnemar::Discordance;
    ///
    /// // One of ten disagreements in B's favour: (1 + 10) / 1024.
    /// let p = Discordance { only_a: 9, only_b: 1 }.p_worse();
    /// assert!((p - 11.0 / 1024.0).abs() < 1e-12);
    /// ```
    pub fn p_worse(self) -> f64 {
        if self.only_b < self.only_a {
            return self.lower_tail();
        }
        // P(X ≤ b) = 1 − P(X ≤ a − 1) for b ≥ a, by symmetry.
        if self.only_a == 0 {
            return 1.0;
        }
        let shifted = Self { only_a: self.only_a - 1, only_b: self.only_b + 1 };
        (1.0 - shifted.lower_tail()).clamp(0.0, 1.0)
    }
}

impl Discordance {
    /// Queries that a test at level `alpha` (two-sided) would need to see a difference like this one with probability
    /// `power`, if `queries` queries gave these disagreements. `None` if there is no difference to see.
    ///
    /// `n = (z_{1−α/2} √ψ + z_{power} √(ψ − δ²))² / δ²` with ψ the share of disagreements and δ the difference.
    ///
    /// ```
    /// use mdprop::stats::mcnemar::Discordance;
    ///
    /// // 10 % disagree, 3 points of difference: about 870 queries.
    /// let n = Discordance { only_a: 35, only_b: 65 }.queries_needed(1000, 0.05, 0.8).unwrap();
    /// assert_eq!(n, 870);
    /// ```
    ///
    /// # Source
    /// Connor 1987, "Sample size for testing differences in proportions for the paired-sample design".
    pub fn queries_needed(self, queries: usize, alpha: f64, power: f64) -> Option<u64> {
        let n = queries as f64;
        let share = (self.only_a + self.only_b) as f64 / n;
        let difference = (self.only_a as f64 - self.only_b as f64).abs() / n;
        if difference == 0.0 || !difference.is_finite() {
            return None;
        }
        let (alpha, power) = (normal::quantile(1.0 - alpha / 2.0), normal::quantile(power));
        let needed = (alpha * share.sqrt() + power * (share - difference * difference).max(0.0).sqrt()) / difference;
        Some((needed * needed).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_scipy() {
        // scipy 1.17.1: binomtest(min(a, b), a + b, 0.5).pvalue
        let wanted = [
            (0, 0, 1.0),
            (5, 5, 1.0),
            (3, 12, 0.03515625),
            (40, 60, 0.05688793364098089),
            (210, 290, 0.00040041553683977163),
            (4800, 5200, 6.593515598672343e-05),
            (0, 60, 1.734723475976807e-18),
        ];
        for (only_a, only_b, p) in wanted {
            let ours = Discordance { only_a, only_b }.p_value();
            approx::assert_relative_eq!(ours, p, max_relative = 1e-9);
            assert_eq!(ours, Discordance { only_a: only_b, only_b: only_a }.p_value());
        }
    }

    #[test]
    fn counts_only_disagreements() {
        let found = Discordance::count(&[true, true, false, false, true], &[true, false, true, false, false]);
        assert_eq!(found, Discordance { only_a: 2, only_b: 1 });
    }
}

//! ERS, the empirical robustness score of RobRank: ten scores of ranking attacks, rescaled to 0–100 and averaged.
//!
//! # Source
//! Zhou et al., arXiv:2106.03614, section 5, and the program that makes its tables. Every score is the mean of a value
//! per image, and rescaling is linear: so ERS is a mean over images too, and has its interval.

use super::kind::Metric;

/// The ten scores, in the order of the published tables, as metrics.
pub const SCORES: [Metric; 10] = [
    Metric::CaPlus,
    Metric::CaMinus,
    Metric::QaPlus,
    Metric::QaMinus,
    Metric::Tma,
    Metric::EsD,
    Metric::EsR,
    Metric::Ltm,
    Metric::Gtm,
    Metric::Gtt,
];

/// A score on the common scale: 0 is broken, 100 is untouched. `None` for a metric that is none of [`SCORES`].
///
/// Not cut off: a query that an attack meant to raise to rank 50 % of the gallery and that lies beyond gives more than
/// 100, as published.
///
/// ```
/// use mdprop::metric::ers::rescaled;
/// use mdprop::metric::kind::Metric;
///
/// assert_eq!(rescaled(Metric::CaPlus, 12.5), Some(25.0));
/// assert_eq!(rescaled(Metric::EsD, 0.5), Some(75.0));
/// assert_eq!(rescaled(Metric::Mrr, 0.5), None);
/// ```
pub fn rescaled(score: Metric, value: f64) -> Option<f64> {
    Some(match score {
        Metric::CaPlus | Metric::QaPlus => 2.0 * value,
        Metric::CaMinus | Metric::QaMinus => 100.0 - value,
        Metric::Tma => 100.0 * (1.0 - value),
        Metric::EsD => 50.0 * (2.0 - value),
        Metric::EsR | Metric::Ltm | Metric::Gtm | Metric::Gtt => value,
        _ => return None,
    })
}

/// ERS of the ten scores, in the order of [`SCORES`].
///
/// ```
/// use mdprop::metric::ers::ers;
///
/// // CUB, HM[S, gLGA] + ICS, η = 32 of arXiv:2203.01439.
/// let published = ers([15.5, 37.7, 16.6, 30.9, 0.753, 0.506, 17.9, 16.7, 27.3, 2.9]);
/// assert!((published - 36.0).abs() < 0.05);
/// ```
pub fn ers(scores: [f64; 10]) -> f64 {
    SCORES.iter().zip(scores).filter_map(|(score, value)| rescaled(*score, value)).sum::<f64>() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_rows_come_out_as_printed() {
        // arXiv:2203.01439, the table of all defences: CUB N/A[R], CARS HM[S,gLGA]+ICS η 8, SOP ACT[R] η 32.
        let rows = [
            ([0.0, 100.0, 0.0, 99.9, 0.883, 1.762, 0.0, 0.0, 14.1, 0.0], 3.8),
            ([21.0, 23.3, 23.1, 22.2, 0.698, 0.415, 31.2, 38.0, 47.8, 9.6], 47.9),
            ([24.1, 10.5, 22.7, 9.4, 0.253, 0.532, 21.2, 21.6, 27.8, 15.3], 50.8),
        ];
        for (scores, printed) in rows {
            assert!((ers(scores) - printed).abs() < 0.06, "{} against {printed}", ers(scores));
        }
    }
}

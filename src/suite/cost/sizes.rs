//! How much there is to measure, and in how many rounds an encoder takes it.

use super::BATCHES_AT_ONCE;
use crate::suite::plan::Plan;

/// How much there is to measure, and in what portions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Queries of a trial.
    pub queries: usize,
    /// Images of the gallery.
    pub gallery: usize,
    /// Images in one pass of the model.
    pub batch: usize,
    /// Passes side by side.
    pub lanes: usize,
}

impl Sizes {
    /// What a plan alone says: as many queries as it asks for (a thousand if it takes all), and a gallery as large.
    pub fn nominal(plan: &Plan) -> Self {
        let queries = plan.suite.evaluation.queries.unwrap_or(1000);
        Self { queries, gallery: queries, batch: plan.suite.evaluation.batch_size.max(1), lanes: 1 }
    }

    /// Rounds that `images` take once: the last batch is padded, the last round may leave lanes idle.
    pub fn rounds(&self, images: usize) -> f64 {
        let portion = |n: usize| n.div_ceil(self.batch).div_ceil(self.lanes);
        let together = self.batch * BATCHES_AT_ONCE;
        (images / together * portion(together) + portion(images % together)) as f64
    }

    /// Rounds of one look at `images` of which each is still searched for with probability `share`. Who is left keeps
    /// the row of the batch that it had, so that the row with the most of them decides.
    pub(super) fn rounds_of(&self, images: usize, share: f64) -> f64 {
        if share >= 1.0 || images == 0 {
            return self.rounds(images);
        }
        let (rows, each) = (images.min(self.batch), images.div_ceil(self.batch));
        let alive = each.div_ceil(self.lanes);
        (0..alive).map(|round| 1.0 - at_most(each, share, round * self.lanes).powi(rows as i32)).sum()
    }

    /// Rounds of a search, the images that it shows in all, and the evaluations that show them. `share`: of the queries
    /// that are still searched for at a look.
    pub(super) fn search(&self, images: usize, looks: usize, share: impl Fn(usize) -> f64) -> (f64, f64, f64) {
        let together = (self.batch * BATCHES_AT_ONCE).min(images);
        let shares: Vec<f64> = (0..looks).map(share).collect();
        let (sum, all) = (shares.iter().sum::<f64>(), shares.iter().all(|s| *s >= 1.0));
        let shown = images as f64 * sum;
        if all {
            let evaluations = images.div_ceil(self.batch * BATCHES_AT_ONCE) * looks;
            return (self.rounds(images) * looks as f64, shown, evaluations as f64);
        }
        // Who leaves makes place for who waits; only the last ones thin out.
        let full = (images - together) as f64 * sum / (self.batch * self.lanes) as f64;
        let last: f64 = shares.iter().map(|share| self.rounds_of(together, *share)).sum();
        let any: f64 = shares.iter().map(|share| 1.0 - at_most(together, *share, 0)).sum();
        (full + last, shown, (images - together) as f64 * sum / together.max(1) as f64 + any)
    }
}

/// Probability that at most `most` of `n` independent things of probability `p` happen.
pub(super) fn at_most(n: usize, p: f64, most: usize) -> f64 {
    if most >= n {
        return 1.0;
    }
    let mut term = (1.0 - p).powi(n as i32);
    let mut sum = term;
    for k in 0..most {
        term *= (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
        sum += term;
    }
    sum.min(1.0)
}

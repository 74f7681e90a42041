//! Losses along the first run of each image: what tells whether an attack had steps enough.

use crate::record::StepPoint;
use crate::stats::bootstrap::quantile;

/// Losses kept of one image. A longer run keeps every second of them, then every fourth, and so on.
const KEPT: usize = 128;

/// The losses of one image's iterates, in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LossPath {
    /// Iterates seen.
    seen: usize,
    /// Every so many of them are kept, as a power of two.
    doublings: u32,
    losses: Vec<f32>,
    last: f32,
}

impl LossPath {
    /// Adds the next iterate's loss.
    pub fn push(&mut self, loss: f32) {
        if self.seen.is_multiple_of(1 << self.doublings) {
            self.losses.push(loss);
        }
        if self.losses.len() > KEPT {
            let mut place = 0;
            self.losses.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.doublings += 1;
        }
        (self.last, self.seen) = (loss, self.seen + 1);
    }

    /// All losses, of a run that is short enough for that.
    #[cfg(test)]
    pub(crate) fn as_slice(&self) -> &[f32] {
        &self.losses
    }

    /// Loss at an iterate that is kept; behind the end that of the last one.
    fn at(&self, step: usize) -> f32 {
        if step + 1 >= self.seen { self.last } else { self.losses[step >> self.doublings] }
    }
}

/// One row a step: the mean loss over all images and how it spreads. An image whose run is over keeps its last loss, so
/// that every row is of the same images. Empty where nothing was searched step by step.
pub fn summary<'p>(trial: &str, paths: impl Iterator<Item = &'p LossPath>) -> Vec<StepPoint> {
    let paths: Vec<&LossPath> = paths.filter(|path| path.seen > 0).collect();
    let stride = 1usize << paths.iter().map(|path| path.doublings).max().unwrap_or(0);
    let end = paths.iter().map(|path| path.seen).max().unwrap_or(0);
    let last = end.checked_sub(1).filter(|last| last % stride > 0);
    let row = |step: usize| {
        let mut losses: Vec<f64> = paths.iter().map(|path| f64::from(path.at(step))).collect();
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        losses.sort_unstable_by(f64::total_cmp);
        StepPoint {
            trial: trial.into(),
            step: step as u32,
            images: losses.len() as u32,
            running: paths.iter().filter(|path| path.seen > step).count() as u32,
            loss,
            quartiles: [0.25, 0.5, 0.75].map(|q| quantile(&losses, q)),
        }
    };
    (0..end).step_by(stride).chain(last).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(losses: impl IntoIterator<Item = f32>) -> LossPath {
        let mut path = LossPath::default();
        losses.into_iter().for_each(|loss| path.push(loss));
        path
    }

    #[test]
    fn who_has_left_keeps_the_last_loss() {
        let paths = [path([4.0, 2.0, 0.0]), path([8.0]), path([0.0, 1.0, 5.0]), LossPath::default()];
        let rows = summary("t", paths.iter());
        assert_eq!(
            rows.iter().map(|r| (r.step, r.images, r.running)).collect::<Vec<_>>(),
            [(0, 3, 3), (1, 3, 2), (2, 3, 2)]
        );
        assert_eq!(rows.iter().map(|r| r.loss).collect::<Vec<_>>(), [4.0, 11.0 / 3.0, 13.0 / 3.0]);
        assert_eq!(rows[2].quartiles, [2.5, 5.0, 6.5]);
        assert_eq!(summary("t", [].iter()), vec![]);
    }

    #[test]
    fn a_long_run_keeps_every_so_many_steps_and_the_last() {
        for length in [1, 2, 127, 128, 129, 130, 256, 257, 258, 1000, 5001] {
            // The loss is the step, so that each row says where it comes from; the second run is over at once.
            let rows = summary("t", [path((0..length).map(|step| step as f32)), path([0.0])].iter());
            assert!(rows.len() <= KEPT + 1, "{length}: {} rows", rows.len());
            assert!(rows.iter().all(|row| row.loss == f64::from(row.step) / 2.0), "{length}");
            assert!(rows.windows(2).all(|pair| pair[0].step < pair[1].step));
            assert_eq!((rows[0].step, rows[rows.len() - 1].step), (0, length - 1));
        }
    }
}

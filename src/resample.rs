//! How a row of pixels becomes a row of another length: which source pixels make a new one, and with what weights.
//!
//! Half-pixel centres throughout. With antialiasing the kernel is widened when it shrinks, as PIL does and torchvision
//! with `antialias=True` (PyTorch's `_compute_weights_aa`, whose truncation of both bounds is kept); without it, edge
//! pixels are repeated, as PyTorch's `interpolate(align_corners=False)` and OpenCV do.

use serde::{Deserialize, Serialize};

/// The kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// The pixel that the centre falls on.
    Nearest,
    /// A triangle of half-width 1.
    #[default]
    Bilinear,
    /// Keys' cubic of half-width 2: a = −0.5 with antialiasing (PIL), −0.75 without (OpenCV, PyTorch). It overshoots.
    Bicubic,
}

/// Source pixels of one new pixel: `weights[k]` is that of pixel `first + k`. The weights sum to one.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    /// First source pixel.
    pub first: usize,
    /// Their weights.
    pub weights: Vec<f64>,
}

/// The taps of each of `to` pixels made from `from`. Both must be positive.
pub fn taps(from: usize, to: usize, filter: Filter, antialias: bool) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let tap = |i: usize| match filter {
        Filter::Nearest => {
            let place = (scale * (i as f64 + 0.5)) as usize;
            Taps { first: place.min(from - 1), weights: vec![1.0] }
        }
        Filter::Bilinear if antialias => widened(i, from, scale, 1.0, |x| (1.0 - x.abs()).max(0.0)),
        Filter::Bicubic if antialias => widened(i, from, scale, 2.0, |x| cubic(x, -0.5)),
        Filter::Bilinear => repeated(i, from, scale, 1, |x| (1.0 - x.abs()).max(0.0)),
        Filter::Bicubic => repeated(i, from, scale, 2, |x| cubic(x, -0.75)),
    };
    (0..to).map(tap).collect()
}

/// The taps as a dense matrix, `[to, from]`.
pub fn matrix(from: usize, to: usize, filter: Filter, antialias: bool) -> Vec<f32> {
    let mut matrix = vec![0.0; to * from];
    for (row, tap) in matrix.chunks_mut(from).zip(taps(from, to, filter, antialias)) {
        for (entry, weight) in row[tap.first..].iter_mut().zip(&tap.weights) {
            *entry = *weight as f32;
        }
    }
    matrix
}

fn widened(i: usize, from: usize, scale: f64, radius: f64, kernel: impl Fn(f64) -> f64) -> Taps {
    let stretch = scale.max(1.0);
    let (centre, support) = (scale * (i as f64 + 0.5), radius * stretch);
    let first = (centre - support + 0.5).max(0.0) as usize;
    let last = ((centre + support + 0.5) as usize).min(from);
    let raw: Vec<f64> = (first..last).map(|j| kernel((j as f64 - centre + 0.5) / stretch)).collect();
    let sum: f64 = raw.iter().sum();
    Taps { first, weights: raw.into_iter().map(|w| w / sum).collect() }
}

fn repeated(i: usize, from: usize, scale: f64, radius: i64, kernel: impl Fn(f64) -> f64) -> Taps {
    let centre = scale * (i as f64 + 0.5) - 0.5;
    let below = centre.floor() as i64;
    let places: Vec<i64> = (below - radius + 1..=below + radius).collect();
    let clamped = |place: i64| place.clamp(0, from as i64 - 1) as usize;
    let (first, last) = (clamped(places[0]), clamped(below + radius));
    let mut weights = vec![0.0; last - first + 1];
    for place in places {
        weights[clamped(place) - first] += kernel(place as f64 - centre);
    }
    Taps { first, weights }
}

/// Keys 1981, "Cubic convolution interpolation for digital image processing", equation 4.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ramp-like row `(37 i) mod 256` of 8 pixels, resampled.
    fn row(to: usize, filter: Filter, antialias: bool) -> Vec<f64> {
        let source: Vec<f64> = (0..8).map(|i| f64::from((i * 37) % 256)).collect();
        taps(8, to, filter, antialias)
            .iter()
            .map(|tap| tap.weights.iter().zip(&source[tap.first..]).map(|(w, x)| w * x).sum())
            .collect()
    }

    fn assert_row(got: &[f64], wanted: &[f64]) {
        assert_eq!(got.len(), wanted.len());
        for (a, b) in got.iter().zip(wanted) {
            assert!((a - b).abs() < 2e-3, "{got:?} {wanted:?}");
        }
    }

    /// torch 2.11: `x = ((torch.arange(8) * 37) % 256).double().reshape(1, 1, 1, 8)`;
    /// `F.interpolate(x, size=(1, to), mode=..., align_corners=False, antialias=...)`.
    #[test]
    fn every_filter_is_pytorch_s() {
        assert_row(&row(3, Filter::Bilinear, true), &[40.895, 129.5, 144.0]);
        assert_row(&row(5, Filter::Bilinear, true), &[15.136, 71.259, 129.5, 187.741, 92.591]);
        assert_row(&row(3, Filter::Bilinear, false), &[30.833, 129.5, 185.5]);
        assert_row(&row(3, Filter::Bicubic, true), &[33.169, 136.437, 142.946]);
        assert_row(&row(5, Filter::Bicubic, false), &[8.575, 68.968, 129.5, 191.76, 65.849]);
        assert_row(&row(3, Filter::Nearest, true), &[37.0, 148.0, 222.0]);
        let linear =
            [0.0, 15.654, 38.423, 61.192, 83.962, 106.731, 129.5, 152.269, 175.038, 197.808, 220.577, 95.654, 3.0];
        assert_row(&row(13, Filter::Bilinear, true), &linear);
        assert_row(&row(13, Filter::Bilinear, false), &linear);
        let cubic = [
            -2.713, 12.19, 38.423, 61.192, 83.962, 106.731, 129.5, 152.269, 175.038, 207.836, 225.129, 87.503, -13.058,
        ];
        assert_row(&row(13, Filter::Bicubic, true), &cubic);
        let repeated = [
            -3.481, 12.441, 39.055, 59.904, 85.641, 105.278, 129.5, 153.722, 173.359, 214.138, 226.773, 96.464, -17.606,
        ];
        assert_row(&row(13, Filter::Bicubic, false), &repeated);
    }

    #[test]
    fn weights_sum_to_one_and_the_same_length_changes_nothing() {
        for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic] {
            for antialias in [false, true] {
                for (from, to) in [(8, 3), (3, 8), (7, 7), (1, 4), (4, 1)] {
                    for tap in taps(from, to, filter, antialias) {
                        assert!((tap.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                        assert!(tap.first + tap.weights.len() <= from);
                    }
                }
                let same = matrix(5, 5, filter, antialias);
                assert!((0..25).all(|i| same[i] == if i % 6 == 0 { 1.0 } else { 0.0 }), "{filter:?}");
            }
        }
    }
}

//! Blur: Gaussian, out of focus, moved, zoomed.

use super::Picture;
use super::field;
use super::severity::{Published, Severity};
use crate::rng::{self, Stream};

const SIGMA: Published = Published { small: [0.4, 0.6, 0.7, 0.8, 1.0], large: [1.0, 2.0, 3.0, 4.0, 6.0] };
const DISC: Published = Published { small: [0.3, 0.4, 0.5, 1.0, 1.5], large: [3.0, 4.0, 6.0, 8.0, 10.0] };
/// Width of the Gaussian that smooths the disc's edge.
const EDGE: Published = Published { small: [0.4, 0.5, 0.6, 0.2, 0.1], large: [0.1, 0.5, 0.5, 0.5, 0.5] };
const TRAIL_RADIUS: Published = Published { small: [6.0, 6.0, 6.0, 8.0, 9.0], large: [10.0, 15.0, 15.0, 15.0, 20.0] };
const TRAIL_SIGMA: Published = Published { small: [1.0, 1.5, 2.0, 2.0, 2.5], large: [3.0, 5.0, 8.0, 12.0, 15.0] };
/// Largest zoom, less 1.
const ZOOM: Published = Published { small: [0.05, 0.10, 0.15, 0.20, 0.25], large: [0.10, 0.15, 0.20, 0.24, 0.30] };

pub(super) fn gaussian(picture: &Picture, severity: Severity) -> Picture {
    let sigma = severity.length(&SIGMA);
    picture.map_planes(|plane| field::gaussian(plane, picture.side, sigma))
}

/// A disc: each pixel's part of its area, its edge smoothed over one pixel (two for radii above 8).
pub(super) fn defocus(picture: &Picture, severity: Severity) -> Picture {
    let (radius, edge) = (severity.length(&DISC), severity.amount(&EDGE));
    let kernel = Kernel::disc(radius, edge);
    picture.map_planes(|plane| kernel.apply(plane, picture.side))
}

pub(super) fn motion(picture: &Picture, severity: Severity, stream: &mut Stream) -> Picture {
    let shape = (severity.length(&TRAIL_RADIUS), severity.length(&TRAIL_SIGMA));
    let angle = (90.0 * rng::unit_f64(stream) - 45.0).to_radians();
    picture.map_planes(|plane| field::trail(plane, picture.side, shape, angle))
}

/// The mean of the picture and its zooms from 1 to the largest in steps of 0.01.
pub(super) fn zoom(picture: &Picture, severity: Severity) -> Picture {
    let most = severity.amount(&ZOOM);
    let zooms: Vec<f64> = (0..=(most / 0.01).round() as usize).map(|i| 1.0 + 0.01 * i as f64).collect();
    picture.map_planes(|plane| {
        let mut sum = plane.to_vec();
        for zoom in &zooms {
            sum.iter_mut().zip(zoomed(plane, picture.side, *zoom)).for_each(|(sum, x)| *sum += x);
        }
        sum.iter().map(|x| x / (zooms.len() + 1) as f32).collect()
    })
}

/// The middle of a plane, enlarged to its size.
pub(super) fn zoomed(plane: &[f32], side: usize, zoom: f64) -> Vec<f32> {
    let middle = (side - 1) as f64 / 2.0;
    let from = |at: usize| middle + (at as f64 - middle) / zoom;
    field::warped(plane, side, |y, x| (from(y), from(x)))
}

/// A square kernel of odd side whose entries sum to 1.
struct Kernel {
    reach: i64,
    weights: Vec<f64>,
}

impl Kernel {
    fn disc(radius: f64, edge: f64) -> Self {
        const PARTS: i64 = 8;
        let around = if radius <= 8.0 { 1 } else { 2 };
        let reach = radius.ceil() as i64 + around;
        let side = (2 * reach + 1) as usize;
        let inside = |y: i64, x: i64| {
            let part = |p: i64| (p as f64 + 0.5) / PARTS as f64 - 0.5;
            let hits = (0..PARTS * PARTS).filter(|i| {
                (y as f64 + part(i / PARTS)).powi(2) + (x as f64 + part(i % PARTS)).powi(2) <= radius * radius
            });
            hits.count() as f64
        };
        let mut disc: Vec<f64> = (-reach..=reach).flat_map(|y| (-reach..=reach).map(move |x| inside(y, x))).collect();
        if disc.iter().all(|w| *w == 0.0) {
            disc[side * side / 2] = 1.0;
        }
        let smooth: Vec<f64> = (-around..=around).map(|i| (-0.5 * (i as f64 / edge.max(1e-6)).powi(2)).exp()).collect();
        let mut weights = vec![0.0; disc.len()];
        for y in -reach..=reach {
            for x in -reach..=reach {
                for (dy, wy) in (-around..=around).zip(&smooth) {
                    for (dx, wx) in (-around..=around).zip(&smooth) {
                        let (sy, sx) = (y + dy, x + dx);
                        if sy.abs() <= reach && sx.abs() <= reach {
                            let from = ((sy + reach) as usize) * side + (sx + reach) as usize;
                            weights[((y + reach) as usize) * side + (x + reach) as usize] += wy * wx * disc[from];
                        }
                    }
                }
            }
        }
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= total);
        Self { reach, weights }
    }

    /// Beyond the border the picture is mirrored, without the border pixel.
    fn apply(&self, plane: &[f32], side: usize) -> Vec<f32> {
        let width = 2 * self.reach + 1;
        let taps: Vec<(i64, i64, f64)> = self
            .weights
            .iter()
            .enumerate()
            .filter(|(_, w)| **w > 0.0)
            .map(|(i, w)| (i as i64 / width - self.reach, i as i64 % width - self.reach, *w))
            .collect();
        let sum = |i: usize| {
            let (y, x) = ((i / side) as i64, (i % side) as i64);
            let seen = taps
                .iter()
                .map(|(dy, dx, w)| w * f64::from(plane[mirrored(y + dy, side) * side + mirrored(x + dx, side)]));
            seen.sum::<f64>() as f32
        };
        (0..side * side).map(sum).collect()
    }
}

/// A place beyond the border of a picture, mirrored into it without the border pixel.
pub(super) fn mirrored(at: i64, side: usize) -> usize {
    let last = side as i64 - 1;
    if last == 0 {
        return 0;
    }
    let folded = at.rem_euclid(2 * last);
    folded.min(2 * last - folded) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disc_weighs_its_area_and_grows_with_the_radius() {
        for radius in [0.3, 1.0, 3.0, 9.5] {
            let kernel = Kernel::disc(radius, 0.1);
            assert!((kernel.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let centre = kernel.weights[kernel.weights.len() / 2];
            let wanted = 1.0 / (std::f64::consts::PI * radius * radius).max(1.0);
            assert!((centre / wanted - 1.0).abs() < 0.05, "{radius}: {centre} {wanted}");
        }
    }

    #[test]
    fn grey_stays_grey_under_every_blur() {
        let grey = Picture { side: 12, data: vec![0.25; 3 * 144] };
        let severity = Severity::new(5, 224);
        let mut stream = rng::stream(1, "blur", &[]);
        let blurred = [
            gaussian(&grey, severity),
            defocus(&grey, severity),
            motion(&grey, severity, &mut stream),
            zoom(&grey, severity),
        ];
        for picture in blurred {
            assert!(picture.data.iter().all(|x| (x - 0.25).abs() < 1e-5));
        }
        assert_eq!([mirrored(-1, 4), mirrored(4, 4), mirrored(9, 4), mirrored(5, 1)], [1, 2, 3, 0]);
    }
}

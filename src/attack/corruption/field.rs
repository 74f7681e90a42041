//! Planes of numbers: sampling between pixels, Gaussian filters, trails and plasma.

use crate::rng::{self, Stream};

/// Value at a place between pixels, by the four around it; places outside are moved to the border.
pub(super) fn bilinear(plane: &[f32], side: usize, y: f64, x: f64) -> f32 {
    let last = (side - 1) as f64;
    let (y, x) = (y.clamp(0.0, last), x.clamp(0.0, last));
    let (top, left) = (y.floor() as usize, x.floor() as usize);
    let (down, right) = ((top + 1).min(side - 1), (left + 1).min(side - 1));
    let (fy, fx) = ((y - y.floor()) as f32, (x - x.floor()) as f32);
    let at = |row: usize, column: usize| plane[row * side + column];
    let above = at(top, left) * (1.0 - fx) + at(top, right) * fx;
    let below = at(down, left) * (1.0 - fx) + at(down, right) * fx;
    above * (1.0 - fy) + below * fy
}

/// What every pixel becomes if it looks elsewhere: `from(y, x)` is the place it looks at.
pub(super) fn warped(plane: &[f32], side: usize, from: impl Fn(usize, usize) -> (f64, f64)) -> Vec<f32> {
    let place = |i: usize| from(i / side, i % side);
    (0..side * side).map(place).map(|(y, x)| bilinear(plane, side, y, x)).collect()
}

/// A separable Gaussian filter, cut at four standard deviations; the border pixel goes on outside.
pub(super) fn gaussian(plane: &[f32], side: usize, sigma: f64) -> Vec<f32> {
    if sigma <= 0.0 {
        return plane.to_vec();
    }
    let reach = (4.0 * sigma + 0.5).floor() as i64;
    let weights: Vec<f64> = (-reach..=reach).map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp()).collect();
    let total: f64 = weights.iter().sum();
    let along = |plane: &[f32], step: usize, other: usize| -> Vec<f32> {
        let mut out = vec![0.0; side * side];
        for line in 0..side {
            for place in 0..side {
                let mut sum = 0.0;
                for (weight, offset) in weights.iter().zip(-reach..) {
                    let at = (place as i64 + offset).clamp(0, side as i64 - 1) as usize;
                    sum += weight * f64::from(plane[line * other + at * step]);
                }
                out[line * other + place * step] = (sum / total) as f32;
            }
        }
        out
    };
    along(&along(plane, side, 1), 1, side)
}

/// A trail: the Gaussian half-kernel of `2 · radius + 1` places with this width, behind every pixel in one direction.
///
/// `angle` in radians, 0 to the right, counted downwards.
pub(super) fn trail(plane: &[f32], side: usize, (radius, sigma): (f64, f64), angle: f64) -> Vec<f32> {
    let places = (2.0 * radius).round() as usize + 1;
    let weights: Vec<f64> = (0..places).map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp()).collect();
    let total: f64 = weights.iter().sum();
    let (dy, dx) = (angle.sin(), angle.cos());
    let sum = |i: usize| {
        let (y, x) = ((i / side) as f64, (i % side) as f64);
        let seen = weights.iter().enumerate().map(|(k, weight)| {
            let k = k as f64;
            weight * f64::from(bilinear(plane, side, y + k * dy, x + k * dx))
        });
        (seen.sum::<f64>() / total) as f32
    };
    (0..side * side).map(sum).collect()
}

/// Plasma in `[0, 1]`: midpoints of squares and diamonds on a torus, each with a random offset that shrinks with the square
/// of `decay` from one scale to the next. Cut from a map whose side is the next power of two.
///
/// # Source
/// Fournier, Fussell & Carpenter 1982, "Computer rendering of stochastic models" (diamond-square).
pub(super) fn plasma(side: usize, decay: f64, stream: &mut Stream) -> Vec<f32> {
    let n = side.next_power_of_two().max(2);
    let mut map = vec![0.0f64; n * n];
    let (mut step, mut wibble) = (n, 100.0);
    while step >= 2 {
        let half = step / 2;
        let mut offset = || wibble * wibble * (2.0 * rng::unit_f64(stream) - 1.0);
        let at = |map: &[f64], y: usize, x: usize| map[(y % n) * n + x % n];
        for y in (0..n).step_by(step) {
            for x in (0..n).step_by(step) {
                let corners =
                    at(&map, y, x) + at(&map, y + step, x) + at(&map, y, x + step) + at(&map, y + step, x + step);
                map[(y + half) * n + x + half] = corners / 4.0 + offset();
            }
        }
        for y in (0..n).step_by(half) {
            let first = if (y / half).is_multiple_of(2) { half } else { 0 };
            for x in (first..n).step_by(step) {
                let around = at(&map, y + half, x)
                    + at(&map, y + n - half, x)
                    + at(&map, y, x + half)
                    + at(&map, y, x + n - half);
                map[y * n + x] = around / 4.0 + offset();
            }
        }
        step = half;
        wibble /= decay;
    }
    let cut: Vec<f64> = (0..side * side).map(|i| map[i / side * n + i % side]).collect();
    let low = map.iter().copied().fold(f64::INFINITY, f64::min);
    let high = map.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    cut.iter().map(|v| ((v - low) / (high - low).max(f64::MIN_POSITIVE)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_between_pixels_are_mixed_and_the_border_goes_on() {
        let plane = [0.0, 1.0, 2.0, 3.0];
        assert_eq!(bilinear(&plane, 2, 0.5, 0.5), 1.5);
        assert_eq!(bilinear(&plane, 2, -3.0, 9.0), 1.0);
        assert_eq!(warped(&plane, 2, |y, x| (y as f64, x as f64)), plane);
    }

    #[test]
    fn a_trail_of_one_place_changes_nothing_and_a_long_one_keeps_the_mean_of_a_line() {
        let plane: Vec<f32> = (0..64).map(|i| if i % 8 == 4 { 1.0 } else { 0.0 }).collect();
        assert_eq!(trail(&plane, 8, (0.0, 1.0), 0.0), plane);
        let moved = trail(&plane, 8, (1.0, 1.0), 0.0);
        // Weights 1, e^-0.5, e^-2 behind each pixel.
        let total = 1.0 + (-0.5f64).exp() + (-2.0f64).exp();
        assert!(
            (f64::from(moved[4]) - 1.0 / total).abs() < 1e-6
                && (f64::from(moved[2]) - (-2.0f64).exp() / total).abs() < 1e-6
        );
    }

    #[test]
    fn plasma_fills_its_range_and_is_rougher_with_less_decay() {
        let rough = |decay| {
            let mut stream = rng::stream(1, "plasma", &[]);
            let field = plasma(64, decay, &mut stream);
            assert!(field.iter().all(|v| (0.0..=1.0).contains(v)));
            assert!(field.contains(&0.0) && field.contains(&1.0));
            field.windows(2).map(|pair| f64::from((pair[0] - pair[1]).abs())).sum::<f64>()
        };
        assert!(rough(1.2) > 1.5 * rough(3.0));
        assert_eq!(plasma(10, 2.0, &mut rng::stream(1, "plasma", &[])).len(), 100);
    }
}

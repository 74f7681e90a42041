//! Noise, a draw for every value of every channel.

use super::Picture;
use super::severity::{Published, Severity};
use crate::rng::{self, Stream};

const GAUSSIAN: Published = Published { small: [0.04, 0.06, 0.08, 0.09, 0.10], large: [0.08, 0.12, 0.18, 0.26, 0.38] };
/// Photons of a white pixel.
const SHOT: Published = Published { small: [500.0, 250.0, 100.0, 75.0, 50.0], large: [60.0, 25.0, 12.0, 5.0, 3.0] };
/// Share of the values.
const IMPULSE: Published = Published { small: [0.01, 0.02, 0.03, 0.05, 0.07], large: [0.03, 0.06, 0.09, 0.17, 0.27] };
const SPECKLE: Published = Published { small: [0.06, 0.1, 0.12, 0.16, 0.2], large: [0.15, 0.2, 0.35, 0.45, 0.6] };

fn each(picture: &Picture, mut change: impl FnMut(f32) -> f32) -> Picture {
    Picture { side: picture.side, data: picture.data.iter().map(|&x| change(x)).collect() }
}

pub(super) fn gaussian(picture: &Picture, severity: Severity, stream: &mut Stream) -> Picture {
    let sd = severity.amount(&GAUSSIAN) as f32;
    each(picture, |x| x + sd * rng::normal(stream))
}

pub(super) fn speckle(picture: &Picture, severity: Severity, stream: &mut Stream) -> Picture {
    let sd = severity.amount(&SPECKLE) as f32;
    each(picture, |x| x + x * sd * rng::normal(stream))
}

pub(super) fn shot(picture: &Picture, severity: Severity, stream: &mut Stream) -> Picture {
    let photons = severity.amount(&SHOT);
    each(picture, |x| (poisson(f64::from(x) * photons, stream) as f64 / photons) as f32)
}

/// Half of the values that are hit turn black, half white.
pub(super) fn impulse(picture: &Picture, severity: Severity, stream: &mut Stream) -> Picture {
    let share = severity.amount(&IMPULSE) as f32;
    each(picture, |x| {
        let draw = rng::unit(stream);
        match draw {
            _ if draw < share / 2.0 => 0.0,
            _ if draw < share => 1.0,
            _ => x,
        }
    })
}

/// A Poisson draw as a sum of draws of at most 30, each by Knuth's products of uniform numbers (Knuth 1969, section 3.4.1).
fn poisson(mean: f64, stream: &mut Stream) -> u64 {
    let (mut left, mut count) = (mean, 0);
    while left > 0.0 {
        let part = left.min(30.0);
        left -= part;
        let (limit, mut product) = ((-part).exp(), rng::unit_f64(stream));
        while product > limit {
            count += 1;
            product *= rng::unit_f64(stream);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(value: f32) -> Picture {
        Picture { side: 64, data: vec![value; 3 * 64 * 64] }
    }

    fn moments(picture: &Picture) -> (f64, f64) {
        let n = picture.data.len() as f64;
        let mean = picture.data.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = picture.data.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    #[test]
    fn noise_has_the_mean_and_spread_that_its_law_says() {
        let stream = || rng::stream(1, "noise", &[]);
        let severity = Severity::new(3, 224);
        // 12,288 draws: the mean of noise with sd 0.2 has sd 0.002, the sd of an sd is below 1 %.
        let close = |(mean, sd): (f64, f64), wanted: (f64, f64)| {
            assert!((mean - wanted.0).abs() < 0.01 && (sd / wanted.1 - 1.0).abs() < 0.04, "{mean} {sd} {wanted:?}");
        };
        close(moments(&gaussian(&grey(0.5), severity, &mut stream())), (0.5, 0.18));
        close(moments(&speckle(&grey(0.5), severity, &mut stream())), (0.5, 0.175));
        // Poisson: variance x / photons.
        close(moments(&shot(&grey(0.5), severity, &mut stream())), (0.5, (0.5f64 / 12.0).sqrt()));
        close(moments(&shot(&grey(0.5), Severity::new(1, 32), &mut stream())), (0.5, (0.5f64 / 500.0).sqrt()));
        let salted = impulse(&grey(0.5), severity, &mut stream());
        let share = |value: f32| salted.data.iter().filter(|x| **x == value).count() as f64 / salted.data.len() as f64;
        assert!((share(0.0) - 0.045).abs() < 0.01 && (share(1.0) - 0.045).abs() < 0.01);
    }
}

//! Light, contrast and colour.

use super::Picture;
use super::severity::{Published, Severity};

const LIGHT: Published = Published { small: [0.05, 0.1, 0.15, 0.2, 0.3], large: [0.1, 0.2, 0.3, 0.4, 0.5] };
const CONTRAST: Published = Published { small: [0.75, 0.5, 0.4, 0.3, 0.15], large: [0.4, 0.3, 0.2, 0.1, 0.05] };
const SATURATION: Published = Published { small: [0.3, 0.1, 1.5, 2.0, 2.5], large: [0.3, 0.1, 2.0, 5.0, 20.0] };
const SATURATION_SHIFT: Published = Published { small: [0.0, 0.0, 0.0, 0.1, 0.2], large: [0.0, 0.0, 0.0, 0.1, 0.2] };

/// Adds to the value of HSV.
pub(super) fn brightness(picture: &Picture, severity: Severity) -> Picture {
    let light = severity.amount(&LIGHT) as f32;
    in_hsv(picture, |[h, s, v]| [h, s, (v + light).clamp(0.0, 1.0)])
}

/// Scales and shifts the saturation of HSV: the two lightest severities take colour away, the others add.
pub(super) fn saturate(picture: &Picture, severity: Severity) -> Picture {
    let (factor, shift) = (severity.amount(&SATURATION) as f32, severity.amount(&SATURATION_SHIFT) as f32);
    in_hsv(picture, |[h, s, v]| [h, (s * factor + shift).clamp(0.0, 1.0), v])
}

/// Pulls every channel towards its mean.
pub(super) fn contrast(picture: &Picture, severity: Severity) -> Picture {
    let factor = severity.amount(&CONTRAST);
    picture.map_planes(|plane| {
        let mean = plane.iter().map(|&x| f64::from(x)).sum::<f64>() / plane.len() as f64;
        plane.iter().map(|&x| ((f64::from(x) - mean) * factor + mean) as f32).collect()
    })
}

/// Changes every pixel in hue (`[0, 6)`), saturation and value. Pictures without three channels stay as they are.
fn in_hsv(picture: &Picture, change: impl Fn([f32; 3]) -> [f32; 3]) -> Picture {
    let n = picture.side * picture.side;
    let mut result = picture.clone();
    if result.data.len() != 3 * n {
        return result;
    }
    for i in 0..n {
        let rgb = [0, 1, 2].map(|c| picture.data[c * n + i]);
        for (c, value) in to_rgb(change(to_hsv(rgb))).into_iter().enumerate() {
            result.data[c * n + i] = value;
        }
    }
    result
}

/// Smith 1978, "Color gamut transform pairs": the hexcone.
fn to_hsv([r, g, b]: [f32; 3]) -> [f32; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let spread = high - low;
    if spread <= 0.0 {
        return [0.0, 0.0, high];
    }
    let hue = match () {
        () if high == r => (g - b) / spread,
        () if high == g => 2.0 + (b - r) / spread,
        () => 4.0 + (r - g) / spread,
    };
    [hue.rem_euclid(6.0), spread / high, high]
}

fn to_rgb([hue, saturation, value]: [f32; 3]) -> [f32; 3] {
    // How far each primary is from the hue on the wheel of six.
    [5.0, 3.0, 1.0].map(|offset| {
        let k = (offset + hue).rem_euclid(6.0);
        value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_come_back_from_the_hexcone() {
        for rgb in [[0.2, 0.4, 0.9], [0.9, 0.1, 0.1], [0.3, 0.3, 0.3], [0.0, 1.0, 0.5], [1.0, 0.9, 0.0]] {
            for (a, b) in to_rgb(to_hsv(rgb)).into_iter().zip(rgb) {
                assert!((a - b).abs() < 1e-6, "{rgb:?}");
            }
        }
        assert_eq!(to_hsv([0.0, 0.0, 1.0]), [4.0, 1.0, 1.0]);
    }
}

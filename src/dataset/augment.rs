//! Random changes of training images: planar bytes in, `[3, size, size]` floats in `[0, 1]` out.
//!
//! The crop follows torchvision's `RandomResizedCrop` (parameters) and PyTorch's antialiased bilinear resize (pixels:
//! a triangle filter that widens when it shrinks, edges renormalised).

use super::originals::Picture;
use crate::resample::{Filter, taps};
use crate::rng::{Stream, below, unit};
use crate::suite::recipe::AugmentationSpec;

/// torchvision's `scale`: share of the area.
const AREA: (f64, f64) = (0.08, 1.0);
/// torchvision's `ratio`: width over height.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// A random crop of a whole picture, mirrored or not. Within a grey level of torchvision's on PIL images, which rounds
/// to bytes between the two directions and at the end.
///
/// # Shapes
/// `out`: `[3, size, size]`, `[0, 1]`.
pub fn crop_original(picture: &Picture, size: usize, rng: &mut Stream, out: &mut [f32]) {
    let window = random_window(picture.width, picture.height, rng);
    let flip = unit(rng) < 0.5;
    let (crop, plane) = (Crop::new(window, size, flip), picture.width * picture.height);
    for (plane, out) in picture.planes.chunks(plane).zip(out.chunks_mut(size * size)) {
        crop.cut(plane, picture.width, out);
    }
}

/// Applies `spec` to one image.
///
/// # Shapes
/// `bytes`: `[3, size, size]`; `out`: the same, `[0, 1]`.
pub fn augment(spec: &AugmentationSpec, bytes: &[u8], size: usize, rng: &mut Stream, out: &mut [f32]) {
    match spec {
        AugmentationSpec::None {} => {
            for (value, &byte) in out.iter_mut().zip(bytes) {
                *value = f32::from(byte) / 255.0;
            }
        }
        AugmentationSpec::ShiftFlip { pixels } => {
            let mut draw = || below(rng, 2 * *pixels as u64 + 1) as isize - *pixels as isize;
            let (dx, dy) = (draw(), draw());
            shift_flip(bytes, size, dx, dy, unit(rng) < 0.5, out);
        }
        AugmentationSpec::RandomResizedCropFlip { .. } => {
            let window = random_window(size, size, rng);
            let flip = unit(rng) < 0.5;
            let crop = Crop::new(window, size, flip);
            for (plane, out) in bytes.chunks(size * size).zip(out.chunks_mut(size * size)) {
                crop.cut(plane, size, out);
            }
        }
    }
}

/// The picture moved by `(dx, dy)` with its edges repeated, then mirrored.
fn shift_flip(bytes: &[u8], size: usize, dx: isize, dy: isize, flip: bool, out: &mut [f32]) {
    let inside = |at: isize| at.clamp(0, size as isize - 1) as usize;
    let columns: Vec<usize> =
        (0..size).map(|x| if flip { size - 1 - x } else { x }).map(|x| inside(x as isize - dx)).collect();
    for (plane, out) in bytes.chunks(size * size).zip(out.chunks_mut(size * size)) {
        for (y, row) in out.chunks_mut(size).enumerate() {
            let source = &plane[inside(y as isize - dy) * size..][..size];
            for (value, &x) in row.iter_mut().zip(&columns) {
                *value = f32::from(source[x]) / 255.0;
            }
        }
    }
}

/// A part of a picture in whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

/// torchvision's `RandomResizedCrop.get_params`: ten tries, then the middle, cut to the allowed ratios.
fn random_window(columns: usize, rows: usize, rng: &mut Stream) -> Window {
    let mut between = |low: f64, high: f64| low + (high - low) * f64::from(unit(rng));
    let (across, down) = (columns as f64, rows as f64);
    let mut found = None;
    for _ in 0..10 {
        let area = across * down * between(AREA.0, AREA.1);
        let ratio = between(RATIO.0.ln(), RATIO.1.ln()).exp();
        let (width, height) = ((area * ratio).sqrt().round_ties_even(), (area / ratio).sqrt().round_ties_even());
        if width > 0.0 && height > 0.0 && width <= across && height <= down {
            found = Some((width as usize, height as usize));
            break;
        }
    }
    let Some((width, height)) = found else { return middle(columns, rows) };
    let top = below(rng, (rows - height + 1) as u64) as usize;
    let left = below(rng, (columns - width + 1) as u64) as usize;
    Window { top, left, height, width }
}

/// The largest part of allowed ratio in the middle.
fn middle(columns: usize, rows: usize) -> Window {
    let (across, down) = (columns as f64, rows as f64);
    let (width, height) = if across / down < RATIO.0 {
        (columns, (across / RATIO.0).round_ties_even() as usize)
    } else if across / down > RATIO.1 {
        ((down * RATIO.1).round_ties_even() as usize, rows)
    } else {
        (columns, rows)
    };
    Window { top: (rows - height) / 2, left: (columns - width) / 2, height, width }
}

/// First source pixel of an output pixel, and PIL's antialiased bilinear weights from there on.
type Weights = (usize, Vec<f32>);

fn triangle_weights(from: usize, to: usize) -> Vec<Weights> {
    let taps = taps(from, to, Filter::Bilinear, true).into_iter();
    taps.map(|tap| (tap.first, tap.weights.into_iter().map(|w| w as f32).collect())).collect()
}

/// A window resized to a square, mirrored or not: its weights, which the three planes share.
struct Crop {
    window: Window,
    across: Vec<Weights>,
    down: Vec<Weights>,
}

impl Crop {
    fn new(window: Window, size: usize, flip: bool) -> Self {
        let (mut across, down) = (triangle_weights(window.width, size), triangle_weights(window.height, size));
        if flip {
            across.reverse();
        }
        Self { window, across, down }
    }

    /// The window of one plane of `columns` columns.
    fn cut(&self, plane: &[u8], columns: usize, out: &mut [f32]) {
        let Self { window, across, down } = self;
        let size = across.len();
        let (mut rows, mut line) = (vec![0f32; window.height * size], vec![0f32; window.width]);
        for (y, row) in rows.chunks_exact_mut(size).enumerate() {
            let source = &plane[(window.top + y) * columns + window.left..][..window.width];
            line.iter_mut().zip(source).for_each(|(value, &byte)| *value = f32::from(byte));
            for (value, (first, weights)) in row.iter_mut().zip(across) {
                *value = weights.iter().zip(&line[*first..]).map(|(w, v)| w * v).sum::<f32>() / 255.0;
            }
        }
        // Row by row, so that neighbouring columns are summed side by side.
        for (row, (first, weights)) in out.chunks_exact_mut(size).zip(down) {
            row.fill(0.0);
            for (weight, source) in weights.iter().zip(rows[first * size..].chunks_exact(size)) {
                row.iter_mut().zip(source).for_each(|(sum, value)| *sum += weight * value);
            }
            row.iter_mut().for_each(|value| *value = value.clamp(0.0, 1.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    #[test]
    fn a_shift_repeats_edges_and_a_flip_mirrors() {
        let bytes: Vec<u8> = (0..3).flat_map(|_| [0, 51, 102, 153, 204, 255, 0, 51, 102]).collect();
        let mut out = vec![0.0; 27];
        shift_flip(&bytes, 3, 1, 0, false, &mut out);
        let row =
            |out: &[f32], y: usize| out[y * 3..y * 3 + 3].iter().map(|v| (v * 5.0).round() as u8).collect::<Vec<_>>();
        assert_eq!((row(&out, 0), row(&out, 1)), (vec![0, 0, 1], vec![3, 3, 4]));
        shift_flip(&bytes, 3, 0, -1, true, &mut out);
        assert_eq!((row(&out, 0), row(&out, 2)), (vec![5, 4, 3], vec![2, 1, 0]));
    }

    #[test]
    fn resizing_matches_pytorch() {
        // torch 2.11: x = ((torch.arange(64) * 37) % 256).float().reshape(1, 1, 8, 8); window x[..., 1:8, 2:7];
        // F.interpolate(window, size=(8, 8), mode="bilinear", antialias=True, align_corners=False)
        let plane: Vec<u8> = (0..64).map(|i| (i * 37 % 256) as u8).collect();
        let mut out = vec![0.0; 64];
        let window = Window { top: 1, left: 2, height: 7, width: 5 };
        Crop::new(window, 8, false).cut(&plane, 8, &mut out);
        for (got, wanted) in out.iter().zip(&UP) {
            assert!((got * 255.0 - wanted).abs() < 1e-3, "{got} {wanted}");
        }
        let mut mirrored = vec![0.0; 64];
        Crop::new(window, 8, true).cut(&plane, 8, &mut mirrored);
        for (row, mirrored) in out.chunks(8).zip(mirrored.chunks(8)) {
            assert!(row.iter().eq(mirrored.iter().rev()));
        }
        // The same x to (3, 3): shrinking, where the filter widens.
        let weights = triangle_weights(8, 3);
        let at = |y: usize, x: usize| -> f32 {
            let ((fy, wy), (fx, wx)) = (&weights[y], &weights[x]);
            let pixel = |j: usize, k: usize| f32::from(plane[(fy + j) * 8 + fx + k]) * wy[j] * wx[k];
            (0..wy.len()).flat_map(|j| (0..wx.len()).map(move |k| (j, k))).map(|(j, k)| pixel(j, k)).sum()
        };
        for (i, wanted) in DOWN.iter().enumerate() {
            assert!((at(i / 3, i % 3) - wanted).abs() < 1e-3);
        }
    }

    const UP: [f32; 64] = [
        114.0, 130.1875, 153.3125, 176.4375, 199.5625, 222.6875, 101.8125, 6.0, 146.5, 162.6875, 185.8125, 208.9375,
        167.0625, 60.1875, 43.3125, 38.5, 181.5, 197.6875, 209.8125, 122.9375, 66.0625, 39.1875, 57.3125, 73.5, 216.5,
        169.6875, 104.8125, 57.9375, 46.0625, 69.1875, 92.3125, 108.5, 139.5, 92.6875, 34.8125, 57.9375, 81.0625,
        104.1875, 127.3125, 143.5, 30.5, 46.6875, 69.8125, 92.9375, 116.0625, 139.1875, 162.3125, 178.5, 65.5, 81.6875,
        104.8125, 127.9375, 151.0625, 174.1875, 197.3125, 213.5, 98.0, 114.1875, 137.3125, 160.4375, 183.5625,
        206.6875, 229.8125, 246.0,
    ];
    const DOWN: [f32; 9] = [85.1053, 149.6504, 95.6676, 156.8346, 109.7177, 107.3985, 110.036, 114.5827, 176.4432];

    #[test]
    fn windows_have_torchvisions_distribution() {
        let mut rng = stream(3, "test", &[]);
        let windows: Vec<Window> = (0..4000).map(|_| random_window(100, 100, &mut rng)).collect();
        for w in &windows {
            assert!(w.top + w.height <= 100 && w.left + w.width <= 100);
            let (area, ratio) = ((w.width * w.height) as f64 / 1e4, w.width as f64 / w.height as f64);
            assert!((0.07..=1.0).contains(&area) && (0.7..=1.43).contains(&ratio), "{w:?}");
        }
        // The same rule in Python over 200,000 draws: mean area 0.4819.
        let mean = windows.iter().map(|w| (w.width * w.height) as f64 / 1e4).sum::<f64>() / 4000.0;
        assert!((mean - 0.482).abs() < 0.015, "{mean}");
    }

    #[test]
    fn crops_are_torchvision_s_within_a_grey_level() {
        let picture = image::load_from_memory(include_bytes!("../../tests/data/dataset/transforms.png")).unwrap();
        let planes = super::super::pictures::planar(&picture.to_rgb8());
        let (columns, rows) = (picture.width() as usize, picture.height() as usize);
        let cases: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/data/dataset/transforms.json")).unwrap();
        for case in cases["crops"].as_array().unwrap() {
            let [top, left, height, width]: [usize; 4] = serde_json::from_value(case["window"].clone()).unwrap();
            let size = case["size"].as_u64().unwrap() as usize;
            let theirs: Vec<u8> = serde_json::from_value(case["planes"].clone()).unwrap();
            let mut ours = vec![0f32; 3 * size * size];
            let crop = Crop::new(Window { top, left, height, width }, size, false);
            for (plane, out) in planes.chunks(columns * rows).zip(ours.chunks_mut(size * size)) {
                crop.cut(plane, columns, out);
            }
            let off = ours.iter().zip(&theirs).map(|(a, b)| (a * 255.0 - f32::from(*b)).abs()).fold(0.0, f32::max);
            assert!(off <= 1.0, "{height}×{width} at ({top}, {left}): off by {off}");
        }
    }

    #[test]
    fn windows_of_long_pictures_lie_inside_and_the_last_resort_has_an_allowed_ratio() {
        let mut rng = stream(4, "test", &[]);
        for (columns, rows) in [(500, 333), (40, 400), (1000, 3), (1, 1)] {
            for _ in 0..200 {
                let w = random_window(columns, rows, &mut rng);
                assert!(
                    w.width > 0 && w.left + w.width <= columns && w.height > 0 && w.top + w.height <= rows,
                    "{w:?}"
                );
            }
        }
        // torchvision 0.26, get_params with a generator that never finds a window: 40 × 400 and 400 × 40.
        assert_eq!(middle(40, 400), Window { top: 173, left: 0, height: 53, width: 40 });
        assert_eq!(middle(400, 40), Window { top: 0, left: 173, height: 40, width: 53 });
        assert_eq!(middle(30, 40), Window { top: 0, left: 0, height: 40, width: 30 });
    }

    #[test]
    fn no_augmentation_is_byte_over_255() {
        let bytes: Vec<u8> = (0..12).collect();
        let mut out = vec![0.0; 12];
        augment(&AugmentationSpec::None {}, &bytes, 2, &mut stream(0, "t", &[]), &mut out);
        assert_eq!(out[5], 5.0 / 255.0);
    }
}

//! Where pixels are and how they are stored: pixelation, bending, JPEG.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageFormat, ImageReader};

use super::Picture;
use super::field;
use super::severity::{Published, Severity};
use crate::rng::{self, Stream};

/// Side that is left, as a share.
const PIXELS: Published = Published { small: [0.95, 0.9, 0.85, 0.75, 0.65], large: [0.6, 0.5, 0.4, 0.3, 0.25] };
const QUALITY: Published = Published { small: [80.0, 65.0, 58.0, 50.0, 40.0], large: [25.0, 18.0, 15.0, 10.0, 7.0] };
/// As shares of the side: how far a pixel may bend, how smooth bends are, how far a corner of the frame may move. The
/// published numbers for 224 px are in units of 244 px.
const BEND: Published = Published { small: [0.0, 0.05, 0.08, 0.1, 0.1], large: [2.0, 2.0, 0.05, 0.07, 0.12] };
const SMOOTH: Published = Published { small: [0.0, 0.2, 0.06, 0.04, 0.03], large: [0.7, 0.08, 0.01, 0.01, 0.01] };
const FRAME: Published = Published { small: [0.08, 0.07, 0.06, 0.05, 0.05], large: [0.1, 0.2, 0.02, 0.02, 0.02] };

/// Means of larger pixels, each shown as a block.
pub(super) fn pixelate(picture: &Picture, severity: Severity) -> Picture {
    let side = picture.side;
    let small = ((side as f64 * severity.amount(&PIXELS)) as usize).max(1);
    picture.map_planes(|plane| {
        let rows = shrunk(plane, side, small);
        let from = |at: usize| (((at as f64 + 0.5) * small as f64 / side as f64) as usize).min(small - 1);
        (0..side * side).map(|i| rows[from(i / side) * small + from(i % side)]).collect()
    })
}

/// Means over areas: each entry of the result is the mean of what it covers of the plane, edges in part.
fn shrunk(plane: &[f32], side: usize, small: usize) -> Vec<f32> {
    let scale = side as f64 / small as f64;
    let covered = |at: usize| {
        let (from, to) = (at as f64 * scale, (at + 1) as f64 * scale);
        let parts = (from as usize..(to.ceil() as usize).min(side))
            .map(move |i| (i, (to.min(i as f64 + 1.0) - from.max(i as f64)).max(0.0)));
        parts.collect::<Vec<(usize, f64)>>()
    };
    let spans: Vec<Vec<(usize, f64)>> = (0..small).map(covered).collect();
    let mean = |y: usize, x: usize| {
        let (mut sum, mut area) = (0.0, 0.0);
        for (row, height) in &spans[y] {
            for (column, width) in &spans[x] {
                sum += height * width * f64::from(plane[row * side + column]);
                area += height * width;
            }
        }
        (sum / area) as f32
    };
    (0..small * small).map(|i| mean(i / small, i % small)).collect()
}

/// A random affine map of the frame, then a smooth random field of shifts.
///
/// # Source
/// Simard, Steinkraus & Platt 2003, "Best practices for convolutional neural networks applied to visual document analysis".
pub(super) fn elastic(picture: &Picture, severity: Severity, stream: &mut Stream) -> Picture {
    let side = picture.side;
    let affine = Affine::random(side, severity.share(&FRAME), stream);
    let (bend, smooth) = (severity.share(&BEND) as f32, severity.share(&SMOOTH));
    let mut shifts = || {
        let draws: Vec<f32> = (0..side * side).map(|_| 2.0 * rng::unit(stream) - 1.0).collect();
        let smoothed = field::gaussian(&draws, side, smooth);
        smoothed.into_iter().map(|v| bend * v).collect::<Vec<f32>>()
    };
    let (down, right) = (shifts(), shifts());
    picture.map_planes(|plane| {
        let framed = field::warped(plane, side, |y, x| affine.from(y as f64, x as f64));
        field::warped(&framed, side, |y, x| {
            let at = y * side + x;
            (y as f64 + f64::from(down[at]), x as f64 + f64::from(right[at]))
        })
    })
}

/// Where a pixel of the result comes from: `(a · y + b · x + c, d · y + e · x + f)`.
struct Affine([f64; 6]);

impl Affine {
    /// Moves three corners of a square in the middle, each by at most `most` in both directions.
    fn random(side: usize, most: f64, stream: &mut Stream) -> Self {
        let (middle, half) = ((side / 2) as f64, (side / 3) as f64);
        let corners = [[middle + half, middle + half], [middle + half, middle - half], [middle - half, middle - half]];
        let moved = corners.map(|corner| corner.map(|at| at + most * (2.0 * rng::unit_f64(stream) - 1.0)));
        Self::taking(moved, corners)
    }

    /// The map that takes three points `[y, x]` to three others; the identity if the points lie on a line.
    fn taking(points: [[f64; 2]; 3], to: [[f64; 2]; 3]) -> Self {
        let [[y0, x0], [y1, x1], [y2, x2]] = points;
        let det = y0 * (x1 - x2) - x0 * (y1 - y2) + (y1 * x2 - y2 * x1);
        if det.abs() < 1e-9 {
            return Self([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        }
        // Cramer's rule for each of the two rows.
        let row = |[v0, v1, v2]: [f64; 3]| {
            let a = v0 * (x1 - x2) - x0 * (v1 - v2) + (v1 * x2 - v2 * x1);
            let b = y0 * (v1 - v2) - v0 * (y1 - y2) + (y1 * v2 - y2 * v1);
            let c = y0 * (x1 * v2 - x2 * v1) - x0 * (y1 * v2 - y2 * v1) + v0 * (y1 * x2 - y2 * x1);
            [a / det, b / det, c / det]
        };
        let (ys, xs) = (row([to[0][0], to[1][0], to[2][0]]), row([to[0][1], to[1][1], to[2][1]]));
        Self([ys[0], ys[1], ys[2], xs[0], xs[1], xs[2]])
    }

    fn from(&self, y: f64, x: f64) -> (f64, f64) {
        let [a, b, c, d, e, f] = self.0;
        (a * y + b * x + c, d * y + e * x + f)
    }
}

/// Through an encoder and a decoder. Pictures that have neither one nor three channels stay as they are.
pub(super) fn jpeg(picture: &Picture, severity: Severity) -> Picture {
    let side = picture.side;
    let (n, quality) = (side * side, severity.amount(&QUALITY).round().clamp(1.0, 100.0) as u8);
    let channels = picture.data.len() / n;
    let kind = match channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        _ => return picture.clone(),
    };
    let byte = |i: usize| (picture.data[i % channels * n + i / channels].clamp(0.0, 1.0) * 255.0).round() as u8;
    let bytes: Vec<u8> = (0..channels * n).map(byte).collect();
    let mut file = Vec::new();
    let written = JpegEncoder::new_with_quality(&mut file, quality).encode(&bytes, side as u32, side as u32, kind);
    let mut reader = ImageReader::new(std::io::Cursor::new(file));
    reader.set_format(ImageFormat::Jpeg);
    let read = written.and_then(|()| reader.decode()).expect("a picture in memory is encoded and decoded");
    let decoded = if channels == 1 { read.to_luma8().into_raw() } else { read.to_rgb8().into_raw() };
    let value = |i: usize| f32::from(decoded[i % n * channels + i / n]) / 255.0;
    Picture { side, data: (0..channels * n).map(value).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_points_go_where_they_should() {
        let (from, to) = ([[0.0, 0.0], [0.0, 10.0], [10.0, 0.0]], [[1.0, 2.0], [3.0, 12.0], [9.0, 4.0]]);
        let affine = Affine::taking(from, to);
        for (from, to) in from.into_iter().zip(to) {
            let (y, x) = affine.from(from[0], from[1]);
            assert!((y - to[0]).abs() < 1e-9 && (x - to[1]).abs() < 1e-9);
        }
        assert_eq!(Affine::taking([[0.0, 0.0]; 3], to).from(3.0, 4.0), (3.0, 4.0));
    }

    #[test]
    fn areas_are_averaged() {
        let plane: Vec<f32> = (0..9).map(|i| i as f32).collect();
        // Half of the second row and column belongs to each side.
        let wanted = (0.0 + 0.5 * 1.0 + 0.5 * 3.0 + 0.25 * 4.0) / 2.25;
        assert!((f64::from(shrunk(&plane, 3, 2)[0]) - wanted).abs() < 1e-6);
        assert_eq!(shrunk(&plane, 3, 3), plane);
    }
}

//! Procedural line drawings: the built-in data set of the tests and the smoke suite.
//!
//! A class is a shape: three to six strokes (lines, bends, arcs, rings) whose kind, order and joints come from the
//! class's random stream. An image is one drawing of it under nuisance from the image's own stream: pose, wobble of
//! the joints, pen width, colours, a lit and textured paper, noise, and something lying on top. Colours, paper and
//! occluder are drawn without looking at the class, so that only the shape tells classes apart.
//!
//! The same bytes on every machine: only `+ - * /`, `sqrt`, comparisons and roundings, which IEEE 754 fixes to the last
//! bit and which Rust neither fuses nor reorders. Rotations and circles use the rational parametrisation
//! `((1-t²)/(1+t²), 2t/(1+t²))` instead of sine and cosine, whose bits differ between C libraries.

use rayon::prelude::*;

use super::DatasetError;
use super::cache::{Cached, Header};
use super::open::in_memory;
use crate::digest::Digest;
use crate::progress::{Cancel, Observer};
use crate::rng::{Stream, below, stream, unit};

/// What to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct GlyphsSpec {
    /// Side of the square images in pixels.
    pub size: usize,
    /// Number of classes.
    pub classes: usize,
    /// Images of each class.
    pub per_class: usize,
    /// Seed of shapes and nuisance.
    pub seed: u64,
}

/// Version of the drawing rules.
const RULES: u32 = 1;

/// Straight pieces that a curved stroke is cut into.
const PIECES: usize = 10;

type Point = [f32; 2];

/// One pen stroke; coordinates in about `[-1, 1]`.
#[derive(Debug, Clone, PartialEq)]
enum Stroke {
    /// Straight.
    Line(Point, Point),
    /// Quadratic Bézier curve.
    Bend(Point, Point, Point),
    /// Part of a circle: centre, radius, first and last parameter in turns of a half circle.
    Arc(Point, f32, f32, f32),
}

/// The shape of a class.
#[derive(Debug, Clone, PartialEq)]
struct Shape {
    strokes: Vec<Stroke>,
}

fn between(rng: &mut Stream, low: f32, high: f32) -> f32 {
    low + (high - low) * unit(rng)
}

/// About normal with unit variance: twelve uniforms, no logarithm.
fn bell(rng: &mut Stream) -> f32 {
    (0..12).map(|_| unit(rng)).sum::<f32>() - 6.0
}

/// The point of the unit circle at `t` in half turns, `[-1, 1)` going once around; even spacing is not needed.
fn circle(t: f32) -> Point {
    let whole = t - 2.0 * ((t + 1.0) / 2.0).floor();
    let flip = if whole.abs() > 0.5 { -1.0 } else { 1.0 };
    let rest = if whole > 0.5 {
        whole - 1.0
    } else if whole < -0.5 {
        whole + 1.0
    } else {
        whole
    };
    // rest in [-½, ½]: a half circle, from below to above.
    let s = 2.0 * rest;
    let below = 1.0 + s * s;
    [flip * (1.0 - s * s) / below, flip * 2.0 * s / below]
}

impl Shape {
    fn of_class(seed: u64, class: u64) -> Self {
        let mut rng = stream(seed, "glyph-class", &[class]);
        let count = 3 + below(&mut rng, 4) as usize;
        let mut strokes = Vec::with_capacity(count);
        let mut joint = lattice(&mut rng);
        for _ in 0..count {
            // Most strokes go on from an earlier one: the shape hangs together.
            if unit(&mut rng) < 0.3 {
                joint = lattice(&mut rng);
            }
            let mut end = lattice(&mut rng);
            while distance(joint, end) < 0.5 {
                end = lattice(&mut rng);
            }
            strokes.push(match below(&mut rng, 4) {
                0 => Stroke::Line(joint, end),
                1 => {
                    let bulge = between(&mut rng, 0.3, 0.9) * if unit(&mut rng) < 0.5 { -1.0 } else { 1.0 };
                    let (dx, dy) = (end[0] - joint[0], end[1] - joint[1]);
                    let middle = [(joint[0] + end[0]) / 2.0 - bulge * dy, (joint[1] + end[1]) / 2.0 + bulge * dx];
                    Stroke::Bend(joint, middle, end)
                }
                2 => {
                    let from = between(&mut rng, -1.0, 1.0);
                    Stroke::Arc(joint, between(&mut rng, 0.3, 0.55), from, from + between(&mut rng, 0.7, 1.5))
                }
                _ => Stroke::Arc(end, between(&mut rng, 0.18, 0.35), -1.0, 1.0),
            });
            joint = end;
        }
        Self { strokes }
    }

    /// The shape as straight segments after the wobble of one image.
    fn segments(&self, rng: &mut Stream, wobble: f32) -> Vec<(Point, Point)> {
        let mut segments = Vec::with_capacity(self.strokes.len() * PIECES);
        let mut shake = |p: Point| [p[0] + wobble * bell(rng), p[1] + wobble * bell(rng)];
        for stroke in &self.strokes {
            let curve: Vec<Point> = match stroke {
                Stroke::Line(a, b) => vec![shake(*a), shake(*b)],
                Stroke::Bend(a, m, b) => {
                    let (a, m, b) = (shake(*a), shake(*m), shake(*b));
                    let at = |i: usize, k: usize| {
                        let t = i as f32 / PIECES as f32;
                        (1.0 - t) * (1.0 - t) * a[k] + 2.0 * t * (1.0 - t) * m[k] + t * t * b[k]
                    };
                    (0..=PIECES).map(|i| [at(i, 0), at(i, 1)]).collect()
                }
                Stroke::Arc(c, radius, from, to) => {
                    let c = shake(*c);
                    (0..=PIECES + 4)
                        .map(|i| circle(from + (to - from) * i as f32 / (PIECES + 4) as f32))
                        .map(|p| [c[0] + radius * p[0], c[1] + radius * p[1]])
                        .collect()
                }
            };
            segments.extend(curve.windows(2).map(|pair| (pair[0], pair[1])));
        }
        segments
    }
}

/// A point of a jittered 4×4 lattice.
fn lattice(rng: &mut Stream) -> Point {
    let mut coordinate = || (below(rng, 4) as f32 - 1.5) * 0.5 + between(rng, -0.1, 0.1);
    [coordinate(), coordinate()]
}

fn distance(a: Point, b: Point) -> f32 {
    ((a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1])).sqrt()
}

fn distance_to_segment(p: Point, (a, b): (Point, Point)) -> f32 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let length = dx * dx + dy * dy;
    let t = if length > 0.0 { (((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
    distance(p, [a[0] + t * dx, a[1] + t * dy])
}

/// A random affine map: rotation by at most about 20°, unequal scales, shear, shift.
fn pose(rng: &mut Stream) -> impl Fn(Point) -> Point + use<> {
    // t = tan(angle / 2).
    let t = between(rng, -0.17, 0.17);
    let (c, s) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
    let scale = between(rng, 0.55, 0.85);
    let (sx, sy) = (scale * between(rng, 0.85, 1.15), scale * between(rng, 0.85, 1.15));
    let shear = between(rng, -0.2, 0.2);
    let shift = [between(rng, -0.12, 0.12), between(rng, -0.12, 0.12)];
    move |p: Point| {
        let (x, y) = (sx * (p[0] + shear * p[1]), sy * p[1]);
        [c * x - s * y + shift[0], s * x + c * y + shift[1]]
    }
}

fn luminance(colour: [f32; 3]) -> f32 {
    0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
}

/// Any colour, from grey to vivid.
fn colour(rng: &mut Stream) -> [f32; 3] {
    let vivid = [unit(rng), unit(rng), unit(rng)];
    let (grey, share) = (luminance(vivid), unit(rng));
    vivid.map(|c| grey + share * (c - grey))
}

/// Paper and ink, at least 0.35 of luminance apart; the ink is the darker one in five of six images.
fn colours(rng: &mut Stream) -> ([f32; 3], [f32; 3]) {
    let dark_ink = below(rng, 6) < 5;
    loop {
        let (a, b) = (colour(rng), colour(rng));
        let apart = luminance(a) - luminance(b);
        if apart.abs() >= 0.35 {
            let (light, dark) = if apart > 0.0 { (a, b) } else { (b, a) };
            return if dark_ink { (light, dark) } else { (dark, light) };
        }
    }
}

/// One image, `[3, size, size]` bytes.
fn draw(shape: &Shape, size: usize, rng: &mut Stream) -> Vec<u8> {
    let place = pose(rng);
    let segments: Vec<(Point, Point)> =
        shape.segments(rng, 0.05).into_iter().map(|(a, b)| (place(a), place(b))).collect();
    let half_width = between(rng, 0.045, 0.1);
    let (paper, ink) = colours(rng);
    let slope = [between(rng, -0.15, 0.15), between(rng, -0.15, 0.15)];
    // Texture: a 6×6 grid of grey offsets, interpolated.
    let texture: Vec<f32> = (0..36).map(|_| 0.07 * bell(rng).clamp(-2.0, 2.0)).collect();
    let noise = between(rng, 0.01, 0.06);
    let (blot, blot_at, blot_half) = (
        colour(rng),
        [between(rng, -0.9, 0.9), between(rng, -0.9, 0.9)],
        [between(rng, 0.1, 0.3), between(rng, 0.1, 0.3)],
    );
    let pixel = 2.0 / size as f32;
    let mut bytes = vec![0u8; 3 * size * size];
    for y in 0..size {
        for x in 0..size {
            let p = [(x as f32 + 0.5) * pixel - 1.0, (y as f32 + 0.5) * pixel - 1.0];
            let nearest = segments.iter().map(|s| distance_to_segment(p, *s)).fold(f32::INFINITY, f32::min);
            let cover = ((half_width - nearest) / pixel + 0.5).clamp(0.0, 1.0);
            let outside = (p[0] - blot_at[0]).abs() - blot_half[0];
            let outside = outside.max((p[1] - blot_at[1]).abs() - blot_half[1]);
            let hidden = (0.5 - outside / pixel).clamp(0.0, 1.0);
            let light = slope[0] * p[0] + slope[1] * p[1] + sample(&texture, p);
            for channel in 0..3 {
                let ground = paper[channel] + light;
                let drawn = ground + cover * (ink[channel] - ground);
                let value = drawn + hidden * (blot[channel] - drawn) + noise * bell(rng);
                bytes[(channel * size + y) * size + x] = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
            }
        }
    }
    bytes
}

/// Bilinear look-up in the 6×6 texture.
fn sample(texture: &[f32], p: Point) -> f32 {
    let (u, v) = ((p[0] + 1.0) * 2.5, (p[1] + 1.0) * 2.5);
    let (x, y) = ((u as usize).min(4), (v as usize).min(4));
    let (fx, fy) = (u - x as f32, v - y as f32);
    let row = |y: usize| texture[y * 6 + x] * (1.0 - fx) + texture[y * 6 + x + 1] * fx;
    row(y) * (1.0 - fy) + row(y + 1) * fy
}

/// Draws the whole set; image `i` of class `c` depends on `(seed, c, i)` alone.
///
/// # Errors
/// [`DatasetError::Cancelled`].
pub fn build(spec: &GlyphsSpec, observer: &dyn Observer, cancel: &Cancel) -> Result<Cached, DatasetError> {
    let GlyphsSpec { size, classes, per_class, seed } = *spec;
    let stride = 3 * size * size;
    let mut pixels = vec![0u8; classes * per_class * stride];
    observer.begin("drawing glyphs", classes as u64, "classes");
    pixels.par_chunks_mut((per_class * stride).max(1)).enumerate().try_for_each(|(class, images)| {
        cancel.check()?;
        let shape = Shape::of_class(seed, class as u64);
        for (i, image) in images.chunks_mut(stride).enumerate() {
            image.copy_from_slice(&draw(&shape, size, &mut stream(seed, "glyph-image", &[class as u64, i as u64])));
        }
        observer.advance(1);
        Ok::<(), DatasetError>(())
    })?;
    observer.end();
    let header = Header {
        id: "glyphs".into(),
        key: Digest::of_value(&("glyphs", RULES, spec)),
        size,
        labels: (0..classes * per_class).map(|i| (i / per_class) as u32).collect(),
        classes: (0..classes).map(|class| format!("glyph-{class:05}")).collect(),
        sources: (0..classes * per_class).map(|i| format!("drawing {}", i % per_class)).collect(),
        failed: Vec::new(),
        pixel_digest: Digest::of_bytes(b""),
    };
    Ok(in_memory(header, pixels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn glyphs(size: usize, classes: usize, per_class: usize) -> Cached {
        let spec = GlyphsSpec { size, classes, per_class, seed: 7 };
        build(&spec, &Silent, &Cancel::default()).unwrap()
    }

    /// Share of images whose nearest other image (squared distance of `features`) has their label.
    fn nearest_neighbour(features: &[Vec<f32>], labels: &[u32]) -> f32 {
        let hits = (0..features.len()).into_par_iter().filter(|&i| {
            let squared =
                |j: usize| -> f32 { features[i].iter().zip(&features[j]).map(|(a, b)| (a - b) * (a - b)).sum() };
            let best = (0..features.len()).filter(|&j| j != i).min_by(|&a, &b| squared(a).total_cmp(&squared(b)));
            best.is_some_and(|j| labels[j] == labels[i])
        });
        hits.count() as f32 / features.len() as f32
    }

    #[test]
    fn the_same_bytes_as_ever() {
        let set = glyphs(24, 6, 5);
        assert_eq!(set.header.pixel_digest, glyphs(24, 6, 5).header.pixel_digest);
        assert_eq!(set.header.pixel_digest.short(), "d713ebaaee89");
        let more = glyphs(24, 9, 5);
        assert_eq!(set.pixels.as_slice(), &more.pixels.as_slice()[..set.pixels.as_slice().len()]);
    }

    #[test]
    fn raw_pixels_help_but_do_not_solve_it_and_colour_alone_is_chance() {
        let set = glyphs(32, 50, 12);
        let stride = 3 * 32 * 32;
        let raw: Vec<Vec<f32>> =
            set.pixels.as_slice().chunks(stride).map(|i| i.iter().map(|&b| f32::from(b)).collect()).collect();
        let score = nearest_neighbour(&raw, &set.header.labels);
        assert!((0.08..0.4).contains(&score), "recall@1 of raw pixels is {score}, chance is 0.02");
        let mean = |plane: &[f32]| plane.iter().sum::<f32>() / plane.len() as f32;
        let colour: Vec<Vec<f32>> = raw.iter().map(|image| image.chunks(32 * 32).map(mean).collect()).collect();
        let score = nearest_neighbour(&colour, &set.header.labels);
        assert!(score < 0.05, "recall@1 of mean colour is {score}, chance is 0.02");
    }

    #[test]
    fn shapes_differ_by_class_and_have_three_to_six_strokes() {
        let shapes: Vec<Shape> = (0..300).map(|class| Shape::of_class(7, class)).collect();
        for (i, shape) in shapes.iter().enumerate() {
            assert!((3..=6).contains(&shape.strokes.len()));
            assert!(!shapes[..i].contains(shape), "class {i} repeats an earlier shape");
        }
        let clean = |shape: &Shape| shape.segments(&mut stream(0, "test", &[]), 0.0);
        let apart = |a: &Shape, b: &Shape| {
            // Mean distance of the joints of one shape to the ink of the other.
            let (a, b) = (clean(a), clean(b));
            let to = |p: Point| b.iter().map(|s| distance_to_segment(p, *s)).fold(f32::INFINITY, f32::min);
            a.iter().map(|s| to(s.0)).sum::<f32>() / a.len() as f32
        };
        let closest = (0..60).flat_map(|i| (0..60).filter(move |&j| j != i).map(move |j| (i, j)));
        let closest = closest.map(|(i, j)| apart(&shapes[i], &shapes[j]) + apart(&shapes[j], &shapes[i]));
        assert!(closest.fold(f32::INFINITY, f32::min) > 0.05);
    }

    #[test]
    fn the_rational_circle_is_round_and_goes_once_around() {
        let points: Vec<Point> = (-40..40).map(|i| circle(i as f32 / 40.0)).collect();
        for p in &points {
            assert!((distance(*p, [0.0, 0.0]) - 1.0).abs() < 1e-6);
        }
        // Signed area by the shoelace formula: once around, counter-clockwise, nearly pi.
        let area: f32 =
            (0..80).map(|i| (points[i], points[(i + 1) % 80])).map(|(a, b)| a[0] * b[1] - a[1] * b[0]).sum();
        assert!((area / 2.0 - std::f32::consts::PI).abs() < 0.02, "{area}");
    }
}

//! The gradient against differences of the loss: `g · v` against `(L(x + h v) − L(x − h v)) / 2h` in random directions `v`
//! of ±1.
//!
//! The differences are taken in float64 by the interpreter, which shares no code with ONNX Runtime, if it knows every
//! operator and the model is small enough; else in ONNX Runtime's float32, where the step is chosen by how well the
//! differences of two steps agree with each other (never with the gradient), and their disagreement is told.

use rayon::prelude::*;

use super::subject::{Gradient, Subject};
use super::{Differences, Request, check};
use crate::batch::Images;
use crate::encoder::onnx::probe::Rewriting;
use crate::onnx::attack_graph::written_out;
use crate::onnx::describe::multiplications;
use crate::onnx::interpret::{Prepared, Tensor};
use crate::onnx::proto::ModelProto;
use crate::onnx::{Dim, OnnxError};
use crate::progress::Cancelled;
use crate::record::Check;
use crate::rng;
use crate::run::RunError;

/// Least cosine between slopes and differences.
const LEAST_COSINE: f64 = 0.999;
/// Largest relative difference of their sizes.
const LARGEST_SCALE_ERROR: f64 = 0.01;
/// Multiplications that the interpreter may spend on one kind of image: half a minute on two cores, enough for a ResNet-50
/// at 224 pixels.
const INTERPRETER_BUDGET: u64 = 300_000_000_000;
/// Fewer slopes than these say little.
const LEAST_SLOPES: usize = 16;
/// Step in float64: far above its rounding, far below any kink.
const STEP_64: f64 = 1e-6;
/// Steps in float32, from coarse (kinks, curvature) to fine (rounding).
const STEPS_32: [f32; 8] = [2e-3, 1e-3, 5e-4, 2.5e-4, 1.2e-4, 6e-5, 3e-5, 1.5e-5];
/// Above this disagreement between two steps, float32 differences say little.
const VAGUE: f64 = 0.005;

/// Slopes by the gradient and by differences, one pair for each image and direction.
struct Slopes {
    gradient: Vec<f64>,
    differences: Vec<f64>,
    /// How they were taken, in words.
    how: String,
    /// Disagreement of the differences with themselves; `None` in float64, where it is nothing.
    vague: Option<f64>,
}

/// Compares on one kind of image.
pub(super) fn compare(
    request: &Request<'_>,
    subject: &Subject<'_>,
    images: &Images,
    found: &Gradient,
    kind: &str,
) -> Result<Check, RunError> {
    let name = format!("gradient-on-{kind}");
    if let Some(bad) = found.gradient.iter().position(|v| !v.is_finite()) {
        let image = bad / subject.stride();
        return Ok(check(&name, false, format!("the gradient of image {image} is not finite")));
    }
    let [_, directions] = request.images_and_directions;
    let exact = match request.differences {
        Differences::Float32 => Err("float32 was asked for".into()),
        _ => Exact::new(subject, images, found),
    };
    let forced = request.differences == Differences::Float64;
    let (slopes, unable) = match exact {
        Err(reason) => (in_float32(request, subject, images, found, directions)?, Some(reason)),
        Ok(exact) => match exact.affordable(images.len(), directions, forced) {
            0 => {
                let coarse = in_float32(request, subject, images, found, directions)?;
                // Float32 cannot tell: a few directions in float64, whatever they cost.
                let flat = coarse.differences.iter().all(|d| *d == 0.0);
                let unclear = !judge(&coarse).0 && (flat || coarse.vague.is_some_and(|v| v > VAGUE));
                if unclear { or_coarse(exact.slopes(request, images.len().min(2), 2), coarse)? } else { (coarse, None) }
            }
            directions => match exact.slopes(request, images.len(), directions) {
                Err(RunError::Onnx(reason)) if !forced => {
                    let all = request.images_and_directions[1];
                    (in_float32(request, subject, images, found, all)?, Some(reason.to_string()))
                }
                slopes => (slopes?, None),
            },
        },
    };
    let (passed, detail) = judge(&slopes);
    let note = unable.map_or(String::new(), |reason| format!(" (not in float64: {reason})"));
    Ok(check(&name, passed, format!("{detail}{note}")))
}

/// The exact slopes, or the coarse ones and the reason why there are no exact ones.
fn or_coarse(exact: Result<Slopes, RunError>, coarse: Slopes) -> Result<(Slopes, Option<String>), RunError> {
    match exact {
        Ok(exact) => Ok((exact, None)),
        Err(RunError::Onnx(reason)) => Ok((coarse, Some(reason.to_string()))),
        Err(other) => Err(other),
    }
}

fn judge(slopes: &Slopes) -> (bool, String) {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let (g, d) = (&slopes.gradient, &slopes.differences);
    let (gg, dd, gd) = (dot(g, g), dot(d, d), dot(g, d));
    if gg == 0.0 && dd == 0.0 && !g.is_empty() {
        let detail = "flat: the loss changes in no direction, by the gradient and by differences alike; an output behind a \
                      saturated softmax or sigmoid is, take the one before it";
        return (false, format!("{detail} ({} slopes {})", g.len(), slopes.how));
    }
    let (cosine, scale) = (gd / (gg * dd).sqrt(), (dd / gg).sqrt());
    let vague = slopes.vague.map_or(String::new(), |v| format!("; two steps disagree by {v:.0e}"));
    let passed = cosine > LEAST_COSINE && (scale - 1.0).abs() <= LARGEST_SCALE_ERROR;
    let detail = format!(
        "cosine {cosine:.7} (wanted above {LEAST_COSINE}), sizes differ by {:.1e} (allowed {LARGEST_SCALE_ERROR}), {} slopes {}{vague}",
        (scale - 1.0).abs(),
        g.len(),
        slopes.how
    );
    (passed, detail)
}

/// Direction `k` of image `i`: ±1 each.
fn direction(seed: u64, i: usize, k: usize, count: usize) -> Vec<f32> {
    let mut stream = rng::stream(seed, "verify-direction", &[i as u64, k as u64]);
    (0..count).map(|_| if rng::below(&mut stream, 2) == 0 { 1.0 } else { -1.0 }).collect()
}

fn slope(gradient: &[f32], direction: &[f32]) -> f64 {
    gradient.iter().zip(direction).map(|(g, v)| f64::from(*g) * f64::from(*v)).sum()
}

/// The float64 interpreter on the adapted model, one image at a time.
struct Exact<'a> {
    model: ModelProto,
    pixels: &'a str,
    embedding: &'a str,
    images: &'a Images,
    found: &'a Gradient,
    cost: u64,
}

impl<'a> Exact<'a> {
    /// Fails with the reason if the model cannot be lifted.
    fn new(subject: &'a Subject<'_>, images: &'a Images, found: &'a Gradient) -> Result<Self, String> {
        let model = written_out(subject.adapted.with_batch(Dim::Fixed(1))).map_err(|e| e.to_string())?;
        let cost = multiplications(&model);
        let (pixels, embedding) = (subject.adapted.pixels.as_str(), subject.adapted.embedding.as_str());
        Ok(Self { model, pixels, embedding, images, found, cost })
    }

    fn image(&self, i: usize) -> Vec<f64> {
        self.images.image(i).iter().map(|v| f64::from(*v)).collect()
    }

    fn loss(&self, prepared: &Prepared<'_>, i: usize, x: &[f64]) -> Result<f64, OnnxError> {
        let [_, c, h, w] = self.images.shape();
        let x = Tensor { shape: vec![1, c, h, w], data: x.to_vec() };
        let row = prepared.output(&[(self.pixels, x)], self.embedding)?.data;
        let d = row.len();
        let target = self.found.targets.get(i * d..(i + 1) * d).unwrap_or_default();
        Ok(row.iter().zip(target).map(|(e, t)| (e - f64::from(*t)).powi(2)).sum())
    }

    /// Directions of each image that the budget allows, at most `wanted`; 0 if they would be too few to mean something.
    fn affordable(&self, images: usize, wanted: usize, forced: bool) -> usize {
        if forced {
            return wanted;
        }
        let slopes = (INTERPRETER_BUDGET / self.cost.max(1).saturating_mul(2)) as usize;
        let enough = LEAST_SLOPES.min(images * wanted);
        if slopes >= enough { wanted.min((slopes / images.max(1)).max(1)) } else { 0 }
    }

    fn slopes(&self, request: &Request<'_>, images: usize, directions: usize) -> Result<Slopes, RunError> {
        let total = images * directions;
        let prepared = Prepared::new(&self.model)?;
        request.observer.begin("differences in float64", total as u64, "slopes");
        let one = |at: usize| -> Result<(f64, f64), RunError> {
            if request.cancel.check().is_err() {
                return Err(RunError::Cancelled(Cancelled));
            }
            let (i, k) = (at / directions, at % directions);
            let stride = self.images.stride();
            let v = direction(request.seed, i, k, stride);
            let at =
                |h: f64| -> Vec<f64> { self.image(i).iter().zip(&v).map(|(x, v)| x + h * f64::from(*v)).collect() };
            let difference = self.loss(&prepared, i, &at(STEP_64))? - self.loss(&prepared, i, &at(-STEP_64))?;
            request.observer.advance(1);
            Ok((slope(&self.found.gradient[i * stride..][..stride], &v), difference / (2.0 * STEP_64)))
        };
        let pairs: Vec<(f64, f64)> = (0..total).into_par_iter().map(one).collect::<Result<_, _>>()?;
        request.observer.end();
        let (gradient, differences) = pairs.into_iter().unzip();
        let how = format!("in float64 ({images} images, {directions} directions)");
        Ok(Slopes { gradient, differences, how, vague: None })
    }
}

/// Differences of ONNX Runtime's own forward pass.
fn in_float32(
    request: &Request<'_>,
    subject: &Subject<'_>,
    images: &Images,
    found: &Gradient,
    directions: usize,
) -> Result<Slopes, RunError> {
    let (n, stride) = (images.len(), subject.stride());
    let mut probe = subject.probe(&subject.fixed, Rewriting::On)?;
    request.observer.begin("differences in float32", (directions * STEPS_32.len()) as u64, "batches");
    let mut by_step = vec![Vec::with_capacity(n * directions); STEPS_32.len()];
    let mut gradient = Vec::with_capacity(n * directions);
    for k in 0..directions {
        let v: Vec<f32> = (0..n).flat_map(|i| direction(request.seed, i, k, stride)).collect();
        gradient.extend((0..n).map(|i| slope(&found.gradient[i * stride..][..stride], &v[i * stride..][..stride])));
        for (step, slopes) in STEPS_32.iter().zip(&mut by_step) {
            request.cancel.check()?;
            let mut losses = |sign: f32| -> Result<Vec<f64>, RunError> {
                let moved: Vec<f32> = images.as_slice().iter().zip(&v).map(|(x, v)| x + sign * step * v).collect();
                let rows = subject.embed_pixels(&mut probe, &moved, n)?;
                let d = rows.dim();
                let one = |i: usize| -> f64 {
                    let target = &found.targets[i * d..][..d];
                    rows.row(i).iter().zip(target).map(|(e, t)| (f64::from(*e) - f64::from(*t)).powi(2)).sum()
                };
                Ok((0..n).map(one).collect())
            };
            let (up, down) = (losses(1.0)?, losses(-1.0)?);
            slopes.extend(up.iter().zip(&down).map(|(a, b)| (a - b) / (2.0 * f64::from(*step))));
            request.observer.advance(1);
        }
    }
    request.observer.end();
    let length = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let disagreement = |i: usize| {
        let apart: Vec<f64> = by_step[i].iter().zip(&by_step[i + 1]).map(|(a, b)| a - b).collect();
        length(&apart) / length(&by_step[i + 1]).max(f64::MIN_POSITIVE)
    };
    let best = (0..STEPS_32.len() - 1).min_by(|a, b| disagreement(*a).total_cmp(&disagreement(*b))).unwrap_or(0);
    let how = format!("in float32 ({n} images, {directions} directions, step {:.0e})", STEPS_32[best + 1]);
    let vague = Some(disagreement(best));
    Ok(Slopes { gradient, differences: by_step.swap_remove(best + 1), how, vague })
}

/// No image has a gradient of zeros alone. A share of zeros is no fault: pixels that a crop or a stride never looks at
/// have none.
pub(super) fn not_zero(found: &Gradient, kind: &str) -> Check {
    let n = found.zero_share.len().max(1);
    let dead = found.zero_share.iter().filter(|share| **share >= 1.0).count();
    let mean = found.zero_share.iter().sum::<f32>() / n as f32;
    let detail =
        format!("{:.2} % of the gradient's entries are exactly zero; {dead} of {n} images have no other", mean * 100.0);
    check(&format!("gradient-not-zero-on-{kind}"), dead == 0, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slopes(gradient: &[f64], differences: &[f64]) -> Slopes {
        let (gradient, differences) = (gradient.to_vec(), differences.to_vec());
        Slopes { gradient, differences, how: "by hand".into(), vague: None }
    }

    #[test]
    fn a_wrong_direction_a_wrong_size_and_no_number_at_all_fail() {
        let right = [1.0, -2.0, 0.5, 3.0];
        assert!(judge(&slopes(&right, &right)).0);
        assert!(judge(&slopes(&right, &[1.001, -2.002, 0.5, 3.003])).0);
        let scaled = right.map(|v| 1.05 * v);
        assert!(!judge(&slopes(&right, &scaled)).0, "the cosine alone would not see it");
        assert!(!judge(&slopes(&right, &[1.0, -2.0, 0.5, 2.6])).0);
        assert!(!judge(&slopes(&right, &[f64::NAN; 4])).0);
        assert!(!judge(&slopes(&[0.0; 4], &right)).0);
        let (passed, detail) = judge(&slopes(&[0.0; 4], &[0.0; 4]));
        assert!(!passed && detail.starts_with("flat: "), "{detail}");
        assert!(!judge(&slopes(&[], &[])).0);
    }
}

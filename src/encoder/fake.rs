//! An encoder in closed form: `f(x) = W x`, L2-normalised or not, with its exact gradient.
//!
//! It needs no runtime, its samples never see each other, and for one output without normalisation the best attack in
//! the L∞ ball is known: every pixel at the bound that the sign of its weight asks for.

use super::loss::Terms;
use super::{Descent, Encoder, EncoderError, EncoderSpec, Evaluation, Gradient, GradientSteps, Loss, Sample};
use crate::batch::{Embeddings, Images, ShapeError};
use crate::rng;

/// `f(x) = W x`, or `W x / ‖W x‖`.
#[derive(Debug, Clone)]
pub struct LinearEncoder {
    spec: EncoderSpec,
    /// `[d, c · h · w]`.
    weight: Vec<f32>,
    normalised: bool,
}

impl LinearEncoder {
    /// Wraps a weight matrix.
    ///
    /// # Shapes
    /// `input`: `[c, h, w]`; `weight`: `[d, c · h · w]`.
    /// # Errors
    /// [`EncoderError::Shape`] if the weight does not hold whole rows.
    pub fn new(input: [usize; 3], weight: Vec<f32>, normalised: bool) -> Result<Self, EncoderError> {
        let stride: usize = input.iter().product();
        let name = "linear".to_string();
        if stride == 0 || weight.is_empty() || !weight.len().is_multiple_of(stride) {
            let source = ShapeError::Length { got: weight.len(), wanted: stride, shape: vec![1, stride] };
            return Err(EncoderError::Shape { name, source });
        }
        let embedding_dim = weight.len() / stride;
        let spec = EncoderSpec {
            name,
            input,
            embedding_dim,
            std: vec![1.0; input[0]],
            provider: "cpu".into(),
            straight_through: vec![],
            notes: vec![],
        };
        Ok(Self { spec, weight, normalised })
    }

    /// Normal weights from a seed.
    ///
    /// # Errors
    /// [`EncoderError::Shape`] if a size is zero.
    pub fn random(input: [usize; 3], embedding_dim: usize, normalised: bool, seed: u64) -> Result<Self, EncoderError> {
        let mut stream = rng::stream(seed, "linear-encoder", &[]);
        let count = input.iter().product::<usize>() * embedding_dim;
        Self::new(input, (0..count).map(|_| rng::normal(&mut stream)).collect(), normalised)
    }

    /// Sets the per-channel standard deviation that normalised budgets refer to.
    #[must_use]
    pub fn with_std(mut self, std: Vec<f32>) -> Self {
        self.spec.std = std;
        self
    }

    fn row(&self, output: usize) -> &[f32] {
        let stride = self.weight.len() / self.spec.embedding_dim;
        &self.weight[output * stride..(output + 1) * stride]
    }

    /// `W x` and its norm (1 without normalisation).
    fn project(&self, image: &[f32]) -> (Vec<f64>, f64) {
        let product = |output| self.row(output).iter().zip(image).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        let outputs: Vec<f64> = (0..self.spec.embedding_dim).map(product).collect();
        let norm = if self.normalised { outputs.iter().map(|v| v * v).sum::<f64>().sqrt() } else { 1.0 };
        (outputs, norm)
    }

    fn embed_one(&self, image: &[f32]) -> Vec<f32> {
        let (outputs, norm) = self.project(image);
        outputs.iter().map(|v| if norm > 0.0 { (v / norm) as f32 } else { 0.0 }).collect()
    }

    fn check(&self, images: &Images, what: &'static str) -> Result<(), EncoderError> {
        let [n, c, h, w] = images.shape();
        if [c, h, w] == self.spec.input {
            return Ok(());
        }
        let [ic, ih, iw] = self.spec.input;
        let source = ShapeError::Mismatch { what, got: vec![n, c, h, w], wanted: vec![n, ic, ih, iw] };
        Err(EncoderError::Shape { name: self.spec.name.clone(), source })
    }

    /// Gradient of the loss with respect to the pixels of one image.
    fn pixel_gradient(&self, image: &[f32], loss: &Loss<'_>, sample: usize) -> Vec<f64> {
        let (outputs, norm) = self.project(image);
        if norm == 0.0 {
            return vec![0.0; image.len()];
        }
        let f: Vec<f64> = outputs.iter().map(|v| v / norm).collect();
        let mut toward = loss.gradient(sample, &f);
        if self.normalised {
            // The derivative of y / ‖y‖ is (I − f fᵀ) / ‖y‖.
            let along: f64 = toward.iter().zip(&f).map(|(a, b)| a * b).sum();
            toward.iter_mut().zip(&f).for_each(|(v, f)| *v = (*v - along * f) / norm);
        }
        let mut gradient = vec![0.0f64; image.len()];
        for (output, v) in toward.iter().enumerate() {
            for (sum, w) in gradient.iter_mut().zip(self.row(output)) {
                *sum += v * f64::from(*w);
            }
        }
        gradient
    }
}

impl Encoder for LinearEncoder {
    fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    fn embed(&mut self, images: &Images) -> Result<Embeddings, EncoderError> {
        self.check(images, "images")?;
        let data = (0..images.len()).flat_map(|i| self.embed_one(images.image(i))).collect();
        Ok(Embeddings::new([images.len(), self.spec.embedding_dim], data).expect("one row for each image"))
    }

    fn descend<'a>(&'a mut self, descent: &Descent<'_>) -> Result<Box<dyn GradientSteps + 'a>, EncoderError> {
        for (images, what) in [(descent.start, "start"), (descent.lower, "lower"), (descent.upper, "upper")] {
            self.check(images, what)?;
        }
        let fits = descent.loss.check(descent.start.len(), self.spec.embedding_dim);
        fits.map_err(|source| EncoderError::Shape { name: self.spec.name.clone(), source })?;
        Ok(Box::new(LinearSteps {
            encoder: self,
            terms: Terms::of(&descent.loss, descent.start.len()),
            lower: descent.lower.clone(),
            upper: descent.upper.clone(),
            evaluated: descent.start.clone(),
            current: descent.start.clone(),
        }))
    }

    fn gradient(&mut self, at: &Descent<'_>) -> Result<Gradient, EncoderError> {
        let evaluation = self.descend(at)?.evaluate()?;
        let of_sample = |i| self.pixel_gradient(at.start.image(i), &at.loss, i);
        let pixels = (0..at.start.len()).flat_map(of_sample).map(|v| v as f32).collect();
        Ok(Gradient { evaluation, pixels })
    }
}

struct LinearSteps<'a> {
    encoder: &'a LinearEncoder,
    terms: Terms,
    lower: Images,
    upper: Images,
    evaluated: Images,
    current: Images,
}

impl GradientSteps for LinearSteps<'_> {
    fn step(&mut self, step_size: &[f32]) -> Result<Evaluation, EncoderError> {
        let evaluation = self.evaluate()?;
        let [n, channels, h, w] = self.current.shape();
        for sample in 0..n {
            let gradient = self.encoder.pixel_gradient(self.evaluated.image(sample), &self.terms.loss(), sample);
            let (lower, upper) = (self.lower.image(sample), self.upper.image(sample));
            for (i, x) in self.current.image_mut(sample).iter_mut().enumerate() {
                let step = step_size[sample * channels + i / (h * w)];
                let sign = if gradient[i] == 0.0 { 0.0 } else { gradient[i].signum() as f32 };
                *x = (*x - step * sign).clamp(lower[i], upper[i]);
            }
        }
        Ok(evaluation)
    }

    fn evaluate(&mut self) -> Result<Evaluation, EncoderError> {
        self.evaluated = self.current.clone();
        let (n, d) = (self.current.len(), self.encoder.spec.embedding_dim);
        let (mut loss, mut rows) = (Vec::with_capacity(n), Vec::with_capacity(n * d));
        for sample in 0..n {
            let row = self.encoder.embed_one(self.current.image(sample));
            loss.push(self.terms.loss().value(sample, &row) as f32);
            rows.extend(row);
        }
        Ok(Evaluation { loss, embeddings: Embeddings::new([n, d], rows).expect("one row for each image") })
    }

    fn copy_evaluated(&self, i: usize, out: &mut [f32]) {
        out.copy_from_slice(self.evaluated.image(i));
    }

    fn copy_current(&self, i: usize, out: &mut [f32]) {
        out.copy_from_slice(self.current.image(i));
    }

    fn replace(&mut self, i: usize, sample: &Sample<'_>) -> Result<(), EncoderError> {
        let (stride, dim) = (self.current.stride(), self.encoder.spec.embedding_dim);
        sample.check(&self.encoder.spec.name, stride, self.terms.row(dim))?;
        self.current.image_mut(i).copy_from_slice(sample.start);
        self.lower.image_mut(i).copy_from_slice(sample.lower);
        self.upper.image_mut(i).copy_from_slice(sample.upper);
        self.terms.exchange(i, sample);
        Ok(())
    }

    fn shrink(&mut self, n: usize) {
        self.current = self.current.first(n);
        self.evaluated = self.evaluated.first(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::Distance;

    #[test]
    fn the_gradient_equals_central_differences() {
        let mut stream = rng::stream(4, "test", &[]);
        let image: Vec<f32> = (0..12).map(|_| rng::unit(&mut stream)).collect();
        let targets: Vec<f32> = (0..8).map(|_| rng::normal(&mut stream)).collect();
        for normalised in [false, true] {
            let encoder = LinearEncoder::random([3, 2, 2], 4, normalised, 9).unwrap();
            for distance in [Distance::SquaredEuclidean, Distance::Euclidean] {
                let terms = Loss::weighted(distance, 2, &targets, &[0.7, -0.2]);
                // In f64: the f32 embedding would drown the difference.
                let loss = |x: &[f64]| -> f64 {
                    let outputs: Vec<f64> = (0..4)
                        .map(|o| encoder.row(o).iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>())
                        .collect();
                    let norm = if normalised { outputs.iter().map(|v| v * v).sum::<f64>().sqrt() } else { 1.0 };
                    let squared = |t: usize| -> f64 {
                        (0..4).map(|o| (outputs[o] / norm - f64::from(targets[t * 4 + o])).powi(2)).sum()
                    };
                    [(0, f64::from(0.7f32)), (1, f64::from(-0.2f32))]
                        .map(|(t, w)| w * if distance == Distance::Euclidean { squared(t).sqrt() } else { squared(t) })
                        .iter()
                        .sum()
                };
                let gradient = encoder.pixel_gradient(&image, &terms, 0);
                for i in 0..12 {
                    let at = |shift: f64| {
                        let mut x: Vec<f64> = image.iter().map(|&v| f64::from(v)).collect();
                        x[i] += shift;
                        loss(&x)
                    };
                    let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                    approx::assert_relative_eq!(gradient[i], numeric, max_relative = 1e-6, epsilon = 1e-8);
                }
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(LinearEncoder::new([3, 2, 2], vec![0.0; 13], false).is_err());
        let mut encoder = LinearEncoder::random([3, 2, 2], 4, true, 1).unwrap();
        let error = encoder.embed(&Images::new([1, 3, 2, 3], vec![0.0; 18]).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "linear: images: got shape [1, 3, 2, 3], wanted [1, 3, 2, 2]");
    }
}

//! A model that answers at once, so that a trial of it takes only what the program itself takes.

use crate::batch::{Embeddings, Images};
use crate::encoder::{Descent, Encoder, EncoderError, EncoderSpec, Evaluation, Gradient, GradientSteps};
use crate::rng;

/// Different embeddings that it gives.
const ROWS: usize = 64;

/// Its answers are the same few embeddings in turn, its gradient is an alternating sign.
pub(super) struct Idle {
    spec: EncoderSpec,
    rows: Vec<f32>,
    pass: usize,
}

impl Idle {
    pub(super) fn new(input: [usize; 3], dim: usize, pass: usize) -> Self {
        let mut stream = rng::stream(0, "idle", &[]);
        let spec = EncoderSpec {
            name: "idle".into(),
            input,
            embedding_dim: dim,
            std: vec![1.0; input[0]],
            provider: "cpu".into(),
            notes: vec![],
            straight_through: vec![],
        };
        Self { spec, rows: unit_rows(ROWS, dim, |_| rng::normal(&mut stream)), pass }
    }

    /// Embeddings as a model gives them that knows the classes fairly well: each class around a direction of its own.
    pub(super) fn classes(labels: &[u32], dim: usize) -> Embeddings {
        let rows = labels.iter().enumerate().flat_map(|(i, label)| {
            let mut centre = rng::stream(0, "idle-class", &[u64::from(*label)]);
            let mut own = rng::stream(0, "idle-image", &[i as u64]);
            unit_rows(1, dim, |_| rng::normal(&mut centre) + rng::normal(&mut own))
        });
        Embeddings::new([labels.len(), dim], rows.collect()).expect("one row for each label")
    }

    fn answers(&self, n: usize) -> Embeddings {
        let rows = self.rows.iter().copied().cycle().take(n * self.spec.embedding_dim).collect();
        Embeddings::new([n, self.spec.embedding_dim], rows).expect("one row for each image")
    }
}

fn unit_rows(n: usize, dim: usize, mut entry: impl FnMut(usize) -> f32) -> Vec<f32> {
    let mut rows: Vec<f32> = (0..n * dim).map(&mut entry).collect();
    for row in rows.chunks_exact_mut(dim.max(1)) {
        let length = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        row.iter_mut().for_each(|v| *v /= length);
    }
    rows
}

impl Encoder for Idle {
    fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    fn pass_size(&self) -> usize {
        self.pass
    }

    fn embed(&mut self, images: &Images) -> Result<Embeddings, EncoderError> {
        Ok(self.answers(images.len()))
    }

    fn descend<'a>(&'a mut self, _: &Descent<'_>) -> Result<Box<dyn GradientSteps + 'a>, EncoderError> {
        let name = self.spec.name.clone();
        Err(EncoderError::NoGradient { name, node: "embedding".into(), op: "none".into() })
    }

    fn gradient(&mut self, at: &Descent<'_>) -> Result<Gradient, EncoderError> {
        let (n, pixels) = (at.start.len(), at.start.as_slice().len());
        let embeddings = self.answers(n);
        let loss = (0..n).map(|i| at.loss.value(i, embeddings.row(i)) as f32).collect();
        let pixels = (0..pixels).map(|i| if i % 3 == 0 { 1e-3 } else { -1e-3 }).collect();
        Ok(Gradient { evaluation: Evaluation { loss, embeddings }, pixels })
    }
}

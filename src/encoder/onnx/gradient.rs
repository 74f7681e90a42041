//! Loss and gradient at given images: for searches that step by themselves.

use ort::session::Session;
use ort::value::DynValue;

use super::descent::{gallery_values, table_shape};
use super::{Attack, OnnxEncoder, Pass, join, padded, session, share};
use crate::encoder::{Descent, EncoderError, EncoderSpec, Evaluation, Gradient};
use crate::onnx::AttackGraph;

/// What one run gives for a full piece.
struct Found {
    embedding: Vec<f32>,
    loss: Vec<f32>,
    gradient_l1: Vec<f32>,
    gradient: Vec<f32>,
}

impl OnnxEncoder {
    /// See [`Encoder::gradient`](crate::encoder::Encoder::gradient).
    pub(super) fn gradient_at(&mut self, at: &Descent<'_>) -> Result<Gradient, EncoderError> {
        self.check_descent(at)?;
        let (n, t, size, d) = (at.start.len(), at.loss.targets_per_sample, self.batch_size, self.spec.embedding_dim);
        let count = n.div_ceil(size);
        self.ensure_attack(at.loss.head, Pass::Gradient, count)?;
        let [c, h, w] = self.spec.input;
        let missing = || EncoderError::Runtime { name: self.spec.name.clone(), reason: "no gradient session".into() };
        let Attack { names, sessions } = self.attacks.get_mut(&(at.loss.head, Pass::Gradient)).ok_or_else(missing)?;
        let spec = &self.spec;
        let (columns, gallery) = (at.loss.table_columns(n), gallery_values(spec, names, &at.loss)?);
        let piece = |session: &mut Session, i: usize| {
            let make = |shape: &[usize], data: &[f32]| {
                let stride = shape[1..].iter().product();
                Ok(session::tensor(&spec.name, shape, padded(data, stride, i * size, size))?.into_dyn())
            };
            let mut inputs = vec![(&names.x, make(&[size, c, h, w], at.start.as_slice())?)];
            if t > 0 {
                inputs.push((&names.targets, make(&[size, t, d], at.loss.targets)?));
                inputs.push((&names.weights, make(&[size, t], at.loss.weights)?));
            }
            if let Some(table) = &names.table {
                inputs.push((table, make(&table_shape(&at.loss, size, columns), at.loss.table)?));
            }
            run(session, spec, names, &inputs, &gallery)
        };
        let found = share(sessions, count, piece)?;
        let per_sample = |pick: &dyn Fn(&Found) -> &[f32], stride: usize| {
            let mut all: Vec<f32> = Vec::with_capacity(n * stride);
            for (i, found) in found.iter().enumerate() {
                let rows = size.min(n - i * size);
                all.extend_from_slice(&pick(found)[..rows * stride]);
            }
            all
        };
        let loss = per_sample(&|f| &f.loss, 1);
        for (what, values) in [("gradient", &per_sample(&|f| &f.gradient_l1, 1)), ("loss", &loss)] {
            if let Some(sample) = values.iter().position(|v| !v.is_finite()) {
                return Err(EncoderError::NotFinite { name: spec.name.clone(), what, sample });
            }
        }
        let pixels = per_sample(&|f| &f.gradient, c * h * w);
        let rows = found.into_iter().map(|f| f.embedding).collect();
        let embeddings = join(&spec.name, n, d, size, rows)?;
        Ok(Gradient { evaluation: Evaluation { loss, embeddings }, pixels })
    }
}

fn run(
    session: &mut Session,
    spec: &EncoderSpec,
    names: &AttackGraph,
    own: &[(&String, DynValue)],
    shared: &[(String, DynValue)],
) -> Result<Found, EncoderError> {
    let failed = session::failed(&spec.name);
    let all = own.iter().map(|(name, value)| (name.as_str(), value));
    let all = all.chain(shared.iter().map(|(name, value)| (name.as_str(), value)));
    let inputs: Vec<(&str, ort::session::SessionInputValue<'_>)> =
        all.map(|(name, value)| (name, value.into())).collect();
    let outputs = session.run(inputs).map_err(&failed)?;
    let read = |name: &str| -> Result<Vec<f32>, EncoderError> {
        let reason = format!("output `{name}` is missing");
        let value = outputs.get(name).ok_or_else(|| EncoderError::Runtime { name: spec.name.clone(), reason })?;
        Ok(value.try_extract_tensor::<f32>().map_err(&failed)?.1.to_vec())
    };
    Ok(Found {
        embedding: read(&names.embedding)?,
        loss: read(&names.loss)?,
        gradient_l1: read(&names.gradient_l1)?,
        gradient: read(names.gradient.as_deref().unwrap_or_default())?,
    })
}

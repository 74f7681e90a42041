//! A running descent: tensors stay bound, one run per step gives loss, embedding and the next iterate.

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::DynValue;

use super::{Attack, OnnxEncoder, Pass, forward, join, padded, session, share};
use crate::batch::ShapeError;
use crate::encoder::loss::Terms;
use crate::encoder::{Descent, EncoderError, EncoderSpec, Evaluation, GradientSteps, Loss, Sample};
use crate::onnx::AttackGraph;
use crate::onnx::loss_head::{GALLERY_MARKS, LossHead};

/// See [`GradientSteps`]; made by [`OnnxEncoder`].
pub(super) struct OnnxDescent<'a> {
    spec: &'a EncoderSpec,
    names: &'a AttackGraph,
    forward: &'a mut [Session],
    attack: &'a mut [Session],
    input: &'a str,
    output: &'a str,
    n: usize,
    size: usize,
    /// What the pieces are bound to, so that one sample can be exchanged: `[n, c, h, w]`.
    lower: Vec<f32>,
    upper: Vec<f32>,
    terms: Terms,
    pieces: Vec<Piece>,
    /// Share of gradient entries that are exactly zero, at the last step, `[n]`.
    zero_share: Vec<f32>,
}

/// One fixed-size part of the batch. A piece always runs on the same session, to which its binding belongs.
struct Piece {
    binding: IoBinding,
    memory: MemoryInfo<'static>,
    /// Where the next evaluation happens.
    x: DynValue,
    /// What the last evaluation saw; absent while that is `x` itself.
    evaluated: Option<DynValue>,
    /// A sample was exchanged since the bounds and targets were bound.
    stale: bool,
}

/// What one run gives for a full piece.
struct Step {
    embedding: Vec<f32>,
    loss: Vec<f32>,
    gradient_l1: Vec<f32>,
    nonzero_share: Vec<f32>,
}

impl<'a> OnnxDescent<'a> {
    pub(super) fn new(encoder: &'a mut OnnxEncoder, descent: &Descent<'_>) -> Result<Self, EncoderError> {
        encoder.check_descent(descent)?;
        let n = descent.start.len();
        let size = encoder.batch_size;
        let count = n.div_ceil(size);
        // In this order: the attack may find that fewer sessions do.
        encoder.ensure_attack(descent.loss.head, Pass::Step, count)?;
        encoder.ensure_forward(count)?;
        let OnnxEncoder { spec, forward, attacks, input, output, .. } = encoder;
        let missing = || EncoderError::Runtime { name: spec.name.clone(), reason: "no attack session".into() };
        let Attack { names, sessions } = attacks.get_mut(&(descent.loss.head, Pass::Step)).ok_or_else(missing)?;
        let lanes = sessions.len().min(count).max(1);
        let mut pieces = (0..count)
            .map(|i| Piece::new(&sessions[i % lanes], spec, names, descent, i * size, size))
            .collect::<Result<Vec<_>, _>>()?;
        bind_gallery(&mut pieces, spec, names, descent)?;
        Ok(Self {
            spec,
            names,
            forward: forward.as_mut_slice(),
            attack: sessions.as_mut_slice(),
            input: input.as_str(),
            output: output.as_str(),
            n,
            size,
            lower: descent.lower.as_slice().to_vec(),
            upper: descent.upper.as_slice().to_vec(),
            terms: Terms::of(&descent.loss, n),
            pieces,
            zero_share: vec![],
        })
    }

    /// Binds the bounds and targets of every piece in which a sample was exchanged.
    fn bind_stale(&mut self) -> Result<(), EncoderError> {
        let size = self.size;
        let loss = self.terms.loss();
        let [t, d, columns] = self.terms.row(self.spec.embedding_dim);
        let [c, h, w] = self.spec.input;
        let failed = session::failed(&self.spec.name);
        let table_shape = table_shape(&loss, size, columns);
        for (i, piece) in self.pieces.iter_mut().enumerate().filter(|(_, p)| p.stale) {
            let mut bound = vec![
                (&self.names.lower, vec![size, c, h, w], self.lower.as_slice()),
                (&self.names.upper, vec![size, c, h, w], &self.upper),
                (&self.names.targets, vec![size, t, d], loss.targets),
                (&self.names.weights, vec![size, t], loss.weights),
            ];
            bound.extend(self.names.table.as_ref().map(|name| (name, table_shape.clone(), loss.table)));
            for (name, shape, data) in bound.into_iter().filter(|(name, ..)| !name.is_empty()) {
                let stride = shape[1..].iter().product();
                let value = session::tensor(&self.spec.name, &shape, padded(data, stride, i * size, size))?;
                piece.binding.bind_input(name, &value).map_err(&failed)?;
            }
            piece.stale = false;
        }
        Ok(())
    }

    fn not_finite(&self, what: &'static str, values: &[f32]) -> Result<(), EncoderError> {
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(sample) => Err(EncoderError::NotFinite { name: self.spec.name.clone(), what, sample }),
        }
    }
}

/// The gallery is the same for every piece, and stays.
fn bind_gallery(
    pieces: &mut [Piece],
    spec: &EncoderSpec,
    names: &AttackGraph,
    descent: &Descent<'_>,
) -> Result<(), EncoderError> {
    let failed = session::failed(&spec.name);
    let values = gallery_values(spec, names, &descent.loss)?;
    for piece in pieces {
        for (name, value) in &values {
            piece.binding.bind_input(name.as_str(), value).map_err(&failed)?;
        }
    }
    Ok(())
}

/// The shared inputs of a loss that looks at a gallery; none for the others.
pub(super) fn gallery_values(
    spec: &EncoderSpec,
    names: &AttackGraph,
    loss: &Loss<'_>,
) -> Result<Vec<(String, DynValue)>, EncoderError> {
    let (Some([rows, marks]), Some(gallery)) = (&names.gallery, loss.gallery) else { return Ok(vec![]) };
    let embeddings = gallery.embeddings();
    let (n, d) = (embeddings.len(), embeddings.dim());
    Ok(vec![
        (rows.clone(), session::tensor(&spec.name, &[n, d], embeddings.as_slice().to_vec())?.into_dyn()),
        (marks.clone(), session::tensor(&spec.name, &[GALLERY_MARKS, n], gallery.marks())?.into_dyn()),
    ])
}

/// Shape of the table of `size` samples.
pub(super) fn table_shape(loss: &Loss<'_>, size: usize, columns: usize) -> Vec<usize> {
    match (loss.head, loss.targets_per_sample.max(1)) {
        (LossHead::FixedHinge, t) => vec![size, t, columns / t],
        _ => vec![size, columns],
    }
}

impl Piece {
    fn new(
        attack: &Session,
        spec: &EncoderSpec,
        names: &AttackGraph,
        descent: &Descent<'_>,
        start: usize,
        size: usize,
    ) -> Result<Self, EncoderError> {
        let failed = session::failed(&spec.name);
        let [c, h, w] = spec.input;
        let image = [size, c, h, w];
        let make = |shape: &[usize], data: &[f32]| {
            let stride = shape[1..].iter().product();
            session::tensor(&spec.name, shape, padded(data, stride, start, size))
        };
        let x = make(&image, descent.start.as_slice())?.into_dyn();
        let mut binding = attack.create_binding().map_err(&failed)?;
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
        let memory = memory.map_err(&failed)?;
        for output in [&names.x_next, &names.embedding, &names.loss, &names.gradient_l1, &names.nonzero_share] {
            binding.bind_output_to_device(output, &memory).map_err(&failed)?;
        }
        // Bounds and targets are bound before the first step.
        Ok(Self { binding, memory, x, evaluated: None, stale: true })
    }

    fn step(
        &mut self,
        session: &mut Session,
        spec: &EncoderSpec,
        names: &AttackGraph,
        steps: Vec<f32>,
    ) -> Result<Step, EncoderError> {
        let failed = session::failed(&spec.name);
        let c = spec.input[0];
        let steps = session::tensor(&spec.name, &[steps.len() / c, c, 1, 1], steps)?;
        self.binding.bind_input(&names.step_size, &steps).map_err(&failed)?;
        self.binding.bind_input(&names.x, &self.x).map_err(&failed)?;
        // A bound output keeps its buffer: without a new one, the next iterate would be written over this one.
        self.binding.bind_output_to_device(&names.x_next, &self.memory).map_err(&failed)?;
        let mut outputs = session.run_binding(&self.binding).map_err(&failed)?;
        let missing = |name: &str| EncoderError::Runtime {
            name: spec.name.clone(),
            reason: format!("output `{name}` is missing"),
        };
        let read = |name: &str| -> Result<Vec<f32>, EncoderError> {
            let value = outputs.get(name).ok_or_else(|| missing(name))?;
            Ok(value.try_extract_tensor::<f32>().map_err(&failed)?.1.to_vec())
        };
        let step = Step {
            embedding: read(&names.embedding)?,
            loss: read(&names.loss)?,
            gradient_l1: read(&names.gradient_l1)?,
            nonzero_share: read(&names.nonzero_share)?,
        };
        let next = outputs.remove(&names.x_next).ok_or_else(|| missing(&names.x_next))?;
        self.evaluated = Some(std::mem::replace(&mut self.x, next));
        Ok(step)
    }
}

impl GradientSteps for OnnxDescent<'_> {
    fn step(&mut self, step_size: &[f32]) -> Result<Evaluation, EncoderError> {
        let (n, c, size) = (self.n, self.spec.input[0], self.size);
        if step_size.len() != n * c {
            let source = ShapeError::Mismatch { what: "step size", got: vec![step_size.len()], wanted: vec![n, c] };
            return Err(EncoderError::Shape { name: self.spec.name.clone(), source });
        }
        self.bind_stale()?;
        let (spec, names) = (self.spec, self.names);
        let lanes = self.attack.len().min(self.pieces.len()).max(1);
        // Each lane owns one session and the pieces that belong to it.
        let mut owned: Vec<(&mut Session, Vec<&mut Piece>)> =
            self.attack.iter_mut().take(lanes).map(|s| (s, vec![])).collect();
        let count = self.pieces.len();
        for (i, piece) in self.pieces.iter_mut().enumerate() {
            owned[i % lanes].1.push(piece);
        }
        let work = |(session, pieces): &mut (&mut Session, Vec<&mut Piece>), i: usize| {
            let steps = padded(step_size, c, i * size, size);
            pieces[i / lanes].step(session, spec, names, steps)
        };
        let steps = share(&mut owned, count, work)?;

        let per_sample = |pick: &dyn Fn(&Step) -> &[f32]| {
            let mut all: Vec<f32> = steps.iter().flat_map(pick).copied().collect();
            all.truncate(n);
            all
        };
        let loss = per_sample(&|s| &s.loss);
        self.not_finite("gradient", &per_sample(&|s| &s.gradient_l1))?;
        self.not_finite("loss", &loss)?;
        self.zero_share = per_sample(&|s| &s.nonzero_share).iter().map(|v| 1.0 - v).collect();
        let embeddings = steps.into_iter().map(|s| s.embedding).collect();
        Ok(Evaluation { loss, embeddings: join(&spec.name, n, spec.embedding_dim, size, embeddings)? })
    }

    fn evaluate(&mut self) -> Result<Evaluation, EncoderError> {
        let (spec, input, output) = (self.spec, self.input, self.output);
        let iterates: Vec<&DynValue> = self.pieces.iter().map(|p| &p.x).collect();
        let work = |session: &mut Session, i: usize| forward(session, &spec.name, input, output, iterates[i]);
        let rows = share(self.forward, iterates.len(), work)?;
        let embeddings = join(&spec.name, self.n, spec.embedding_dim, self.size, rows)?;
        self.pieces.iter_mut().for_each(|p| p.evaluated = None);
        let loss = self.terms.loss().values(&embeddings).into_iter().map(|v| v as f32).collect();
        Ok(Evaluation { loss, embeddings })
    }

    fn copy_evaluated(&self, i: usize, out: &mut [f32]) {
        let piece = &self.pieces[i / self.size];
        let value = piece.evaluated.as_ref().unwrap_or(&piece.x);
        // The value was made as a float32 tensor of whole images.
        if let Ok((_, data)) = value.try_extract_tensor::<f32>() {
            let stride = data.len() / self.size;
            out.copy_from_slice(&data[i % self.size * stride..][..stride]);
        }
    }

    fn copy_current(&self, i: usize, out: &mut [f32]) {
        if let Ok((_, data)) = self.pieces[i / self.size].x.try_extract_tensor::<f32>() {
            let stride = data.len() / self.size;
            out.copy_from_slice(&data[i % self.size * stride..][..stride]);
        }
    }

    fn replace(&mut self, i: usize, sample: &Sample<'_>) -> Result<(), EncoderError> {
        let stride = self.spec.input.iter().product();
        sample.check(&self.spec.name, stride, self.terms.row(self.spec.embedding_dim))?;
        let exchange = |rows: &mut [f32], row: &[f32]| rows[i * row.len()..][..row.len()].copy_from_slice(row);
        exchange(&mut self.lower, sample.lower);
        exchange(&mut self.upper, sample.upper);
        self.terms.exchange(i, sample);
        let piece = &mut self.pieces[i / self.size];
        piece.stale = true;
        // A copy: the iterate may still be held by the runtime as the output of the last step.
        let (_, data) = piece.x.try_extract_tensor::<f32>().map_err(session::failed(&self.spec.name))?;
        let mut data = data.to_vec();
        data[i % self.size * stride..][..stride].copy_from_slice(sample.start);
        let [c, h, w] = self.spec.input;
        piece.x = session::tensor(&self.spec.name, &[self.size, c, h, w], data)?.into_dyn();
        Ok(())
    }

    fn shrink(&mut self, n: usize) {
        self.n = self.n.min(n);
        self.pieces.truncate(self.n.div_ceil(self.size));
    }

    fn zero_gradient_share(&self) -> Option<&[f32]> {
        (!self.zero_share.is_empty()).then_some(&self.zero_share)
    }
}

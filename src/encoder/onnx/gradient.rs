//! Loss and gradient at given images: for searches that step by themselves.

use ort::session::Session;
use ort::value::DynValue;

use super::descent::{gallery_values, table_shape};
use super::{Attack, OnnxEncoder, graph_inputs, join, lanes, padded, session, share};
use crate::encoder::{Descent, EncoderError, EncoderSpec, Evaluation, Gradient};
use crate::onnx::proto::ModelProto;
use crate::onnx::{AttackGraph, AttackGraphOptions, LossHead, attack_graph};

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
        self.ensure_gradient(at.loss.head, count)?;
        let [c, h, w] = self.spec.input;
        let missing = || EncoderError::Runtime { name: self.spec.name.clone(), reason: "no gradient session".into() };
        let Attack { names, sessions } = self.gradients.get_mut(&at.loss.head).ok_or_else(missing)?;
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

    /// The gradient's graph of this loss, with one session per thread that has work.
    fn ensure_gradient(&mut self, head: LossHead, pieces: usize) -> Result<(), EncoderError> {
        self.use_head(head);
        let wanted = self.threads.min(pieces).max(1);
        if self.gradients.get(&head).is_some_and(|a| a.sessions.len() >= wanted) {
            return Ok(());
        }
        let options = AttackGraphOptions {
            head,
            batch_size: Some(self.batch_size),
            targets_per_sample: None,
            gradient_output: true,
            straight_through: self.straight_through,
        };
        let graph = attack_graph::build(self.model.clone(), &options).map_err(|e| self.no_gradient(e))?;
        let mut graph = graph.without_step();
        self.spec.straight_through.clone_from(&graph.straight_through);
        let mut sessions = self.gradients.remove(&head).map(|a| a.sessions).unwrap_or_default();
        while sessions.len() < wanted {
            sessions.push(session::open(
                &self.runtime,
                &self.spec.name,
                &graph.model,
                self.provider,
                &mut self.weights,
            )?);
        }
        self.settle_gradient_sessions(head, &graph, &mut sessions)?;
        graph.model = ModelProto::default();
        self.gradients.insert(head, Attack { names: graph, sessions });
        Ok(())
    }

    /// Keeps as many sessions as are worth having; proves the provider once.
    fn settle_gradient_sessions(
        &mut self,
        head: LossHead,
        graph: &AttackGraph,
        sessions: &mut Vec<Session>,
    ) -> Result<(), EncoderError> {
        // Without the step, its inputs are gone.
        let step = [&graph.lower, &graph.upper, &graph.step_size];
        let mut inputs = graph_inputs(graph, head, &self.spec, self.batch_size);
        inputs.retain(|(name, _)| step.iter().all(|gone| *gone != name));
        if self.provider != super::Provider::Cpu {
            if !self.gradients.contains_key(&head) {
                self.prove_provider(&graph.model, &inputs)?;
            }
            return Ok(());
        }
        let Some(clock) = self.clock.filter(|_| sessions.len() > 1) else { return Ok(()) };
        let spec = &self.spec;
        let pass = |session: &mut Session| lanes::grey_step(session, spec, &inputs);
        let kept = lanes::worth_having(sessions, clock, pass)?;
        if kept < sessions.len() {
            sessions.truncate(kept);
            self.forward.truncate(kept);
            self.threads = kept;
        }
        Ok(())
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

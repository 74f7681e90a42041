//! Opening sessions: one per thread that has work, of the forward pass and of the graphs that losses are attacked with.

use ort::session::Session;

use super::probe::Probe;
use super::{OnnxEncoder, Provider, lanes, provider, session};
use crate::encoder::{EncoderError, EncoderSpec};
use crate::onnx::proto::ModelProto;
use crate::onnx::{AttackGraph, AttackGraphOptions, LossHead, OnnxError, attack_graph, loss_head, promote};

/// Losses whose sessions are kept: each holds the memory of a backward pass.
pub(super) const KEPT_HEADS: usize = 2;

/// What a graph of a loss computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Pass {
    /// Loss, gradient and the next image.
    Step,
    /// Loss and gradient, for searches that step by themselves.
    Gradient,
}

/// The attack graph of one loss: its names, and one session per thread.
#[derive(Debug)]
pub(super) struct Attack {
    pub(super) names: AttackGraph,
    pub(super) sessions: Vec<Session>,
}

impl OnnxEncoder {
    /// The first session; tells whether the runtime takes the file at all.
    pub(super) fn open_first(&mut self) -> Result<(), EncoderError> {
        let opened = self.open_forward();
        let session = match opened {
            Err(EncoderError::Runtime { reason, .. }) if promote::is_needed(&self.model) => {
                self.model = promote::to_float32(std::mem::take(&mut self.model));
                self.spec.notes = vec![format!(
                    "the runtime cannot run the file as it is ({}): its float32 copy answers and is attacked",
                    reason.lines().next().unwrap_or_default()
                )];
                self.open_forward()?
            }
            other => other?,
        };
        self.forward = vec![session];
        Ok(())
    }

    fn open_forward(&mut self) -> Result<Session, EncoderError> {
        let model = attack_graph::with_batch_size(self.model.clone(), self.batch_size);
        session::open(&self.runtime, &self.spec.name, &model, self.provider, &mut self.weights)
    }

    /// Runs a graph once on zeros and checks in the runtime's profile that the demanded provider computed.
    pub(super) fn prove_provider(
        &self,
        model: &ModelProto,
        inputs: &[(String, Vec<usize>)],
    ) -> Result<(), EncoderError> {
        let mut probe = Probe::profiled(&self.runtime, &self.spec.name, model, self.provider, &self.scratch)?;
        let zeros: Vec<Vec<f32>> = inputs.iter().map(|(_, shape)| vec![0.0; shape.iter().product()]).collect();
        let fed: Vec<(&str, &[usize], &[f32])> =
            inputs.iter().zip(&zeros).map(|((name, shape), data)| (name.as_str(), &shape[..], &data[..])).collect();
        probe.run(&fed, &[])?;
        provider::check_placement(self.provider, &probe.placement()?)
            .map(drop)
            .map_err(|source| EncoderError::Provider { name: self.spec.name.clone(), source })
    }

    /// One forward session per thread that has work.
    pub(super) fn ensure_forward(&mut self, pieces: usize) -> Result<(), EncoderError> {
        while self.forward.len() < self.threads.min(pieces) {
            let session = self.open_forward()?;
            self.forward.push(session);
        }
        Ok(())
    }

    /// The graph of this loss, with one session per thread that has work.
    pub(super) fn ensure_attack(&mut self, head: LossHead, pass: Pass, pieces: usize) -> Result<(), EncoderError> {
        self.use_head(head);
        let wanted = self.threads.min(pieces).max(1);
        if self.attacks.get(&(head, pass)).is_some_and(|a| a.sessions.len() >= wanted) {
            return Ok(());
        }
        let options = AttackGraphOptions {
            head,
            batch_size: Some(self.batch_size),
            targets_per_sample: None,
            gradient_output: pass == Pass::Gradient,
            straight_through: self.straight_through,
        };
        let graph = attack_graph::build(self.model.clone(), &options).map_err(|e| self.no_gradient(e))?;
        let mut graph = if pass == Pass::Gradient { graph.without_step() } else { graph };
        self.spec.straight_through.clone_from(&graph.straight_through);
        let before = self.attacks.remove(&(head, pass));
        let proven = before.is_some();
        let mut sessions = before.map(|a| a.sessions).unwrap_or_default();
        while sessions.len() < wanted {
            let (name, weights) = (&self.spec.name, &mut self.weights);
            sessions.push(session::open(&self.runtime, name, &graph.model, self.provider, weights)?);
        }
        let inputs = graph_inputs(&graph, head, pass, &self.spec, self.batch_size);
        if let (Some(clock), 2.., Provider::Cpu) = (self.clock, sessions.len(), self.provider) {
            let spec = &self.spec;
            let grey = |session: &mut Session| lanes::grey_step(session, spec, &inputs);
            let kept = lanes::worth_having(&mut sessions, clock, grey)?;
            if kept < sessions.len() {
                sessions.truncate(kept);
                self.forward.truncate(kept);
                // Measured once: who gains nothing with these sessions gains nothing with the next.
                self.threads = kept;
            }
        }
        if self.provider != Provider::Cpu && !proven {
            self.prove_provider(&graph.model, &inputs)?;
        }
        graph.model = ModelProto::default();
        self.attacks.insert((head, pass), Attack { names: graph, sessions });
        Ok(())
    }

    /// Lets the sessions of losses go that were not used for the longest time.
    fn use_head(&mut self, head: LossHead) {
        self.recent.retain(|other| *other != head);
        self.recent.push(head);
        while self.recent.len() > KEPT_HEADS {
            let oldest = self.recent.remove(0);
            self.attacks.retain(|(other, _), _| *other != oldest);
        }
    }

    fn no_gradient(&self, error: OnnxError) -> EncoderError {
        let name = self.spec.name.clone();
        match error {
            OnnxError::NoRule { node, op } => EncoderError::NoGradient { name, node, op },
            other => EncoderError::Unusable { name, reason: other.to_string() },
        }
    }
}

/// Name and shape of every input of an attack graph, for a run on numbers that mean nothing.
fn graph_inputs(
    graph: &AttackGraph,
    head: LossHead,
    pass: Pass,
    spec: &EncoderSpec,
    batch_size: usize,
) -> Vec<(String, Vec<usize>)> {
    let (n, [c, h, w], d) = (batch_size, spec.input, spec.embedding_dim);
    let image = vec![n, c, h, w];
    let mut inputs: Vec<(String, Vec<usize>)> = vec![
        (graph.x.clone(), image.clone()),
        (graph.lower.clone(), image.clone()),
        (graph.upper.clone(), image),
        (graph.step_size.clone(), vec![n, c, 1, 1]),
        (graph.targets.clone(), vec![n, 1, d]),
        (graph.weights.clone(), vec![n, 1]),
    ];
    let table = head.table_columns(1).map_or(vec![n, 1, 2], |columns| vec![n, columns]);
    inputs.extend(graph.table.clone().map(|name| (name, table)));
    let items = if let LossHead::Margin { items, .. } = head { items } else { 2 };
    if let Some([gallery, marks]) = graph.gallery.clone() {
        inputs.push((gallery, vec![items, d]));
        inputs.push((marks, vec![loss_head::GALLERY_MARKS, items]));
    }
    // Without the step, its inputs are gone.
    let step = [&graph.lower, &graph.upper, &graph.step_size];
    inputs.retain(|(name, _)| !name.is_empty() && (pass == Pass::Step || !step.contains(&name)));
    inputs
}

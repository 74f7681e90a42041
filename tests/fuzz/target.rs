//! What is done with every input: everything short of running it.

use std::path::Path;

use mdprop::onnx::proto::ModelProto;
use mdprop::onnx::{
    self, AttackGraphOptions, LossDistance, LossHead, OnnxError, attack_graph, promote, shape, validate, wrap,
};

/// A digest of how far an input came and what was said about it, without its names and numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour(pub u64);

/// Reads, checks, infers shapes and builds the attack graph.
///
/// # Errors
/// A sentence, if the emitted graph is none or the steps contradict each other.
pub fn run(bytes: &[u8]) -> Result<Behaviour, String> {
    let mut words = vec![];
    let model = match onnx::decode(bytes.to_vec().into(), Path::new("fuzz.onnx")) {
        Ok(model) => model,
        Err(error) => return Ok(behaviour(&[error.to_string()])),
    };
    let graph = model.graph.as_ref().ok_or("a model without graph was read")?;
    words.push(match shape::Facts::infer(graph) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    });
    words.extend(validate::infinite_weights(&model).into_iter().map(|_| "infinite".to_string()));
    again(&model)?;
    let side = match attack_graph::signature(&model) {
        Ok(signature) => signature.input_dims[3].fixed().unwrap_or(8).clamp(1, 64),
        Err(_) => 8,
    };
    words.push(match wrap::adapt(model.clone(), &wrap::Wrapping::default(), side) {
        Ok(mut adapted) => {
            validate::validate(&mut adapted.model).map_err(|e| format!("the adapted model is none: {e}"))?;
            String::new()
        }
        Err(error) => error.to_string(),
    });
    words.push(match outcome_of(model) {
        Ok(()) => "attacked".into(),
        Err(Refused::Input(error)) => error.to_string(),
        Err(Refused::Ours(reason)) => return Err(reason),
    });
    Ok(behaviour(&words))
}

/// Whether an input reaches an attack graph.
///
/// # Errors
/// Why not.
pub fn outcome(bytes: &[u8]) -> Result<(), String> {
    let model = onnx::decode(bytes.to_vec().into(), Path::new("seed.onnx")).map_err(|e| e.to_string())?;
    match outcome_of(model) {
        Ok(()) => Ok(()),
        Err(Refused::Input(error)) => Err(error.to_string()),
        Err(Refused::Ours(reason)) => Err(reason),
    }
}

enum Refused {
    Input(OnnxError),
    Ours(String),
}

fn outcome_of(model: ModelProto) -> Result<(), Refused> {
    let batch = attack_graph::signature(&model).map_err(Refused::Input)?.input_dims[0].fixed().unwrap_or(2);
    // The encoder refuses such a batch; nothing beyond the first sizes is looked at here.
    let batch_size = Some(batch.clamp(1, 64));
    let mut forward = attack_graph::with_batch_size(model.clone(), 2);
    validate::validate(&mut forward).map_err(|e| Refused::Ours(format!("the forward graph is none: {e}")))?;
    let options = AttackGraphOptions {
        head: LossHead::Weighted(LossDistance::SquaredEuclidean),
        batch_size,
        targets_per_sample: Some(2),
        gradient_output: true,
        straight_through: true,
    };
    let built = attack_graph::build(model.clone(), &options).map_err(Refused::Input)?;
    let mut emitted = built.model;
    validate::validate(&mut emitted).map_err(|e| Refused::Ours(format!("the attack graph is none: {e}")))?;
    if built.promoted && promote::is_needed(&emitted) {
        return Err(Refused::Ours("the promoted graph still needs promotion".into()));
    }
    Ok(())
}

/// What was read can be written and read again, and is the same.
fn again(model: &ModelProto) -> Result<(), String> {
    let second = onnx::decode(onnx::encode(model).into(), Path::new("again.onnx"))
        .map_err(|e| format!("cannot be read after writing: {e}"))?;
    // NaN attributes are no weights and legal, but differ from themselves.
    if onnx::encode(&second) == onnx::encode(model) { Ok(()) } else { Err("writing changes the model".into()) }
}

fn behaviour(words: &[String]) -> Behaviour {
    let mut text = String::new();
    for word in words {
        let mut quoted = false;
        for c in word.chars() {
            match c {
                '`' => quoted = !quoted,
                _ if quoted || c.is_ascii_digit() => {}
                _ => text.push(c),
            }
        }
        text.push('|');
    }
    Behaviour(crate::mutate::hash(text.as_bytes()))
}

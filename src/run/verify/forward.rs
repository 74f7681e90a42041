//! The forward pass: the same as the file's own, the same in every batch, the same twice.

use std::collections::HashMap;

use super::subject::{Attack, Input, Subject};
use super::{check, of_file};
use crate::batch::{Embeddings, Images};
use crate::encoder::onnx::Provider;
use crate::encoder::onnx::batching::Batching;
use crate::encoder::onnx::probe::{Probe, Rewriting, tell};
use crate::onnx::Dim;
use crate::onnx::graph::FLOAT;
use crate::onnx::proto::{ModelProto, NodeProto, ValueInfoProto, data_type};
use crate::onnx::wrap::{BatchAxis, expose};
use crate::record::Check;
use crate::run::RunError;

/// Largest difference, relative to the largest entry, that rounding explains.
const ROUNDING: f64 = 1e-4;
/// The same between a file that computes in half precision (eleven bits, rounded at every node) and its float32 copy.
const HALF_ROUNDING: f64 = 1e-2;

/// The file's own output in the graph that attacks use equals that of the untouched file, bit for bit, when the runtime
/// runs every node as it stands. (Its rewriting merges nodes, and may merge others once a gradient reads between them; how
/// much that changes is told as well.)
pub(super) fn unchanged(subject: &Subject<'_>, attack: Option<&Attack>, images: &Images) -> Result<Check, RunError> {
    // Bits are equal only in batches of one size, and the untouched file may allow but one.
    match subject.adapted.batch {
        BatchAxis::Fixed(n) if n != subject.batch => {
            let other = subject.with_batch(n);
            let attack = attack.and_then(|attack| other.attack(!attack.straight_through().is_empty()).ok());
            unchanged_in_batches(&other, attack.as_ref(), images)
        }
        _ => unchanged_in_batches(subject, attack, images),
    }
}

fn unchanged_in_batches(subject: &Subject<'_>, attack: Option<&Attack>, images: &Images) -> Result<Check, RunError> {
    const NAME: &str = "forward-unchanged";
    let Some(mut file) = Original::open(subject, Rewriting::Off)? else {
        return Ok(check(
            NAME,
            false,
            "the untouched file cannot be fed: its input or output type has no float32 form".into(),
        ));
    };
    let wanted = file.run(subject, images)?;
    let got = inside(subject, attack, images, Rewriting::Off)?;
    if got.len() != wanted.len() {
        let detail = format!("the file gives {} numbers, the attack graph {}", wanted.len(), got.len());
        return Ok(check(NAME, false, detail));
    }
    let other = got.iter().zip(&wanted).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let n = images.len();
    if other == 0 {
        let apart = match Original::open(subject, Rewriting::On)? {
            None => String::new(),
            Some(mut file) => {
                let apart = difference(&inside(subject, attack, images, Rewriting::On)?, &file.run(subject, images)?);
                format!("; with the runtime's rewriting of nodes, which attacks use, they differ by {}", tell(apart))
            }
        };
        return Ok(check(NAME, true, format!("{n} embeddings equal the untouched file's bit for bit{apart}")));
    }
    let apart = difference(&got, &wanted);
    let rewritten = rewritten(subject, attack.map_or(&subject.fixed, Attack::model));
    // An initialiser that is also an input may be replaced by the caller, so the runtime does not prepare it as it does a
    // constant, and its products round otherwise.
    let open = replaceable(subject.original);
    let nodes = if rewritten.is_empty() && open > 0 {
        format!("{open} weights of the file are inputs too, which attacks take as constants")
    } else if rewritten.is_empty() {
        "although no node was rewritten".to_string()
    } else {
        let shown = rewritten.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        format!("{} nodes were rewritten ({shown}{})", rewritten.len(), if rewritten.len() > 5 { ", ..." } else { "" })
    };
    let promoted = attack.is_some_and(Attack::promoted);
    let (allowed, why) = if promoted {
        (HALF_ROUNDING, "; the file computes in half precision, attacks in float32")
    } else {
        (ROUNDING, "")
    };
    let passed = (!rewritten.is_empty() || open > 0) && apart <= allowed;
    let detail = format!(
        "{other} of {} numbers differ, by at most {apart:.1e} of the largest (allowed {allowed:.0e}): {nodes}{why}",
        got.len()
    );
    Ok(check(NAME, passed, detail))
}

/// The file's own output as the attack graph (or the wrapped model, without a gradient) computes it.
fn inside(
    subject: &Subject<'_>,
    attack: Option<&Attack>,
    images: &Images,
    rewriting: Rewriting,
) -> Result<Vec<f32>, RunError> {
    let output = &subject.adapted.file_output;
    if let Some(attack) = attack {
        let mut probe = subject.probe(attack.model(), rewriting)?;
        return subject.rows(&mut probe, images.as_slice(), output, |x, _| subject.attack_inputs(attack, x));
    }
    let mut model = subject.fixed.clone();
    if let Some(graph) = &mut model.graph
        && graph.output.iter().all(|v| v.name != *output)
    {
        graph.output.push(ValueInfoProto::unshaped(output, FLOAT));
    }
    let mut probe = subject.probe(&model, rewriting)?;
    subject.rows(&mut probe, images.as_slice(), output, |x, _| subject.forward_inputs(x))
}

/// The untouched file behind what makes its input out of pixels.
struct Original {
    before: Option<Probe>,
    file: Probe,
}

impl Original {
    /// `None` if the file wants or gives numbers that cannot be fed or read as float32.
    fn open(subject: &Subject<'_>, rewriting: Rewriting) -> Result<Option<Self>, RunError> {
        // An embedding from inside the file has to be handed out as well.
        let mut file = subject.original.clone();
        let is_inside = expose(&mut file, &subject.adapted.file_output).map_err(|e| of_file(&subject.path, e))?;
        let output = file.graph.as_ref().and_then(|g| g.output.iter().find(|v| v.name == subject.adapted.file_output));
        let readable = output.and_then(|v| v.elem_type()) == Some(FLOAT);
        let feedable = [FLOAT, data_type::UINT8].contains(&subject.adapted.file_input_type);
        if !(readable && feedable) {
            return Ok(None);
        }
        let before = match &subject.adapted.before {
            Some(model) => Some(subject.probe(model, rewriting)?),
            None => None,
        };
        let file = match is_inside {
            true => subject.probe(&file, rewriting)?,
            false => Probe::open_file(subject.runtime, &subject.path, rewriting, subject.provider)?,
        };
        Ok(Some(Self { before, file }))
    }

    fn run(&mut self, subject: &Subject<'_>, images: &Images) -> Result<Vec<f32>, RunError> {
        let adapted = &subject.adapted;
        let pixels = match &mut self.before {
            None => images.as_slice().to_vec(),
            Some(probe) => {
                let input = probe.first_input().to_string();
                let make = |x: &[f32], _: usize| -> Vec<Input> {
                    vec![(input.clone(), subject.image_shape(subject.batch), x.to_vec())]
                };
                subject.rows(probe, images.as_slice(), &adapted.file_input, make)?
            }
        };
        let mut shape: Vec<usize> =
            adapted.file_input_dims.iter().map(|d| d.fixed().unwrap_or(subject.batch)).collect();
        if shape.len() == 4 {
            shape[0] = subject.batch;
        }
        let count: usize = shape.iter().product::<usize>() / subject.batch;
        let mut rows = Vec::new();
        for chunk in pixels.chunks(count * subject.batch) {
            let mut padded = chunk.to_vec();
            while padded.len() < count * subject.batch {
                padded.extend_from_slice(&chunk[chunk.len() - count..]);
            }
            let found = self.file.run(&[(&adapted.file_input, &shape, &padded)], &[&adapted.file_output])?;
            rows.extend(found.into_iter().next().map(|value| value.data).unwrap_or_default());
        }
        let n = images.len();
        let width = rows.len() / (n.div_ceil(subject.batch) * subject.batch).max(1);
        rows.truncate(n * width);
        Ok(rows)
    }
}

/// How many initialisers are inputs of the graph too, as they all had to be before format version 4.
fn replaceable(model: &ModelProto) -> usize {
    let Some(graph) = &model.graph else { return 0 };
    graph.initializer.iter().filter(|tensor| graph.input.iter().any(|input| input.name == tensor.name)).count()
}

/// Nodes of the file that are not in `model` as they were: lifted to another operator set, promoted, inlined.
fn rewritten(subject: &Subject<'_>, model: &ModelProto) -> Vec<String> {
    let nodes = |model: &ModelProto| model.graph.as_ref().map(|g| g.node.clone()).unwrap_or_default();
    let now: HashMap<String, NodeProto> =
        nodes(model).into_iter().filter_map(|node| Some((node.output.first()?.clone(), node))).collect();
    let same = |before: &NodeProto| {
        before.output.first().and_then(|output| now.get(output)).is_some_and(|after| {
            after.op_type == before.op_type && after.input == before.input && after.attribute == before.attribute
        })
    };
    let changed = nodes(subject.original).into_iter().filter(|node| !same(node));
    changed.map(|node| format!("`{}` ({})", node.label(), node.op_type)).collect()
}

/// Largest difference relative to the largest entry of `b`; infinite if an entry is not finite.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    let largest = b.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let apart = a.iter().zip(b).map(|(x, y)| (x - y).abs());
    apart.fold(0f64, |m, v| if v.is_finite() { m.max(f64::from(v / largest)) } else { f64::INFINITY })
}

/// One by one and together give the same embeddings but for rounding.
pub(super) fn batch_changes_nothing(
    subject: &Subject<'_>,
    images: &Images,
    together: &Embeddings,
) -> Result<Check, RunError> {
    const NAME: &str = "batch-changes-nothing";
    if subject.batching == Batching::Looped {
        return Ok(check(NAME, true, "images go through one by one".into()));
    }
    let singly = if subject.batching == Batching::Free {
        let model = subject.adapted.with_batch(Dim::Fixed(1));
        let mut probe = subject.probe(&model, Rewriting::On)?;
        let mut rows = Vec::new();
        for i in 0..images.len() {
            let shape = subject.image_shape(1);
            let found =
                probe.run(&[(&subject.adapted.pixels, &shape, images.image(i))], &[&subject.adapted.embedding])?;
            rows.extend(found.into_iter().next().map(|value| value.data).unwrap_or_default());
        }
        rows
    } else {
        // A batch of copies of one image.
        let mut probe = subject.probe(&subject.fixed, Rewriting::On)?;
        let mut rows = Vec::new();
        for i in 0..images.len() {
            rows.extend_from_slice(subject.embed_pixels(&mut probe, images.image(i), 1)?.as_slice());
        }
        rows
    };
    let n = subject.batch.min(images.len());
    if singly.len() != together.as_slice().len() {
        return Ok(check(
            NAME,
            false,
            format!("{} numbers one by one, {} together", singly.len(), together.as_slice().len()),
        ));
    }
    let apart = difference(together.as_slice(), &singly);
    let other = if subject.batching == Batching::Free { "one by one" } else { "each in a batch of its copies" };
    let detail = format!(
        "{n} pictures together and {other} differ by at most {} of the largest entry (allowed {ROUNDING:.0e})",
        tell(apart)
    );
    Ok(check(NAME, apart <= ROUNDING, detail))
}

/// The same pixels give the same bits again, forward and backward.
pub(super) fn two_runs_equal(
    subject: &Subject<'_>,
    attack: Option<&Attack>,
    images: &Images,
    first: &Embeddings,
) -> Result<Check, RunError> {
    // In a new session and in the same one: what the runtime draws by chance begins anew with each session.
    let mut probe = subject.probe(&subject.fixed, Rewriting::On)?;
    let mut again = || subject.embed_pixels(&mut probe, images.as_slice(), images.len());
    let (second, third) = (again()?, again()?);
    let other = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(x, y)| x.to_bits() != y.to_bits()).count();
    let differ = |e: &Embeddings| other(first.as_slice(), e.as_slice());
    let forward = differ(&second).max(differ(&third));
    let backward = match attack {
        None => None,
        Some(attack) => {
            let (one, two) = (subject.gradient(attack, images)?, subject.gradient(attack, images)?);
            Some((other(&one.gradient, &two.gradient), one.gradient.len()))
        }
    };
    let total = first.as_slice().len();
    let (passed, gradient) = match backward {
        None => (true, String::new()),
        Some((other, total)) => (other == 0, format!(", {other} of {total} of the gradient")),
    };
    let detail = format!("{forward} of {total} numbers of the embedding differ between two runs{gradient}");
    // On a GPU the order of sums is not fixed; there it is told, not demanded.
    let passed = (forward == 0 && passed) || subject.provider != Provider::Cpu;
    Ok(check("two-runs-equal", passed, detail))
}

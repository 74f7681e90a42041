//! `mdprop verify`: what a foreign file is, how it is fed, whether it can be attacked, and whether the gradient is right.

mod forward;
mod gradient;
mod pictures;
mod subject;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::RunError;
use crate::batch::Embeddings;
use crate::encoder::EncoderError;
use crate::encoder::onnx::probe::Probe;
use crate::encoder::onnx::provider::check_placement;
use crate::encoder::onnx::{Provider, Runtime};
use crate::onnx::describe::{FileFacts, OperatorUse, file_facts, operators};
use crate::onnx::wrap::{Note, adapt, natural_size};
use crate::onnx::{self, OnnxError};
use crate::progress::{Cancel, Observer};
use crate::record::Check;
use crate::suite::card::OnnxCard;
use subject::{Attack, Subject};

/// What is asked.
pub struct Request<'a> {
    /// The file and everything that is said about it.
    pub card: OnnxCard,
    /// Side of the square images; `None`: what the file takes.
    pub image_size: Option<usize>,
    /// Folder with pictures of the user's own; `None`: built-in drawings.
    pub images: Option<PathBuf>,
    /// Images at once, where the file allows it.
    pub batch_size: usize,
    /// Pictures and noise images each, and random directions for each of them.
    pub images_and_directions: [usize; 2],
    /// Precision of the differences that the gradient is compared with.
    pub differences: Differences,
    /// Seed of noise, targets and directions.
    pub seed: u64,
    /// Who computes.
    pub provider: Provider,
    /// Folder for files that are removed again.
    pub scratch: PathBuf,
    /// The ONNX Runtime library.
    pub onnxruntime: PathBuf,
    /// Hears of progress.
    pub observer: &'a dyn Observer,
    /// Set by Ctrl-C.
    pub cancel: &'a Cancel,
}

/// What the differences are taken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Differences {
    /// Float64 where the model is small enough, float32 else.
    #[default]
    Auto,
    /// Float64, whatever it costs.
    Float64,
    /// Float32.
    Float32,
}

/// How a model can be attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attackable {
    /// With its own gradient.
    WhiteBox,
    /// With a gradient that is made up at some nodes.
    StraightThrough,
    /// Only by methods that need no gradient.
    GradientFree,
}

/// Everything that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The file.
    pub file: PathBuf,
    /// What is in it.
    pub facts: FileFacts,
    /// Side of the square images that it was tried on.
    pub image_size: usize,
    /// How it is fed: what was given, found and assumed.
    pub notes: Vec<Note>,
    /// Entries of an embedding.
    pub embedding_dim: usize,
    /// Values inside the file that could be the embedding, too, with their shapes: the last few.
    pub vectors: Vec<String>,
    /// Its operators, most frequent first.
    pub operators: Vec<OperatorUse>,
    /// Smallest and largest Euclidean norm of an embedding of a picture.
    pub norms: [f64; 2],
    /// What was checked, in a fixed order.
    pub checks: Vec<Check>,
    /// How it can be attacked.
    pub attackable: Attackable,
    /// Why it has no gradient, if it has none.
    pub no_gradient: Option<String>,
    /// Nodes with a straight-through gradient.
    pub straight_through: Vec<String>,
    /// Whether every check held.
    pub sound: bool,
    /// A card that says all of this, as TOML.
    pub card: String,
}

impl Report {
    /// 0 all well; 3 a check failed.
    pub fn exit_code(&self) -> u8 {
        if self.sound { 0 } else { 3 }
    }
}

/// Looks at a file and runs every check.
///
/// # Errors
/// [`RunError`] for a file that cannot be read, that is no image encoder, or that does not fit what is said about it. A
/// check that fails is part of the report.
pub fn verify(request: &Request<'_>) -> Result<Report, RunError> {
    let card = &request.card;
    let path = card.onnx.as_path();
    if !path.is_file() {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(RunError::OnnxMissing { path: path.into(), source });
    }
    let model = onnx::read(path)?;
    let runtime = Runtime::load(&request.onnxruntime)?;
    runtime.require(request.provider, &request.scratch)?;
    let facts = file_facts(&model);
    let misfit = |source: OnnxError| RunError::Misfit { path: path.into(), source: Box::new(source) };
    let wrapping = card.wrapping();
    let empty = Default::default();
    let image_size = match request.image_size {
        Some(size) => size,
        None => natural_size(model.graph.as_ref().unwrap_or(&empty), &wrapping).map_err(misfit)?,
    };
    let adapted = adapt(model.clone(), &wrapping, image_size).map_err(misfit)?;
    let operators = operators(&adapted);
    let subject = Subject::open(&runtime, path, &model, adapted, image_size, request)?;
    let images = pictures::all(request, image_size)?;
    let embeddings = subject.embed(&images.pictures)?;
    let attack = subject.attack(card.straight_through);
    let checks = all_checks(request, &subject, &attack, &images, &embeddings)?;
    let straight_through = attack.as_ref().map(|attack| attack.straight_through().to_vec()).unwrap_or_default();
    let attackable = match (&attack, straight_through.is_empty()) {
        (Err(_), _) => Attackable::GradientFree,
        (Ok(_), true) => Attackable::WhiteBox,
        (Ok(_), false) => Attackable::StraightThrough,
    };
    let norms: Vec<f64> = (0..embeddings.len()).map(|i| subject::norm(embeddings.row(i))).collect();
    Ok(Report {
        file: path.to_path_buf(),
        facts,
        image_size,
        card: card_text(card, &subject, path),
        notes: subject.notes,
        vectors: subject.adapted.vectors,
        embedding_dim: embeddings.dim(),
        operators,
        norms: [norms.iter().copied().fold(f64::INFINITY, f64::min), norms.iter().copied().fold(0.0, f64::max)],
        sound: checks.iter().all(|check| check.passed || check.is_label()),
        checks,
        attackable,
        no_gradient: attack.err().map(|error| error.to_string()),
        straight_through,
    })
}

fn all_checks(
    request: &Request<'_>,
    subject: &Subject<'_>,
    attack: &Result<Attack, OnnxError>,
    images: &pictures::Set,
    embeddings: &Embeddings,
) -> Result<Vec<Check>, RunError> {
    let mut checks = Vec::new();
    if let Err(error) = attack {
        checks.push(check("differentiable", false, error.to_string()));
    }
    let attack = attack.as_ref().ok();
    checks.push(forward::unchanged(subject, attack, &images.pictures)?);
    checks.push(forward::batch_changes_nothing(subject, &images.pictures, embeddings)?);
    checks.push(forward::two_runs_equal(subject, attack, &images.pictures, embeddings)?);
    if let Some(attack) = attack {
        checks.extend(gradient_checks(request, subject, attack, images)?);
    }
    checks.push(placement(request, subject, attack)?);
    Ok(checks)
}

fn check(name: &str, passed: bool, detail: String) -> Check {
    Check { name: name.into(), passed, detail }
}

fn gradient_checks(
    request: &Request<'_>,
    subject: &Subject<'_>,
    attack: &Attack,
    images: &pictures::Set,
) -> Result<Vec<Check>, RunError> {
    let mut checks = Vec::new();
    if let Some(mark) = crate::attack::checks::gradient_exact(attack.straight_through()) {
        checks.push(mark);
    }
    for (kind, list) in [("noise", &images.noise), ("pictures", &images.pictures)] {
        request.cancel.check()?;
        let found = subject.gradient(attack, list)?;
        // A made-up gradient is not the slope of anything: there is nothing to compare it with.
        if attack.straight_through().is_empty() {
            checks.push(gradient::compare(request, subject, list, &found, kind)?);
        }
        checks.push(gradient::not_zero(&found, kind));
    }
    Ok(checks)
}

/// The demanded provider ran the graph that attacks use (or the forward graph if there is no gradient).
fn placement(request: &Request<'_>, subject: &Subject<'_>, attack: Option<&Attack>) -> Result<Check, RunError> {
    let zeros = vec![0.0; subject.batch * subject.stride()];
    let (model, inputs) = match attack {
        Some(attack) => (attack.model(), subject.attack_inputs(attack, &zeros)),
        None => (&subject.fixed, subject.forward_inputs(&zeros)),
    };
    let mut probe = Probe::profiled(subject.runtime, &subject.name, model, request.provider, &request.scratch)?;
    let fed: Vec<_> = inputs.iter().map(|(name, shape, data)| (name.as_str(), &shape[..], &data[..])).collect();
    probe.run(&fed, &[])?;
    let ran = probe.placement()?;
    Ok(match check_placement(request.provider, &ran) {
        Ok(placement) => {
            let text: Vec<String> = placement.nodes.iter().map(|(who, count)| format!("{count} on {who}")).collect();
            check("provider", true, format!("nodes by the runtime's own profile: {}", text.join(", ")))
        }
        Err(error) => check("provider", false, error.to_string()),
    })
}

/// The card with what was found filled in.
fn card_text(card: &OnnxCard, subject: &Subject<'_>, path: &Path) -> String {
    let mut card = card.clone();
    let about = "What it is, who trained it on what, and where the file comes from.";
    if card.about.is_empty() {
        card.about = about.into();
    }
    card.onnx = path.to_path_buf();
    let found = |key: &str| subject.notes.iter().find(|note| note.key == key).map(|note| note.value.clone());
    let text = |key: &str| found(key).map(|value| value.trim_matches('"').to_string());
    card.input = card.input.or_else(|| text("input"));
    card.output = card.output.or_else(|| text("output"));
    let layout =
        text("layout").map(|layout| if layout == "nhwc" { onnx::wrap::Layout::Nhwc } else { onnx::wrap::Layout::Nchw });
    card.layout = card.layout.or(layout);
    card.colour = card.colour.or_else(|| match text("colour")?.as_str() {
        "bgr" => Some(onnx::wrap::Colour::Bgr),
        "grey" => Some(onnx::wrap::Colour::Grey),
        _ => Some(onnx::wrap::Colour::Rgb),
    });
    card.range = card.range.or_else(|| serde_json::from_str(&found("range")?).ok());
    toml::to_string(&card).unwrap_or_default()
}

/// What the runtime or the differentiation said, with the file it said it of.
fn of_file(path: &Path, error: OnnxError) -> RunError {
    RunError::Encoder(EncoderError::Unusable { name: path.display().to_string(), reason: error.to_string() })
}

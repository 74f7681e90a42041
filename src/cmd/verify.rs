//! `mdprop verify MODEL.onnx`: what somebody else's file is, and whether attacks on it can be believed.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use super::process::Process;
use crate::cli::VerifyArgs;
use crate::onnx::describe::Coverage;
use crate::onnx::wrap::PerChannel;
use crate::record::Check;
use crate::run::progress::Console;
use crate::run::verify::{Attackable, Report, Request, verify};
use crate::suite::card::OnnxCard;
use crate::suite::load::{ModelSource, SuiteError, read_model_file};

/// Runs the command: 0 all well, 2 bad input, 3 a check failed.
///
/// # Errors
/// A file or card that is missing, wrong, or does not fit the other; a broken set-up; Ctrl-C.
pub fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let Process { cancel, places, .. } = Process::set_up(args.threads)?;
    let console = Console::new(args.quiet);
    let request = Request {
        card: card(args)?,
        image_size: args.image_size.map(|size| size as usize),
        images: args.images.clone(),
        batch_size: args.batch_size as usize,
        images_and_directions: [args.count as usize, args.directions as usize],
        differences: args.differences,
        seed: args.seed,
        provider: args.provider,
        scratch: std::env::temp_dir(),
        onnxruntime: places.find_onnxruntime()?,
        observer: &console,
        cancel: &cancel,
    };
    let report = verify(&request)?;
    if args.json {
        let mut value = serde_json::to_value(&report)?;
        value["exit_code"] = report.exit_code().into();
        super::print(&(serde_json::to_string_pretty(&value)? + "\n"))?;
    } else {
        super::print(&page(&report))?;
    }
    Ok(ExitCode::from(report.exit_code()))
}

/// The card of the command line: a file of `models/`, or the ONNX file with what the flags say.
fn card(args: &VerifyArgs) -> anyhow::Result<OnnxCard> {
    let is_card = args.model.extension().is_some_and(|e| e == "toml");
    let mut card = match (&args.card, is_card) {
        (Some(_), true) => bail!("{} is a card already; leave --card out", args.model.display()),
        (Some(path), false) => OnnxCard { onnx: args.model.clone(), ..read_card(path)? },
        (None, true) => read_card(&args.model)?,
        (None, false) => OnnxCard::bare(args.model.clone()),
    };
    card.layout = args.layout.or(card.layout);
    card.colour = args.colour.or(card.colour);
    card.input = args.input.clone().or(card.input);
    card.output = args.output.clone().or(card.output);
    card.mean = args.mean.clone().map(PerChannel).or(card.mean);
    card.std = args.std.clone().map(PerChannel).or(card.std);
    if let Some(range) = &args.range {
        let &[low, high] = &range[..] else { bail!("--range takes two numbers, such as 0,255") };
        card.range = Some([low, high]);
    }
    card.straight_through |= args.straight_through;
    let problems = card.problems();
    if problems.is_empty() {
        return Ok(card);
    }
    let path = args.card.as_deref().unwrap_or(&args.model).to_path_buf();
    Err(SuiteError::Problems { path, problems }.into())
}

fn read_card(path: &Path) -> anyhow::Result<OnnxCard> {
    match read_model_file(path)? {
        ModelSource::Onnx(card) => Ok(*card),
        ModelSource::Recipe(_) => bail!("{} is a recipe to train, not the card of an ONNX file", path.display()),
    }
}

fn page(report: &Report) -> String {
    let mut out = format!("{}\n", report.file.display());
    let facts = &report.facts;
    let opsets: Vec<String> = facts.opsets.iter().map(|(domain, version)| format!("{domain} {version}")).collect();
    let types: Vec<String> = facts.constant_types.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let producer = if facts.producer.is_empty() { "unknown" } else { &facts.producer };
    for (what, text) in [
        ("written by", format!("{producer}, operators of {}, file format {}", opsets.join(", "), facts.ir_version)),
        ("takes", facts.inputs.clone()),
        ("gives", facts.outputs.clone()),
        (
            "parameters",
            format!(
                "{} ({:.2} MB of constants: {})",
                facts.parameters,
                facts.constant_bytes as f64 / 1e6,
                if types.is_empty() { "none".into() } else { types.join(", ") }
            ),
        ),
        (
            "embedding",
            format!(
                "{} entries of {} × {} pixels, norms {:.4} to {:.4}",
                report.embedding_dim, report.image_size, report.image_size, report.norms[0], report.norms[1]
            ),
        ),
        ("or from", report.vectors.join(", ")),
    ] {
        if !text.is_empty() {
            let _ = writeln!(out, "  {what:11} {text}");
        }
    }
    out.push_str("\nhow it is fed\n");
    for note in &report.notes {
        let _ = writeln!(out, "  {note}");
    }
    operators(report, &mut out);
    out.push_str("\nchecks\n");
    let width = report.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in &report.checks {
        let _ = writeln!(out, "  {}  {:width$}  {}", mark(check), check.name, check.detail);
    }
    let _ = writeln!(out, "\n{}", verdict(report));
    let _ = writeln!(out, "\na card that says all of this, for models/NAME.toml:\n");
    for line in report.card.lines() {
        let _ = writeln!(out, "  {line}");
    }
    out
}

fn mark(check: &Check) -> &'static str {
    match (check.passed, check.is_label()) {
        (true, _) => "ok  ",
        (false, true) => "MARK",
        (false, false) => "FAIL",
    }
}

fn operators(report: &Report, out: &mut String) {
    let nodes: usize = report.operators.iter().map(|op| op.count).sum();
    let on_path: usize = report.operators.iter().map(|op| op.on_path).sum();
    let covered: usize = report.operators.iter().filter(|op| op.coverage == Coverage::Rule).map(|op| op.on_path).sum();
    let _ = writeln!(
        out,
        "\noperators: {nodes} nodes, {on_path} between image and embedding, {covered} of them with a gradient rule"
    );
    let width = report.operators.iter().map(|op| op.op.len()).max().unwrap_or(0);
    for op in &report.operators {
        let coverage = match op.coverage {
            Coverage::Rule => "rule",
            Coverage::StraightThrough => "no gradient; can be passed straight through",
            Coverage::Missing => "NO RULE",
            Coverage::NotNeeded => "not on the way",
        };
        let path = if op.on_path == op.count || op.on_path == 0 {
            String::new()
        } else {
            format!(", {} between image and embedding", op.on_path)
        };
        let _ = writeln!(out, "  {:width$} {:4}  {coverage}{path}", op.op, op.count);
    }
}

fn verdict(report: &Report) -> String {
    let failed: Vec<&str> =
        report.checks.iter().filter(|c| !c.passed && !c.is_label()).map(|c| c.name.as_str()).collect();
    let nodes = report.straight_through.len();
    let answer = match (report.attackable, report.sound) {
        (Attackable::WhiteBox, true) => "yes, white-box, with its own gradient".to_string(),
        (Attackable::StraightThrough, true) => {
            format!("yes, with a straight-through gradient at {nodes} nodes; every number will carry that mark")
        }
        (Attackable::WhiteBox | Attackable::StraightThrough, false) => {
            format!("not so that a number could be believed; failed: {}", failed.join(", "))
        }
        (Attackable::GradientFree, _) => {
            let reason = report.no_gradient.clone().unwrap_or_default();
            format!("only by methods that need no gradient: {reason}")
        }
    };
    format!("can be attacked: {answer}")
}

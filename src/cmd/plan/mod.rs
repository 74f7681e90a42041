//! `mdprop plan SUITE`: what a suite would do, and how long it would take here.

mod jobs;
mod times;

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::cli::{JobFormat, PlanArgs};
use crate::run::estimate::Estimate;
use crate::suite::load::ModelSource;
use crate::suite::plan::{Plan, TrialSpec};

/// Prints the models and trials of a suite.
///
/// # Errors
/// A suite or model file that is missing or wrong. Where nothing can be timed, the plan says why.
pub fn run(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let plan = Plan::read(&args.suite, &args.folders.models)?;
    let text = match args.shards.map(|shards| shards as usize) {
        None if args.json => json(&plan, times::of(args, &plan))?,
        None => text(&plan, &times::of(args, &plan)),
        Some(shards) if args.json => serde_json::to_string_pretty(&jobs::json(&plan, shards))? + "\n",
        Some(shards) => match args.format {
            JobFormat::Text => jobs::text(&plan, shards),
            JobFormat::Github => jobs::github(&plan, &args.suite, shards),
            JobFormat::Slurm => jobs::slurm(&plan, &args.suite, shards),
            JobFormat::Kubernetes => jobs::kubernetes(&plan, &args.suite, shards),
        },
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn trial_text(trial: &TrialSpec) -> String {
    match (trial.epsilon(), &trial.goal) {
        (Some(epsilon), Some(goal)) => {
            let (method, budget) = (trial.method.label(), trial.method.budget_in_words(epsilon));
            let by = trial.crafted_by.as_ref().map(|id| format!(" of {id}")).unwrap_or_default();
            format!("{}: {goal} by {method} at {budget}, crafted on {}{by}", trial.attack, trial.crafted_on)
        }
        _ => trial.attack.clone(),
    }
}

fn text(plan: &Plan, time: &Result<Estimate, String>) -> String {
    let mut out = format!("{} ({})\n{}\n", plan.name, plan.digest().short(), plan.suite.about.trim());
    for model in &plan.models {
        let kind = match &model.source {
            ModelSource::Onnx(card) => format!("foreign file {}", card.onnx.display()),
            ModelSource::Recipe(recipe) => format!("{}, {} epochs", recipe.method.name(), recipe.epochs),
        };
        let _ = writeln!(out, "\n{} ({kind}), seeds {:?}", model.id, model.seeds);
        let trials = plan.trials(&model.id, &model.branches());
        let lines: Vec<String> = trials.iter().map(trial_text).collect();
        let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        for (place, line) in lines.iter().enumerate() {
            let _ = match time.as_ref().ok().and_then(|time| times::of_trial(time, &model.id, place)) {
                Some(seconds) => writeln!(out, "  {line:<width$}  {}", times::span(seconds)),
                None => writeln!(out, "  {line}"),
            };
        }
    }
    let trials: usize = plan.models.iter().map(|m| plan.trials(&m.id, &m.branches()).len() * m.seeds.len()).sum();
    let models: usize = plan.models.iter().map(|m| m.seeds.len()).sum();
    let _ = writeln!(out, "\n{models} models, {trials} trials");
    out + &match time {
        Ok(time) => times::total(time),
        Err(why) => format!("time: {why}\n"),
    }
}

fn json(plan: &Plan, time: Result<Estimate, String>) -> anyhow::Result<String> {
    let models: Vec<_> = plan
        .models
        .iter()
        .map(|m| serde_json::json!({ "id": m.id, "seeds": m.seeds, "trials": plan.trials(&m.id, &m.branches()) }))
        .collect();
    let time = match time {
        Ok(time) => serde_json::json!({ "total": time.total(), "estimate": time }),
        Err(why) => serde_json::json!({ "none": why }),
    };
    let value = serde_json::json!({ "suite": plan.name, "digest": plan.digest(), "models": models, "time": time });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

//! What a plan's run will take, in words.

use std::fmt::Write as _;

use super::super::process::Process;
use crate::cli::PlanArgs;
use crate::run::estimate::{Ask, Estimate, Seconds, estimate};
use crate::run::progress::Console;
use crate::suite::plan::Plan;

/// The estimate, or why there is none.
pub(super) fn of(args: &PlanArgs, plan: &Plan) -> Result<Estimate, String> {
    if args.no_timing {
        return Err("not asked for".into());
    }
    made(args, plan).map_err(|error| format!("{error:#}"))
}

fn made(args: &PlanArgs, plan: &Plan) -> anyhow::Result<Estimate> {
    let Process { cancel, places, threads } = Process::set_up(args.threads)?;
    let scratch = std::env::temp_dir().join(format!("mdprop-plan-{}", std::process::id()));
    let console = Console::new(true);
    let ask = Ask {
        plan,
        data: args.folders.data.clone(),
        artifacts: args.folders.artifacts.clone(),
        scratch: scratch.clone(),
        onnxruntime: places.find_onnxruntime()?,
        provider: args.provider,
        threads,
        observer: &console,
        cancel,
    };
    std::fs::create_dir_all(&scratch)?;
    let made = estimate(&ask);
    match std::fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(made?),
    }
}

/// `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `12 s`, or `12 s, at most 3 min 0 s` where it depends on the model.
pub(super) fn span(seconds: Seconds) -> String {
    let Seconds { about, at_most } = seconds;
    if at_most <= about * 1.02 {
        duration(about)
    } else {
        format!("{}, at most {}", duration(about), duration(at_most))
    }
}

/// Seconds of one trial of a model, all of its seeds together.
pub(super) fn of_trial(estimate: &Estimate, model: &str, place: usize) -> Option<Seconds> {
    let own: Vec<Seconds> = estimate
        .models
        .iter()
        .filter(|m| m.id == model)
        .filter_map(|m| m.trials.get(place).map(|t| t.seconds))
        .collect();
    (!own.is_empty()).then(|| own.into_iter().sum())
}

/// The sum, what it is made for, and what is not in it.
pub(super) fn total(estimate: &Estimate) -> String {
    if estimate.models.iter().all(|m| m.prices.is_none()) {
        return "time: not known: no model is trained yet, and none of the same network is here to be timed; after `mdprop export` there is\n".into();
    }
    let mut out = format!(
        "time: {} on this machine with {} threads ({} queries, a gallery of {}; the data set took {})\n",
        span(estimate.total()),
        estimate.threads,
        estimate.queries,
        estimate.gallery,
        duration(estimate.data)
    );
    let names = |wanted: &dyn Fn(&crate::run::estimate::ModelTime) -> bool| {
        let named: Vec<String> = estimate
            .models
            .iter()
            .filter(|m| wanted(m))
            .map(|m| if m.seed == 0 { m.id.clone() } else { format!("{} seed {}", m.id, m.seed) })
            .collect();
        named.join(", ")
    };
    let untrained = names(&|m| m.untrained);
    if !untrained.is_empty() {
        let _ = writeln!(out, "  without the training of {untrained}");
    }
    let unknown = names(&|m| m.prices.is_none());
    if !unknown.is_empty() {
        let _ = writeln!(
            out,
            "  without the trials of {unknown}: no trained model of that network is here to be timed; after `mdprop export` there is"
        );
    }
    out + "  without the report; trials that are finished already take no time again\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_words() {
        let words = |seconds: f64| duration(seconds);
        assert_eq!([words(0.04), words(9.4), words(12.3)], ["0.0 s", "9.4 s", "12 s"]);
        assert_eq!([words(200.0), words(7530.0)], ["3 min 20 s", "2 h 5 min"]);
        assert_eq!(span(Seconds { about: 12.0, at_most: 12.1 }), "12 s");
        assert_eq!(span(Seconds { about: 12.0, at_most: 180.0 }), "12 s, at most 3 min 0 s");
    }
}

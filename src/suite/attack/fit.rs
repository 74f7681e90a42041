//! Whether a method's numbers make sense, and whether goal, side and method fit each other.

use super::{Access, Estimation, Goal, Method, RandomStart, Side, Stop};
use crate::units::Epsilon;

/// Every mistake of a method, as parts of sentences. Empty if there is none.
pub fn method_problems(method: &Method, goal: &Goal, side: Side) -> Vec<String> {
    let mut problems = Vec::new();
    if let Method::None {} = method {
        problems.push("method none is what `clean` already measures; remove the attack".into());
    }
    if method.stop() == Stop::Broken && side != Side::Query && !matches!(method, Method::Auto { .. }) {
        problems
            .push("stop = \"broken\" needs a clean gallery to judge by; write side = \"query\" or leave it out".into());
    }
    radius_problems(method, &mut problems);
    count_problems(method, &mut problems);
    step_problems(method, &mut problems);
    match method {
        Method::Nes(estimation) | Method::Spsa(estimation) => estimation_problems(estimation, &mut problems),
        Method::Auto { .. } => auto_problems(goal, side, &mut problems),
        Method::Apgd { warm_start: true, stop: Stop::Never, .. } => {
            problems.push("warm_start = true carries broken queries to larger radii; add stop = \"broken\"".into())
        }
        Method::Corruption(kinds) => {
            problems.extend(kinds.problems());
            problems.extend(aimless_problems("corruption", goal));
        }
        Method::Patch(patch) => problems.extend(patch.problems()),
        Method::Universal(universal) => {
            problems.extend(universal.problems());
            problems.extend(aimless_problems("universal", goal));
        }
        Method::Momentum { decay, .. } if !(decay.is_finite() && *decay >= 0.0) => {
            problems.push(format!("decay = {decay} must be a number of at least 0"));
        }
        _ => {}
    }
    if let Access::Ranking(depth) = method.access() {
        ranking_problems(depth, goal, side, &mut problems);
    }
    problems
}

/// Methods that know no target want the goal that has none.
fn aimless_problems(method: &str, goal: &Goal) -> Option<String> {
    let fits = matches!(goal, Goal::Untargeted {});
    (!fits).then(|| format!("method {method} aims at no image; write goal.untargeted = {{}} instead of {goal}"))
}

fn radius_problems(method: &Method, problems: &mut Vec<String>) {
    let radii = method.epsilons();
    let mut shown = std::collections::BTreeSet::new();
    for epsilon in radii {
        if !shown.insert(epsilon.to_string()) {
            problems.push(format!("epsilon {epsilon} stands twice"));
        }
    }
    if let Some(other) = radii.iter().find(|epsilon| epsilon.norm() != radii[0].norm()) {
        let first = &radii[0];
        problems.push(format!("epsilon {first} and {other} are of different norms; make them two attacks"));
    }
    let size = |epsilon: &Epsilon| epsilon.nominal(&[1.0]);
    let comparable = radii.iter().all(|epsilon| same_unit(epsilon, &radii[0]));
    if method.is_curve() && !comparable {
        problems.push("the radii of a curve must be in one unit, since each follows the next smaller one".into());
    }
    if let (true, Some(pair)) = (method.is_curve(), same_size(radii, size)) {
        problems.push(format!("epsilon {} and {} are equal; a curve needs each once", pair.0, pair.1));
    }
}

fn same_size(radii: &[Epsilon], size: impl Fn(&Epsilon) -> f64) -> Option<(&Epsilon, &Epsilon)> {
    let pairs = radii.iter().enumerate().flat_map(|(i, a)| radii[i + 1..].iter().map(move |b| (a, b)));
    pairs.into_iter().find(|(a, b)| a.to_string() != b.to_string() && size(a) == size(b))
}

fn count_problems(method: &Method, problems: &mut Vec<String>) {
    let steps = match method {
        Method::Pgd { steps, .. } | Method::Momentum { steps, .. } | Method::Apgd { steps, .. } => Some(*steps),
        Method::Patch(patch) => Some(patch.steps),
        Method::Universal(universal) => Some(universal.steps),
        _ => None,
    };
    let queries = match method {
        Method::Square { queries, .. } => Some(*queries),
        Method::Nes(estimation) | Method::Spsa(estimation) => Some(estimation.queries),
        _ => None,
    };
    let restarts = !matches!(method, Method::None {} | Method::Noise { .. } | Method::Corruption(_));
    let counts = [
        ("steps", steps, 100_000),
        ("queries", queries, 1_000_000),
        ("restarts", restarts.then(|| method.restarts()), 1000),
    ];
    for (what, count, most) in counts {
        if let Some(count) = count.filter(|count| *count == 0 || *count > most) {
            problems.push(format!("{what} = {count} is outside 1 to {most}"));
        }
    }
}

fn step_problems(method: &Method, problems: &mut Vec<String>) {
    let (step_size, start, overshoot) = match method {
        Method::Pgd { step_size, random_start, allow_overshoot, .. } => {
            (step_size.as_ref(), Some(random_start), *allow_overshoot)
        }
        Method::Momentum { step_size, random_start, .. } => (step_size.as_ref(), Some(random_start), false),
        Method::Nes(estimation) | Method::Spsa(estimation) => (estimation.step_size.as_ref(), None, false),
        _ => return,
    };
    let radii = method.epsilons();
    let other = |amount: &Epsilon| radii.iter().find(|epsilon| epsilon.norm() != amount.norm());
    if let Some((step, epsilon)) = step_size.and_then(|step| Some((step, other(step)?))) {
        problems
            .push(format!("step_size {step} and epsilon {epsilon} are of different norms; write both the same way"));
    } else if let Some(step) = step_size {
        if step.is_zero() {
            problems.push("step_size is 0, so nothing would move".into());
        }
        // A list is one trial per radius with the same step: only the largest radius says whether it is a mistake.
        let largest = radii.iter().map(|e| e.nominal(&[1.0])).fold(0.0, f64::max);
        let comparable = radii.iter().all(|e| same_unit(e, step));
        if comparable && !overshoot && largest > 0.0 && step.nominal(&[1.0]) > largest {
            problems
                .push(format!("step_size {step} is larger than every epsilon; lower it or set allow_overshoot = true"));
        }
    }
    if let Some((amount, epsilon)) = start.and_then(|start| match start {
        RandomStart::Fixed(amount) => Some((amount, radii.iter().find(|e| matches!(e, Epsilon::L2(_)))?)),
        _ => None,
    }) {
        problems.push(format!(
            "random_start.fixed = {amount} is not made for the L2 radius {epsilon}; write \"uniform\" or \"none\""
        ));
    }
}

fn estimation_problems(estimation: &Estimation, problems: &mut Vec<String>) {
    let Estimation { queries, pairs, sigma, .. } = estimation;
    if *pairs == 0 || *pairs > 100_000 {
        problems.push(format!("pairs = {pairs} is outside 1 to 100000"));
    } else if estimation.steps() == 0 {
        let least = 2 * pairs + 2;
        problems.push(format!("queries = {queries} allow no step with {pairs} pairs of probes; {least} would"));
    }
    if sigma.as_ref().is_some_and(|sigma| sigma.value() == 0.0) {
        problems.push("sigma is 0, so every probe would show the same image".into());
    }
}

fn auto_problems(goal: &Goal, side: Side, problems: &mut Vec<String>) {
    if !matches!(goal, Goal::Misrank {}) {
        problems.push(format!(
            "method auto brings its goals along and asks who loses recall@1; write goal.misrank = {{}} instead of {goal}"
        ));
    }
    if side != Side::Query {
        problems.push("method auto needs a clean gallery to judge by; write side = \"query\"".into());
    }
}

fn ranking_problems(depth: usize, goal: &Goal, side: Side, problems: &mut Vec<String>) {
    if depth == 0 || depth > 1000 {
        problems.push(format!("access.ranking = {depth} is outside 1 to 1000"));
    }
    if !matches!(goal, Goal::SingleTarget {} | Goal::MultiTarget { .. } | Goal::Untargeted {} | Goal::Misrank {}) {
        problems.push(format!(
            "a ranking does not show the loss of goal {goal}; take misrank, untargeted, single-target or multi-target"
        ));
    }
    if side != Side::Query {
        problems.push("access.ranking searches a clean gallery; write side = \"query\"".into());
    }
}

fn same_unit(a: &Epsilon, b: &Epsilon) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Holder {
        method: Method,
    }

    fn problems(text: &str) -> String {
        let method = toml::from_str::<Holder>(&format!("method.{text}")).unwrap().method;
        method_problems(&method, &Goal::Misrank {}, Side::Query).join("; ")
    }

    #[test]
    fn good_methods_have_no_problems() {
        for text in [
            "fgsm = { epsilon = { l2 = 0.5 } }",
            "pgd = { epsilon = [{ l2 = 0.5 }, { l2 = 1 }], steps = 5, step_size = { l2 = 0.1 } }",
            "momentum = { epsilon = \"8/255\", steps = 10, decay = 0.5 }",
            "apgd = { epsilon = [\"2/255\", \"8/255\"], stop = \"broken\", warm_start = true }",
            "square = { epsilon = \"8/255\", access = { ranking = 20 } }",
            "nes = { epsilon = \"8/255\", queries = 22 }",
            "spsa = { epsilon = \"8/255\", pairs = 2, sigma = \"2/255\", restarts = 2 }",
            "noise = { epsilon = { l2 = 1.0 }, distribution = \"gaussian\" }",
            "auto = { epsilon = [\"0\", \"8/255\"] }",
        ] {
            assert_eq!(problems(text), "", "{text}");
        }
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, wanted) in [
            ("pgd = { epsilon = { l2 = 1 }, steps = 5, step_size = \"1/255\" }", "of different norms"),
            ("pgd = { epsilon = [\"1/255\", { l2 = 1 }], steps = 5 }", "make them two attacks"),
            ("pgd = { epsilon = { l2 = 1 }, steps = 5, random_start = { fixed = 0.1 } }", "not made for the L2 radius"),
            ("momentum = { epsilon = 0.1, steps = 0 }", "steps = 0 is outside 1 to 100000"),
            ("momentum = { epsilon = 0.1, steps = 1, decay = -1.0 }", "decay = -1 must be"),
            ("apgd = { epsilon = 0.1, warm_start = true }", "add stop = \"broken\""),
            ("auto = { epsilon = [0.1, \"0.10\"] }", "are equal; a curve needs each once"),
            ("auto = { epsilon = [0.1, { normalized = 0.2 }] }", "must be in one unit"),
            ("square = { epsilon = 0.1, queries = 0 }", "queries = 0 is outside"),
            ("square = { epsilon = 0.1, access = { ranking = 0 } }", "access.ranking = 0 is outside"),
            ("nes = { epsilon = 0.1, queries = 21 }", "allow no step with 10 pairs of probes; 22 would"),
            ("spsa = { epsilon = 0.1, pairs = 0 }", "pairs = 0 is outside"),
            ("spsa = { epsilon = 0.1, sigma = 0 }", "sigma is 0"),
            ("nes = { epsilon = 0.1, step_size = 0.2 }", "larger than every epsilon"),
        ] {
            assert!(problems(text).contains(wanted), "{text}: {}", problems(text));
        }
        let auto = toml::from_str::<Holder>("method.auto = { epsilon = 0.1 }").unwrap().method;
        let wrong = method_problems(&auto, &Goal::SingleTarget {}, Side::All).join("; ");
        assert!(wrong.contains("goal.misrank = {} instead of single-target") && wrong.contains("side = \"query\""));
    }
}

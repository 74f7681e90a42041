//! Who did what to whom, in words: one sentence for each attack of a suite.

use super::summary::{Condition, Summary};

/// What was done, in words, one sentence per attack family.
pub fn threat_model(summary: &Summary) -> Vec<String> {
    summary.families().iter().map(|columns| threat(summary, columns)).collect()
}

/// What was done in one attack family, in words.
pub(super) fn threat(summary: &Summary, columns: &[usize]) -> String {
    let c = &summary.conditions[columns[0]];
    let budgets: Vec<&str> = columns.iter().map(|i| summary.conditions[*i].epsilon.as_str()).collect();
    let budget = match budgets.as_slice() {
        ["0" | ""] => String::new(),
        list => format!("; budget {}, pixels before normalisation", list.join(", ")),
    };
    let answered =
        if c.answered_by == "main" { String::new() } else { format!("; answered by branch {}", c.answered_by) };
    format!("{} ({}): {}; {}; {}{budget}{}{answered}.", c.attack, c.goal, wish(c), who(c), how(c), knows(c))
}

fn wish(c: &Condition) -> &'static str {
    if c.method.contains("noise") {
        return "no goal: the control that every attack must beat";
    }
    let goals: [(&str, &str); 15] = [
        ("robrank", "all of RobRank's attacks together, whose scores make the empirical robustness score, ERS"),
        ("single-target", "each image is moved until its embedding lies on that of one image of another identity"),
        ("multi-target", "each embedding is moved towards images of several other identities at once"),
        ("untargeted", "each embedding is moved away from its clean place, anywhere"),
        ("misrank", "the nearest image of the own class is pushed away and one of another class pulled in"),
        ("same-identity", "each embedding is moved towards images of its own class, as a help and not an attack"),
        ("ca+", "candidates are changed so that chosen queries rank them higher (CA+)"),
        ("ca-", "candidates are changed so that chosen queries rank them lower (CA−)"),
        ("qa+", "queries are changed so that chosen candidates rise (QA+)"),
        ("qa-", "queries are changed so that chosen candidates fall (QA−)"),
        ("tma", "each embedding is aligned with that of another class (targeted mismatch, TMA)"),
        ("es", "each embedding is moved away from its clean place (embedding shift, ES)"),
        ("ltm", "the order of the own class and all others is turned around (learning to misrank, LTM)"),
        ("gtm", "the nearest match and the nearest other change places (greedy top-1 misranking, GTM)"),
        ("gtt", "the nearest match is moved out of sight (greedy top-1 translocation, GTT)"),
    ];
    let found = goals.iter().find(|(word, _)| c.goal.starts_with(word));
    found.map_or("what is wanted is named by the goal alone", |(_, words)| *words)
}

fn who(c: &Condition) -> &'static str {
    match c.side.as_str() {
        "query" => "only the query is perturbed, the gallery stays clean",
        "gallery" => "only the gallery is perturbed, the query stays clean",
        "candidate" => "only a candidate, an image that is searched, is perturbed",
        "each" => "queries or candidates, as each part says",
        "all" => "queries and gallery are the same perturbed set",
        _ => "who is perturbed is not recorded",
    }
}

fn how(c: &Condition) -> String {
    let effort = format!("{} steps, restarts: {}", c.steps, c.restarts);
    let methods: [(&str, String); 11] = [
        ("pgd", format!("projected gradient descent, {effort}, best iterate kept")),
        ("fgsm", "one signed gradient step".into()),
        ("momentum", format!("gradient descent with momentum, {effort}")),
        ("apgd", format!("Auto-PGD, {effort}, its steps halved where progress stalls")),
        ("square", format!("Square attack, random squares without gradients, {effort}")),
        ("nes", format!("descent on a gradient estimated by normal probes, {effort}")),
        ("spsa", format!("descent on a gradient estimated by random signs, {effort}")),
        ("auto", "an ensemble without parameters: a query counts as broken if any member breaks it".into()),
        ("noise", "uniform noise".into()),
        ("gaussian-noise", "Gaussian noise".into()),
        ("corruption", "a corruption, nobody's intention".into()),
    ];
    let found = methods.iter().find(|(word, _)| c.method.starts_with(word));
    let mut text = found.map_or_else(|| c.method.clone(), |(_, words)| words.clone());
    if c.method.ends_with("-by-rank") || c.method.contains("-by-rank-") {
        text += ", seeing the order of the results only";
    }
    if c.method.ends_with("-until-broken") {
        text += ", a query left alone once it is broken";
    }
    text
}

/// What the attacker saw of the model.
fn knows(c: &Condition) -> String {
    let gradients = ["pgd", "fgsm", "momentum", "apgd", "auto"].iter().any(|word| c.method.starts_with(word));
    match gradients {
        true if c.is_transfer => {
            let crafter = c.crafter().unwrap_or_default();
            format!("; gradients of {crafter} alone, whoever answers: a white box for {crafter} itself")
        }
        true if c.crafted_on == "worst" => "; white box: of each query the worst over the branches that crafted".into(),
        true => format!("; white box: gradients of branch {} of the exported ONNX file", c.crafted_on),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;

    #[test]
    fn a_sentence_says_goal_side_method_budget_and_knowledge() {
        let summary = Summary::of(&sample::run());
        assert_eq!(
            threat_model(&summary)[0],
            "single (single-target): each image is moved until its embedding lies on that of one image of another \
             identity; only the query is perturbed, the gallery stays clean; projected gradient descent, 20 steps, \
             restarts: 1, best iterate kept; budget 8/255, 16/255, 24/255, pixels before normalisation; white box: \
             gradients of branch main of the exported ONNX file."
        );
        let mut other = summary;
        let c = &mut other.conditions[1];
        (c.goal, c.method, c.side) = ("ca+(W=5)".into(), "square-by-rank-until-broken".into(), "gallery".into());
        let text = threat(&other, &[1]);
        for part in ["CA+", "only the gallery is perturbed", "order of the results only", "once it is broken"] {
            assert!(text.contains(part), "{part} not in {text}");
        }
        assert!(!text.contains("white box"), "{text}");
    }
}

//! Size and power of the gate by simulation, beside what other tools do; the table and the chart of docs/drift.md are made
//! here: `MDPROP_BLESS=1 cargo test --test it gate_power` writes them, without it they are compared.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use mdprop::drift::gate::{self, Cell, Class, Says};
use mdprop::drift::slow;
use mdprop::metric::kind::Metric;
use mdprop::rng;
use mdprop::stats::mcnemar::Discordance;
use rand::RngCore as _;

/// Queries of each trial.
const QUERIES: u64 = 2000;
/// Queries on which two versions of a demo model disagree: standard-convnet trained with seeds 0 and 1, clean recall@1 on
/// the demo's 512 queries, 40 hit by one only and 44 by the other (`make demo`; 13 to 19 % for other pairs).
const DISAGREE: f64 = 84.0 / 512.0;
/// Nights of each line of the table.
const NIGHTS: u64 = 1000;
/// Ten questions with five metrics each.
const QUESTIONS: usize = 10;
const METRICS: [Metric; 5] =
    [Metric::RecallAt(1), Metric::RecallAt(2), Metric::RecallAt(4), Metric::RecallAt(8), Metric::RecallAt(16)];
/// What every metric truly is.
const VALUE: f64 = 0.4;

/// Hits lost and gained when a metric truly falls by `drop`: each disagreement goes one way or the other.
fn flips(drop: f64, stream: &mut rng::Stream) -> (u64, u64) {
    let disagree = (DISAGREE * QUERIES as f64).round() as u64;
    let lost = if drop == 0.0 {
        let bits = |n: u64| (stream.next_u64() >> (64 - n)).count_ones();
        let mut left = disagree;
        let mut lost = 0;
        let mut bits = bits;
        while left > 0 {
            let n = left.min(64);
            lost += u64::from(bits(n));
            left -= n;
        }
        lost
    } else {
        let chance = 0.5 + 0.5 * drop / DISAGREE;
        (0..disagree).filter(|_| rng::unit_f64(stream) < chance).count() as u64
    };
    (lost, disagree - lost)
}

/// `p_worse` of so many hits lost; the number of disagreements is always the same.
fn p_worse(lost: u64) -> f64 {
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    let disagree = (DISAGREE * QUERIES as f64).round() as u64;
    let of = |lost| Discordance { only_a: lost, only_b: disagree - lost }.p_worse();
    TABLE.get_or_init(|| (0..=disagree).map(of).collect())[lost as usize]
}

/// A night: every metric of the grid, clean recall@1 truly lower by `drop`.
fn night(drop: f64, number: u64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for question in 0..QUESTIONS {
        for (k, metric) in METRICS.into_iter().enumerate() {
            let headline = question == 0 && k == 0;
            let mut stream = rng::stream(9, "gate-power", &[number, question as u64, k as u64, drop.to_bits()]);
            let (lost, gained) = flips(if headline { drop } else { 0.0 }, &mut stream);
            cells.push(Cell {
                question: if question == 0 { "m seed 0 clean".into() } else { format!("m seed 0 attack {question}") },
                trial: None,
                metric,
                class: Class::NewArtefact,
                n: QUERIES as usize,
                accepted: VALUE,
                tonight: VALUE + (gained as f64 - lost as f64) / QUERIES as f64,
                interval: None,
                flipped: Some((lost, gained)),
                allowed: None,
                p: Some((p_worse(lost), p_worse(gained))),
                p_adjusted: None,
                floor: gate::floor(metric, VALUE, &Default::default()),
                says: Says::Shown,
            });
        }
    }
    gate::decide(&mut cells);
    cells
}

/// How a tool decides that a metric has drifted.
#[derive(Clone, Copy)]
enum Rule {
    Gate,
    /// Worse than the accepted value by more than so much.
    Fixed(f64),
    /// Below so much of last night's value.
    Ratio(f64),
}

impl Rule {
    fn alarms(self, tonight: &Cell, last: &Cell) -> bool {
        match self {
            Self::Gate => tonight.says == Says::Drift,
            Self::Fixed(points) => tonight.accepted - tonight.tonight > points,
            Self::Ratio(share) => tonight.tonight < share * last.tonight,
        }
    }
}

const RULES: [(Rule, &str); 5] = [
    (Rule::Gate, "mdprop check"),
    (Rule::Fixed(0.01), "fixed threshold, 1 point"),
    (Rule::Fixed(0.03), "fixed threshold, 3 points"),
    (Rule::Ratio(0.95), "95 % of last night"),
    (Rule::Ratio(0.90), "90 % of last night"),
];

const DROPS: [f64; 10] = [0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.05];

/// For each rule: share of unchanged nights with an alarm anywhere, and of nights in which each drop of clean recall@1 is
/// named as such.
fn simulate() -> Vec<(f64, Vec<f64>)> {
    let share = |count: usize| count as f64 / NIGHTS as f64;
    let quiet: Vec<Vec<Cell>> = (0..=NIGHTS).map(|number| night(0.0, number)).collect();
    let size = |rule: Rule| {
        let alarm = |n: usize| quiet[n].iter().zip(&quiet[n - 1]).any(|(tonight, last)| rule.alarms(tonight, last));
        share((1..=NIGHTS as usize).filter(|&n| alarm(n)).count())
    };
    let mut found: Vec<(f64, Vec<f64>)> = RULES.iter().map(|(rule, _)| (size(*rule), vec![])).collect();
    for drop in DROPS {
        let nights: Vec<Cell> = (0..NIGHTS).map(|number| night(drop, number).swap_remove(0)).collect();
        for ((rule, _), row) in RULES.iter().zip(&mut found) {
            // Last night was still as it should be.
            let caught = nights.iter().zip(&quiet).filter(|(tonight, last)| rule.alarms(tonight, &last[0])).count();
            row.1.push(share(caught));
        }
    }
    found
}

/// Median night, from the first bad one, on which clean recall@1 that falls by `step` a night is noticed; by the gate and
/// by the sum.
fn slow_drift(step: f64) -> (usize, usize) {
    let (mut by_gate, mut by_sum) = (Vec::new(), Vec::new());
    let limit = slow::limit(QUESTIONS * METRICS.len());
    for series in 0..200u64 {
        let mut values = vec![VALUE];
        let (mut first_gate, mut first_sum) = (60usize, 60usize);
        // Ten good nights, then the drift.
        for night_number in 0..60usize {
            let bad = night_number.saturating_sub(9) as f64;
            let mut stream = rng::stream(10, "slow-drift", &[series, night_number as u64, step.to_bits()]);
            let (lost, gained) = flips((step * bad).min(0.9 * DISAGREE), &mut stream);
            values.push(VALUE + (gained as f64 - lost as f64) / QUERIES as f64);
            let p = p_worse(lost);
            // The headline's own part of the level, as if nothing else were rejected.
            let drop = (lost as f64 - gained as f64) / QUERIES as f64;
            if p < gate::SIGNIFICANCE * gate::HEADLINE_SHARE && drop > 0.01 && bad > 0.0 {
                first_gate = first_gate.min(bad as usize);
            }
            let recent = values.iter().rev().take(slow::WINDOW).sum::<f64>() / slow::WINDOW.min(values.len()) as f64;
            if bad > 0.0 && slow::cusum(&values, 1.0 / QUERIES as f64) > limit && VALUE - recent > 0.01 {
                first_sum = first_sum.min(bad as usize);
            }
        }
        by_gate.push(first_gate);
        by_sum.push(first_sum);
    }
    let median = |mut list: Vec<usize>| {
        list.sort_unstable();
        list[list.len() / 2]
    };
    (median(by_gate), median(by_sum))
}

fn nights(median: usize) -> String {
    if median < 60 { format!("{median} nights") } else { "never (60 nights)".into() }
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

fn table(found: &[(f64, Vec<f64>)]) -> String {
    let shown = [1usize, 3, 5, 7, 9];
    let heads: Vec<String> = shown.iter().map(|&i| format!("−{}", 100.0 * DROPS[i])).collect();
    let mut out = format!("| rule | no change | {} |\n|---|---|{}\n", heads.join(" | "), "---|".repeat(shown.len()));
    for ((_, name), (size, power)) in RULES.iter().zip(found) {
        let cells: Vec<String> = shown.iter().map(|&i| percent(power[i])).collect();
        let _ = writeln!(out, "| {name} | {} | {} |", percent(*size), cells.join(" | "));
    }
    out
}

/// The power curve as SVG; a dashed line beside each rule's name says how often it alarms without a change.
fn chart(found: &[(f64, Vec<f64>)]) -> String {
    const COLOURS: [&str; 5] = ["#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7"];
    let (left, top, width, height) = (60.0, 20.0, 420.0, 260.0);
    let x = |drop: f64| left + width * drop / 0.05;
    let y = |share: f64| top + height * (1.0 - share);
    let mut out = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 340\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>Nights in which a drop of recall@1 is caught, 2,000 queries, 50 metrics</title>\n\
         <rect width=\"760\" height=\"340\" fill=\"white\"/>\n",
    );
    for tenth in 0..=5 {
        let share = f64::from(tenth) / 5.0;
        let _ = writeln!(
            out,
            "<path d=\"M{left} {0:.1}H{1}\" stroke=\"#ddd\"/><text x=\"52\" y=\"{2:.1}\" text-anchor=\"end\">{3} %</text>",
            y(share),
            left + width,
            y(share) + 4.0,
            20 * tenth
        );
        let drop = f64::from(tenth) / 100.0;
        let _ = writeln!(out, "<text x=\"{:.1}\" y=\"298\" text-anchor=\"middle\">{tenth}</text>", x(drop));
    }
    out += "<text x=\"270\" y=\"322\" text-anchor=\"middle\">true drop of recall@1 in points</text>\n";
    out += "<text x=\"500\" y=\"34\" fill=\"#555\">rule: alarms without any change</text>\n";
    for (i, ((_, name), (size, power))) in RULES.iter().zip(found).enumerate() {
        let points: Vec<String> = DROPS.iter().zip(power).map(|(d, p)| format!("{:.1},{:.1}", x(*d), y(*p))).collect();
        let wide = if i == 0 { 3 } else { 2 };
        let _ = writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"{wide}\" points=\"{}\"/>",
            COLOURS[i],
            points.join(" ")
        );
        let at = 60 + 24 * i;
        let _ = writeln!(
            out,
            "<path d=\"M500 {}h24\" stroke=\"{}\" stroke-width=\"{wide}\"/><text x=\"532\" y=\"{at}\">{name}: {} %</text>",
            at - 4,
            COLOURS[i],
            percent(*size)
        );
    }
    out + "</svg>\n"
}

#[test]
fn the_gate_is_quiet_without_a_change_and_catches_three_points() {
    let found = simulate();
    let (size, power) = &found[0];
    assert!(*size <= 0.05, "{} of unchanged nights alarm", percent(*size));
    let three = power[5];
    assert!(three >= 0.90, "three points are caught in {} of nights", percent(three));
    assert!(power.windows(2).all(|pair| pair[0] <= pair[1] + 0.01), "{power:?}");
    // The others cry wolf or sleep.
    for ((size, power), (_, name)) in found.iter().zip(RULES).skip(1) {
        assert!(*size > 0.2 || power[5] < 0.9, "{name}: {size} {power:?}");
    }
    let slow: Vec<(f64, (usize, usize))> = [0.0, 0.001, 0.002, 0.004].map(|step| (step, slow_drift(step))).to_vec();
    let mut text = table(&found);
    text +=
        "\n| slow drift, points a night | recall@1 fails some night after | the sum alarms after |\n|---|---|---|\n";
    for (step, (by_gate, by_sum)) in slow {
        let _ = writeln!(text, "| {} | {} | {} |", 100.0 * step, nights(by_gate), nights(by_sum));
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let (page, figure) = (docs.join("drift.md"), docs.join("gate-power.svg"));
    let (begin, end) = ("<!-- simulation -->\n", "<!-- end of simulation -->");
    let before = std::fs::read_to_string(&page).unwrap();
    let (head, rest) = before.split_once(begin).unwrap();
    let (_, tail) = rest.split_once(end).unwrap();
    let after = format!("{head}{begin}{text}{end}{tail}");
    if std::env::var_os("MDPROP_BLESS").is_some() {
        std::fs::write(&page, after).unwrap();
        std::fs::write(&figure, chart(&found)).unwrap();
    } else {
        assert_eq!(before, after, "docs/drift.md is not what the simulation says; run with MDPROP_BLESS=1");
        assert_eq!(std::fs::read_to_string(&figure).unwrap(), chart(&found));
    }
}

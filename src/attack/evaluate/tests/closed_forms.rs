//! Attacks on linear encoders whose best outcome is known from a formula, for every goal that has one.
//!
//! Where each output looks at pixels of its own, all with the same weight, the embeddings within reach are a box (L∞) or a
//! ball (L2) around the clean one: no pixel is near 0 or 1. So the best loss is a clamp, a projection or a median.

use super::*;
use crate::suite::attack::TargetLoss;

/// Outputs, and pixels that each of them looks at.
const OUTPUTS: usize = 4;
const OWN: usize = 48 / OUTPUTS;
const STEPS: usize = 200;
/// Length of a step in radii: so long that the whole walk turns round the ball.
const STEP: f64 = 0.05;

/// Output `k` is the sum of every fourth pixel from `k` on, over `√12`: rows of length 1 that share no pixel.
fn separate() -> LinearEncoder {
    let entry = |k: usize, pixel: usize| if pixel % OUTPUTS == k { 1.0 / (OWN as f32).sqrt() } else { 0.0 };
    let weight = (0..OUTPUTS).flat_map(|k| (0..48).map(move |pixel| entry(k, pixel))).collect();
    LinearEncoder::new([3, 4, 4], weight, false).unwrap()
}

/// One output with weights of both signs.
fn single() -> (LinearEncoder, Vec<f64>) {
    let mut stream = rng::stream(8, "weights", &[]);
    let weight: Vec<f32> = (0..48).map(|_| rng::normal(&mut stream)).collect();
    let exact = weight.iter().map(|w| f64::from(*w)).collect();
    (LinearEncoder::new([3, 4, 4], weight, false).unwrap(), exact)
}

fn pixels(images: &ImageSet, i: usize) -> Vec<f64> {
    images.bytes(i).iter().map(|&byte| f64::from(byte) / 255.0).collect()
}

/// The embedding by [`separate`], summed here.
fn outputs(images: &ImageSet, i: usize) -> Vec<f64> {
    let x = pixels(images, i);
    (0..OUTPUTS).map(|k| x.iter().skip(k).step_by(OUTPUTS).sum::<f64>() / (OWN as f64).sqrt()).collect()
}

fn methods(epsilon: &Epsilon) -> Vec<Method> {
    let radii = || EpsilonList(vec![epsilon.clone()]);
    let step = match epsilon {
        Epsilon::L2(length) => Epsilon::L2(STEP * length),
        other => Epsilon::Normalized(STEP * other.nominal(&[1.0])),
    };
    let pgd = |random_start| Method::Pgd {
        epsilon: radii(),
        step_size: Some(step.clone()),
        steps: STEPS,
        restarts: 1,
        random_start,
        allow_overshoot: false,
        stop: Stop::Never,
    };
    let apgd = Method::Apgd { epsilon: radii(), steps: STEPS, restarts: 1, stop: Stop::Never, warm_start: false };
    vec![pgd(RandomStart::None), pgd(RandomStart::Uniform), apgd]
}

/// No pixel of [`set`] can leave [0, 1] by these.
fn radii() -> [Epsilon; 2] {
    [levels(16), Epsilon::L2(0.2)]
}

fn goals() -> Vec<Goal> {
    let multi = |loss| Goal::MultiTarget { targets: 5, loss, choice: Default::default() };
    vec![
        Goal::SingleTarget {},
        multi(TargetLoss::MeanSquaredDistance),
        multi(TargetLoss::SquaredDistanceToMean),
        Goal::SameIdentity { targets: 1 },
        Goal::SameIdentity { targets: 3 },
        Goal::Untargeted {},
    ]
}

/// How far the nearest embedding within reach stays from a point, squared.
fn nearest(from: &[f64], to: &[f64], epsilon: &Epsilon) -> f64 {
    let apart = from.iter().zip(to).map(|(a, b)| (a - b).abs());
    match epsilon {
        Epsilon::L2(radius) => (apart.map(|d| d * d).sum::<f64>().sqrt() - radius).max(0.0).powi(2),
        other => {
            let reach = other.nominal(&[1.0]) * (OWN as f64).sqrt();
            apart.map(|d| (d - reach).max(0.0).powi(2)).sum()
        }
    }
}

/// The lowest loss that any image within the budget has.
fn optimum(goal: &Goal, epsilon: &Epsilon, clean: &[f64], targets: &[Vec<f64>]) -> f64 {
    let count = targets.len() as f64;
    let mean: Vec<f64> = (0..OUTPUTS).map(|k| targets.iter().map(|t| t[k]).sum::<f64>() / count).collect();
    let squared = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    match (goal, epsilon) {
        (Goal::Untargeted {}, Epsilon::L2(radius)) => -radius.powi(2),
        (Goal::Untargeted {}, other) => -(OUTPUTS as f64) * OWN as f64 * other.nominal(&[1.0]).powi(2),
        (Goal::MultiTarget { loss: TargetLoss::SquaredDistanceToMean, .. }, _) => nearest(clean, &mean, epsilon),
        // The mean of squared distances is the squared distance to the mean and what the targets lie apart.
        _ => nearest(clean, &mean, epsilon) + targets.iter().map(|t| squared(t, &mean)).sum::<f64>() / count,
    }
}

#[test]
fn every_goal_of_squared_distances_reaches_its_optimum_in_both_norms() {
    let bench = Bench { metrics: vec![], ..Bench::new() };
    let (mut within, mut beyond) = (0, 0);
    for epsilon in radii() {
        for goal in goals() {
            for method in methods(&epsilon) {
                let attacked = attack(&goal, &method, &epsilon, Side::Query);
                let (outcome, _) = bench.run_with(&mut separate(), Some(attacked)).unwrap();
                // All of them see the brightness most, which the set's images share.
                let wrong = failed(&outcome.checks).into_iter().find(|check| check.name != "no-collapse");
                assert_eq!(wrong, None, "{goal} {epsilon} {}", method.label());
                for query in &outcome.queries {
                    let clean = outputs(&bench.images, query.query as usize);
                    let targets: Vec<Vec<f64>> =
                        query.targets.iter().map(|&t| outputs(&bench.images, t as usize)).collect();
                    let best = optimum(&goal, &epsilon, &clean, &targets);
                    // A constant step that overshoots a point within reach stays a step away from it.
                    let step = STEP * epsilon.nominal(&[1.0]) * 48f64.sqrt();
                    let loss = f64::from(query.loss);
                    assert!(loss >= best - 1e-5, "{goal} {epsilon}: {loss} is below what is possible, {best}");
                    assert!(
                        loss <= best + step * step + 2e-3 * best.abs() + 1e-5,
                        "{goal} {epsilon} by {}: {loss}, possible is {best}",
                        method.label()
                    );
                    let inside = !targets.is_empty() && best < 1e-12;
                    (within, beyond) = (within + usize::from(inside), beyond + usize::from(!inside));
                }
            }
        }
    }
    assert!(beyond > 1000 && within > 0, "both kinds are tried: {within} within reach, {beyond} beyond it");
}

#[test]
fn the_mean_distance_to_several_targets_reaches_its_optimum_on_one_output() {
    // On a line every point between the two middle targets has the least mean distance; with an odd number it is the median.
    let bench = Bench { metrics: vec![], ..Bench::new() };
    let (mut encoder, weight) = single();
    let output = |i: u32| pixels(&bench.images, i as usize).iter().zip(&weight).map(|(x, w)| x * w).sum::<f64>();
    let goal = Goal::MultiTarget { targets: 5, loss: TargetLoss::MeanDistance, choice: Default::default() };
    let mut within = 0;
    for epsilon in radii() {
        let radius = epsilon.nominal(&[1.0]);
        let reach = match epsilon {
            Epsilon::L2(_) => radius * weight.iter().map(|w| w * w).sum::<f64>().sqrt(),
            _ => radius * weight.iter().map(|w| w.abs()).sum::<f64>(),
        };
        for method in methods(&epsilon) {
            let attacked = attack(&goal, &method, &epsilon, Side::Query);
            let (outcome, _) = bench.run_with(&mut encoder, Some(attacked)).unwrap();
            for query in &outcome.queries {
                let mut targets: Vec<f64> = query.targets.iter().map(|&t| output(t)).collect();
                targets.sort_by(f64::total_cmp);
                let clean = output(query.query);
                let point = targets[2].clamp(clean - reach, clean + reach);
                let inside = point == targets[2];
                within += usize::from(inside);
                let best = targets.iter().map(|t| (point - t).abs()).sum::<f64>() / 5.0;
                let (loss, step) = (f64::from(query.loss), if inside { STEP * reach } else { 1e-3 });
                assert!(loss >= best - 1e-4, "{epsilon}: {loss} is below what is possible, {best}");
                assert!(loss <= best + step + 1e-4, "{epsilon} by {}: {loss}, possible is {best}", method.label());
            }
        }
    }
    assert!(within > 20, "{within} medians are within reach");
}

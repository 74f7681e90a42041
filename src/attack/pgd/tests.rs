use super::*;
use crate::encoder::fake::LinearEncoder;
use crate::progress::Cancel;
use crate::rng;
use crate::suite::attack::{EpsilonList, Goal, Method, RandomStart, Stop};
use crate::units::{Epsilon, PixelAmount};
use proptest::prelude::*;

const SHAPE: [usize; 3] = [3, 4, 4];

fn batch(n: usize, seed: u64) -> Images {
    let mut stream = rng::stream(seed, "pixels", &[]);
    Images::new([n, 3, 4, 4], (0..n * 48).map(|_| rng::unit(&mut stream)).collect()).unwrap()
}

fn method(epsilon: &Epsilon, steps: usize, restarts: usize, random_start: RandomStart) -> Method {
    let epsilon = EpsilonList(vec![epsilon.clone()]);
    Method::Pgd { epsilon, step_size: None, steps, restarts, random_start, allow_overshoot: false, stop: Stop::Never }
}

fn run(encoder: &mut LinearEncoder, clean: &Images, goal: &Goal, epsilon: &Epsilon, method: &Method) -> Crafted {
    let (n, d) = (clean.len(), encoder.spec().embedding_dim);
    let mut targets = Vec::new();
    for i in 0..n {
        let mut stream = rng::stream(1, "targets", &[i as u64]);
        targets.extend((0..goal.targets() * d).map(|_| 40.0 + rng::normal(&mut stream)));
    }
    let objective = Objective::new(goal, n, targets);
    let std = encoder.spec().std.clone();
    let schedule = Schedule::resolve(method, goal, epsilon, &std).unwrap().unwrap();
    let budget = Budget::new(epsilon, &std);
    let images: Vec<usize> = (0..n).collect();
    let job = Job {
        clean,
        images: &images,
        budget: &budget,
        schedule: &schedule,
        objective: &objective,
        seed: 7,
        attack: "test",
        cancel: &Cancel::default(),
        keep: Default::default(),
    };
    craft(encoder, job).unwrap()
}

#[test]
fn the_losses_along_the_way_begin_at_the_start_and_hold_the_one_that_counts() {
    let mut encoder = LinearEncoder::random(SHAPE, 4, true, 3).unwrap();
    let epsilon = Epsilon::Pixels(PixelAmount::grey_levels(8));
    let goal = Goal::SingleTarget {};
    for (restarts, first_alone) in [(1, true), (3, false)] {
        let method = method(&epsilon, 9, restarts, RandomStart::default());
        let crafted = run(&mut encoder, &batch(5, 2), &goal, &epsilon, &method);
        assert_eq!(crafted.paths.len(), 5);
        for (i, path) in crafted.paths.iter().enumerate() {
            let losses = path.as_slice();
            assert_eq!((losses.len(), losses[0]), (10, crafted.start_loss[i]));
            let least = losses.iter().copied().fold(f32::INFINITY, f32::min);
            assert!(if first_alone { least == crafted.loss[i] } else { least >= crafted.loss[i] });
        }
    }
}

#[test]
fn reaches_the_analytic_optimum_of_a_linear_encoder() {
    // One output, target far above: the best image has every pixel at the bound its weight's sign asks for.
    let mut encoder = LinearEncoder::random(SHAPE, 1, false, 3).unwrap();
    let weight: Vec<f32> = {
        let unit = |i: usize| {
            let mut data = vec![0.0; 48];
            data[i] = 1.0;
            Images::new([1, 3, 4, 4], data).unwrap()
        };
        (0..48).map(|i| encoder.embed(&unit(i)).unwrap().as_slice()[0]).collect()
    };
    let clean = batch(5, 2);
    let epsilon = Epsilon::Pixels(PixelAmount::grey_levels(8));
    let (lower, upper) = Budget::new(&epsilon, &[1.0; 3]).bounds(&clean).unwrap();
    let single = Goal::SingleTarget {};
    let fgsm = Method::Fgsm { epsilon: EpsilonList(vec![epsilon.clone()]) };
    for method in [method(&epsilon, 20, 1, RandomStart::Uniform), fgsm] {
        let crafted = run(&mut encoder, &clean, &single, &epsilon, &method);
        for i in 0..5 {
            for (p, x) in crafted.adversarial.image(i).iter().enumerate() {
                let wanted = if weight[p] > 0.0 { upper.image(i)[p] } else { lower.image(i)[p] };
                approx::assert_abs_diff_eq!(*x, wanted, epsilon = 1e-6);
            }
        }
    }
}

#[test]
fn a_zero_budget_gives_the_clean_pixels() {
    let mut encoder = LinearEncoder::random(SHAPE, 4, true, 3).unwrap();
    let clean = batch(3, 2);
    let zero = Epsilon::Pixels(PixelAmount::zero());
    let crafted = run(&mut encoder, &clean, &Goal::SingleTarget {}, &zero, &method(&zero, 5, 2, RandomStart::Uniform));
    assert_eq!(crafted.adversarial, clean);
    assert_eq!(crafted.embeddings, encoder.embed(&clean).unwrap());
}

#[test]
fn restarts_and_radius_never_weaken_and_the_batch_does_not_matter() {
    let mut encoder = LinearEncoder::random(SHAPE, 6, true, 3).unwrap();
    let clean = batch(6, 4);
    let goal = Goal::MultiTarget { targets: 3, loss: Default::default(), choice: Default::default() };
    let four = Epsilon::Pixels(PixelAmount::grey_levels(4));
    for start in [RandomStart::None, RandomStart::Uniform] {
        let one = run(&mut encoder, &clean, &goal, &four, &method(&four, 4, 1, start.clone()));
        let three = run(&mut encoder, &clean, &goal, &four, &method(&four, 4, 3, start));
        assert!(three.loss.iter().zip(&one.loss).all(|(a, b)| a <= b));
        assert_ne!(three.loss, one.loss, "two more runs find something for one of six images");
        assert_eq!(three.start_loss, one.start_loss);
    }
    let m = method(&four, 4, 2, RandomStart::Uniform);
    let whole = run(&mut encoder, &clean, &goal, &four, &m);
    let first = Images::new([2, 3, 4, 4], clean.as_slice()[..96].to_vec()).unwrap();
    let part = run(&mut encoder, &first, &goal, &four, &m);
    assert_eq!(part.adversarial.as_slice(), &whole.adversarial.as_slice()[..96]);
    assert_eq!(part.loss, whole.loss[..2]);
    // Without normalisation the loss is convex in the pixels: a wider ball is never worse.
    let mut convex = LinearEncoder::random(SHAPE, 1, false, 3).unwrap();
    let mut last = vec![f32::INFINITY; 6];
    for levels in [0, 1, 2, 4, 8, 16] {
        let epsilon = Epsilon::Pixels(PixelAmount::grey_levels(levels));
        let m = method(&epsilon, 10, 1, RandomStart::None);
        let loss = run(&mut convex, &clean, &Goal::SingleTarget {}, &epsilon, &m).loss;
        assert!(loss.iter().zip(&last).all(|(a, b)| a < b), "{levels}: {loss:?} {last:?}");
        last = loss;
    }
}

#[test]
fn a_loss_that_is_not_finite_names_the_image() {
    let mut encoder = LinearEncoder::new(SHAPE, vec![f32::MAX; 48], false).unwrap();
    let clean = batch(2, 1);
    let epsilon = Epsilon::Pixels(PixelAmount::grey_levels(1));
    let schedule = Schedule { steps: 1, restarts: 1, step: vec![0.1; 3], start: Start::Clean };
    let objective = Objective::new(&Goal::SingleTarget {}, 2, vec![0.0, 0.0]);
    let job = Job {
        clean: &clean,
        images: &[41, 42],
        budget: &Budget::new(&epsilon, &[1.0; 3]),
        schedule: &schedule,
        objective: &objective,
        seed: 1,
        attack: "test",
        cancel: &Cancel::default(),
        keep: Default::default(),
    };
    let message = craft(&mut encoder, job).unwrap_err().to_string();
    assert!(message.starts_with("image 41: loss at step 0 is inf"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_budget_is_never_exceeded(
        seed in any::<u64>(), radius in 0.0f64..0.3, steps in 1usize..5, restarts in 1usize..3, kind in 0usize..4,
    ) {
        let mut encoder = LinearEncoder::random(SHAPE, 3, kind % 2 == 0, seed).unwrap().with_std(vec![0.2, 0.3, 0.4]);
        let clean = batch(2, seed);
        let epsilon = Epsilon::Normalized(radius);
        let start = match kind {
            0 => RandomStart::None,
            1 => RandomStart::Uniform,
            _ => RandomStart::Fixed(Epsilon::Normalized(0.2)),
        };
        let goal = if kind == 3 { Goal::Untargeted {} } else { Goal::SingleTarget {} };
        let crafted = run(&mut encoder, &clean, &goal, &epsilon, &method(&epsilon, steps, restarts, start));
        let budget = Budget::new(&epsilon, &[0.2, 0.3, 0.4]);
        for i in 0..2 {
            prop_assert!(budget.excess(clean.image(i), crafted.adversarial.image(i)) <= 1e-7);
            prop_assert!(crafted.adversarial.image(i).iter().all(|x| (0.0..=1.0).contains(x)));
            prop_assert!(crafted.loss[i] <= crafted.start_loss[i]);
        }
    }
}

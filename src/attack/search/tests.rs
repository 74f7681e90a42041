//! Searches on a linear encoder, whose best attacks are known, and against the plain run of every query by itself.

use super::*;
use crate::attack::budget::Budget;
use crate::encoder::Distance;
use crate::encoder::fake::LinearEncoder;
use crate::progress::Silent;
use crate::suite::attack::{EpsilonList, Estimation, Method, RandomStart, Stop};
use crate::units::{Epsilon, PixelAmount};

const SHAPE: [usize; 3] = [3, 4, 4];

/// Queries with a target embedding each; broken when nearer to it than `near`.
struct World {
    clean: Vec<Vec<f32>>,
    targets: Embeddings,
    near: f64,
}

impl World {
    fn new(encoder: &mut dyn Encoder, n: usize, near: f64) -> Self {
        let image = |i: usize| -> Vec<f32> {
            let mut stream = rng::stream(i as u64, "pixels", &[]);
            (0..48).map(|_| 0.2 + 0.6 * rng::unit(&mut stream)).collect()
        };
        let clean: Vec<Vec<f32>> = (0..n).map(image).collect();
        let shifted: Vec<f32> = (0..n).flat_map(|i| clean[(i + 1) % n].clone()).collect();
        let targets = encoder.embed(&Images::new([n, 3, 4, 4], shifted).unwrap()).unwrap();
        Self { clean, targets, near }
    }

    fn hunted(&self, epsilon: &Epsilon) -> Vec<Hunted> {
        let budget = Budget::new(epsilon, &[1.0; 3]);
        let one = |query: usize| Hunted {
            query,
            image: 100 + query,
            region: Arc::new(Region::new(self.clean[query].clone(), SHAPE, &budget)),
            warm: None,
            found: None,
            evaluations: 0,
        };
        (0..self.clean.len()).map(one).collect()
    }

    fn distance(&self, query: usize, embedding: &[f32]) -> f64 {
        Distance::SquaredEuclidean.between(embedding, self.targets.row(query))
    }
}

impl Victims for World {
    fn objective(&self, query: usize, goal: &Goal) -> Result<Objective, AttackError> {
        Ok(Objective::new(goal, 1, self.targets.row(query).to_vec()))
    }

    fn broken(&self, queries: &[usize], embeddings: &Embeddings) -> Result<Vec<bool>, AttackError> {
        let near = |(i, &query): (usize, &usize)| self.distance(query, embeddings.row(i)) < self.near;
        Ok(queries.iter().enumerate().map(near).collect())
    }

    /// As coarse as a ranking: whole units of distance.
    fn score_ranking(
        &self,
        queries: &[usize],
        _: &Goal,
        embeddings: &Embeddings,
        depth: usize,
    ) -> Result<Vec<f64>, AttackError> {
        let coarse = |(i, &query): (usize, &usize)| (self.distance(query, embeddings.row(i)) * depth as f64).floor();
        Ok(queries.iter().enumerate().map(coarse).collect())
    }
}

fn levels(n: u32) -> Epsilon {
    Epsilon::Pixels(PixelAmount::grey_levels(n))
}

fn list(epsilon: &Epsilon) -> EpsilonList {
    EpsilonList(vec![epsilon.clone()])
}

fn apgd(epsilon: &Epsilon, steps: usize, restarts: usize) -> Method {
    Method::Apgd { epsilon: list(epsilon), steps, restarts, stop: Stop::Never, warm_start: false }
}

fn square(epsilon: &Epsilon, queries: usize, access: Access) -> Method {
    Method::Square { epsilon: list(epsilon), queries, restarts: 1, access, stop: Stop::Never }
}

fn estimation(epsilon: &Epsilon, queries: usize) -> Estimation {
    let (epsilon, stop, access) = (list(epsilon), Stop::Never, Access::Embedding);
    Estimation { epsilon, queries, pairs: 10, sigma: None, step_size: None, restarts: 1, access, stop }
}

fn momentum(epsilon: &Epsilon, steps: usize) -> Method {
    let (epsilon, random_start, stop) = (list(epsilon), RandomStart::None, Stop::Never);
    Method::Momentum { epsilon, step_size: None, steps, decay: 1.0, restarts: 1, random_start, stop }
}

fn pgd(epsilon: &Epsilon, steps: usize) -> Method {
    let (epsilon, random_start, stop) = (list(epsilon), RandomStart::Uniform, Stop::Never);
    let allow_overshoot = false;
    Method::Pgd { epsilon, step_size: None, steps, restarts: 1, random_start, allow_overshoot, stop }
}

/// Every query under a method, `places` at a time.
fn run(encoder: &mut dyn Encoder, world: &World, method: &Method, until: Until, places: usize) -> Vec<Hunted> {
    let goal = Goal::SingleTarget {};
    let epsilon = &method.epsilons()[0];
    let route = Route::resolve(method, &goal, epsilon, &[1.0; 3]).unwrap().unwrap();
    let (restarts, access) = (method.restarts(), method.access());
    let leg = Leg { name: "test", goal: &goal, route: &route, restarts, access, until, last: true };
    let mut hunted = world.hunted(epsilon);
    let search = Search { places, seed: 5, cancel: &Cancel::default(), observer: &Silent };
    search.run(encoder, world, &leg, &mut hunted).unwrap();
    hunted
}

fn found(hunted: &[Hunted]) -> Vec<&Found> {
    hunted.iter().map(|h| h.found.as_ref().unwrap()).collect()
}

/// One output without normalisation: the loss falls with `w · x` alone, so the optimum in a ball is known: L∞, every pixel
/// at the bound that its weight asks for; L2, the longest change along the weights (cut where a pixel leaves the range,
/// which these radii never do).
#[test]
fn gradient_methods_reach_the_optimum_of_a_linear_encoder_in_both_norms() {
    let mut encoder = LinearEncoder::random(SHAPE, 1, false, 3).unwrap();
    let mut world = World::new(&mut encoder, 5, 0.0);
    world.targets = Embeddings::new([5, 1], vec![20.0; 5]).unwrap();
    let unit = |i: usize| {
        let mut data = vec![0.0; 48];
        data[i] = 1.0;
        Images::new([1, 3, 4, 4], data).unwrap()
    };
    let weight: Vec<f64> = (0..48).map(|i| f64::from(encoder.embed(&unit(i)).unwrap().as_slice()[0])).collect();
    let norm = weight.iter().map(|w| w * w).sum::<f64>().sqrt();
    for (epsilon, size) in [(levels(8), 8.0 / 255.0), (Epsilon::L2(0.15), 0.15)] {
        let l2 = matches!(epsilon, Epsilon::L2(_));
        let mut methods = vec![apgd(&epsilon, 30, 1), momentum(&epsilon, 20)];
        if l2 {
            // With the default step what is left across the weights shrinks to e^-2.5 only, however many steps there are.
            let mut long = pgd(&epsilon, 40);
            if let Method::Pgd { step_size, .. } = &mut long {
                *step_size = Some(Epsilon::L2(0.05));
            }
            methods.extend([long, Method::Fgsm { epsilon: list(&epsilon) }]);
        }
        for method in methods {
            for hunted in &run(&mut encoder, &world, &method, Until::End, 3) {
                let clean = hunted.region.clean();
                for (i, x) in hunted.found.as_ref().unwrap().adversarial.iter().enumerate() {
                    let change = if l2 { size * weight[i] / norm } else { size * weight[i].signum() };
                    let wanted = f64::from(clean[i]) + change;
                    assert!((f64::from(*x) - wanted).abs() < 1e-3 * size.max(0.1), "{method:?}: {x}, wanted {wanted}");
                }
            }
        }
    }
}

#[test]
fn black_box_methods_lower_the_loss_less_than_gradients_and_more_than_nothing() {
    let mut encoder = LinearEncoder::random(SHAPE, 6, true, 3).unwrap();
    let world = World::new(&mut encoder, 12, 0.0);
    for epsilon in [levels(12), Epsilon::L2(0.3)] {
        let mut mean = |method: &Method| {
            let hunted = run(&mut encoder, &world, method, Until::End, 5);
            for (hunted, found) in hunted.iter().zip(found(&hunted)) {
                let excess = Budget::new(&epsilon, &[1.0; 3]).excess(hunted.region.clean(), &found.adversarial);
                assert!(excess <= 1e-7, "{method:?} exceeds by {excess}");
                assert!(found.score <= found.start_score);
            }
            found(&hunted).iter().map(|found| found.loss).sum::<f64>() / 12.0
        };
        let white = mean(&apgd(&epsilon, 40, 1));
        let clean: f64 = {
            let images: Vec<f32> = world.clean.concat();
            let embedded = LinearEncoder::random(SHAPE, 6, true, 3).unwrap();
            let embedded = { embedded }.embed(&Images::new([12, 3, 4, 4], images).unwrap()).unwrap();
            (0..12).map(|i| world.distance(i, embedded.row(i))).sum::<f64>() / 12.0
        };
        let methods = [
            square(&epsilon, 400, Access::Embedding),
            square(&epsilon, 400, Access::Ranking(400)),
            Method::Nes(estimation(&epsilon, 400)),
            Method::Spsa(estimation(&epsilon, 400)),
        ];
        for method in methods {
            let loss = mean(&method);
            assert!(loss >= white - 1e-6, "{method:?}: {loss} beats the white box, {white}");
            assert!(loss < clean - 0.4 * (clean - white), "{method:?}: {loss}; clean {clean}, white box {white}");
        }
    }
}

/// A query's numbers are its own: not its company's, its place's or the order's.
#[test]
fn places_and_leaving_change_nothing_but_the_work() {
    let mut encoder = LinearEncoder::random(SHAPE, 6, true, 3).unwrap();
    let mut world = World::new(&mut encoder, 23, 0.0);
    let epsilon = levels(10);
    for method in [apgd(&epsilon, 20, 2), square(&epsilon, 60, Access::Embedding), momentum(&epsilon, 6)] {
        // So near that some queries break soon, some late and some never.
        let ends = run(&mut encoder, &world, &method, Until::End, 23);
        let mut losses: Vec<f64> = found(&ends).iter().map(|found| found.loss).collect();
        losses.sort_by(f64::total_cmp);
        world.near = losses[14];
        let full = run(&mut encoder, &world, &method, Until::EndAlthoughBroken, 23);
        let broken = found(&full).iter().filter(|found| found.broken).count();
        assert!((5..23).contains(&broken), "{method:?}: {broken}");
        for places in [1, 4, 23, 50] {
            let left = run(&mut encoder, &world, &method, Until::Broken, places);
            assert_eq!(found(&left), found(&full), "{method:?}, {places} places");
            let looks = |list: &[Hunted]| list.iter().map(|h| h.evaluations).sum::<usize>();
            assert!(looks(&left) < looks(&full));
            world.near = 0.0;
            assert_eq!(found(&run(&mut encoder, &world, &method, Until::Broken, places)), found(&ends));
            world.near = losses[14];
        }
        world.near = 0.0;
    }
}

#[test]
fn restarts_and_steps_never_weaken() {
    let mut encoder = LinearEncoder::random(SHAPE, 6, true, 3).unwrap();
    let world = World::new(&mut encoder, 9, 0.0);
    let epsilon = Epsilon::L2(0.4);
    let mut losses = |method: &Method| -> Vec<f64> {
        found(&run(&mut encoder, &world, method, Until::End, 4)).iter().map(|found| found.loss).collect()
    };
    let (one, three) = (losses(&apgd(&epsilon, 10, 1)), losses(&apgd(&epsilon, 10, 3)));
    assert!(three.iter().zip(&one).all(|(a, b)| a <= b));
    assert_ne!(one, three);
    let long = losses(&apgd(&epsilon, 100, 1));
    assert!(long.iter().zip(&one).all(|(a, b)| *a <= b + 1e-4), "{long:?} {one:?}");
}

/// A model that only answers.
struct Blind(LinearEncoder);

impl Encoder for Blind {
    fn spec(&self) -> &crate::encoder::EncoderSpec {
        self.0.spec()
    }

    fn embed(&mut self, images: &Images) -> Result<Embeddings, crate::encoder::EncoderError> {
        self.0.embed(images)
    }

    fn descend<'a>(
        &'a mut self,
        _: &crate::encoder::Descent<'_>,
    ) -> Result<Box<dyn crate::encoder::GradientSteps + 'a>, crate::encoder::EncoderError> {
        Err(crate::encoder::EncoderError::NoGradient { name: "blind".into(), node: "n".into(), op: "o".into() })
    }
}

#[test]
fn a_model_without_a_gradient_is_attacked_by_what_needs_none() {
    let mut encoder = LinearEncoder::random(SHAPE, 6, true, 3).unwrap();
    let world = World::new(&mut encoder, 4, 0.0);
    let epsilon = levels(12);
    let seeing = run(&mut encoder, &world, &square(&epsilon, 50, Access::Embedding), Until::End, 4);
    let blind = run(&mut Blind(encoder.clone()), &world, &square(&epsilon, 50, Access::Embedding), Until::End, 4);
    assert_eq!(found(&seeing), found(&blind));
    let goal = Goal::SingleTarget {};
    let route = Route::Apgd { steps: 3 };
    let (access, until) = (Access::Embedding, Until::End);
    let leg = Leg { name: "test", goal: &goal, route: &route, restarts: 1, access, until, last: true };
    let search = Search { places: 4, seed: 5, cancel: &Cancel::default(), observer: &Silent };
    let error = search.run(&mut Blind(encoder), &world, &leg, &mut world.hunted(&epsilon)).unwrap_err().to_string();
    assert!(error.contains("gradient-free methods still work"), "{error}");
}

#[test]
fn no_place_is_an_error_and_no_query_is_none() {
    let mut encoder = LinearEncoder::random(SHAPE, 6, true, 3).unwrap();
    let world = World::new(&mut encoder, 2, 0.0);
    let goal = Goal::SingleTarget {};
    let route = Route::Apgd { steps: 3 };
    let (access, until) = (Access::Embedding, Until::End);
    let leg = Leg { name: "test", goal: &goal, route: &route, restarts: 1, access, until, last: true };
    let cancel = Cancel::default();
    let search = |places| Search { places, seed: 5, cancel: &cancel, observer: &Silent };
    let error = search(0).run(&mut encoder, &world, &leg, &mut []).unwrap_err().to_string();
    assert_eq!(error, "queries at once: got 0, wanted at least 1");
    search(3).run(&mut encoder, &world, &leg, &mut []).unwrap();
}

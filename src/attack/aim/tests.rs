use super::*;

/// Twelve images in the plane, three of each class, the first eight of them attacked.
struct Field {
    labels: Vec<u32>,
    all: Vec<usize>,
    list: Vec<usize>,
    gallery: Embeddings,
    own: Embeddings,
}

impl Field {
    fn new() -> Self {
        let mut stream = rng::stream(3, "field", &[]);
        let rows: Vec<f32> = (0..24).map(|_| rng::normal(&mut stream)).collect();
        let gallery = Embeddings::new([12, 2], rows).unwrap();
        let own = gallery.select(&(0..8).collect::<Vec<_>>());
        Self { labels: (0..12).map(|i| i / 3).collect(), all: (0..12).collect(), list: (0..8).collect(), gallery, own }
    }

    fn aim(&self) -> Aim<'_> {
        Aim::new(Scene {
            seed: 5,
            attack: "a",
            labels: &self.labels,
            list: &self.list,
            gallery: &self.all,
            own: &self.own,
            gallery_embeddings: &self.gallery,
        })
    }
}

fn robrank(part: RankingPart, count: usize, masked: bool) -> Goal {
    let mut robrank = Robrank { parts: vec![part], w: count, m: count, ..Robrank::default() };
    robrank.quirks.masked_index = Some(masked);
    robrank.quirks.self_is_positive = Some(masked);
    Goal::Robrank(robrank)
}

#[test]
fn every_goal_aims_at_whom_it_names() {
    let field = Field::new();
    let aim = field.aim();
    let multi = |choice| Goal::MultiTarget { targets: 3, loss: TargetLoss::MeanDistance, choice };
    for i in 0..8 {
        let label = field.labels[i];
        let others = aim.targets(i, &multi(TargetChoice::OtherIdentity)).unwrap();
        assert!(others.len() == 3 && others.iter().all(|&p| field.labels[p] != label));
        let own = aim.targets(i, &Goal::SameIdentity { targets: 2 }).unwrap();
        assert!(own.iter().all(|&p| p != i && field.labels[p] == label) && own[0] != own[1]);
        // The class has two others: the third is the first again.
        let more = aim.targets(i, &Goal::SameIdentity { targets: 3 }).unwrap();
        assert_eq!((more[2], more.len()), (more[0], 3));
    }
    // Permutations hit every image once, over the whole list.
    for t in 0..3 {
        let hit: std::collections::BTreeSet<usize> =
            (0..8).map(|i| aim.targets(i, &multi(TargetChoice::Permutation)).unwrap()[t]).collect();
        assert_eq!(hit.len(), 8);
    }
}

#[test]
fn joint_losses_follow_their_formulas() {
    let field = Field::new();
    let aim = field.aim();
    let at = [0.3f32, -0.4];
    let targets =
        aim.targets(1, &Goal::MultiTarget { targets: 3, loss: TargetLoss::SoftMin, choice: Default::default() });
    let targets = targets.unwrap();
    let squared = |e: &[f32], p: usize| Distance::SquaredEuclidean.between(e, field.gallery.row(p));
    let squares: Vec<f64> = targets.iter().map(|&p| squared(&at, p)).collect();
    let loss = |loss| {
        let goal = Goal::MultiTarget { targets: 3, loss, choice: Default::default() };
        aim.objective_of(1, &goal).unwrap().loss(0, &at)
    };
    let mean = squares.iter().sum::<f64>() / 3.0;
    approx::assert_relative_eq!(loss(TargetLoss::MeanSquaredDistance), mean, max_relative = 1e-6);
    let roots = squares.iter().map(|v| v.sqrt()).sum::<f64>() / 3.0;
    approx::assert_relative_eq!(loss(TargetLoss::MeanDistance), roots, max_relative = 1e-6);
    let centre = |k: usize| targets.iter().map(|&p| f64::from(field.gallery.row(p)[k])).sum::<f64>() / 3.0;
    let to_centre = (0..2).map(|k| (f64::from(at[k]) - centre(k)).powi(2)).sum::<f64>();
    approx::assert_relative_eq!(loss(TargetLoss::SquaredDistanceToMean), to_centre, max_relative = 1e-5);
    let tau = 0.1 * targets.iter().map(|&p| squared(field.own.row(1), p)).sum::<f64>() / 3.0;
    let soft = -tau * (squares.iter().map(|d| (-d / tau).exp()).sum::<f64>() / 3.0).ln();
    approx::assert_relative_eq!(loss(TargetLoss::SoftMin), soft, max_relative = 1e-5);
    assert!(soft >= squares.iter().copied().fold(f64::INFINITY, f64::min) && soft <= mean);
}

/// Every ranking loss against its published formula, by the naive sums.
#[test]
fn ranking_losses_follow_their_formulas() {
    let field = Field::new();
    let aim = field.aim();
    let at = [0.7f32, 0.1];
    let far = |a: &[f32], b: &[f32]| Distance::Euclidean.between(a, b);
    let row = |p: usize| field.gallery.row(p);
    let mean = |f: &dyn Fn(usize) -> f64| (0..12).map(f).sum::<f64>() / 12.0;
    for i in 0..8 {
        let of = |goal: &Goal| (aim.targets(i, goal).unwrap(), aim.objective_of(i, goal).unwrap().loss(0, &at));
        for (part, sign) in [(RankingPart::QueryRaise, 1.0), (RankingPart::QueryLower, -1.0)] {
            let (chosen, loss) = of(&robrank(part, 2, false));
            assert!(chosen.iter().all(|&p| p != i), "{part:?}");
            let one = |&p: &usize| mean(&|x| (sign * (far(&at, row(p)) - far(&at, row(x)))).max(0.0));
            approx::assert_relative_eq!(loss, chosen.iter().map(one).sum::<f64>() / 2.0, max_relative = 1e-6);
        }
        for (part, sign) in [(RankingPart::CandidateRaise, 1.0), (RankingPart::CandidateLower, -1.0)] {
            let (chosen, loss) = of(&robrank(part, 3, false));
            let one = |&q: &usize| mean(&|x| (sign * (far(row(q), &at) - far(row(q), row(x)))).max(0.0));
            approx::assert_relative_eq!(loss, chosen.iter().map(one).sum::<f64>() / 3.0, max_relative = 1e-6);
        }
        let (chosen, loss) = of(&robrank(RankingPart::TargetedMismatch, 1, false));
        approx::assert_relative_eq!(loss, Distance::Cosine.between(&at, row(chosen[0])), max_relative = 1e-6);
        let (_, loss) = of(&robrank(RankingPart::EmbeddingShift, 1, false));
        // Measured from a point that lies 1e-4 beside the clean embedding in either entry.
        approx::assert_abs_diff_eq!(loss, -far(&at, row(i)), epsilon = 1.5e-4);
        let same = |x: &usize| field.labels[*x] == field.labels[i];
        let nearest = |own: bool| {
            (0..12).filter(same).filter(|&x| own || x != i).map(|x| far(&at, row(x))).fold(f64::INFINITY, f64::min)
        };
        let farthest = (0..12).filter(|x| !same(x)).map(|x| far(&at, row(x))).fold(0.0, f64::max);
        for quirk in [false, true] {
            let (_, loss) = of(&robrank(RankingPart::LearningToMisrank, 1, quirk));
            approx::assert_relative_eq!(loss, (farthest - nearest(quirk)).max(0.0), max_relative = 1e-6);
        }
        let mut order: Vec<usize> = (0..12).filter(|&x| x != i).collect();
        order.sort_by(|&a, &b| far(row(i), row(a)).total_cmp(&far(row(i), row(b))));
        let (chosen, loss) = of(&robrank(RankingPart::GreedyTranslocation, 1, false));
        assert_eq!(chosen, order[..1]);
        let hinge = mean(&|x| (far(&at, row(x)) - far(&at, row(chosen[0]))).max(0.0));
        approx::assert_relative_eq!(loss, hinge, max_relative = 1e-6);
        let (chosen, loss) = of(&robrank(RankingPart::GreedyMisrank, 1, false));
        assert_eq!(chosen[0], *order.iter().find(|x| !same(x)).unwrap());
        approx::assert_relative_eq!(loss, far(&at, row(chosen[0])), max_relative = 1e-6);
        // The code's: of another class than the nearest image, counted in the list of such images.
        let first = field.labels[order[0]];
        let nearest = *order.iter().find(|&&x| field.labels[x] != first).unwrap();
        let list: Vec<usize> = (0..12).filter(|&x| field.labels[x] != first).collect();
        let (chosen, _) = of(&robrank(RankingPart::GreedyMisrank, 1, true));
        assert_eq!(chosen[0], list.iter().position(|&x| x == nearest).unwrap());
    }
}

#[test]
fn lowering_draws_from_the_nearest_and_small_galleries_are_refused() {
    let field = Field::new();
    let aim = field.aim();
    for i in 0..8 {
        let distance = |p: usize| Distance::Euclidean.between(field.own.row(i), field.gallery.row(p));
        let mut order: Vec<usize> = (0..12).filter(|&p| p != i).collect();
        order.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        // A hundredth of twelve is nothing: as many as are asked for.
        let mut lowered = aim.targets(i, &robrank(RankingPart::QueryLower, 4, false)).unwrap();
        let mut nearest = order[..4].to_vec();
        lowered.sort_unstable();
        nearest.sort_unstable();
        assert_eq!(lowered, nearest);
        let queries = aim.targets(i, &robrank(RankingPart::CandidateLower, 2, false)).unwrap();
        assert!(queries.iter().all(|q| order[..2].contains(q)));
    }
    let error = aim.targets(0, &robrank(RankingPart::CandidateRaise, 12, false)).unwrap_err().to_string();
    assert!(error.contains("got 11, wanted at least 12"), "{error}");
    let error = aim
        .targets(0, &Goal::MultiTarget { targets: 4, loss: TargetLoss::MeanDistance, choice: Default::default() })
        .unwrap_err()
        .to_string();
    assert!(error.contains("4 targets of distinct other identities, the gallery has 3"), "{error}");
}

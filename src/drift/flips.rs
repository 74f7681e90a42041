//! The queries behind a difference in recall@1: right for one of two, wrong for the other; and which of them are told.

use std::cmp::Reverse;

use super::compare::Comparison;
use super::outcome::Outcome;
use super::over_seeds::Answers;
use super::pairing::Pair;
use super::words;
use crate::record::{QueryOutcome, Right};

/// Flipped queries told of one question, each way.
pub const EACH_WAY: usize = 4;

/// Flipped queries told in all.
pub const IN_ALL: usize = 64;

/// One query, answered by A and by B.
pub type Both<'a> = (&'a QueryOutcome, &'a QueryOutcome);

/// One question that two have answered on the same queries.
#[derive(Debug, Clone, PartialEq)]
pub struct Contest<'a> {
    /// The question in words.
    pub question: String,
    /// Name of the first.
    pub a: String,
    /// Name of the second.
    pub b: String,
    /// Queries that have an answer in both.
    pub queries: usize,
    /// Those that A alone has right, the one that B ranks worst first, the lowest index first among equals.
    pub only_a: Vec<Both<'a>>,
    /// Those that B alone has right, in the same order.
    pub only_b: Vec<Both<'a>>,
    /// What the paired test says of the difference, in words.
    pub says: String,
}

impl<'a> Contest<'a> {
    /// Finds the flipped queries. Those without an answer (no other image of their class) are left out, as in the test.
    ///
    /// `None` if the two were not asked the same queries in the same order, or none of them has an answer.
    pub fn new(question: String, (a, b): (&str, &str), answers: Answers<'a>, says: String) -> Option<Self> {
        let (of_a, of_b) = answers;
        if !of_a.iter().map(|q| q.query).eq(of_b.iter().map(|q| q.query)) {
            return None;
        }
        let hit = |q: &QueryOutcome| Outcome::HitWithin(1).value(q);
        let (mut queries, mut only_a, mut only_b) = (0, Vec::new(), Vec::new());
        for (x, y) in of_a.iter().copied().zip(of_b.iter().copied()) {
            let Some((x_hit, y_hit)) = hit(x).zip(hit(y)) else { continue };
            queries += 1;
            if x_hit > y_hit {
                only_a.push((x, y));
            } else if y_hit > x_hit {
                only_b.push((x, y));
            }
        }
        only_a.sort_by_key(|(_, wrong)| (Reverse(wrong.first_hit), wrong.query));
        only_b.sort_by_key(|(wrong, _)| (Reverse(wrong.first_hit), wrong.query));
        (queries > 0).then(|| Self { question, a: a.into(), b: b.into(), queries, only_a, only_b, says })
    }

    /// The queries that one of the two alone has right.
    pub fn only(&self, right: Right) -> &[Both<'a>] {
        match right {
            Right::A => &self.only_a,
            Right::B => &self.only_b,
        }
    }
}

/// The questions of a comparison for which there is recall@1, with what it says of each.
pub fn contests<'a>(comparison: &Comparison, pairs: &'a [Pair<'_>]) -> Vec<Contest<'a>> {
    let metric = Outcome::HitWithin(1).metric().to_string();
    let of = |pair: &'a Pair<'_>| {
        let question = pair.question.to_string();
        let own = |d: &&super::Difference| d.metric == metric && d.question == question;
        let says = words::says(comparison, comparison.differences.iter().find(own)?);
        Contest::new(question, (&comparison.a, &comparison.b), (&pair.outcomes_a, &pair.outcomes_b), says)
    };
    pairs.iter().filter_map(of).collect()
}

/// A flipped query that is told: the place of its contest in the list, who is right, and both outcomes.
pub type Told<'a> = (usize, Right, Both<'a>);

/// The flipped queries that are told: [`EACH_WAY`] of each contest each way, [`IN_ALL`] together. Contests take turns, so
/// that many of them leave each the worst queries. In the order of the contests, A's first.
pub fn told<'a>(contests: &[Contest<'a>]) -> Vec<Told<'a>> {
    let mut chosen = Vec::new();
    for turn in 0..EACH_WAY {
        for (place, contest) in contests.iter().enumerate() {
            for right in [Right::A, Right::B] {
                chosen.extend(contest.only(right).get(turn).map(|both| (place, right, *both)));
            }
        }
    }
    chosen.truncate(IN_ALL);
    // Stable: the worst stay first within a contest.
    chosen.sort_by_key(|(place, right, _)| (*place, *right));
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::{compare, models_of_a_run};
    use crate::record::sample;

    fn outcomes(ranks: &[u32]) -> Vec<QueryOutcome> {
        let outcome = |(i, &first_hit): (usize, &u32)| QueryOutcome {
            query: 10 + i as u32,
            first_hit,
            ..QueryOutcome::default()
        };
        ranks.iter().enumerate().map(outcome).collect()
    }

    /// A question in which the two rank their first right image so.
    fn with<T>(a: &[u32], b: &[u32], look: impl FnOnce(Option<Contest<'_>>) -> T) -> T {
        let (a, b) = (outcomes(a), outcomes(b));
        let (a, b): (Vec<&QueryOutcome>, Vec<&QueryOutcome>) = (a.iter().collect(), b.iter().collect());
        look(Contest::new("clean".into(), ("a", "b"), (&a, &b), String::new()))
    }

    fn queries(list: &[Both<'_>]) -> Vec<u32> {
        list.iter().map(|(a, _)| a.query).collect()
    }

    #[test]
    fn the_worst_of_each_way_come_first_and_a_query_without_an_answer_is_none() {
        // Right for both, A alone (2, then 9, then 9), no answer, B alone (5), wrong for both.
        with(&[1, 1, 1, 1, 0, 5, 3], &[1, 2, 9, 9, 0, 1, 7], |contest| {
            let contest = contest.unwrap();
            assert_eq!(contest.queries, 6);
            assert_eq!(queries(&contest.only_a), [12, 13, 11]);
            assert_eq!(queries(&contest.only_b), [15]);
            let all = told(&[contest]);
            let order: Vec<(Right, u32)> = all.iter().map(|(_, right, (a, _))| (*right, a.query)).collect();
            assert_eq!(order, [(Right::A, 12), (Right::A, 13), (Right::A, 11), (Right::B, 15)]);
        });
    }

    #[test]
    fn other_queries_or_none_with_an_answer_are_no_contest() {
        with(&[1, 2], &[1], |contest| assert!(contest.is_none()));
        with(&[0, 0], &[0, 0], |contest| assert!(contest.is_none()));
        with(&[], &[], |contest| assert!(contest.is_none()));
    }

    #[test]
    fn many_contests_take_turns() {
        let (right, wrong) = (vec![1; 9], vec![2; 9]);
        with(&right, &wrong, |contest| {
            let contest = contest.unwrap();
            assert_eq!(told(std::slice::from_ref(&contest)).len(), EACH_WAY);
            let many = told(&vec![contest; 30]);
            assert_eq!(many.len(), IN_ALL);
            let of = |place: usize| many.iter().filter(|(at, ..)| *at == place).count();
            assert_eq!(((0..4).map(of).collect::<Vec<_>>(), of(29)), (vec![3, 3, 3, 3], 2));
        });
    }

    #[test]
    fn the_counts_are_those_of_the_comparison() {
        let run = sample::run();
        let (pairs, _) = models_of_a_run(&run, "standard", "mdprop").unwrap();
        let comparison = compare("standard", "mdprop", &pairs, vec![], 0);
        let all = contests(&comparison, &pairs);
        assert_eq!(all.len(), pairs.len());
        for contest in &all {
            let own = |d: &&crate::drift::Difference| d.metric == "recall@1" && d.question == contest.question;
            let difference = comparison.differences.iter().find(own).unwrap();
            assert_eq!((contest.only_a.len() as u64, contest.only_b.len() as u64), difference.only);
            let sorted = |list: &[Both<'_>]| {
                let mut list = queries(list);
                list.sort_unstable();
                list
            };
            assert_eq!((sorted(&contest.only_a), sorted(&contest.only_b)), difference.flipped);
        }
    }
}

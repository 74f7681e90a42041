//! A plan cut into parts for several machines: which, how heavy, and which machine gets which.
//!
//! The unit is one attack entry (all its radii and branches) of one trained model, or the model's clean trial: trials of
//! one entry may begin where the one before ended, and share what is open.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::cost::{self, Course, Sizes};
use super::plan::Plan;

/// Which of how many parts, from 1: `2/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shard {
    /// From 1 to `of`.
    pub index: usize,
    /// Number of parts.
    pub of: usize,
}

/// Most parts of a plan.
pub const MOST: usize = 10_000;

impl Shard {
    /// A part that exists.
    ///
    /// # Errors
    /// A sentence if the index is not in `1..=of`, or `of` is 0 or above [`MOST`].
    pub fn new(index: usize, of: usize) -> Result<Self, String> {
        if of == 0 || of > MOST {
            return Err(format!("{of} shards: wanted 1 to {MOST}"));
        }
        if index == 0 || index > of {
            return Err(format!("shard {index} of {of} does not exist: they are counted from 1 to {of}"));
        }
        Ok(Self { index, of })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<usize>().ok();
        match text.split_once('/').map(|(index, of)| (number(index), number(of))) {
            Some((Some(index), Some(of))) => Self::new(index, of),
            _ => Err(format!("`{text}` is no shard: wanted I/N, such as 2/8, with I from 1 to N")),
        }
    }
}

/// The trials that stay together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// Place of the model in the plan.
    pub model: usize,
    /// Model id.
    pub id: String,
    /// Training seed.
    pub seed: u64,
    /// Attack name, or `clean`.
    pub attack: String,
    /// Its trials.
    pub trials: usize,
    /// Forward passes of a query that it takes at most, a gradient step counted as [`cost::STEP`].
    pub passes: f64,
}

/// Forward passes of a query that opening a model takes: the clean queries, and a gallery as large.
const OPENING: f64 = 2.0;

/// The units of a plan in the order in which they are reported.
pub fn units(plan: &Plan) -> Vec<Unit> {
    let sizes = Sizes::nominal(plan);
    let all = sizes.rounds(sizes.queries).max(1.0);
    let to_the_end = Course::to_the_end();
    let mut units: Vec<Unit> = Vec::new();
    for (place, model) in plan.models.iter().enumerate() {
        let trials = plan.trials(&model.id, &model.branches());
        for &seed in &model.seeds {
            let passes = |trial| cost::of_trial(plan, trial, (&model.id, seed), sizes, &to_the_end).in_passes() / all;
            for trials in trials.chunk_by(|a, b| a.attack == b.attack) {
                units.push(Unit {
                    model: place,
                    id: model.id.clone(),
                    seed,
                    attack: trials[0].attack.clone(),
                    trials: trials.len(),
                    passes: trials.iter().map(passes).sum(),
                });
            }
        }
    }
    units
}

/// Places of the units of each of `shards` parts, ascending.
///
/// Heaviest first, each to the part that would be lightest with it; a part that opens a model for the first time pays
/// for its clean images too. Depends on nothing but the units.
pub fn partition(units: &[Unit], shards: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by(|&a, &b| units[b].passes.total_cmp(&units[a].passes).then(a.cmp(&b)));
    let mut parts: Vec<(f64, Vec<usize>)> = vec![(0.0, vec![]); shards];
    for unit in order {
        let opens = |part: &[usize]| {
            let same =
                |&other: &usize| (units[other].model, units[other].seed) == (units[unit].model, units[unit].seed);
            if part.iter().any(same) { 0.0 } else { OPENING }
        };
        let cost = |part: &(f64, Vec<usize>)| part.0 + units[unit].passes + opens(&part.1);
        let lightest = parts.iter_mut().min_by(|a, b| cost(a).total_cmp(&cost(b)));
        if let Some(part) = lightest {
            *part = (cost(part), {
                part.1.push(unit);
                std::mem::take(&mut part.1)
            });
        }
    }
    parts
        .into_iter()
        .map(|(_, mut units)| {
            units.sort_unstable();
            units
        })
        .collect()
}

/// The part of a plan that one machine does.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Which.
    pub shard: Shard,
    /// All units of the plan.
    pub units: Vec<Unit>,
    /// Places of its own, ascending.
    pub own: Vec<usize>,
}

impl Part {
    /// The part of a plan. It may be empty if there are more parts than units.
    pub fn of(plan: &Plan, shard: Shard) -> Self {
        let units = units(plan);
        let own = partition(&units, shard.of).swap_remove(shard.index - 1);
        Self { shard, units, own }
    }

    fn find(&self, wanted: impl Fn(&Unit) -> bool) -> Option<usize> {
        self.own.iter().copied().find(|&place| wanted(&self.units[place]))
    }

    /// The place of a unit, if it is one of this part.
    pub fn unit(&self, id: &str, seed: u64, attack: &str) -> Option<usize> {
        self.find(|unit| unit.id == id && unit.seed == seed && unit.attack == attack)
    }

    /// Whether it has a unit of that model.
    pub fn owns(&self, id: &str, seed: u64) -> bool {
        self.find(|unit| unit.id == id && unit.seed == seed).is_some()
    }

    /// Whether it has a unit of that model, or one that this model crafts for.
    pub fn needs(&self, id: &str, seed: u64) -> bool {
        let crafts = |unit: &Unit| unit.attack.split(':').any(|word| word == id);
        self.find(|unit| unit.id == id && unit.seed == seed || crafts(unit)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(model: usize, seed: u64, passes: f64) -> Unit {
        Unit { model, id: model.to_string(), seed, attack: String::new(), trials: 1, passes }
    }

    #[test]
    fn a_shard_is_read_and_what_is_none_is_explained() {
        assert_eq!("2/8".parse(), Ok(Shard { index: 2, of: 8 }));
        for (text, why) in
            [("0/4", "counted from 1"), ("5/4", "counted from 1"), ("1/0", "wanted 1 to"), ("3", "2/8"), ("a/b", "2/8")]
        {
            assert!(text.parse::<Shard>().unwrap_err().contains(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_unit_is_in_one_part_and_no_part_is_much_heavier(
            weights in prop::collection::vec((0usize..4, 0u64..2, 1.0f64..200.0), 1..60), shards in 1usize..9,
        ) {
            let units: Vec<Unit> = weights.into_iter().map(|(model, seed, passes)| unit(model, seed, passes)).collect();
            let parts = partition(&units, shards);
            let mut all: Vec<usize> = parts.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..units.len()).collect::<Vec<_>>());
            // Graham's bound for list scheduling, with what each opened model may add.
            let weight = |part: &Vec<usize>| part.iter().map(|&i| units[i].passes).sum::<f64>();
            let (total, most) = (units.iter().map(|u| u.passes).sum::<f64>(), units.iter().map(|u| u.passes).fold(0.0, f64::max));
            let heaviest = parts.iter().map(weight).fold(0.0, f64::max);
            prop_assert!(heaviest <= total / shards as f64 + most + 8.0 * OPENING, "{heaviest} of {total}, {most}");
        }
    }
}

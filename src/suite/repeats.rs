//! Which trials a run makes once more in another way, to check the first, and for how many queries.

use super::attack::{Goal, Method, RankingPart, Side};
use super::plan::{Plan, TrialSpec};

/// Queries that are measured again with another batch size.
pub const OTHER_BATCH_QUERIES: usize = 128;
/// Images of the gallery that are embedded again with another batch size, once for each model.
pub const OTHER_BATCH_GALLERY: usize = 1024;
/// Queries that are attacked again with twice the steps.
pub const MORE_STEPS_QUERIES: usize = 32;
/// Queries whose attacked pictures are kept, and embedded again from their bytes.
pub const KEPT_PICTURES: usize = 64;

impl TrialSpec {
    /// Whether a trial stands for its entry where one is enough: of RobRank's nine attacks the embedding shift, which draws
    /// nothing and perturbs a query.
    pub fn is_told(&self) -> bool {
        match &self.goal {
            Some(Goal::Robrank(robrank)) => robrank.part() == Some(RankingPart::EmbeddingShift),
            _ => true,
        }
    }
}

impl Plan {
    /// Whether this is the first seed of its model.
    pub fn is_first_seed(&self, model: &str, seed: u64) -> bool {
        let first = self.models.iter().find(|m| m.id == model).and_then(|m| m.seeds.first());
        first == Some(&seed)
    }

    /// Whether a trial is measured again with another batch size: once per attack, for the first seed.
    pub fn is_repeated_in_other_batches(&self, trial: &TrialSpec, model: &str, seed: u64) -> bool {
        trial.is_on_deployed_branch()
            && matches!(trial.side, None | Some(Side::Query))
            && !matches!(trial.method, Method::Corruption(_) | Method::Universal(_))
            && self.is_first_seed(model, seed)
            // A curve is one search of many steps: its first radii would have to be repeated too.
            && !trial.method.is_curve()
            && (trial.goal.is_none() || self.is_strongest(trial))
            && trial.is_told()
    }

    /// The same trial with twice the steps, if it is to be repeated so.
    pub fn with_more_steps(&self, trial: &TrialSpec, model: &str, seed: u64) -> Option<Method> {
        let wanted = trial.is_on_deployed_branch()
            && trial.side == Some(Side::Query)
            && self.is_first_seed(model, seed)
            && self.is_strongest(trial);
        let goal = trial.goal.as_ref().filter(|_| wanted)?;
        let breaks = goal.other_identities() > 0 || matches!(goal, Goal::Untargeted {});
        let zero = trial.epsilon().is_none_or(crate::units::Epsilon::is_zero);
        trial.method.with_twice_the_steps().filter(|_| breaks && !zero)
    }
}

//! The ensemble with nothing to tune: four searches that fail for different reasons, the cheapest first.
//!
//! After AutoAttack (Croce & Hein 2020, arXiv:2003.01690), whose lesson is that one attack with well-chosen parameters
//! is easily too weak for one model, and that the worst of a few parameter-free ones seldom is. For retrieval the members
//! are, in this order:
//!
//! 1. Auto-PGD on `misrank`, the goal that lost recall@1 means;
//! 2. Auto-PGD towards several other identities at once (`multi-target`), which does not depend on one neighbour;
//! 3. Auto-PGD away from the clean embedding (`untargeted`), which needs no target;
//! 4. the Square attack on `misrank`, which needs no gradient and so finds what masked gradients hide.
//!
//! A query that a member breaks is left alone by those after it, and at every larger radius of the same list. At a larger
//! radius every member begins where it ended at the smaller one.

use super::route::Route;
use crate::suite::attack::{AUTO_QUERIES, AUTO_STEPS, Goal, TargetLoss};

/// Identities that the second member aims at; fewer if the gallery has fewer others.
pub const TARGETS: usize = 5;

/// One search of an ensemble.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its word in the record: `apgd-misrank`.
    pub name: &'static str,
    /// What it wants.
    pub goal: Goal,
    /// How it searches.
    pub route: Route,
}

/// The members in their order. `others`: identities that every query can be moved to.
pub fn members(others: usize) -> Vec<Member> {
    let apgd = || Route::Apgd { steps: AUTO_STEPS };
    let goal = Goal::MultiTarget {
        targets: TARGETS.min(others).max(1),
        loss: TargetLoss::MeanDistance,
        choice: Default::default(),
    };
    vec![
        Member { name: "apgd-misrank", goal: Goal::Misrank {}, route: apgd() },
        Member { name: "apgd-multi-target", goal, route: apgd() },
        Member { name: "apgd-untargeted", goal: Goal::Untargeted {}, route: apgd() },
        Member { name: "square-misrank", goal: Goal::Misrank {}, route: Route::Square { queries: AUTO_QUERIES } },
    ]
}

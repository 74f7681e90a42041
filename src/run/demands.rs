//! What the attacks of a suite demand of its images, looked at before anything is trained.

use std::collections::{BTreeMap, BTreeSet};

use super::RunError;
use crate::dataset::ImageSet;
use crate::suite::attack::{Goal, RankingPart};
use crate::suite::plan::Plan;

/// Whether the gallery can serve every goal of the suite.
///
/// # Errors
/// [`RunError::Demands`] with all attacks that ask for more identities or images than there are.
pub fn check(plan: &Plan, images: &ImageSet) -> Result<(), RunError> {
    let gallery = &images.split.test;
    let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
    gallery.iter().for_each(|&i| *sizes.entry(images.labels[i]).or_default() += 1);
    // An image of a class that the gallery lacks has one more other identity.
    let searched = if images.split.queries.is_empty() { gallery } else { &images.split.queries };
    let strange = searched.iter().all(|&i| !sizes.contains_key(&images.labels[i]));
    let others = sizes.len() - usize::from(!strange && !sizes.is_empty());
    let candidates = gallery.len() - usize::from(images.split.queries.is_empty() && !gallery.is_empty());
    let mut problems = BTreeSet::new();
    for attack in &plan.suite.attacks {
        for (name, goal) in attack.parts() {
            let wanted = goal.other_identities();
            if wanted > others {
                let remedy = match (&goal, others) {
                    (_, 0) => {
                        "the goal needs labels that tell images apart; give every class a folder or label of its own"
                    }
                    (Goal::MultiTarget { .. }, _) => "lower targets",
                    _ => "use a data set with more classes",
                };
                problems.insert(format!(
                    "attack `{name}`: goal {goal} needs {wanted} other identities, the gallery of {} has {others}; {remedy}",
                    images.id
                ));
            }
            let Goal::Robrank(robrank) = &goal else { continue };
            if robrank.count() > candidates {
                let count = if robrank.part().is_some_and(RankingPart::perturbs_candidate) { "w" } else { "m" };
                problems.insert(format!(
                    "attack `{name}`: {count} = {} is more than the {candidates} other images in the gallery of {}; lower {count}",
                    robrank.count(),
                    images.id
                ));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(RunError::Demands { problems: problems.into_iter().collect() }) }
}

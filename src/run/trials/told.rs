//! What the report tells of a trial besides its numbers: pictures, and the space of the embeddings.

use super::{Pair, Session};
use crate::batch::Embeddings;
use crate::record::view::{Arrow, EmbeddingView};
use crate::record::{GalleryItem, QueryOutcome};
use crate::run::pictures::{self, AdversarialBytes};
use crate::score::view;
use crate::suite::attack::Side;
use crate::suite::plan::TrialSpec;

/// Attacked queries drawn as arrows.
const ARROWS: usize = 40;

impl Session<'_> {
    /// What the report draws of the embedding space: of the first seed and the deployed branch, clean and under each
    /// attack at its largest budget.
    pub(super) fn view(
        &self,
        trial: &TrialSpec,
        clean: Option<&[QueryOutcome]>,
        outcomes: &[QueryOutcome],
        (queries, gallery): Pair<'_>,
        attacked: Option<&Embeddings>,
    ) -> Option<EmbeddingView> {
        let images = self.context.images;
        let deployed = trial.is_on_deployed_branch();
        let told = self.is_first_seed() && deployed && (trial.goal.is_none() || self.context.plan.is_strongest(trial));
        if !told {
            return None;
        }
        let plane = view::plane(gallery);
        let labels = || images.split.test.iter().map(|&i| images.labels[i]).collect::<Vec<u32>>();
        let gallery = trial.goal.is_none().then(|| view::gallery_shape(gallery, &labels(), plane.as_ref()));
        let arrows = match (trial.side, &plane, attacked, clean) {
            (Some(Side::Query), Some(plane), Some(attacked), Some(clean)) if attacked.len() == queries.len() => {
                let arrow = |at: usize| Arrow {
                    query: outcomes[at].query,
                    label: outcomes[at].label,
                    from: plane.place(queries.row(at)),
                    to: plane.place(attacked.row(at)),
                    flipped: clean[at].first_hit == 1 && outcomes[at].first_hit != 1,
                };
                (0..outcomes.len().min(clean.len()).min(ARROWS)).map(arrow).collect()
            }
            _ => vec![],
        };
        (gallery.is_some() || !arrows.is_empty()).then(|| EmbeddingView {
            trial: outcomes.first().map(|o| o.trial.clone()).unwrap_or_default(),
            model: self.model.id.clone(),
            attack: trial.attack.clone(),
            epsilon: trial.epsilon().map_or("0".into(), ToString::to_string),
            gallery,
            arrows,
        })
    }

    /// Picture stories, told of the first seed and the deployed branch only.
    pub(super) fn stories(
        &self,
        trial: &TrialSpec,
        clean: Option<&[QueryOutcome]>,
        attacked: &[QueryOutcome],
        kept: &AdversarialBytes,
    ) -> Vec<GalleryItem> {
        let plan = self.context.plan;
        let told = trial.goal.is_some()
            && trial.is_told()
            && self.is_first_seed()
            && trial.crafted_on == trial.answered_by
            && plan.is_strongest(trial);
        let Some(clean) = clean.filter(|_| told) else { return vec![] };
        let wanted = plan.suite.evaluation.gallery;
        pictures::stories(self.context.images, &self.model.id, &trial.attack, clean, attacked, kept, wanted)
    }
}

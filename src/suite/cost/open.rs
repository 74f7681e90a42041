//! What a run has opened of a model and knows of it, so that no trial after needs to open it again.

use std::collections::{BTreeMap, BTreeSet};

use super::{Sizes, Way, Work};
use crate::suite::attack::Branch;

/// Losses whose sessions an encoder keeps, as `encoder::onnx` does.
const KEPT_LOSSES: usize = 2;
/// Looks of the gradient probe's unbounded attack, and its queries, as in `attack::probe`. It ends when all are broken, which
/// takes a few looks, at most 33; so many are counted.
const PROBE: (f64, usize) = (8.0, 32);
/// Forward passes of the probes: the same images twice, and the loss at ten places along a line.
const PROBE_PASSES: f64 = 12.0;

/// A branch of another model (by its id) or of the model itself.
pub(super) type Place = (Option<String>, Branch);

/// What is open of the models that craft and answer, as a run keeps it.
#[derive(Default)]
pub(super) struct Open {
    places: BTreeSet<Place>,
    probed: BTreeSet<(Place, bool)>,
    losses: BTreeMap<Place, Vec<String>>,
}

impl Open {
    pub(super) fn place(&mut self, place: Place, sizes: Sizes) -> Work {
        if !self.places.insert(place) {
            return Work::default();
        }
        Work { forward: sizes.rounds(sizes.queries) + sizes.rounds(sizes.gallery), opened: 1.0, ..Work::default() }
    }

    /// A loss in a graph that steps or in one that does not; the sessions of the last few losses are kept.
    pub(super) fn loss(&mut self, place: &Place, loss: &str, way: Way) -> Work {
        let kept = self.losses.entry(place.clone()).or_default();
        let name = format!("{loss} {way:?}");
        let known = kept.contains(&name);
        let base = |name: &str| name.rsplit_once(' ').map_or(name.to_string(), |(loss, _)| loss.to_string());
        kept.retain(|other| *other != name);
        kept.push(name);
        let mut last: Vec<String> = Vec::new();
        for name in kept.iter().rev() {
            if !last.contains(&base(name)) {
                last.push(base(name));
            }
        }
        last.truncate(KEPT_LOSSES);
        kept.retain(|name| last.contains(&base(name)));
        Work { losses: f64::from(u8::from(!known)), ..Work::default() }
    }

    pub(super) fn probes(&mut self, place: &Place, gradient: bool, sizes: Sizes) -> Work {
        let mut work = Work::default();
        if self.probed.insert((place.clone(), false)) {
            work.forward += 2.0;
        }
        if gradient && self.probed.insert((place.clone(), true)) {
            let (looks, queries) = PROBE;
            work += self.loss(place, "squared", Way::Gradient);
            work += self.loss(place, "squared", Way::Step);
            work += Work {
                forward: PROBE_PASSES - 2.0,
                gradient: 2.0,
                step: looks * sizes.rounds(queries.min(sizes.queries)),
                ranked: looks * queries as f64 + sizes.queries as f64,
                rankings: looks + 1.0,
                ..Work::default()
            };
        }
        work
    }
}

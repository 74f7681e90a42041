//! How one search of one image goes: where to look next, given what was seen so far.
//!
//! A [`Walk`] knows one image and one run. It never sees the model, the batch or the other images, so its way cannot
//! depend on them; [`search`](super::search) shows it the model's answers and keeps what it finds. Each step is the
//! published one; the file of each walk names its source.

pub mod apgd;
pub mod descent;
pub mod estimate;
pub mod proposals;
pub mod square;
pub mod square_l2;

/// What was seen at a point.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What the walk brings down: the goal's loss, or what the ranking says of it.
    pub score: f64,
    /// Gradient of the loss, `[c, h, w]`; for walks that ask for it.
    pub gradient: Option<&'a [f32]>,
}

impl Seen<'_> {
    /// The gradient; nothing where none was asked for, which moves nothing.
    fn gradient(&self) -> &[f32] {
        self.gradient.unwrap_or_default()
    }
}

/// One search of one image.
pub trait Walk: Send {
    /// The image to look at next, `[c, h, w]`, pixels in `[0, 1]`.
    fn point(&self) -> &[f32];

    /// Whether that image lies in the region and may be the result. Probes may not.
    fn is_candidate(&self) -> bool {
        true
    }

    /// Takes in what was seen there and moves on. `false`: the walk is over.
    fn learn(&mut self, seen: Seen<'_>) -> bool;
}

//! Losses on mined triplets: triplet, margin, contrastive.

use tch::{Kind, TchError, Tensor};

use super::{Loss, LossInput, LossParameters, Setting, nothing};
use crate::suite::loss::{MinerSpec, TripletDistance};
use crate::train::miner::{self, Triplets};

/// Added under the root of a distance, so that its gradient at zero is finite (PAPER.md section 2).
const UNDER_ROOT: f64 = 1e-8;

/// `mean relu(d(a, p) − d(a, n) + margin)` over the mined triplets. Schroff et al. 2015, arXiv:1503.03832, eq. 3, where
/// `d` is the squared distance.
///
/// A batch without a triplet gives 0 and a zero gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Triplet {
    /// Wanted gap of the distances.
    pub margin: f64,
    /// Which distance.
    pub distance: TripletDistance,
    /// Which triplets.
    pub miner: MinerSpec,
}

/// `relu(d_ap − β_y + margin) + relu(β_y − d_an + margin)`, summed over the mined triplets and divided by the number of
/// those with either term above zero. Wu et al. 2017, arXiv:1706.07567, eq. 5; `y` is the anchor's class.
///
/// The official code's divisor is a boolean addition, that is *or*, and is kept (PAPER.md section 2).
#[derive(Debug)]
pub struct Margin {
    margin: f64,
    miner: MinerSpec,
    boundaries: LossParameters,
}

/// `mean relu(d_ap − m₊) + mean relu(m₋ − d_an)` over the mined triplets. Hadsell et al. 2006, without squares as in the
/// official code's ancestor.
#[derive(Debug, Clone, PartialEq)]
pub struct Contrastive {
    /// Positives farther than this are pulled.
    pub positive_margin: f64,
    /// Negatives nearer than this are pushed.
    pub negative_margin: f64,
    /// Which triplets.
    pub miner: MinerSpec,
}

/// Embeddings of anchors, positives and negatives, each `[triplets, d]`.
struct Rows {
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    triplets: Triplets,
}

impl Rows {
    /// `None` for a batch without a triplet.
    fn mine(spec: &MinerSpec, input: &mut LossInput<'_>) -> Result<Option<Self>, TchError> {
        let triplets = miner::mine(spec, input.embeddings, input.labels, input.random)?;
        if triplets.anchors.is_empty() {
            return Ok(None);
        }
        let embeddings = input.embeddings;
        let rows = |positions: &[i64]| {
            embeddings.f_index_select(0, &Tensor::from_slice(positions).to_device(embeddings.device()))
        };
        let (anchors, positives, negatives) =
            (rows(&triplets.anchors)?, rows(&triplets.positives)?, rows(&triplets.negatives)?);
        Ok(Some(Self { anchors, positives, negatives, triplets }))
    }

    fn distances(&self) -> Result<(Tensor, Tensor), TchError> {
        let to = |other: &Tensor| distance(&self.anchors, other);
        Ok((to(&self.positives)?, to(&self.negatives)?))
    }
}

/// Row by row, `[triplets]`.
fn squared(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    a.f_sub(b)?.f_square()?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
}

/// Row by row, `[triplets]`.
fn distance(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    squared(a, b)?.f_add_scalar(UNDER_ROOT)?.f_sqrt()
}

impl Triplet {
    /// Distances of two lists of embeddings, row by row, `[n, d]` and `[n, d]` to `[n]`.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn distance(&self, a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
        match self.distance {
            TripletDistance::Squared => squared(a, b),
            TripletDistance::Euclidean => distance(a, b),
        }
    }

    /// `d(a, p) − d(a, n)` of every triplet, `[n]`.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn hardness(&self, a: &Tensor, p: &Tensor, n: &Tensor) -> Result<Tensor, TchError> {
        self.distance(a, p)?.f_sub(&self.distance(a, n)?)
    }

    /// The mean of `relu(hardness + margin)`.
    ///
    /// # Errors
    /// libtorch's own.
    pub fn hinge(&self, a: &Tensor, p: &Tensor, n: &Tensor, margin: f64) -> Result<Tensor, TchError> {
        self.hardness(a, p, n)?.f_add_scalar(margin)?.f_relu()?.f_mean(Kind::Float)
    }
}

impl Loss for Triplet {
    fn value(&self, input: &mut LossInput<'_>) -> Result<Tensor, TchError> {
        let Some(rows) = Rows::mine(&self.miner, input)? else { return nothing(input.embeddings) };
        self.hinge(&rows.anchors, &rows.positives, &rows.negatives, self.margin)
    }
}

impl Margin {
    pub(super) fn new(margin: f64, beta: f64, learning_rate: f64, miner: MinerSpec, setting: Setting) -> Self {
        let boundaries = LossParameters::new(&vec![beta as f32; setting.classes], learning_rate, setting.device);
        Self { margin, miner, boundaries }
    }
}

impl Loss for Margin {
    fn value(&self, input: &mut LossInput<'_>) -> Result<Tensor, TchError> {
        let Some(rows) = Rows::mine(&self.miner, input)? else { return nothing(input.embeddings) };
        let (positive, negative) = rows.distances()?;
        let classes: Vec<i64> = rows.triplets.anchors.iter().map(|&a| input.labels[a as usize]).collect();
        let classes = Tensor::from_slice(&classes).to_device(input.embeddings.device());
        let beta = self.boundaries.flat.f_index_select(0, &classes)?;
        let pull = positive.f_sub(&beta)?.f_add_scalar(self.margin)?.f_relu()?;
        let push = beta.f_sub(&negative)?.f_add_scalar(self.margin)?.f_relu()?;
        let counted = pull.f_gt(0.0)?.f_logical_or(&push.f_gt(0.0)?)?.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
        pull.f_add(&push)?.f_sum(Kind::Float)?.f_div(&counted)
    }

    fn parameters(&self) -> Option<&LossParameters> {
        Some(&self.boundaries)
    }
}

impl Loss for Contrastive {
    fn value(&self, input: &mut LossInput<'_>) -> Result<Tensor, TchError> {
        let Some(rows) = Rows::mine(&self.miner, input)? else { return nothing(input.embeddings) };
        let (positive, negative) = rows.distances()?;
        let pull = positive.f_sub_scalar(self.positive_margin)?.f_relu()?.f_mean(Kind::Float)?;
        let push = negative.f_neg()?.f_add_scalar(self.negative_margin)?.f_relu()?.f_mean(Kind::Float)?;
        pull.f_add(&push)
    }
}

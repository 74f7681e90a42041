//! Losses on mined triplets: triplet, margin, contrastive.

use tch::{Kind, TchError, Tensor};

use super::{Loss, LossInput, LossParameters, Setting, nothing};
use crate::suite::loss::MinerSpec;
use crate::train::miner::{self, Triplets};

/// Added under the root of a distance, so that its gradient at zero is finite (PAPER.md section 2).
const UNDER_ROOT: f64 = 1e-8;

/// `mean relu(‖a − p‖² − ‖a − n‖² + margin)` over the mined triplets. Schroff et al. 2015, arXiv:1503.03832, eq. 3.
///
/// A batch without a triplet gives 0 and a zero gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Triplet {
    /// Wanted gap of the squared distances.
    pub margin: f64,
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

    /// Squared distances to the positives and to the negatives, each `[triplets]`.
    fn squared(&self) -> Result<(Tensor, Tensor), TchError> {
        let between = |other: &Tensor| {
            self.anchors.f_sub(other)?.f_square()?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)
        };
        Ok((between(&self.positives)?, between(&self.negatives)?))
    }

    fn distances(&self) -> Result<(Tensor, Tensor), TchError> {
        let (positive, negative) = self.squared()?;
        let root = |squared: Tensor| squared.f_add_scalar(UNDER_ROOT)?.f_sqrt();
        Ok((root(positive)?, root(negative)?))
    }
}

impl Loss for Triplet {
    fn value(&self, input: &mut LossInput<'_>) -> Result<Tensor, TchError> {
        let Some(rows) = Rows::mine(&self.miner, input)? else { return nothing(input.embeddings) };
        let (positive, negative) = rows.squared()?;
        positive.f_sub(&negative)?.f_add_scalar(self.margin)?.f_relu()?.f_mean(Kind::Float)
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

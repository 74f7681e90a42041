//! Losses that classify among proxies: normalised softmax and ArcFace.

use tch::{TchError, Tensor};

use super::{Loss, LossInput, LossParameters, Proxies, Setting};
use crate::suite::loss::ArcfaceMargin;

/// Cross-entropy over `cos(x, w_c) / T`. Zhai & Wu 2019, arXiv:1811.12649, section 3.1.
#[derive(Debug)]
pub struct NormalizedSoftmax {
    temperature: f64,
    proxies: Proxies,
}

impl NormalizedSoftmax {
    pub(super) fn new(temperature: f64, learning_rate: f64, setting: Setting) -> Self {
        Self { temperature, proxies: Proxies::new(learning_rate, setting) }
    }
}

impl Loss for NormalizedSoftmax {
    fn value(&self, input: &mut LossInput<'_>) -> Result<Tensor, TchError> {
        let cosines = input.embeddings.f_matmul(&self.proxies.unit()?.f_tr()?)?;
        cross_entropy(&cosines.f_div_scalar(self.temperature)?, &input.label_tensor())
    }

    fn parameters(&self) -> Option<&LossParameters> {
        Some(&self.proxies.parameters)
    }
}

/// Cross-entropy over `s · cos θ_c`, with `s · cos(θ_y + m)` for the true class. Deng et al. 2019, arXiv:1801.07698,
/// eq. 3.
///
/// Cosines are kept inside ±(1 − 1e-7), where the angle has a finite slope. With [`ArcfaceMargin::NoOp`] the margin's
/// difference is added to the whole row, where softmax does not see its value, and cosines are clamped to
/// `[1e-10, 1 − 1e-10]`, whose upper end is 1 in `f32`: what the official MDProp code computes. Its gradient is that of
/// the code too, since the added term depends on the embedding but cancels.
#[derive(Debug)]
pub struct Arcface {
    scale: f64,
    margin: f64,
    applied: ArcfaceMargin,
    proxies: Proxies,
}

impl Arcface {
    pub(super) fn new(scale: f64, margin: f64, applied: ArcfaceMargin, learning_rate: f64, setting: Setting) -> Self {
        Self { scale, margin, applied, proxies: Proxies::new(learning_rate, setting) }
    }
}

impl Loss for Arcface {
    fn value(&self, input: &mut LossInput<'_>) -> Result<Tensor, TchError> {
        let labels = input.label_tensor();
        let cosines = input.embeddings.f_matmul(&self.proxies.unit()?.f_tr()?)?;
        let logits = match self.applied {
            ArcfaceMargin::NoOp => cosines.f_clamp(1e-10, 1.0 - 1e-10)?,
            ArcfaceMargin::TrueClass => {
                let cosines = cosines.f_clamp(-1.0 + 1e-7, 1.0 - 1e-7)?;
                let own = cosines.f_gather(1, &labels.f_unsqueeze(1)?, false)?;
                let shifted = own.f_acos()?.f_add_scalar(self.margin)?.f_cos()?;
                cosines.f_scatter_add(1, &labels.f_unsqueeze(1)?, &shifted.f_sub(&own)?)?
            }
        };
        cross_entropy(&logits.f_mul_scalar(self.scale)?, &labels)
    }

    fn parameters(&self) -> Option<&LossParameters> {
        Some(&self.proxies.parameters)
    }
}

/// Mean over the rows of `−log softmax(logits)[label]`.
fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor, TchError> {
    logits.f_cross_entropy_loss::<Tensor>(labels, None, tch::Reduction::Mean, -100, 0.0)
}

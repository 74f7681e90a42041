//! Losses between embeddings and class proxies: ProxyNCA and ProxyAnchor.

use tch::{Kind, TchError, Tensor};

use super::{Loss, LossInput, LossParameters, Proxies, Setting};

/// `mean −log( exp(−d(x, p_y)) / Σ_{z ≠ y} exp(−d(x, p_z)) )`, d the squared distance of unit vectors.
/// Movshovitz-Attias et al. 2017, arXiv:1703.07464, eq. 5: the true class is not in the denominator.
#[derive(Debug)]
pub struct ProxyNca {
    proxies: Proxies,
}

impl ProxyNca {
    pub(super) fn new(learning_rate: f64, setting: Setting) -> Self {
        Self { proxies: Proxies::new(learning_rate, setting) }
    }
}

impl Loss for ProxyNca {
    fn value(&self, input: &mut LossInput<'_>) -> Result<Tensor, TchError> {
        let cosines = input.embeddings.f_matmul(&self.proxies.unit()?.f_tr()?)?;
        // ‖x − p‖² = 2 − 2 cos for unit vectors.
        let nearness = cosines.f_mul_scalar(2.0)?.f_sub_scalar(2.0)?;
        let labels = input.label_tensor().f_unsqueeze(1)?;
        let own = nearness.f_gather(1, &labels, false)?.f_squeeze_dim(1)?;
        let others = nearness.f_scatter_value(1, &labels, f64::NEG_INFINITY)?;
        others.f_logsumexp([1i64].as_slice(), false)?.f_sub(&own)?.f_mean(Kind::Float)
    }

    fn parameters(&self) -> Option<&LossParameters> {
        Some(&self.proxies.parameters)
    }
}

/// `1/|P₊| Σ_p log(1 + Σ_{x ∈ X₊} e^{−α (s(x,p) − δ)}) + 1/|P| Σ_p log(1 + Σ_{x ∈ X₋} e^{α (s(x,p) + δ)})`.
/// Kim et al. 2020, arXiv:2003.13911, eq. 4; P₊ are the classes of the batch, P all of them.
#[derive(Debug)]
pub struct ProxyAnchor {
    alpha: f64,
    delta: f64,
    proxies: Proxies,
    classes: i64,
}

impl ProxyAnchor {
    pub(super) fn new(alpha: f64, delta: f64, learning_rate: f64, setting: Setting) -> Self {
        Self { alpha, delta, proxies: Proxies::new(learning_rate, setting), classes: setting.classes as i64 }
    }
}

impl Loss for ProxyAnchor {
    fn value(&self, input: &mut LossInput<'_>) -> Result<Tensor, TchError> {
        let cosines = input.embeddings.f_matmul(&self.proxies.unit()?.f_tr()?)?; // [n, classes]
        let own = input.label_tensor().f_one_hot(self.classes)?.f_to_kind(Kind::Bool)?;
        let term = |exponent: Tensor, left_out: &Tensor| -> Result<Tensor, TchError> {
            let exponent = exponent.f_masked_fill(left_out, f64::NEG_INFINITY)?;
            // log(1 + Σ e^x) = logsumexp over the rows and a row of zeros: no overflow at α = 32.
            let zero = Tensor::f_zeros([1, self.classes], (Kind::Float, exponent.device()))?;
            Tensor::f_cat(&[zero, exponent], 0)?.f_logsumexp([0i64].as_slice(), false)
        };
        let pull = term(cosines.f_sub_scalar(self.delta)?.f_mul_scalar(-self.alpha)?, &own.f_logical_not()?)?;
        let push = term(cosines.f_add_scalar(self.delta)?.f_mul_scalar(self.alpha)?, &own)?;
        let present = own.f_any_dim(0, false)?.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
        let pull = pull.f_sum(Kind::Float)?.f_div(&present)?;
        pull.f_add(&push.f_mean(Kind::Float)?)
    }

    fn parameters(&self) -> Option<&LossParameters> {
        Some(&self.proxies.parameters)
    }
}

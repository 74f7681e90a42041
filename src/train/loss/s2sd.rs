//! Simultaneous similarity-based self-distillation.

use tch::{Kind, TchError, Tensor};

use super::{Loss, LossInput, LossParameters, MultiSimilarity, Setting, unit_rows};
use crate::rng;

/// Roth et al. 2021, arXiv:2009.08348, around multi-similarity.
///
/// Target networks g_j (linear, ReLU, linear, to d_j entries, then unit length) see the pooled feature map. With S the
/// cosine matrix of the embeddings and S_j those of the targets,
/// `½ (L(S) + mean_j L(S_j)) + γ · mean_j KL(softmax(S_j/T) ‖ softmax(S/T)) · T²`, rows averaged over the batch, targets
/// of the KL without gradient; and, after the delay, γ_f times the same KL with the cosine matrix of the pooled features.
/// One target is DSD, several MSD, with features MSDF, with the maximum in the pooling MSDFA (as MDProp uses it).
#[derive(Debug)]
pub struct S2sd {
    source: MultiSimilarity,
    dims: Vec<usize>,
    channels: usize,
    temperature: f64,
    weight: f64,
    feature_weight: f64,
    feature_delay: u64,
    with_maximum: bool,
    parameters: LossParameters,
}

impl S2sd {
    pub(super) fn new(
        source: MultiSimilarity,
        dims: Vec<usize>,
        (temperature, weight): (f64, f64),
        (feature_weight, feature_delay): (f64, u64),
        with_maximum: bool,
        setting: Setting,
    ) -> Self {
        let mut values = Vec::new();
        for (target, &dim) in dims.iter().enumerate() {
            // As PyTorch's linear layers start: weight and bias uniform in ±1/√(inputs).
            for (layer, inputs) in [setting.channels, dim].into_iter().enumerate() {
                let mut stream = rng::stream(setting.seed, "loss-targets", &[target as u64, layer as u64]);
                let bound = 1.0 / (inputs as f32).sqrt();
                values.extend((0..dim * inputs + dim).map(|_| (2.0 * rng::unit(&mut stream) - 1.0) * bound));
            }
        }
        // The official code trains them at the rate of the network.
        let parameters = LossParameters::new(&values, setting.learning_rate, setting.device);
        let channels = setting.channels;
        Self { source, dims, channels, temperature, weight, feature_weight, feature_delay, with_maximum, parameters }
    }

    /// Average of the feature map, with its maximum added if asked: `[n, c]`.
    fn pool(&self, features: &Tensor) -> Result<Tensor, TchError> {
        let average = features.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?;
        if !self.with_maximum {
            return Ok(average);
        }
        average.f_add(&features.f_amax([2i64, 3].as_slice(), false)?)
    }

    /// Target embeddings, one `[n, d_j]` per target.
    fn targets(&self, pooled: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let mut at = 0;
        let mut linear = |x: &Tensor, inputs: usize, outputs: usize| -> Result<Tensor, TchError> {
            let (inputs, outputs) = (inputs as i64, outputs as i64);
            let weight = self.parameters.view(at, &[outputs, inputs])?;
            let bias = self.parameters.view(at + outputs * inputs, &[outputs])?;
            at += outputs * inputs + outputs;
            x.f_linear(&weight, Some(&bias))
        };
        let mut targets = Vec::with_capacity(self.dims.len());
        for &dim in &self.dims {
            let hidden = linear(pooled, self.channels, dim)?.f_relu()?;
            targets.push(unit_rows(&linear(&hidden, dim, dim)?)?);
        }
        Ok(targets)
    }

    /// `T² · mean over rows of KL(softmax(target/T) ‖ softmax(source/T))`, the target without gradient.
    fn divergence(&self, source: &Tensor, target: &Tensor) -> Result<Tensor, TchError> {
        let t = self.temperature;
        let log_source = source.f_div_scalar(t)?.f_log_softmax(1, Kind::Float)?;
        let log_target = target.f_detach()?.f_div_scalar(t)?.f_log_softmax(1, Kind::Float)?;
        let terms = log_target.f_exp()?.f_mul(&log_target.f_sub(&log_source)?)?;
        let rows = source.size()[0] as f64;
        terms.f_sum(Kind::Float)?.f_mul_scalar(t * t / rows)
    }
}

impl Loss for S2sd {
    fn value(&self, input: &mut LossInput<'_>) -> Result<Tensor, TchError> {
        let features = input.features.ok_or_else(|| TchError::Shape("S2SD needs the last feature map".into()))?;
        let pooled = self.pool(features)?;
        let cosines = |rows: &Tensor| rows.f_matmul(&rows.f_tr()?);
        let source = cosines(input.embeddings)?;
        let own = self.source.value(input)?;
        let (mut losses, mut distillation) = (Vec::new(), Vec::new());
        for target in self.targets(&pooled)? {
            distillation.push(self.divergence(&source, &cosines(&target)?)?);
            losses.push(self.source.value(&mut LossInput { embeddings: &target, random: input.random, ..*input })?);
        }
        let mean = |list: &[Tensor]| Tensor::f_stack(list, 0)?.f_mean(Kind::Float);
        let mut total = own.f_add(&mean(&losses)?)?.f_mul_scalar(0.5)?;
        total = total.f_add(&mean(&distillation)?.f_mul_scalar(self.weight)?)?;
        if self.feature_weight != 0.0 && input.step >= self.feature_delay {
            let features = cosines(&unit_rows(&pooled)?)?;
            total = total.f_add(&self.divergence(&source, &features)?.f_mul_scalar(self.feature_weight)?)?;
        }
        Ok(total)
    }

    fn parameters(&self) -> Option<&LossParameters> {
        Some(&self.parameters)
    }

    fn wants_features(&self) -> bool {
        true
    }
}

//! Multi-similarity loss with its own mining.

use tch::{Kind, TchError, Tensor};

use super::{Loss, LossInput};

/// Wang et al. 2019, arXiv:1904.06627, as the official MDProp code and its ancestors compute it.
///
/// `S` is the similarity matrix. Per anchor `i`, negatives with `S_in + margin > min_p S_ip` and positives with
/// `S_ip − margin < max_n S_in` are kept, both bounds taken over the unfiltered sets. Then
/// `l_i = 1/α · ln(1 + Σ_p e^{−α (S_ip − λ)}) + 1/β · ln(1 + Σ_n e^{β (S_in − λ)})`.
/// An anchor left without a positive or without a negative is skipped; the loss is the mean over the others. If none
/// is left the loss is 0 with a graph and a zero gradient (the official code raises instead): such a batch teaches
/// nothing, but Adam still counts it as a step.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiSimilarity {
    /// Weight of positives, α.
    pub alpha: f64,
    /// Weight of negatives, β.
    pub beta: f64,
    /// Similarity threshold, λ.
    pub threshold: f64,
    /// Mining margin.
    pub margin: f64,
}

impl Loss for MultiSimilarity {
    fn value(&self, input: &mut LossInput<'_>) -> Result<Tensor, TchError> {
        let (embeddings, labels) = (input.embeddings, input.label_tensor());
        let n = embeddings.size()[0];
        let similarity = embeddings.f_matmul(&embeddings.f_tr()?)?; // [n, n]
        let (positives, negatives) = tch::no_grad(|| self.mine(&similarity, &labels, n));
        // Anchors are kept on the device: no count is read back to the host.
        let kept = positives.any_dim(1, false).logical_and(&negatives.any_dim(1, false)).to_kind(Kind::Float);
        let count = kept.sum(Kind::Float).clamp_min(1.0);
        let term = |mask: &Tensor, factor: f64, scale: f64| {
            let exponentials = ((&similarity - self.threshold) * factor).exp() * mask.to_kind(Kind::Float);
            exponentials.sum_dim_intlist([1i64].as_slice(), false, Kind::Float).log1p() * (1.0 / scale)
        };
        let per_anchor = term(&positives, -self.alpha, self.alpha) + term(&negatives, self.beta, self.beta);
        (per_anchor * kept).f_sum(Kind::Float)?.f_div(&count)
    }
}

impl MultiSimilarity {
    /// Kept positives and kept negatives of every anchor, two boolean `[n, n]`.
    fn mine(&self, similarity: &Tensor, labels: &Tensor, n: i64) -> (Tensor, Tensor) {
        let same = labels.unsqueeze(1).eq_tensor(&labels.unsqueeze(0));
        let negatives = same.logical_not();
        let positives = same.logical_xor(&Tensor::eye(n, (Kind::Bool, similarity.device())));
        let least_positive =
            similarity.masked_fill(&positives.logical_not(), f64::INFINITY).amin([1i64].as_slice(), true);
        let most_negative = similarity.masked_fill(&same, f64::NEG_INFINITY).amax([1i64].as_slice(), true);
        let hard_negatives = (similarity + self.margin).gt_tensor(&least_positive);
        let hard_positives = (similarity - self.margin).lt_tensor(&most_negative);
        (positives.logical_and(&hard_positives), negatives.logical_and(&hard_negatives))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss() -> MultiSimilarity {
        MultiSimilarity { alpha: 2.0, beta: 40.0, threshold: 0.5, margin: 0.1 }
    }

    fn gradient(embeddings: &Tensor, labels: &[i64]) -> (f64, Tensor) {
        let embeddings = embeddings.detach().set_requires_grad(true);
        let random = &mut crate::rng::stream(0, "test", &[]);
        let mut input = LossInput { embeddings: &embeddings, labels, features: None, step: 0, random };
        let value = loss().value(&mut input).unwrap();
        let gradient = Tensor::run_backward(&[&value], &[&embeddings], false, false).remove(0);
        (value.double_value(&[]), gradient)
    }

    #[test]
    fn values_and_gradients_match_a_loop_over_anchors_in_pytorch() {
        let fixture: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/data/train/multi_similarity.json")).unwrap();
        let mut skipped = 0;
        for case in fixture.as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let labels: Vec<i64> = serde_json::from_value(case["labels"].clone()).unwrap();
            let flat: Vec<f32> = serde_json::from_value(case["embeddings"].clone()).unwrap();
            let wanted: Vec<f32> = serde_json::from_value(case["gradient"].clone()).unwrap();
            let embeddings = Tensor::from_slice(&flat).reshape([labels.len() as i64, -1]);
            let (value, gradient) = gradient(&embeddings, &labels);
            let wanted_value = case["loss"].as_f64().unwrap();
            assert!((value - wanted_value).abs() < 1e-5, "{name}: {value} against {wanted_value}");
            let off = (gradient.reshape([-1]) - Tensor::from_slice(&wanted)).abs().max().double_value(&[]);
            assert!(off < 1e-5, "{name}: gradient off by {off}");
            skipped += case["skipped"].as_u64().unwrap();
        }
        assert!(skipped > 3, "the cases must make the loss skip anchors");
    }

    #[test]
    fn a_batch_without_pairs_is_zero_with_a_zero_gradient() {
        let embeddings = Tensor::eye(4, (Kind::Float, tch::Device::Cpu));
        for labels in [[0i64, 1, 2, 3], [0, 0, 0, 0]] {
            let (value, gradient) = gradient(&embeddings, &labels);
            assert_eq!(value, 0.0);
            assert_eq!(gradient.abs().max().double_value(&[]), 0.0);
        }
    }
}

//! Batch norm as in inference, folded into the convolution before it.
//!
//! `γ (W∗x − μ) / √(σ² + ε) + β` is a convolution with weight `W γ/√(σ² + ε)` and bias `β − μ γ/√(σ² + ε)`. The attack
//! graph then has no batch norm to differentiate. Computed in `f64`, so that folding costs one rounding per weight.

/// Scale, shift and running statistics of one branch, each `[channels]`.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// γ.
    pub scale: &'a [f32],
    /// β.
    pub shift: &'a [f32],
    /// Running mean, μ.
    pub mean: &'a [f32],
    /// Running variance, σ².
    pub var: &'a [f32],
    /// ε.
    pub epsilon: f64,
}

/// Folds `norm` into a convolution; returns its new weight and bias.
///
/// # Shapes
/// `weight`: `[out, …]`, row-major; `bias`: `[out]`, or `None` for zeros. `norm`: `out` channels.
pub fn fold(weight: &[f32], bias: Option<&[f32]>, norm: Norm<'_>) -> (Vec<f32>, Vec<f32>) {
    let per_channel = weight.len() / norm.scale.len().max(1);
    let mut folded = Vec::with_capacity(weight.len());
    let mut shift = Vec::with_capacity(norm.scale.len());
    for (c, row) in weight.chunks_exact(per_channel.max(1)).enumerate() {
        let factor = f64::from(norm.scale[c]) / (f64::from(norm.var[c]) + norm.epsilon).sqrt();
        let bias = bias.map_or(0.0, |b| f64::from(b[c]));
        folded.extend(row.iter().map(|&w| (f64::from(w) * factor) as f32));
        shift.push((f64::from(norm.shift[c]) + (bias - f64::from(norm.mean[c])) * factor) as f32);
    }
    (folded, shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_convolution_is_norm_after_convolution() {
        // One pixel, two input channels, two output channels: W x = [1·3 − 2·0.5, 0.5·3 + 4·0.5] = [2, 3.5], bias [0.5, −1].
        let norm = Norm { scale: &[2.0, -1.0], shift: &[0.25, 0.5], mean: &[0.5, 1.5], var: &[3.0, 0.0], epsilon: 1.0 };
        let (weight, bias) = fold(&[1.0, -2.0, 0.5, 4.0], Some(&[0.5, -1.0]), norm);
        // By hand: 2 (2.5 − 0.5)/√4 + 0.25 = 2.25 and −(2.5 − 1.5)/1 + 0.5 = −0.5.
        assert_eq!(weight[0] * 3.0 + weight[1] * 0.5 + bias[0], 2.25);
        assert_eq!(weight[2] * 3.0 + weight[3] * 0.5 + bias[1], -0.5);
    }
}

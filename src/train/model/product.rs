//! Convolutions of single pixels as matrix products, where that is the faster way.
//!
//! oneDNN copies a kernel into an order of its own in every pass, forward and backward. In the late stages of a ResNet the
//! kernels are large and the maps small, and the copies take longer than the arithmetic; a matrix product needs none.

use tch::{Device, Kind, TchError, Tensor};

use super::Model;
use crate::network::Op;

/// Entries of a kernel for each pixel of its output from which the product is faster, forward and backward, at 64 to 224
/// px and batches of 8 to 64 (`tests/benches/peers/pointwise.py`). Below, the convolution is, by up to a third.
const ENTRIES_PER_PIXEL: i64 = 64;

/// Whether products pay on this device. Measured on processors with AVX2 alone; with AVX-512, oneDNN's kernels are
/// others.
pub(super) fn pays(device: Device) -> bool {
    #[cfg(target_arch = "x86_64")]
    return device == Device::Cpu && !std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    return false; // not measured
}

impl Model {
    /// Whether convolution `i` of these maps, `[n, c, h, w]`, is computed as a product.
    pub(super) fn is_product(&self, i: usize, maps: &Tensor) -> bool {
        let Op::Conv { stride, .. } = self.network.nodes[i].op else { return false };
        let (&[n, _, height, width], true) = (maps.size().as_slice(), self.products && self.steps[i].pointwise) else {
            return false;
        };
        let side = |side: i64| (side - 1) / stride as i64 + 1;
        let kernel = self.specs[self.steps[i].parameters.start].count() as i64;
        maps.kind() == Kind::Float && kernel >= ENTRIES_PER_PIXEL * n * side(height) * side(width)
    }
}

/// The convolution of `x`, `[n, in, h, w]` channels last, with `weight`, `[out, in, 1, 1]`.
pub(super) fn apply(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: i64) -> Result<Tensor, TchError> {
    let x = match stride {
        1 => x.shallow_clone(),
        _ => x.f_slice(2, None, None, stride)?.f_slice(3, None, None, stride)?,
    };
    let rows = x.f_permute([0, 2, 3, 1])?.f_linear(&weight.f_flatten(1, 3)?, bias)?;
    rows.f_permute([0, 3, 1, 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_the_convolution_with_its_gradients() {
        tch::manual_seed(3);
        let normal = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true);
        for (stride, with_bias) in [(1, false), (2, false), (3, true)] {
            let (x, weight, bias) = (normal(&[2, 6, 7, 5]), normal(&[4, 6, 1, 1]), normal(&[4]));
            let bias = with_bias.then_some(&bias);
            let convolved = x.conv2d(&weight, bias, [stride; 2], [0; 2], [1; 2], 1);
            let multiplied = apply(&x, &weight, bias, stride).unwrap();
            assert_eq!(multiplied.size(), convolved.size());
            let factors = Tensor::randn_like(&convolved);
            let leaves = [&x, &weight].into_iter().chain(bias).collect::<Vec<_>>();
            let gradients = |y: &Tensor| {
                let loss = (y * &factors).sum(Kind::Float);
                Tensor::run_backward(&[loss], &leaves, false, false)
            };
            let pairs = gradients(&convolved).into_iter().zip(gradients(&multiplied));
            for (a, b) in pairs.chain([(convolved, multiplied)]) {
                let off = (a - b).abs().max().double_value(&[]);
                assert!(off < 1e-4, "stride {stride}: {off}");
            }
        }
    }
}

//! Test weights that a formula gives, so that PyTorch can be asked about the same network without a file of weights.
//! The formula is that of `tests/data/network/make.py`.

use crate::network::Network;
use crate::network::weights::{Tensor, Weights};

/// `[0, 1)` with 24 bits: FNV-1a of the name, then splitmix64 of hash + index.
pub fn uniform(name: &str, count: usize) -> Vec<f64> {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    let draw = |i: u64| {
        let mut z = hash.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1u32 << 24)
    };
    (1..=count as u64).map(draw).collect()
}

/// Values of one tensor: matrices and kernels with variance 2 / fan_in, scales and variances in `[0.5, 1.5)`, the rest
/// in `[-0.2, 0.2)`.
pub fn tensor(name: &str, shape: &[usize]) -> Vec<f32> {
    let fan_in: usize = shape.iter().skip(1).product();
    let value = |u: f64| match name.rsplit('.').next() {
        _ if shape.len() > 1 => (2.0 * u - 1.0) * (6.0 / fan_in as f64).sqrt(),
        Some("weight" | "running_var") => 0.5 + u,
        _ => 0.2 * (2.0 * u - 1.0),
    };
    uniform(name, shape.iter().product()).into_iter().map(|u| value(u) as f32).collect()
}

/// Weights of a whole network; every branch has its own scales and statistics.
pub fn weights(network: &Network) -> Weights {
    let entry = |p: crate::network::ParameterSpec| {
        let data = tensor(&p.name, &p.shape);
        (p.name, Tensor { shape: p.shape, data })
    };
    Weights { tensors: network.parameters().into_iter().map(entry).collect() }
}

/// Pixels in `[0, 1)`.
pub fn pixels(shape: [usize; 4]) -> Vec<f32> {
    uniform("pixels", shape.iter().product()).into_iter().map(|u| u as f32).collect()
}

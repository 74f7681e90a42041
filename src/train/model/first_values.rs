//! The numbers that training starts from, drawn by name: the same whatever the machine and the order.

use crate::network::{ConvStart, Network, Op, ParameterKind, ParameterSpec};
use crate::rng;

/// The values that a tensor begins with.
pub(super) fn first_values(network: &Network, spec: &ParameterSpec, seed: u64) -> Vec<f32> {
    let count = spec.count();
    // fan_in and fan_out of torch.nn.init: channels times the kernel's area.
    let area: usize = spec.shape.iter().skip(2).product();
    let mut stream = rng::stream(seed, &format!("weights/{}", spec.name), &[]);
    // kaiming_uniform with a = √5 has the bound √(6 / ((1 + 5) fan_in)), and so has the bias.
    let uniform = |fan_in: usize, stream: &mut rng::Stream| {
        let bound = 1.0 / (fan_in as f32).sqrt();
        (0..count).map(|_| (2.0 * rng::unit(stream) - 1.0) * bound).collect()
    };
    match (spec.kind, &network.nodes[spec.node].op) {
        (ParameterKind::Weight, Op::Conv { .. }) if network.conv_start == ConvStart::NormalFanOut => {
            let deviation = (2.0 / (spec.shape[0] * area) as f32).sqrt();
            (0..count).map(|_| deviation * rng::normal(&mut stream)).collect()
        }
        (ParameterKind::Weight, _) => uniform(spec.shape[1] * area, &mut stream),
        (ParameterKind::Bias, Op::Conv { input, kernel, .. }) => uniform(input * kernel * kernel, &mut stream),
        (ParameterKind::Bias, Op::Linear { input, .. }) => uniform(*input, &mut stream),
        (ParameterKind::Scale | ParameterKind::RunningVar, _) => vec![1.0; count],
        (ParameterKind::Bias | ParameterKind::Shift | ParameterKind::RunningMean, _) => vec![0.0; count],
    }
}

//! Adam over one flat buffer, with a state that can be saved.

use tch::{Kind, Tensor};

/// Decay of the mean of gradients, β₁.
const BETA1: f64 = 0.9;
/// Decay of the mean of squared gradients, β₂.
const BETA2: f64 = 0.999;
/// Added to the root of the second moment.
const EPSILON: f64 = 1e-8;

/// Kingma & Ba 2015, arXiv:1412.6980, equal to `torch.optim.Adam`: weight decay is added to the gradient, both moments
/// are corrected for their start at zero.
///
/// All parameters are one flat buffer, so a step is a dozen kernels however many layers there are.
#[derive(Debug)]
pub struct Adam {
    weight_decay: f64,
    /// Learning rate of each entry over that of the schedule; absent if they are all the same.
    rates: Option<Tensor>,
    steps: u64,
    mean: Tensor,
    square: Tensor,
}

impl Adam {
    /// Fresh moments for `parameters` (any shape; only the entry count and the device matter).
    pub fn new(parameters: &Tensor, weight_decay: f64) -> Self {
        let zeros = || Tensor::zeros([parameters.numel() as i64], (Kind::Float, parameters.device()));
        Self { weight_decay, rates: None, steps: 0, mean: zeros(), square: zeros() }
    }

    /// Gives every entry a factor on the learning rate, `[parameters]`.
    pub fn with_rates(self, rates: Option<Tensor>) -> Self {
        Self { rates, ..self }
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// First and second moment, each `[parameters]`.
    pub fn moments(&self) -> (&Tensor, &Tensor) {
        (&self.mean, &self.square)
    }

    /// Puts a saved state back. Shapes must be those of [`Adam::moments`].
    pub fn restore(&mut self, steps: u64, mean: &Tensor, square: &Tensor) {
        self.steps = steps;
        tch::no_grad(|| {
            self.mean.copy_(mean);
            self.square.copy_(square);
        });
    }

    /// One update in place.
    ///
    /// # Shapes
    /// `parameters` and `gradient`: `[parameters]`, in the same order.
    pub fn step(&mut self, parameters: &Tensor, gradient: Tensor, learning_rate: f64) {
        self.steps += 1;
        let steps = self.steps as f64;
        let step_size = learning_rate / (1.0 - BETA1.powf(steps));
        let square_correction = (1.0 - BETA2.powf(steps)).sqrt();
        tch::no_grad(|| {
            // A second handle on the same storage: tch's in-place methods want `&mut`.
            let mut parameters = parameters.detach();
            let mut gradient = gradient;
            if self.weight_decay != 0.0 {
                gradient += &parameters * self.weight_decay;
            }
            let _ = self.mean.lerp_(&gradient, 1.0 - BETA1);
            self.square *= BETA2;
            let _ = self.square.addcmul_(&(&gradient * (1.0 - BETA2)), &gradient);
            let mut denominator = self.square.sqrt();
            denominator /= square_correction;
            denominator += EPSILON;
            let mut step = &self.mean * -step_size;
            if let Some(rates) = &self.rates {
                step *= rates;
            }
            let _ = parameters.addcdiv_(&step, &denominator);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(value: &serde_json::Value) -> Vec<f32> {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn twenty_steps_match_pytorch() {
        let fixture: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/data/train/adam.json")).unwrap();
        let parameters = Tensor::from_slice(&floats(&fixture["start"]));
        let mut adam = Adam::new(&parameters, fixture["weight_decay"].as_f64().unwrap());
        let gradients = fixture["gradients"].as_array().unwrap();
        let wanted = fixture["parameters"].as_array().unwrap();
        assert_eq!(gradients.len(), 20);
        for (step, (gradient, wanted)) in gradients.iter().zip(wanted).enumerate() {
            let rate = fixture["learning_rates"][step].as_f64().unwrap();
            adam.step(&parameters, Tensor::from_slice(&floats(gradient)), rate);
            let difference = (&parameters - Tensor::from_slice(&floats(wanted))).abs().max().double_value(&[]);
            assert!(difference < 1e-6, "step {step}: off by {difference}");
        }
    }

    #[test]
    fn a_rate_of_its_own_is_a_parameter_group_of_its_own() {
        let gradient = |step: u8| Tensor::from_slice(&[0.3 * f32::from(step), -0.5]);
        let (both, alone) = (Tensor::from_slice(&[1.0f32, 2.0]), Tensor::from_slice(&[2.0f32]));
        let mut adam = Adam::new(&both, 0.1).with_rates(Some(Tensor::from_slice(&[1.0f32, 0.01])));
        let mut other = Adam::new(&alone, 0.1);
        for step in 1..6 {
            adam.step(&both, gradient(step), 0.1);
            other.step(&alone, gradient(step).narrow(0, 1, 1), 0.001);
        }
        let (got, wanted) = (both.double_value(&[1]), alone.double_value(&[0]));
        assert!((got - wanted).abs() < 1e-7, "{got} against {wanted}");
    }

    #[test]
    fn a_restored_state_continues_bit_for_bit() {
        let gradient = |step: u8| Tensor::from_slice(&[f32::from(step), -0.5, 0.25]);
        let parameters = Tensor::from_slice(&[1.0f32, 2.0, 3.0]);
        let mut adam = Adam::new(&parameters, 0.1);
        adam.step(&parameters, gradient(1), 0.1);
        let copy = parameters.copy();
        let mut other = Adam::new(&copy, 0.1);
        let (mean, square) = adam.moments();
        other.restore(adam.steps(), mean, square);
        adam.step(&parameters, gradient(2), 0.1);
        other.step(&copy, gradient(2), 0.1);
        assert_eq!(Vec::<f32>::try_from(&parameters).unwrap(), Vec::<f32>::try_from(&copy).unwrap());
    }
}

//! Adam over one flat buffer, with a state that can be saved.

use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// Decay of the mean of gradients, β₁.
const BETA1: f64 = 0.9;
/// Decay of the mean of squared gradients, β₂.
const BETA2: f64 = 0.999;
/// Added to the root of the second moment.
const EPSILON: f64 = 1e-8;

/// Kingma & Ba 2015, arXiv:1412.6980, equal to `torch.optim.Adam`: weight decay is added to the gradient, both moments
/// are corrected for their start at zero.
///
/// All parameters are one flat buffer. On the CPU a step reads and writes everything once; elsewhere it is a dozen
/// kernels, however many layers there are.
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
    /// `parameters`: `[parameters]`; `gradients`: consecutive pieces of as many entries, in the same order.
    pub fn step(&mut self, parameters: &Tensor, gradients: &[Tensor], learning_rate: f64) {
        self.steps += 1;
        let steps = self.steps as f64;
        let step_size = learning_rate / (1.0 - BETA1.powf(steps));
        let square_correction = (1.0 - BETA2.powf(steps)).sqrt();
        tch::no_grad(|| match parameters.device() {
            Device::Cpu => self.in_one_pass(parameters, gradients, step_size, square_correction),
            _ => self.by_kernels(parameters, Tensor::cat(gradients, 0), step_size, square_correction),
        });
    }

    fn by_kernels(&mut self, parameters: &Tensor, mut gradient: Tensor, step_size: f64, square_correction: f64) {
        // A second handle on the same storage: tch's in-place methods want `&mut`.
        let mut parameters = parameters.detach();
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
    }

    /// The kernels above as one loop: a step of a ResNet-50 moves 23 million entries, and the kernels go over memory
    /// some thirty times, which takes as long as a fifth of its forward and backward pass.
    fn in_one_pass(&mut self, parameters: &Tensor, gradients: &[Tensor], step_size: f64, square_correction: f64) {
        let decay = self.weight_decay as f32;
        let (step_size, square_correction) = (step_size as f32, square_correction as f32);
        let (keep, keep_square) = ((1.0 - BETA1) as f32, BETA2 as f32);
        let (take_square, epsilon) = ((1.0 - BETA2) as f32, EPSILON as f32);
        let mut parameters = parameters.detach();
        let mut rest = (entries_mut(&mut parameters), entries_mut(&mut self.mean), entries_mut(&mut self.square));
        let mut rates = self.rates.as_ref().map(entries);
        let mut pieces = Vec::new();
        for gradient in gradients.iter().flat_map(|gradient| entries(gradient).chunks(PIECE)) {
            let count = gradient.len();
            let (p, m, v) = rest;
            let ((p, p_rest), (m, m_rest), (v, v_rest)) =
                (p.split_at_mut(count), m.split_at_mut(count), v.split_at_mut(count));
            rest = (p_rest, m_rest, v_rest);
            let own = rates.map(|all| all.split_at(count));
            rates = own.map(|(_, others)| others);
            pieces.push((p, m, v, gradient, own.map(|(own, _)| own)));
        }
        assert!(rest.0.is_empty(), "{} parameters without a gradient", rest.0.len());
        pieces.into_par_iter().for_each(|(parameters, means, squares, gradients, rates)| {
            let entries = parameters.iter_mut().zip(gradients).zip(means.iter_mut().zip(squares));
            let advance = |((p, &g), (m, v)): ((&mut f32, &f32), (&mut f32, &mut f32)), step_size: f32| {
                let g = g + decay * *p;
                *m += keep * (g - *m);
                *v = *v * keep_square + take_square * g * g;
                *p -= step_size * *m / (v.sqrt() / square_correction + epsilon);
            };
            match rates {
                None => entries.for_each(|entry| advance(entry, step_size)),
                Some(rates) => entries.zip(rates).for_each(|(entry, rate)| advance(entry, step_size * rate)),
            }
        });
    }
}

/// Entries that a thread moves at a time.
const PIECE: usize = 1 << 16;

/// The numbers of a tensor.
fn entries(tensor: &Tensor) -> &[f32] {
    let count = checked_count(tensor);
    #[expect(
        unsafe_code,
        reason = "as many numbers of this kind lie there, and the tensor keeps them while it is borrowed"
    )]
    unsafe {
        std::slice::from_raw_parts(tensor.data_ptr().cast(), count)
    }
}

/// The numbers of a tensor, to change.
fn entries_mut(tensor: &mut Tensor) -> &mut [f32] {
    let count = checked_count(tensor);
    #[expect(
        unsafe_code,
        reason = "as `entries`; views of the same numbers exist, but nobody reads them during a step"
    )]
    unsafe {
        std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), count)
    }
}

/// How many numbers lie in a row at a tensor's address; none at all where an empty tensor has no address.
fn checked_count(tensor: &Tensor) -> usize {
    let fits = tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous();
    assert!(fits && !tensor.data_ptr().is_null(), "Adam moves contiguous f32 on the CPU, got {tensor:?}");
    tensor.numel()
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
            adam.step(&parameters, &[Tensor::from_slice(&floats(gradient))], rate);
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
            adam.step(&both, &[gradient(step)], 0.1);
            other.step(&alone, &[gradient(step).narrow(0, 1, 1)], 0.001);
        }
        let (got, wanted) = (both.double_value(&[1]), alone.double_value(&[0]));
        assert!((got - wanted).abs() < 1e-7, "{got} against {wanted}");
    }

    #[test]
    fn a_restored_state_continues_bit_for_bit() {
        let gradient = |step: u8| Tensor::from_slice(&[f32::from(step), -0.5, 0.25]);
        let parameters = Tensor::from_slice(&[1.0f32, 2.0, 3.0]);
        let mut adam = Adam::new(&parameters, 0.1);
        adam.step(&parameters, &[gradient(1)], 0.1);
        let copy = parameters.copy();
        let mut other = Adam::new(&copy, 0.1);
        let (mean, square) = adam.moments();
        other.restore(adam.steps(), mean, square);
        adam.step(&parameters, &[gradient(2)], 0.1);
        other.step(&copy, &[gradient(2)], 0.1);
        assert_eq!(Vec::<f32>::try_from(&parameters).unwrap(), Vec::<f32>::try_from(&copy).unwrap());
    }

    #[test]
    fn one_pass_over_pieces_is_the_kernels_of_other_devices() {
        tch::manual_seed(3);
        let count = 2 * PIECE as i64 + 77;
        let random = || Tensor::randn([count], (Kind::Float, Device::Cpu));
        let rates = Tensor::rand([count], (Kind::Float, Device::Cpu));
        let (parameters, mut sizes) = (random(), vec![5, PIECE as i64 + 30, 1]);
        let copy = parameters.copy();
        let [mut adam, mut other] =
            [(); 2].map(|()| Adam::new(&parameters, 4e-4).with_rates(Some(rates.shallow_clone())));
        sizes.push(count - sizes.iter().sum::<i64>());
        for step in 1..4 {
            let gradient = random();
            adam.step(&parameters, &gradient.split_with_sizes(&sizes, 0), 0.01);
            let steps = f64::from(step);
            let [size, correction] = [0.01 / (1.0 - BETA1.powf(steps)), (1.0 - BETA2.powf(steps)).sqrt()];
            other.by_kernels(&copy, gradient, size, correction);
        }
        let off = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        assert!(off(&parameters, &copy) < 1e-6, "{}", off(&parameters, &copy));
        assert!(off(adam.moments().0, other.moments().0) < 1e-6 && off(adam.moments().1, other.moments().1) < 1e-6);
    }

    #[test]
    #[should_panic(expected = "parameters without a gradient")]
    fn a_gradient_that_is_too_short_is_refused() {
        let parameters = Tensor::from_slice(&[1.0f32, 2.0]);
        Adam::new(&parameters, 0.0).step(&parameters, &[Tensor::from_slice(&[1.0f32])], 0.1);
    }
}

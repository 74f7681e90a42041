//! The sliding window shared by convolutions and poolings: kernel, strides, dilations, pads, output sizes.

use super::file::OnnxError;
use super::proto::NodeProto;

/// A resolved window: explicit pads, one entry per spatial axis everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Kernel sizes.
    pub kernel: Vec<usize>,
    /// Strides.
    pub strides: Vec<usize>,
    /// Dilations.
    pub dilations: Vec<usize>,
    /// Zeros (or −∞) in front of each axis.
    pub pads_begin: Vec<usize>,
    /// The same behind each axis, as declared (ceil mode may look further).
    pub pads_end: Vec<usize>,
    /// Input sizes.
    pub input: Vec<usize>,
    /// Output sizes.
    pub output: Vec<usize>,
}

impl Window {
    /// Reads the attributes of a `Conv`, `MaxPool` or `AveragePool` node.
    ///
    /// # Errors
    /// [`OnnxError::Node`] if an attribute has the wrong length or the kernel is larger than the padded input.
    pub fn of(node: &NodeProto, input: &[usize], kernel: &[usize]) -> Result<Self, OnnxError> {
        let rank = input.len();
        let fail = |reason: String| OnnxError::Node { node: node.label().into(), op: node.op_type.clone(), reason };
        let list = |name: &str, length: usize, default: usize| match node.ints(name) {
            None => Ok(vec![default; length]),
            Some(values) if values.len() == length => values
                .iter()
                .map(|v| usize::try_from(*v).map_err(|_| fail(format!("{name} = {values:?} has a negative entry"))))
                .collect(),
            Some(values) => Err(fail(format!("{name} has {} entries, wanted {length}", values.len()))),
        };
        let strides = list("strides", rank, 1)?;
        let dilations = list("dilations", rank, 1)?;
        if kernel.len() != rank || strides.contains(&0) || dilations.contains(&0) || kernel.contains(&0) {
            return Err(fail(format!(
                "kernel {kernel:?}, strides {strides:?}, dilations {dilations:?} make no window"
            )));
        }
        let pads = list("pads", 2 * rank, 0)?;
        let (mut pads_begin, mut pads_end) = (pads[..rank].to_vec(), pads[rank..].to_vec());
        let auto_pad = node.string("auto_pad", "NOTSET");
        let ceil = node.int("ceil_mode", 0) != 0;
        let mut output = vec![0; rank];
        for axis in 0..rank {
            let extent = dilations[axis] * (kernel[axis] - 1) + 1;
            if auto_pad.starts_with("SAME") {
                let out = input[axis].div_ceil(strides[axis]);
                let total = ((out.max(1) - 1) * strides[axis] + extent).saturating_sub(input[axis]);
                let (small, large) = (total / 2, total - total / 2);
                (pads_begin[axis], pads_end[axis]) =
                    if auto_pad == "SAME_UPPER" { (small, large) } else { (large, small) };
            } else if auto_pad == "VALID" {
                (pads_begin[axis], pads_end[axis]) = (0, 0);
            }
            let room = (input[axis] + pads_begin[axis] + pads_end[axis])
                .checked_sub(extent)
                .ok_or_else(|| fail(format!("kernel {kernel:?} is larger than the padded input {input:?}")))?;
            output[axis] = if ceil { room.div_ceil(strides[axis]) } else { room / strides[axis] } + 1;
            // A window that would begin in the padding behind the image is dropped.
            if ceil && (output[axis] - 1) * strides[axis] >= input[axis] + pads_begin[axis] {
                output[axis] -= 1;
            }
        }
        Ok(Self { kernel: kernel.to_vec(), strides, dilations, pads_begin, pads_end, input: input.to_vec(), output })
    }

    /// Last input position that any window sees, counted from the start of the padded axis, plus one.
    pub fn reach(&self, axis: usize) -> usize {
        (self.output[axis] - 1) * self.strides[axis] + self.dilations[axis] * (self.kernel[axis] - 1) + 1
    }

    /// How many entries each window averages, in row-major order over the output; padded ones count if `padded`.
    /// Positions beyond the declared padding (ceil mode) never count.
    pub fn counts(&self, padded: bool) -> Vec<usize> {
        let mut counts = vec![1];
        for axis in 0..self.kernel.len() {
            let (low, high) = match padded {
                true => (0, self.pads_begin[axis] + self.input[axis] + self.pads_end[axis]),
                false => (self.pads_begin[axis], self.pads_begin[axis] + self.input[axis]),
            };
            let inside = |o: usize| {
                let position = |k: usize| o * self.strides[axis] + k * self.dilations[axis];
                (0..self.kernel[axis]).filter(|k| (low..high).contains(&position(*k))).count()
            };
            let line: Vec<usize> = (0..self.output[axis]).map(inside).collect();
            counts = counts.iter().flat_map(|c| line.iter().map(move |l| c * l)).collect();
        }
        counts
    }

    /// Whether every stride is 1.
    pub fn is_dense(&self) -> bool {
        self.strides.iter().all(|s| *s == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::AttributeProto;

    fn node(attributes: Vec<AttributeProto>) -> NodeProto {
        NodeProto { op_type: "MaxPool".into(), attribute: attributes, ..NodeProto::default() }
    }

    #[test]
    fn sizes_agree_with_pytorch() {
        // torch.nn.MaxPool2d(3, 2, 1) on 112 and on 57; with ceil_mode on 6 without pads.
        let pool = node(vec![AttributeProto::ints("strides", &[2]), AttributeProto::ints("pads", &[1, 1])]);
        assert_eq!(Window::of(&pool, &[112], &[3]).unwrap().output, [56]);
        assert_eq!(Window::of(&pool, &[57], &[3]).unwrap().output, [29]);
        let ceil = node(vec![AttributeProto::ints("strides", &[2]), AttributeProto::int("ceil_mode", 1)]);
        assert_eq!(Window::of(&ceil, &[6], &[3]).unwrap().output, [3]);
        assert_eq!(Window::of(&ceil, &[5], &[3]).unwrap().output, [2]);
    }

    #[test]
    fn same_padding_puts_the_odd_zero_where_its_name_says() {
        for (mode, begin, end) in [("SAME_UPPER", 0, 1), ("SAME_LOWER", 1, 0)] {
            let conv = node(vec![AttributeProto::string("auto_pad", mode), AttributeProto::ints("strides", &[2])]);
            let window = Window::of(&conv, &[6], &[3]).unwrap();
            assert_eq!((window.pads_begin[0], window.pads_end[0], window.output[0]), (begin, end, 3));
        }
    }

    #[test]
    fn a_kernel_that_does_not_fit_is_an_error() {
        let error = Window::of(&node(vec![]), &[2], &[5]).unwrap_err().to_string();
        assert!(error.contains("larger than the padded input"), "{error}");
    }
}

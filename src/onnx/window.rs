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
    /// Reads the attributes of a `Conv`, `MaxPool`, `AveragePool` or `LpPool` node.
    ///
    /// # Errors
    /// [`OnnxError::Node`] if an attribute has the wrong length or the kernel is larger than the padded input.
    pub fn of(node: &NodeProto, input: &[usize], kernel: &[usize]) -> Result<Self, OnnxError> {
        let rank = input.len();
        let fail = |reason: String| OnnxError::Node { node: node.label().into(), op: node.op_type.clone(), reason };
        let list = |name: &str, length: usize, default: usize| attribute(node, name, length, default);
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
            let extent = dilations[axis].checked_mul(kernel[axis] - 1).and_then(|e| e.checked_add(1));
            let extent = extent.ok_or_else(|| fail("the sizes overflow".into()))?;
            if auto_pad.starts_with("SAME") {
                let out = input[axis].div_ceil(strides[axis]);
                let total = (out.max(1) - 1).saturating_mul(strides[axis]).saturating_add(extent);
                let total = total.saturating_sub(input[axis]);
                let (small, large) = (total / 2, total - total / 2);
                (pads_begin[axis], pads_end[axis]) =
                    if auto_pad == "SAME_UPPER" { (small, large) } else { (large, small) };
            } else if auto_pad == "VALID" {
                (pads_begin[axis], pads_end[axis]) = (0, 0);
            }
            let padded = input[axis].checked_add(pads_begin[axis]).and_then(|p| p.checked_add(pads_end[axis]));
            let room = padded
                .and_then(|padded| padded.checked_sub(extent))
                .ok_or_else(|| fail(format!("kernel {kernel:?} is larger than the padded input {input:?}")))?;
            output[axis] = if ceil { room.div_ceil(strides[axis]) } else { room / strides[axis] } + 1;
            // A window that would begin in the padding behind the image is dropped.
            if ceil && (output[axis] - 1) * strides[axis] >= input[axis] + pads_begin[axis] {
                output[axis] -= 1;
            }
        }
        Ok(Self { kernel: kernel.to_vec(), strides, dilations, pads_begin, pads_end, input: input.to_vec(), output })
    }

    /// The window whose convolution a `ConvTranspose` node turns round: from the node's output (here `input`) to the
    /// node's input (here `output`). `input` are the sizes of the node's input.
    ///
    /// `pads_end` is what such a convolution needs behind each axis; 0 where the output has rows that no kernel touches.
    ///
    /// # Errors
    /// [`OnnxError::Node`] if an attribute has the wrong length or the output would be empty.
    pub fn transposed(node: &NodeProto, input: &[usize], kernel: &[usize]) -> Result<Self, OnnxError> {
        let rank = input.len();
        let fail = |reason: String| OnnxError::Node { node: node.label().into(), op: node.op_type.clone(), reason };
        let list = |name: &str, length: usize, default: usize| attribute(node, name, length, default);
        let strides = list("strides", rank, 1)?;
        let dilations = list("dilations", rank, 1)?;
        let extra = list("output_padding", rank, 0)?;
        let declared = list("pads", 2 * rank, 0)?;
        if kernel.len() != rank || strides.contains(&0) || dilations.contains(&0) || kernel.contains(&0) {
            return Err(fail(format!(
                "kernel {kernel:?}, strides {strides:?}, dilations {dilations:?} make no window"
            )));
        }
        let auto_pad = node.string("auto_pad", "NOTSET");
        let wanted = match node.ints("output_shape").filter(|s| !s.is_empty()) {
            None => None,
            // With or without batch and channels in front.
            Some(sizes) if sizes.len() == rank || sizes.len() == rank + 2 => Some(&sizes[sizes.len() - rank..]),
            Some(sizes) => return Err(fail(format!("output_shape has {} entries, wanted {rank}", sizes.len()))),
        };
        let mut window = Self {
            kernel: kernel.to_vec(),
            strides,
            dilations,
            pads_begin: vec![0; rank],
            pads_end: vec![0; rank],
            input: vec![0; rank],
            output: input.to_vec(),
        };
        for axis in 0..rank {
            let too_large = || fail("the sizes overflow".into());
            if input[axis] == 0 {
                return Err(fail(format!("axis {} is empty", axis + 2)));
            }
            let touched = window.checked_reach(axis).ok_or_else(too_large)?;
            let full = touched.checked_add(extra[axis]).ok_or_else(too_large)?;
            let target = match (wanted, auto_pad.as_str()) {
                (Some(sizes), _) => Some(usize::try_from(sizes[axis]).unwrap_or(0)),
                (None, "SAME_UPPER" | "SAME_LOWER") => Some(input[axis].saturating_mul(window.strides[axis])),
                _ => None,
            };
            let (begin, end) = match target {
                None if auto_pad == "VALID" => (0, 0),
                None => (declared[axis], declared[axis + rank]),
                Some(target) => {
                    let total = full.saturating_sub(target);
                    let (small, large) = (total / 2, total - total / 2);
                    if auto_pad == "SAME_UPPER" { (small, large) } else { (large, small) }
                }
            };
            let size = begin.checked_add(end).and_then(|pads| full.checked_sub(pads)).filter(|size| *size > 0);
            let size = size.ok_or_else(|| fail(format!("axis {} of the output would be empty", axis + 2)))?;
            // An output that is asked for larger than the kernels reach has zeros behind.
            window.input[axis] = if wanted.is_some() { target.unwrap_or(size).max(size) } else { size };
            window.pads_begin[axis] = begin;
            window.pads_end[axis] = touched.saturating_sub(begin + window.input[axis]);
        }
        Ok(window)
    }

    fn checked_reach(&self, axis: usize) -> Option<usize> {
        let steps = (self.output[axis] - 1).checked_mul(self.strides[axis])?;
        steps.checked_add(self.dilations[axis].checked_mul(self.kernel[axis] - 1)?)?.checked_add(1)
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

/// A list of `length` sizes, all `default` if the attribute is absent.
fn attribute(node: &NodeProto, name: &str, length: usize, default: usize) -> Result<Vec<usize>, OnnxError> {
    let fail = |reason: String| OnnxError::Node { node: node.label().into(), op: node.op_type.clone(), reason };
    match node.ints(name).filter(|values| !values.is_empty()) {
        None => Ok(vec![default; length]),
        Some(values) if values.len() == length => values
            .iter()
            .map(|v| usize::try_from(*v).map_err(|_| fail(format!("{name} = {values:?} has a negative entry"))))
            .collect(),
        Some(values) => Err(fail(format!("{name} has {} entries, wanted {length}", values.len()))),
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

//! Dense row-major tensors of `f64`; integers and booleans are held as exact floats.

use std::borrow::Cow;

/// A dense row-major tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Axes.
    pub shape: Vec<usize>,
    /// Entries, row-major.
    pub data: Vec<f64>,
}

impl Tensor {
    /// A tensor from `f32` entries.
    pub fn from_f32(shape: &[usize], data: &[f32]) -> Self {
        Self { shape: shape.to_vec(), data: data.iter().map(|v| f64::from(*v)).collect() }
    }

    /// All entries 0.
    pub fn zeros(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] }
    }

    /// Entries as integers.
    pub fn integers(&self) -> Vec<i64> {
        self.data.iter().map(|v| *v as i64).collect()
    }

    /// Each entry through a function.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { shape: self.shape.clone(), data: self.data.iter().map(|v| f(*v)).collect() }
    }

    /// Row-major strides.
    pub fn strides(&self) -> Vec<usize> {
        strides(&self.shape)
    }

    /// Two tensors entry by entry with broadcasting; absent if the shapes do not fit.
    pub fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Option<Self> {
        let shape = broadcast(&self.shape, &other.shape)?;
        let (a, b) = (self.repeated(&shape)?, other.repeated(&shape)?);
        let data = a.data.iter().zip(&b.data).map(|(x, y)| f(*x, *y)).collect();
        Some(Self { shape, data })
    }

    /// [`Tensor::expand`] without a copy of what has that shape.
    fn repeated(&self, shape: &[usize]) -> Option<Cow<'_, Self>> {
        if self.shape == shape { Some(Cow::Borrowed(self)) } else { self.expand(shape).map(Cow::Owned) }
    }

    /// Repeated to `shape`; absent if that is no repetition of this one.
    pub fn expand(&self, shape: &[usize]) -> Option<Self> {
        let lead = shape.len().checked_sub(self.shape.len())?;
        let own = self.strides();
        let mut steps = vec![0; shape.len()];
        for (axis, size) in self.shape.iter().enumerate() {
            match (*size, shape[axis + lead]) {
                (a, b) if a == b => steps[axis + lead] = own[axis],
                (1, _) => {}
                _ => return None,
            }
        }
        Some(self.gather(shape, 0, &steps.iter().map(|s| *s as isize).collect::<Vec<_>>()))
    }

    /// Entries at the positions that `lines` name on each axis; `fill` where they name none.
    pub fn take(&self, lines: &[Vec<Option<usize>>], fill: f64) -> Self {
        let shape: Vec<usize> = lines.iter().map(Vec::len).collect();
        let mut sources: Vec<Option<usize>> = vec![Some(0)];
        for (line, size) in lines.iter().zip(&self.shape) {
            let place = |at: Option<usize>, i: Option<usize>| Some(at? * size + i?);
            sources = sources.iter().flat_map(|at| line.iter().map(move |i| place(*at, *i))).collect();
        }
        Self { shape, data: sources.into_iter().map(|at| at.map_or(fill, |at| self.data[at])).collect() }
    }

    /// Entries at `start + Σ index · step`, for every index of `shape`.
    pub fn gather(&self, shape: &[usize], start: usize, steps: &[isize]) -> Self {
        let mut data = Vec::with_capacity(shape.iter().product());
        let (outer, line, step) = match (shape, steps) {
            ([outer @ .., line], [.., step]) => (outer, *line, *step),
            _ => (shape, 1, 0),
        };
        let lines = if line == 0 { 0 } else { outer.iter().product() };
        let mut index = vec![0; outer.len()];
        let mut at = start as isize;
        for _ in 0..lines {
            match step {
                0 => data.extend(std::iter::repeat_n(self.data[at as usize], line)),
                1 => data.extend_from_slice(&self.data[at as usize..][..line]),
                _ => data.extend((0..line as isize).map(|i| self.data[(at + i * step) as usize])),
            }
            for axis in (0..outer.len()).rev() {
                index[axis] += 1;
                at += steps[axis];
                if index[axis] < shape[axis] {
                    break;
                }
                at -= steps[axis] * shape[axis] as isize;
                index[axis] = 0;
            }
        }
        Self { shape: shape.to_vec(), data }
    }
}

/// Number of entries of a shape; absent if it overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    crate::onnx::shape::element_count(shape)
}

/// Row-major strides of a shape.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The common shape of two, by ONNX's rule; absent if there is none.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], axis: usize| (axis + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

//! Integer lists that a graph computes from shapes, where some entries are known by name only (the batch size).
//!
//! A list whose entries are all numbers is a constant and is evaluated as such; what is left here is the arithmetic
//! that exporters do with a symbolic batch: `x.view(x.size(0), -1)` becomes `Shape`, `Gather`, `Concat`, `Reshape`.

use super::{Inputs, symbol};
use crate::onnx::access::Dim;
use crate::onnx::proto::data_type;

/// Longest list that is followed. Shapes are shorter; larger integer tensors are no shapes.
pub(super) const LONGEST: usize = 64;

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// Known.
    Known(i64),
    /// A size that is known by name only; at least 0.
    Symbol(String),
}

impl Entry {
    pub(super) fn of(dim: &Dim) -> Self {
        match dim {
            Dim::Fixed(n) => Self::Known(i64::try_from(*n).unwrap_or(i64::MAX)),
            Dim::Symbol(name) => Self::Symbol(name.clone()),
        }
    }

    /// As a size; absent for a negative number.
    pub(super) fn dim(&self) -> Option<Dim> {
        match self {
            Self::Known(n) => usize::try_from(*n).ok().map(Dim::Fixed),
            Self::Symbol(name) => Some(Dim::Symbol(name.clone())),
        }
    }

    pub(super) fn known(&self) -> Option<i64> {
        match self {
            Self::Known(n) => Some(*n),
            Self::Symbol(_) => None,
        }
    }
}

/// The entries of the node's output, row-major, if they can be told.
pub(super) fn result(inputs: &Inputs<'_>) -> Option<Vec<Entry>> {
    let list = |i: usize| inputs.list(i);
    let entries = match inputs.node.op_type.as_str() {
        "Shape" => {
            let shape = inputs.shape(0)?;
            shape[shape_range(inputs, shape.len())].iter().map(Entry::of).collect()
        }
        "Size" => vec![Entry::of(&symbol::product(inputs.shape(0)?)?)],
        "Gather" => {
            let (from, indices) = (list(0)?, inputs.integers(1)?);
            let pick = |i: &i64| from.get(usize::try_from(if *i < 0 { i + from.len() as i64 } else { *i }).ok()?);
            indices.iter().map(|i| pick(i).cloned()).collect::<Option<_>>()?
        }
        "Concat" => (0..inputs.node.input.len()).map(list).collect::<Option<Vec<_>>>()?.concat(),
        "Slice" => slice(inputs)?,
        "Cast" => {
            list(0).filter(|_| inputs.output_type() == data_type::INT64 || inputs.output_type() == data_type::INT32)?
        }
        "Unsqueeze" | "Squeeze" | "Identity" | "Reshape" => list(0)?,
        "Add" => arithmetic(inputs, |a, b| match (a, b) {
            (other, Entry::Known(0)) | (Entry::Known(0), other) => Some(other.clone()),
            _ => None,
        })?,
        "Sub" => arithmetic(inputs, |a, b| (*b == Entry::Known(0)).then(|| a.clone()))?,
        "Mul" => arithmetic(inputs, |a, b| Some(Entry::of(&symbol::product([&a.dim()?, &b.dim()?])?)))?,
        "Div" => arithmetic(inputs, |a, b| Some(Entry::of(&symbol::quotient(&a.dim()?, &b.dim()?)?)))?,
        "Max" | "Min" if inputs.node.input.len() == 2 => arithmetic(inputs, |a, b| (a == b).then(|| a.clone()))?,
        // A size is never negative, which settles the one comparison that exporters make: with −1.
        "Equal" => arithmetic(inputs, |a, b| match (a, b) {
            (Entry::Known(a), Entry::Known(b)) => Some(Entry::Known(i64::from(a == b))),
            (Entry::Symbol(_), Entry::Known(n)) | (Entry::Known(n), Entry::Symbol(_)) => {
                (*n < 0).then_some(Entry::Known(0))
            }
            (Entry::Symbol(a), Entry::Symbol(b)) => (a == b).then_some(Entry::Known(1)),
        })?,
        "Where" => {
            let (condition, yes, no) = (list(0)?, list(1)?, list(2)?);
            let length = condition.len().max(yes.len()).max(no.len());
            let at = |l: &[Entry], i: usize| l.get(if l.len() == 1 { 0 } else { i }).cloned();
            let pick = |i| if at(&condition, i)?.known()? != 0 { at(&yes, i) } else { at(&no, i) };
            (0..length).map(pick).collect::<Option<_>>()?
        }
        "ReduceProd" => {
            let dims = list(0)?.iter().map(Entry::dim).collect::<Option<Vec<_>>>()?;
            vec![Entry::of(&symbol::product(&dims)?)]
        }
        _ => return None,
    };
    (entries.len() <= LONGEST).then_some(entries)
}

/// The axes that a `Shape` node looks at: its attributes `start` and `end`, clamped.
pub(super) fn shape_range(inputs: &Inputs<'_>, rank: usize) -> std::ops::Range<usize> {
    let clamp = |v: i64| (if v < 0 { v.saturating_add(rank as i64) } else { v }).clamp(0, rank as i64) as usize;
    let (start, end) = (clamp(inputs.node.int("start", 0)), clamp(inputs.node.int("end", i64::MAX)));
    start..end.max(start)
}

fn slice(inputs: &Inputs<'_>) -> Option<Vec<Entry>> {
    let from = inputs.list(0)?;
    let one = |i: usize| inputs.integers(i).filter(|v| v.len() == 1).map(|v| v[0]);
    let (start, end) = (one(1)?, one(2)?);
    let step = if inputs.node.input_name(4).is_some() { one(4)? } else { 1 };
    let range = super::layout::slice_range(from.len(), start, end, step)?;
    Some(range.map(|i| from[i].clone()).collect())
}

/// Two lists entry by entry; one of them may have a single entry.
fn arithmetic(inputs: &Inputs<'_>, f: impl Fn(&Entry, &Entry) -> Option<Entry>) -> Option<Vec<Entry>> {
    let (a, b) = (inputs.list(0)?, inputs.list(1)?);
    let length = match (a.len(), b.len()) {
        (1, n) | (n, 1) => n,
        (n, m) if n == m => n,
        _ => return None,
    };
    let at = |l: &'_ [Entry], i: usize| l[if l.len() == 1 { 0 } else { i }].clone();
    (0..length).map(|i| f(&at(&a, i), &at(&b, i))).collect()
}

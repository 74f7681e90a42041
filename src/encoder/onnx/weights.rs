//! Weights as values of the runtime, handed to every session of an encoder instead of being copied into each.

use std::sync::Arc;
use std::{collections::HashMap, ptr::NonNull};

use ort::memory::{Allocator, MemoryInfo};
use ort::value::{DynValue, TensorElementType};
use ort::{AsPointer, Error};
use prost::bytes::Bytes;

use crate::onnx::proto::data_type;
use crate::onnx::split::Weight;

/// The weights of one model, made on first use.
///
/// A weight is found again by its place in memory, so the attack graph's copy of it is the same value. Every session
/// that was given one must be dropped before this is.
#[derive(Debug, Default)]
pub(super) struct Weights {
    values: HashMap<Place, Shared>,
}

/// Address, length, element type and shape.
type Place = (usize, usize, i32, Vec<i64>);

#[derive(Debug)]
struct Shared {
    value: Arc<DynValue>,
    /// What the value points to.
    _bytes: Bytes,
    /// What it was made from: while this lives, no other weight has its address.
    _origin: Bytes,
}

/// Where a value's numbers begin must be a multiple of this: what every allocation gives, and more than any element
/// needs. (The kernels read vectors without regard to alignment.)
const ALIGNMENT: usize = 16;

impl Weights {
    /// The value of a weight; absent for element types that are not handed over so.
    pub(super) fn value(&mut self, weight: &Weight) -> Result<Option<Arc<DynValue>>, Error> {
        let Some(element) = element_type(weight.data_type) else { return Ok(None) };
        let place = (weight.bytes.as_ptr() as usize, weight.bytes.len(), weight.data_type, weight.dims.clone());
        if let Some(shared) = self.values.get(&place) {
            return Ok(Some(shared.value.clone()));
        }
        let bytes = aligned(&weight.bytes);
        let value = Arc::new(value_over(&bytes, &weight.dims, element)?);
        let shared = Shared { value: value.clone(), _bytes: bytes, _origin: weight.bytes.clone() };
        self.values.insert(place, shared);
        Ok(Some(value))
    }
}

#[cfg(test)]
impl Weights {
    /// For each weight of that many bytes: the number of sessions that hold it.
    pub(super) fn shared(&self, bytes: usize) -> Vec<usize> {
        let held = self.values.iter().filter(|(place, _)| place.1 == bytes);
        held.map(|(_, shared)| Arc::strong_count(&shared.value) - 1).collect()
    }
}

/// Element types whose numbers the runtime and the file format share.
pub(super) fn element_type(element: i32) -> Option<TensorElementType> {
    Some(match element {
        data_type::FLOAT => TensorElementType::Float32,
        data_type::DOUBLE => TensorElementType::Float64,
        data_type::FLOAT16 => TensorElementType::Float16,
        data_type::BFLOAT16 => TensorElementType::Bfloat16,
        data_type::INT8 => TensorElementType::Int8,
        data_type::UINT8 => TensorElementType::Uint8,
        data_type::INT32 => TensorElementType::Int32,
        data_type::INT64 => TensorElementType::Int64,
        _ => return None,
    })
}

/// The same bytes at an aligned address: themselves if they lie so, as they do in most files of weights, or a copy.
fn aligned(bytes: &Bytes) -> Bytes {
    if (bytes.as_ptr() as usize).is_multiple_of(ALIGNMENT) {
        return bytes.clone();
    }
    let mut buffer = vec![0u8; bytes.len() + ALIGNMENT];
    let start = (buffer.as_ptr() as usize).next_multiple_of(ALIGNMENT) - buffer.as_ptr() as usize;
    buffer[start..start + bytes.len()].copy_from_slice(bytes);
    // The vector becomes the buffer of the result without moving.
    Bytes::from(buffer).slice(start..start + bytes.len())
}

/// A value over bytes that it does not own. `bytes` has the length that `dims` and `element` need, as the reader has
/// checked; the runtime checks it again.
fn value_over(bytes: &Bytes, dims: &[i64], element: TensorElementType) -> Result<DynValue, Error> {
    let memory = MemoryInfo::default();
    let mut made = std::ptr::null_mut();
    #[expect(unsafe_code, reason = "the runtime only reads initialisers, and `Shared` keeps the bytes alive")]
    let value = unsafe {
        Error::result_from_status((ort::api().CreateTensorWithDataAsOrtValue)(
            memory.ptr(),
            bytes.as_ptr().cast_mut().cast(),
            bytes.len(),
            dims.as_ptr(),
            dims.len(),
            element.into(),
            &raw mut made,
        ))?;
        NonNull::new(made).map(|made| DynValue::from_ptr(made, Some(&Allocator::default())))
    };
    value.ok_or_else(|| Error::new("the runtime made no tensor"))
}

//! The numbers of a [`TensorProto`]: how many there should be, whether they are there, and reading them.

use prost::bytes::Bytes;

use super::proto::{TensorProto, data_type};

impl TensorProto {
    /// A float32 tensor.
    pub fn from_f32(name: &str, dims: &[usize], data: &[f32]) -> Self {
        let raw: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::from_raw(name, data_type::FLOAT, dims, raw)
    }

    /// An int64 tensor.
    pub fn from_i64(name: &str, dims: &[usize], data: &[i64]) -> Self {
        let raw: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::from_raw(name, data_type::INT64, dims, raw)
    }

    fn from_raw(name: &str, data_type: i32, dims: &[usize], raw: Vec<u8>) -> Self {
        Self {
            name: name.into(),
            data_type,
            dims: dims.iter().map(|d| *d as i64).collect(),
            raw_data: Some(Bytes::from(raw)),
            ..Self::default()
        }
    }

    /// Shape; negative sizes (which no valid file has) become 0.
    pub fn shape(&self) -> Vec<usize> {
        self.dims.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect()
    }

    /// Number of elements that the shape says; absent if a size is negative or the product does not fit.
    pub fn count(&self) -> Option<usize> {
        // A zero anywhere makes the tensor empty, however large the other sizes are.
        if self.dims.iter().any(|d| *d < 0) {
            return None;
        }
        if self.dims.contains(&0) {
            return Some(0);
        }
        self.dims.iter().try_fold(1usize, |product, d| product.checked_mul(usize::try_from(*d).ok()?))
    }

    /// Bytes that `raw_data` needs for this shape and element type; absent for strings, unknown types and impossible
    /// shapes.
    pub fn byte_size(&self) -> Option<usize> {
        let bits = data_type::bits(self.data_type)?;
        Some(self.count()?.checked_mul(bits)?.div_ceil(8))
    }

    /// The bytes of the tensor if they are in `raw_data`.
    pub fn raw_bytes(&self) -> Option<&Bytes> {
        self.raw_data.as_ref().filter(|raw| self.data_location == 0 && (!raw.is_empty() || !self.has_typed_data()))
    }

    /// Whether one of the typed fields holds something.
    fn has_typed_data(&self) -> bool {
        !(self.float_data.is_empty()
            && self.int32_data.is_empty()
            && self.int64_data.is_empty()
            && self.double_data.is_empty()
            && self.uint64_data.is_empty()
            && self.string_data.is_empty())
    }

    /// Entries in the typed field that belongs to the element type, and how many the shape wants there.
    pub(super) fn typed_entries(&self) -> Option<(usize, usize)> {
        use data_type::*;
        let count = self.count()?;
        Some(match self.data_type {
            FLOAT => (self.float_data.len(), count),
            COMPLEX64 => (self.float_data.len(), count.checked_mul(2)?),
            DOUBLE => (self.double_data.len(), count),
            COMPLEX128 => (self.double_data.len(), count.checked_mul(2)?),
            INT64 => (self.int64_data.len(), count),
            UINT32 | UINT64 => (self.uint64_data.len(), count),
            STRING => (self.string_data.len(), count),
            // Narrow elements are packed to bytes, and each byte is an entry.
            other => match bits(other)? {
                bits @ ..8 => (self.int32_data.len(), count.checked_mul(bits)?.div_ceil(8)),
                _ => (self.int32_data.len(), count),
            },
        })
    }

    /// The numbers of a float tensor (float32, float16, bfloat16, float64), absent for another element type, for
    /// numbers that are in another file, and for a tensor that holds fewer or more numbers than its shape says.
    /// Numbers of float64 are rounded.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let typed = self.raw_bytes().is_none();
        let values = match self.data_type {
            data_type::FLOAT if typed => self.float_data.clone(),
            data_type::FLOAT => self.raw(f32::from_le_bytes)?,
            data_type::DOUBLE if typed => self.double_data.iter().map(|v| *v as f32).collect(),
            data_type::DOUBLE => self.raw(|b| f64::from_le_bytes(b) as f32)?,
            data_type::FLOAT16 if typed => self.words().map(|v| half::f16::from_bits(v).to_f32()).collect(),
            data_type::FLOAT16 => self.raw(|b| half::f16::from_le_bytes(b).to_f32())?,
            data_type::BFLOAT16 if typed => self.words().map(|v| half::bf16::from_bits(v).to_f32()).collect(),
            data_type::BFLOAT16 => self.raw(|b| half::bf16::from_le_bytes(b).to_f32())?,
            _ => return None,
        };
        (Some(values.len()) == self.count()).then_some(values)
    }

    /// The numbers of an integer or boolean tensor, absent as for [`TensorProto::to_f32`] and for a number beyond
    /// int64.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        let typed = self.raw_bytes().is_none();
        let narrow = |cut: fn(i32) -> i64| self.int32_data.iter().map(|v| cut(*v)).collect();
        let values: Vec<i64> = match self.data_type {
            data_type::INT64 if typed => self.int64_data.clone(),
            data_type::INT64 => self.raw(i64::from_le_bytes)?,
            data_type::INT32 if typed => narrow(i64::from),
            data_type::INT32 => self.raw(|b| i64::from(i32::from_le_bytes(b)))?,
            data_type::INT16 if typed => narrow(|v| i64::from(v as i16)),
            data_type::INT16 => self.raw(|b| i64::from(i16::from_le_bytes(b)))?,
            data_type::INT8 if typed => narrow(|v| i64::from(v as i8)),
            data_type::INT8 => self.raw(|b: [u8; 1]| i64::from(b[0] as i8))?,
            data_type::UINT16 if typed => narrow(|v| i64::from(v as u16)),
            data_type::UINT16 => self.raw(|b| i64::from(u16::from_le_bytes(b)))?,
            data_type::UINT8 if typed => narrow(|v| i64::from(v as u8)),
            data_type::UINT8 => self.raw(|b: [u8; 1]| i64::from(b[0]))?,
            data_type::BOOL if typed => narrow(|v| i64::from(v != 0)),
            data_type::BOOL => self.raw(|b: [u8; 1]| i64::from(b[0] != 0))?,
            data_type::UINT32 if typed => self.uint64_data.iter().map(|v| i64::from(*v as u32)).collect(),
            data_type::UINT32 => self.raw(|b| i64::from(u32::from_le_bytes(b)))?,
            data_type::UINT64 => {
                let wide = if typed { self.uint64_data.clone() } else { self.raw(u64::from_le_bytes)? };
                wide.into_iter().map(|v| i64::try_from(v).ok()).collect::<Option<_>>()?
            }
            _ => return None,
        };
        (Some(values.len()) == self.count()).then_some(values)
    }

    /// Moves the numbers of a large tensor from its typed field into `raw_data`, where clones share them. Other
    /// tensors stay as they are.
    pub(super) fn pack(&mut self) {
        const LARGE: usize = 256;
        if self.raw_bytes().is_some() || self.count().is_none_or(|count| count < LARGE) {
            return;
        }
        let raw: Vec<u8> = match self.data_type {
            data_type::FLOAT => self.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            data_type::DOUBLE => self.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            data_type::INT64 => self.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            data_type::INT32 => self.int32_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
            data_type::FLOAT16 | data_type::BFLOAT16 => self.words().flat_map(u16::to_le_bytes).collect(),
            data_type::INT8 | data_type::UINT8 => self.int32_data.iter().map(|v| *v as u8).collect(),
            _ => return,
        };
        if Some(raw.len()) == self.byte_size() {
            self.raw_data = Some(raw.into());
            self.float_data = vec![];
            self.double_data = vec![];
            self.int64_data = vec![];
            self.int32_data = vec![];
        }
    }

    /// 16-bit floats in the typed field are the low halves of integers.
    fn words(&self) -> impl Iterator<Item = u16> {
        self.int32_data.iter().map(|v| *v as u16)
    }

    /// `raw_data` cut into numbers. An empty tensor has neither raw nor typed data.
    fn raw<const N: usize, T>(&self, number: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
        let (chunks, rest) = self.raw_bytes()?.as_chunks::<N>();
        rest.is_empty().then(|| chunks.iter().map(|c| number(*c)).collect())
    }

    /// Where the first NaN of a float tensor is, and how many infinities it holds; nothing for other element types.
    pub fn irregular(&self) -> Irregular {
        let mut found = Irregular::default();
        match (self.data_type, self.raw_bytes()) {
            (data_type::FLOAT, Some(raw)) => found.scan(raw, |b| u32::from_le_bytes(b) << 1, 0xff00_0000),
            (data_type::DOUBLE, Some(raw)) => found.scan(raw, |b| u64::from_le_bytes(b) << 1, 0xffe0_0000_0000_0000),
            (data_type::FLOAT16, Some(raw)) => found.scan(raw, |b| u16::from_le_bytes(b) << 1, 0xf800),
            (data_type::BFLOAT16, Some(raw)) => found.scan(raw, |b| u16::from_le_bytes(b) << 1, 0xff00),
            (data_type::FLOAT | data_type::DOUBLE | data_type::FLOAT16 | data_type::BFLOAT16, None) => {
                let values = self.to_f32().unwrap_or_default();
                found.nan = values.iter().position(|v| v.is_nan());
                // A finite float64 beyond float32 is rounded to infinity; the original tells.
                let wide = self.double_data.iter().filter(|v| v.is_infinite()).count();
                let all = values.iter().filter(|v| v.is_infinite()).count();
                found.infinite = if self.data_type == data_type::DOUBLE { wide } else { all };
            }
            _ => {}
        }
        found
    }
}

/// Numbers that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Irregular {
    /// Position of the first NaN.
    pub nan: Option<usize>,
    /// Number of infinities.
    pub infinite: usize,
}

impl Irregular {
    /// `bits`: a number's bits without its sign, shifted up by one; `infinity`: those of an infinity. Above are the
    /// NaNs.
    fn scan<const N: usize, B: Ord + Copy>(&mut self, raw: &[u8], bits: impl Fn([u8; N]) -> B, infinity: B) {
        let chunks = raw.as_chunks::<N>().0;
        // The common case first, in a form that the compiler turns into vector code.
        for (at, block) in chunks.chunks(1024).enumerate() {
            if block.iter().filter(|b| bits(**b) >= infinity).count() == 0 {
                continue;
            }
            for (i, b) in block.iter().enumerate() {
                match bits(*b).cmp(&infinity) {
                    std::cmp::Ordering::Greater => {
                        self.nan.get_or_insert(at * 1024 + i);
                    }
                    std::cmp::Ordering::Equal => self.infinite += 1,
                    std::cmp::Ordering::Less => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_type::*;

    fn raw(element: i32, dims: &[i64], bytes: &[u8]) -> TensorProto {
        let raw_data = Some(Bytes::copy_from_slice(bytes));
        TensorProto { data_type: element, dims: dims.to_vec(), raw_data, ..TensorProto::default() }
    }

    fn narrow(element: i32, values: &[i32]) -> TensorProto {
        let int32_data = values.to_vec();
        TensorProto { data_type: element, dims: vec![values.len() as i64], int32_data, ..TensorProto::default() }
    }

    #[test]
    fn every_float_type_is_read_from_both_fields() {
        // 1.5 and −2: 0x3e00, 0xc000 as float16; 0x3fc0, 0xc000 as bfloat16 (IEEE 754-2008, table 3.5; bfloat16 is the
        // upper half of float32).
        let wanted = Some(vec![1.5, -2.0]);
        assert_eq!(raw(FLOAT16, &[2], &[0x00, 0x3e, 0x00, 0xc0]).to_f32(), wanted);
        assert_eq!(narrow(FLOAT16, &[0x3e00, 0xc000]).to_f32(), wanted);
        assert_eq!(raw(BFLOAT16, &[2], &[0xc0, 0x3f, 0x00, 0xc0]).to_f32(), wanted);
        assert_eq!(narrow(BFLOAT16, &[0x3fc0, 0xc000]).to_f32(), wanted);
        let doubles = [1.5f64, -2.0];
        let bytes: Vec<u8> = doubles.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(raw(DOUBLE, &[2], &bytes).to_f32(), wanted);
        let typed =
            TensorProto { data_type: DOUBLE, dims: vec![2], double_data: doubles.to_vec(), ..Default::default() };
        assert_eq!(typed.to_f32(), wanted);
        let typed = TensorProto { data_type: FLOAT, dims: vec![2], float_data: vec![1.5, -2.0], ..Default::default() };
        assert_eq!(typed.to_f32(), wanted);
    }

    #[test]
    fn every_integer_type_is_read_from_both_fields() {
        assert_eq!(raw(INT8, &[2], &[0xff, 0x7f]).to_i64(), Some(vec![-1, 127]));
        assert_eq!(narrow(INT8, &[-1, 127]).to_i64(), Some(vec![-1, 127]));
        assert_eq!(raw(UINT8, &[2], &[0xff, 0x7f]).to_i64(), Some(vec![255, 127]));
        assert_eq!(raw(INT16, &[1], &[0xfe, 0xff]).to_i64(), Some(vec![-2]));
        assert_eq!(raw(UINT16, &[1], &[0xfe, 0xff]).to_i64(), Some(vec![65534]));
        assert_eq!(narrow(BOOL, &[1, 0]).to_i64(), Some(vec![1, 0]));
        assert_eq!(raw(BOOL, &[2], &[1, 0]).to_i64(), Some(vec![1, 0]));
        assert_eq!(raw(UINT32, &[1], &[0xff; 4]).to_i64(), Some(vec![0xffff_ffff]));
        let wide =
            |v: u64| TensorProto { data_type: UINT64, dims: vec![1], uint64_data: vec![v], ..Default::default() };
        assert_eq!(wide(7).to_i64(), Some(vec![7]));
        assert_eq!(wide(u64::MAX).to_i64(), None);
        let typed = TensorProto { data_type: INT64, dims: vec![], int64_data: vec![-3], ..Default::default() };
        assert_eq!(typed.to_i64(), Some(vec![-3]));
    }

    #[test]
    fn a_shape_that_does_not_fit_gives_nothing() {
        assert_eq!(raw(FLOAT, &[3], &[0; 8]).to_f32(), None);
        assert_eq!(raw(FLOAT, &[2], &[0; 9]).to_f32(), None);
        assert_eq!(raw(FLOAT, &[-2], &[0; 8]).to_f32(), None);
        assert_eq!(raw(FLOAT, &[i64::MAX, i64::MAX], &[0; 8]).byte_size(), None);
        assert_eq!(raw(FLOAT, &[i64::MAX, i64::MAX, 0], &[]).to_f32(), Some(vec![]));
    }

    #[test]
    fn four_bit_numbers_are_counted_in_bytes() {
        assert_eq!(raw(INT4, &[5], &[]).byte_size(), Some(3));
        assert_eq!(narrow(UINT4, &[1, 2, 3]).typed_entries(), Some((3, 2)));
    }

    #[test]
    fn nan_and_infinity_are_told_apart_in_every_float_type() {
        let values = [1.0f32, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, f32::MAX];
        let wanted = Irregular { nan: Some(3), infinite: 2 };
        let bytes = |f: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|v| f(*v)).collect::<Vec<_>>();
        assert_eq!(TensorProto::from_f32("", &[6], &values).irregular(), wanted);
        assert_eq!(raw(DOUBLE, &[6], &bytes(&|v| f64::from(v).to_le_bytes().to_vec())).irregular(), wanted);
        let mut halves = bytes(&|v| half::f16::from_f32(v).to_le_bytes().to_vec());
        halves.truncate(10);
        assert_eq!(raw(FLOAT16, &[5], &halves).irregular(), wanted);
        let mut halves = bytes(&|v| half::bf16::from_f32(v).to_le_bytes().to_vec());
        halves.truncate(10);
        assert_eq!(raw(BFLOAT16, &[5], &halves).irregular(), wanted);
        let typed =
            TensorProto { data_type: FLOAT, dims: vec![6], float_data: values.to_vec(), ..TensorProto::default() };
        assert_eq!(typed.irregular(), wanted);
    }

    #[test]
    fn packing_keeps_the_numbers() {
        let values: Vec<i32> = (0..300).map(|v| v * 37 % 0x7000).collect();
        for element in [INT32, FLOAT16, BFLOAT16] {
            let typed = narrow(element, &values);
            let mut packed = typed.clone();
            packed.pack();
            assert!(packed.raw_bytes().is_some() && packed.int32_data.is_empty());
            assert_eq!((packed.to_f32(), packed.to_i64()), (typed.to_f32(), typed.to_i64()), "{element}");
        }
    }
}

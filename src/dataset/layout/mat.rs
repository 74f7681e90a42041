//! Just enough of MATLAB's Level 5 MAT-file format to read annotations: structs, cells, text and real numbers, stored
//! plainly or compressed, little-endian.
//!
//! # Source
//! MathWorks, "MAT-File Format", chapter 1 (Level 5).

use std::io::Read;

/// A value of a MAT file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A numeric array, column by column.
    Numbers(Vec<f64>),
    /// A char array.
    Text(String),
    /// A cell array.
    Cells(Vec<Value>),
    /// A struct array: names of the fields, and the values element by element.
    Structs { fields: Vec<String>, values: Vec<Value> },
}

/// Most bytes that a compressed element may unpack to.
const LARGEST: u64 = 1 << 28;
/// Deepest nesting that is followed.
const DEEPEST: usize = 8;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// The variables of a file by name.
///
/// # Errors
/// A sentence about the first thing that is not as the format says.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<(String, Value)>, String> {
    let head = bytes.get(..128).ok_or("is shorter than the 128 bytes of a MAT file's head")?;
    if &head[126..128] != b"IM" {
        return Err("is no little-endian Level 5 MAT file; save it again with `-v7` or older".into());
    }
    let mut rest = &bytes[128..];
    let mut variables = Vec::new();
    while !rest.is_empty() {
        let (kind, data) = element(&mut rest)?;
        match kind {
            COMPRESSED => {
                let mut plain = Vec::new();
                let reader = flate2::read::ZlibDecoder::new(data);
                reader.take(LARGEST).read_to_end(&mut plain).map_err(|e| format!("cannot unpack a variable: {e}"))?;
                let mut plain = plain.as_slice();
                let (kind, data) = element(&mut plain)?;
                if kind == MATRIX {
                    variables.extend(matrix(data, 0)?);
                }
            }
            MATRIX => variables.extend(matrix(data, 0)?),
            _ => {}
        }
    }
    Ok(variables)
}

/// The next element's type and data; moves past it and its padding.
fn element<'a>(rest: &mut &'a [u8]) -> Result<(u32, &'a [u8]), String> {
    let word = |at: usize| -> Option<u32> { Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?)) };
    let short = || "is truncated".to_string();
    let first = word(0).ok_or_else(short)?;
    let (kind, start, length) = match first >> 16 {
        // A small element: type and length in one word, up to four bytes behind it.
        length @ 1..=4 => (first & 0xffff, 4, length as usize),
        0 => (first, 8, word(4).ok_or_else(short)? as usize),
        other => return Err(format!("has a small element of {other} bytes, wanted at most 4")),
    };
    let end = start + length;
    let data = rest.get(start..end).ok_or_else(short)?;
    let padded = if start == 4 {
        8
    } else if kind == COMPRESSED {
        end
    } else {
        end.next_multiple_of(8)
    };
    *rest = &rest[padded.min(rest.len())..];
    Ok((kind, data))
}

/// A named array; absent for a kind that annotations do not use.
fn matrix(mut data: &[u8], depth: usize) -> Result<Option<(String, Value)>, String> {
    if depth > DEEPEST {
        return Err(format!("nests deeper than {DEEPEST}"));
    }
    if data.is_empty() {
        return Ok(Some((String::new(), Value::Numbers(vec![]))));
    }
    let rest = &mut data;
    let (_, flags) = element(rest)?;
    let class = *flags.first().ok_or("has an array without flags")?;
    let (_, dims) = element(rest)?;
    let sizes = dims.chunks_exact(4).map(|d| i32::from_le_bytes([d[0], d[1], d[2], d[3]]));
    let count = sizes.map(|d| usize::try_from(d).ok()).try_fold(1usize, |n, d| n.checked_mul(d?));
    let count = count.ok_or("has an array of impossible size")?;
    let name = text(element(rest)?);
    let value = match class {
        1 => Value::Cells(nested(rest, count, depth)?),
        2 => {
            let (_, length) = element(rest)?;
            let length = length.first().copied().unwrap_or(0) as usize;
            let (_, names) = element(rest)?;
            if length == 0 {
                return Err("has a struct without names".into());
            }
            let trimmed = |name: &[u8]| String::from_utf8_lossy(name).trim_end_matches('\0').to_string();
            let fields: Vec<String> = names.chunks(length).map(trimmed).collect();
            let total = count.checked_mul(fields.len()).ok_or("has an array of impossible size")?;
            Value::Structs { values: nested(rest, total, depth)?, fields }
        }
        4 => Value::Text(text(element(rest)?)),
        6..=15 => {
            let (kind, data) = element(rest)?;
            Value::Numbers(numbers(kind, data)?)
        }
        _ => return Ok(None),
    };
    Ok(Some((name, value)))
}

fn nested(rest: &mut &[u8], count: usize, depth: usize) -> Result<Vec<Value>, String> {
    // No `with_capacity`: the count is the file's word, the bytes are what is there.
    let mut values = Vec::new();
    for _ in 0..count {
        let (kind, data) = element(rest)?;
        if kind != MATRIX {
            return Err(format!("has element type {kind} where an array is wanted"));
        }
        let value = matrix(data, depth + 1)?;
        values.push(value.map_or(Value::Numbers(vec![]), |(_, value)| value));
    }
    Ok(values)
}

/// Characters are stored as bytes or as UTF-16.
fn text((kind, data): (u32, &[u8])) -> String {
    match kind {
        4 | 17 => {
            let units: Vec<u16> = data.chunks_exact(2).map(|u| u16::from_le_bytes([u[0], u[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        _ => String::from_utf8_lossy(data).into_owned(),
    }
}

fn numbers(kind: u32, data: &[u8]) -> Result<Vec<f64>, String> {
    macro_rules! of {
        ($t:ty) => {
            data.chunks_exact(size_of::<$t>())
                .map(|b| <$t>::from_le_bytes(b.try_into().expect("chunks of this size")) as f64)
                .collect()
        };
    }
    Ok(match kind {
        1 => of!(i8),
        2 => of!(u8),
        3 => of!(i16),
        4 => of!(u16),
        5 => of!(i32),
        6 => of!(u32),
        7 => of!(f32),
        9 => of!(f64),
        12 => of!(i64),
        13 => of!(u64),
        other => return Err(format!("has numbers of type {other}, which is not known")),
    })
}

impl Value {
    /// The only number of an array of one.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Numbers(values) => <[f64; 1]>::try_from(values.as_slice()).ok().map(|[value]| value),
            _ => None,
        }
    }
}

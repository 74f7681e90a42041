//! Mutations of protobuf messages: by fields, which keeps most of a file good, and by bytes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Messages of ONNX that have fields of their own worth changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Value,
    Type,
    TensorType,
    Shape,
    Dim,
    Function,
    Entry,
    /// Text, bytes or packed numbers.
    Leaf,
}

fn inner(kind: Kind, number: u64) -> Kind {
    match (kind, number) {
        (Kind::Model, 7) | (Kind::Attribute, 6 | 11) => Kind::Graph,
        (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
        (Kind::Graph, 5) | (Kind::Attribute, 5 | 10) => Kind::Tensor,
        (Kind::Graph, 11..=13) | (Kind::Function, 12) => Kind::Value,
        (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
        (Kind::Value, 2) | (Kind::Attribute, 14 | 15) => Kind::Type,
        (Kind::Type, 1) => Kind::TensorType,
        (Kind::TensorType, 2) => Kind::Shape,
        (Kind::Shape, 1) => Kind::Dim,
        (Kind::Model, 25) => Kind::Function,
        (Kind::Model, 8 | 14) | (Kind::Tensor, 13) | (Kind::Function, 9) => Kind::Entry,
        _ => Kind::Leaf,
    }
}

#[derive(Debug, Clone)]
enum Value {
    Varint(u64),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

#[derive(Debug, Clone)]
struct Field {
    number: u64,
    kind: Kind,
    value: Value,
}

fn parse(bytes: &[u8], kind: Kind) -> Option<Vec<Field>> {
    let mut fields = vec![];
    let mut at = 0;
    while at < bytes.len() {
        let key = varint(bytes, &mut at)?;
        let (number, inner) = (key >> 3, inner(kind, key >> 3));
        let value = match key & 7 {
            0 => Value::Varint(varint(bytes, &mut at)?),
            wire @ (1 | 5) => {
                let length = if wire == 1 { 8 } else { 4 };
                let value = bytes.get(at..at + length)?.to_vec();
                at += length;
                Value::Fixed(value)
            }
            2 => {
                let length = usize::try_from(varint(bytes, &mut at)?).ok()?;
                let content = bytes.get(at..at.checked_add(length)?)?;
                at += length;
                match inner {
                    Kind::Leaf => Value::Bytes(content.to_vec()),
                    _ => parse(content, inner).map_or_else(|| Value::Bytes(content.to_vec()), Value::Message),
                }
            }
            _ => return None,
        };
        fields.push(Field { number, kind: inner, value });
    }
    Some(fields)
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn write(fields: &[Field], out: &mut Vec<u8>) {
    for field in fields {
        let wire = match &field.value {
            Value::Varint(_) => 0,
            Value::Fixed(bytes) => {
                if bytes.len() == 8 {
                    1
                } else {
                    5
                }
            }
            Value::Bytes(_) | Value::Message(_) => 2,
        };
        write_varint(out, field.number << 3 | wire);
        match &field.value {
            Value::Varint(v) => write_varint(out, *v),
            Value::Fixed(bytes) => out.extend(bytes),
            Value::Bytes(bytes) => {
                write_varint(out, bytes.len() as u64);
                out.extend(bytes);
            }
            Value::Message(inner) => {
                let mut content = vec![];
                write(inner, &mut content);
                write_varint(out, content.len() as u64);
                out.extend(content);
            }
        }
    }
}

/// A digest of bytes, the same in every run.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

const NUMBERS: &[i64] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    10,
    11,
    13,
    16,
    17,
    18,
    31,
    64,
    255,
    256,
    1000,
    65_535,
    1 << 20,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    1 << 40,
    1 << 62,
    i64::MAX,
    -1,
    -2,
    -3,
    -4,
    -1000,
    -(1 << 31),
    i64::MIN,
];

/// Material to mutate with: the fields of all good models, by message and number.
pub struct Mutator {
    parts: HashMap<(Kind, u64), Vec<Field>>,
    texts: Vec<Vec<u8>>,
}

impl Mutator {
    pub fn new(pool: &[Vec<u8>]) -> Self {
        let mut mutator = Self { parts: HashMap::new(), texts: vec![] };
        for fields in pool.iter().filter_map(|bytes| parse(bytes, Kind::Model)) {
            mutator.gather(&fields, Kind::Model);
        }
        mutator
    }

    fn gather(&mut self, fields: &[Field], kind: Kind) {
        for field in fields {
            self.parts.entry((kind, field.number)).or_default().push(field.clone());
            match &field.value {
                Value::Message(inner) => self.gather(inner, field.kind),
                Value::Bytes(bytes) if bytes.len() < 40 => self.texts.push(bytes.clone()),
                _ => {}
            }
        }
    }

    /// A broken copy of one of the pool.
    pub fn mutant(&self, rng: &mut ChaCha8Rng, pool: &[Vec<u8>]) -> Vec<u8> {
        let original = &pool[rng.random_range(0..pool.len())];
        let mut bytes = match parse(original, Kind::Model) {
            Some(mut fields) => {
                for _ in 0..rng.random_range(1..=4) {
                    let target = rng.random_range(0..count(&fields).max(1));
                    self.change(rng, &mut fields, Kind::Model, &mut { target });
                }
                let mut out = vec![];
                write(&fields, &mut out);
                out
            }
            None => original.clone(),
        };
        if rng.random_bool(0.2) {
            for _ in 0..rng.random_range(1..=3) {
                change_bytes(rng, &mut bytes);
            }
        }
        bytes
    }

    /// Walks to field number `left` in depth-first order and changes it; true once that is done.
    fn change(&self, rng: &mut ChaCha8Rng, fields: &mut Vec<Field>, kind: Kind, left: &mut usize) -> bool {
        for at in 0..fields.len() {
            if *left == 0 {
                self.change_field(rng, fields, kind, at);
                return true;
            }
            *left -= 1;
            let inner = fields[at].kind;
            if let Value::Message(content) = &mut fields[at].value
                && self.change(rng, content, inner, left)
            {
                return true;
            }
        }
        false
    }

    fn change_field(&self, rng: &mut ChaCha8Rng, fields: &mut Vec<Field>, kind: Kind, at: usize) {
        match rng.random_range(0..12) {
            0 => drop(fields.remove(at)),
            1 => fields.insert(at, fields[at].clone()),
            2 => {
                let other = rng.random_range(0..fields.len());
                fields.swap(at, other);
            }
            // Another model's field of this kind, in place of this one or beside it.
            3..=5 => {
                if let Some(part) = self.parts.get(&(kind, fields[at].number)) {
                    let part = part[rng.random_range(0..part.len())].clone();
                    if rng.random_bool(0.7) { fields[at] = part } else { fields.insert(at, part) }
                }
            }
            6 if rng.random_bool(0.3) => fields[at].number = rng.random_range(1..30),
            _ => self.change_value(rng, &mut fields[at]),
        }
    }

    fn change_value(&self, rng: &mut ChaCha8Rng, field: &mut Field) {
        match &mut field.value {
            Value::Varint(v) => {
                *v = match rng.random_range(0..3) {
                    0 => v.wrapping_add(1),
                    1 => v.wrapping_sub(1),
                    _ => NUMBERS[rng.random_range(0..NUMBERS.len())] as u64,
                };
            }
            Value::Fixed(bytes) => {
                let special = [f32::NAN, f32::INFINITY, 0.0, -1.0, f32::MAX][rng.random_range(0..5)].to_le_bytes();
                if bytes.len() == 4 && rng.random_bool(0.5) {
                    bytes.copy_from_slice(&special);
                } else {
                    rng.fill(&mut bytes[..]);
                }
            }
            Value::Bytes(bytes) => match rng.random_range(0..4) {
                // A name of somebody else: cycles, clashes, values nobody makes, other operators.
                0 | 1 if !self.texts.is_empty() => *bytes = self.texts[rng.random_range(0..self.texts.len())].clone(),
                2 => *bytes = NUMBERS[rng.random_range(0..NUMBERS.len())].to_le_bytes().to_vec(),
                _ => change_bytes(rng, bytes),
            },
            Value::Message(inner) => {
                if inner.is_empty() || rng.random_bool(0.5) {
                    let numbers = [1, 2, 5, 7, 11][rng.random_range(0..5)];
                    inner.push(Field {
                        number: numbers,
                        kind: Kind::Leaf,
                        value: Value::Varint(rng.random_range(0..30)),
                    });
                } else {
                    inner.truncate(rng.random_range(0..inner.len()));
                }
            }
        }
    }
}

fn count(fields: &[Field]) -> usize {
    let inner = |field: &Field| match &field.value {
        Value::Message(inner) => count(inner),
        _ => 0,
    };
    fields.iter().map(|field| 1 + inner(field)).sum()
}

fn change_bytes(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    let at = rng.random_range(0..=bytes.len());
    match rng.random_range(0..5) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, rng.random()),
        2 => {
            let end = (at + rng.random_range(1..16)).min(bytes.len());
            drop(bytes.drain(at..end));
        }
        3 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        _ if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
        _ => bytes.push(0),
    }
}

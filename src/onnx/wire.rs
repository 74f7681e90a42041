//! A first walk over the bytes of a file, before any of it is decoded: does every field end inside its message, and how
//! much memory will the decoded structs take?
//!
//! An empty node is two bytes in the file and hundreds in memory; a file made of them would fill any machine. The walk
//! itself allocates nothing that grows with the file, and what it finds wrong it says with a position.

use super::proto::{
    AttributeProto, DimensionProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TypeProto, ValueInfoProto,
};

/// Why the bytes are no model, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {position}, in {place}")]
pub struct WireFault {
    /// What is wrong.
    pub problem: WireProblem,
    /// Position in the file.
    pub position: usize,
    /// Message, as a path of field names.
    pub place: String,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireProblem {
    /// The file ends inside a field.
    #[error("the data ends inside a field")]
    EndsEarly,
    /// A length that goes beyond the message.
    #[error("a field wants {wanted} bytes, {left} are left")]
    TooLong {
        /// Bytes wanted.
        wanted: u64,
        /// Bytes left.
        left: usize,
    },
    /// A number of more than 64 bits.
    #[error("a number has more than 64 bits")]
    Varint,
    /// A field number 0 or too large.
    #[error("a field has the impossible number {number}")]
    FieldNumber {
        /// The number.
        number: u64,
    },
    /// A wire type that ONNX does not use.
    #[error("a field has the wire type {0}")]
    WireType(u64),
    /// Graphs in graphs in graphs.
    #[error("messages are nested more than {DEEPEST} deep")]
    TooDeep,
    /// More memory than is allowed for the structure of a graph.
    #[error("the graph's structure would take more than {limit} bytes of memory")]
    TooLarge {
        /// Most bytes allowed.
        limit: usize,
    },
}

/// As deep as the decoder goes.
const DEEPEST: usize = 90;

#[derive(Clone, Copy, PartialEq)]
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
}

/// What a length-delimited field holds.
enum Content {
    Message(Kind),
    /// Text or bytes with a struct of their own.
    Text,
    /// Packed numbers, and the bytes that one of the file becomes in memory.
    Packed(usize),
}

/// The fields that take memory.
fn field(kind: Kind, number: u64) -> Option<(&'static str, Content)> {
    use Content::{Message, Packed, Text};
    Some(match (kind, number) {
        (Kind::Model, 7) => ("graph", Message(Kind::Graph)),
        (Kind::Model, 8) => ("opset_import", Message(Kind::Entry)),
        (Kind::Model, 14) => ("metadata_props", Message(Kind::Entry)),
        (Kind::Model, 25) => ("functions", Message(Kind::Function)),
        (Kind::Graph, 1) => ("node", Message(Kind::Node)),
        (Kind::Graph, 5) => ("initializer", Message(Kind::Tensor)),
        (Kind::Graph, 11) => ("input", Message(Kind::Value)),
        (Kind::Graph, 12) => ("output", Message(Kind::Value)),
        (Kind::Graph, 13) => ("value_info", Message(Kind::Value)),
        (Kind::Graph, 15) => ("sparse_initializer", Text),
        (Kind::Graph, 16) => ("metadata_props", Message(Kind::Entry)),
        (Kind::Node, 1) => ("input", Text),
        (Kind::Node, 2) => ("output", Text),
        (Kind::Node, 5) => ("attribute", Message(Kind::Attribute)),
        (Kind::Node, 9) => ("metadata_props", Message(Kind::Entry)),
        (Kind::Attribute, 5) => ("t", Message(Kind::Tensor)),
        (Kind::Attribute, 6) => ("g", Message(Kind::Graph)),
        (Kind::Attribute, 7) => ("floats", Packed(1)),
        (Kind::Attribute, 8) => ("ints", Packed(8)),
        (Kind::Attribute, 9) => ("strings", Text),
        (Kind::Attribute, 10) => ("tensors", Message(Kind::Tensor)),
        (Kind::Attribute, 11) => ("graphs", Message(Kind::Graph)),
        (Kind::Attribute, 14) => ("tp", Message(Kind::Type)),
        (Kind::Attribute, 15) => ("type_protos", Message(Kind::Type)),
        (Kind::Tensor, 1) => ("dims", Packed(8)),
        (Kind::Tensor, 5) => ("int32_data", Packed(4)),
        (Kind::Tensor, 6) => ("string_data", Text),
        (Kind::Tensor, 7) => ("int64_data", Packed(8)),
        (Kind::Tensor, 11) => ("uint64_data", Packed(8)),
        (Kind::Tensor, 13) => ("external_data", Message(Kind::Entry)),
        (Kind::Tensor, 16) => ("metadata_props", Message(Kind::Entry)),
        (Kind::Value, 2) => ("type", Message(Kind::Type)),
        (Kind::Value, 4) => ("metadata_props", Message(Kind::Entry)),
        (Kind::Type, 1) => ("tensor_type", Message(Kind::TensorType)),
        (Kind::TensorType, 2) => ("shape", Message(Kind::Shape)),
        (Kind::Shape, 1) => ("dim", Message(Kind::Dim)),
        (Kind::Function, 4) => ("input", Text),
        (Kind::Function, 5) => ("output", Text),
        (Kind::Function, 6) => ("attribute", Text),
        (Kind::Function, 7) => ("node", Message(Kind::Node)),
        (Kind::Function, 9) => ("opset_import", Message(Kind::Entry)),
        (Kind::Function, 11) => ("attribute_proto", Message(Kind::Attribute)),
        (Kind::Function, 12) => ("value_info", Message(Kind::Value)),
        (Kind::Function, 14) => ("metadata_props", Message(Kind::Entry)),
        _ => return None,
    })
}

/// Memory that a message takes without what is in it.
fn size(kind: Kind) -> usize {
    match kind {
        Kind::Model => 0,
        Kind::Graph => size_of::<GraphProto>(),
        Kind::Node => size_of::<NodeProto>(),
        Kind::Attribute => size_of::<AttributeProto>(),
        Kind::Tensor => size_of::<TensorProto>(),
        Kind::Value => size_of::<ValueInfoProto>(),
        Kind::Type => size_of::<TypeProto>(),
        // Part of the type.
        Kind::TensorType | Kind::Shape => 0,
        Kind::Dim => size_of::<DimensionProto>(),
        Kind::Function => size_of::<FunctionProto>(),
        Kind::Entry => size_of::<StringStringEntryProto>().max(size_of::<OperatorSetIdProto>()),
    }
}

/// Walks over the bytes of a model; returns the memory that its structs will take, raw weights not counted.
///
/// # Errors
/// [`WireFault`] for a field that does not end inside its message, for nesting that the decoder refuses, and for more
/// memory than `limit`.
pub fn measure(bytes: &[u8], limit: usize) -> Result<usize, WireFault> {
    let mut walk = Walk { bytes, limit, memory: 0, place: vec!["model"] };
    walk.message(0, bytes.len(), Kind::Model)?;
    Ok(walk.memory)
}

struct Walk<'a> {
    bytes: &'a [u8],
    limit: usize,
    memory: usize,
    place: Vec<&'static str>,
}

impl Walk<'_> {
    fn fault(&self, position: usize, problem: WireProblem) -> WireFault {
        WireFault { problem, position, place: self.place.join(".") }
    }

    fn take(&mut self, position: usize, memory: usize) -> Result<(), WireFault> {
        self.memory = self.memory.saturating_add(memory);
        if self.memory > self.limit {
            return Err(self.fault(position, WireProblem::TooLarge { limit: self.limit }));
        }
        Ok(())
    }

    fn message(&mut self, start: usize, end: usize, kind: Kind) -> Result<(), WireFault> {
        if self.place.len() > DEEPEST {
            return Err(self.fault(start, WireProblem::TooDeep));
        }
        // Lists grow by doubling, so a struct can take twice its size.
        self.take(start, 2 * size(kind))?;
        let mut at = start;
        while at < end {
            let begin = at;
            let key = self.varint(&mut at, end)?;
            let (number, wire) = (key >> 3, key & 7);
            if number == 0 || number > 0x1fff_ffff {
                return Err(self.fault(begin, WireProblem::FieldNumber { number }));
            }
            match wire {
                0 => {
                    self.varint(&mut at, end)?;
                    self.take(begin, 16)?;
                }
                1 | 5 => {
                    let wanted = if wire == 1 { 8 } else { 4 };
                    if end - at < wanted {
                        return Err(self.fault(begin, WireProblem::EndsEarly));
                    }
                    at += wanted;
                    self.take(begin, 16)?;
                }
                2 => {
                    let wanted = self.varint(&mut at, end)?;
                    let left = end - at;
                    let length = usize::try_from(wanted).ok().filter(|n| *n <= left);
                    let Some(length) = length else {
                        return Err(self.fault(begin, WireProblem::TooLong { wanted, left }));
                    };
                    self.field(begin, at, length, kind, number)?;
                    at += length;
                }
                other => return Err(self.fault(begin, WireProblem::WireType(other))),
            }
        }
        Ok(())
    }

    fn field(&mut self, begin: usize, at: usize, length: usize, kind: Kind, number: u64) -> Result<(), WireFault> {
        let Some((name, content)) = field(kind, number) else { return Ok(()) };
        match content {
            Content::Text => self.take(begin, length.saturating_add(2 * size_of::<Vec<u8>>())),
            Content::Packed(factor) => self.take(begin, length.saturating_mul(factor)),
            Content::Message(inner) => {
                self.place.push(name);
                self.message(at, at + length, inner)?;
                self.place.pop();
                Ok(())
            }
        }
    }

    fn varint(&self, at: &mut usize, end: usize) -> Result<u64, WireFault> {
        let start = *at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if *at >= end {
                return Err(self.fault(start, WireProblem::EndsEarly));
            }
            let byte = self.bytes[*at];
            *at += 1;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                return Err(self.fault(start, WireProblem::Varint));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.fault(start, WireProblem::Varint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::encode;
    use crate::onnx::fixtures::little_resnet;

    const LIMIT: usize = 1 << 30;

    fn problem(bytes: &[u8]) -> WireProblem {
        measure(bytes, LIMIT).unwrap_err().problem
    }

    #[test]
    fn a_good_file_is_walked_to_its_end() {
        let bytes = encode(&little_resnet(12, 12));
        let memory = measure(&bytes, LIMIT).unwrap();
        assert!((10_000..1_000_000).contains(&memory), "{memory}");
        // Almost every cut falls into a field; those that do not leave fewer fields.
        let cut = (1..bytes.len()).filter(|n| measure(&bytes[..*n], LIMIT).is_err()).count();
        assert!(cut > bytes.len() - 20, "{cut} of {}", bytes.len());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        // Field 7 (graph) of 3 bytes: field 1 (node) that wants 9.
        let fault = measure(&[0x3a, 3, 0x0a, 9, 0], LIMIT).unwrap_err();
        assert_eq!(fault.to_string(), "a field wants 9 bytes, 1 are left at byte 2, in model.graph");
        assert_eq!(problem(&[0x08]), WireProblem::EndsEarly);
        assert_eq!(problem(&[0x08, 0x80]), WireProblem::EndsEarly);
        assert_eq!(problem(&[[0x08].as_slice(), &[0xff; 10]].concat()), WireProblem::Varint);
        assert_eq!(problem(&[0x00, 0x00]), WireProblem::FieldNumber { number: 0 });
        assert_eq!(problem(&[0x0b]), WireProblem::WireType(3));
    }

    #[test]
    fn a_small_file_cannot_become_large_in_memory() {
        // A graph of empty nodes: two bytes each, hundreds in memory.
        let nodes = [0x0a, 0].repeat(1 << 16);
        let mut bytes = vec![0x3a];
        let mut length = nodes.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(nodes);
        let fault = measure(&bytes, 1 << 20).unwrap_err();
        assert_eq!(fault.problem, WireProblem::TooLarge { limit: 1 << 20 });
    }

    #[test]
    fn nesting_is_bounded() {
        let mut bytes = vec![];
        for _ in 0..40 {
            // attribute.g in node.attribute in graph.node
            for field in [0x32, 0x2a, 0x0a] {
                let mut outer = vec![field];
                let mut length = bytes.len();
                while length >= 0x80 {
                    outer.push(length as u8 | 0x80);
                    length >>= 7;
                }
                outer.push(length as u8);
                outer.extend(&bytes);
                bytes = outer;
            }
        }
        let mut model = vec![0x3a];
        let mut length = bytes.len();
        while length >= 0x80 {
            model.push(length as u8 | 0x80);
            length >>= 7;
        }
        model.push(length as u8);
        model.extend(bytes);
        assert_eq!(problem(&model), WireProblem::TooDeep);
    }
}

//! Reading attributes, tensors and types of the structs in [`super::proto`], and making them.

use std::collections::HashSet;

use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto, attribute_type,
};

/// One axis of a shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Known.
    Fixed(usize),
    /// Known by name only: the batch axis.
    Symbol(String),
}

impl Dim {
    /// The number, if it is one.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(n) => Some(*n),
            Self::Symbol(_) => None,
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::Fixed(n)
    }
}

impl From<&str> for Dim {
    fn from(name: &str) -> Self {
        Self::Symbol(name.into())
    }
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Symbol(name) => f.write_str(name),
        }
    }
}

impl AttributeProto {
    /// An integer attribute.
    pub fn int(name: &str, i: i64) -> Self {
        Self { name: name.into(), r#type: attribute_type::INT, i: Some(i), ..Self::default() }
    }

    /// A list of integers.
    pub fn ints(name: &str, ints: &[i64]) -> Self {
        Self { name: name.into(), r#type: attribute_type::INTS, ints: ints.to_vec(), ..Self::default() }
    }

    /// A float attribute.
    pub fn float(name: &str, f: f32) -> Self {
        Self { name: name.into(), r#type: attribute_type::FLOAT, f: Some(f), ..Self::default() }
    }

    /// A string attribute.
    pub fn string(name: &str, s: &str) -> Self {
        Self { name: name.into(), r#type: attribute_type::STRING, s: Some(s.into()), ..Self::default() }
    }

    /// A tensor attribute.
    pub fn tensor(name: &str, t: TensorProto) -> Self {
        Self { name: name.into(), r#type: attribute_type::TENSOR, t: Some(t), ..Self::default() }
    }
}

impl NodeProto {
    /// The attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|a| a.name == name)
    }

    /// An integer attribute or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).and_then(|a| a.i).unwrap_or(default)
    }

    /// A float attribute or its default.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).and_then(|a| a.f).unwrap_or(default)
    }

    /// A list of integers, absent if the attribute is.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    /// A string attribute or its default.
    pub fn string(&self, name: &str, default: &str) -> String {
        self.attribute(name)
            .and_then(|a| a.s.as_deref())
            .map_or_else(|| default.to_string(), |s| String::from_utf8_lossy(s).into_owned())
    }

    /// The name of input `i`, if it is given.
    pub fn input_name(&self, i: usize) -> Option<&str> {
        self.input.get(i).map(String::as_str).filter(|s| !s.is_empty())
    }

    /// Something to call the node by in a message: its name, or its first output if it has none.
    pub fn label(&self) -> &str {
        if self.name.is_empty() { self.output.first().map_or("(unnamed)", String::as_str) } else { &self.name }
    }

    /// Whether the operator belongs to ONNX itself.
    pub fn is_onnx(&self) -> bool {
        self.domain.is_empty() || self.domain == "ai.onnx"
    }
}

impl ValueInfoProto {
    /// A tensor value.
    pub fn tensor(name: &str, elem_type: i32, dims: &[Dim]) -> Self {
        let dim = dims
            .iter()
            .map(|d| match d {
                Dim::Fixed(n) => DimensionProto { dim_value: Some(*n as i64), ..DimensionProto::default() },
                Dim::Symbol(s) => DimensionProto { dim_param: Some(s.clone()), ..DimensionProto::default() },
            })
            .collect();
        let tensor = TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) };
        Self {
            name: name.into(),
            r#type: Some(TypeProto { tensor_type: Some(tensor), ..TypeProto::default() }),
            ..Self::default()
        }
    }

    /// A tensor value of unknown shape.
    pub fn unshaped(name: &str, elem_type: i32) -> Self {
        let tensor = TensorTypeProto { elem_type, shape: None };
        Self {
            name: name.into(),
            r#type: Some(TypeProto { tensor_type: Some(tensor), ..TypeProto::default() }),
            ..Self::default()
        }
    }

    /// Element type, if it is a tensor.
    pub fn elem_type(&self) -> Option<i32> {
        Some(self.r#type.as_ref()?.tensor_type.as_ref()?.elem_type)
    }

    /// Shape, if it is a tensor of known rank. An axis that is neither number nor symbol gets a symbol of its own.
    pub fn dims(&self) -> Option<Vec<Dim>> {
        let shape = self.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
        let dims = shape.dim.iter().enumerate().map(|(axis, d)| match (d.dim_value, &d.dim_param) {
            (Some(n), _) if n >= 0 => Dim::Fixed(n as usize),
            (_, Some(symbol)) if !symbol.is_empty() => Dim::Symbol(symbol.clone()),
            _ => Dim::Symbol(format!("{}.{axis}", self.name)),
        });
        Some(dims.collect())
    }
}

impl ModelProto {
    /// Version of ONNX's own operators, 1 if the file does not say.
    pub fn opset(&self) -> i64 {
        self.opset_import.iter().find(|o| o.domain.is_empty() || o.domain == "ai.onnx").map_or(1, |o| o.version)
    }

    /// A string property.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata_props.iter().find(|p| p.key == key).map(|p| p.value.as_str())
    }
}

impl GraphProto {
    /// The inputs that are not initialisers (files of IR version 3 list both).
    pub fn true_inputs(&self) -> impl Iterator<Item = &ValueInfoProto> {
        let initialised: HashSet<&str> = self.initializer.iter().map(|t| t.name.as_str()).collect();
        self.input.iter().filter(move |i| !initialised.contains(i.name.as_str()))
    }
}

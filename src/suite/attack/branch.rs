//! Batch-norm branches.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A batch-norm branch of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Branch {
    /// The branch that clean images train and that is deployed.
    #[default]
    Main,
    /// The n-th auxiliary branch, from 1.
    Aux(u8),
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Main => f.write_str("main"),
            Self::Aux(n) => write!(f, "aux{n}"),
        }
    }
}

impl std::str::FromStr for Branch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no branch; write \"main\", \"aux1\", \"aux2\" ...");
        if text == "main" {
            return Ok(Self::Main);
        }
        match text.strip_prefix("aux").and_then(|n| n.parse::<u8>().ok()) {
            Some(n) if n > 0 => Ok(Self::Aux(n)),
            _ => Err(bad()),
        }
    }
}

impl Serialize for Branch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Branch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

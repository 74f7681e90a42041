//! One radius or several.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::Epsilon;

/// One radius or several; in TOML `"8/255"` or `["2/255", "8/255"]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct EpsilonList(pub Vec<Epsilon>);

impl<'de> Deserialize<'de> for EpsilonList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::{self, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};

        struct ListVisitor;

        impl<'de> Visitor<'de> for ListVisitor {
            type Value = EpsilonList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pixel amount such as \"8/255\", { normalized = 0.01 }, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<EpsilonList, E> {
                Epsilon::deserialize(text.into_deserializer()).map(|e| EpsilonList(vec![e]))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<EpsilonList, E> {
                Epsilon::deserialize(value.into_deserializer()).map(|e| EpsilonList(vec![e]))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<EpsilonList, E> {
                Epsilon::deserialize(value.into_deserializer()).map(|e| EpsilonList(vec![e]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EpsilonList, A::Error> {
                Epsilon::deserialize(MapAccessDeserializer::new(map)).map(|e| EpsilonList(vec![e]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<EpsilonList, A::Error> {
                let mut list = Vec::new();
                while let Some(epsilon) = seq.next_element()? {
                    list.push(epsilon);
                }
                if list.is_empty() {
                    return Err(de::Error::custom(
                        "the list of radii is empty; write at least one, such as [\"8/255\"]",
                    ));
                }
                Ok(EpsilonList(list))
            }
        }

        deserializer.deserialize_any(ListVisitor)
    }
}

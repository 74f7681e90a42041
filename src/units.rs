//! Quantities that carry their unit: perturbation budgets, step sizes, seeds.
//!
//! Budgets are in pixel units (`[0, 1]`, before any normalisation) and remember the fraction the user wrote, so that
//! `8/255` is shown as `8/255` everywhere. The official MDProp code's budget lives in normalised space; it is kept as
//! such ([`Epsilon::Normalized`]) and turned into a per-channel pixel budget at the last moment.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a quantity was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UnitError {
    /// The text is neither a number nor a fraction.
    #[error("`{0}` is not an amount; write a fraction such as \"8/255\" or a number such as 0.03")]
    NotANumber(String),
    /// NaN, infinite, negative or above one.
    #[error(
        "`{text}` is {value}, outside [0, 1]; amounts are in pixel units where 1 is white (8 grey levels are \"8/255\")"
    )]
    OutOfRange {
        /// What the user wrote.
        text: String,
        /// What it evaluates to.
        value: f64,
    },
    /// Division by zero in a fraction.
    #[error("`{0}` divides by zero")]
    ZeroDenominator(String),
}

/// An amount of pixel intensity in `[0, 1]`, remembered as written (`"8/255"`).
///
/// # Units
/// Pixel units before normalisation: `8/255` is 8 grey levels of 255.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelAmount {
    text: String,
    value: f64,
}

impl PixelAmount {
    /// No change at all.
    pub fn zero() -> Self {
        Self { text: "0".into(), value: 0.0 }
    }

    /// `levels / 255`.
    pub fn grey_levels(levels: u32) -> Self {
        Self { text: format!("{levels}/255"), value: f64::from(levels) / 255.0 }
    }

    /// The amount as a number in `[0, 1]`.
    pub fn value(&self) -> f64 {
        self.value
    }
}

impl FromStr for PixelAmount {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::NotANumber(text.to_string());
        let value = match text.split_once('/') {
            Some((above, below)) => {
                let above: f64 = above.trim().parse().map_err(|_| bad())?;
                let below: f64 = below.trim().parse().map_err(|_| bad())?;
                if below == 0.0 {
                    return Err(UnitError::ZeroDenominator(text.to_string()));
                }
                above / below
            }
            None => text.trim().parse().map_err(|_| bad())?,
        };
        if !(0.0..=1.0).contains(&value) {
            return Err(UnitError::OutOfRange { text: text.to_string(), value });
        }
        Ok(Self { text: text.split_whitespace().collect(), value })
    }
}

impl fmt::Display for PixelAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How the size of a perturbation is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Norm {
    /// The largest change of a pixel.
    Linf,
    /// The Euclidean length of the whole change, over all pixels and channels.
    L2,
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linf => "linf",
            Self::L2 => "l2",
        })
    }
}

/// The radius of a perturbation.
///
/// In TOML: `"8/255"`, `0.03`, `{ normalized = 0.01 }` for the official code's unit, or `{ l2 = 0.5 }`.
#[derive(Debug, Clone, PartialEq)]
pub enum Epsilon {
    /// The same radius for every channel, in pixel units.
    Pixels(PixelAmount),
    /// A radius after `(x - mean) / std`; the pixel radius of channel `c` is `value * std[c]`.
    Normalized(f64),
    /// The Euclidean length of the whole change, pixel units: `sqrt(sum of squares)` over all pixels and channels.
    L2(f64),
}

/// Longest L2 radius: that of a change from black to white in 33 million pixels and channels.
const LONGEST_L2: f64 = 5800.0;

impl Epsilon {
    /// How it measures.
    pub fn norm(&self) -> Norm {
        match self {
            Self::Pixels(_) | Self::Normalized(_) => Norm::Linf,
            Self::L2(_) => Norm::L2,
        }
    }

    /// The pixel radius of each channel, given the model's normalisation: how far a single pixel may move at most.
    ///
    /// # Shapes
    /// `std`: one entry per channel; so is the result.
    pub fn per_channel(&self, std: &[f32]) -> Vec<f32> {
        match self {
            Self::Pixels(amount) => vec![amount.value() as f32; std.len()],
            Self::Normalized(value) => std.iter().map(|s| (value * f64::from(*s)) as f32).collect(),
            Self::L2(value) => vec![value.min(1.0) as f32; std.len()],
        }
    }

    /// The largest channel radius in pixel units, or the L2 length, for sorting and for charts.
    pub fn nominal(&self, std: &[f32]) -> f64 {
        match self {
            Self::Pixels(amount) => amount.value(),
            Self::Normalized(value) => std.iter().map(|s| value * f64::from(*s)).fold(0.0, f64::max),
            Self::L2(value) => *value,
        }
    }

    /// Whether the budget allows no change.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Pixels(amount) => amount.value() == 0.0,
            Self::Normalized(value) | Self::L2(value) => *value == 0.0,
        }
    }
}

impl fmt::Display for Epsilon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pixels(amount) => amount.fmt(f),
            Self::Normalized(value) => write!(f, "{value} normalized"),
            Self::L2(value) => write!(f, "{value} L2"),
        }
    }
}

impl Serialize for PixelAmount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for PixelAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Epsilon::deserialize(deserializer)? {
            Epsilon::Pixels(amount) => Ok(amount),
            Epsilon::Normalized(_) | Epsilon::L2(_) => {
                Err(de::Error::custom("a pixel amount is wanted here, such as \"2/255\""))
            }
        }
    }
}

impl Serialize for Epsilon {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        match self {
            Self::Pixels(amount) => amount.serialize(serializer),
            Self::Normalized(value) | Self::L2(value) => {
                let key = if let Self::L2(_) = self { "l2" } else { "normalized" };
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(key, value)?;
                map.end()
            }
        }
    }
}

/// The number in `{ l2 = 0.5 }`. A fraction is refused: it would nearly always mean grey levels of every pixel.
struct L2Length(f64);

impl<'de> Deserialize<'de> for L2Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LengthVisitor;

        impl Visitor<'_> for LengthVisitor {
            type Value = L2Length;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length such as 0.5")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<L2Length, E> {
                let amount: PixelAmount = text.parse().map_err(E::custom)?;
                let (length, levels) = (amount.value(), amount.value() * 255.0);
                Err(E::custom(format!(
                    "l2 = \"{text}\" was understood as {length:.4}, the length of the whole perturbation: {levels:.1} grey \
                     levels in one single pixel, or hardly any in all of them; write l2 = {length:.4} if that is meant, or \
                     epsilon = \"{text}\" for that much in every pixel"
                )))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<L2Length, E> {
                if (0.0..=LONGEST_L2).contains(&value) {
                    return Ok(L2Length(value));
                }
                Err(E::custom(format!("l2 = {value} is no length from 0 to {LONGEST_L2}")))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<L2Length, E> {
                self.visit_f64(value as f64)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<L2Length, E> {
                self.visit_f64(value as f64)
            }
        }

        deserializer.deserialize_any(LengthVisitor)
    }
}

impl<'de> Deserialize<'de> for Epsilon {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EpsilonVisitor;

        impl<'de> Visitor<'de> for EpsilonVisitor {
            type Value = Epsilon;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pixel amount such as \"8/255\" or 0.03, { normalized = 0.01 }, or { l2 = 0.5 }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Epsilon, E> {
                text.parse().map(Epsilon::Pixels).map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Epsilon, E> {
                self.visit_str(&format!("{value}"))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Epsilon, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Epsilon, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Epsilon, A::Error> {
                let mut found: Option<Epsilon> = None;
                while let Some(key) = map.next_key::<String>()? {
                    let epsilon = match key.as_str() {
                        "normalized" => Epsilon::Normalized(map.next_value::<f64>()?),
                        "l2" => Epsilon::L2(map.next_value::<L2Length>()?.0),
                        _ => return Err(de::Error::unknown_field(&key, &["normalized", "l2"])),
                    };
                    if found.replace(epsilon).is_some() {
                        return Err(de::Error::custom(
                            "two units in one radius; write { normalized = .. } or { l2 = .. }",
                        ));
                    }
                }
                let epsilon = found.ok_or_else(|| de::Error::missing_field("normalized"))?;
                if let Epsilon::Normalized(value) = epsilon
                    && (!value.is_finite() || value < 0.0)
                {
                    return Err(de::Error::custom(format!(
                        "normalized = {value} is not a radius; it must be finite and at least 0"
                    )));
                }
                Ok(epsilon)
            }
        }

        deserializer.deserialize_any(EpsilonVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Holder {
        epsilon: Epsilon,
    }

    #[derive(Serialize)]
    struct Shown {
        epsilon: Epsilon,
    }

    fn parse(text: &str) -> Result<Epsilon, String> {
        toml::from_str::<Holder>(text).map(|h| h.epsilon).map_err(|e| e.message().to_string())
    }

    #[test]
    fn keeps_the_fraction_as_written() {
        let epsilon = parse("epsilon = \"8/255\"").unwrap();
        assert_eq!(epsilon.to_string(), "8/255");
        assert_eq!(epsilon.nominal(&[1.0]), 8.0 / 255.0);
    }

    #[test]
    fn normalized_budget_scales_with_the_channel() {
        let epsilon = parse("epsilon = { normalized = 0.01 }").unwrap();
        let channels = epsilon.per_channel(&[0.229, 0.224, 0.225]);
        assert!((channels[0] - 0.00229).abs() < 1e-8);
        assert!((channels[1] - 0.00224).abs() < 1e-8);
    }

    #[test]
    fn an_l2_radius_is_a_length_and_no_fraction_of_255() {
        let epsilon = parse("epsilon = { l2 = 1.5 }").unwrap();
        assert_eq!((epsilon.norm(), epsilon.nominal(&[0.2]), epsilon.to_string()), (Norm::L2, 1.5, "1.5 L2".into()));
        assert_eq!(parse("epsilon = { l2 = 3 }").unwrap(), Epsilon::L2(3.0));
        assert_eq!(toml::to_string(&Shown { epsilon }).unwrap().trim(), "[epsilon]\nl2 = 1.5");
        let message = parse("epsilon = { l2 = \"8/255\" }").unwrap_err();
        assert!(message.contains("understood as 0.0314") && message.contains("8.0 grey levels"), "{message}");
        for text in ["-1", "nan", "inf", "1e9"] {
            assert!(parse(&format!("epsilon = {{ l2 = {text} }}")).unwrap_err().contains("is no length"), "{text}");
        }
        assert!(parse("epsilon = { l2 = 1, normalized = 1 }").unwrap_err().contains("two units"));
    }

    #[test]
    fn refuses_what_is_no_radius() {
        for text in ["-1/255", "nan", "inf", "2.0", "1/0", "eight"] {
            assert!(parse(&format!("epsilon = \"{text}\"")).is_err(), "{text} was accepted");
        }
        assert!(parse("epsilon = nan").is_err());
        assert!(parse("epsilon = { normalized = -0.1 }").is_err());
        assert!(parse("epsilon = { normalised = 0.1 }").unwrap_err().contains("normalized"));
        assert!(parse("epsilon = 0").unwrap().is_zero());
    }
}

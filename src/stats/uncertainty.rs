//! Which interval a figure gets, and the words for it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::bootstrap::{Resampling, Units, bca};
use super::{Interval, jackknife, wilson};

/// How an interval was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// [`bca`].
    Bca,
    /// [`wilson::interval`]: where every unit agrees, so that drawing shows no spread.
    Wilson,
    /// [`jackknife::interval`].
    Jackknife,
}

/// What was drawn or left out as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// Single queries: only where all are of one class.
    Queries,
    /// All queries or images of a class together.
    Classes,
    /// Several classes together, where there are too many for one at a time.
    Groups,
}

/// Where an interval comes from: `BCa over 12 classes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Basis {
    /// How it was made.
    pub method: Method,
    /// What was drawn.
    pub unit: Unit,
    /// How many of them.
    pub units: u32,
}

const METHODS: [(Method, &str); 3] =
    [(Method::Bca, "BCa"), (Method::Wilson, "Wilson"), (Method::Jackknife, "jackknife")];
const UNITS: [(Unit, &str); 3] =
    [(Unit::Queries, "queries"), (Unit::Classes, "classes"), (Unit::Groups, "groups of classes")];

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = METHODS.iter().find(|m| m.0 == self.method).map_or("", |m| m.1);
        let unit = UNITS.iter().find(|u| u.0 == self.unit).map_or("", |u| u.1);
        write!(f, "{method} over {} {unit}", self.units)
    }
}

/// A text that is no basis of an interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not say where an interval comes from; wanted something like `BCa over 12 classes`")]
pub struct BasisError(String);

impl FromStr for Basis {
    type Err = BasisError;

    fn from_str(text: &str) -> Result<Self, BasisError> {
        let read = || {
            let (method, rest) = text.split_once(" over ")?;
            let (units, unit) = rest.split_once(' ')?;
            Some(Self {
                method: METHODS.iter().find(|m| m.1 == method)?.0,
                unit: UNITS.iter().find(|u| u.1 == unit)?.0,
                units: units.parse().ok()?,
            })
        };
        read().ok_or_else(|| BasisError(text.to_string()))
    }
}

impl Serialize for Basis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Basis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The interval of a mean over queries, or of a ratio of two sums over them.
///
/// BCa over classes; over queries if all are of one class. Where every unit agrees drawing shows no spread: a share
/// (`is_share`: in `[0, 1]`) then gets Wilson's interval with the units as trials, anything else has no interval.
/// `above`, `below`: what each query adds to the figure `Σ above / Σ below`; for a mean `below` is 1. The figure itself is
/// `None` if there is nothing below.
///
/// ```
/// use mdprop::stats::bootstrap::Resampling;
/// use mdprop::stats::uncertainty::of_queries;
///
/// // Four classes, no query right: 0, but up to 49 % is not excluded.
/// let (value, interval) = of_queries(&[0.0; 8], &[1.0; 8], &[1, 1, 2, 2, 3, 3, 4, 4], true, Resampling::new(0)).unwrap();
/// let (interval, basis) = interval.unwrap();
/// assert_eq!((value, basis.to_string().as_str()), (0.0, "Wilson over 4 classes"));
/// assert!((interval.high - 0.4899).abs() < 1e-3);
/// ```
///
/// # Panics
/// If the lists differ in length.
pub fn of_queries(
    above: &[f64],
    below: &[f64],
    classes: &[u32],
    is_share: bool,
    resampling: Resampling,
) -> Option<(f64, Option<(Interval, Basis)>)> {
    let mut units = Units::ratio_of_classes(above, below, classes);
    let value = units.value()?;
    let mut unit = Unit::Classes;
    if units.len() < 2 {
        let own: Vec<u32> = (0..above.len() as u32).collect();
        units = Units::ratio_of_classes(above, below, &own);
        unit = Unit::Queries;
    }
    let basis = |method| Basis { method, unit, units: units.len() as u32 };
    let interval = if units.agree() {
        let found = if is_share { wilson::interval(value, units.len() as f64) } else { None };
        found.map(|interval| (interval, basis(Method::Wilson)))
    } else {
        bca(&units, resampling).map(|interval| (interval, basis(Method::Bca)))
    };
    Some((value, interval))
}

/// The interval of a figure of a whole set from the figures with each group of classes left out; `None` if one of them
/// does not exist.
pub fn of_set(value: f64, left_out: &[Option<f64>], classes: usize) -> Option<(Interval, Basis)> {
    let values: Option<Vec<f64>> = left_out.iter().copied().collect();
    let interval = jackknife::interval(value, &values?)?;
    let unit = if left_out.len() == classes { Unit::Classes } else { Unit::Groups };
    Some((interval, Basis { method: Method::Jackknife, unit, units: left_out.len() as u32 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basis_survives_its_words() {
        for (method, _) in METHODS {
            for (unit, _) in UNITS {
                let basis = Basis { method, unit, units: 17 };
                assert_eq!(basis.to_string().parse(), Ok(basis));
            }
        }
        for text in ["", "BCa", "BCa over classes", "BCa over x classes", "luck over 3 classes", "BCa over 3 moons"] {
            assert!(text.parse::<Basis>().unwrap_err().to_string().contains("BCa over 12 classes"), "{text}");
        }
    }

    #[test]
    fn the_unit_is_the_class_unless_there_is_only_one() {
        let draws = Resampling::new(1);
        let values = [1.0, 0.0, 1.0, 1.0];
        let found = |classes: &[u32]| of_queries(&values, &[1.0; 4], classes, true, draws).unwrap().1.unwrap();
        assert_eq!(found(&[3, 3, 8, 8]).1.to_string(), "BCa over 2 classes");
        assert_eq!(found(&[3, 3, 3, 3]).1.to_string(), "BCa over 4 queries");
        // One query, a share: Wilson's interval of one trial. No share: nothing can be said.
        let lone = of_queries(&[1.0], &[1.0], &[3], true, draws).unwrap().1.unwrap();
        assert_eq!(lone.1.to_string(), "Wilson over 1 queries");
        assert_eq!(of_queries(&[2.5], &[1.0], &[3], false, draws), Some((2.5, None)));
        assert_eq!(of_queries(&[], &[], &[], true, draws), None);
    }

    #[test]
    fn a_set_whose_part_is_undefined_has_no_interval() {
        assert_eq!(of_set(1.0, &[Some(1.0), None], 2), None);
        let (interval, basis) = of_set(1.0, &[Some(0.9), Some(1.1)], 5).unwrap();
        assert!(interval.low < 0.0 && basis.to_string() == "jackknife over 2 groups of classes");
    }
}

//! What an attack is, as a suite says it: side × goal × method × budget × branch. Closed enums, no strings.

mod branch;
mod goal;
mod method;
mod radii;
mod robrank;
mod side;

pub use branch::Branch;
pub use goal::{Goal, TargetChoice, TargetLoss};
pub use method::{Method, RandomStart, Stop};
pub use radii::EpsilonList;
pub use robrank::{RankingPart, ResolvedQuirks, Robrank, RobrankQuirks};
pub use side::Side;

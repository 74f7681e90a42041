//! What an attack is, as a suite says it: side × goal × method × budget × branch. Closed enums, no strings.

mod branch;
mod corruption;
mod fit;
mod goal;
mod method;
mod radii;
mod robrank;
mod side;
mod universal;

pub use branch::Branch;
pub use corruption::{CORRUPTION_MEAN, Corruption, Corruptions};
pub use fit::method_problems;
pub use goal::{Goal, TargetChoice, TargetLoss};
pub use method::{AUTO_QUERIES, AUTO_STEPS, Access, Distribution, Estimation, Method, RandomStart, Stop};
pub use radii::EpsilonList;
pub use robrank::{RankingPart, ResolvedQuirks, Robrank, RobrankQuirks};
pub use side::Side;
pub use universal::{Patch, PatchPlace, Universal};

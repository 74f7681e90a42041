//! What an attack is, as a suite says it: side × goal × method × budget × branch. Closed enums, no strings.

mod branch;
mod goal;
mod method;
mod radii;
mod side;

pub use branch::Branch;
pub use goal::{Goal, TargetLoss};
pub use method::{Access, Distribution, Estimation, Method, RandomStart, Stop};
pub use radii::EpsilonList;
pub use side::Side;

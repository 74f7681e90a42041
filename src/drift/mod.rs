//! Is B better than A, and has anything moved? Paired per query, corrected for the number of questions.

pub mod compare;
mod pairing;
mod words;

pub use compare::{Comparison, Difference, Verdict, compare};
pub use pairing::{DriftError, Pair, Question, models_of_a_run, runs};
pub use words::{Form, write};

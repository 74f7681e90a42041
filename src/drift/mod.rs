//! Is B better than A, and has anything moved? Paired per query, corrected for the number of questions.

pub mod baseline;
pub mod compare;
mod date;
pub mod flips;
pub mod gate;
mod machines;
pub mod outcome;
mod over_seeds;
mod pairing;
pub mod slow;
pub mod speed;
mod tables;
pub mod words;

pub use baseline::{Baseline, BaselineError};
pub use compare::{Comparison, Difference, Verdict, compare};
pub use date::utc;
pub use flips::{Contest, contests, told};
pub(crate) use gate::cell_number;
pub use gate::{Judgement, check};
pub use machines::{annotations, json, junit, sarif};
pub use over_seeds::{Answers, OverSeeds, over_seeds};
pub use pairing::{DriftError, Pair, Question, models_of_a_run, runs};
pub use tables::{summary, text};
pub use words::{Form, write};

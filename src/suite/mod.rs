//! What to measure: `suites/**/*.toml` and `models/*.toml`, read, checked and resolved.
//!
//! Three steps, three types: [`wire::SuiteWire`] (serde, as written) → the same after [`check`] → [`plan::Plan`]
//! (models read, trials listed).

pub mod attack;
pub mod card;
pub mod check;
pub mod cost;
pub mod dataset;
pub mod defence;
pub mod load;
pub mod loss;
pub mod plan;
pub mod published;
pub mod recipe;
pub mod repeats;
pub mod shards;
pub mod soundness;
pub mod wire;

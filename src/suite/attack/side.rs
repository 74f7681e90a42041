//! Who is perturbed.

use serde::{Deserialize, Serialize};

/// Who is perturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The query; the gallery stays clean and the query's own clean image is left out by index.
    Query,
    /// The gallery: every image of it is attacked, the queries stay clean. A query's own attacked image is left out by index.
    Gallery,
    /// Query and gallery are the same attacked set (the paper's protocol).
    All,
}

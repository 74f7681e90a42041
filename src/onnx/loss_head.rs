//! The last part of an attack graph: from the embedding to a per-sample loss, and that loss's gradient by the embedding.
//!
//! A head names the form of a loss; what it is measured against (targets, weights, a gallery) are inputs of the graph.
//! Each gradient is written out by hand and checked against central differences in float64. Where a loss has a kink (two
//! gallery items equally near, a hinge at 0) the gradient is that of one side.

use super::access::Dim;
use super::graph::{FLOAT, GraphBuilder};
use super::proto::AttributeProto;

/// How far two embeddings are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossDistance {
    /// `‖a − b‖²`.
    SquaredEuclidean,
    /// `‖a − b‖`, gradient 0 at `a = b`.
    Euclidean,
    /// `1 − cos(a, b)`; 1 where one of them is zero.
    Cosine,
}

impl LossDistance {
    /// The distance of two embeddings, accumulated in `f64`.
    pub fn between(self, a: &[f32], b: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let squared = || a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>();
        match self {
            Self::SquaredEuclidean => squared(),
            Self::Euclidean => squared().sqrt(),
            Self::Cosine => {
                let norms = (dot(a, a) * dot(b, b)).sqrt();
                if norms > 0.0 { 1.0 - dot(a, b) / norms } else { 1.0 }
            }
        }
    }
}

/// Which gallery items of another class a margin looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The nearest.
    Nearest,
    /// The farthest.
    Farthest,
}

/// The form of a per-sample loss, to be minimised. `e` is the embedding, `r_t` and `w_t` the sample's targets and their
/// weights, `g` a gallery item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossHead {
    /// `Σ_t w_t · distance(e, r_t)`.
    Weighted(LossDistance),
    /// `−τ · ln Σ_t w_t exp(−‖e − r_t‖² / τ)`: near the smallest squared distance as τ falls, near their mean as it
    /// grows. The sample's table is `[τ]`.
    SoftMin,
    /// The mean distance of the `items` nearest (or farthest) gallery items of another class, minus that of the
    /// `items` nearest of the own class; chosen anew at every evaluation. With one nearest item each it is negative
    /// exactly when the nearest item is of another class. A class without items counts as distance 0.
    /// The sample's table is `[label, own place in the gallery or −1]`.
    Margin {
        /// Distance; not the cosine.
        distance: LossDistance,
        /// Which items of other classes.
        other: Reach,
        /// How many of each side, at least 1 and at most the gallery's items.
        items: usize,
        /// Whether the loss ends at 0.
        clamped: bool,
    },
    /// `Σ_t mean_g max(0, w_t · (‖e − r_t‖ − ‖e − g‖))`: by how much the target is farther (`w > 0`) or nearer
    /// (`w < 0`) than gallery items.
    GalleryHinge,
    /// `Σ_t mean_i max(0, w_t · (‖e − r_t‖ − b_ti))`: as before for fixed distances, the sample's table `[T, rows]`.
    FixedHinge,
}

impl LossHead {
    /// Whether the gallery is an input.
    pub fn needs_gallery(self) -> bool {
        matches!(self, Self::Margin { .. } | Self::GalleryHinge)
    }

    /// Numbers of the table of a sample with `targets` targets; `None`: any multiple of `targets`.
    pub fn table_columns(self, targets: usize) -> Option<usize> {
        match self {
            Self::Weighted(_) | Self::GalleryHinge => Some(0),
            Self::SoftMin => Some(1),
            Self::Margin { .. } => Some(2),
            Self::FixedHinge => (targets == 0).then_some(0),
        }
    }
}

/// Rows of the graph's input `gallery_marks`, `[4, N]`: label, place, squared norm, and the share `1 / N`.
pub const GALLERY_MARKS: usize = 4;

/// Squared distances below this are lost in the rounding of `‖e‖² + ‖g‖² − 2 e·g`; a gallery item that near has no
/// direction.
pub const NEAR_SQUARED: f32 = 1e-7;

/// Far beyond every score, and so far that adding a score does not change it.
const BEYOND: f32 = 1e30;

/// Inputs of the head besides the embedding, by name.
#[derive(Debug, Clone, Default)]
pub struct HeadInputs {
    /// Target embeddings, `[n, T, d]`; empty for a margin, which has none.
    pub targets: String,
    /// Weight of each target, `[n, T]`; empty for a margin.
    pub weights: String,
    /// Numbers of each sample, `[n, columns]`, for [`LossHead::FixedHinge`] `[n, T, rows]`.
    pub table: Option<String>,
    /// The gallery, `[N, d]`.
    pub gallery: Option<String>,
    /// See [`GALLERY_MARKS`].
    pub gallery_marks: Option<String>,
}

/// Declares the inputs of a head.
pub fn inputs(b: &mut GraphBuilder, head: LossHead, [batch, targets, d]: [&Dim; 3]) -> HeadInputs {
    let gallery = Dim::Symbol("gallery".into());
    let mut inputs = HeadInputs::default();
    if !matches!(head, LossHead::Margin { .. }) {
        inputs.targets = b.input("targets", FLOAT, &[batch.clone(), targets.clone(), d.clone()]);
        inputs.weights = b.input("weights", FLOAT, &[batch.clone(), targets.clone()]);
    }
    inputs.table = match head {
        LossHead::FixedHinge => {
            Some(b.input("table", FLOAT, &[batch.clone(), targets.clone(), Dim::Symbol("rows".into())]))
        }
        other => other
            .table_columns(1)
            .filter(|columns| *columns > 0)
            .map(|columns| b.input("table", FLOAT, &[batch.clone(), columns.into()])),
    };
    if head.needs_gallery() {
        inputs.gallery = Some(b.input("gallery", FLOAT, &[gallery.clone(), d.clone()]));
        inputs.gallery_marks = Some(b.input("gallery_marks", FLOAT, &[GALLERY_MARKS.into(), gallery]));
    }
    inputs
}

/// Emits a head; gives the names of the loss `[n]` and of its gradient by the embedding `[n, d]`.
pub fn emit(b: &mut GraphBuilder, head: LossHead, embedding: &str, inputs: &HeadInputs) -> (String, String) {
    let mut head_of = Emitter { b, embedding, inputs };
    match head {
        LossHead::Weighted(distance) => head_of.weighted(distance, &inputs.targets, &inputs.weights),
        LossHead::SoftMin => head_of.soft_min(),
        LossHead::Margin { distance, other, items, clamped } => head_of.margin(distance, other, items, clamped),
        LossHead::GalleryHinge => head_of.gallery_hinge(),
        LossHead::FixedHinge => head_of.fixed_hinge(),
    }
}

fn drop_axis() -> Vec<AttributeProto> {
    vec![AttributeProto::int("keepdims", 0)]
}

/// Targets as seen from the embedding.
struct Seen {
    /// `e − r`, `[n, T, d]`.
    difference: String,
    /// `‖e − r‖²`, `[n, T]`.
    squared: String,
}

struct Emitter<'a> {
    b: &'a mut GraphBuilder,
    embedding: &'a str,
    inputs: &'a HeadInputs,
}

impl Emitter<'_> {
    fn op(&mut self, op: &str, name: &str, inputs: &[&str]) -> String {
        self.b.named_node(op, name, inputs, vec![])
    }

    fn sum(&mut self, op: &str, name: &str, value: &str, axis: i64) -> String {
        let axes = self.b.list(&[axis]);
        self.b.named_node(op, name, &[value, &axes], drop_axis())
    }

    fn unsqueeze(&mut self, name: &str, value: &str, axis: i64) -> String {
        let axes = self.b.list(&[axis]);
        self.b.named_node("Unsqueeze", name, &[value, &axes], vec![])
    }

    fn see(&mut self, targets: &str) -> Seen {
        let embedding = self.embedding;
        let row = self.unsqueeze("embedding_row", embedding, 1);
        let difference = self.op("Sub", "difference", &[&row, targets]);
        let squares = self.op("Mul", "squares", &[&difference, &difference]);
        let squared = self.sum("ReduceSum", "squared_distance", &squares, 2);
        Seen { difference, squared }
    }

    /// The distance, and itself with a floor to divide by. At equality the difference is 0 and the quotient finite, so
    /// the gradient is 0. The floor is the root of the smallest normal number: below it the square has lost its digits
    /// anyway.
    fn root(&mut self, squared: &str) -> (String, String) {
        let root = self.op("Sqrt", "distance", &[squared]);
        let floor = self.b.scalar(f32::MIN_POSITIVE.sqrt());
        let floored = self.op("Max", "distance_floored", &[&root, &floor]);
        (root, floored)
    }

    /// `Σ_t slopes_t · (e − r_t)`, `[n, d]`.
    fn pull(&mut self, slopes: &str, difference: &str) -> String {
        let slopes = self.unsqueeze("slopes_column", slopes, 2);
        let pulls = self.op("Mul", "pulls", &[&slopes, difference]);
        self.sum("ReduceSum", "pulled", &pulls, 1)
    }

    fn weighted(&mut self, distance: LossDistance, targets: &str, weights: &str) -> (String, String) {
        if distance == LossDistance::Cosine {
            return self.weighted_cosine(targets, weights);
        }
        let Seen { difference, squared } = self.see(targets);
        let (distances, slopes) = match distance {
            LossDistance::Euclidean => {
                let (root, floored) = self.root(&squared);
                (root, self.op("Div", "slopes", &[weights, &floored]))
            }
            _ => {
                let two = self.b.scalar(2.0);
                (squared, self.op("Mul", "slopes", &[weights, &two]))
            }
        };
        let weighted = self.op("Mul", "weighted", &[weights, &distances]);
        let loss = self.sum("ReduceSum", "loss", &weighted, 1);
        (loss, self.pull(&slopes, &difference))
    }

    /// `d(1 − cos) / de = (cos · ê − r̂) / ‖e‖`.
    fn weighted_cosine(&mut self, targets: &str, weights: &str) -> (String, String) {
        let embedding = self.embedding;
        let (unit, norm) = self.unit(embedding, 1);
        let (toward, _) = self.unit(targets, 2);
        let row = self.unsqueeze("unit_row", &unit, 1);
        let products = self.op("Mul", "products", &[&row, &toward]);
        let cosines = self.sum("ReduceSum", "cosine", &products, 2);
        let one = self.b.scalar(1.0);
        let distances = self.op("Sub", "cosine_distance", &[&one, &cosines]);
        let weighted = self.op("Mul", "weighted", &[weights, &distances]);
        let loss = self.sum("ReduceSum", "loss", &weighted, 1);
        // Σ w (cos ê − r̂) = (Σ w cos) ê − Σ w r̂.
        let shares = self.op("Mul", "shares", &[weights, &cosines]);
        let along = self.sum("ReduceSum", "along", &shares, 1);
        let along = self.unsqueeze("along_column", &along, 1);
        let along = self.op("Mul", "along_unit", &[&along, &unit]);
        let column = self.unsqueeze("weights_column", weights, 2);
        let toward = self.op("Mul", "weighted_targets", &[&column, &toward]);
        let toward = self.sum("ReduceSum", "toward", &toward, 1);
        let turned = self.op("Sub", "turned", &[&along, &toward]);
        (loss, self.op("Div", "grad_embedding", &[&turned, &norm]))
    }

    /// Rows divided by their norm along the last axis, and that norm with a floor.
    fn unit(&mut self, value: &str, last: i64) -> (String, String) {
        let axes = self.b.list(&[last]);
        let squares = self.op("Mul", "squares", &[value, value]);
        let squared = self.b.named_node("ReduceSum", "norm_squared", &[&squares, &axes], vec![]);
        let (_, norm) = self.root(&squared);
        (self.op("Div", "unit", &[value, &norm]), norm)
    }

    fn soft_min(&mut self) -> (String, String) {
        let inputs = self.inputs;
        let temperature = inputs.table.clone().unwrap_or_default();
        let Seen { difference, squared } = self.see(&inputs.targets);
        let scaled = self.op("Div", "scaled", &[&squared, &temperature]);
        let prior = self.op("Log", "prior", &[&inputs.weights]);
        let logits = self.op("Sub", "logits", &[&prior, &scaled]);
        let second = self.b.list(&[1]);
        let largest = self.b.named_node("ReduceMax", "largest", &[&logits, &second], vec![]);
        let shifted = self.op("Sub", "shifted", &[&logits, &largest]);
        let powers = self.op("Exp", "powers", &[&shifted]);
        let total = self.b.named_node("ReduceSum", "total", &[&powers, &second], vec![]);
        let logarithm = self.op("Log", "logarithm", &[&total]);
        let raised = self.op("Add", "log_sum", &[&largest, &logarithm]);
        let scaled = self.op("Mul", "scaled_log_sum", &[&temperature, &raised]);
        let negated = self.op("Neg", "soft_minimum", &[&scaled]);
        let loss = self.b.named_node("Squeeze", "loss", &[&negated, &second], vec![]);
        let shares = self.op("Div", "shares", &[&powers, &total]);
        let two = self.b.scalar(2.0);
        let slopes = self.op("Mul", "slopes", &[&shares, &two]);
        (loss, self.pull(&slopes, &difference))
    }

    /// `[n, N]`: `‖g‖² − 2 e·g`, which orders the gallery as the distance does, and the row `mark` of the marks.
    fn scores(&mut self) -> String {
        let norms = self.mark(2);
        let gallery = self.inputs.gallery.clone().unwrap_or_default();
        let product = vec![AttributeProto::float("alpha", -2.0), AttributeProto::int("transB", 1)];
        self.b.named_node("Gemm", "scores", &[self.embedding, &gallery, &norms], product)
    }

    /// One row of the gallery's marks, `[N]`.
    fn mark(&mut self, row: i64) -> String {
        let marks = self.inputs.gallery_marks.clone().unwrap_or_default();
        let index = self.b.constant_i64("mark", &[], &[row]);
        self.b.named_node("Gather", "marks", &[&marks, &index], vec![AttributeProto::int("axis", 0)])
    }

    /// 0 where column `column` of the table equals the mark, 1 where it differs (both are whole numbers), `[n, N]`.
    fn differs(&mut self, column: i64, mark: i64) -> String {
        let table = self.inputs.table.clone().unwrap_or_default();
        let index = self.b.list(&[column]);
        let own = self.b.named_node("Gather", "own", &[&table, &index], vec![AttributeProto::int("axis", 1)]);
        let marks = self.mark(mark);
        let gap = self.op("Sub", "gap", &[&own, &marks]);
        let size = self.op("Abs", "gap_size", &[&gap]);
        let one = self.b.scalar(1.0);
        self.op("Min", "differs", &[&size, &one])
    }

    fn margin(&mut self, distance: LossDistance, other: Reach, items: usize, clamped: bool) -> (String, String) {
        let scores = self.scores();
        let (another_class, another_place) = (self.differs(0, 0), self.differs(1, 1));
        let one = self.b.scalar(1.0);
        let same_class = self.op("Sub", "same_class", &[&one, &another_class]);
        let same = self.op("Mul", "same", &[&same_class, &another_place]);
        let (pulled, pulled_weights) = self.choose(&scores, &another_class, other, items, 1.0);
        let (pushed, pushed_weights) = self.choose(&scores, &same, Reach::Nearest, items, -1.0);
        let second = || vec![AttributeProto::int("axis", 1)];
        let targets = self.b.named_node("Concat", "chosen", &[&pulled, &pushed], second());
        let weights = self.b.named_node("Concat", "chosen_weights", &[&pulled_weights, &pushed_weights], second());
        let (loss, seed) = self.weighted(distance, &targets, &weights);
        if !clamped {
            return (loss, seed);
        }
        let loss = self.op("Relu", "clamped_loss", &[&loss]);
        let active = self.op("Sign", "active", &[&loss]);
        let active = self.unsqueeze("active_column", &active, 1);
        (loss, self.op("Mul", "clamped_grad", &[&active, &seed]))
    }

    /// The `items` nearest (farthest) gallery items among those marked 1, `[n, items, d]`, and the weight of each,
    /// `total / found`, 0 where there are fewer.
    fn choose(&mut self, scores: &str, marked: &str, reach: Reach, items: usize, total: f32) -> (String, String) {
        let (beyond, largest) = match reach {
            Reach::Nearest => (BEYOND, 0),
            Reach::Farthest => (-BEYOND, 1),
        };
        let (one, beyond) = (self.b.scalar(1.0), self.b.scalar(beyond));
        let unmarked = self.op("Sub", "unmarked", &[&one, marked]);
        let penalty = self.op("Mul", "penalty", &[&unmarked, &beyond]);
        let open = self.op("Add", "open_scores", &[scores, &penalty]);
        let count = self.b.list(&[items as i64]);
        let (values, places) = (self.b.unique("best_scores"), self.b.unique("best_places"));
        let attributes = vec![AttributeProto::int("axis", 1), AttributeProto::int("largest", largest)];
        self.b.push("TopK", &[&open, &count], &[&values, &places], attributes);
        let gallery = self.inputs.gallery.clone().unwrap_or_default();
        let rows = self.b.named_node("Gather", "rows", &[&gallery, &places], vec![AttributeProto::int("axis", 0)]);
        // 1 where the score is a score.
        let size = self.op("Abs", "score_size", &[&values]);
        let limit = self.b.scalar(BEYOND / 2.0);
        let below = self.op("Sub", "below", &[&limit, &size]);
        let (zero, one) = (self.b.scalar(0.0), self.b.scalar(1.0));
        let found = self.op("Clip", "found", &[&below, &zero, &one]);
        let second = self.b.list(&[1]);
        let sum = self.b.named_node("ReduceSum", "found_sum", &[&found, &second], vec![]);
        let divisor = self.op("Max", "found_or_one", &[&sum, &one]);
        let share = self.op("Div", "found_share", &[&found, &divisor]);
        let total = self.b.scalar(total);
        (rows, self.op("Mul", "found_weights", &[&share, &total]))
    }

    /// `w_t · (‖e − r_t‖ − levels)`, cut at 0: the loss, the share of levels below each target times its weight
    /// (`[n, T]`), and which are below (`[n, T, rows]`).
    fn hinge(&mut self, root: &str, levels: &str) -> (String, String, String) {
        let inputs = self.inputs;
        let column = self.unsqueeze("distance_column", root, 2);
        let gaps = self.op("Sub", "gaps", &[&column, levels]);
        let weights = self.unsqueeze("weights_column", &inputs.weights, 2);
        let signed = self.op("Mul", "signed_gaps", &[&weights, &gaps]);
        let hinged = self.op("Relu", "hinged", &[&signed]);
        let means = self.sum("ReduceMean", "hinge_means", &hinged, 2);
        let loss = self.sum("ReduceSum", "loss", &means, 1);
        let active = self.op("Sign", "active", &[&hinged]);
        let shares = self.sum("ReduceMean", "active_share", &active, 2);
        let shares = self.op("Mul", "active_weight", &[&shares, &inputs.weights]);
        let below = self.op("Mul", "active_weights", &[&active, &weights]);
        (loss, shares, below)
    }

    fn fixed_hinge(&mut self) -> (String, String) {
        let inputs = self.inputs;
        let Seen { difference, squared } = self.see(&inputs.targets);
        let (root, floored) = self.root(&squared);
        let levels = inputs.table.clone().unwrap_or_default();
        let (loss, shares, _) = self.hinge(&root, &levels);
        let slopes = self.op("Div", "slopes", &[&shares, &floored]);
        (loss, self.pull(&slopes, &difference))
    }

    fn gallery_hinge(&mut self) -> (String, String) {
        let inputs = self.inputs;
        let embedding = self.embedding;
        let Seen { difference, squared } = self.see(&inputs.targets);
        let (root, floored) = self.root(&squared);
        let scores = self.scores();
        let squares = self.op("Mul", "squares", &[embedding, embedding]);
        let second = self.b.list(&[1]);
        let norm = self.b.named_node("ReduceSum", "norm_squared", &[&squares, &second], vec![]);
        let apart = self.op("Add", "gallery_squared", &[&scores, &norm]);
        let floor = self.b.scalar(NEAR_SQUARED);
        let apart = self.op("Max", "gallery_squared_floored", &[&apart, &floor]);
        let apart = self.op("Sqrt", "gallery_distance", &[&apart]);
        let levels = self.unsqueeze("gallery_row", &apart, 1);
        let (loss, shares, below) = self.hinge(&root, &levels);
        let slopes = self.op("Div", "slopes", &[&shares, &floored]);
        let toward_targets = self.pull(&slopes, &difference);
        // − Σ_g c_g (e − g), with c_g = Σ_t w_t [active] / (N · ‖e − g‖).
        let total = self.sum("ReduceSum", "gallery_weight", &below, 1);
        let share = self.mark(3);
        let total = self.op("Mul", "gallery_share", &[&total, &share]);
        let slopes = self.op("Div", "gallery_slopes", &[&total, &apart]);
        let gallery = inputs.gallery.clone().unwrap_or_default();
        let mixed = self.op("MatMul", "gallery_mixed", &[&slopes, &gallery]);
        let along = self.b.named_node("ReduceSum", "gallery_slope", &[&slopes, &second], vec![]);
        let along = self.op("Mul", "gallery_along", &[&along, embedding]);
        let away = self.op("Sub", "gallery_pull", &[&along, &mixed]);
        (loss, self.op("Sub", "grad_embedding", &[&toward_targets, &away]))
    }
}

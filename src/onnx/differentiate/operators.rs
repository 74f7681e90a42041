//! The table of operators in the documentation, made from the rules themselves.

use std::fmt::Write as _;

use super::{CONTRIBUTED, FAMILIES, contributed, straight};
use crate::onnx::graph::OPSET;
use crate::onnx::opset::FUSED;

/// What a user should know about an operator: what is refused, and what counts as the gradient where there is none or
/// there are several.
const NOTES: &[(&str, &str)] = &[
    ("Abs", "0 at 0"),
    ("Attention", "caches, softcap, grouped heads and a mask that depends on the image are refused"),
    ("BatchNormalization", "at inference; behind a `Conv` its factor moves into the weights of the backward pass"),
    ("Cast", "between float types; to integers or truth values only as an estimate, see below"),
    (
        "Clip",
        "1 on the bounds (PyTorch's `clamp`), 0 on them for the bounds 0 and 6 (its `relu6`); bounds that depend on the image are refused",
    ),
    ("Conv", "1-D to 3-D, any geometry; weights that depend on the image are refused"),
    ("ConvTranspose", "weights that depend on the image are refused"),
    ("Dropout", "at inference"),
    ("Einsum", "any number of operands, ellipsis; an index twice in one term is refused"),
    ("Elu", "`alpha` ≥ 0"),
    ("Gelu", "exact and `tanh`"),
    ("Gemm", "both matrices and the bias may depend on the image"),
    ("GroupNormalization", "scales per group (set 18) and per channel (set 21)"),
    ("HardSigmoid", "0 on the bounds"),
    ("HardSwish", "0 and 1 at −3 and 3"),
    ("LRN", "ONNX Runtime runs odd sizes only"),
    ("LayerNormalization", "scale and bias must not depend on the image"),
    ("LeakyRelu", "`alpha` at 0"),
    ("Log", "infinite at 0"),
    ("LpNormalization", "p 1 and 2; at 0 the norm counts as 1e-12"),
    ("MatMul", "batches that broadcast, vectors; both operands may depend on the image"),
    ("Max", "equal parts to all that are largest"),
    ("MaxPool", "to the first of equal entries; `storage_order` 1 is refused"),
    ("MeanVarianceNormalization", "over the batch axis refused: one image's embedding would depend on the others"),
    ("Min", "equal parts to all that are smallest"),
    ("PRelu", "the slope at 0"),
    ("Pow", "infinite at 0 for exponents below 1; an exponent that depends on the image has gradient 0 at the base 0"),
    ("ReduceL1", "0 at 0"),
    ("ReduceL2", "0 at 0"),
    ("ReduceMax", "equal parts to all that are largest"),
    ("ReduceMin", "equal parts to all that are smallest"),
    ("ReduceProd", "exact with zeros"),
    ("Relu", "0 at 0"),
    ("ScatterElements", "reduction none and add"),
    ("ScatterND", "reduction none and add"),
    ("Selu", "`alpha` ≥ 0, `gamma` > 0"),
    ("Shrink", "0 at the thresholds"),
    ("Softmax", "the older meaning over several axes (before set 13) too"),
    ("LogSoftmax", "the older meaning over several axes (before set 13) too"),
    ("Sqrt", "at 0 the root counts as 1.1e-19, so that a norm made of squares has gradient 0"),
    ("ThresholdedRelu", "0 at the threshold"),
    ("Where", "the condition carries no gradient"),
    ("com.microsoft.FusedMatMul", "`transBatchA` and `transBatchB` are refused"),
    ("com.microsoft.SkipLayerNormalization", "its sum may be used too, its mean and deviation not"),
    ("com.microsoft.SkipSimplifiedLayerNormalization", "its sum may be used too, its deviation not"),
];

/// What an estimate takes an operator for.
const ESTIMATES: &[(&str, &str)] = &[
    ("Ceil", "the identity"),
    ("DequantizeLinear", "its scale"),
    ("Floor", "the identity"),
    ("QuantizeLinear", "division by its scale, 0 beyond the range of the integers; int8 and uint8"),
    ("Round", "the identity"),
    ("Sign", "the identity"),
];

/// `docs/operators.md`.
pub fn operators_markdown() -> String {
    let mut text = format!(
        "# Operators\n\n\
         Written by `mdprop operators > docs/operators.md`; a test keeps it equal to the code.\n\n\
         What an encoder may be made of so that it can be attacked through its gradient. Operators whose result does not\n\
         depend on the image need no rule: shape arithmetic, constants and anything made of them may be of any kind.\n\
         An operator without a rule, or a use of one that its rule does not cover, is an error that names the node;\n\
         attacks without gradients remain. Files of older operator sets are lifted to set {OPSET} first.\n\n\
         At kinks and ties the gradient is PyTorch's.\n\n\
         ## With a gradient\n\n| Operator | Notes |\n|---|---|\n"
    );
    let mut onnx: Vec<&str> = FAMILIES.iter().flat_map(|rules| rules.iter()).map(|(op, _)| *op).collect();
    onnx.sort_unstable();
    rows(&mut text, onnx.iter().map(|op| op.to_string()), NOTES);
    let _ = write!(
        text,
        "\nOperators of ONNX Runtime, from exports that it optimised:\n\n| Operator | Notes |\n|---|---|\n"
    );
    rows(&mut text, contributed::RULES.iter().map(|(op, _)| format!("{CONTRIBUTED}.{op}")), NOTES);
    for (fused, part) in FUSED {
        let _ = writeln!(text, "| {CONTRIBUTED}.{fused} | taken apart: `{part}`, sum, activation |");
    }
    text.push_str(
        "\n## Without a gradient: straight-through estimates\n\n\
         These are constant almost everywhere, and an error by default. With `straight_through = true` an estimate takes\n\
         their place, the nodes are listed, and every number is marked: what is measured then is an attack that follows\n\
         an estimate, which may be weaker than one that follows a gradient.\n\n\
         | Operator | Counts as |\n|---|---|\n",
    );
    for (op, _) in straight::RULES {
        let note = ESTIMATES.iter().find(|(name, _)| name == op).map_or("a constant", |(_, note)| *note);
        let _ = writeln!(text, "| {op} | {note} |");
    }
    text.push_str("| Cast to integers | the identity |\n");
    text
}

fn rows(text: &mut String, ops: impl Iterator<Item = String>, notes: &[(&str, &str)]) {
    for op in ops {
        let note = notes.iter().find(|(name, _)| *name == op).map_or("", |(_, note)| *note);
        let _ = writeln!(text, "| {op} | {note} |");
    }
}

#[cfg(test)]
mod tests {
    use super::super::supported_ops;
    use super::*;

    #[test]
    fn the_documentation_lists_what_the_code_supports() {
        let stored = include_str!("../../../docs/operators.md");
        assert!(stored == operators_markdown(), "docs/operators.md is old; run: mdprop operators > docs/operators.md");
    }

    #[test]
    fn every_note_is_about_an_operator_with_a_rule() {
        let supported = supported_ops();
        let unknown: Vec<_> = NOTES.iter().filter(|(op, _)| !supported.iter().any(|s| s == op)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        let unknown: Vec<_> =
            ESTIMATES.iter().filter(|(op, _)| !straight::RULES.iter().any(|(s, _)| s == op)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}

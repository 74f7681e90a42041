//! `Attention`: the queries' tokens, the values' width.

use super::Inputs;
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;

pub(super) fn shape(inputs: &Inputs<'_>) -> Result<Option<Vec<Dim>>, OnnxError> {
    if inputs.node.op_type != "Attention" || !inputs.node.is_onnx() {
        return Ok(None);
    }
    let (Some(query), Some(value)) = (inputs.shape(0), inputs.shape(2)) else { return Ok(None) };
    let heads = |name: &str| usize::try_from(inputs.node.int(name, 0)).ok().filter(|h| *h > 0);
    Ok(match (query, value) {
        ([n, heads, tokens, _], [_, _, _, size]) => Some(vec![n.clone(), heads.clone(), tokens.clone(), size.clone()]),
        ([n, tokens, _], [_, _, width]) => {
            let width =
                width.fixed().zip(heads("kv_num_heads")).zip(heads("q_num_heads")).map(|((w, kv), q)| w / kv * q);
            width.map(|w| vec![n.clone(), tokens.clone(), Dim::Fixed(w)])
        }
        _ => return Err(inputs.fail("wanted [n, heads, tokens, size] or [n, tokens, heads · size]")),
    })
}

//! `Attention`, token by token.

use super::{Call, Tensor};
use crate::onnx::file::OnnxError;
use crate::onnx::proto::data_type;

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Tensor>, OnnxError> {
    if call.node.op_type != "Attention" || !call.node.is_onnx() {
        return Ok(None);
    }
    let [q, k, v] = [call.input(0)?, call.input(1)?, call.input(2)?];
    let heads = |x: &Tensor, attribute: &str| match x.shape[..] {
        [n, heads, tokens, size] => Ok([n, heads, tokens, size]),
        [n, tokens, width] => {
            let heads = usize::try_from(call.node.int(attribute, 1)).unwrap_or(1).max(1);
            Ok([n, heads, tokens, width / heads])
        }
        _ => Err(call.fail(format!("got shape {:?}, wanted three or four axes", x.shape))),
    };
    let [n, count, rows, size] = heads(q, "q_num_heads")?;
    let [_, shared, columns, _] = heads(k, "kv_num_heads")?;
    let [.., width] = heads(v, "kv_num_heads")?;
    if (4..7).any(|i| call.optional(i).is_some()) || shared == 0 || count % shared != 0 {
        return Err(call.fail("caches are not implemented"));
    }
    let at = |x: &Tensor, [heads, tokens, size]: [usize; 3], [image, head, token, i]: [usize; 4]| match x.shape.len() {
        4 => ((image * heads + head) * tokens + token) * size + i,
        _ => ((image * tokens + token) * heads + head) * size + i,
    };
    let scale = call.node.attribute("scale").and_then(|a| a.f).map_or(1.0 / (size as f64).sqrt(), f64::from);
    let mask = call.optional(3).map(|m| m.expand(&[n, count, rows, columns]));
    let mask = mask.map(|m| m.ok_or_else(|| call.fail("the mask does not broadcast"))).transpose()?;
    let is_bool = call.types.get(3) == Some(&data_type::BOOL);

    let shape = if q.shape.len() == 4 { vec![n, count, rows, width] } else { vec![n, rows, count * width] };
    let mut y = Tensor::zeros(&shape);
    for (image, head, row) in (0..n * count * rows).map(|i| (i / count / rows, i / rows % count, i % rows)) {
        let group = head / (count / shared);
        let score = |column: usize| {
            let products = (0..size).map(|i| {
                q.data[at(q, [count, rows, size], [image, head, row, i])]
                    * k.data[at(k, [shared, columns, size], [image, group, column, i])]
            });
            let own = products.sum::<f64>() * scale;
            let masked = mask.as_ref().map(|m| m.data[((image * count + head) * rows + row) * columns + column]);
            match masked {
                _ if call.node.int("is_causal", 0) != 0 && column > row => f64::NEG_INFINITY,
                Some(m) if is_bool => {
                    if m == 0.0 {
                        f64::NEG_INFINITY
                    } else {
                        own
                    }
                }
                Some(m) => own + m,
                None => own,
            }
        };
        let scores: Vec<f64> = (0..columns).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        for i in 0..width {
            let values =
                (0..columns).map(|c| weights[c] * v.data[at(v, [shared, columns, width], [image, group, c, i])]);
            let to = at(&y, [count, rows, width], [image, head, row, i]);
            y.data[to] = values.sum::<f64>() / total;
        }
    }
    Ok(Some(y))
}

//! Convolutions and poolings, two spatial axes only.

use super::{Call, Tensor};
use crate::onnx::file::OnnxError;
use crate::onnx::window::Window;

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Vec<Tensor>>, OnnxError> {
    Ok(Some(match call.node.op_type.as_str() {
        "Conv" => vec![conv(call)?],
        "ConvTranspose" => vec![conv_transpose(call)?],
        "MaxPool" => max_pool(call)?,
        "AveragePool" => vec![average_pool(call)?],
        "GlobalAveragePool" => {
            let x = call.input(0)?;
            let plane: usize = x.shape[2..].iter().product();
            let data = x.data.chunks(plane).map(|p| p.iter().sum::<f64>() / plane as f64).collect();
            let shape = x.shape.iter().enumerate().map(|(a, d)| if a < 2 { *d } else { 1 }).collect();
            vec![Tensor { shape, data }]
        }
        _ => return Ok(None),
    }))
}

fn planes<'a>(call: &Call<'a>) -> Result<(&'a Tensor, [usize; 4]), OnnxError> {
    let x = call.input(0)?;
    let shape = <[usize; 4]>::try_from(x.shape.clone());
    shape.map(|s| (x, s)).map_err(|_| call.fail(format!("got shape {:?}, wanted [n, c, h, w]", x.shape)))
}

/// Every input position `(y, x)` that window `(oy, ox)` sees inside the image, with its kernel position.
fn seen(w: &Window, oy: usize, ox: usize) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
    let inside = |axis: usize, o: usize, k: usize| {
        (o * w.strides[axis] + k * w.dilations[axis]).checked_sub(w.pads_begin[axis]).filter(|p| *p < w.input[axis])
    };
    (0..w.kernel[0] * w.kernel[1])
        .filter_map(move |k| Some((inside(0, oy, k / w.kernel[1])?, inside(1, ox, k % w.kernel[1])?, k)))
}

fn conv(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (x, [n, c, h, width]) = planes(call)?;
    let weight = call.input(1)?;
    let w = Window::of(call.node, &[h, width], &weight.shape[2..])?;
    let (m, group) = (weight.shape[0], call.node.int("group", 1) as usize);
    let (c_group, m_group, k_size) = (c / group, m / group, w.kernel[0] * w.kernel[1]);
    let [oh, ow] = [w.output[0], w.output[1]];
    let mut y = Tensor::zeros(&[n, m, oh, ow]);
    for (at, value) in y.data.iter_mut().enumerate() {
        let (image, o, oy, ox) = (at / (m * oh * ow), at / (oh * ow) % m, at / ow % oh, at % ow);
        let mut sum = call.optional(2).map_or(0.0, |b| b.data[o]);
        for (iy, ix, k) in seen(&w, oy, ox) {
            for i in 0..c_group {
                let channel = o / m_group * c_group + i;
                sum +=
                    x.data[((image * c + channel) * h + iy) * width + ix] * weight.data[(o * c_group + i) * k_size + k];
            }
        }
        *value = sum;
    }
    Ok(y)
}

/// By its definition: every input entry adds the kernel, scaled, to the output.
fn conv_transpose(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (x, [n, c, h, width]) = planes(call)?;
    let weight = call.input(1)?;
    let group = call.node.int("group", 1) as usize;
    let [m_group, kh, kw] = [weight.shape[1], weight.shape[2], weight.shape[3]];
    let pair = |name: &str, default: i64| call.node.ints(name).map_or(vec![default; 2], <[i64]>::to_vec);
    let (strides, dilations, extra) = (pair("strides", 1), pair("dilations", 1), pair("output_padding", 0));
    let pads = call.node.ints("pads").map_or(vec![0; 4], <[i64]>::to_vec);
    let size = |axis: usize, input: usize, kernel: usize| {
        (input as i64 - 1) * strides[axis] + dilations[axis] * (kernel as i64 - 1) + 1 + extra[axis]
            - pads[axis]
            - pads[axis + 2]
    };
    let (oh, ow, m) = (size(0, h, kh), size(1, width, kw), m_group * group);
    let mut y = Tensor::zeros(&[n, m, oh as usize, ow as usize]);
    for (at, value) in x.data.iter().enumerate() {
        let (image, i, iy, ix) = (at / (c * h * width), at / (h * width) % c, at / width % h, at % width);
        for o in 0..m_group {
            for k in 0..kh * kw {
                let oy = iy as i64 * strides[0] + (k / kw) as i64 * dilations[0] - pads[0];
                let ox = ix as i64 * strides[1] + (k % kw) as i64 * dilations[1] - pads[1];
                if (0..oh).contains(&oy) && (0..ow).contains(&ox) {
                    let channel = i / (c / group) * m_group + o;
                    let to = (((image * m + channel) as i64 * oh + oy) * ow + ox) as usize;
                    y.data[to] += value * weight.data[(i * m_group + o) * kh * kw + k];
                }
            }
        }
    }
    Ok(y)
}

fn pool_window(call: &Call<'_>, h: usize, width: usize) -> Result<Window, OnnxError> {
    let kernel = call.node.ints("kernel_shape").ok_or_else(|| call.fail("kernel_shape is missing"))?;
    let kernel: Vec<usize> = kernel.iter().map(|k| *k as usize).collect();
    Window::of(call.node, &[h, width], &kernel)
}

fn max_pool(call: &Call<'_>) -> Result<Vec<Tensor>, OnnxError> {
    let (x, [n, c, h, width]) = planes(call)?;
    let w = pool_window(call, h, width)?;
    let mut y = Tensor::zeros(&[n, c, w.output[0], w.output[1]]);
    let mut positions = y.clone();
    for at in 0..y.data.len() {
        let (plane, oy, ox) = (at / (w.output[0] * w.output[1]), at / w.output[1] % w.output[0], at % w.output[1]);
        let mut best = f64::NEG_INFINITY;
        for (iy, ix, _) in seen(&w, oy, ox) {
            let from = (plane * h + iy) * width + ix;
            if x.data[from] > best {
                best = x.data[from];
                positions.data[at] = from as f64;
            }
        }
        y.data[at] = best;
    }
    Ok(vec![y, positions])
}

fn average_pool(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let (x, [n, c, h, width]) = planes(call)?;
    let w = pool_window(call, h, width)?;
    let padded = call.node.int("count_include_pad", 0) != 0;
    let mut y = Tensor::zeros(&[n, c, w.output[0], w.output[1]]);
    for at in 0..y.data.len() {
        let (plane, oy, ox) = (at / (w.output[0] * w.output[1]), at / w.output[1] % w.output[0], at % w.output[1]);
        let entries: Vec<f64> = seen(&w, oy, ox).map(|(iy, ix, _)| x.data[(plane * h + iy) * width + ix]).collect();
        let reach = |axis: usize, o: usize| {
            let end = w.pads_begin[axis] + w.input[axis] + w.pads_end[axis];
            (0..w.kernel[axis]).filter(|k| o * w.strides[axis] + k * w.dilations[axis] < end).count()
        };
        let count = if padded { reach(0, oy) * reach(1, ox) } else { entries.len() };
        y.data[at] = entries.iter().sum::<f64>() / count as f64;
    }
    Ok(y)
}

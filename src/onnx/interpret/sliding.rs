//! Convolutions and poolings over any number of spatial axes.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, s};

use super::{Call, Tensor};
use crate::onnx::file::OnnxError;
use crate::onnx::window::Window;

pub(super) fn visit(call: &Call<'_>) -> Result<Option<Vec<Tensor>>, OnnxError> {
    Ok(Some(match call.node.op_type.as_str() {
        "Conv" => vec![conv(call)?],
        "ConvTranspose" => vec![conv_transpose(call)?],
        "MaxPool" => max_pool(call)?,
        "AveragePool" => vec![average_pool(call)?],
        "LpPool" => vec![lp_pool(call)?],
        "GlobalAveragePool" => vec![global(call, |plane| plane.iter().sum::<f64>() / plane.len() as f64)?],
        "GlobalMaxPool" => vec![global(call, |plane| plane.iter().copied().fold(f64::NEG_INFINITY, f64::max))?],
        "GlobalLpPool" => {
            let p = call.node.int("p", 2) as f64;
            vec![global(call, |plane| norm(plane.iter().copied(), p))?]
        }
        _ => return Ok(None),
    }))
}

/// The image of a node, `[n, c, ...]`.
struct Image<'a> {
    x: &'a Tensor,
    n: usize,
    c: usize,
    spatial: &'a [usize],
    /// Entries of one channel.
    plane: usize,
}

impl<'a> Image<'a> {
    fn of(call: &Call<'a>) -> Result<Self, OnnxError> {
        let x = call.input(0)?;
        match &x.shape[..] {
            [n, c, spatial @ ..] if !x.data.is_empty() => {
                Ok(Self { x, n: *n, c: *c, spatial, plane: spatial.iter().product() })
            }
            shape => Err(call.fail(format!("got shape {shape:?}, wanted [n, c, ...] without empty axes"))),
        }
    }

    fn pool_window(&self, call: &Call<'_>) -> Result<Window, OnnxError> {
        let kernel = call.node.ints("kernel_shape").ok_or_else(|| call.fail("kernel_shape is missing"))?;
        let kernel: Vec<usize> = kernel.iter().map(|k| usize::try_from(*k).unwrap_or(0)).collect();
        Window::of(call.node, self.spatial, &kernel)
    }

    /// For every channel and every window: the entries seen, with their positions in the whole tensor.
    fn pooled(&self, window: &Window, mut pool: impl FnMut(usize, &[(usize, f64)])) {
        let seen = seen(window);
        for channel in 0..self.n * self.c {
            for (o, positions) in seen.iter().enumerate() {
                let entry = |(i, _): &(usize, usize)| (channel * self.plane + i, self.x.data[channel * self.plane + i]);
                let entries: Vec<(usize, f64)> = positions.iter().map(entry).collect();
                pool(channel * seen.len() + o, &entries);
            }
        }
    }

    fn output(&self, channels: usize, spatial: &[usize]) -> Tensor {
        Tensor::zeros(&[&[self.n, channels], spatial].concat())
    }
}

/// For each window, in row-major order: position in the input plane and position in the kernel of every entry that it
/// sees inside the image, in row-major order too.
fn seen(w: &Window) -> Vec<Vec<(usize, usize)>> {
    let rank = w.kernel.len();
    let split = |mut flat: usize, sizes: &[usize]| {
        let mut index = vec![0; rank];
        for axis in (0..rank).rev() {
            index[axis] = flat % sizes[axis];
            flat /= sizes[axis];
        }
        index
    };
    let inside = |axis: usize, o: usize, k: usize| {
        (o * w.strides[axis] + k * w.dilations[axis]).checked_sub(w.pads_begin[axis]).filter(|p| *p < w.input[axis])
    };
    let kernels: Vec<Vec<usize>> = (0..w.kernel.iter().product()).map(|k| split(k, &w.kernel)).collect();
    let window = |o: usize| {
        let out = split(o, &w.output);
        let position = |k: &Vec<usize>| (0..rank).try_fold(0, |at, a| Some(at * w.input[a] + inside(a, out[a], k[a])?));
        kernels.iter().enumerate().filter_map(|(flat, k)| Some((position(k)?, flat))).collect()
    };
    (0..w.output.iter().product()).map(window).collect()
}

fn group_of(call: &Call<'_>) -> usize {
    usize::try_from(call.node.int("group", 1)).unwrap_or(1).max(1)
}

fn weights<'a>(call: &Call<'a>, image: &Image<'_>) -> Result<&'a Tensor, OnnxError> {
    let weight = call.input(1)?;
    if weight.shape.len() != image.spatial.len() + 2 || weight.data.is_empty() {
        return Err(call.fail(format!("weights of shape {:?} for {:?}", weight.shape, image.x.shape)));
    }
    Ok(weight)
}

/// Entries that a tile of windows lays out for the product.
const TILE: usize = 1 << 20;
/// No entry of the image.
const OUTSIDE: usize = usize::MAX;

/// Kernels times what their windows see, one product for each image, group and tile of windows.
pub(super) fn conv(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let image = Image::of(call)?;
    let weight = weights(call, &image)?;
    let w = Window::of(call.node, image.spatial, &weight.shape[2..])?;
    let (m, group, size) = (weight.shape[0], group_of(call), w.kernel.iter().product::<usize>());
    let (c_group, m_group) = (image.c / group, m / group);
    if weight.shape[1] != c_group || m_group == 0 {
        return Err(call.fail(format!("weights of shape {:?} for {:?}", weight.shape, image.x.shape)));
    }
    let misfit = |e: ndarray::ShapeError| call.fail(format!("convolution: {e}"));
    let (inner, windows) = (c_group * size, w.output.iter().product::<usize>());
    let mut y = image.output(m, &w.output);
    if let Some(bias) = call.optional(2) {
        y.data.iter_mut().enumerate().for_each(|(at, v)| *v = bias.data[at / windows % m]);
    }
    // For each entry of the kernel, what every window sees there.
    let mut places = vec![OUTSIDE; size * windows];
    for (o, positions) in seen(&w).into_iter().enumerate() {
        positions.into_iter().for_each(|(position, k)| places[k * windows + o] = position);
    }
    let tile = (TILE / inner.max(1)).clamp(64, windows.max(64));
    let mut patches = Vec::new();
    let groups = weight.data.chunks(m_group * inner).enumerate().collect::<Vec<_>>();
    for (n, (g, kernels)) in (0..image.n).flat_map(|n| groups.iter().map(move |group| (n, *group))) {
        let planes = &image.x.data[(n * image.c + g * c_group) * image.plane..][..c_group * image.plane];
        let kernels = ArrayView2::from_shape((m_group, inner), kernels).map_err(misfit)?;
        let own = &mut y.data[(n * m + g * m_group) * windows..][..m_group * windows];
        let mut own = ArrayViewMut2::from_shape((m_group, windows), own).map_err(misfit)?;
        for from in (0..windows).step_by(tile) {
            let to = windows.min(from + tile);
            patches.clear();
            for plane in planes.chunks(image.plane) {
                for places in places.chunks(windows) {
                    patches.extend(places[from..to].iter().map(|at| plane.get(*at).copied().unwrap_or(0.0)));
                }
            }
            let patches = ArrayView2::from_shape((inner, to - from), &patches).map_err(misfit)?;
            general_mat_mul(1.0, &kernels, &patches, 1.0, &mut own.slice_mut(s![.., from..to]));
        }
    }
    Ok(y)
}

/// By its definition: every input entry adds the kernel, scaled, to the output.
fn conv_transpose(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let image = Image::of(call)?;
    let weight = weights(call, &image)?;
    let w = Window::transposed(call.node, image.spatial, &weight.shape[2..])?;
    let (m_group, group, size) = (weight.shape[1], group_of(call), w.kernel.iter().product::<usize>());
    let (m, c_group) = (m_group * group, image.c / group);
    if weight.shape[0] != image.c || c_group == 0 {
        return Err(call.fail(format!("weights of shape {:?} for {:?}", weight.shape, image.x.shape)));
    }
    let (seen, out_plane) = (seen(&w), w.input.iter().product::<usize>());
    let mut y = image.output(m, &w.input);
    if let Some(bias) = call.optional(2) {
        y.data.iter_mut().enumerate().for_each(|(at, v)| *v = bias.data[at / out_plane % m]);
    }
    for (at, value) in image.x.data.iter().enumerate() {
        let (n, i, positions) = (at / (image.c * image.plane), at / image.plane % image.c, &seen[at % image.plane]);
        for o in 0..m_group {
            let channel = n * m + i / c_group * m_group + o;
            for (position, k) in positions {
                y.data[channel * out_plane + position] += value * weight.data[(i * m_group + o) * size + k];
            }
        }
    }
    Ok(y)
}

/// Of equal entries the first one counts.
fn max_pool(call: &Call<'_>) -> Result<Vec<Tensor>, OnnxError> {
    let image = Image::of(call)?;
    let w = image.pool_window(call)?;
    let mut y = image.output(image.c, &w.output);
    let mut positions = y.clone();
    image.pooled(&w, |at, entries| {
        let mut best = (0, f64::NEG_INFINITY);
        entries.iter().filter(|(_, v)| !v.is_nan()).for_each(|e| best = if e.1 > best.1 { *e } else { best });
        (positions.data[at], y.data[at]) = (best.0 as f64, best.1);
    });
    Ok(vec![y, positions])
}

fn average_pool(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let image = Image::of(call)?;
    let w = image.pool_window(call)?;
    let padded = call.node.int("count_include_pad", 0) != 0;
    let mut y = image.output(image.c, &w.output);
    let reach = |axis: usize, o: usize| {
        let end = w.pads_begin[axis] + w.input[axis] + w.pads_end[axis];
        (0..w.kernel[axis]).filter(|k| o * w.strides[axis] + k * w.dilations[axis] < end).count()
    };
    let windows: usize = w.output.iter().product();
    image.pooled(&w, |at, entries| {
        let mut flat = at % windows;
        let mut count = 1;
        for axis in (0..w.output.len()).rev() {
            count *= reach(axis, flat % w.output[axis]);
            flat /= w.output[axis];
        }
        let count = if padded { count } else { entries.len() };
        y.data[at] = entries.iter().map(|(_, v)| v).sum::<f64>() / count as f64;
    });
    Ok(y)
}

fn lp_pool(call: &Call<'_>) -> Result<Tensor, OnnxError> {
    let image = Image::of(call)?;
    let w = image.pool_window(call)?;
    let p = call.node.int("p", 2) as f64;
    let mut y = image.output(image.c, &w.output);
    image.pooled(&w, |at, entries| y.data[at] = norm(entries.iter().map(|(_, v)| *v), p));
    Ok(y)
}

fn norm(values: impl Iterator<Item = f64>, p: f64) -> f64 {
    values.map(|v| v.abs().powf(p)).sum::<f64>().powf(1.0 / p)
}

fn global(call: &Call<'_>, pool: impl Fn(&[f64]) -> f64) -> Result<Tensor, OnnxError> {
    let image = Image::of(call)?;
    let ones = vec![1; image.spatial.len()];
    let mut y = image.output(image.c, &ones);
    y.data = image.x.data.chunks(image.plane).map(pool).collect();
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::fixtures::uniform;
    use crate::onnx::graph::{FLOAT, GraphBuilder};
    use crate::onnx::interpret::run;
    use crate::onnx::proto::AttributeProto;

    #[test]
    fn products_of_tiles_are_the_sums_of_the_definition() {
        // So many channels that a tile ends within the image.
        let (n, group, c, m, side) = (2, 2, 2400, 4, 12);
        let (x, w, b) = (
            uniform(1, n * c * side * side, -0.5, 0.5),
            uniform(2, m * c / group * 9, -0.5, 0.5),
            [0.25, -1.0, 2.0, 0.0],
        );
        let mut builder = GraphBuilder::new("conv");
        let image = builder.input("image", FLOAT, &[n.into(), c.into(), side.into(), side.into()]);
        let kernels = builder.constant("w", &[m, c / group, 3, 3], &w);
        let bias = builder.constant("b", &[m], &b);
        let geometry = vec![
            AttributeProto::int("group", group as i64),
            AttributeProto::ints("pads", &[2, 1, 0, 1]),
            AttributeProto::ints("strides", &[1, 1]),
            AttributeProto::ints("dilations", &[1, 2]),
        ];
        let y = builder.node("Conv", &[&image, &kernels, &bias], geometry);
        builder.output(&y, FLOAT, &[]);
        let values = run(&builder.finish(), &[("image", Tensor::from_f32(&[n, c, side, side], &x))]).unwrap();
        let y = &values[&y];
        let [height, width] = [side + 2 - 2, side + 2 - 4];
        assert_eq!(y.shape, [n, m, height, width]);
        for (at, value) in y.data.iter().enumerate() {
            let (image, o, row, column) =
                (at / (m * height * width), at / (height * width) % m, at / width % height, at % width);
            let mut sum = f64::from(b[o]);
            for i in 0..c / group {
                for (k, weight) in w[(o * (c / group) + i) * 9..][..9].iter().enumerate() {
                    let (top, left) = ((row + k / 3).checked_sub(2), (column + 2 * (k % 3)).checked_sub(1));
                    let (Some(top), Some(left)) = (top, left) else { continue };
                    if top < side && left < side {
                        let channel = image * c + o / (m / group) * (c / group) + i;
                        sum += f64::from(*weight) * f64::from(x[(channel * side + top) * side + left]);
                    }
                }
            }
            assert!((sum - value).abs() < 1e-9, "{at}: {value}, wanted {sum}");
        }
    }
}

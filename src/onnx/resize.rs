//! What a `Resize` node does to each axis: which input entries, with which weights, make an output entry.
//!
//! Resizing is linear and works axis by axis, so that one small matrix per axis describes it, forwards and backwards.
//! Coordinates are computed in float32, in the order of ONNX Runtime's CPU kernels, because rounding them decides which
//! neighbour is the nearest. Where the standard leaves a choice (borders of antialiasing), ONNX Runtime's is taken.

use super::access::Dim;
use super::file::OnnxError;
use super::proto::NodeProto;

/// One resized axis. An axis that stays as it is has none.
#[derive(Debug, Clone, PartialEq)]
pub struct ResizedAxis {
    /// Position of the axis.
    pub axis: usize,
    /// Entries before.
    pub input: usize,
    /// For each output entry, the input entries that it is made of and their weights.
    pub taps: Vec<Vec<(usize, f64)>>,
    /// Output entries that lie outside the region of interest and take `extrapolation_value`; they have no taps.
    pub outside: Vec<bool>,
}

/// The inputs of a `Resize` node, as far as they are given and constant.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Region of interest.
    pub roi: Option<Vec<f32>>,
    /// Factors.
    pub scales: Option<Vec<f32>>,
    /// Sizes.
    pub sizes: Option<Vec<Dim>>,
}

/// Size and factor of one axis after resizing.
struct Target {
    output: Dim,
    scale: f32,
}

fn fail(node: &NodeProto, reason: impl Into<String>) -> OnnxError {
    OnnxError::Node { node: node.label().into(), op: node.op_type.clone(), reason: reason.into() }
}

/// The axes that the node's inputs speak of: its attribute `axes`, or all.
fn axes(node: &NodeProto, rank: usize) -> Result<Vec<usize>, OnnxError> {
    let Some(axes) = node.ints("axes").filter(|a| !a.is_empty()) else { return Ok((0..rank).collect()) };
    let wrap = |a: &i64| usize::try_from(if *a < 0 { a + rank as i64 } else { *a }).ok().filter(|a| *a < rank);
    axes.iter().map(|a| wrap(a).ok_or_else(|| fail(node, format!("axis {a} of a value with {rank} axes")))).collect()
}

/// One target per axis of the input; absent if neither sizes nor scales are known.
fn targets(node: &NodeProto, shape: &[Dim], request: &Request) -> Result<Option<Vec<Target>>, OnnxError> {
    let axes = axes(node, shape.len())?;
    let mut result: Vec<Target> = shape.iter().map(|d| Target { output: d.clone(), scale: 1.0 }).collect();
    let wrong = |what: &str, n: usize| fail(node, format!("{n} {what} for {} axes", axes.len()));
    if let Some(scales) = request.scales.as_ref().filter(|s| !s.is_empty()) {
        if scales.len() != axes.len() {
            return Err(wrong("scales", scales.len()));
        }
        for (axis, scale) in axes.iter().zip(scales) {
            if !(scale.is_finite() && *scale > 0.0) {
                return Err(fail(node, format!("scale {scale}")));
            }
            result[*axis] = match &shape[*axis] {
                Dim::Fixed(n) => Target { output: Dim::Fixed((*n as f32 * scale) as usize), scale: *scale },
                symbol if *scale == 1.0 => Target { output: symbol.clone(), scale: 1.0 },
                symbol => return Err(fail(node, format!("axis {axis} of unknown size {symbol} is resized"))),
            };
        }
        return Ok(Some(result));
    }
    let Some(sizes) = request.sizes.as_ref().filter(|s| !s.is_empty()) else { return Ok(None) };
    if sizes.len() != axes.len() {
        return Err(wrong("sizes", sizes.len()));
    }
    let ratio = |axis: usize, size: &Dim| Some(size.fixed()? as f32 / shape[axis].fixed()? as f32);
    let policy = node.string("keep_aspect_ratio_policy", "stretch");
    let ratios = axes.iter().zip(sizes).map(|(a, s)| ratio(*a, s));
    let common = match policy.as_str() {
        "stretch" => None,
        "not_larger" => ratios.collect::<Option<Vec<f32>>>().and_then(|r| r.into_iter().reduce(f32::min)),
        "not_smaller" => ratios.collect::<Option<Vec<f32>>>().and_then(|r| r.into_iter().reduce(f32::max)),
        other => return Err(fail(node, format!("keep_aspect_ratio_policy = {other}"))),
    };
    for (axis, size) in axes.iter().zip(sizes) {
        result[*axis] = match (&shape[*axis], size, common) {
            (Dim::Fixed(n), _, Some(scale)) => {
                Target { output: Dim::Fixed((scale * *n as f32).round() as usize), scale }
            }
            (before, after, _) if before == after => Target { output: after.clone(), scale: 1.0 },
            (Dim::Fixed(_), Dim::Fixed(_), None) => {
                Target { output: size.clone(), scale: ratio(*axis, size).unwrap_or(1.0) }
            }
            (before, ..) => return Err(fail(node, format!("axis {axis} of size {before} is resized to {size}"))),
        };
    }
    Ok(Some(result))
}

/// Shape of the result; absent if neither sizes nor scales are known.
///
/// # Errors
/// [`OnnxError::Node`] if the numbers do not fit the shape, or an axis whose size is not fixed is resized.
pub fn output_shape(node: &NodeProto, shape: &[Dim], request: &Request) -> Result<Option<Vec<Dim>>, OnnxError> {
    Ok(targets(node, shape, request)?.map(|targets| targets.into_iter().map(|t| t.output).collect()))
}

/// The axes that change; absent if neither sizes nor scales are known.
///
/// # Errors
/// [`OnnxError::Node`] as for [`output_shape`], for an unknown mode, and for more than 2²⁰ output entries, or 2²⁶ pairs
/// of an input and an output entry, on one axis.
pub fn resized_axes(node: &NodeProto, shape: &[Dim], request: &Request) -> Result<Option<Vec<ResizedAxis>>, OnnxError> {
    let Some(targets) = targets(node, shape, request)? else { return Ok(None) };
    let kernel = Kernel::of(node)?;
    let crops = kernel.coordinates == "tf_crop_and_resize";
    let own = axes(node, shape.len())?;
    let mut result = vec![];
    for (axis, target) in targets.iter().enumerate() {
        let (Some(input), Some(output)) = (shape[axis].fixed(), target.output.fixed()) else { continue };
        let same = input == output && (target.scale == 1.0 || kernel.antialias);
        if (same && !crops) || !own.contains(&axis) {
            continue;
        }
        if input == 0 || output == 0 || output > 1 << 20 || input.saturating_mul(output) > 1 << 26 {
            return Err(fail(node, format!("axis {axis} of {input} entries is resized to {output}")));
        }
        let roi = match (&request.roi, crops) {
            (_, false) => [0.0, 1.0],
            (Some(roi), true) if roi.len() == 2 * own.len() => {
                let at = own.iter().position(|a| *a == axis).unwrap_or(0);
                [roi[at], roi[at + own.len()]]
            }
            (_, true) => return Err(fail(node, "the region of interest is no constant of two numbers per axis")),
        };
        let line = Line { input, output, scale: target.scale, roi };
        let coordinates: Vec<f32> = (0..output).map(|i| kernel.coordinate(&line, i)).collect();
        let outside: Vec<bool> = coordinates.iter().map(|x| crops && (*x < 0.0 || *x > (input - 1) as f32)).collect();
        let taps = coordinates.iter().zip(&outside);
        let taps: Vec<Vec<(usize, f64)>> =
            taps.map(|(x, outside)| if *outside { vec![] } else { kernel.taps(&line, *x) }).collect();
        // The whole axis as region of interest.
        if input == output && taps.iter().enumerate().all(|(i, taps)| *taps == [(i, 1.0)]) {
            continue;
        }
        result.push(ResizedAxis { axis, input, taps, outside });
    }
    Ok(Some(result))
}

struct Line {
    input: usize,
    output: usize,
    scale: f32,
    roi: [f32; 2],
}

enum Mode {
    Nearest(String),
    Linear,
    Cubic,
}

struct Kernel {
    mode: Mode,
    coordinates: String,
    antialias: bool,
    exclude_outside: bool,
    a: f64,
}

impl Kernel {
    fn of(node: &NodeProto) -> Result<Self, OnnxError> {
        let mode = match node.string("mode", "nearest").as_str() {
            "nearest" => Mode::Nearest(node.string("nearest_mode", "round_prefer_floor")),
            "linear" => Mode::Linear,
            "cubic" => Mode::Cubic,
            other => return Err(fail(node, format!("mode = {other}"))),
        };
        if let Mode::Nearest(nearest) = &mode
            && !["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"].contains(&nearest.as_str())
        {
            return Err(fail(node, format!("nearest_mode = {nearest}")));
        }
        let coordinates = node.string("coordinate_transformation_mode", "half_pixel");
        let known = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];
        if !known.contains(&coordinates.as_str()) && coordinates != "tf_crop_and_resize" {
            return Err(fail(node, format!("coordinate_transformation_mode = {coordinates}")));
        }
        let antialias = node.int("antialias", 0) != 0 && !matches!(mode, Mode::Nearest(_));
        Ok(Self {
            mode,
            coordinates,
            antialias,
            exclude_outside: node.int("exclude_outside", 0) != 0,
            a: f64::from(node.float("cubic_coeff_a", -0.75)),
        })
    }

    /// Where output entry `i` lies on the input axis.
    fn coordinate(&self, line: &Line, i: usize) -> f32 {
        let (x, scale) = (i as f32, line.scale);
        let (input, output) = (line.input as f32, line.output as f32);
        if scale == 1.0 && self.coordinates != "tf_crop_and_resize" {
            return x;
        }
        match self.coordinates.as_str() {
            "asymmetric" => x / scale,
            "pytorch_half_pixel" if line.output <= 1 => 0.0,
            "align_corners" if line.output == 1 => 0.0,
            "align_corners" => x * (input - 1.0) / (output - 1.0),
            "tf_crop_and_resize" => {
                let [start, end] = line.roi;
                if line.output > 1 {
                    start * (input - 1.0) + (x * (end - start) * (input - 1.0)) / (output - 1.0)
                } else {
                    0.5 * (start + end) * (input - 1.0)
                }
            }
            "half_pixel_symmetric" => {
                let adjustment = output / (scale * input);
                let offset = input / 2.0 * (1.0 - adjustment);
                offset + (x + 0.5) / scale - 0.5
            }
            _ => (x + 0.5) / scale - 0.5,
        }
    }

    fn taps(&self, line: &Line, x: f32) -> Vec<(usize, f64)> {
        let last = line.input as i64 - 1;
        let position = f64::from(x);
        let raw: Vec<(i64, f64)> = match &self.mode {
            Mode::Nearest(mode) => vec![(nearest(mode, x), 1.0)],
            _ if self.antialias => return self.wide_taps(line, position),
            Mode::Linear => {
                let inside = position.clamp(0.0, last as f64);
                let low = inside.floor();
                vec![(low as i64, 1.0 - (inside - low)), (low as i64 + 1, inside - low)]
            }
            Mode::Cubic => {
                let low = position.floor();
                (-1..=2).map(|k| (low as i64 + k, cubic(self.a, position - low - k as f64))).collect()
            }
        };
        self.inside(raw, last)
    }

    /// Antialiased: the filter is as much wider as the image becomes smaller, and its weights add up to 1.
    fn wide_taps(&self, line: &Line, position: f64) -> Vec<(usize, f64)> {
        let shrink = f64::from(1.0 / line.scale).max(1.0);
        let radius = if matches!(self.mode, Mode::Cubic) { 2.0 } else { 1.0 };
        let (low, high) = ((position - radius * shrink).floor() as i64, (position + radius * shrink).ceil() as i64);
        let weight = |i: i64| {
            let t = (i as f64 - position) / shrink;
            if matches!(self.mode, Mode::Cubic) { cubic(self.a, t) } else { (1.0 - t.abs()).max(0.0) }
        };
        let last = line.input as i64 - 1;
        let raw = (low..=high).map(|i| (i, weight(i))).filter(|(i, _)| !self.exclude_outside || (0..=last).contains(i));
        normalised(self.inside(raw.collect(), last))
    }

    /// Entries beyond the border are the border's, or do not count.
    fn inside(&self, raw: Vec<(i64, f64)>, last: i64) -> Vec<(usize, f64)> {
        let drop = self.exclude_outside && matches!(self.mode, Mode::Cubic);
        let kept = raw.into_iter().filter(|(i, w)| *w != 0.0 && (!drop || (0..=last).contains(i)));
        let taps = kept.map(|(i, w)| (i.clamp(0, last) as usize, w)).collect();
        if drop { normalised(taps) } else { taps }
    }
}

fn normalised(mut taps: Vec<(usize, f64)>) -> Vec<(usize, f64)> {
    let sum: f64 = taps.iter().map(|(_, w)| w).sum();
    if sum != 0.0 {
        taps.iter_mut().for_each(|(_, w)| *w /= sum);
    }
    taps
}

fn nearest(mode: &str, x: f32) -> i64 {
    match mode {
        "floor" => x.floor() as i64,
        "ceil" => x.ceil() as i64,
        "round_prefer_ceil" => x.round() as i64,
        _ if x == x.trunc() + 0.5 => x.floor() as i64,
        _ => x.round() as i64,
    }
}

/// Keys' cubic convolution kernel.
fn cubic(a: f64, t: f64) -> f64 {
    let t = t.abs();
    if t <= 1.0 {
        ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
    } else if t < 2.0 {
        ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::AttributeProto;

    fn one_axis(attributes: Vec<AttributeProto>, input: usize, scale: f32) -> Vec<Vec<(usize, f64)>> {
        let node = NodeProto { op_type: "Resize".into(), attribute: attributes, ..NodeProto::default() };
        let request = Request { scales: Some(vec![scale]), ..Request::default() };
        resized_axes(&node, &[Dim::Fixed(input)], &request).unwrap().unwrap().remove(0).taps
    }

    #[test]
    fn doubling_by_half_pixels_takes_quarters() {
        let taps = one_axis(vec![AttributeProto::string("mode", "linear")], 2, 2.0);
        assert_eq!(taps, [vec![(0, 1.0)], vec![(0, 0.75), (1, 0.25)], vec![(0, 0.25), (1, 0.75)], vec![(1, 1.0)]]);
    }

    #[test]
    fn every_kernel_keeps_a_constant_image() {
        for mode in ["linear", "cubic", "nearest"] {
            for antialias in [0, 1] {
                for scale in [0.4, 0.75, 1.6, 3.0] {
                    let attributes =
                        vec![AttributeProto::string("mode", mode), AttributeProto::int("antialias", antialias)];
                    for taps in one_axis(attributes, 7, scale) {
                        let sum: f64 = taps.iter().map(|(_, w)| w).sum();
                        assert!((sum - 1.0).abs() < 1e-12, "{mode} {antialias} {scale}: {sum}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_unknown_mode_is_named() {
        let attribute = vec![AttributeProto::string("coordinate_transformation_mode", "tf_half_pixel_for_nn")];
        let node = NodeProto { op_type: "Resize".into(), attribute, ..NodeProto::default() };
        let request = Request { scales: Some(vec![2.0]), ..Request::default() };
        let error = resized_axes(&node, &[Dim::Fixed(3)], &request).unwrap_err().to_string();
        assert!(error.contains("tf_half_pixel_for_nn"), "{error}");
    }
}

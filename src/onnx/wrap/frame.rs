//! The image input of a foreign file: which one it is, and what its axes mean.

use super::spec::{Colour, Layout, Wrapping};
use super::{Note, Source, list_values};
use crate::onnx::access::Dim;
use crate::onnx::file::OnnxError;
use crate::onnx::proto::{GraphProto, ValueInfoProto, data_type};
use crate::onnx::shape::show;

/// What a file says about how many images it takes at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchAxis {
    /// Any number; the axis has this name.
    Free(String),
    /// Exactly so many.
    Fixed(usize),
    /// The input is one image without a batch axis.
    Absent,
}

/// The image input.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub name: String,
    pub elem_type: i32,
    /// All axes, sizes fixed.
    pub dims: Vec<Dim>,
    pub batch: BatchAxis,
    pub layout: Layout,
    pub colour: Colour,
    pub channels: usize,
    /// What the model takes: height and width.
    pub sides: [usize; 2],
}

fn refuse<T>(reason: String) -> Result<T, OnnxError> {
    Err(OnnxError::Graph(format!("not an image encoder: {reason}")))
}

impl Frame {
    pub(super) fn of(
        graph: &GraphProto,
        wrapping: &Wrapping,
        image_size: usize,
        notes: &mut Vec<Note>,
    ) -> Result<Self, OnnxError> {
        let value = image_input(graph, wrapping, notes)?;
        let elem_type = element_type(graph, value, notes)?;
        let declared = value.dims().unwrap_or_default();
        let (batch, axes) = match &declared[..] {
            [batch, axes @ ..] if axes.len() == 3 => {
                let batch = match batch {
                    Dim::Symbol(name) => BatchAxis::Free(name.clone()),
                    Dim::Fixed(0) => return refuse(format!("input {} takes no image at all", list_values([value]))),
                    Dim::Fixed(n) => BatchAxis::Fixed(*n),
                };
                (batch, axes)
            }
            axes if axes.len() == 3 => (BatchAxis::Absent, axes),
            _ => {
                let wanted = "[n, c, h, w] or [n, h, w, c]";
                return refuse(format!("input {}, wanted {wanted}", list_values([value])));
            }
        };
        let layout = layout(axes, &declared, wrapping, notes)?;
        let (channel_axis, side_axes) = match layout {
            Layout::Nchw => (0, [1, 2]),
            Layout::Nhwc => (2, [0, 1]),
        };
        let (channels, colour) = channels(&axes[channel_axis], &declared, wrapping, notes)?;
        let sides = side_axes.map(|axis| axes[axis].clone());
        let sides = settle_sides(sides, &declared, wrapping, image_size, notes)?;
        check_memory(&batch, channels, sides, image_size, &declared)?;
        let mut dims = declared.clone();
        let lead = dims.len() - 3;
        dims[lead + channel_axis] = Dim::Fixed(channels);
        for (axis, side) in side_axes.into_iter().zip(sides) {
            dims[lead + axis] = Dim::Fixed(side);
        }
        Ok(Self { name: value.name.clone(), elem_type, dims, batch, layout, colour, channels, sides })
    }
}

/// The side of the square data-set images that a file and its card ask for.
///
/// # Errors
/// [`OnnxError::Graph`] if the file leaves the size open or is not square, saying what decides it.
pub fn natural_size(graph: &GraphProto, wrapping: &Wrapping) -> Result<usize, OnnxError> {
    if let Some(resize) = wrapping.resize {
        return Ok(resize.to.0[0].min(resize.to.0[1]));
    }
    if let Some(crop) = wrapping.crop {
        return Ok(crop.0[0].max(crop.0[1]));
    }
    let value = image_input(graph, wrapping, &mut Vec::new())?;
    let declared = value.dims().unwrap_or_default();
    let axes = &declared[declared.len().saturating_sub(3)..];
    if axes.len() != 3 || declared.len() > 4 {
        return refuse(format!("input {}, wanted [n, c, h, w] or [n, h, w, c]", list_values([value])));
    }
    let sides = match layout(axes, &declared, wrapping, &mut Vec::new())? {
        Layout::Nchw => [&axes[1], &axes[2]],
        Layout::Nhwc => [&axes[0], &axes[1]],
    };
    match sides.map(Dim::fixed) {
        [Some(h), Some(w)] if h == w => Ok(h),
        [Some(h), Some(w)] => Err(OnnxError::Graph(format!(
            "input {} is not square and data-set images are; say resize = {{ to = [{h}, {w}] }} in the card",
            list_values([value])
        ))),
        [None, None] => Err(OnnxError::Graph(format!(
            "input {} leaves the size of the image open; say --image-size PIXELS, or resize = {{ to = PIXELS }} in the \
             card",
            list_values([value])
        ))),
        [h, w] => {
            let [h, w] = [(h, "HEIGHT"), (w, "WIDTH")].map(|(side, word)| side.map_or(word.into(), |n| n.to_string()));
            Err(OnnxError::Graph(format!(
                "input {} leaves a side of the image open; say resize = {{ to = [{h}, {w}] }} in the card",
                list_values([value])
            )))
        }
    }
}

fn image_input<'a>(
    graph: &'a GraphProto,
    wrapping: &Wrapping,
    notes: &mut Vec<Note>,
) -> Result<&'a ValueInfoProto, OnnxError> {
    let inputs: Vec<&ValueInfoProto> = graph.true_inputs().collect();
    let all = || list_values(inputs.iter().copied());
    if let Some(wanted) = &wrapping.input
        && inputs.iter().all(|input| input.name != *wanted)
    {
        return refuse(format!("input = \"{wanted}\" is none of its inputs: {}", all()));
    }
    let [input] = inputs[..] else {
        return refuse(format!(
            "{} inputs ({}), wanted one image; export the model with the others as constants",
            inputs.len(),
            all()
        ));
    };
    let source = if wrapping.input.is_some() { Source::Given } else { Source::File };
    notes.push(Note::new("input", format!("\"{}\"", input.name), source, "the only input"));
    Ok(input)
}

/// The element types that pixels can be turned into without losing the gradient.
fn element_type(graph: &GraphProto, value: &ValueInfoProto, notes: &mut Vec<Note>) -> Result<i32, OnnxError> {
    let elem_type = value.elem_type().unwrap_or_default();
    match elem_type {
        data_type::FLOAT => {}
        data_type::FLOAT16 | data_type::DOUBLE => {
            let name = data_type::name(elem_type);
            notes.push(Note::new("type", name, Source::File, "pixels are cast"));
        }
        data_type::UINT8 => {
            let readers = graph.node.iter().filter(|node| node.input.contains(&value.name));
            if let Some(other) = readers.clone().find(|node| node.op_type != "Cast") {
                return refuse(format!(
                    "input {} goes into node `{}` ({}) as whole numbers, which have no gradient; export it with a \
                     float32 input",
                    list_values([value]),
                    other.label(),
                    other.op_type
                ));
            }
            let why = "pixels go in as floats and are not rounded, so that they have a gradient";
            notes.push(Note::new("type", "uint8", Source::File, why));
        }
        _ => return refuse(format!("input {}, wanted float32", list_values([value]))),
    }
    Ok(elem_type)
}

/// Most entries of one batch: 2 GB in float32.
const MOST_PIXELS: usize = 1 << 29;

fn check_memory(
    batch: &BatchAxis,
    channels: usize,
    sides: [usize; 2],
    image_size: usize,
    declared: &[Dim],
) -> Result<(), OnnxError> {
    let images = if let BatchAxis::Fixed(n) = batch { *n } else { 1 };
    let count = |factors: [usize; 4]| factors.iter().try_fold(1usize, |n, factor| n.checked_mul(*factor));
    let both = [count([images, channels, sides[0], sides[1]]), count([images, 3, image_size, image_size])];
    if both.iter().all(|n| n.is_some_and(|n| (1..=MOST_PIXELS).contains(&n))) {
        return Ok(());
    }
    refuse(format!(
        "input {} would be too large or empty in one run, wanted 1 to {MOST_PIXELS} numbers; export the model for smaller \
         images or a smaller batch",
        show(declared)
    ))
}

fn layout(axes: &[Dim], declared: &[Dim], wrapping: &Wrapping, notes: &mut Vec<Note>) -> Result<Layout, OnnxError> {
    let could_be_channels = |axis: usize| matches!(axes[axis].fixed(), Some(1 | 3));
    let shape = show(declared);
    let (layout, source, why) = match (wrapping.layout, could_be_channels(0), could_be_channels(2)) {
        (Some(layout), ..) => (layout, Source::Given, String::new()),
        (None, true, false) => (Layout::Nchw, Source::Detected, format!("{shape} has its channels first")),
        (None, false, true) => (Layout::Nhwc, Source::Detected, format!("{shape} has its channels last")),
        (None, true, true) => (Layout::Nchw, Source::Assumed, format!("{shape} could be either; say layout")),
        (None, false, false) if axes.iter().all(|d| d.fixed().is_none()) => {
            (Layout::Nchw, Source::Assumed, format!("{shape} does not say; say layout if it is nhwc"))
        }
        (None, false, false) => {
            return refuse(format!(
                "input has shape {shape}, wanted 1 or 3 channels as its second or last axis; say layout if one of them \
                 is meant"
            ));
        }
    };
    notes.push(Note::new("layout", format!("\"{layout}\""), source, why));
    Ok(layout)
}

fn channels(
    axis: &Dim,
    declared: &[Dim],
    wrapping: &Wrapping,
    notes: &mut Vec<Note>,
) -> Result<(usize, Colour), OnnxError> {
    let shape = show(declared);
    let (channels, colour, source, why) = match (axis.fixed(), wrapping.colour) {
        (Some(3), Some(colour @ (Colour::Rgb | Colour::Bgr))) => (3, colour, Source::Given, String::new()),
        (Some(1), Some(Colour::Grey)) => (1, Colour::Grey, Source::Given, String::new()),
        (Some(3), None) => (3, Colour::Rgb, Source::Assumed, "a file does not tell it from bgr".into()),
        (Some(1), None) => (1, Colour::Grey, Source::File, "one channel".into()),
        (None, Some(Colour::Grey)) => (1, Colour::Grey, Source::Given, String::new()),
        (None, Some(colour)) => (3, colour, Source::Given, String::new()),
        (None, None) => (3, Colour::Rgb, Source::Assumed, format!("{shape} does not even say how many channels")),
        (Some(n), Some(colour)) if n == 1 || n == 3 => {
            return refuse(format!("colour = \"{colour}\" does not fit the {n} channel(s) of its input {shape}"));
        }
        (Some(n), _) => {
            return refuse(format!("input has shape {shape} with {n} channels; wanted 3 (rgb, bgr) or 1 (grey)"));
        }
    };
    notes.push(Note::new("colour", format!("\"{colour}\""), source, why));
    Ok((channels, colour))
}

/// Height and width of what the model takes. Sizes that the file leaves open follow from crop, resize or the data set.
fn settle_sides(
    axes: [Dim; 2],
    declared: &[Dim],
    wrapping: &Wrapping,
    image_size: usize,
    notes: &mut Vec<Note>,
) -> Result<[usize; 2], OnnxError> {
    let shape = show(declared);
    let (made, by) = match (wrapping.crop, wrapping.resize) {
        (Some(crop), _) => (crop.0, format!("crop = {crop}")),
        (None, Some(resize)) => (resize.to.0, format!("resize.to = {}", resize.to)),
        (None, None) => ([image_size; 2], format!("the data set has image_size = {image_size}")),
    };
    for (axis, side) in axes.iter().zip(made) {
        match axis.fixed() {
            Some(fixed) if fixed != side => {
                let [h, w] = axes.map(|d| d.to_string());
                let fix = match (wrapping.crop, wrapping.resize) {
                    (None, None) => format!(
                        "take image_size = {h}, or say resize = {{ to = {h} }} in the card to stretch them inside the graph"
                    ),
                    _ => format!("it has to end at {h} × {w}"),
                };
                return Err(OnnxError::Graph(format!("the input {shape} takes {h} × {w} pixels, but {by}; {fix}")));
            }
            _ => {}
        }
    }
    if axes.iter().any(|d| d.fixed().is_none()) {
        let value = format!("{} × {}", made[0], made[1]);
        notes.push(Note::new("sides", value, Source::Detected, format!("{shape} leaves them open, and {by}")));
    }
    Ok(made)
}

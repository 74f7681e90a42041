//! What a model card may say about a foreign file's input and output.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::resample::Filter;

/// Order of the axes of the image input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `[n, c, h, w]`: PyTorch.
    Nchw,
    /// `[n, h, w, c]`: TensorFlow, Keras.
    Nhwc,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nchw => "nchw",
            Self::Nhwc => "nhwc",
        })
    }
}

/// Order of the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    /// Red first: PyTorch, Keras.
    Rgb,
    /// Blue first: OpenCV, Caffe.
    Bgr,
    /// One channel: `0.299 R + 0.587 G + 0.114 B` (ITU-R BT.601, as PIL and OpenCV).
    Grey,
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
            Self::Grey => "grey",
        })
    }
}

/// One number for all channels, or one for each, in the model's own channel order.
#[derive(Debug, Clone, PartialEq)]
pub struct PerChannel(pub Vec<f32>);

impl PerChannel {
    /// One number for each of `channels`; absent if there are others than one or `channels`.
    pub fn spread(&self, channels: usize) -> Option<Vec<f32>> {
        match self.0.as_slice() {
            [one] => Some(vec![*one; channels]),
            many => (many.len() == channels).then(|| many.to_vec()),
        }
    }
}

impl fmt::Display for PerChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "{one}"),
            many => write!(f, "{many:?}"),
        }
    }
}

/// Height and width; one number is a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent(pub [usize; 2]);

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [h, w] if h == w => write!(f, "{h}"),
            [h, w] => write!(f, "[{h}, {w}]"),
        }
    }
}

/// The data set's square pictures stretched to another extent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Height and width, or one number for both.
    pub to: Extent,
    /// Kernel.
    #[serde(default)]
    pub filter: Filter,
    /// Whether the kernel is widened when it shrinks, as PIL and torchvision do.
    #[serde(default = "yes")]
    pub antialias: bool,
}

fn yes() -> bool {
    true
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filter = match self.filter {
            Filter::Nearest => "nearest",
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
        };
        write!(f, "{{ to = {}, filter = \"{filter}\", antialias = {} }}", self.to, self.antialias)
    }
}

/// Everything that stands between data-set pixels and the model. What is left out is detected or has a default; either
/// way a [`super::Note`] says so.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Wrapping {
    /// Name of the image input; the only one if left out.
    pub input: Option<String>,
    /// Order of the axes; detected from the shape if left out.
    pub layout: Option<Layout>,
    /// Order of the channels; RGB for three of them, grey for one.
    pub colour: Option<Colour>,
    /// What black and white are for the model; `[0, 1]`.
    pub range: Option<[f32; 2]>,
    /// Subtracted from each channel, in the unit of `range`.
    pub mean: Option<PerChannel>,
    /// What each channel is divided by, in the unit of `range`.
    pub std: Option<PerChannel>,
    /// Stretches the picture first.
    pub resize: Option<Resize>,
    /// Then cuts out the centre.
    pub crop: Option<Extent>,
    /// Name of the embedding, an output or a value inside; the only output, or the only float one of two axes, if left out.
    pub output: Option<String>,
    /// Whether each embedding is divided by its Euclidean norm.
    pub normalize: bool,
}

/// Numbers read from a number or a list of numbers.
struct Numbers {
    wanted: &'static str,
}

impl<'de> Visitor<'de> for Numbers {
    type Value = Vec<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wanted)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(vec![value])
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(vec![value as f64])
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(vec![value as f64])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = list.next_element()? {
            numbers.push(number);
        }
        Ok(numbers)
    }
}

impl<'de> Deserialize<'de> for PerChannel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let numbers =
            deserializer.deserialize_any(Numbers { wanted: "a number, or a list with one for each channel" })?;
        Ok(Self(numbers.into_iter().map(|v| v as f32).collect()))
    }
}

impl Serialize for PerChannel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => serializer.serialize_f32(*one),
            many => many.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wanted = "a whole number of pixels, or [height, width]";
        let numbers = deserializer.deserialize_any(Numbers { wanted })?;
        let sides: Option<Vec<usize>> =
            numbers.iter().map(|v| (v.fract() == 0.0 && (1.0..=8192.0).contains(v)).then_some(*v as usize)).collect();
        match sides.as_deref() {
            Some([side]) => Ok(Self([*side; 2])),
            Some([h, w]) => Ok(Self([*h, *w])),
            _ => Err(de::Error::custom(format!("{numbers:?} is not {wanted}, 1 to 8192"))),
        }
    }
}

impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            [h, w] if h == w => serializer.serialize_u64(h as u64),
            sides => sides.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Keys {
        mean: PerChannel,
        crop: Extent,
        resize: Resize,
    }

    #[test]
    fn one_number_stands_for_all() {
        let keys: Keys = toml::from_str("mean = 0.5\ncrop = 224\nresize = { to = 256 }").unwrap();
        assert_eq!(keys.mean.spread(3), Some(vec![0.5; 3]));
        assert_eq!(keys.crop, Extent([224, 224]));
        assert_eq!(keys.resize, Resize { to: Extent([256, 256]), filter: Filter::Bilinear, antialias: true });
        let text =
            "mean = [1, 2.5, 3]\ncrop = [256, 128]\nresize = { to = 8, filter = \"bicubic\", antialias = false }";
        let keys: Keys = toml::from_str(text).unwrap();
        assert_eq!((keys.mean.spread(3), keys.mean.spread(1)), (Some(vec![1.0, 2.5, 3.0]), None));
        assert_eq!(keys.crop, Extent([256, 128]));
        assert_eq!(keys.resize.to_string(), "{ to = 8, filter = \"bicubic\", antialias = false }");
    }

    #[test]
    fn what_is_no_extent_is_refused_with_its_line() {
        for wrong in ["0", "1.5", "[1, 2, 3]", "\"224\"", "1e9"] {
            let text = format!("mean = 0.5\ncrop = {wrong}\nresize = {{ to = 8 }}");
            let error = toml::from_str::<Keys>(&text).err().unwrap().to_string();
            assert!(error.contains("line 2") && error.contains("height"), "{error}");
        }
    }
}

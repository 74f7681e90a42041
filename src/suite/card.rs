//! The card of somebody else's ONNX file: where it lies, what it takes and what it gives.
//!
//! Only `schema`, `about` and `onnx` must be there. What is left out is detected in the file or takes a default, and
//! `mdprop verify`, the report and the run's manifest say which. docs/foreign-models.md has every key.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::onnx::wrap::{Colour, Extent, Layout, PerChannel, Resize, Wrapping};

/// How two embeddings are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CardDistance {
    /// Euclidean distance of the embeddings as they are (after `normalize`).
    #[default]
    Euclidean,
    /// Cosine: the same ranking as Euclidean distance of normalised embeddings, which is what is computed.
    Cosine,
}

/// A card as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnnxCard {
    /// Version of this format, 1.
    pub schema: u32,
    /// What it is and where it comes from.
    pub about: String,
    /// The file, relative to the card.
    pub onnx: PathBuf,
    /// Name of the image input; left out: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Order of the input's axes; left out: detected from its shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// Order of the channels; left out: `rgb` for three, `grey` for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colour: Option<Colour>,
    /// What black and white are for the model; left out: `[0, 1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f32; 2]>,
    /// What the model expects subtracted, in the unit of `range`, in the model's channel order; left out: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<PerChannel>,
    /// What the model expects divided by, in the unit of `range`; left out: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<PerChannel>,
    /// Stretches the data set's pictures inside the graph; left out: they have the model's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// Then cuts out the centre.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Extent>,
    /// Name of the embedding, an output or a value inside; left out: the only output, or the only float one of two axes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Whether each embedding is divided by its Euclidean norm.
    #[serde(default)]
    pub normalize: bool,
    /// How embeddings are compared.
    #[serde(default)]
    pub distance: CardDistance,
    /// Whether operators without a gradient (rounding, quantisation) are passed straight through. Every number made so
    /// is marked.
    #[serde(default)]
    pub straight_through: bool,
}

impl OnnxCard {
    /// A card that leaves everything to detection.
    pub fn bare(onnx: PathBuf) -> Self {
        Self {
            schema: 1,
            about: String::new(),
            onnx,
            input: None,
            layout: None,
            colour: None,
            range: None,
            mean: None,
            std: None,
            resize: None,
            crop: None,
            output: None,
            normalize: false,
            distance: CardDistance::Euclidean,
            straight_through: false,
        }
    }

    /// What has to be put around the graph.
    pub fn wrapping(&self) -> Wrapping {
        Wrapping {
            input: self.input.clone(),
            layout: self.layout,
            colour: self.colour,
            range: self.range,
            mean: self.mean.clone(),
            std: self.std.clone(),
            resize: self.resize,
            crop: self.crop,
            output: self.output.clone(),
            normalize: self.normalize || self.distance == CardDistance::Cosine,
        }
    }

    /// Every mistake that can be seen without the file. Empty if there is none.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.schema != 1 {
            problems.push(format!("schema = {} is unknown; this program reads schema = 1", self.schema));
        }
        let channels = match self.colour {
            Some(Colour::Grey) => 1,
            _ => 3,
        };
        for (key, values) in [("mean", &self.mean), ("std", &self.std)] {
            let Some(values) = values else { continue };
            let positive = key == "std";
            if values.0.iter().any(|v| !v.is_finite() || (positive && *v <= 0.0)) {
                let wanted = if positive { "positive numbers" } else { "numbers" };
                problems.push(format!("{key} = {values} must be {wanted}"));
            }
            // How many channels there are is seen in the file; without a colour it may still be one.
            if ![1, channels].contains(&values.0.len()) {
                problems.push(format!(
                    "{key} = {values} has {} numbers; give one, or one for each channel",
                    values.0.len()
                ));
            }
        }
        if let Some([low, high]) = self.range
            && !(low.is_finite() && high.is_finite() && low < high)
        {
            problems.push(format!("range = [{low}, {high}] must ascend: what black is, then what white is"));
        }
        if self.normalize && self.distance == CardDistance::Cosine {
            problems.push("distance = \"cosine\" normalises already; remove normalize".into());
        }
        if let (Some(resize), Some(crop)) = (self.resize, self.crop)
            && crop.0.iter().zip(resize.to.0).any(|(cut, from)| *cut > from)
        {
            problems.push(format!("crop = {crop} is larger than resize.to = {}", resize.to));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "schema = 1\nabout = \"a\"\nonnx = \"e.onnx\"\n";

    fn card(more: &str) -> Result<OnnxCard, String> {
        toml::from_str(&format!("{LEAST}{more}")).map_err(|e| e.to_string())
    }

    #[test]
    fn three_keys_are_enough() {
        let card = card("").unwrap();
        assert_eq!(card, OnnxCard { about: "a".into(), ..OnnxCard::bare("e.onnx".into()) });
        assert_eq!(card.wrapping(), Wrapping::default());
        assert!(card.problems().is_empty());
    }

    #[test]
    fn every_key_is_read_and_written() {
        let all = "input = \"x\"\nlayout = \"nhwc\"\ncolour = \"bgr\"\nrange = [0, 255]\nmean = [103.9, 116.8, 123.7]\n\
                   std = 1\nresize = { to = 256 }\ncrop = 224\noutput = \"y\"\nnormalize = true\nstraight_through = true\n";
        let read = card(all).unwrap();
        assert_eq!(read.range, Some([0.0, 255.0]));
        let again: OnnxCard = toml::from_str(&toml::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read);
        assert!(card("distance = \"cosine\"").unwrap().wrapping().normalize);
    }

    #[test]
    fn mistakes_are_told_all_at_once() {
        let wrong = "range = [1, 0]\nmean = [1, 2]\nstd = 0\nnormalize = true\ndistance = \"cosine\"\n\
                     resize = { to = 64 }\ncrop = 65\n";
        let problems = card(wrong).unwrap().problems().join("\n");
        for part in ["range", "mean = [1.0, 2.0] has 2", "std = 0 must be positive", "normalises already", "crop = 65"]
        {
            assert!(problems.contains(part), "{part} is missing in\n{problems}");
        }
    }

    #[test]
    fn an_unknown_key_is_shown_with_its_line() {
        let error = card("layuot = \"nhwc\"").unwrap_err();
        assert!(error.contains("line 4") && error.contains("layuot") && error.contains("layout"), "{error}");
        let error = card("layout = \"chwn\"").unwrap_err();
        assert!(error.contains("chwn") && error.contains("nchw"), "{error}");
    }
}

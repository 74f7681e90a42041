//! The shape of every node's output for one image size.

use super::{Network, NetworkError, Op};

impl Network {
    /// The output shape of each node without the batch dimension: `[c, h, w]`, or `[c]` after the global pool.
    ///
    /// # Errors
    /// [`NetworkError::ImageTooSmall`] if the image shrinks to nothing on its way.
    pub fn output_shapes(&self, height: usize, width: usize) -> Result<Vec<Vec<usize>>, NetworkError> {
        let mut shapes: Vec<Vec<usize>> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let window = |from: &[usize], kernel: usize, stride: usize, padding: usize| {
                let padded = [from[1] + 2 * padding, from[2] + 2 * padding];
                if padded[0] < kernel || padded[1] < kernel {
                    let node = node.name.clone();
                    return Err(NetworkError::ImageTooSmall { node, height, width, got: padded, kernel });
                }
                Ok(padded.map(|side| (side - kernel) / stride + 1))
            };
            let from = node.inputs.first().map(|&i| shapes[i].clone()).unwrap_or_default();
            let shape = match node.op {
                Op::Input => {
                    if height == 0 || width == 0 {
                        let node = node.name.clone();
                        return Err(NetworkError::ImageTooSmall {
                            node,
                            height,
                            width,
                            got: [height, width],
                            kernel: 1,
                        });
                    }
                    vec![3, height, width]
                }
                Op::Conv { output, kernel, stride, padding, .. } => {
                    let [h, w] = window(&from, kernel, stride, padding)?;
                    vec![output, h, w]
                }
                Op::MaxPool { kernel, stride, padding } => {
                    let [h, w] = window(&from, kernel, stride, padding)?;
                    vec![from[0], h, w]
                }
                Op::BatchNorm { .. } | Op::Relu | Op::Add | Op::Normalize => from,
                Op::GlobalAveragePool => vec![from[0]],
                Op::Linear { output, .. } => vec![output],
            };
            shapes.push(shape);
        }
        Ok(shapes)
    }
}

#[cfg(test)]
mod tests {
    use crate::network::build;
    use crate::suite::recipe::{BackboneSpec, StrideIn};

    #[test]
    fn a_resnet_shrinks_224_pixels_to_7_and_odd_sizes_round_up() {
        // He et al. 2016, table 1.
        for stride_in in [StrideIn::Conv1, StrideIn::Conv2] {
            let network = build(&BackboneSpec::Resnet { depth: 50, stride_in }, 128, 0).unwrap();
            let shape_of = |side: usize, name: &str| {
                let shapes = network.output_shapes(side, side).unwrap();
                shapes[network.nodes.iter().position(|n| n.name == name).unwrap()].clone()
            };
            assert_eq!(shape_of(224, "maxpool"), [64, 56, 56]);
            assert_eq!(shape_of(224, "layer4.2.relu"), [2048, 7, 7]);
            assert_eq!(shape_of(65, "layer4.2.relu"), [2048, 3, 3]);
            assert_eq!(shape_of(224, "normalize"), [128]);
        }
    }

    #[test]
    fn an_image_that_vanishes_is_refused_by_name() {
        let network = build(&BackboneSpec::Convnet { widths: vec![4; 4] }, 8, 0).unwrap();
        assert!(network.output_shapes(8, 8).is_ok());
        let error = network.output_shapes(8, 7).unwrap_err().to_string();
        assert!(error.contains("block3.pool") && error.contains("8x7"), "{error}");
        assert!(network.output_shapes(0, 8).is_err());
    }
}

//! Weights to begin with: a pretrained file laid over random weights.

use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::network::weights::{Weights, WeightsError};
use crate::network::{Network, ParameterKind, ParameterSpec, branch_parameter};
use crate::suite::attack::Branch;
use crate::suite::recipe::{AuxiliaryStart, PretrainedSpec};

/// Why pretrained weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PretrainedError {
    /// The file cannot be read.
    #[error("pretrained weights {0}")]
    File(#[from] WeightsError),
    /// The file is another one.
    #[error("pretrained weights {}: got SHA-256 {got}, wanted {wanted}; fetch the file again or correct the recipe", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Its digest.
        got: Digest,
        /// The recipe's.
        wanted: String,
    },
    /// A tensor that the backbone needs is absent or has another shape.
    #[error("pretrained weights: `{name}` is {got}, wanted shape {wanted:?}; the file belongs to another backbone")]
    Tensor {
        /// The tensor.
        name: String,
        /// `absent` or its shape.
        got: String,
        /// The network's.
        wanted: Vec<usize>,
    },
}

/// Reads the file of a recipe and checks that it is the one meant.
///
/// # Errors
/// [`PretrainedError::File`], [`PretrainedError::Checksum`].
pub fn load(spec: &PretrainedSpec) -> Result<Weights, PretrainedError> {
    let path: &Path = &spec.file;
    let read = |source| WeightsError::Read { path: path.to_path_buf(), source };
    let got = Digest::of_file(path).map_err(read)?;
    if !got.as_str().eq_ignore_ascii_case(&spec.sha256) {
        return Err(PretrainedError::Checksum { path: path.to_path_buf(), got, wanted: spec.sha256.clone() });
    }
    Ok(Weights::load(path)?.0)
}

/// Lays `pretrained` over the random weights `fresh` of `network`.
///
/// Tensors of the main branch come from the file under their own names. Auxiliary branches copy the main one: scale and
/// shift always, running statistics only with [`AuxiliaryStart::CopyAll`] (the official code leaves them at 0 and 1).
/// The embedding head, the last linear layer, stays random unless the file has it; other tensors of the file (a
/// classifier) are not used.
///
/// # Errors
/// [`PretrainedError::Tensor`] for a main tensor that is absent (the head excepted) or of another shape.
pub fn overlay(
    network: &Network,
    fresh: Weights,
    pretrained: &Weights,
    start: AuxiliaryStart,
) -> Result<Weights, PretrainedError> {
    let mut weights = fresh;
    for spec in network.parameters() {
        let statistics = matches!(spec.kind, ParameterKind::RunningMean | ParameterKind::RunningVar);
        if is_auxiliary(&spec) && statistics && start == AuxiliaryStart::CopyAffine {
            continue;
        }
        let main = main_name(network, &spec);
        let head = matches!(network.nodes[spec.node].op, crate::network::Op::Linear { .. });
        let wrong = |got: String| PretrainedError::Tensor { name: main.clone(), got, wanted: spec.shape.clone() };
        match pretrained.tensors.get(&main) {
            Some(tensor) if tensor.shape == spec.shape => {
                weights.tensors.insert(spec.name.clone(), tensor.clone());
            }
            Some(tensor) => return Err(wrong(format!("of shape {:?}", tensor.shape))),
            None if head => {}
            None => return Err(wrong("absent".into())),
        }
    }
    Ok(weights)
}

fn is_auxiliary(spec: &ParameterSpec) -> bool {
    matches!(spec.branch, Some(Branch::Aux(_)))
}

/// The name of the same tensor in the main branch.
fn main_name(network: &Network, spec: &ParameterSpec) -> String {
    let parameter = spec.name.rsplit('.').next().unwrap_or_default();
    branch_parameter(&network.nodes[spec.node].name, Branch::Main, parameter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::build;
    use crate::network::weights::Tensor;
    use crate::train::model::Model;

    fn fresh(branches: u8) -> (Network, Weights) {
        let backbone = toml::from_str("convnet = { widths = [4, 6] }").unwrap();
        let network = build(&backbone, 5, branches).unwrap();
        let weights = Model::new(&network, 1, tch::Device::Cpu).unwrap().to_weights();
        (network, weights)
    }

    /// A file of the same backbone without branches and head, every value 0.5.
    fn file() -> Weights {
        let mut weights = fresh(0).1;
        weights.tensors.retain(|name, _| !name.starts_with("embed"));
        weights.tensors.values_mut().for_each(|tensor| tensor.data.fill(0.5));
        weights.tensors.insert("fc.weight".into(), Tensor { shape: vec![1], data: vec![9.0] });
        weights
    }

    #[test]
    fn auxiliary_branches_begin_as_the_quirk_says_and_the_head_stays_random() {
        let (network, random) = fresh(2);
        for (start, statistics) in [(AuxiliaryStart::CopyAll, 0.5), (AuxiliaryStart::CopyAffine, 0.0)] {
            let weights = overlay(&network, random.clone(), &file(), start).unwrap();
            assert_eq!(weights.tensors.len(), random.tensors.len());
            assert_eq!(weights.tensors["block1.conv.weight"].data[0], 0.5);
            assert_eq!(weights.tensors["block2.bn.running_mean"].data[0], 0.5);
            assert_eq!(weights.tensors["block2.bn.aux2.weight"].data[0], 0.5);
            assert_eq!(weights.tensors["block2.bn.aux2.running_mean"].data[0], statistics);
            assert_eq!(weights.tensors["embed.weight"], random.tensors["embed.weight"]);
        }
    }

    #[test]
    fn a_file_of_another_backbone_or_another_content_is_refused() {
        let (network, random) = fresh(0);
        let mut other = file();
        other.tensors.remove("block1.bn.weight");
        let refusal =
            |file: &Weights| overlay(&network, random.clone(), file, AuxiliaryStart::CopyAll).unwrap_err().to_string();
        assert!(refusal(&other).contains("`block1.bn.weight` is absent, wanted shape [4]"));
        other.tensors.insert("block1.bn.weight".into(), Tensor { shape: vec![3], data: vec![0.0; 3] });
        assert!(refusal(&other).contains("of shape [3]"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        file().save(&path, &Default::default()).unwrap();
        let mut spec = PretrainedSpec { sha256: Digest::of_file(&path).unwrap().to_string(), file: path };
        assert_eq!(load(&spec).unwrap(), file());
        spec.sha256 = "00".into();
        assert!(load(&spec).unwrap_err().to_string().contains("wanted 00"));
    }
}

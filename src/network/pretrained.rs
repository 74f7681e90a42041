//! Beginning with somebody else's weights: a classifier's file into an embedding network with batch-norm branches.

use super::weights::Weights;
use super::{Network, Op, ParameterKind, branch_parameter};
use crate::suite::attack::Branch;
use crate::suite::recipe::AuxiliaryStart;

/// What became of each tensor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PretrainedReport {
    /// Tensors of the network that the file filled, auxiliary ones included.
    pub loaded: Vec<String>,
    /// Tensors of the network that the file lacks; they keep what they had.
    pub missing: Vec<String>,
    /// Tensors of the file that the network does not have, such as a classifier.
    pub unexpected: Vec<String>,
    /// Tensors whose shapes differ: name, shape in the file, shape in the network. They keep what they had.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
}

/// A file that does not fit the network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PretrainedError {
    /// Nothing but the head may be absent.
    #[error("pretrained weights lack {}; they belong to another backbone or have other names", list(.0))]
    Missing(Vec<String>),
    /// Nothing but a classifier may be too much.
    #[error("pretrained weights hold {}, which the backbone does not have; check its depth", list(.0))]
    Unexpected(Vec<String>),
    /// A tensor of another shape.
    #[error("pretrained weights: `{name}` has shape {got:?}, wanted {wanted:?}; check the backbone's depth and widths")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape in the file.
        got: Vec<usize>,
        /// Its shape in the network.
        wanted: Vec<usize>,
    },
}

/// The first few names in backquotes, and how many more.
fn list(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
    let more = names.len() - shown.len();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// Copies every tensor of `pretrained` that the network has into `weights`, by name.
///
/// An auxiliary branch that the file does not name begins as main, as `start` says: everything, or (as the official code
/// does, PAPER.md 1.6 #6) scale and shift only, with running statistics left as they are.
pub fn apply_pretrained(
    network: &Network,
    weights: &mut Weights,
    pretrained: &Weights,
    start: AuxiliaryStart,
) -> PretrainedReport {
    let mut report = PretrainedReport::default();
    let mut used = std::collections::BTreeSet::new();
    for spec in network.parameters() {
        let node = &network.nodes[spec.node];
        let copied_from_main = match spec.kind {
            ParameterKind::Scale | ParameterKind::Shift => true,
            _ => start == AuxiliaryStart::CopyAll,
        };
        let entry = spec.name.rsplit('.').next().unwrap_or_default();
        let of_main = branch_parameter(&node.name, Branch::Main, entry);
        let from = match spec.branch {
            Some(Branch::Aux(_)) if !pretrained.tensors.contains_key(&spec.name) => {
                if !copied_from_main {
                    continue;
                }
                of_main
            }
            _ => spec.name.clone(),
        };
        let Some(source) = pretrained.tensors.get(&from) else {
            report.missing.push(spec.name);
            continue;
        };
        used.insert(from);
        if source.shape == spec.shape {
            weights.tensors.insert(spec.name.clone(), source.clone());
            report.loaded.push(spec.name);
        } else {
            report.mismatched.push((spec.name, source.shape.clone(), spec.shape));
        }
    }
    report.unexpected = pretrained.tensors.keys().filter(|name| !used.contains(*name)).cloned().collect();
    report
}

impl PretrainedReport {
    /// Whether the whole backbone was filled. The head may be absent, and a classifier `fc` be left over.
    ///
    /// # Errors
    /// [`PretrainedError`] with the names.
    pub fn check(&self, network: &Network) -> Result<(), PretrainedError> {
        let heads: Vec<_> = network
            .nodes
            .iter()
            .filter(|n| matches!(n.op, Op::Linear { .. }))
            .map(|n| format!("{}.", n.name))
            .collect();
        let of_head = |name: &String| heads.iter().any(|head| name.starts_with(head.as_str()));
        let missing: Vec<_> = self.missing.iter().filter(|name| !of_head(name)).cloned().collect();
        if !missing.is_empty() {
            return Err(PretrainedError::Missing(missing));
        }
        if let Some((name, got, wanted)) = self.mismatched.first() {
            let (name, got, wanted) = (name.clone(), got.clone(), wanted.clone());
            return Err(PretrainedError::Shape { name, got, wanted });
        }
        let unexpected: Vec<_> = self.unexpected.iter().filter(|name| !name.starts_with("fc.")).cloned().collect();
        if unexpected.is_empty() { Ok(()) } else { Err(PretrainedError::Unexpected(unexpected)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::build;
    use crate::network::weights::Tensor;
    use crate::suite::recipe::{BackboneSpec, StrideIn};

    fn resnet(depth: u32, branches: u8) -> Network {
        build(&BackboneSpec::Resnet { depth, stride_in: StrideIn::Conv2 }, 8, branches).unwrap()
    }

    fn filled(network: &Network, value: f32) -> Weights {
        let entry = |p: crate::network::ParameterSpec| {
            let data = vec![value; p.count()];
            (p.name, Tensor { shape: p.shape, data })
        };
        Weights { tensors: network.parameters().into_iter().map(entry).collect() }
    }

    /// torchvision's file: no embedding head, a classifier.
    fn classifier(depth: u32) -> Weights {
        let mut file = filled(&resnet(depth, 0), 2.0);
        file.tensors.retain(|name, _| !name.starts_with("embedding."));
        file.tensors.insert("fc.bias".into(), Tensor { shape: vec![1000], data: vec![0.0; 1000] });
        file
    }

    #[test]
    fn auxiliary_branches_start_as_the_quirk_says() {
        let network = resnet(18, 2);
        for (start, statistics) in [(AuxiliaryStart::CopyAll, 2.0), (AuxiliaryStart::CopyAffine, 1.0)] {
            let mut weights = filled(&network, 1.0);
            let report = apply_pretrained(&network, &mut weights, &classifier(18), start);
            report.check(&network).unwrap();
            assert_eq!(report.missing, ["embedding.weight", "embedding.bias"]);
            assert_eq!(report.unexpected, ["fc.bias"]);
            let value = |name: &str| weights.tensors[name].data[0];
            assert_eq!(value("bn1.weight"), 2.0);
            assert_eq!(value("bn1.running_var"), 2.0);
            assert_eq!(value("bn1.aux2.weight"), 2.0);
            assert_eq!(value("bn1.aux2.bias"), 2.0);
            assert_eq!(value("bn1.aux1.running_mean"), statistics);
            assert_eq!(value("bn1.aux2.running_var"), statistics);
            assert_eq!(value("embedding.weight"), 1.0);
        }
    }

    #[test]
    fn weights_of_our_own_keep_their_branches() {
        let network = resnet(18, 1);
        let mut file = filled(&network, 2.0);
        file.tensors.get_mut("bn1.aux1.running_var").unwrap().data.fill(3.0);
        let mut weights = filled(&network, 1.0);
        let report = apply_pretrained(&network, &mut weights, &file, AuxiliaryStart::CopyAffine);
        assert_eq!((report.missing.len(), report.unexpected.len()), (0, 0));
        assert_eq!(weights, file);
    }

    #[test]
    fn a_file_of_another_depth_is_refused_by_name() {
        let network = resnet(34, 0);
        let mut weights = filled(&network, 1.0);
        let report = apply_pretrained(&network, &mut weights, &classifier(18), AuxiliaryStart::CopyAll);
        let error = report.check(&network).unwrap_err().to_string();
        assert!(error.contains("`layer1.2.conv1.weight`") && error.contains("more"), "{error}");

        let network = resnet(18, 0);
        let report = apply_pretrained(&network, &mut weights, &classifier(34), AuxiliaryStart::CopyAll);
        let error = report.check(&network).unwrap_err().to_string();
        assert!(error.contains("hold `layer1.2.bn1.bias`"), "{error}");

        let mut file = classifier(18);
        file.tensors.get_mut("conv1.weight").unwrap().shape = vec![64, 1, 7, 7];
        let report = apply_pretrained(&network, &mut weights, &file, AuxiliaryStart::CopyAll);
        let error = report.check(&network).unwrap_err().to_string();
        assert!(error.contains("`conv1.weight` has shape [64, 1, 7, 7], wanted [64, 3, 7, 7]"), "{error}");
    }
}

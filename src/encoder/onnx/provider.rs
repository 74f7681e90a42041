//! Which part of ONNX Runtime computes: asked for, and then proven from the runtime's own profile of a run.
//!
//! ONNX Runtime places every node that a provider cannot run on the CPU without a word, and a whole session if the
//! provider fails to load. So a demanded provider is believed only when a profile shows that it ran the nodes that
//! compute; shape arithmetic may stay on the CPU, where ONNX Runtime puts it on purpose.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An execution provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl Provider {
    /// The word in rows and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// The runtime's own name.
    pub fn runtime_name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
        }
    }
}

impl std::str::FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            other => Err(format!("`{other}` is no provider; cpu and cuda are")),
        }
    }
}

/// Why a provider is not what it was asked to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The library has no such provider, or cannot start it.
    #[error("provider {provider} cannot be used: {reason}; {fix}")]
    Missing {
        /// `cuda`.
        provider: &'static str,
        /// The runtime's words.
        reason: String,
        /// What helps.
        fix: &'static str,
    },
    /// Another provider ran what should have run on it.
    #[error("provider {wanted} was demanded, but {elsewhere} of {computing} computing nodes ran elsewhere: {nodes}")]
    Elsewhere {
        /// The demanded one.
        wanted: &'static str,
        /// How many ran on another.
        elsewhere: usize,
        /// How many there are.
        computing: usize,
        /// The first of them, with their operators and providers.
        nodes: String,
    },
    /// Nothing to judge by.
    #[error("the runtime's profile cannot be judged: {reason}")]
    Profile {
        /// Why.
        reason: String,
    },
}

/// How to get a provider that is missing.
pub(super) const CUDA_FIX: &str = "set ORT_DYLIB_PATH to the libonnxruntime.so of onnxruntime-gpu, with \
    libonnxruntime_providers_cuda.so beside it and CUDA, cuDNN and an NVIDIA driver installed, or leave --provider cuda out";

/// One node that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRun {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// Who ran it, in the runtime's words.
    pub provider: String,
}

/// Who ran what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Placement {
    /// Nodes that ran, by provider.
    pub nodes: BTreeMap<String, usize>,
    /// Of those, the nodes that compute.
    pub computing: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Arguments,
}

#[derive(Deserialize, Default)]
struct Arguments {
    #[serde(default)]
    op_name: String,
    #[serde(default)]
    provider: String,
}

/// The nodes in a profile that ONNX Runtime wrote. A node that ran several times is there several times.
///
/// # Errors
/// [`ProviderError::Profile`] if it is no profile or names no node.
pub fn nodes_of_profile(profile: &str) -> Result<Vec<NodeRun>, ProviderError> {
    let events: Vec<Event> =
        serde_json::from_str(profile).map_err(|e| ProviderError::Profile { reason: e.to_string() })?;
    let ran: Vec<NodeRun> = events
        .into_iter()
        .filter(|event| event.cat == "Node" && !event.args.provider.is_empty())
        .filter_map(|event| {
            let node = event.name.strip_suffix("_kernel_time")?.to_string();
            Some(NodeRun { node, op: event.args.op_name, provider: event.args.provider })
        })
        .collect();
    if ran.is_empty() { Err(ProviderError::Profile { reason: "no node ran".into() }) } else { Ok(ran) }
}

/// Operators that only say how large something is or where it lies, or carry it from one place to another.
const SHAPE_ARITHMETIC: &[&str] = &[
    "Cast",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Equal",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MemcpyFromHost",
    "MemcpyToHost",
    "Range",
    "Reshape",
    "Shape",
    "Size",
    "Slice",
    "Squeeze",
    "Unsqueeze",
    "Where",
];

/// Checks that `wanted` ran every node that computes, and at least one.
///
/// # Errors
/// [`ProviderError::Elsewhere`] naming nodes that another provider ran.
pub fn check_placement(wanted: Provider, ran: &[NodeRun]) -> Result<Placement, ProviderError> {
    let computing: Vec<&NodeRun> = ran.iter().filter(|run| !SHAPE_ARITHMETIC.contains(&run.op.as_str())).collect();
    if computing.is_empty() {
        return Err(ProviderError::Profile { reason: "no node that computes ran".into() });
    }
    let elsewhere: Vec<&&NodeRun> = computing.iter().filter(|run| run.provider != wanted.runtime_name()).collect();
    if !elsewhere.is_empty() {
        let shown = elsewhere.iter().take(5).map(|run| format!("`{}` ({}) on {}", run.node, run.op, run.provider));
        return Err(ProviderError::Elsewhere {
            wanted: wanted.name(),
            elsewhere: elsewhere.len(),
            computing: computing.len(),
            nodes: shown.collect::<Vec<_>>().join(", "),
        });
    }
    let mut placement = Placement::default();
    for run in ran {
        *placement.nodes.entry(run.provider.clone()).or_default() += 1;
    }
    for run in computing {
        *placement.computing.entry(run.provider.clone()).or_default() += 1;
    }
    Ok(placement)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by onnxruntime 1.32 for a Conv, a Softmax and a Shape on the CPU, cut down to what is read. In the mixed one
    /// two nodes carry the provider that a CUDA build would have written.
    const CPU: &str = include_str!("../../../tests/data/encoder/profile-cpu.json");
    const MIXED: &str = include_str!("../../../tests/data/encoder/profile-mixed.json");

    #[test]
    fn a_profile_of_one_provider_proves_it() {
        let ran = nodes_of_profile(CPU).unwrap();
        let ops: Vec<&str> = ran.iter().map(|run| run.op.as_str()).collect();
        assert_eq!(ops, ["Conv", "ReorderOutput", "Softmax", "Shape"]);
        let placement = check_placement(Provider::Cpu, &ran).unwrap();
        assert_eq!(placement.nodes["CPUExecutionProvider"], 4);
        assert_eq!(placement.computing["CPUExecutionProvider"], 3);
        let error = check_placement(Provider::Cuda, &ran).unwrap_err().to_string();
        assert!(
            error.contains("3 of 3 computing nodes ran elsewhere") && error.contains("`b_nchwc` (Conv)"),
            "{error}"
        );
    }

    #[test]
    fn a_mixed_profile_proves_neither() {
        let ran = nodes_of_profile(MIXED).unwrap();
        let error = check_placement(Provider::Cuda, &ran).unwrap_err().to_string();
        assert_eq!(
            error,
            "provider cuda was demanded, but 1 of 2 computing nodes ran elsewhere: `sm` (Softmax) on CPUExecutionProvider"
        );
        assert!(check_placement(Provider::Cpu, &ran).unwrap_err().to_string().contains("`c1` (Conv)"));
    }

    #[test]
    fn shapes_may_stay_on_the_processor_but_prove_nothing() {
        let mut ran = nodes_of_profile(MIXED).unwrap();
        ran.retain(|run| run.op != "Softmax");
        assert_eq!(check_placement(Provider::Cuda, &ran).unwrap().nodes.len(), 2);
        ran.retain(|run| run.op == "Shape");
        assert!(check_placement(Provider::Cpu, &ran).unwrap_err().to_string().contains("no node that computes"));
        assert!(nodes_of_profile("[]").unwrap_err().to_string().contains("no node ran"));
        assert!(nodes_of_profile("{").is_err());
    }
}

//! How a model is trained: the recipes in `models/<id>.toml`. (A card of somebody else's ONNX file is in
//! [`super::card`].)

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use super::attack::TargetChoice;
use super::attack::TargetLoss;
use super::defence::Hardness;
use super::loss::LossSpec;
use crate::units::Epsilon;

/// The backbone, without batch-norm branches (those follow from the method).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum BackboneSpec {
    /// Blocks of 3×3 convolution, batch norm, ReLU, 2×2 max pool; then global average pool.
    Convnet {
        /// Output channels of each block.
        widths: Vec<usize>,
    },
    /// He et al. 2016, arXiv:1512.03385.
    Resnet {
        /// 18, 34, 50, 101 or 152.
        depth: u32,
        /// Where a bottleneck's stride sits.
        #[serde(default)]
        stride_in: StrideIn,
    },
}

/// Position of the stride in a bottleneck block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum StrideIn {
    /// torchvision's v1.5: in the 3×3 convolution.
    #[default]
    Conv2,
    /// The original v1: in the first 1×1 convolution.
    Conv1,
}

/// One adversarial branch of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingBranch {
    /// Number of target images whose embeddings are approached; 1 is STAX, more is MTAX.
    pub targets: usize,
    /// Whose embeddings they are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub goal: BranchGoal,
}

/// What adversarial training images approach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BranchGoal {
    /// Images of other identities, or a permutation, as the quirk `target_choice` says.
    #[default]
    OtherIdentity,
    /// Other images of the same identity: unadversarial examples (PAPER.md 1.5; the formula is inferred there). An image
    /// without another one of its identity in the group stays as it is, but for the start noise.
    SameIdentity,
}

fn is_default(goal: &BranchGoal) -> bool {
    *goal == BranchGoal::default()
}

/// The training method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum TrainingMethod {
    /// Clean images only.
    Standard {},
    /// Clean and adversarial images through one shared batch norm (AT).
    Adversarial {
        /// Targets per image.
        #[serde(default = "single")]
        targets: usize,
        /// Whose embeddings they are.
        #[serde(default, skip_serializing_if = "is_default")]
        goal: BranchGoal,
    },
    /// One auxiliary branch fed with single-target adversarial images. Xie et al. 2020, arXiv:1911.09665.
    Advprop {},
    /// One auxiliary branch per entry. Singh et al. 2023, arXiv:2211.16253.
    Mdprop {
        /// The paper's best: `[{ targets = 1 }, { targets = 5 }]`.
        branches: Vec<TrainingBranch>,
    },
    /// Embedding-shifted training: every image is replaced by one moved as far as possible from its own embedding. Zhou
    /// et al. 2020, arXiv:2002.11293.
    Est {},
    /// Anti-collapse triplet: positive and negative are moved together, and the triplet loss must tell them apart. Zhou
    /// et al. 2021, arXiv:2106.03614.
    Act {},
    /// Hardness manipulation: triplets are made as hard as a destination says. Zhou & Patel 2022, arXiv:2203.01439.
    Hm {
        /// How hard.
        #[serde(default, skip_serializing_if = "Hardness::is_default")]
        destination: Hardness,
        /// Weight λ of the intra-class structure loss `λ · mean relu(d(a, ã) − d(a, p))`; the paper's is 0.5 (0.05 on
        /// SOP), 0 leaves it out.
        #[serde(default, skip_serializing_if = "is_zero")]
        intra_class: f64,
    },
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn single() -> usize {
    1
}

impl TrainingMethod {
    /// Adversarial images made in each step beside the clean ones, one entry per group. The ranking defences have none:
    /// their images replace the clean ones.
    pub fn adversaries(&self) -> Vec<TrainingBranch> {
        match self {
            Self::Standard {} | Self::Est {} | Self::Act {} | Self::Hm { .. } => vec![],
            Self::Adversarial { targets, goal } => vec![TrainingBranch { targets: *targets, goal: *goal }],
            Self::Advprop {} => vec![TrainingBranch { targets: 1, goal: BranchGoal::OtherIdentity }],
            Self::Mdprop { branches } => branches.clone(),
        }
    }

    /// Auxiliary batch-norm branches the network needs.
    pub fn auxiliary_branches(&self) -> u8 {
        match self {
            Self::Standard {} | Self::Adversarial { .. } | Self::Est {} | Self::Act {} | Self::Hm { .. } => 0,
            Self::Advprop {} => 1,
            Self::Mdprop { branches } => branches.len() as u8,
        }
    }

    /// The word used in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Standard {} => "standard",
            Self::Adversarial { .. } => "adversarial",
            Self::Advprop {} => "advprop",
            Self::Mdprop { .. } => "mdprop",
            Self::Est {} => "est",
            Self::Act {} => "act",
            Self::Hm { intra_class, .. } if *intra_class > 0.0 => "hm-ics",
            Self::Hm { .. } => "hm",
        }
    }

    /// Whether the method itself builds triplets, so that the loss must be one.
    pub fn wants_triplets(&self) -> bool {
        matches!(self, Self::Act {} | Self::Hm { .. })
    }
}

/// Which reading of the method fills in the quirks that a recipe leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The text of the paper and its supplement.
    #[default]
    Paper,
    /// The official code as published.
    Code,
}

/// Where adversarial pixels are clipped during training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClampRange {
    /// `[0, 1]` in pixel units, per channel after normalisation (the paper).
    Image,
    /// Smallest and largest normalised value of the attacked half batch, over all channels (the code).
    Batch,
}

/// Which model answers during the attack of a training step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuxiliaryStart {
    /// Weight, bias and running statistics copied from main.
    CopyAll,
    /// Weight and bias copied, running statistics left at 0 and 1 (the code).
    CopyAffine,
}

/// Which images a model is chosen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selection {
    /// Best recall@1 on validation classes.
    Validation,
    /// Best recall@1 on the test classes (the code). Every record made from such a model says so.
    Test,
    /// The last epoch.
    Last,
}

/// How a class-balanced batch repeats itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Classes and images drawn with replacement (the code).
    WithReplacement,
    /// A class comes twice in a batch only when all have come once; the same for an image of its class.
    WithoutReplacement,
}

/// Every quirk of the official code (PAPER.md 1.6), one flag each; what is left out comes from the preset.
///
/// The others need no flag: #3 and #5 are how a budget and its steps are written (`{ normalized = 0.01 }`, `steps`, each
/// of `epsilon / steps`); #7 (an image of an odd batch in the wrong norm) cannot arise, since a batch must divide evenly;
/// #9 (statistics, targets and halves per GPU) is a batch of the size of one GPU's share; #8, #11, #12, #13, #14 are no
/// behaviour. #10 belongs to the ArcFace loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct QuirkOverrides {
    /// PAPER 1.6 #1: how T distances are joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_loss: Option<TargetLoss>,
    /// PAPER 1.6 #2: whose embeddings are approached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_choice: Option<TargetChoice>,
    /// PAPER 1.6 #4: where adversarial pixels are clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clamp: Option<ClampRange>,
    /// PAPER 1.6 #5: half-width of the uniform random start, in normalised units, whatever epsilon is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_noise: Option<f64>,
    /// PAPER 1.6 #6: how auxiliary branches begin when pretrained weights are loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auxiliary_start: Option<AuxiliaryStart>,
    /// PAPER 1.4: how a batch repeats classes and images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// PAPER 1.4: which images choose the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
}

/// Quirks with nothing left open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quirks {
    /// See [`QuirkOverrides::target_loss`].
    pub target_loss: TargetLoss,
    /// See [`QuirkOverrides::target_choice`].
    pub target_choice: TargetChoice,
    /// See [`QuirkOverrides::clamp`].
    pub clamp: ClampRange,
    /// See [`QuirkOverrides::start_noise`].
    pub start_noise: f64,
    /// See [`QuirkOverrides::auxiliary_start`].
    pub auxiliary_start: AuxiliaryStart,
    /// See [`QuirkOverrides::sampling`].
    pub sampling: Sampling,
    /// See [`QuirkOverrides::selection`].
    pub selection: Selection,
}

impl Quirks {
    /// The preset's choice for everything the recipe leaves open.
    pub fn resolve(preset: Preset, overrides: &QuirkOverrides) -> Self {
        let base = match preset {
            Preset::Paper => Self {
                target_loss: TargetLoss::MeanSquaredDistance,
                target_choice: TargetChoice::OtherIdentity,
                clamp: ClampRange::Image,
                start_noise: 0.0005,
                auxiliary_start: AuxiliaryStart::CopyAll,
                sampling: Sampling::WithoutReplacement,
                selection: Selection::Validation,
            },
            Preset::Code => Self {
                target_loss: TargetLoss::MeanDistance,
                target_choice: TargetChoice::Permutation,
                clamp: ClampRange::Batch,
                start_noise: 0.0005,
                auxiliary_start: AuxiliaryStart::CopyAffine,
                sampling: Sampling::WithReplacement,
                selection: Selection::Test,
            },
        };
        Self {
            target_loss: overrides.target_loss.unwrap_or(base.target_loss),
            target_choice: overrides.target_choice.unwrap_or(base.target_choice),
            clamp: overrides.clamp.unwrap_or(base.clamp),
            start_noise: overrides.start_noise.unwrap_or(base.start_noise),
            auxiliary_start: overrides.auxiliary_start.unwrap_or(base.auxiliary_start),
            sampling: overrides.sampling.unwrap_or(base.sampling),
            selection: overrides.selection.unwrap_or(base.selection),
        }
    }
}

/// Learning-rate schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScheduleSpec {
    /// Constant.
    #[default]
    Constant,
    /// Smith & Topin 2018, arXiv:1708.07120: cosine up from `peak/25` over the first 30 %, cosine down to `peak/25e4`.
    OneCycle {},
    /// The rate times `gamma` after each milestone, as PyTorch's `MultiStepLR`.
    MultiStep {
        /// Epochs after which the rate drops, ascending.
        milestones: Vec<usize>,
        /// Factor of each drop.
        #[serde(default = "gamma")]
        gamma: f64,
    },
    /// Half a cosine from the rate to `minimum` over all steps, as PyTorch's `CosineAnnealingLR` stepped every batch.
    Cosine {
        /// Last rate.
        #[serde(default)]
        minimum: f64,
    },
}

fn gamma() -> f64 {
    0.3
}

/// Adam with decoupled nothing: weight decay is added to the gradient, as in PyTorch's `Adam`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSpec {
    /// Learning rate (its peak, with a one-cycle schedule), above 0 and at most 1.
    pub learning_rate: f64,
    /// L2 weight decay, 0 to 1.
    #[serde(default)]
    pub weight_decay: f64,
    /// Course of the learning rate over all steps.
    #[serde(default)]
    pub schedule: ScheduleSpec,
    /// Learning rate of the last linear layer, if it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_learning_rate: Option<f64>,
    /// Learning rate of scale and shift of the auxiliary batch norms, if they have one of their own (the official code's
    /// `separate_bn_lr`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auxiliary_learning_rate: Option<f64>,
    /// Largest L2 norm of the whole gradient; a longer one is scaled down, as PyTorch's `clip_grad_norm_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
}

/// How adversarial training images are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingAttack {
    /// Radius.
    pub epsilon: Epsilon,
    /// Gradient steps of `epsilon / steps` each, unless `step_size` says otherwise.
    pub steps: usize,
    /// Size of a step, in the unit of `epsilon` or the other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_size: Option<Epsilon>,
}

/// Random changes of training images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AugmentationSpec {
    /// None.
    None {},
    /// Shift by up to `pixels` in both directions (edges repeated), then a horizontal flip with probability ½.
    ShiftFlip {
        /// Largest shift.
        pixels: usize,
    },
    /// torchvision's RandomResizedCrop (scale 0.08–1, ratio 3/4–4/3) and a horizontal flip with probability ½.
    RandomResizedCropFlip {
        /// What is cropped.
        #[serde(default, skip_serializing_if = "CropFrom::is_default")]
        from: CropFrom,
    },
}

/// What a random crop is cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CropFrom {
    /// The square that tests see, which is in memory.
    #[default]
    Square,
    /// The whole picture, decoded again for every crop, as torchvision's loader does. Only for data sets of picture files.
    File,
}

impl CropFrom {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which statistics batch norm uses in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norms {
    /// Those of the batch; running statistics follow.
    #[default]
    Batch,
    /// The running ones, which stay as they were loaded; scale and shift train. The frozen norms of the paper's
    /// baselines.
    Frozen,
}

impl Norms {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What feature maps of training are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    Float32,
    /// Convolutions and what lies between them in bfloat16, of steps and of their attacks; parameters, gradients of
    /// parameters, running statistics, embeddings, loss and optimizer in float32. The epoch is chosen, and the model
    /// exported, in float32. Micikevicius et al. 2018, arXiv:1710.03740, without its loss scale, which bfloat16's range of
    /// exponents makes needless (Kalamkar et al. 2019, arXiv:1905.12322).
    Bf16Mixed,
}

impl Precision {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A recipe file, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of this format, 1.
    pub schema: u32,
    /// Why it exists and what is expected of it.
    pub about: String,
    /// The training method.
    pub method: TrainingMethod,
    /// Who fills in the quirks.
    #[serde(default)]
    pub preset: Preset,
    /// Quirks that differ from the preset.
    #[serde(default)]
    pub quirks: QuirkOverrides,
    /// The network without its branches.
    pub backbone: BackboneSpec,
    /// Entries of the embedding.
    pub embedding_dim: usize,
    /// Which statistics batch norm uses in training.
    #[serde(default, skip_serializing_if = "Norms::is_default")]
    pub norms: Norms,
    /// What training computes in.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub precision: Precision,
    /// Pretrained weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PretrainedSpec>,
    /// The loss.
    pub loss: LossSpec,
    /// The optimizer.
    pub optimizer: OptimizerSpec,
    /// Passes over the training images.
    pub epochs: usize,
    /// Clean images per step.
    pub batch_size: usize,
    /// Images drawn per class in a batch.
    pub per_class: usize,
    /// Random changes of training images.
    pub augmentation: AugmentationSpec,
    /// Adversarial training images; needed by every method but `standard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attack: Option<TrainingAttack>,
    /// One model is trained per seed.
    pub seeds: Vec<u64>,
}

/// Weights to begin with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainedSpec {
    /// A safetensors file, or a `.pth` of PyTorch's zip format, with torchvision's names.
    pub file: PathBuf,
    /// Its SHA-256, or at least its first eight digits (those in the names of torchvision's files).
    pub sha256: String,
}

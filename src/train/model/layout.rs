//! How trained tensors lie in the one buffer behind them.
//!
//! On the CPU a pass has its feature maps channels last, and libtorch puts every kernel that does not lie so into that
//! order first, forward and backward, and its gradient back. So kernels lie with their input channels last there. Files
//! know nothing of it: weights and moments are read and written in the order of [`Network::parameters`].
//!
//! [`Network::parameters`]: crate::network::Network::parameters

use tch::{Device, TchError, Tensor};

use super::Model;
use crate::network::ParameterSpec;

/// How the entries of one tensor follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The last axis fastest.
    Plain,
    /// A kernel `[out, in, height, width]` as `[out, height, width, in]`.
    ChannelsLast,
}

impl Order {
    /// That of a tensor of a model on `device`.
    pub(super) fn of(spec: &ParameterSpec, device: Device) -> Self {
        match (device, spec.shape.as_slice()) {
            (Device::Cpu, [_, _, height, width]) if height * width > 1 => Self::ChannelsLast,
            _ => Self::Plain,
        }
    }

    /// A piece of the buffer, `[count]`, seen in the shape of its tensor.
    pub(super) fn view(self, piece: &Tensor, spec: &ParameterSpec) -> Result<Tensor, TchError> {
        let shape = shape(spec);
        match (self, shape.as_slice()) {
            (Self::ChannelsLast, &[out, channels, height, width]) => {
                piece.f_view([out, height, width, channels])?.f_permute([0, 3, 1, 2])
            }
            _ => piece.f_view(shape.as_slice()),
        }
    }

    /// The entries of a tensor as they lie in the buffer, `[count]`; no copy if they lie so already.
    pub(super) fn entries(self, tensor: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::ChannelsLast => tensor.f_permute([0, 2, 3, 1])?.f_reshape([-1]),
            Self::Plain => tensor.f_reshape([-1]),
        }
    }
}

/// The shape of a tensor in libtorch's words.
pub(super) fn shape(spec: &ParameterSpec) -> Vec<i64> {
    spec.shape.iter().map(|&side| side as i64).collect()
}

impl Model {
    /// What belongs to [`Model::flat_parameters`] entry by entry (moments, say) in the order of files, `[trained_count]`.
    ///
    /// # Errors
    /// libtorch's own: another number of entries.
    pub fn to_file_order(&self, flat: &Tensor) -> Result<Tensor, TchError> {
        self.reorder(flat, |order, piece, spec| Order::Plain.entries(&order.view(piece, spec)?))
    }

    /// The reverse of [`Model::to_file_order`].
    ///
    /// # Errors
    /// As [`Model::to_file_order`].
    pub fn from_file_order(&self, flat: &Tensor) -> Result<Tensor, TchError> {
        self.reorder(flat, |order, piece, spec| order.entries(&Order::Plain.view(piece, spec)?))
    }

    fn reorder(
        &self,
        flat: &Tensor,
        piece: impl Fn(Order, &Tensor, &ParameterSpec) -> Result<Tensor, TchError>,
    ) -> Result<Tensor, TchError> {
        let trained = self.trained();
        let counts: Vec<i64> = trained.clone().map(|spec| spec.count() as i64).collect();
        let pieces = flat.f_split_with_sizes(counts.as_slice(), 0)?;
        let pieces = trained.zip(&pieces).map(|(spec, own)| piece(Order::of(spec, self.device), own, spec));
        Tensor::f_cat(&pieces.collect::<Result<Vec<_>, _>>()?, 0)
    }
}

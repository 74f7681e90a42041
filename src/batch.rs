//! Shape-checked batches: the values that travel between the stages.

/// Why a batch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The buffer does not hold what the shape says.
    #[error("buffer holds {got} values, shape {shape:?} wants {wanted}")]
    Length {
        /// Values in the buffer.
        got: usize,
        /// Values the shape asks for.
        wanted: usize,
        /// The shape.
        shape: Vec<usize>,
    },
    /// Two batches that belong together differ.
    #[error("{what}: got shape {got:?}, wanted {wanted:?}")]
    Mismatch {
        /// Which value.
        what: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The shape it should have.
        wanted: Vec<usize>,
    },
}

/// A batch of images, `[n, c, h, w]`, pixels in `[0, 1]` before any normalisation (so adversarial images fit too).
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    shape: [usize; 4],
    data: Vec<f32>,
}

impl Images {
    /// Wraps a buffer in `[n, c, h, w]` order.
    ///
    /// # Errors
    /// [`ShapeError::Length`] if the buffer and the shape disagree.
    pub fn new(shape: [usize; 4], data: Vec<f32>) -> Result<Self, ShapeError> {
        check_length(&shape, data.len())?;
        Ok(Self { shape, data })
    }

    /// `[n, c, h, w]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.shape[0]
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.shape[0] == 0
    }

    /// Values of one image: `c * h * w`.
    pub fn stride(&self) -> usize {
        self.shape[1] * self.shape[2] * self.shape[3]
    }

    /// Pixels of image `i`, `[c, h, w]`.
    pub fn image(&self, i: usize) -> &[f32] {
        &self.data[i * self.stride()..(i + 1) * self.stride()]
    }

    /// The first `n` images, or all if there are fewer.
    #[must_use]
    pub fn first(&self, n: usize) -> Self {
        let [count, c, h, w] = self.shape;
        let n = n.min(count);
        Self { shape: [n, c, h, w], data: self.data[..n * c * h * w].to_vec() }
    }

    /// Mutable pixels of image `i`, `[c, h, w]`.
    pub fn image_mut(&mut self, i: usize) -> &mut [f32] {
        let stride = self.stride();
        &mut self.data[i * stride..(i + 1) * stride]
    }

    /// All pixels in `[n, c, h, w]` order.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }

    /// All pixels, mutable.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Gives the buffer back.
    pub fn into_vec(self) -> Vec<f32> {
        self.data
    }
}

/// A batch of embeddings, `[n, d]`. Whether rows are L2-normalised is the encoder's word.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    shape: [usize; 2],
    data: Vec<f32>,
}

impl Embeddings {
    /// Wraps a buffer in `[n, d]` order.
    ///
    /// # Errors
    /// [`ShapeError::Length`] if the buffer and the shape disagree.
    pub fn new(shape: [usize; 2], data: Vec<f32>) -> Result<Self, ShapeError> {
        check_length(&shape, data.len())?;
        Ok(Self { shape, data })
    }

    /// Number of embeddings.
    pub fn len(&self) -> usize {
        self.shape[0]
    }

    /// Whether there is no embedding.
    pub fn is_empty(&self) -> bool {
        self.shape[0] == 0
    }

    /// Entries of one embedding.
    pub fn dim(&self) -> usize {
        self.shape[1]
    }

    /// Embedding `i`, `[d]`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.shape[1]..(i + 1) * self.shape[1]]
    }

    /// All entries in `[n, d]` order.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }

    /// Rows at `indices`, in that order, shape `[indices.len(), d]`.
    pub fn select(&self, indices: &[usize]) -> Self {
        let data = indices.iter().flat_map(|&i| self.row(i).iter().copied()).collect();
        Self { shape: [indices.len(), self.shape[1]], data }
    }

    /// The same with the first row, and every `every`th from there, replaced by the rows of `others` in their order.
    ///
    /// # Panics
    /// If `others` has more entries in a row, or `every` is 0.
    #[must_use]
    pub fn with_rows(&self, every: usize, others: &Self) -> Self {
        let mut all = self.clone();
        let rows = all.data.chunks_mut(self.shape[1].max(1)).step_by(every);
        rows.zip(0..others.len()).for_each(|(row, i)| row.copy_from_slice(others.row(i)));
        all
    }
}

fn check_length(shape: &[usize], got: usize) -> Result<(), ShapeError> {
    let wanted = shape.iter().product();
    if got == wanted { Ok(()) } else { Err(ShapeError::Length { got, wanted, shape: shape.to_vec() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_buffer_of_the_wrong_length() {
        let error = Images::new([2, 3, 4, 4], vec![0.0; 95]).unwrap_err();
        assert_eq!(error.to_string(), "buffer holds 95 values, shape [2, 3, 4, 4] wants 96");
    }

    #[test]
    fn rows_and_selection_agree() {
        let e = Embeddings::new([3, 2], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!(e.select(&[2, 0]).as_slice(), &[4.0, 5.0, 0.0, 1.0]);
        let other = Embeddings::new([2, 2], vec![8.0, 8.0, 9.0, 9.0]).unwrap();
        assert_eq!(e.with_rows(2, &other).as_slice(), &[8.0, 8.0, 2.0, 3.0, 9.0, 9.0]);
    }
}

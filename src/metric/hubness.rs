//! Hubness: items that are near to too many queries, and items that are near to none.

/// How often each gallery item is among the nearest of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Occurrences {
    counts: Vec<u32>,
}

impl Occurrences {
    /// Counts the items of all lists.
    ///
    /// `lists`: gallery indices of the k nearest items of each query, the query itself excluded; `gallery`: its size.
    ///
    /// # Panics
    /// If an index is not below `gallery`.
    pub fn count<'a>(lists: impl IntoIterator<Item = &'a [u32]>, gallery: usize) -> Self {
        let mut counts = vec![0u32; gallery];
        for item in lists.into_iter().flatten() {
            counts[*item as usize] += 1;
        }
        Self { counts }
    }

    /// The skewness of the counts, `m₃ / m₂^1.5` with central moments over the gallery: 0 if symmetric, large if a few
    /// hubs are near to everything.
    ///
    /// `None` if all counts are equal: there is no spread to be skewed.
    ///
    /// ```
    /// use mdprop::metric::hubness::Occurrences;
    ///
    /// // Four queries that all find item 0: counts 4, 0, 0, 0.
    /// let lists: [&[u32]; 4] = [&[0]; 4];
    /// let occurrences = Occurrences::count(lists, 4);
    /// assert!((occurrences.skewness().unwrap() - 2.0 / 3f64.sqrt()).abs() < 1e-12);
    /// assert_eq!(occurrences.never(), Some(0.75));
    /// ```
    ///
    /// # Source
    /// Radovanović, Nanopoulos, Ivanović 2010, "Hubs in space", JMLR 11, equation 1.
    pub fn skewness(&self) -> Option<f64> {
        let n = self.counts.len() as f64;
        let mean = self.counts.iter().map(|&c| f64::from(c)).sum::<f64>() / n;
        let moment = |power| self.counts.iter().map(|&c| (f64::from(c) - mean).powi(power)).sum::<f64>() / n;
        let spread = moment(2);
        (spread > 0.0).then(|| moment(3) / spread.powf(1.5))
    }

    /// The share of items that no query finds (antihubs). `None` for an empty gallery.
    ///
    /// # Source
    /// Radovanović, Nanopoulos, Ivanović 2010, section 4.2.
    pub fn never(&self) -> Option<f64> {
        let never = self.counts.iter().filter(|&&c| c == 0).count();
        (!self.counts.is_empty()).then(|| never as f64 / self.counts.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_scipy() {
        // scipy 1.17.1: scipy.stats.skew([3, 0, 1, 1, 0, 5, 2])
        let lists: Vec<Vec<u32>> =
            [(0, 3), (2, 1), (3, 1), (5, 5), (6, 2)].map(|(item, times)| vec![item; times]).to_vec();
        let occurrences = Occurrences::count(lists.iter().map(Vec::as_slice), 7);
        approx::assert_abs_diff_eq!(occurrences.skewness().unwrap(), 0.8284894885193256, epsilon = 1e-12);
        approx::assert_abs_diff_eq!(occurrences.never().unwrap(), 2.0 / 7.0, epsilon = 1e-15);
    }

    #[test]
    fn equal_counts_are_not_skewed_and_nothing_has_no_share() {
        let even = Occurrences::count([&[1u32][..], &[0]], 2);
        assert_eq!((even.skewness(), even.never()), (None, Some(0.0)));
        let none = Occurrences::count(std::iter::empty::<&[u32]>(), 0);
        assert_eq!((none.skewness(), none.never()), (None, None));
    }
}

//! Classes in groups, so that a figure of a whole set can be computed with each group left out.

/// Classes dealt out to groups, in ascending order of label, round after round.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    labels: Vec<u32>,
    count: usize,
}

impl Groups {
    /// One group a class, or `at_most` groups (at least 1) if there are more classes.
    ///
    /// ```
    /// use mdprop::metric::groups::Groups;
    ///
    /// let groups = Groups::of_classes(&[7, 2, 7, 9], 2);
    /// assert_eq!((groups.count(), groups.of(2), groups.of(7), groups.of(9)), (2, 0, 1, 0));
    /// ```
    pub fn of_classes(labels: &[u32], at_most: usize) -> Self {
        let mut labels = labels.to_vec();
        labels.sort_unstable();
        labels.dedup();
        let count = labels.len().min(at_most.max(1));
        Self { labels, count }
    }

    /// Number of groups: none for an empty set.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.labels.len()
    }

    /// The group of a class.
    ///
    /// # Panics
    /// If no item has that label.
    pub fn of(&self, label: u32) -> usize {
        self.labels.binary_search(&label).expect("a label of the set that the groups were made of") % self.count
    }
}

//! How well a clustering of the embeddings agrees with the classes: NMI, AMI and pairwise F1.
//!
//! The clustering itself is somebody else's (k-means, usually with as many clusters as classes); these functions see
//! labels and assignments alone. Neither needs to be contiguous, and no name of a cluster means anything.

use super::groups::Groups;

/// Counts of one clustering against the classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Contingency {
    items: u64,
    /// Size of each class, ascending by label.
    classes: Vec<u64>,
    /// Size of each cluster that is not empty.
    clusters: Vec<u64>,
    /// Class size, cluster size, items in both; only where there are some.
    cells: Vec<(u64, u64, u64)>,
}

impl Contingency {
    /// Counts the items of each class in each cluster.
    ///
    /// # Shapes
    /// `labels`, `assignments`: `[n]`.
    /// # Panics
    /// If the lists differ in length.
    pub fn new(labels: &[u32], assignments: &[u32]) -> Self {
        assert_eq!(labels.len(), assignments.len(), "one cluster for each label");
        let (classes, clusters) = (sizes(labels), sizes(assignments));
        let size = |list: &[(u32, u64)], key: u32| {
            list[list.binary_search_by_key(&key, |entry| entry.0).expect("counted from the same list")].1
        };
        let mut pairs: Vec<(u32, u32)> = labels.iter().copied().zip(assignments.iter().copied()).collect();
        pairs.sort_unstable();
        let cells = pairs
            .chunk_by(|a, b| a == b)
            .map(|cell| (size(&classes, cell[0].0), size(&clusters, cell[0].1), cell.len() as u64))
            .collect();
        let only = |list: Vec<(u32, u64)>| list.into_iter().map(|entry| entry.1).collect();
        Self { items: labels.len() as u64, classes: only(classes), clusters: only(clusters), cells }
    }

    /// The counts of everything, then those without the classes of each group, whose items leave their clusters too.
    ///
    /// # Panics
    /// If the lists differ in length or `groups` are of other labels.
    pub fn by_group(labels: &[u32], assignments: &[u32], groups: &Groups) -> Vec<Self> {
        let without = |group: usize| {
            let kept = labels.iter().zip(assignments).filter(|(label, _)| groups.of(**label) != group);
            let (labels, assignments): (Vec<u32>, Vec<u32>) = kept.unzip();
            Self::new(&labels, &assignments)
        };
        let all = Self::new(labels, assignments);
        std::iter::once(all).chain((0..groups.count()).map(without)).collect()
    }

    /// Normalised mutual information, `I / ((H(classes) + H(clusters)) / 2)`, in `[0, 1]`.
    ///
    /// It rises with the number of clusters even for random assignments: read it beside [`Self::ami`]. `None` with
    /// fewer than two classes or if every item is a class of its own: there is nothing to recover (scikit-learn then says
    /// 1).
    ///
    /// ```
    /// use mdprop::metric::clustering::Contingency;
    ///
    /// // A clustering with other names is perfect; one cluster for everything says nothing.
    /// assert_eq!(Contingency::new(&[0, 0, 1, 1], &[7, 7, 3, 3]).nmi(), Some(1.0));
    /// assert_eq!(Contingency::new(&[0, 0, 1, 1], &[0, 0, 0, 0]).nmi(), Some(0.0));
    /// assert_eq!(Contingency::new(&[5, 5], &[0, 1]).nmi(), None);
    /// ```
    ///
    /// # Source
    /// Strehl & Ghosh 2002, "Cluster ensembles"; the arithmetic normalisation of scikit-learn (also its V-measure).
    pub fn nmi(&self) -> Option<f64> {
        if !self.has_something_to_recover() {
            return None;
        }
        let normaliser = 0.5 * (self.entropy(&self.classes) + self.entropy(&self.clusters));
        Some((self.mutual_information() / normaliser).clamp(0.0, 1.0))
    }

    /// Adjusted mutual information, `(I − E[I]) / ((H(classes) + H(clusters)) / 2 − E[I])`: 0 for a random clustering of
    /// the same sizes, 1 for the classes themselves, below 0 if worse than chance.
    ///
    /// `E[I]` is exact: the mean over all permutations of the assignments (hypergeometric). `None` with fewer than two
    /// classes, and where sizes alone fix the clustering (every item its own cluster and class), so that chance is
    /// already perfect.
    ///
    /// ```
    /// use mdprop::metric::clustering::Contingency;
    ///
    /// // Two classes of two, each cut in halves: I = 0 and E[I] = ln 2 / 3, so −(1/3) / (1 − 1/3).
    /// let ami = Contingency::new(&[0, 0, 1, 1], &[0, 1, 0, 1]).ami().unwrap();
    /// assert!((ami + 0.5).abs() < 1e-12);
    /// ```
    ///
    /// # Source
    /// Vinh, Epps, Bailey 2010, "Information theoretic measures for clusterings comparison", equation 24a; the
    /// arithmetic normalisation of scikit-learn.
    pub fn ami(&self) -> Option<f64> {
        if !self.has_something_to_recover() {
            return None;
        }
        let expected = self.expected_mutual_information();
        let room = 0.5 * (self.entropy(&self.classes) + self.entropy(&self.clusters)) - expected;
        (room > 1e-12).then(|| (self.mutual_information() - expected) / room)
    }

    /// Pairwise F1: of the pairs of items in one cluster and the pairs of one class, `2PR / (P + R)`, in `[0, 1]`.
    ///
    /// P is the share of same-cluster pairs that are of one class, R the share of same-class pairs that share a
    /// cluster. `None` if no class has two items: there is no pair to find.
    ///
    /// ```
    /// use mdprop::metric::clustering::Contingency;
    ///
    /// // 1 pair right of 3 in clusters and of 2 in classes: 2 · 1 / (3 + 2).
    /// assert_eq!(Contingency::new(&[0, 0, 1, 1], &[4, 4, 4, 9]).pairwise_f1(), Some(0.4));
    /// ```
    ///
    /// # Source
    /// Manning, Raghavan, Schütze 2008, section 16.3; the official code's `f1` (which swaps the names of P and R).
    pub fn pairwise_f1(&self) -> Option<f64> {
        let pairs = |n: u64| (n * n.saturating_sub(1) / 2) as f64;
        let both: f64 = self.cells.iter().map(|cell| pairs(cell.2)).sum();
        let of_classes: f64 = self.classes.iter().map(|&n| pairs(n)).sum();
        let of_clusters: f64 = self.clusters.iter().map(|&n| pairs(n)).sum();
        (of_classes > 0.0).then(|| 2.0 * both / (of_classes + of_clusters))
    }

    /// Whether there are at least two classes and one of them has two items.
    fn has_something_to_recover(&self) -> bool {
        self.classes.len() > 1 && self.items > self.classes.len() as u64
    }

    fn entropy(&self, sizes: &[u64]) -> f64 {
        let n = self.items as f64;
        sizes.iter().map(|&size| size as f64 / n).map(|p| -p * p.ln()).sum()
    }

    fn mutual_information(&self) -> f64 {
        self.cells.iter().map(|&(class, cluster, both)| self.information(class, cluster, both)).sum()
    }

    /// One cell's part of the mutual information.
    fn information(&self, class: u64, cluster: u64, both: u64) -> f64 {
        let n = self.items as f64;
        let both = both as f64;
        both / n * (both * n / (class as f64 * cluster as f64)).ln()
    }

    /// Sums over the different pairs of sizes, which are few, each times its number.
    fn expected_mutual_information(&self) -> f64 {
        let n = self.items;
        let ln_factorial = ln_factorials(n);
        let f = |k: u64| ln_factorial[k as usize];
        let mut sum = 0.0;
        for &(a, classes) in &counted(&self.classes) {
            for &(b, clusters) in &counted(&self.clusters) {
                let fixed = f(a) + f(b) + f(n - a) + f(n - b) - f(n);
                let mut part = 0.0;
                for both in (a + b).saturating_sub(n).max(1)..=a.min(b) {
                    let weight = fixed - f(both) - f(a - both) - f(b - both) - f(n + both - a - b);
                    part += self.information(a, b, both) * weight.exp();
                }
                sum += part * (classes * clusters) as f64;
            }
        }
        sum
    }
}

/// Each value with its number, ascending by value.
fn sizes(values: &[u32]) -> Vec<(u32, u64)> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.chunk_by(|a, b| a == b).map(|group| (group[0], group.len() as u64)).collect()
}

/// Each size with how often it occurs.
fn counted(sizes: &[u64]) -> Vec<(u64, u64)> {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    sorted.chunk_by(|a, b| a == b).map(|group| (group[0], group.len() as u64)).collect()
}

/// `ln k!` for k up to n, summed with Kahan's compensation so that differences of large terms keep their digits.
fn ln_factorials(n: u64) -> Vec<f64> {
    let (mut sum, mut lost) = (0.0f64, 0.0f64);
    let mut table = Vec::with_capacity(n as usize + 1);
    table.push(0.0);
    for k in 1..=n {
        let term = (k as f64).ln() - lost;
        let next = sum + term;
        lost = (next - sum) - term;
        sum = next;
        table.push(sum);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every pair looked at.
    fn naive_f1(labels: &[u32], assignments: &[u32]) -> Option<f64> {
        let (mut both, mut class, mut cluster) = (0.0, 0.0, 0.0);
        for i in 0..labels.len() {
            for j in 0..i {
                let (a, b) = (labels[i] == labels[j], assignments[i] == assignments[j]);
                both += f64::from(u8::from(a && b));
                class += f64::from(u8::from(a));
                cluster += f64::from(u8::from(b));
            }
        }
        (class > 0.0).then(|| {
            if both > 0.0 { 2.0 * both / cluster * both / class / (both / cluster + both / class) } else { 0.0 }
        })
    }

    /// Mutual information from probabilities, without a contingency table.
    fn naive_information(labels: &[u32], assignments: &[u32]) -> f64 {
        let n = labels.len() as f64;
        let share = |test: &dyn Fn(usize) -> bool| (0..labels.len()).filter(|&i| test(i)).count() as f64 / n;
        let sum = (0..labels.len()).map(|i| {
            let a = share(&|j| labels[j] == labels[i]);
            let b = share(&|j| assignments[j] == assignments[i]);
            (share(&|j| labels[j] == labels[i] && assignments[j] == assignments[i]) / (a * b)).ln() / n
        });
        sum.sum()
    }

    proptest! {
        #[test]
        fn equals_the_naive_definitions(
            labels in prop::collection::vec(0u32..5, 1..40), seed in any::<u64>(), k in 1u64..6,
        ) {
            let mut rng = crate::rng::stream(seed, "clusters", &[]);
            let assignments: Vec<u32> = labels.iter().map(|_| 100 * crate::rng::below(&mut rng, k) as u32).collect();
            let table = Contingency::new(&labels, &assignments);
            match (table.pairwise_f1(), naive_f1(&labels, &assignments)) {
                (Some(a), Some(b)) => prop_assert!((a - b).abs() < 1e-12),
                (a, b) => prop_assert_eq!(a, b),
            }
            prop_assert!((table.mutual_information() - naive_information(&labels, &assignments)).abs() < 1e-12);
            let of_classes = Contingency::new(&labels, &labels);
            prop_assert!(of_classes.nmi().is_none_or(|v| (v - 1.0).abs() < 1e-12));
            prop_assert!(of_classes.ami().is_none_or(|v| (v - 1.0).abs() < 1e-9));
        }
    }

    #[test]
    fn expected_information_is_the_mean_over_all_permutations() {
        // Heap's algorithm over all 7! orders of the assignments.
        let labels = [0, 0, 0, 1, 1, 2, 2];
        let mut assignments = [0u32, 0, 1, 1, 1, 2, 3];
        let expected = Contingency::new(&labels, &assignments).expected_mutual_information();
        let (mut sum, mut count) = (naive_information(&labels, &assignments), 1u32);
        let (mut state, mut i) = ([0usize; 7], 0);
        while i < 7 {
            if state[i] < i {
                assignments.swap(if i % 2 == 0 { 0 } else { state[i] }, i);
                sum += naive_information(&labels, &assignments);
                count += 1;
                state[i] += 1;
                i = 0;
            } else {
                state[i] = 0;
                i += 1;
            }
        }
        assert_eq!(count, 5040);
        approx::assert_abs_diff_eq!(expected, sum / f64::from(count), epsilon = 1e-10);
    }

    #[test]
    fn what_cannot_be_said_is_not_said() {
        for (labels, assignments) in [(&[][..], &[][..]), (&[3][..], &[0][..]), (&[3, 3, 3][..], &[0, 1, 1][..])] {
            let table = Contingency::new(labels, assignments);
            assert_eq!((table.nmi(), table.ami()), (None, None));
        }
        let singletons = Contingency::new(&[1, 2, 3], &[0, 1, 2]);
        assert_eq!((singletons.nmi(), singletons.ami(), singletons.pairwise_f1()), (None, None, None));
        assert_eq!(Contingency::new(&[1, 1, 2, 2], &[0, 1, 2, 3]).pairwise_f1(), Some(0.0));
    }
}

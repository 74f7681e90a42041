//! A metric class by class: who is served worst, and whether large classes hide small ones.

/// One class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassMean {
    /// Its label.
    pub label: u32,
    /// Queries of it that count.
    pub queries: usize,
    /// Mean over them.
    pub mean: f64,
}

/// The mean of each class, ascending by label.
///
/// ```
/// use mdprop::metric::breakdown::{by_class, macro_mean, worst};
///
/// let classes = by_class(&[1.0, 1.0, 1.0, 0.0], &[4, 4, 4, 9]);
/// assert_eq!((classes[0].label, classes[0].queries, classes[0].mean), (4, 3, 1.0));
/// // Micro (over queries) 0.75, macro (over classes) 0.5.
/// assert_eq!(macro_mean(&classes), Some(0.5));
/// assert_eq!(worst(&classes, 1)[0].label, 9);
/// ```
///
/// # Panics
/// If the lists differ in length.
pub fn by_class(values: &[f64], labels: &[u32]) -> Vec<ClassMean> {
    assert_eq!(values.len(), labels.len(), "one label for each value");
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by_key(|&i| (labels[i], i));
    let class = |members: &[usize]| ClassMean {
        label: labels[members[0]],
        queries: members.len(),
        mean: members.iter().map(|&i| values[i]).sum::<f64>() / members.len() as f64,
    };
    order.chunk_by(|&a, &b| labels[a] == labels[b]).map(class).collect()
}

/// The mean over classes, each with weight 1 (the micro mean is the plain mean over queries). `None` without a class.
pub fn macro_mean(classes: &[ClassMean]) -> Option<f64> {
    (!classes.is_empty()).then(|| classes.iter().map(|c| c.mean).sum::<f64>() / classes.len() as f64)
}

/// The `count` classes with the smallest means, worst first; of equal ones the smaller label first.
///
/// With few queries a class the worst of many is partly bad luck: read it with its number of queries.
pub fn worst(classes: &[ClassMean], count: usize) -> Vec<ClassMean> {
    let mut sorted = classes.to_vec();
    sorted.sort_by(|a, b| a.mean.total_cmp(&b.mean).then(a.label.cmp(&b.label)));
    sorted.truncate(count);
    sorted
}

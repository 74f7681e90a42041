//! Labels that do not lie on each other.

/// Height of a line of labels.
pub(super) const LABEL: i32 = 14;

/// Moves sorted labels apart to one line each, as near to their place as the frame allows.
pub(super) fn spread(wanted: &[i32], top: i32, bottom: i32) -> Vec<i32> {
    let mut placed: Vec<i32> = Vec::with_capacity(wanted.len());
    for y in wanted {
        let free = placed.last().map_or(top, |last| last + LABEL);
        placed.push((*y).max(free));
    }
    let mut limit = bottom;
    for y in placed.iter_mut().rev() {
        *y = (*y).min(limit);
        limit = *y - LABEL;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_never_overlap_and_stay_inside() {
        for wanted in [vec![10, 11, 12], vec![90, 95, 99, 100], vec![0, 50, 100]] {
            let placed = spread(&wanted, 0, 100);
            assert!(placed.windows(2).all(|w| w[1] - w[0] >= LABEL), "{placed:?}");
            assert!(placed.iter().all(|y| (0..=100).contains(y)), "{placed:?}");
        }
    }
}

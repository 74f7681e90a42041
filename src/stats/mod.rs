//! Uncertainty: intervals and paired tests over plain arrays.

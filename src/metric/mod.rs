//! Retrieval metrics over plain arrays.

//! Attacks on any [`Encoder`](crate::encoder::Encoder): goal × method × budget, and the checks that travel with a number.

//! What is asked of a machine, in units that are timed.

use std::ops::{Add, AddAssign};

use serde::Serialize;

use super::STEP;

/// What is asked of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Work {
    /// Rounds of forward passes.
    pub forward: f64,
    /// Rounds of gradient steps that the attack graph takes.
    pub step: f64,
    /// Rounds of gradients that a walk outside of the graph takes.
    pub gradient: f64,
    /// Images that a walk outside of the graph moves, each time counted.
    pub moved: f64,
    /// Images whose loss compares them with the whole gallery, outside of the graph.
    pub compared: f64,
    /// Queries that are ranked against the gallery while they are searched for.
    pub ranked: f64,
    /// How often some of them are.
    pub rankings: f64,
    /// Trials whose answers are measured, as shares of one with all queries.
    pub answers: f64,
    /// Files that are opened.
    pub opened: f64,
    /// Losses whose backward pass is opened.
    pub losses: f64,
}

impl Work {
    /// The same in rounds of forward passes; what is no pass of the model is left out.
    pub fn in_passes(&self) -> f64 {
        self.forward + STEP * (self.step + self.gradient)
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            forward: self.forward + other.forward,
            step: self.step + other.step,
            gradient: self.gradient + other.gradient,
            moved: self.moved + other.moved,
            compared: self.compared + other.compared,
            ranked: self.ranked + other.ranked,
            rankings: self.rankings + other.rankings,
            answers: self.answers + other.answers,
            opened: self.opened + other.opened,
            losses: self.losses + other.losses,
        }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

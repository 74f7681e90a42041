//! How many sessions share the work: measured, not counted.
//!
//! Two hardware threads of one core compute no more products than one, and every session holds the weights once more.
//! Which session runs a piece changes no number, so the choice may depend on a clock.

use std::time::Duration;

use ort::session::Session;

use super::{AttackGraph, EncoderError, EncoderSpec, session, share};

/// Time since some fixed moment.
pub type Clock = fn() -> Duration;

/// Sessions that make the whole less than this factor faster are not worth their memory.
const WORTH: f64 = 1.03;
/// How often each number of sessions is timed.
const ROUNDS: usize = 3;

/// As many of the sessions as are worth having: half as many again and again, while they are (nearly) as fast.
/// `pass` is the work of one session.
///
/// # Errors
/// [`EncoderError::Runtime`] if a pass fails.
pub(super) fn worth_having(
    sessions: &mut [Session],
    clock: Clock,
    pass: impl Fn(&mut Session) -> Result<(), EncoderError> + Sync,
) -> Result<usize, EncoderError> {
    let pass = |session: &mut Session, _: usize| pass(session);
    let passes = sessions.len();
    // The first pass of a session finds out how much memory it needs, the second one gets it from the system.
    for _ in 0..2 {
        share(sessions, passes, &pass)?;
    }
    let mut time = |lanes: usize| -> Result<f64, EncoderError> {
        let start = clock();
        share(&mut sessions[..lanes], passes, &pass)?;
        Ok(clock().saturating_sub(start).as_secs_f64())
    };
    let mut lanes = passes;
    while lanes > 1 {
        let fewer = lanes.div_ceil(2);
        let (mut now, mut instead) = (f64::INFINITY, f64::INFINITY);
        // In turns, and the best of each: what else the machine does only adds.
        for _ in 0..ROUNDS {
            now = now.min(time(lanes)?);
            instead = instead.min(time(fewer)?);
        }
        if instead > now * WORTH {
            break;
        }
        lanes = fewer;
    }
    Ok(lanes)
}

/// One step on grey images.
pub(super) fn grey_step(
    session: &mut Session,
    spec: &EncoderSpec,
    graph: &AttackGraph,
    batch_size: usize,
) -> Result<(), EncoderError> {
    let (n, [c, h, w], d) = (batch_size, spec.input, spec.embedding_dim);
    let filled = |shape: &[usize], value: f32| {
        session::tensor(&spec.name, shape, vec![value; shape.iter().product()]).map(|tensor| tensor.into_dyn())
    };
    let image = [n, c, h, w];
    let inputs = ort::inputs![
        graph.x.as_str() => filled(&image, 0.5)?,
        graph.lower.as_str() => filled(&image, 0.0)?,
        graph.upper.as_str() => filled(&image, 1.0)?,
        graph.step_size.as_str() => filled(&[n, c, 1, 1], 0.01)?,
        graph.targets.as_str() => filled(&[n, 1, d], 0.1)?,
        graph.weights.as_str() => filled(&[n, 1], 1.0)?,
    ];
    session.run(inputs).map_err(session::failed(&spec.name))?;
    Ok(())
}

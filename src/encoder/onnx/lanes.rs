//! How many sessions share the work: measured, not counted.
//!
//! Two hardware threads of one core compute no more products than one, and every session holds the weights once more.
//! Which session runs a piece changes no number, so the choice may depend on a clock.

use std::time::Duration;

use ort::session::Session;

use super::{EncoderError, EncoderSpec, session, share};

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
    let pass = &|session: &mut Session, _: usize| pass(session);
    let passes = sessions.len();
    // The first pass of a session finds out how much memory it needs, the second one gets it from the system.
    for _ in 0..2 {
        share(sessions, passes, pass)?;
    }
    let mut time = |lanes: usize| -> Result<f64, EncoderError> {
        let start = clock();
        share(&mut sessions[..lanes], passes, pass)?;
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

/// One run on grey images: every input holds 0.5.
pub(super) fn grey_step(
    session: &mut Session,
    spec: &EncoderSpec,
    inputs: &[(String, Vec<usize>)],
) -> Result<(), EncoderError> {
    let filled = |(name, shape): &(String, Vec<usize>)| {
        let values = vec![0.5; shape.iter().product()];
        Ok((name.clone(), session::tensor(&spec.name, shape, values)?))
    };
    let inputs = inputs.iter().map(filled).collect::<Result<Vec<_>, EncoderError>>()?;
    session.run(inputs).map_err(session::failed(&spec.name))?;
    Ok(())
}

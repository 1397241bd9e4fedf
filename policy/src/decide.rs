//! The decision. One reading of these four lines is the whole of it: every step
//! needs the proof that the step before left behind, so none can be skipped or
//! moved, and nothing else in this program makes an [`Affirmed`].

use evidence::{Endorsements, Evidence, challenge::Challenge, time::UnixSeconds, verify};

use crate::appraise::Affirmed;
use crate::denial::Denial;
use crate::trust::Trust;

/// Is this evidence authentic, bound to our challenge, known in every measurement, and allowed today?
///
/// # Errors
/// The first [`Denial`].
pub fn decide(
    evidence: &Evidence,
    endorsements: &Endorsements,
    challenge: &Challenge,
    trust: &Trust,
    now: UnixSeconds,
) -> Result<Affirmed, Denial> {
    let authentic = verify(evidence, endorsements, &trust.anchors, now)?; // signed by hardware we trust?
    let bound = authentic.bind(challenge, now)?; // answers our challenge, in time?
    let matched = trust.reference_values.compare(&bound)?; // every measurement known?
    Ok(trust.policy.appraise(matched, now)?) // and allowed today?
}

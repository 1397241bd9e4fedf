//! Whose cosignatures nodes count: the newest order of the policy authority about it, as nodes get it.

use std::sync::Arc;

use audit::record::{RecordBody, SetKind};
use evidence::cose::claimed_payload;
use evidence::names::ItemName;
use governance::statement::VerifiedStatement;
use governance::witness_policy::{HeldWitnessPolicy, WitnessPolicy};

use super::effects::{self, Effect};
use super::refusal::OrderRefusal;
use super::{GovernorParts, Proposal, Rules, Said};
use crate::live::Push;
use crate::signatures;
use crate::store::{Store, StoreError};

/// The witness policy in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessesInForce {
    /// What it says.
    pub held: HeldWitnessPolicy,
    /// The statement that orders it, by each key that signed it.
    pub signatures: Vec<Vec<u8>>,
}

impl WitnessesInForce {
    pub(super) async fn newest(parts: &GovernorParts, store: &Store) -> Result<Option<Self>, OrderRefusal> {
        let all = effects::imported(store, FAMILY).await?;
        let Some((_, _, statement)) = all.into_iter().max_by_key(|(_, sequence, _)| *sequence) else { return Ok(None) };
        let signatures = signatures::over(store, &statement).await?;
        let first =
            signatures.first().ok_or(StoreError::Corrupt { what: "a witness policy has no signature".to_owned() })?;
        let payload = claimed_payload(first).map_err(evidence::threshold::ThresholdDenial::Cose)?;
        // It was obeyed when it was issued; only what it says is read again, under the same authority.
        let issued_at = governance::statement::Statement::decode(&payload)?.issued_at;
        let held = HeldWitnessPolicy::accept(&signatures, &parts.domain, &parts.authority, None, issued_at)?;
        Ok(Some(Self { held, signatures }))
    }
}

/// The proposal to have nodes count these witnesses.
pub(super) fn counted(
    rules: &Rules,
    ordered: &VerifiedStatement,
    policy: &WitnessPolicy,
    signatures: &[Vec<u8>],
) -> Result<Proposal, OrderRefusal> {
    policy.is_of_others(rules.bundle()?.verified.bundle())?;
    let (sequence, statement) = (ordered.statement().sequence, ordered.digest());
    let held = HeldWitnessPolicy { sequence, statement, policy: policy.clone() };
    let mut next = rules.clone();
    next.witnesses = Some(Arc::new(WitnessesInForce { held, signatures: signatures.to_vec() }));
    let mut proposal = Proposal::of(next, "witnesses counted");
    let body = RecordBody::Activation { what: SetKind::Witnesses, version: sequence, set: statement, statement };
    proposal.records.push(Said { subject: statement, about: vec![statement.to_string()], body });
    proposal.effects.push(Effect::Witnesses { sequence, statement });
    proposal.pushes.push(Push::WitnessPolicy(Arc::new(signatures.to_vec())));
    Ok(proposal)
}

/// They are of this family in the table of sets.
pub(super) const FAMILY: &str = "witnesses";

/// Under this name they stand in the table of sets.
pub(super) fn id() -> Result<ItemName, OrderRefusal> {
    ItemName::new("witnesses").map_err(|rule| OrderRefusal::Bug(rule.to_string()))
}

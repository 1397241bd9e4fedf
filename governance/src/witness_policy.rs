//! Witness policy: whose cosignatures a domain's nodes count on its log, and how many there must be.
//!
//! The domain's verifier cannot lower it: the policy authority orders it by statement, and a node that has seen one goes
//! back to none and to no older one.

use std::collections::{BTreeMap, BTreeSet};

use evidence::{cose::PublicKey, digest::Sha256Digest, names::DomainName, threshold::Authority, time::UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::{
    denial::GovernanceDenial,
    statement::{Order, Statement},
    text::Text,
    trust_bundle::{Role, TrustBundle},
};

/// Most keys of witnesses in one policy.
pub const WITNESS_KEYS_CAP: usize = 16;
/// Longest name of a witness (C2SP signed-note key name), in bytes.
pub const WITNESS_NAME_CAP_BYTES: usize = 128;

const WHAT: &str = "witness policy";

/// One key of a witness. A witness that is replacing its key has two under one name, and counts once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedWitness {
    /// Name of its key in signed notes: `DOMAIN/witness` of another domain, or what a public witness calls itself.
    pub name: Text,
    /// Its Ed25519 key.
    pub key: PublicKey,
}

/// The policy, as an order states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessPolicy {
    /// How many distinct witnesses must have cosigned a checkpoint before a node runs or renews anything under it.
    pub quorum: u8,
    /// Those that count.
    pub witnesses: Vec<PinnedWitness>,
}

impl WitnessPolicy {
    /// Refuses a policy that nobody can have meant, or that cannot be met.
    ///
    /// # Errors
    /// [`GovernanceDenial::FieldInvalid`].
    pub fn bounded(&self) -> Result<(), GovernanceDenial> {
        let refuse = |field, rule| Err(GovernanceDenial::FieldInvalid { what: WHAT, field, rule });
        if self.witnesses.len() > WITNESS_KEYS_CAP {
            return refuse("witnesses", "at most 16 keys");
        }
        let of_note = |name: &str| {
            (1..=WITNESS_NAME_CAP_BYTES).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+')
        };
        if self.witnesses.iter().any(|witness| !of_note(witness.name.as_str())) {
            return refuse("witnesses", "named by 1 to 128 graphic ASCII characters, no plus");
        }
        let keys: BTreeMap<_, _> = self.witnesses.iter().map(|witness| (witness.key.cose_key(), ())).collect();
        if keys.len() != self.witnesses.len() {
            return refuse("witnesses", "each key once");
        }
        let names: BTreeSet<_> = self.witnesses.iter().map(|witness| &witness.name).collect();
        if self.quorum == 0 || usize::from(self.quorum) > names.len() {
            return refuse("quorum", "1 to the number of distinct witnesses");
        }
        Ok(())
    }

    /// Refuses a policy that counts the domain's own keys: nobody is a witness of what it signed itself.
    ///
    /// # Errors
    /// [`GovernanceDenial::FieldInvalid`].
    pub fn is_of_others(&self, own: &TrustBundle) -> Result<(), GovernanceDenial> {
        let own: Vec<_> = [Role::Issuer, Role::Log, Role::Witness].iter().flat_map(|role| own.records(*role)).collect();
        if self.witnesses.iter().any(|witness| own.iter().any(|record| record.key == witness.key)) {
            let (field, rule) = ("witnesses", "none of them a key of the domain's own");
            return Err(GovernanceDenial::FieldInvalid { what: WHAT, field, rule });
        }
        Ok(())
    }
}

/// The newest policy that a node has seen of a domain. It only moves on, across restarts too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldWitnessPolicy {
    /// Sequence of the statement that ordered it.
    pub sequence: u64,
    /// Digest of that statement.
    pub statement: Sha256Digest,
    /// What it ordered.
    pub policy: WitnessPolicy,
}

impl HeldWitnessPolicy {
    /// Reads the statement by which the authority ordered the policy that is in force, after `held`.
    ///
    /// When the statement expires is not judged: that bounds when the verifier takes an order up, what was ordered stands
    /// until another order.
    ///
    /// # Errors
    /// [`GovernanceDenial::StatementReplayed`] for an older one, or another one of the same sequence; else the first rule
    /// broken.
    pub fn accept<B: AsRef<[u8]>>(
        signatures: &[B],
        domain: &DomainName,
        authority: &Authority,
        held: Option<&Self>,
        now: UnixSeconds,
    ) -> Result<Self, GovernanceDenial> {
        let verified = Statement::verify_standing(signatures, domain, authority, now)?;
        let (got, statement) = (verified.statement().sequence, verified.digest());
        let Order::CountWitnesses(policy) = &verified.statement().order else {
            let (field, rule) = ("order", "a witness policy");
            return Err(GovernanceDenial::FieldInvalid { what: WHAT, field, rule });
        };
        match held {
            Some(held) if held.statement == statement => {}
            Some(held) if got <= held.sequence => {
                let min = held.sequence.saturating_add(1);
                return Err(GovernanceDenial::StatementReplayed { got, min });
            }
            Some(_) | None => {}
        }
        Ok(Self { sequence: got, statement, policy: WitnessPolicy::clone(policy) })
    }
}

//! A partner across restarts. Rows are not trusted for integrity: our own log names the digest of what was remembered,
//! and only bytes of that digest are recalled.

use evidence::{digest::Sha256Digest, time::UnixSeconds};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{Held, LogHead, Partner, Standing, Verdict};
use crate::{
    codec::{self, Kind},
    denial::GovernanceDenial,
    federation_grant::FederationGrant,
    governance_state::VerifiedState,
    partner_endpoint::PartnerEndpoint,
    revocation::{RevocationList, Revoked},
    text::Text,
    trust_bundle::VerifiedBundle,
};

/// Version of the record.
const MEMORY_VERSION: u8 = 2;
/// Longest encoded memory, in bytes.
pub const MEMORY_CAP_BYTES: usize = 2 * 1024 * 1024;
/// Most revocations of one partner that are taken; a state that names more is never taken.
pub const REVOCATIONS_CAP: usize = 1_000;

const KIND: Kind = Kind { name: "partner memory", cap_bytes: MEMORY_CAP_BYTES };

/// What is remembered of one partner: all but the head of its log, which grows with every entry and is kept beside it, and
/// when it was last seen, so that a restart makes it stale until it is seen again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartnerMemory {
    version: u8,
    endpoint: PartnerEndpoint,
    grant: FederationGrant,
    bundle: ByteBuf,
    /// The newest state that was proven, and the bundle that it names.
    state: Option<(ByteBuf, ByteBuf)>,
    revocations: Vec<(Revoked, Text)>,
    offered: Option<ByteBuf>,
    verdict: Verdict,
    since: UnixSeconds,
}

impl PartnerMemory {
    /// Its deterministic CBOR, and the digest of it that our own log must name.
    ///
    /// # Errors
    /// [`GovernanceDenial::TooLarge`].
    pub fn encode(&self) -> Result<(Vec<u8>, Sha256Digest), GovernanceDenial> {
        let bytes = codec::write(KIND, self)?;
        let digest = Sha256Digest::of(&bytes);
        Ok((bytes, digest))
    }
}

impl Partner {
    /// What must be remembered of it.
    ///
    /// # Errors
    /// [`GovernanceDenial`] when a part of it cannot be encoded.
    pub fn memory(&self) -> Result<PartnerMemory, GovernanceDenial> {
        let payload = |state: &VerifiedState| state.state().encode().map(ByteBuf::from);
        let named = |state, bundle: &VerifiedBundle| Ok((payload(state)?, ByteBuf::from(bundle.bundle().encode()?)));
        let revocations = self.held.as_ref().map(|held| held.revocations.entries()).into_iter().flatten();
        Ok(PartnerMemory {
            version: MEMORY_VERSION,
            endpoint: self.endpoint.clone(),
            grant: self.grant.clone(),
            bundle: ByteBuf::from(self.bundle.bundle().encode()?),
            state: self.held.as_ref().map(|held| named(&held.state, &held.bundle)).transpose()?,
            revocations: revocations.map(|(revoked, reason)| (revoked.clone(), reason.clone())).collect(),
            offered: self.offered.as_ref().map(payload).transpose()?,
            verdict: self.verdict,
            since: self.since,
        })
    }

    /// The partner that these bytes remember, if they are those whose digest our log names. It is stale until it is seen.
    ///
    /// # Errors
    /// [`GovernanceDenial`] for bytes of another digest, and for the first rule broken.
    pub fn recall(
        bytes: &[u8],
        logged: Sha256Digest,
        head: Option<LogHead>,
        now: UnixSeconds,
    ) -> Result<Self, GovernanceDenial> {
        let got = Sha256Digest::of(bytes);
        if got != logged {
            let cause = format!("digest {got}, the log names {logged}");
            return Err(GovernanceDenial::Malformed { what: KIND.name, cause });
        }
        let memory: PartnerMemory = codec::read(KIND, bytes)?;
        codec::version(KIND.name, memory.version, MEMORY_VERSION)?;
        memory.endpoint.bounded()?;
        memory.grant.bounded()?;
        let recalled = |payload: ByteBuf| VerifiedState::recalled(&payload);
        let revocations = RevocationList::new(memory.revocations);
        let held = memory.state.map(|(state, bundle)| {
            Ok(Held { state: recalled(state)?, bundle: VerifiedBundle::recalled(&bundle)?, revocations })
        });
        let mut partner = Self {
            endpoint: memory.endpoint,
            grant: memory.grant,
            bundle: VerifiedBundle::recalled(&memory.bundle)?,
            held: held.transpose()?,
            offered: memory.offered.map(recalled).transpose()?,
            head,
            unproven: false,
            seen_at: None,
            verdict: memory.verdict,
            since: memory.since,
            told: Standing::Stale,
            newest_s: now.max(memory.since),
        };
        partner.told = partner.standing(now);
        Ok(partner)
    }
}

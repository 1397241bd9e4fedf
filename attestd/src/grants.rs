//! What domains granted this node at enrolment, and what followed it since: `enrolment.cbor`, judged anew whenever it is
//! read.

use std::sync::{Mutex, PoisonError};

use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use evidence::threshold::Authority;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::trust_bundle::{OWN_LIFETIME_CAP_S, TrustBundle, VerifiedBundle};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use wire::bounded::enrolment::EnrolGrant;

use crate::state::{StateDir, StateError};

const FILE: &str = "enrolment.cbor";
/// Domains that a node can be enrolled with.
const GRANTS_CAP: usize = 32;
/// One domain's grant, its bundle verified.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The domain.
    pub domain: DomainName,
    /// TLS client certificate for its verifier, PEM chain.
    pub certificate_pem: Vec<u8>,
    /// Its newest keys, signed by its policy authority; what they sign counts only while this bundle is in force.
    pub bundle: VerifiedBundle,
    /// Its policy authority: who may sign the next bundle, and readmit this node.
    pub authority: Authority,
    /// Whether the domain called itself a lab at enrolment.
    pub lab: bool,
}

/// The form in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    domain: DomainName,
    certificate_pem: ByteBuf,
    bundle: Vec<ByteBuf>,
    authority: Authority,
    lab: bool,
}

/// Why a grant is not accepted, from the wire or from the file.
#[derive(Debug, thiserror::Error)]
pub enum GrantDenial {
    /// For another audience than the configured domain's verifier.
    #[error("grant is for audience {got}, not {want}")]
    Audience {
        /// In the grant.
        got: String,
        /// The configured domain's.
        want: String,
    },
    /// The authority granted is not the one that the bundle names for its successor.
    #[error("policy authority of the grant is not that of the trust bundle")]
    Authority,
    /// More domains than a node is enrolled with.
    #[error("this node is enrolled with {GRANTS_CAP} domains already")]
    TooMany,
    /// The trust bundle does not hold.
    #[error("trust bundle of {domain}: {source}")]
    Bundle {
        /// The domain.
        domain: DomainName,
        /// Why.
        source: Box<GovernanceDenial>,
    },
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
}

impl GrantDenial {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Audience { .. } | Self::Authority => "governance.grant_mismatch",
            Self::TooMany => "fault.too_many_domains",
            Self::Bundle { source, .. } => source.code(),
            Self::State(_) => "fault.state",
        }
    }
}

/// A grant that came, judged: what may be stored.
#[derive(Debug)]
pub struct JudgedGrant {
    stored: Stored,
    grant: Grant,
    lineage_head: Sha256Digest,
}

impl JudgedGrant {
    /// Judges what `domain`'s verifier granted.
    ///
    /// # Errors
    /// [`GrantDenial`].
    pub fn judge(grant: EnrolGrant, domain: &DomainName, now: UnixSeconds) -> Result<Self, GrantDenial> {
        if grant.audience != domain.verifier_spiffe_id() {
            return Err(GrantDenial::Audience { got: grant.audience, want: domain.verifier_spiffe_id() });
        }
        let stored = Stored {
            domain: domain.clone(),
            certificate_pem: ByteBuf::from(grant.client_certificate),
            bundle: grant.trust_bundle.into_iter().map(ByteBuf::from).collect(),
            authority: grant.authority,
            lab: grant.lab,
        };
        Ok(Self { grant: verified(&stored, now)?, stored, lineage_head: grant.lineage_head })
    }

    /// Stores it in place of an earlier one of the same domain. The lineage head goes first: without the grant it
    /// means nothing, and the grant without it would start a second lineage.
    ///
    /// # Errors
    /// [`GrantDenial::State`], [`GrantDenial::TooMany`], [`GrantDenial::Bundle`] for one that is older than the held one.
    pub fn store(self, state: &StateDir) -> Result<Grant, GrantDenial> {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Stored> = state.read_cbor(FILE)?.unwrap_or_default();
        if let Some(held) = all.iter().find(|held| held.domain == self.stored.domain)
            && held.authority == self.stored.authority
        {
            let (domain, held) = (held.domain.clone(), remembered(held)?.bundle);
            let newer = self.grant.bundle.supersedes(&held);
            newer.map_err(|source| GrantDenial::Bundle { domain, source: Box::new(source) })?;
        }
        all.retain(|held| held.domain != self.stored.domain);
        if all.len() >= GRANTS_CAP {
            return Err(GrantDenial::TooMany);
        }
        all.push(self.stored);
        all.sort_by(|a, b| a.domain.cmp(&b.domain));
        state.hear_lineage_head(&self.grant.domain, self.lineage_head)?;
        state.keep_lineage_heads()?;
        state.write_cbor(FILE, &all)?;
        Ok(self.grant)
    }

    /// The grant.
    #[must_use]
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }
}

/// Reads the grant of `domain`, `None` before enrolment. That its bundle may have run out meanwhile is no reason not to
/// connect: the verifier brings a newer one, and until then nothing that it signed counts.
///
/// # Errors
/// [`GrantDenial`].
pub fn load(state: &StateDir, domain: &DomainName) -> Result<Option<Grant>, GrantDenial> {
    let all: Vec<Stored> = state.read_cbor(FILE)?.unwrap_or_default();
    all.iter().find(|held| held.domain == *domain).map(remembered).transpose()
}

/// Keeps a newer bundle of `domain`, which the caller judged.
pub(crate) fn keep_bundle(state: &StateDir, domain: &DomainName, signatures: &[Vec<u8>]) -> Result<(), StateError> {
    let bundle: Vec<_> = signatures.iter().cloned().map(ByteBuf::from).collect();
    change(state, domain, |held| held.bundle = bundle)
}

/// Keeps a newer client certificate for `domain`.
pub(crate) fn keep_certificate(state: &StateDir, domain: &DomainName, pem: &[u8]) -> Result<(), StateError> {
    change(state, domain, |held| held.certificate_pem = ByteBuf::from(pem))
}

fn change(state: &StateDir, domain: &DomainName, change: impl FnOnce(&mut Stored)) -> Result<(), StateError> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all: Vec<Stored> = state.read_cbor(FILE)?.unwrap_or_default();
    if let Some(held) = all.iter_mut().find(|held| held.domain == *domain) {
        change(held);
        state.write_cbor(FILE, &all)?;
    }
    Ok(())
}

/// What was verified when it was taken, read again as of the moment it was issued.
fn remembered(stored: &Stored) -> Result<Grant, GrantDenial> {
    let bundle = |source| GrantDenial::Bundle { domain: stored.domain.clone(), source: Box::new(source) };
    let absent = || GovernanceDenial::Malformed { what: "trust bundle", cause: "no signature".to_owned() };
    let first = stored.bundle.first().ok_or_else(|| bundle(absent()))?;
    let malformed = |cause: String| bundle(GovernanceDenial::Malformed { what: "trust bundle", cause });
    let payload = evidence::cose::claimed_payload(first).map_err(|denial| malformed(denial.to_string()))?;
    verified(stored, TrustBundle::decode(&payload).map_err(bundle)?.issued_at)
}

fn verified(stored: &Stored, now: UnixSeconds) -> Result<Grant, GrantDenial> {
    let domain = stored.domain.clone();
    let bundle = TrustBundle::verify(&stored.bundle, &domain, &stored.authority, OWN_LIFETIME_CAP_S, now)
        .map_err(|source| GrantDenial::Bundle { domain: domain.clone(), source: Box::new(source) })?;
    // The bundle names its successor's signers; the grant must not name others.
    if bundle.bundle().authority != stored.authority {
        return Err(GrantDenial::Authority);
    }
    let (certificate_pem, authority) = (stored.certificate_pem.to_vec(), stored.authority.clone());
    Ok(Grant { domain, certificate_pem, bundle, authority, lab: stored.lab })
}

/// The file is read, changed and written by one at a time: each domain's link changes its own part.
static TURN: Mutex<()> = Mutex::new(());

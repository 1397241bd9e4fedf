//! What domains granted this node at enrolment: `enrolment.cbor`, judged anew whenever it is read.

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
    /// Its keys, signed by its policy authority.
    pub bundle: VerifiedBundle,
    /// Its policy authority: who may sign the next bundle, and readmit this node.
    pub authority: Authority,
}

/// The form in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    domain: DomainName,
    certificate_pem: ByteBuf,
    bundle: Vec<ByteBuf>,
    authority: Authority,
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
        };
        Ok(Self { grant: verified(&stored, now)?, stored, lineage_head: grant.lineage_head })
    }

    /// Stores it in place of an earlier one of the same domain. The lineage head goes first: without the grant it
    /// means nothing, and the grant without it would start a second lineage.
    ///
    /// # Errors
    /// [`GrantDenial::State`], [`GrantDenial::TooMany`].
    pub fn store(self, state: &StateDir) -> Result<Grant, GrantDenial> {
        let mut all: Vec<Stored> = state.read_cbor(FILE)?.unwrap_or_default();
        all.retain(|held| held.domain != self.stored.domain);
        if all.len() >= GRANTS_CAP {
            return Err(GrantDenial::TooMany);
        }
        all.push(self.stored);
        all.sort_by(|a, b| a.domain.cmp(&b.domain));
        state.set_lineage_head(&self.grant.domain, self.lineage_head)?;
        state.write_cbor(FILE, &all)?;
        Ok(self.grant)
    }

    /// The grant.
    #[must_use]
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }
}

/// Reads the grant of `domain`, `None` before enrolment.
///
/// # Errors
/// [`GrantDenial`], also once its bundle has expired.
pub fn load(state: &StateDir, domain: &DomainName, now: UnixSeconds) -> Result<Option<Grant>, GrantDenial> {
    let all: Vec<Stored> = state.read_cbor(FILE)?.unwrap_or_default();
    all.iter().find(|held| held.domain == *domain).map(|held| verified(held, now)).transpose()
}

fn verified(stored: &Stored, now: UnixSeconds) -> Result<Grant, GrantDenial> {
    let domain = stored.domain.clone();
    let bundle = TrustBundle::verify(&stored.bundle, &domain, &stored.authority, OWN_LIFETIME_CAP_S, now)
        .map_err(|source| GrantDenial::Bundle { domain: domain.clone(), source: Box::new(source) })?;
    // The bundle names its successor's signers; the grant must not name others.
    if bundle.bundle().authority != stored.authority {
        return Err(GrantDenial::Authority);
    }
    Ok(Grant { domain, certificate_pem: stored.certificate_pem.to_vec(), bundle, authority: stored.authority.clone() })
}

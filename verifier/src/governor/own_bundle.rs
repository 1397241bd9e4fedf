//! The domain's own trust bundle, as partners and nodes get it: signed offline by the policy authority, handed in, and in
//! force from the governance state that names it.

use evidence::cose::claimed_payload;
use evidence::digest::Sha256Digest;
use evidence::threshold::ThresholdDenial;
use evidence::time::UnixSeconds;
use governance::trust_bundle::{OWN_LIFETIME_CAP_S, Role, TrustBundle, VerifiedBundle};
use serde::Serialize;
use std::sync::Arc;

use super::effects::Effect;
use super::refusal::OrderRefusal;
use super::{Governor, GovernorParts, Proposal};
use crate::live::Push;
use crate::signatures;
use crate::store::{Store, StoreError};

/// A bundle, with the signatures that it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleInForce {
    /// One COSE_Sign1 for each authority key that signed.
    pub signatures: Vec<Vec<u8>>,
    /// What they are over.
    pub verified: VerifiedBundle,
}

/// What handing a bundle in did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BundleTaken {
    /// Its digest: what partners' operators pin.
    pub bundle: Sha256Digest,
    /// Its sequence.
    pub sequence: u64,
    /// First second in which partners refuse it.
    pub expires_at: UnixSeconds,
    /// The governance epoch that names it.
    pub epoch: u64,
}

impl BundleInForce {
    /// The bundle that the newest state names: the founding one, or one that was handed in since. That it may have run
    /// out while we were down is no reason not to start: partners judge that for themselves.
    pub(super) async fn named(
        founding: Self,
        named: Sha256Digest,
        parts: &GovernorParts,
        store: &Store,
    ) -> Result<Self, OrderRefusal> {
        if founding.verified.digest() == named {
            return Ok(founding);
        }
        let signatures = signatures::over(store, &named).await?;
        let absent = || StoreError::Corrupt { what: format!("trust bundle {named} is not stored") };
        let payload = claimed_payload(signatures.first().ok_or_else(absent)?).map_err(ThresholdDenial::Cose)?;
        let issued_at = TrustBundle::decode(&payload)?.issued_at;
        let verified =
            TrustBundle::verify(&signatures, &parts.domain, &parts.authority, OWN_LIFETIME_CAP_S, issued_at)?;
        Ok(Self { signatures, verified })
    }
}

impl Governor {
    /// Takes the domain's next trust bundle. It must continue the one in force and hold the keys that are in use here.
    pub async fn import_bundle(&self, signatures: &[Vec<u8>], now: UnixSeconds) -> Result<BundleTaken, OrderRefusal> {
        let mut rules = self.0.turn.lock().await;
        let parts = &self.0.parts;
        let verified = TrustBundle::verify(signatures, &parts.domain, &parts.authority, OWN_LIFETIME_CAP_S, now)?;
        verified.supersedes(&rules.bundle.verified)?;
        self.holds_our_keys(&verified, &rules.bundle.verified, now)?;
        let (bundle, sequence) = (verified.digest(), verified.bundle().sequence);
        let expires_at = verified.bundle().expires_at;
        let mut proposal = Proposal::of(rules.clone(), "bundle");
        for cose in signatures {
            let kid = self.one_signature(evidence::cose::Purpose::TrustBundle, cose)?.1;
            proposal.effects.push(Effect::Signature { payload: bundle, kid, cose: cose.clone() });
        }
        proposal.pushes.push(Push::TrustBundle(Arc::from(signatures)));
        proposal.rules.bundle = Arc::new(BundleInForce { signatures: signatures.to_vec(), verified });
        let epoch = self.enact(&mut rules, proposal, now).await?.value.epoch;
        Ok(BundleTaken { bundle, sequence, expires_at, epoch })
    }

    /// A bundle without the keys that sign here would make everything that is signed from then on worthless.
    fn holds_our_keys(
        &self,
        next: &VerifiedBundle,
        held: &VerifiedBundle,
        now: UnixSeconds,
    ) -> Result<(), OrderRefusal> {
        let refuse = |what: &str| Err(OrderRefusal::Malformed(format!("the bundle {what}")));
        let (ours, bundle) = (self.0.parts.issuer.public(), next.bundle());
        let signs = |record: &&governance::trust_bundle::KeyRecord| record.from <= now && now < record.until;
        if !bundle.records(Role::Issuer).iter().filter(signs).any(|record| record.key == *ours) {
            return refuse("does not hold the issuer key that is in use");
        }
        if bundle.authority != self.0.parts.authority {
            return refuse("names another policy authority than the configuration");
        }
        let lost = |role| {
            let held = held.bundle().records(role).iter().filter(signs);
            held.filter(|held| !bundle.records(role).iter().any(|record| record.key == held.key)).count() > 0
        };
        if bundle.log_origin != held.bundle().log_origin || lost(Role::Log) {
            return refuse("does not hold the log and its key that are in use");
        }
        Ok(())
    }
}

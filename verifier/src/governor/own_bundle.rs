//! The domain's own trust bundle, as partners and nodes get it: signed offline by the policy authority, handed in, and in
//! force from the governance state that names it.

use std::sync::Arc;

use evidence::cose::claimed_payload;
use evidence::digest::Sha256Digest;
use evidence::threshold::ThresholdDenial;
use evidence::time::UnixSeconds;
use governance::rotation;
use governance::trust_bundle::{OWN_LIFETIME_CAP_S, TrustBundle, VerifiedBundle};
use serde::Serialize;
use sqlx::AnyPool;

use super::effects::Effect;
use super::refusal::OrderRefusal;
use super::{Governor, GovernorParts, Proposal};
use crate::live::Push;
use crate::store::{StoreError, While};
use crate::{key_table, signatures};

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

/// Our trust bundles from the founding one on, ascending. Each counts by the policy authority's signatures, as of when it
/// was issued: that the newest may have run out while we were down is no reason not to start.
pub async fn own_bundles(parts: &GovernorParts, reads: &AnyPool) -> Result<Vec<Arc<BundleInForce>>, OrderRefusal> {
    let mut bundles = vec![read(parts, parts.bundle.clone())?];
    let mut connection = reads.acquire().await.doing("reading the own trust bundles")?;
    for payload in key_table::bundles(reads).await? {
        let next = read(parts, signatures::over_in(&mut connection, &payload).await?)?;
        if let Some(held) = bundles.last() {
            next.verified.supersedes(&held.verified)?;
        }
        bundles.push(next);
    }
    Ok(bundles)
}

fn read(parts: &GovernorParts, signatures: Vec<Vec<u8>>) -> Result<Arc<BundleInForce>, OrderRefusal> {
    let absent = || StoreError::Corrupt { what: "a trust bundle of ours has no signature".to_owned() };
    let payload = claimed_payload(signatures.first().ok_or_else(absent)?).map_err(ThresholdDenial::Cose)?;
    let issued_at = TrustBundle::decode(&payload)?.issued_at;
    let verified = TrustBundle::verify(&signatures, &parts.domain, &parts.authority, OWN_LIFETIME_CAP_S, issued_at)?;
    Ok(Arc::new(BundleInForce { signatures, verified }))
}

impl Governor {
    /// Takes the domain's next trust bundle. It must continue the one in force, hold every key that is needed here, and
    /// announce new ones for no earlier than everybody knows of them.
    pub async fn import_bundle(&self, signatures: &[Vec<u8>], now: UnixSeconds) -> Result<BundleTaken, OrderRefusal> {
        let mut rules = self.0.turn.lock().await;
        let parts = &self.0.parts;
        let verified = TrustBundle::verify(signatures, &parts.domain, &parts.authority, OWN_LIFETIME_CAP_S, now)?;
        let held = rules.bundle()?.verified.clone();
        verified.supersedes(&held)?;
        let (held, next) = (held.bundle(), verified.bundle());
        if next.authority != parts.authority {
            return Err(OrderRefusal::Malformed(
                "the bundle names another policy authority than the configuration".to_owned(),
            ));
        }
        if next.log_origin != held.log_origin {
            return Err(OrderRefusal::Malformed(format!("the bundle names another log than {}", held.log_origin)));
        }
        let serving = self.serving(&rules).await?;
        rotation::retires(held, next, |role| self.keys().active(role), |role, kid| serving.until(role, kid), now)?;
        rotation::announces(held, next)?;
        let (bundle, sequence, expires_at) = (verified.digest(), next.sequence, next.expires_at);
        let mut proposal = Proposal::of(rules.clone(), "bundle");
        for cose in signatures {
            let kid = self.one_signature(evidence::cose::Purpose::TrustBundle, cose)?.1;
            proposal.effects.push(Effect::Signature { payload: bundle, kid, cose: cose.clone() });
        }
        proposal.effects.push(Effect::OwnBundle { sequence, payload: bundle });
        proposal.pushes.push(Push::TrustBundle(Arc::from(signatures)));
        proposal.rules.bundles.push(Arc::new(BundleInForce { signatures: signatures.to_vec(), verified }));
        let epoch = self.enact(&mut rules, proposal, now).await?.value.epoch;
        self.keys().learn(rules.bundles.iter().map(|bundle| bundle.verified.bundle()));
        Ok(BundleTaken { bundle, sequence, expires_at, epoch })
    }

    /// The bundles, as signed, that say which key of ours counted when: each by which that changed, and the one in force.
    #[must_use]
    pub fn telling_bundles(&self) -> Vec<Vec<Vec<u8>>> {
        let snapshot = self.current();
        let keys = |bundle: &BundleInForce| {
            let TrustBundle { issuer, log, witness, .. } = bundle.verified.bundle().clone();
            (issuer, log, witness)
        };
        let mut telling: Vec<&Arc<BundleInForce>> = Vec::new();
        for bundle in &snapshot.bundles {
            if telling.last().is_none_or(|before| keys(before) != keys(bundle)) {
                telling.push(bundle);
            }
        }
        if telling.last().is_none_or(|last| last.verified.digest() != snapshot.bundle.verified.digest()) {
            telling.push(&snapshot.bundle);
        }
        telling.into_iter().map(|bundle| bundle.signatures.clone()).collect()
    }
}

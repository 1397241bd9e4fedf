//! What an execution shows others: an X509-SVID for each lease, and the keys by which it knows the workloads of partners.
//!
//! It is made in memory with what is granted, its digest is in the record of that, and it leaves with the receipt or never.

use evidence::time::UnixSeconds;
use governance::artifact::ArtifactTerms;
use governance::trust_bundle::KeyRecord;
use wire::proto;

use crate::desk::Desk;
use crate::fault::Fault;
use crate::intake::Asked;
use crate::random;

/// What may be granted: terms, and the SVID that lasts as long as they do.
pub(crate) struct Offer {
    pub(crate) terms: ArtifactTerms,
    /// Its certificate, DER.
    pub(crate) svid: Vec<u8>,
}

impl Desk {
    pub(crate) fn offer(&self, asked: &Asked, terms: ArtifactTerms, now: UnixSeconds) -> Result<Offer, Fault> {
        let bug = |error: &dyn std::fmt::Display| Fault::Bug { what: error.to_string() };
        let spiffe_id = asked.intent.spiffe_id(self.domain()).map_err(|error| bug(&error))?;
        let (serial, key) = (random::bytes().map_err(Fault::from)?, &asked.intent.svid_key);
        let svid = self.ca().svid(&spiffe_id, key, serial, now, terms.expires_at).map_err(|error| bug(&error))?;
        Ok(Offer { terms, svid: svid.to_vec() })
    }

    /// Keys of the partners that may be relied on now: no workload knows those of another by the keys of a stale one.
    pub(crate) fn partners_keys(&self, now: UnixSeconds) -> Vec<proto::DomainKeys> {
        let partners = self.parts.trust.partners();
        let fresh = partners.all().filter_map(|held| held.fresh(now).ok());
        let keys = fresh.map(|partner| proto::DomainKeys {
            domain: partner.domain().to_string(),
            x509: partner.bundle().bundle().ca.iter().map(|der| der.to_vec()).collect(),
            jwt: partner.bundle().bundle().jwt.iter().map(key_window).collect(),
        });
        keys.collect()
    }
}

fn key_window(KeyRecord { key, from, until }: &KeyRecord) -> proto::KeyWindow {
    proto::KeyWindow { key: key.cose_key().to_vec(), from: from.0, until: until.0 }
}

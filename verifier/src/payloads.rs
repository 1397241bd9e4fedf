//! What signed payloads say, for the proof verification in `audit`: the types are `governance`'s.

use std::collections::BTreeMap;

use audit::payload::{ArtifactFacts, DomainKeys, NodeFacts, PassportFacts, PayloadReader, ReadmissionFacts, TimedKey};
use evidence::cose::claimed_payload;
use evidence::digest::Sha256Digest;
use governance::{
    artifact::Artifact,
    end::EndRecord,
    halt::HaltRecord,
    intent::Intent,
    passport::Passport,
    statement::{Order, Statement},
    trust_bundle::{KeyRecord, TrustBundle},
};

/// Reads payloads with the one set of readers that the service itself uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct GovernancePayloads;

impl PayloadReader for GovernancePayloads {
    fn domain_keys(&self, payload: &[u8]) -> Result<DomainKeys, String> {
        let bundle = TrustBundle::decode(payload).map_err(|denial| denial.to_string())?;
        Ok(DomainKeys {
            domain: bundle.domain,
            sequence: bundle.sequence,
            issued_at: bundle.issued_at,
            issuer: timed(bundle.issuer),
            log_origin: bundle.log_origin,
            log: timed(bundle.log),
            witness: timed(bundle.witness),
        })
    }

    fn intent(&self, payload: &[u8]) -> Result<NodeFacts, String> {
        let intent = Intent::decode(payload).map_err(|denial| denial.to_string())?;
        Ok(NodeFacts { node: intent.node, intent: None, code: None, authorizations: BTreeMap::new() })
    }

    fn artifact(&self, payload: &[u8]) -> Result<ArtifactFacts, String> {
        let artifact = Artifact::decode(payload).map_err(|denial| denial.to_string())?;
        let (terms, receipt) = artifact.into_parts();
        Ok(ArtifactFacts {
            id: terms.id.0,
            terms: terms.digest().map_err(|denial| denial.to_string())?,
            index: receipt.index,
            entry: receipt.entry,
            intent: terms.intent,
            node: terms.bindings.node,
            lease_seq: terms.lease.seq,
        })
    }

    fn halt(&self, payload: &[u8]) -> Result<NodeFacts, String> {
        let halt = HaltRecord::decode(payload).map_err(|denial| denial.to_string())?;
        let code = halt.reason.code().to_owned();
        Ok(NodeFacts { node: halt.node, intent: None, code: Some(code), authorizations: halt.authorizations })
    }

    fn end(&self, payload: &[u8]) -> Result<NodeFacts, String> {
        let end = EndRecord::decode(payload).map_err(|denial| denial.to_string())?;
        Ok(NodeFacts { node: end.node, intent: Some(end.intent), code: None, authorizations: end.authorizations })
    }

    fn passport(&self, payload: &[u8]) -> Result<PassportFacts, String> {
        let passport = Passport::decode(payload).map_err(|denial| denial.to_string())?;
        // Whether the partner made it, its own log shows: the record that is named here is compared with what is said of it.
        let artifact = claimed_payload(&passport.artifact).map_err(|denial| denial.to_string())?;
        let (_, receipt) = Artifact::decode(&artifact).map_err(|denial| denial.to_string())?.into_parts();
        let result = Sha256Digest::of(&passport.result);
        Ok(PassportFacts { node: passport.node, partner: passport.partner, result, entry: receipt.entry })
    }

    fn readmission(&self, payload: &[u8]) -> Result<ReadmissionFacts, String> {
        let statement = Statement::decode(payload).map_err(|denial| denial.to_string())?;
        match statement.order {
            Order::Readmit { node, halt, epoch } => Ok(ReadmissionFacts { node, halt, epoch }),
            Order::ActivateReferences { .. }
            | Order::SupersedeReferences { .. }
            | Order::ActivatePolicy { .. }
            | Order::Revoke(_)
            | Order::TrustDomain(_)
            | Order::UntrustDomain { .. }
            | Order::CountWitnesses(_) => Err("orders something else".to_owned()),
        }
    }
}

fn timed(records: Vec<KeyRecord>) -> Vec<TimedKey> {
    records.into_iter().map(|record| TimedKey { key: record.key, from: record.from, until: record.until }).collect()
}

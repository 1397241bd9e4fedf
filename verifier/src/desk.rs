//! The desk: what every handler shares.
//!
//! request taken in ([`crate::intake`]) → challenge ([`crate::challenges`]) → evidence judged (`appraise`, [`crate::judge`]) →
//! recorded and released, or refused (`issuer`, `grant`, `denials`).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use evidence::digest::Sha256Digest;
use evidence::names::{DomainName, NodeId};
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::artifact::LeaseTerms;
use governance::rotation::authority_name;
use tokio::sync::Semaphore;
use wire::bounded::OTHER_CHECKPOINTS_CAP;
use wire::bounded::node::Hello;
use wire::proto;

use crate::admin::{Health, Problem};
use crate::ca::{CertificateAuthority, NODE_CERTIFICATE_LIFETIME};
use crate::challenges::{About, Outstanding};
use crate::clock::Clock;
use crate::config::Admission;
use crate::ear_key::EarKey;
use crate::endorsements::{EndorsementStore, ProvenNodes};
use crate::enrolment::pem;
use crate::fault::Fault;
use crate::federation::gossip::Gossip;
use crate::intake::Request;
use crate::key_table;
use crate::keys::KeyEncryptionKey;
use crate::live::{Live, Push};
use crate::log::{Log, Seen};
use crate::metrics::Metrics;
use crate::nodes::{self, Node, NodeIdentity, NodeStatus};
use crate::online_keys::{Authorities, Issuer, JwtKey};
use crate::platforms::Platforms;
use crate::random;
use crate::rate::{PerMinute, PerNode};
use crate::refusal::{ProtocolDenial, Refused};
use crate::signatures;
use crate::store::{self, Store, StoreError};
use crate::trust::{Trust, TrustSource};
use crate::witness::{self, Quorum};

/// How long leases are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLengths {
    /// Length of a lease.
    pub duration_ms: u64,
    /// When to renew it.
    pub renew_after_ms: u64,
}

impl LeaseLengths {
    /// As the terms of the lease with this number.
    pub(crate) const fn counted(self, seq: u64) -> LeaseTerms {
        LeaseTerms { seq, duration_ms: self.duration_ms, renew_after_ms: self.renew_after_ms }
    }
}

/// What a desk is made of.
pub struct DeskParts {
    /// Our domain.
    pub domain: DomainName,
    /// The tables.
    pub store: Store,
    /// The log.
    pub log: Log,
    /// Signs records, results and artifacts.
    pub issuer: Issuer,
    /// Signs results once more, as JWT.
    pub ear: EarKey,
    /// Signs JWT-SVIDs.
    pub jwt: JwtKey,
    /// Opens execution keys.
    pub kek: KeyEncryptionKey,
    /// Makes certificates.
    pub ca: Authorities,
    /// What is judged by.
    pub trust: TrustSource,
    /// Time.
    pub clock: Clock,
    /// Who is connected.
    pub live: Live,
    /// How long leases are.
    pub lease: LeaseLengths,
    /// Who is admitted without an operator.
    pub admission: Admission,
    /// Vendors' certificates and collateral.
    pub endorsements: EndorsementStore,
    /// How many witnesses must have cosigned before anything is released.
    pub quorum: Quorum,
    /// Where goes what nodes hold of other domains' logs.
    pub gossip: Gossip,
    /// Appraisals at once: enough to hide storage, few enough to bound memory.
    pub appraisals: usize,
}

/// Everything that handlers share. One per process.
pub struct Desk {
    pub(crate) parts: DeskParts,
    audience: String,
    pub(crate) proven: ProvenNodes,
    pub(crate) platforms: Platforms,
    metrics: Metrics,
    pub(crate) appraisals: Semaphore,
    pub(crate) denials_per_node: PerNode,
    /// Passports that count, by the partner that vouches.
    pub(crate) vouched: PerMinute<DomainName>,
    pub(crate) jwt_svids_per_node: PerNode,
    /// Digests of anchors and vendors' documents that the evidence store holds already.
    pub(crate) kept: Mutex<HashSet<Sha256Digest>>,
    /// Set once somebody shows that our log went back or was replaced; nothing is judged any more.
    contradicted: OnceLock<StoreError>,
}

/// A record of the node's, logged.
pub struct Recorded {
    /// Log index.
    pub index: u64,
    /// Deterministic CBOR of the receipt.
    pub receipt: Vec<u8>,
    /// Newest record of the node's lineage.
    pub head: Sha256Digest,
}

impl Recorded {
    /// As the node is told.
    pub fn to_message(&self) -> proto::Recorded {
        proto::Recorded { index: self.index, receipt: self.receipt.clone(), lineage_head: self.head.0.to_vec() }
    }
}

impl Desk {
    /// Opens the desk.
    pub fn new(parts: DeskParts) -> Self {
        let (audience, appraisals) = (parts.domain.verifier_spiffe_id(), parts.appraisals);
        let platforms = Platforms::new(parts.endorsements.clone());
        Self {
            parts,
            audience,
            proven: ProvenNodes::default(),
            platforms,
            metrics: Metrics::new(),
            appraisals: Semaphore::new(appraisals),
            denials_per_node: PerNode::new(DENIALS_BURST, DENIALS_REFILL),
            vouched: PerMinute::default(),
            jwt_svids_per_node: PerNode::new(JWT_SVIDS_BURST, JWT_SVIDS_REFILL),
            kept: Mutex::default(),
            contradicted: OnceLock::new(),
        }
    }

    /// Our domain.
    pub fn domain(&self) -> &DomainName {
        &self.parts.domain
    }

    /// Our SPIFFE ID.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Makes certificates.
    pub fn ca(&self) -> Arc<CertificateAuthority> {
        self.parts.ca.active()
    }

    /// Who is connected.
    pub fn live(&self) -> &Live {
        &self.parts.live
    }

    /// What was counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.parts.clock
    }

    /// The time to judge by.
    pub fn now(&self) -> Result<UnixSeconds, Fault> {
        Ok(self.parts.clock.now()?)
    }

    /// What is judged by now.
    pub fn trust(&self) -> Result<Arc<Trust>, Fault> {
        if let Some(contradiction) = self.contradicted.get() {
            return Err(contradiction.clone().into());
        }
        self.parts.trust.current(self.now()?)
    }

    /// Counts a refusal.
    pub fn count(&self, refused: &Refused) {
        match refused {
            Refused::Denied(_) | Refused::Protocol(_) | Refused::Unproven(_) => self.metrics.denied(refused.code()),
            Refused::Fault(_) => self.metrics.faulted(refused.code()),
        }
    }

    /// Whether anything could be released now.
    pub async fn health(&self) -> Health {
        let mut problems = Vec::new();
        if let store::Health::Failing(error) = self.parts.store.health().borrow().clone() {
            problems.push(Problem { code: error.code(), what: error.to_string() });
        }
        if let Err(fault) = self.trust() {
            problems.push(Problem { code: fault.code(), what: fault.to_string() });
        }
        let (needed, missing) = self.parts.quorum.missing();
        if missing > 0 {
            let code = Fault::WitnessQuorum { needed }.code();
            problems.push(Problem {
                code,
                what: format!("{missing} of the {needed} witnesses that are needed do not cosign"),
            });
        }
        Health::of(problems)
    }

    /// Brings the figures about witnesses up to date.
    pub(crate) fn count_witnesses(&self) {
        let (quorum, as_u64) = (&self.parts.quorum, |count: usize| u64::try_from(count).unwrap_or(u64::MAX));
        let (needed, missing) = quorum.missing();
        self.metrics.witness_quorum.set(as_u64(needed));
        self.metrics.cosignatures_missing.set(as_u64(missing));
        self.metrics.cosigned_size.set(quorum.counted().map_or(0, |cosigned| cosigned.size()));
    }

    /// Answers a hello: the governance state in force, the newest checkpoint, the node's lineage head, and the
    /// statement that readmits it when it is halted and may come back.
    pub async fn welcome(
        &self,
        id: &NodeId,
        hello: &Hello,
    ) -> Result<(proto::Welcome, Option<proto::Readmission>), Refused> {
        let node = self.node(id).await?;
        self.compare_checkpoint(id, &hello.newest_checkpoint)?;
        self.hear_of_ours(id, &hello.other_checkpoints)?;
        self.parts.gossip.told(id, hello.other_checkpoints.clone());
        let trust = self.trust()?;
        if hello.halted {
            self.live().halted(id);
        }
        let welcome = proto::Welcome {
            governance_state: trust.state_cose().to_vec(),
            checkpoint: self.parts.log.checkpoint().into_bytes(),
            lineage_head: node.head_current.0.to_vec(),
            trust_bundle: Some(proto::ByAuthority { cose: trust.bundle.signatures.clone() }),
            client_certificate: self.client_certificate(&node).await?,
            witness_policy: Some(proto::ByAuthority { cose: trust.witnesses.clone() }),
            other_checkpoints: witness::cosigned_notes(&self.parts.store, OTHER_CHECKPOINTS_CAP)
                .await
                .map_err(Fault::from)?,
        };
        let readmission = match (hello.halted, node.status) {
            (true, NodeStatus::Active) => self.readmission(&node).await?,
            (true, NodeStatus::Pending | NodeStatus::Quarantined) | (false, _) => None,
        };
        Ok((welcome, readmission))
    }

    /// A fresh certificate by which the node is let in, PEM.
    pub(crate) async fn client_certificate(&self, node: &Node) -> Result<Vec<u8>, Fault> {
        let NodeIdentity { id, record_key, .. } = &node.identity;
        let bug = || Fault::Bug { what: format!("record key of {id}") };
        self.certificate_for(id, record_key.raw().try_into().map_err(|_| bug())?).await
    }

    /// The same, for whoever holds this record key. It is noted under which CA the node has its newest one: that CA is
    /// needed as long.
    pub(crate) async fn certificate_for(&self, node: &NodeId, record_key: &[u8; 32]) -> Result<Vec<u8>, Fault> {
        let (ca, now) = (self.ca(), self.now()?);
        let certificate = ca.node_certificate(node, record_key, random::bytes()?, now)?;
        let (node, authority) = (node.clone(), authority_name(ca.certificate()));
        let not_after = now.plus(NODE_CERTIFICATE_LIFETIME.as_secs());
        let noted = self.parts.store.write::<_, StoreError, _>(move |transaction| {
            Box::pin(async move { key_table::note_certificate(transaction, &node, &authority, not_after).await })
        });
        noted.await?;
        Ok(pem(&certificate))
    }

    /// What others were shown of our log, as a node brings it: whatever carries no signature of ours says nothing.
    fn hear_of_ours(&self, node: &NodeId, notes: &[Vec<u8>]) -> Result<(), Refused> {
        for note in notes {
            let Ok(text) = std::str::from_utf8(note) else { continue };
            if self.parts.log.compare(text).map_err(Fault::from)? != Seen::NotOurs {
                self.compare_checkpoint(node, note)?;
            }
        }
        Ok(())
    }

    /// Tells every connected node of its certificate under the CA that is active now. Who misses it gets one at its next
    /// hello.
    pub(crate) async fn renew_client_certificates(&self) {
        for id in self.live().connected() {
            let made = match nodes::find(&self.parts.store, &id).await {
                Ok(Some(node)) => self.client_certificate(&node).await,
                Ok(None) => continue,
                Err(error) => Err(error.into()),
            };
            match made {
                Ok(pem) => drop(self.live().push(&id, Push::ClientCertificate(Arc::from(pem)))),
                Err(fault) => tracing::warn!(node = %id, code = fault.code(), %fault, "no certificate for a node"),
            }
        }
    }

    /// Nodes keep the newest checkpoint they saw. One that we signed and our log does not lead to means that this log was
    /// rolled back or replaced (SECURITY.md P9, P13): everything stops until somebody has looked.
    fn compare_checkpoint(&self, node: &NodeId, note: &[u8]) -> Result<(), Refused> {
        if note.is_empty() {
            return Ok(());
        }
        let field = ProtocolDenial::Field { name: "newest_checkpoint" };
        let note = std::str::from_utf8(note).map_err(|_| field)?;
        let found = self.parts.log.size();
        let contradiction = match self.parts.log.compare(note).map_err(Fault::from)? {
            Seen::Prefix => return Ok(()),
            Seen::NotOurs => return Err(field.into()),
            Seen::Ahead { size } => StoreError::RolledBack { what: "log size".to_owned(), found, published: size },
            Seen::Forked { size } => StoreError::Corrupt {
                what: format!("our log does not hold the {size} entries that it was signed over"),
            },
        };
        tracing::error!(%node, %contradiction, "ALARM: a node holds a checkpoint of ours that our log contradicts");
        let fault = Fault::from(contradiction.clone());
        // The first contradiction is the one to look at.
        self.contradicted.set(contradiction).unwrap_or_default();
        Err(fault.into())
    }

    async fn readmission(&self, node: &Node) -> Result<Option<proto::Readmission>, Fault> {
        if node.readmission == Sha256Digest::ZERO {
            return Ok(None);
        }
        let statements = signatures::over(&self.parts.store, &node.readmission).await?;
        Ok(Some(proto::Readmission { statements }))
    }

    /// The challenge for a request, on this connection.
    pub fn challenge(&self, request: &Request, channel: [u8; 32], started: Instant) -> Result<Outstanding, Fault> {
        let about = About {
            channel,
            audience: &self.audience,
            epoch: request.trust.epoch(),
            subject: request.subject(),
            lineage_head: request.head,
        };
        let demands = request.trust.demands(request.node.identity.machine.kind());
        let outstanding = Outstanding::issue(demands, about, self.now()?, started)?;
        self.metrics.challenges.inc();
        Ok(outstanding)
    }

    /// The node of a client certificate; one that is not enrolled (any more) is denied without a record, since it
    /// has no lineage that the record could stand in.
    pub(crate) async fn node(&self, id: &NodeId) -> Result<Node, Refused> {
        let node = nodes::find(&self.parts.store, id).await.map_err(Fault::from)?;
        node.ok_or_else(|| Refused::unproven(GovernanceDenial::NodeUnknown { node: id.clone() }))
    }
}

/// Denials of one node that are recorded: a burst, then a rate. Beyond it the node is told that it asks too much.
const DENIALS_BURST: u32 = 32;
const DENIALS_REFILL: Duration = Duration::from_secs(2);
/// JWT-SVIDs of one node: each is a record. A node gives one that it has as long as it lasts.
const JWT_SVIDS_BURST: u32 = 128;
const JWT_SVIDS_REFILL: Duration = Duration::from_secs(1);

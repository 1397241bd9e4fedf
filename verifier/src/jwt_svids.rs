//! A JWT-SVID of an execution, for whom it names: signed only while its lease is in force at the node that asks, and for no
//! longer than that.
//!
//! As with everything that is released, it leaves with the receipt of the record that names it, or never.

use std::sync::Arc;

use audit::record::RecordBody;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::time::UnixSeconds;
use governance::artifact::ArtifactId;
use governance::jwt_svid::{Claims, JWT_SVID_LIFETIME_CAP_S};
use serde_bytes::ByteArray;
use wire::proto::{self, verifier_message::Message as Answer};

use crate::desk::Desk;
use crate::fault::Fault;
use crate::governance_state;
use crate::intake::{Identifying, Renewing};
use crate::leases;
use crate::lineage::Chain;
use crate::node_records::receipt;
use crate::nodes::{self, NodeStatus};
use crate::refusal::Refused;
use crate::store::Transaction;

/// What one becomes once it may be signed.
struct Issue {
    asks: Identifying,
    body: RecordBody,
    now: UnixSeconds,
}

impl Desk {
    /// Answers a node that asks for a JWT-SVID of one of its executions.
    pub(crate) async fn jwt_svid(
        self: &Arc<Self>,
        id: &NodeId,
        artifact: ArtifactId,
        audiences: &[String],
        head: Sha256Digest,
    ) -> Result<Answer, Refused> {
        if !self.jwt_svids_per_node.admits(id) {
            return Err(Fault::Overloaded { what: "JWT-SVIDs of this node" }.into());
        }
        let bug = |error: &dyn std::fmt::Display| Fault::Bug { what: error.to_string() };
        let key = self.parts.jwt.signing().ok_or(Fault::JwtKeyAbsent)?;
        let asks = self.begin_jwt_svid(id, artifact, head).await?;
        let Renewing { lease, intent, .. } = &asks.held;
        let now = self.now()?;
        let exp = now.plus(JWT_SVID_LIFETIME_CAP_S).min(UnixSeconds(lease.ends_at));
        let sub = intent.intent.spiffe_id(self.domain()).map_err(|error| bug(&error))?;
        let claims = Claims { sub: &sub, aud: audiences, exp, iat: now };
        let claims = serde_json::to_vec(&claims).map_err(|error| bug(&error))?;
        let svid = key.sign(&key.public().kid().to_string(), &claims).map_err(|error| bug(&error))?;
        let artifact = ByteArray::new(artifact.0);
        let body = RecordBody::JwtSvid { artifact, svid: Sha256Digest::of(svid.as_bytes()), expires_at: exp };
        let (desk, issue) = (self.clone(), Issue { asks, body, now });
        let committed = self
            .parts
            .store
            .write::<_, Fault, _>(move |transaction| Box::pin(async move { issue.commit(&desk, transaction).await }))
            .await?;
        let logged = committed.logged.first().ok_or_else(|| bug(&"signed without a record"))?;
        let receipt = receipt(&self.parts.quorum.receipt(&self.parts.log, logged).await?)?;
        self.metrics().jwt_svids.inc();
        Ok(Answer::JwtSvid(proto::JwtSvid { svid, receipt, lineage_head: committed.value.0.to_vec() }))
    }
}

impl Issue {
    /// What was judged still holds in the transaction that records it.
    async fn commit(self, desk: &Desk, transaction: &mut Transaction<'_>) -> Result<Sha256Digest, Fault> {
        let Self { asks: Identifying { node, epoch, held, head }, body, now } = self;
        let current = governance_state::epoch(transaction).await?;
        if current != epoch {
            return Err(Fault::EpochMoved { current, judged: epoch });
        }
        let moved = |what: &str| Fault::Moved { what: what.to_owned() };
        let id = &node.identity.id;
        let node = nodes::read(transaction, id).await?;
        if node.status != NodeStatus::Active || node.head_current != head {
            return Err(moved("the node or its lineage"));
        }
        let next = leases::next_seq(transaction, &held.terms.id, id).await?;
        if next != held.lease.seq.saturating_add(1) {
            return Err(moved("the lease"));
        }
        let parts = &desk.parts;
        let mut chain = Chain::after(&parts.issuer, &parts.domain, id, head, now);
        let record = chain.next(held.terms.intent, &[], body)?;
        let next = record.digest;
        let subjects = [id.to_string(), held.terms.intent.to_string(), held.terms.id.to_string()];
        transaction.append(record.entry(&subjects))?;
        nodes::advance(transaction, id, &head, &next).await?;
        Ok(next)
    }
}

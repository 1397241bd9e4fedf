//! Proposals of reference values, from what a node showed.

use audit::record::RecordBody;
use evidence::digest::Sha256Digest;
use evidence::evidence::Evidence;
use evidence::names::{ItemName, NodeId};
use evidence::time::UnixSeconds;
use evidence::verify;
use firmware_refs::capture::{CaptureHeader, capture};
use firmware_refs::observed::Observed;
use serde_json::{Value, json};

use super::{DeskJudgements, kept, unreadable};
use crate::governor::OrderRefusal;
use crate::nodes;

/// Longest that a captured set is proposed to hold, in seconds: a year.
const CAPTURED_LIFETIME_S: u64 = 365 * 24 * 3600;

impl DeskJudgements {
    /// Proposes a set that knows what `node` showed: in its newest capture, or in the evidence of the decision at `entry`.
    pub(super) async fn proposed(&self, node: &NodeId, entry: Option<u64>) -> Result<(Value, String), OrderRefusal> {
        let unknown = |what| OrderRefusal::Unknown { what, name: node.to_string() };
        let known = nodes::find(&self.desk.parts.store, node).await?.ok_or_else(|| unknown("node"))?;
        let Shown { index, evidence, at } = match entry {
            None => self.newest_capture(node).await?,
            Some(index) => self.of_decision(node, index).await?,
        };
        let evidence = Evidence::decode(kept::blob(&self.desk, "evidence", &evidence).await?).map_err(unreadable)?;
        let trust = self.desk.trust().map_err(|fault| OrderRefusal::Malformed(fault.to_string()))?;
        let endorsements = self.held_then(&known, &evidence, trust.anchors(), at).await?;
        let authentic = verify(&evidence, &endorsements, trust.anchors(), at).map_err(unreadable)?;
        let id = ItemName::new(node.as_str()).map_err(|error| OrderRefusal::Malformed(error.to_string()))?;
        let versions = self.governor.list_references().await?;
        let newest_version = versions.iter().filter(|set| set.name == id.as_str()).map(|set| set.version).max();
        let header = CaptureHeader {
            environment: environment(trust.inputs.lab)?,
            id,
            version: newest_version.unwrap_or(0).saturating_add(1),
            domain: self.desk.domain().clone(),
            node: node.to_string(),
            now: at,
            lifetime_s: CAPTURED_LIFETIME_S,
        };
        let claims = authentic.claims();
        let proposal =
            capture(&Observed::of(&claims, at), header).map_err(|error| OrderRefusal::Malformed(error.to_string()))?;
        let document = json!({
            "node": node,
            "entry": index,
            "name": proposal.set().id(),
            "version": proposal.set().version(),
            "registers": proposal.set().tpm().map(|tpm| tpm.pcrs()),
            "observed_only": proposal.observed_only(),
            "next": "read it, then `verifier refs import FILE --signer KEY` and `verifier refs activate NAME --signer KEY`",
        });
        let text = proposal.to_toml().map_err(|error| OrderRefusal::Malformed(error.to_string()))?;
        Ok((document, text))
    }

    async fn newest_capture(&self, node: &NodeId) -> Result<Shown, OrderRefusal> {
        let captured = self.desk.parts.log.entries_about(&format!("capture:{node}")).await?;
        let unknown = || OrderRefusal::Unknown { what: "captured evidence of node", name: node.to_string() };
        let index = captured.last().ok_or_else(unknown)?.index;
        let (_, verified) = kept::record(&self.desk, index).await?;
        let RecordBody::Capture { evidence } = &verified.record().body else {
            return Err(OrderRefusal::Bug(format!("entry {index} is no capture")));
        };
        Ok(Shown { index, evidence: *evidence, at: verified.record().at })
    }

    async fn of_decision(&self, node: &NodeId, index: u64) -> Result<Shown, OrderRefusal> {
        let (entry, verified) = kept::record(&self.desk, index).await?;
        if verified.record().node.as_ref() != Some(node) {
            return Err(OrderRefusal::Malformed(format!("log entry {index} is not about node {node}")));
        }
        let decision = kept::decision(&self.desk, &entry).await?;
        let decision = decision.ok_or_else(|| {
            OrderRefusal::Malformed(format!("log entry {index} is not a decision about evidence: it shows no values"))
        })?;
        Ok(Shown { index, evidence: decision.evidence, at: decision.now })
    }
}

/// Kept evidence, and when it came.
struct Shown {
    index: u64,
    evidence: Sha256Digest,
    at: UnixSeconds,
}

/// The environment that the shipped policies of such a domain permit; whoever reads the proposal may name another.
fn environment(lab: bool) -> Result<ItemName, OrderRefusal> {
    let name = if lab { "lab" } else { "production" };
    ItemName::new(name).map_err(|error| OrderRefusal::Bug(error.to_string()))
}

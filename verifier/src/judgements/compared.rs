//! What a node sent last, held against one reference value set: what an operator asks before activating it.

use audit::record::RecordBody;
use evidence::names::NodeId;
use evidence::time::UnixSeconds;
use evidence::{Endorsements, Evidence, TrustAnchors, verify};
use firmware_refs::observed::Observed;
use firmware_refs::signed::SignedSet;
use firmware_refs::{InForce, ReferenceDenial, ReferenceValues};
use serde_json::{Value, json};

use super::{DeskJudgements, kept, unreadable};
use crate::governor::OrderRefusal;
use crate::judge::since_boot;
use crate::log::Entry;
use crate::nodes;

/// Most entries of a node that are looked through for evidence.
const ENTRIES_CAP: u32 = 256;

/// Evidence of a node with what it was judged by at its time.
struct Sent {
    evidence: Evidence,
    endorsements: Endorsements,
    anchors: TrustAnchors,
    at: UnixSeconds,
}

impl DeskJudgements {
    /// Every difference between the newest authentic evidence of a node and a set, whether or not the set is in force.
    pub(super) async fn held_against(&self, node: &NodeId, set: &str) -> Result<Value, OrderRefusal> {
        let (listed, set) = self.governor.find_reference(set).await?;
        let entries = self.desk.parts.log.newest_about(node.as_str(), ENTRIES_CAP).await?;
        let now = self.desk.now()?;
        for entry in &entries {
            let Some(sent) = self.sent(node, entry).await? else { continue };
            let Some(differences) = differences(&sent, &set, now)? else { continue };
            return Ok(json!({
                "node": node,
                "entry": entry.index,
                "at": sent.at,
                "set": format!("{}:{}", listed.name, listed.version),
                "stage": listed.state,
                "matches": differences.is_empty(),
                "differences": differences,
            }));
        }
        Err(OrderRefusal::Unknown { what: "evidence of node", name: node.to_string() })
    }

    /// The evidence that an entry names, if it names any that is still kept.
    async fn sent(&self, node: &NodeId, entry: &Entry) -> Result<Option<Sent>, OrderRefusal> {
        if let Some(decision) = kept::decision(&self.desk, entry).await? {
            let remade = self.remake(decision).await?;
            let (case, anchors) = (remade.case, remade.trust.anchors().clone());
            return Ok(Some(Sent { evidence: case.evidence, endorsements: case.endorsements, anchors, at: case.now }));
        }
        let (_, record) = kept::record(&self.desk, entry.index).await?;
        let (at, RecordBody::Capture { evidence }) = (record.record().at, &record.record().body) else {
            return Ok(None);
        };
        let evidence = Evidence::decode(kept::blob(&self.desk, "evidence", evidence).await?).map_err(unreadable)?;
        let unknown = || OrderRefusal::Unknown { what: "node", name: node.to_string() };
        let known = nodes::find(&self.desk.parts.store, node).await?.ok_or_else(unknown)?;
        let anchors = self.desk.trust()?.anchors().clone();
        let endorsements = self.held_then(&known, &evidence, &anchors, at).await?;
        Ok(Some(Sent { evidence, endorsements, anchors, at }))
    }
}

/// What of authentic evidence the set does not know; `None` of other evidence, which says nothing about the machine.
fn differences(sent: &Sent, set: &SignedSet, now: UnixSeconds) -> Result<Option<Vec<Value>>, OrderRefusal> {
    let endorsements = since_boot(&sent.evidence, &sent.endorsements, &sent.anchors, sent.at);
    let Ok(authentic) = verify(&sent.evidence, &endorsements, &sent.anchors, sent.at) else { return Ok(None) };
    let claims = authentic.claims();
    let alone = ReferenceValues::new(vec![InForce::active(set.clone())])?;
    let failures = alone.all_failures(&Observed::of(&claims, sent.at), now);
    Ok(Some(failures.iter().map(told).collect()))
}

fn told(denial: &ReferenceDenial) -> Value {
    json!({
        "claim": denial.claim(),
        "words": denial.to_string(),
        "got": denial.got(),
        "accepted": denial.accepted(),
        "code": denial.code(),
        "hint": denial.hint(),
    })
}

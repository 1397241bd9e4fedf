//! What an operator is shown of a node: what it is, whether it owes us anything, and what to do next.

use evidence::cose;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use governance::halt::{HaltReason, HaltRecord, Trigger};
use serde_json::{Value, json};

use crate::evidence_store;
use crate::leases::{self, Lease, LeaseEnd};
use crate::nodes::{self, Node, NodeStatus};
use crate::store::{Store, StoreError};

/// All nodes, in short.
pub async fn list(store: &Store) -> Result<Vec<Value>, StoreError> {
    let owing = leases::nodes_missing(store).await?;
    let nodes = nodes::list(store).await?;
    Ok(nodes.iter().map(|node| summary(node, owing.contains(node.identity.id.as_str()))).collect())
}

/// One node, whole; nothing if it is not enrolled.
pub async fn show(store: &Store, id: &NodeId) -> Result<Option<Value>, StoreError> {
    let Some(node) = nodes::find(store, id).await? else { return Ok(None) };
    let leases = leases::of_node(store, id).await?;
    let halt = halt_record(store, &node).await?;
    let missing: Vec<_> = leases.iter().filter(|lease| lease.ended == Some(LeaseEnd::Missing)).collect();
    let mut json = summary(&node, !missing.is_empty());
    if let Value::Object(fields) = &mut json {
        if let Some(tpm) = node.identity.machine.tpm() {
            fields.insert("ek".to_owned(), json!(tpm.ek_digest));
            fields.insert("ak_name".to_owned(), json!(hex::encode(&tpm.ak_name)));
            fields.insert("clock".to_owned(), json!(node.boot.clock));
        }
        if let Some(report_id) = node.boot.report_id {
            fields.insert("report_id".to_owned(), json!(hex::encode(report_id)));
        }
        fields.insert("record_key".to_owned(), json!(node.identity.record_key.kid().to_string()));
        fields.insert("enrolment".to_owned(), json!(node.identity.enrolment));
        fields.insert("halt".to_owned(), json!(node.halt));
        fields.insert("halt_record".to_owned(), halt.as_ref().map_or(Value::Null, told));
        fields.insert("readmission".to_owned(), json!(node.readmission));
        fields.insert("next".to_owned(), json!(next(&node, halt.as_ref(), &leases)));
        fields.insert("leases".to_owned(), leases.iter().map(lease).collect());
    }
    Ok(Some(json))
}

/// The halt record in force, verified when it was taken.
async fn halt_record(store: &Store, node: &Node) -> Result<Option<HaltRecord>, StoreError> {
    if node.halt == Sha256Digest::ZERO {
        return Ok(None);
    }
    let cose = evidence_store::get_signed(store, &node.halt).await?;
    let record = cose.and_then(|cose| cose::claimed_payload(&cose).ok());
    let record = record.and_then(|payload| HaltRecord::decode(&payload).ok());
    let corrupt = || StoreError::Corrupt { what: format!("halt record {}", node.halt) };
    Ok(Some(record.ok_or_else(corrupt)?))
}

/// What the node says of its halt.
fn told(record: &HaltRecord) -> Value {
    json!({
        "code": record.reason.code(),
        "reason": record.reason,
        "halted_at": record.halted_at,
        "last_evidence": record.last_evidence,
        "killed": record.killed,
        "keys_wiped": record.keys_wiped,
        "keys_wiped_at": record.keys_wiped_at,
    })
}

fn summary(node: &Node, owes: bool) -> Value {
    json!({
        "node": node.identity.id,
        "kind": node.identity.machine.kind(),
        "platform": node.identity.machine.platform(),
        "status": node.status,
        "reason": node.reason,
        "alarm": owes.then_some(MISSING),
        "epoch": node.epoch,
        "lineage_head": node.head_current,
        "enrolled_at": node.enrolled_at,
        "seen_at": node.seen_at,
    })
}

fn lease(lease: &Lease) -> Value {
    json!({
        "artifact": lease.artifact_id.to_string(),
        "seq": lease.seq,
        "epoch": lease.epoch,
        "ends_at": lease.ends_at,
        "ended": lease.ended,
    })
}

/// What to do about this node, the most urgent first.
fn next(node: &Node, halt: Option<&HaltRecord>, leases: &[Lease]) -> Vec<String> {
    let id = &node.identity.id;
    let mut steps = Vec::new();
    let missing = leases.iter().filter(|lease| lease.ended == Some(LeaseEnd::Missing)).count();
    if missing > 0 {
        steps.push(format!(
            "{missing} lease(s) ended and the node has not said that it stopped: look whether the machine runs and reaches \
             us; until then take it that what ran there may go on, and end at other services what its keys open"
        ));
    }
    let owed = |lease: &&Lease| matches!(lease.ended, Some(LeaseEnd::Stopped | LeaseEnd::Revoked));
    if let Some(ends_at) = leases.iter().filter(owed).map(|lease| lease.ends_at).max() {
        steps.push(format!(
            "its halt record is awaited; without one there is an alarm once its lease ended at {ends_at}"
        ));
    }
    match (node.status, halt) {
        (NodeStatus::Pending, _) => steps.push(format!("if you expect this machine: verifier node admit {id}")),
        (NodeStatus::Active, _) => {}
        (NodeStatus::Quarantined, Some(record)) => {
            steps.push(after(&record.reason).to_owned());
            steps.push(format!("then: verifier node readmit {id}"));
        }
        (NodeStatus::Quarantined, None) => {
            steps.push(format!("find out why ({}; verifier explain says it of a denial)", node.reason));
            steps.push(format!("then: verifier node readmit {id}"));
        }
    }
    steps
}

/// What an operator has to find out, or mend, after a halt.
const fn after(reason: &HaltReason) -> &'static str {
    match reason {
        HaltReason::RefusedAtRenewal { trigger, .. } => match trigger {
            Trigger::Scheduled => "see what the renewal was refused for (verifier explain, by the code in the reason)",
            Trigger::ImaAppended => {
                "a file ran or was read there that nobody approved: see which (verifier explain), remove it or approve it"
            }
            Trigger::Resumed => "the machine was suspended and was no longer what it was: see how (verifier explain)",
            Trigger::TeeDisturbed => {
                "another program there uses the interface that reports are made by: see which, and what was refused"
            }
        },
        HaltReason::LeaseEnded => {
            "no renewal came in time: look at the network between node and verifier, and whether attestd was stopped"
        }
        HaltReason::Revoked { .. } => "it was revoked on purpose: see by whom and why (verifier explain)",
        HaltReason::PcrChanged { .. } => {
            "something was measured into a PCR that is watched: see what (event log, attestd evidence), restart the machine"
        }
        HaltReason::ImaRolledBack => {
            "the IMA log was cut or replaced, which no program has reason to do: look at the machine"
        }
        HaltReason::TpmReset | HaltReason::TpmRestarted => {
            "the machine or its TPM was started anew under a running daemon: find out why"
        }
        HaltReason::TpmRolledBack => {
            "the TPM went back in time: it is another one or a restored copy; do not readmit before you know which"
        }
        HaltReason::TpmClockUnsafe => {
            "the TPM lost power without notice: look at the machine, and restart it in good order"
        }
        HaltReason::DeviceLost => {
            "the TPM or TEE did not answer any more: look at the device, its driver, its permissions"
        }
        HaltReason::LogForked { .. } => {
            "a verifier showed the node two histories: treat that domain's log as forked, before anything else"
        }
        HaltReason::ClockWentBack { .. } => "the wall clock was set back: mend time synchronisation",
        HaltReason::Operator { .. } => "an operator halted it, for the reason given",
        HaltReason::PolicyConflict { .. } => {
            "two domains contradict each other: have them agree on the rules that are named"
        }
        HaltReason::Interrupted => "the daemon died while halting: look at its log, and at the disk",
    }
}

/// Code of the alarm.
pub(crate) const MISSING: &str = "halt.record_missing";

//! The chain of one node: which record may follow which.
//!
//! The same rules judge a whole log ([`crate::fsck`]) and a proof bundle ([`crate::proof`]).

use std::collections::{BTreeMap, BTreeSet};

use evidence::{cose::PublicKey, digest::Sha256Digest};

use crate::{
    denial::AuditDenial,
    record::{LineageRecord, RecordBody, RecordKind, VerifiedRecord},
};

/// What is known of a node after its records so far.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    head: Option<Sha256Digest>,
    record_key: Option<PublicKey>,
    stopped: bool,
    intents: BTreeSet<Sha256Digest>,
    live: BTreeMap<[u8; 16], Execution>,
}

#[derive(Clone, Debug)]
struct Execution {
    intent: Sha256Digest,
    lease_seq: u64,
}

impl Chain {
    /// Whether this record stands in the chain of the node that it names. A denial that names no parent is of a
    /// stranger, and an admission comes before there is a chain.
    #[must_use]
    pub fn holds(record: &LineageRecord) -> bool {
        match record.kind() {
            RecordKind::Denial => record.node.is_some() && !record.parents.is_empty(),
            RecordKind::Admission
            | RecordKind::Staging
            | RecordKind::Activation
            | RecordKind::Supersession
            | RecordKind::GovernanceState
            | RecordKind::Revocation
            | RecordKind::Federation => false,
            RecordKind::Enrolment
            | RecordKind::Capture
            | RecordKind::Intent
            | RecordKind::Authorization
            | RecordKind::Release
            | RecordKind::JwtSvid
            | RecordKind::Renewal
            | RecordKind::Halt
            | RecordKind::End
            | RecordKind::Quarantine
            | RecordKind::Restart
            | RecordKind::Alarm
            | RecordKind::Readmission => true,
        }
    }

    /// The node's newest record.
    #[must_use]
    pub const fn head(&self) -> Option<Sha256Digest> {
        self.head
    }

    /// The record key of its newest enrolment.
    #[must_use]
    pub const fn record_key(&self) -> Option<&PublicKey> {
        self.record_key.as_ref()
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`AuditDenial::LineageBroken`] when it does not follow the head, [`AuditDenial::LineageOrder`] when nothing of
    /// its kind may stand here.
    pub fn extend(&mut self, record: &VerifiedRecord) -> Result<(), AuditDenial> {
        let named = record.record().parents.first().copied();
        let enrols = record.record().kind() == RecordKind::Enrolment;
        if named != self.head || (self.head.is_none() && !enrols) {
            let (got, expected) = (named.unwrap_or(Sha256Digest::ZERO), self.head.unwrap_or(Sha256Digest::ZERO));
            return Err(AuditDenial::LineageBroken { got, expected });
        }
        self.step(record.record())?;
        self.head = Some(record.digest());
        Ok(())
    }

    fn step(&mut self, record: &LineageRecord) -> Result<(), AuditDenial> {
        let kind = record.kind();
        let refuse = |rule| Err(AuditDenial::LineageOrder { kind, rule });
        match &record.body {
            RecordBody::Enrolment { record_key, .. } => {
                self.record_key = Some(record_key.clone());
                self.live.clear();
            }
            RecordBody::Intent { intent } => {
                if *intent != record.subject {
                    return refuse("its subject is its intent");
                }
                self.intents.insert(*intent);
            }
            RecordBody::Authorization { artifact, lease_seq, .. } => {
                if self.stopped {
                    return refuse("not after a halt or quarantine");
                }
                if !self.intents.contains(&record.subject) {
                    return refuse("its intent stands before it");
                }
                let begun = self.live.get(&**artifact);
                if begun.is_some_and(|e| e.intent != record.subject || e.lease_seq >= *lease_seq) || *lease_seq == 0 {
                    return refuse("an artifact keeps its intent and counts its lease up");
                }
                let execution = Execution { intent: record.subject, lease_seq: *lease_seq };
                self.live.insert(**artifact, execution);
            }
            RecordBody::Release { artifact, .. } | RecordBody::JwtSvid { artifact, .. } => {
                let live = self.live.get(&**artifact).is_some_and(|e| e.intent == record.subject);
                if self.stopped || !live {
                    return refuse("its authorization stands before it and is in force");
                }
            }
            RecordBody::Renewal { artifact, lease_seq, .. } => {
                let Some(execution) = self.live.get_mut(&**artifact).filter(|e| e.intent == record.subject) else {
                    return refuse("its authorization stands before it and is in force");
                };
                if self.stopped || execution.lease_seq >= *lease_seq {
                    return refuse("a renewal counts the lease up");
                }
                execution.lease_seq = *lease_seq;
            }
            RecordBody::End { .. } => {
                if !self.intents.contains(&record.subject) {
                    return refuse("its intent stands before it");
                }
                self.live.retain(|_, execution| execution.intent != record.subject);
            }
            RecordBody::Halt { .. } | RecordBody::Quarantine { .. } => {
                self.stopped = true;
                self.live.clear();
            }
            RecordBody::Readmission { .. } => {
                if !self.stopped {
                    return refuse("only after a halt or quarantine");
                }
                self.stopped = false;
            }
            RecordBody::Restart { .. } => self.live.clear(),
            RecordBody::Capture { .. } | RecordBody::Denial { .. } | RecordBody::Alarm { .. } => {}
            RecordBody::Admission { .. }
            | RecordBody::Staging { .. }
            | RecordBody::Activation { .. }
            | RecordBody::Supersession { .. }
            | RecordBody::GovernanceState { .. }
            | RecordBody::Revocation { .. }
            | RecordBody::Federation { .. } => return refuse("not in a node's chain"),
        }
        Ok(())
    }
}

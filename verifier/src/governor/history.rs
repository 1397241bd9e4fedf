//! What happened to reference value sets: each step with who ordered it and where
//! the log says so.

use audit::record::{RecordBody, VerifiedRecord};
use evidence::cose::{KeySet, Purpose, verify1};
use evidence::digest::Sha256Digest;
use evidence::threshold::ThresholdDenial;
use evidence::time::UnixSeconds;
use firmware_refs::RevokedSet;
use firmware_refs::lifecycle::{HistoryEntry, Stage};
use serde::Serialize;

use super::effects::Family;
use super::refusal::OrderRefusal;
use super::show::{is_named, stage_name};
use super::{Governor, issuer_keys, rules};
use crate::log::Log;
use crate::{governance_state, signatures};

/// One step of one version of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// When.
    pub at: UnixSeconds,
    /// Name of the set.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// Its digest.
    pub digest: Sha256Digest,
    /// Where it stands from then on: the name of its stage.
    pub step: &'static str,
    /// Name and version of the set that replaced it.
    pub by: Option<String>,
    /// First moment at which it no longer matches, when it was replaced.
    pub grace_until: Option<UnixSeconds>,
    /// Why.
    pub reason: String,
    /// Key ids of who signed the set.
    pub signers: Vec<String>,
    /// Digest of the statement that ordered the step; staging is ordered by the set's own signatures.
    pub statement: Option<Sha256Digest>,
    /// Key ids of who signed the statement, verified again.
    pub ordered_by: Vec<String>,
    /// Governance epoch: the one that the step began, or, for staging, in which it was taken.
    pub epoch: u64,
    /// Where its record stands in the log.
    pub entry: u64,
}

impl Governor {
    /// Every step of one set, of every version of a name, or of everything, oldest first.
    pub async fn history(&self, log: &Log, named: Option<&str>) -> Result<Vec<Step>, OrderRefusal> {
        let all: Vec<HistoryEntry> = rules::history(&self.0.store, Family::Reference).await?;
        let wanted = |entry: &&HistoryEntry| {
            named.is_none_or(|named| is_named(named, entry.id.as_str(), entry.version, &entry.digest))
        };
        let mut steps = Vec::new();
        for entry in all.iter().filter(wanted) {
            steps.push(self.step(log, &all, entry).await?);
        }
        match named {
            Some(name) if steps.is_empty() => {
                Err(OrderRefusal::Unknown { what: "history of reference value set", name: name.to_owned() })
            }
            Some(_) | None => Ok(steps),
        }
    }

    /// Reference value sets that had been revoked when `count` of them were, in that order.
    pub async fn revoked_references(&self, count: usize) -> Vec<RevokedSet> {
        self.0.turn.lock().await.revoked_sets.iter().take(count).cloned().collect()
    }

    async fn step(&self, log: &Log, all: &[HistoryEntry], entry: &HistoryEntry) -> Result<Step, OrderRefusal> {
        let (by, grace_until) = match entry.stage {
            Stage::Superseded { by, grace_until, .. } => {
                (all.iter().find(|other| other.digest == by), Some(grace_until))
            }
            Stage::Staged | Stage::Active { .. } | Stage::Revoked { .. } => (None, None),
        };
        let index = self.logged(log, entry).await?;
        Ok(Step {
            at: entry.at,
            name: entry.id.to_string(),
            version: entry.version,
            digest: entry.digest,
            step: stage_name(entry.stage),
            by: by.map(|by| format!("{}:{}", by.id, by.version)),
            grace_until,
            reason: entry.reason.to_string(),
            signers: entry.signers.clone(),
            statement: entry.statement,
            ordered_by: self.ordered_by(entry.statement).await?,
            epoch: governance_state::epoch_at(&self.0.store, index, entry.statement.is_some()).await?,
            entry: index,
        })
    }

    /// Where the record of a step stands: the log is what counts, the history's rows only say where to look.
    async fn logged(&self, log: &Log, entry: &HistoryEntry) -> Result<u64, OrderRefusal> {
        let keys = issuer_keys(&self.0.parts);
        for logged in log.entries_about(&entry.digest.to_string()).await? {
            let record = VerifiedRecord::verify(&logged.bytes, &self.0.parts.domain, &keys)?;
            if records(&record.record().body, entry) {
                return Ok(logged.index);
            }
        }
        let what =
            format!("no log entry says that {} version {} is {}", entry.id, entry.version, stage_name(entry.stage));
        Err(crate::store::StoreError::Corrupt { what }.into())
    }

    async fn ordered_by(&self, statement: Option<Sha256Digest>) -> Result<Vec<String>, OrderRefusal> {
        let Some(statement) = statement else { return Ok(Vec::new()) };
        let keys = KeySet::new(self.authority().keys());
        let mut signers = Vec::new();
        for cose in signatures::over(&self.0.store, &statement).await? {
            let signed = verify1(Purpose::Statement, &self.0.parts.domain, &cose, &keys);
            signers.push(signed.map_err(ThresholdDenial::Cose)?.signer().to_string());
        }
        Ok(signers)
    }
}

/// Whether a record is the one of this step.
fn records(body: &RecordBody, entry: &HistoryEntry) -> bool {
    let named = match (entry.stage, body) {
        (Stage::Staged, RecordBody::Staging { set, .. }) => return *set == entry.digest,
        (Stage::Active { .. }, RecordBody::Activation { set, statement, .. }) => {
            (*set == entry.digest).then_some(statement)
        }
        (Stage::Superseded { by, .. }, RecordBody::Supersession { set, by: other, statement, .. }) => {
            (*set == entry.digest && by == *other).then_some(statement)
        }
        (Stage::Revoked { .. }, RecordBody::Revocation { statement, .. }) => statement.as_ref(),
        (Stage::Staged | Stage::Active { .. } | Stage::Superseded { .. } | Stage::Revoked { .. }, _) => None,
    };
    named.is_some() && named.copied() == entry.statement
}

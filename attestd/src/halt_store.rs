//! The node's halt, as it survives everything: durable, sticky, absorbing.
//!
//! `halt.cbor` is written and synced before anyone is told of the halt, completed with the signed record once the workloads
//! are dead, and removed only by a readmission that the policy authority signed for this very halt and a newer epoch.
//! A file that cannot be read stops the daemon from starting: what may be a halt is one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evidence::cose::SigningKey;
use evidence::digest::Sha256Digest;
use evidence::names::{DomainName, NodeId};
use evidence::threshold::Authority;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::halt::{HaltReason, HaltRecord};
use governance::statement::{Order, Statement};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::state::{StateDir, StateError};

/// What is known of a halt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredHalt {
    /// Why.
    pub reason: HaltReason,
    /// When, by this node's clock.
    pub halted_at: UnixSeconds,
    /// Newest governance epoch of each domain that the node knew then.
    pub epochs: BTreeMap<DomainName, u64>,
    /// Digest of the home domain's halt record and the record as signed, once the workloads are dead and the keys wiped.
    pub record: Option<SignedRecord>,
    /// The same for the other domains, each with a record of its own.
    #[serde(default)]
    pub others: BTreeMap<DomainName, SignedRecord>,
    /// Domains that have it in their log.
    pub acknowledged: BTreeSet<DomainName>,
}

/// A halt record as signed, and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRecord {
    /// SHA-256 of the record: what a readmission answers.
    pub digest: Sha256Digest,
    /// COSE_Sign1 by the node's record key.
    pub cose: ByteBuf,
}

impl StoredHalt {
    /// The record for a domain, once there is one.
    #[must_use]
    pub fn told(&self, domain: &DomainName) -> Option<&SignedRecord> {
        self.others.get(domain).or(self.record.as_ref())
    }
}

/// Readmissions used: a statement counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Readmissions {
    /// Highest sequence of a used statement, by domain.
    sequences: BTreeMap<DomainName, u64>,
}

/// The node's halt, or that there is none.
#[derive(Debug)]
pub struct HaltStore {
    state: Arc<StateDir>,
    halt: Option<StoredHalt>,
    readmissions: Readmissions,
}

impl HaltStore {
    /// Reads what the state directory holds.
    ///
    /// # Errors
    /// [`StateError`], also when a file cannot be understood: the daemon must not run then.
    pub fn open(state: Arc<StateDir>) -> Result<Self, StateError> {
        let halt = state.read_cbor(HALT)?;
        let readmissions = state.read_cbor(READMISSIONS)?.unwrap_or_default();
        Ok(Self { state, halt, readmissions })
    }

    /// The halt in force.
    #[must_use]
    pub const fn current(&self) -> Option<&StoredHalt> {
        self.halt.as_ref()
    }

    /// Makes a halt durable. The first one stands: a later reason changes nothing. Returns the one in force.
    ///
    /// # Errors
    /// [`StateError`]; the halt is in force in this process all the same, and the call is to be repeated.
    pub fn begin(
        &mut self,
        reason: HaltReason,
        halted_at: UnixSeconds,
        epochs: BTreeMap<DomainName, u64>,
    ) -> Result<StoredHalt, StateError> {
        let halt = self
            .halt
            .get_or_insert(StoredHalt {
                reason,
                halted_at,
                epochs,
                record: None,
                others: BTreeMap::new(),
                acknowledged: BTreeSet::new(),
            })
            .clone();
        self.state.write_cbor(HALT, &halt)?;
        Ok(halt)
    }

    /// Signs and stores the records of the halt in force: the home domain's, which a readmission answers, and one for
    /// each other domain.
    ///
    /// # Errors
    /// [`HaltStoreError`]; the halt itself stays in force.
    pub fn complete(
        &mut self,
        home: &HaltRecord,
        others: &[HaltRecord],
        record_key: &SigningKey,
    ) -> Result<StoredHalt, HaltStoreError> {
        let Some(halt) = &mut self.halt else { return Err(HaltStoreError::NotHalted) };
        if halt.record.is_none() {
            let sign = |record: &HaltRecord| -> Result<SignedRecord, GovernanceDenial> {
                Ok(SignedRecord { digest: record.digest()?, cose: ByteBuf::from(record.sign(record_key)?) })
            };
            let others = others.iter().map(|record| Ok((record.domain.clone(), sign(record)?)));
            let others = others.collect::<Result<_, GovernanceDenial>>()?;
            let completed = StoredHalt { record: Some(sign(home)?), others, ..halt.clone() };
            self.state.write_cbor(HALT, &completed)?;
            *halt = completed;
        }
        Ok(halt.clone())
    }

    /// Remembers that `domain` has the record in its log, so that it is not sent again after a restart.
    ///
    /// # Errors
    /// [`StateError`]; it would be sent again.
    pub fn acknowledged(&mut self, domain: &DomainName) -> Result<(), StateError> {
        let Some(halt) = &mut self.halt else { return Ok(()) };
        if halt.acknowledged.insert(domain.clone()) {
            self.state.write_cbor(HALT, halt)?;
        }
        Ok(())
    }

    /// Ends the halt if the authority of `domain` took this node back: for this halt, in a newer epoch, and not before.
    ///
    /// # Errors
    /// [`HaltStoreError::Denied`] for anything else than such a statement; [`HaltStoreError::State`] if it could not be
    /// made durable. The halt stays in force.
    pub fn readmit<B: AsRef<[u8]>>(
        &mut self,
        signatures: &[B],
        domain: &DomainName,
        node: &NodeId,
        authority: &Authority,
        now: UnixSeconds,
    ) -> Result<u64, HaltStoreError> {
        let Some(halt) = &self.halt else { return Err(HaltStoreError::NotHalted) };
        let used = self.readmissions.sequences.get(domain).copied().unwrap_or(0);
        let sequence_min = used.saturating_add(1);
        let verified = Statement::verify(signatures, domain, authority, sequence_min, now)?;
        let statement = verified.statement();
        let Order::Readmit { node: readmitted, halt: answered, epoch } = &statement.order else {
            return Err(HaltStoreError::OtherOrder);
        };
        if readmitted != node {
            let (got, expected) = (readmitted.clone(), node.clone());
            return Err(GovernanceDenial::Node { what: "readmission", got, expected }.into());
        }
        let this = halt.record.as_ref().map_or(Sha256Digest::ZERO, |record| record.digest);
        if *answered != this {
            return Err(HaltStoreError::OtherHalt { got: *answered, this });
        }
        let halted_in = halt.epochs.get(domain).copied().unwrap_or(0);
        if *epoch <= halted_in {
            return Err(GovernanceDenial::EpochStale { got: *epoch, min: halted_in.saturating_add(1) }.into());
        }
        // The statement is used up before the halt ends: a crash in between leaves a halted node, never a free one.
        let mut readmissions = self.readmissions.clone();
        readmissions.sequences.insert(domain.clone(), statement.sequence);
        self.state.write_cbor(READMISSIONS, &readmissions)?;
        self.readmissions = readmissions;
        self.state.remove(HALT)?;
        self.halt = None;
        Ok(*epoch)
    }
}

/// Why a halt was not completed or not ended.
#[derive(Debug, thiserror::Error)]
pub enum HaltStoreError {
    /// The node is not halted.
    #[error("the node is not halted")]
    NotHalted,
    /// A statement, but no readmission.
    #[error("the statement orders something else than a readmission")]
    OtherOrder,
    /// A readmission for another halt.
    #[error("the readmission answers halt {got}, this one is {this}")]
    OtherHalt {
        /// Which it answers.
        got: Sha256Digest,
        /// Which is in force.
        this: Sha256Digest,
    },
    /// The statement or record breaks a rule.
    #[error(transparent)]
    Denied(#[from] GovernanceDenial),
    /// It could not be made durable.
    #[error(transparent)]
    State(#[from] StateError),
}

const HALT: &str = "halt.cbor";
const READMISSIONS: &str = "readmissions.cbor";

#[cfg(test)]
#[path = "halt_store_tests.rs"]
mod tests;

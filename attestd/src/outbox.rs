//! Signed records that a domain has not acknowledged yet: kept on disk, sent until it does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use evidence::cbor::{self, Caps};
use evidence::names::DomainName;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::state::{StateDir, StateError};

/// What kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// A halt record.
    Halt,
    /// An end record.
    End,
}

/// A record for one domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsent {
    /// For whom.
    pub domain: DomainName,
    /// What.
    pub kind: RecordKind,
    /// COSE_Sign1 by the node's record key.
    pub cose: ByteBuf,
}

/// Unsent records in the order in which they were made.
#[derive(Debug)]
pub struct Outbox {
    state: Arc<StateDir>,
    unsent: Mutex<BTreeMap<u64, Unsent>>,
    /// Notified when a record was added.
    added: Notify,
}

impl Outbox {
    /// Reads what earlier runs left.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(state: Arc<StateDir>) -> Result<Self, StateError> {
        let folder = state.join(FOLDER);
        let io = |source| StateError::Io { doing: "listing", path: folder.clone(), source };
        let mut unsent = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let Some(number) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).and_then(|n| n.parse().ok())
            else {
                continue; // a half-written file that was never promised to anyone
            };
            if let Some(record) = read(&state, number)? {
                unsent.insert(number, record);
            }
        }
        Ok(Self { state, unsent: Mutex::new(unsent), added: Notify::new() })
    }

    /// Keeps a record until its domain acknowledges it.
    ///
    /// # Errors
    /// [`StateError`]; it is not kept then.
    pub fn add(&self, record: Unsent) -> Result<u64, StateError> {
        let mut unsent = self.lock();
        let number = unsent.last_key_value().map_or(0, |(newest, _)| newest.saturating_add(1));
        self.state.write_cbor(&name(number), &record)?;
        unsent.insert(number, record);
        drop(unsent);
        self.added.notify_waiters();
        Ok(number)
    }

    /// The oldest record for `domain`.
    #[must_use]
    pub fn oldest(&self, domain: &DomainName) -> Option<(u64, Unsent)> {
        let unsent = self.lock();
        unsent.iter().find(|(_, record)| record.domain == *domain).map(|(number, record)| (*number, record.clone()))
    }

    /// Whether a record of this kind waits for anybody.
    #[must_use]
    pub fn holds(&self, kind: RecordKind) -> bool {
        self.lock().values().any(|record| record.kind == kind)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets a record that its domain acknowledged.
    ///
    /// # Errors
    /// [`StateError`]; it will be sent again.
    pub fn acknowledged(&self, number: u64) -> Result<(), StateError> {
        let mut unsent = self.lock();
        self.state.remove(&name(number))?;
        unsent.remove(&number);
        Ok(())
    }

    /// Resolves when a record is added after this call, also if that is before the first poll.
    pub fn added(&self) -> Notified<'_> {
        self.added.notified()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Unsent>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(state: &StateDir, number: u64) -> Result<Option<Unsent>, StateError> {
    let Some(bytes) = state.read(&name(number))? else { return Ok(None) };
    let malformed =
        |cause: cbor::CborError| StateError::Malformed { path: state.join(name(number)), why: cause.to_string() };
    cbor::from_slice(&bytes, Caps::bytes(RECORD_CAP_BYTES)).map(Some).map_err(malformed)
}

fn name(number: u64) -> String {
    format!("{FOLDER}/{number:020}{SUFFIX}")
}

const FOLDER: &str = "outbox";
const SUFFIX: &str = ".cbor";
const RECORD_CAP_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn records_wait_across_restarts_in_order_until_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let (a, b) = (DomainName::new("a.example").unwrap(), DomainName::new("b.example").unwrap());
        let record = |domain: &DomainName, byte| Unsent {
            domain: domain.clone(),
            kind: RecordKind::Halt,
            cose: ByteBuf::from(vec![byte]),
        };
        {
            let outbox = Outbox::open(Arc::new(StateDir::open(folder.path()).unwrap())).unwrap();
            for (domain, byte) in [(&b, 0), (&a, 1), (&a, 2)] {
                outbox.add(record(domain, byte)).unwrap();
            }
        }
        std::fs::write(folder.path().join("outbox/00000000000000000009.cbor.new"), b"torn").unwrap();
        let outbox = Outbox::open(Arc::new(StateDir::open(folder.path()).unwrap())).unwrap();
        let (number, oldest) = outbox.oldest(&a).unwrap();
        assert_eq!(oldest, record(&a, 1));
        outbox.acknowledged(number).unwrap();
        assert_eq!(outbox.oldest(&a).unwrap().1, record(&a, 2));
        assert_eq!((outbox.len(), outbox.is_empty()), (2, false));
    }
}

//! Executions that were started and not yet recorded as ended, so that one that died with the daemon is still accounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use serde::{Deserialize, Serialize};

use crate::state::{StateDir, StateError};

/// An execution as it was when it started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// Digests of the artifacts that it was started under.
    pub artifacts: Vec<Sha256Digest>,
    /// Domains that want to know of its end.
    pub domains: BTreeSet<DomainName>,
    /// Execution keys that it holds.
    pub keys_held: u32,
}

/// The journal, by digest of the intent.
#[derive(Debug)]
pub struct Journal {
    state: Arc<StateDir>,
    begun: Mutex<BTreeMap<Sha256Digest, Begun>>,
}

impl Journal {
    /// Reads what an earlier life of the daemon left; nothing of it runs any more.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(state: Arc<StateDir>) -> Result<Self, StateError> {
        let begun = state.read_cbor(JOURNAL)?.unwrap_or_default();
        Ok(Self { state, begun: Mutex::new(begun) })
    }

    /// What has begun and not ended.
    #[must_use]
    pub fn begun(&self) -> BTreeMap<Sha256Digest, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers an execution before it starts.
    ///
    /// # Errors
    /// [`StateError`]; it must not start then.
    pub fn begin(&self, intent: Sha256Digest, execution: Begun) -> Result<(), StateError> {
        self.change(|begun| drop(begun.insert(intent, execution)))
    }

    /// Forgets executions whose end is recorded.
    ///
    /// # Errors
    /// [`StateError`]; the next start would record their end again.
    pub fn end(&self, intents: impl IntoIterator<Item = Sha256Digest>) -> Result<(), StateError> {
        self.change(|begun| intents.into_iter().for_each(|intent| drop(begun.remove(&intent))))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Sha256Digest, Begun>)) -> Result<(), StateError> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = begun.clone();
        change(&mut next);
        if next != *begun {
            self.state.write_cbor(JOURNAL, &next)?;
            *begun = next;
        }
        Ok(())
    }
}

const JOURNAL: &str = "executions.cbor";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_began_is_known_after_a_crash_until_its_end_is_recorded() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let open = || Journal::open(Arc::new(StateDir::open(folder.path()).unwrap())).unwrap();
        let begun = Begun {
            artifacts: vec![Sha256Digest([1; 32])],
            domains: [DomainName::new("a.example").unwrap()].into(),
            keys_held: 1,
        };
        let (one, two) = (Sha256Digest([2; 32]), Sha256Digest([3; 32]));
        {
            let journal = open();
            journal.begin(one, begun.clone()).unwrap();
            journal.begin(two, begun.clone()).unwrap();
            journal.end([one]).unwrap();
        }
        assert_eq!(open().begun(), [(two, begun)].into());
    }
}

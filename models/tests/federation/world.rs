//! One partner, the verifiers that trust it, and the witness of its log.

use std::{collections::BTreeSet, sync::Arc};

use evidence::{digest::Sha256Digest, time::UnixSeconds};
use governance::partner::{LogHead, Partner};

use super::universe::{Branch, Served};

/// What a verifier remembers of its partner, named by its digest.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Sha256Digest,
}

impl Memory {
    pub(crate) fn of(partner: &Partner) -> Arc<Self> {
        let (bytes, digest) = partner.memory().and_then(|memory| memory.encode()).expect("memory");
        Arc::new(Self { bytes, digest })
    }
}

impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Memory {}

impl std::hash::Hash for Memory {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// The real machine, compared and hashed by all that it would remember, by its log head and by when it was seen.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) partner: Arc<Partner>,
    pub(crate) memory: Arc<Memory>,
}

impl Machine {
    pub(crate) fn of(partner: Partner) -> Self {
        let memory = Memory::of(&partner);
        Self { partner: Arc::new(partner), memory }
    }

    fn key(&self) -> (Sha256Digest, Option<LogHead>, Option<UnixSeconds>) {
        (self.memory.digest, self.partner.head(), self.partner.seen_at())
    }
}

impl PartialEq for Machine {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Machine {}

impl std::hash::Hash for Machine {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// What a verifier has on disk of its partner, and the digest of it that its own log names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) memory: Arc<Memory>,
    pub(crate) logged: Sha256Digest,
    pub(crate) head: Option<LogHead>,
    /// Length of its own log.
    pub(crate) log: u8,
}

/// How far a pull has come; what was served is fetched at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stage {
    Bundle,
    Head,
    State,
    Proofs,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Verifier {
    pub(crate) machine: Machine,
    pub(crate) store: Store,
    pub(crate) backup: Option<Box<Store>>,
    /// Length of its own log that others have cosigned.
    pub(crate) witnessed: u8,
    pub(crate) pull: Option<(Served, Stage)>,
    pub(crate) down: bool,
    /// What the judge of the model remembers: epochs, sequences and log sizes relied on, and in which unit it last saw
    /// a whole pull through; that it was condemned or untrusted.
    pub(crate) relied: Relied,
    pub(crate) seen: Option<u8>,
    pub(crate) condemned: bool,
    pub(crate) untrusted: bool,
    pub(crate) shown: Shown,
    /// The head whose log goes on in what it holds now.
    pub(crate) head: Option<Served>,
}

/// Digest of the bundle, and the state, that it was shown last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Shown {
    pub(crate) bundle: Option<Sha256Digest>,
    pub(crate) state: Option<Served>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Relied {
    pub(crate) epoch: u64,
    pub(crate) sequence: u64,
    pub(crate) branches: BTreeSet<Branch>,
}

/// A cosignature on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cosigning {
    pub(crate) shown: Served,
    /// What was held when it was judged.
    pub(crate) over: Option<Served>,
    pub(crate) durable: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Witness {
    /// On disk.
    pub(crate) held: Option<Served>,
    pub(crate) under_way: BTreeSet<Cosigning>,
    /// What it has signed; others hold it.
    pub(crate) cosigned: BTreeSet<Served>,
}

/// What went wrong in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Breach {
    /// I4: relied on an older epoch or bundle than before.
    WentBack,
    /// I4: a log head that does not go on from the one held.
    HeadForked,
    /// Relied on two histories.
    TwoHistories,
    /// I7: relied on a partner that was not seen in time.
    Unseen,
    /// A state signed by a retired key.
    RetiredKey,
    /// I5: a name that is not the partner's.
    ForeignName,
    /// Relied on a partner that was condemned or untrusted.
    Condemned,
    /// Relied on a partner whose newest state names a bundle that nobody was shown.
    Contradicted,
}

/// How often each misfortune may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Misfortunes {
    /// A pull is answered with something older.
    pub(crate) replays: u8,
    /// The partner goes on from an older database.
    pub(crate) rollbacks: u8,
    /// A pull is answered out of the other history.
    pub(crate) equivocations: u8,
    pub(crate) thefts: u8,
    pub(crate) crashes: u8,
    pub(crate) restores: u8,
    pub(crate) rows_restored: u8,
    pub(crate) distrusts: u8,
    pub(crate) witness_crashes: u8,
    /// A pull is answered with a state beside the bundle from before it.
    pub(crate) tears: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) now: u8,
    /// The newest step that the partner published, and what it serves.
    pub(crate) published: u8,
    pub(crate) serves: u8,
    pub(crate) verifiers: Vec<Verifier>,
    pub(crate) witness: Witness,
    pub(crate) left: Misfortunes,
    pub(crate) breaches: BTreeSet<Breach>,
    /// Nothing was done to the partner's word so far.
    pub(crate) honest: bool,
}

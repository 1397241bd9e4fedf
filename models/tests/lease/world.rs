//! Everything that a history of one node, its copies, its domains and whoever relies on it consists of.

use std::collections::{BTreeMap, BTreeSet};

use governance::{halt::HaltReason, lease::Lease};

/// What a domain's verifier answered, as an artifact would say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Verdict {
    /// Who issued it.
    pub(crate) domain: usize,
    /// Constant over renewals.
    pub(crate) id: u8,
    /// Fencing token.
    pub(crate) seq: u8,
    /// Governance epoch.
    pub(crate) epoch: u8,
    /// When, in units of true time.
    pub(crate) issued: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Message {
    Ask {
        domain: usize,
        copy: usize,
        attempt: u8,
        /// What the node knows as the head of its lineage.
        head: u8,
        /// The artifact that is to be renewed.
        renews: Option<u8>,
        /// Whether the machine measured what it should when evidence was collected.
        good: bool,
    },
    Granted {
        copy: usize,
        attempt: u8,
        verdict: Verdict,
        head: u8,
    },
    Refused {
        domain: usize,
        copy: usize,
        attempt: u8,
    },
    /// A revocation pushed to a node.
    Revoked {
        domain: usize,
        copy: usize,
        id: u8,
    },
    /// A node's halt record.
    Halted {
        domain: usize,
    },
    /// The authority's word that the node is taken back.
    Readmitted {
        copy: usize,
        statement: ReadmissionStatement,
    },
}

/// A readmission: which halt of which copy it answers, its sequence, and how many keys of the authority signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReadmissionStatement {
    pub(crate) answers: (usize, u8),
    pub(crate) sequence: u64,
    pub(crate) signers: u8,
}

/// One running instance of a node's daemon, its supervisor and its disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Copy {
    /// The machine itself.
    pub(crate) lease: Lease,
    /// Per domain, the number of the newest request, and whether it is still open.
    pub(crate) attempts: Vec<(u8, bool)>,
    /// Per domain, what was accepted last.
    pub(crate) held: Vec<Option<Verdict>>,
    /// Per domain, on disk: newest epoch seen, head of the lineage.
    pub(crate) epochs: Vec<u8>,
    pub(crate) heads: Vec<u8>,
    /// On disk: why it halted.
    pub(crate) halted: Option<HaltReason>,
    /// On disk: how often it halted, which names a halt as the digest of its record does.
    pub(crate) halts: u8,
    /// On disk: lowest sequence that a readmission may have.
    pub(crate) sequence_min: u64,
    /// The workload runs, with its keys.
    pub(crate) running: bool,
    /// When its supervisor kills it, on the node's clock.
    pub(crate) deadline_ms: u64,
    /// The whole machine stands still.
    pub(crate) paused: bool,
    /// It went on a moment ago, and nothing had its turn yet.
    pub(crate) just_resumed: bool,
    /// Units spent standing still.
    pub(crate) slept: u8,
    /// What the judge of the model remembers: halted, and not readmitted by a threshold since.
    pub(crate) must_not_run: bool,
}

/// A decision on its way from judgement to answer; lost in a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Judged,
    Committed,
    Witnessed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Decision {
    pub(crate) stage: Stage,
    pub(crate) copy: usize,
    pub(crate) attempt: u8,
    pub(crate) head: u8,
    pub(crate) renews: Option<u8>,
    pub(crate) verdict: Verdict,
}

/// An authorization in a verifier's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) seq: u8,
    pub(crate) ended: bool,
}

/// A verifier's database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    /// By artifact id.
    pub(crate) rows: Vec<Row>,
    pub(crate) epoch: u8,
    pub(crate) quarantined: bool,
    /// Lineage head of the node, the one it presented last, and the length of the log.
    pub(crate) head: u8,
    pub(crate) acknowledged: u8,
    pub(crate) log: u8,
    pub(crate) sequence_min: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Domain {
    pub(crate) database: Database,
    pub(crate) backup: Option<Box<Database>>,
    /// How much of the log others have cosigned: they do not forget it.
    pub(crate) witnessed: u8,
    pub(crate) decision: Option<Decision>,
    /// It refused to start.
    pub(crate) down: bool,
    /// What the judge of the model remembers: when an authorization was denied; what was committed and what answered.
    pub(crate) denied: BTreeMap<u8, u8>,
    pub(crate) committed: BTreeSet<(u8, u8)>,
    pub(crate) answered: BTreeSet<(u8, u8)>,
}

/// A service that lets effects through, by what the artifact says and its own clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct RelyingParty {
    /// By domain and artifact id: highest seq seen, and who used it.
    pub(crate) seen: BTreeMap<(usize, u8), (u8, usize)>,
    /// Per domain: when it last heard of it, its epoch, what it had revoked.
    pub(crate) views: Vec<View>,
    /// Two holders of one seq showed.
    pub(crate) alarm: bool,
    /// What the judge of the model remembers: highest seq accepted ever, and from whom.
    pub(crate) accepted: BTreeMap<(usize, u8), (u8, usize)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) at: Option<u8>,
    pub(crate) epoch: u8,
    pub(crate) revoked: BTreeSet<u8>,
}

/// What went wrong in a step; a breach of what a state shows is a property of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Breach {
    /// I2: an effect let through after its denial and the lease and the clock's error.
    EffectAfterDenial,
    /// I1: an effect let through after the lease and the clock's error.
    EffectAfterLease,
    /// I1: a verdict recorded under another epoch than the one in force.
    VerdictOfAnotherEpoch,
    /// I3: an answer before its log entry was witnessed.
    AnswerBeforeRecord,
    /// I4: a seq issued twice, or let through after a higher one.
    SequenceWentBack,
    /// Two holders of one seq were let through.
    TwoHolders,
    /// I7: let through without fresh word of its domain.
    UnknownAccepted,
}

/// How often each misfortune may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Misfortunes {
    pub(crate) duplicates: u8,
    pub(crate) pauses: u8,
    pub(crate) clones: u8,
    pub(crate) node_restarts: u8,
    pub(crate) verifier_restarts: u8,
    pub(crate) restores: u8,
    pub(crate) relying_party_restarts: u8,
    pub(crate) revocations: u8,
    pub(crate) tampers: u8,
    pub(crate) operator_halts: u8,
    pub(crate) publications: u8,
    pub(crate) readmissions: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// True time, in units of [`super::UNIT_MS`].
    pub(crate) now: u8,
    pub(crate) copies: Vec<Copy>,
    pub(crate) domains: Vec<Domain>,
    pub(crate) relying_party: RelyingParty,
    pub(crate) network: BTreeSet<Message>,
    /// The machine no longer measures what it should.
    pub(crate) tampered: bool,
    pub(crate) left: Misfortunes,
    pub(crate) breaches: BTreeSet<Breach>,
}

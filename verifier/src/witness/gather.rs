//! Cosignatures on our own log: every new head is put before all witnesses, one request in flight with each.
//!
//! As many as must cosign are asked at once, the others a little later.
//! All witnesses work on one target at a time. The next target is the newest head, taken once enough have cosigned the
//! last one, all have answered, or it took too long: were each to work on whatever is newest when it has time, no head might ever get enough.
//! Whoever waits for an entry waits for the first cosigned head over it, so that all who wait share one round.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use audit::checkpoint::VerifiedCheckpoint;
use audit::note::{NoteKey, NoteSignature};
use audit::witness::{self, AddCheckpoint};
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::{AskFailure, WitnessClient, WitnessPeer};
use super::cosigned::{self, CosignedHead};
use super::cosigners::Cosigners;
use super::needed::Needed;
use crate::clock::ClockWentBack;
use crate::log::{Log, SignedHead};
use crate::store::{Store, StoreError};

/// Longest that all witnesses stay with one head: a little longer than one of them may take.
const ROUND: Duration = Duration::from_millis(3_500);
/// Time between two requests to a witness that failed: first, and at most.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_CAP: Duration = Duration::from_secs(2);
/// How much later than those that suffice the other witnesses are asked, about what is newest then: each cosignature costs a
/// witness a commit. So long does an answer wait at most for one of them to stand in for one that keeps silent.
const BESIDE: Duration = Duration::from_millis(200);
/// Answers that may wait to be counted.
const ANSWERS_CAP: usize = 64;

/// What gathering needs.
#[derive(Clone)]
pub struct GatherParts {
    /// The tables.
    pub store: Store,
    /// Our log.
    pub log: Log,
    /// Who cosigns it.
    pub peers: watch::Receiver<Arc<Vec<WitnessPeer>>>,
    /// How many must.
    pub quorum: Needed,
    /// Where it is told what each of them last did.
    pub cosigners: Cosigners,
    /// Time.
    pub now: Arc<dyn Fn() -> Result<UnixSeconds, ClockWentBack> + Send + Sync>,
}

/// Gathers cosignatures until `stopped`; what has enough of them is in `cosigned`.
pub async fn gather(
    parts: GatherParts,
    cosigned: watch::Sender<Option<Arc<CosignedHead>>>,
    stopped: impl Future<Output = ()>,
) {
    let stored = tokio::spawn(cosigned::keep(parts.store.clone(), cosigned.subscribe()));
    let gathering = Gathering::new(parts, cosigned).run();
    tokio::select! {
        () = stopped => {}
        () = gathering => {}
    }
    stored.abort();
    drop(stored.await);
}

/// What one witness made of one head.
struct Answer {
    domain: DomainName,
    size: u64,
    /// Absent when it did not cosign.
    signature: Option<NoteSignature>,
}

struct Gathering {
    parts: GatherParts,
    cosigned: watch::Sender<Option<Arc<CosignedHead>>>,
    target: watch::Sender<SignedHead>,
    until: Instant,
    /// Cosignatures on the target.
    given: BTreeMap<DomainName, NoteSignature>,
    /// Who gave none.
    failed: BTreeSet<DomainName>,
}

impl Gathering {
    fn new(parts: GatherParts, cosigned: watch::Sender<Option<Arc<CosignedHead>>>) -> Self {
        let (target, _) = watch::channel(parts.log.head());
        let until = Instant::now();
        Self { parts, cosigned, target, until, given: BTreeMap::new(), failed: BTreeSet::new() }
    }

    async fn run(mut self) {
        let (answers, mut given) = mpsc::channel(ANSWERS_CAP);
        let (mut log, mut peers) = (self.parts.log.clone(), self.parts.peers.clone());
        let mut asking = self.ask_all(&answers);
        loop {
            tokio::select! {
                grown = log.grown() => {
                    if grown.is_err() {
                        return;
                    }
                    self.go_on();
                }
                changed = peers.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.given.clear();
                    self.failed.clear();
                    asking = self.ask_all(&answers);
                }
                Some(answer) = given.recv() => self.take(answer),
                () = sleep_until(self.until), if self.is_behind() => self.go_on(),
                Some(_) = asking.join_next() => {}
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.parts.log.size() > self.target.borrow().size
    }

    /// Takes the newest head as the target when all are done with the last one.
    fn go_on(&mut self) {
        let answered = self.given.len().saturating_add(self.failed.len());
        let done = self.given.len() >= self.parts.quorum.count().max(1) || answered >= self.parts.peers.borrow().len();
        if (done || Instant::now() >= self.until) && self.is_behind() {
            self.given.clear();
            self.failed.clear();
            self.until = Instant::now().checked_add(ROUND).unwrap_or(self.until);
            self.target.send_replace(self.parts.log.head());
        }
    }

    fn take(&mut self, Answer { domain, size, signature }: Answer) {
        if size != self.target.borrow().size {
            return;
        }
        let Some(signature) = signature else {
            self.failed.insert(domain);
            return self.go_on();
        };
        self.failed.remove(&domain);
        self.given.insert(domain, signature);
        if self.given.len() >= self.parts.quorum.count().max(1) {
            match self.cosigned_head() {
                Ok(head) => drop(self.cosigned.send_replace(Some(Arc::new(head)))),
                Err(reason) => tracing::error!(reason, "cosignatures that were taken do not verify together"),
            }
            self.go_on();
        }
    }

    /// The target with what was given, verified once more as a stranger will.
    fn cosigned_head(&self) -> Result<CosignedHead, String> {
        let target = self.target.borrow().clone();
        let given: Vec<_> = self.given.values().cloned().collect();
        let note = witness::with_cosignatures(&target.note, &given).map_err(|denial| denial.to_string())?;
        let keys: Vec<NoteKey> = self.parts.peers.borrow().iter().flat_map(|peer| peer.keys.clone()).collect();
        let now = (self.parts.now)().map_err(|error| error.to_string())?;
        let verified = VerifiedCheckpoint::verify(note.as_bytes(), &self.parts.log.identity(), &keys, now);
        verified
            .and_then(|verified| verified.quorum(self.parts.quorum.count()))
            .map_err(|denial| denial.to_string())?;
        let witnesses = keys.into_iter().filter(|key| given.iter().any(|signature| signature.is_of(key))).collect();
        Ok(CosignedHead { head: SignedHead { note, ..target }, witnesses })
    }

    /// One task for each witness.
    fn ask_all(&self, answers: &mpsc::Sender<Answer>) -> JoinSet<()> {
        let mut asking = JoinSet::new();
        let peers: Vec<_> = self.parts.peers.borrow().iter().map(|peer| peer.domain.clone()).collect();
        self.parts.cosigners.keep_only(&peers);
        for peer in self.parts.peers.borrow().iter() {
            match WitnessClient::new(peer) {
                Ok(client) => {
                    let asked = Asked {
                        peer: peer.clone(),
                        client,
                        parts: self.parts.clone(),
                        held: 0,
                        answers: answers.clone(),
                    };
                    asking.spawn(asked.run(self.target.subscribe()));
                }
                Err(reason) => tracing::error!(witness = %peer.domain, reason, "a witness cannot be asked"),
            }
        }
        asking
    }
}

/// One witness, asked about one head after the other.
struct Asked {
    peer: WitnessPeer,
    client: WitnessClient,
    parts: GatherParts,
    /// The size at which it holds our log, as far as we know.
    held: u64,
    answers: mpsc::Sender<Answer>,
}

impl Asked {
    async fn run(mut self, mut target: watch::Receiver<SignedHead>) {
        let mut pause = RETRY;
        loop {
            if !self.leads() {
                sleep(BESIDE).await;
            }
            let head = target.borrow_and_update().clone();
            let asked = self.cosignature(&head).await;
            let failed = asked.as_ref().err().cloned();
            match &failed {
                None => self.parts.cosigners.cosigned(&self.peer.domain, head.size, (self.parts.now)().ok()),
                Some(failure) => self.parts.cosigners.failed(&self.peer.domain, failure.to_string()),
            }
            let answer = Answer { domain: self.peer.domain.clone(), size: head.size, signature: asked.ok() };
            if self.answers.send(answer).await.is_err() {
                return;
            }
            if let Some(failure) = failed {
                self.report(&failure, &head);
                sleep(pause).await;
                pause = pause.saturating_mul(2).min(RETRY_CAP);
                continue;
            }
            pause = RETRY;
            if target.changed().await.is_err() {
                return;
            }
        }
    }

    fn leads(&self) -> bool {
        let needed = self.parts.quorum.count().max(1);
        self.parts.cosigners.leads(&self.peer.domain, needed, self.parts.log.identity().origin())
    }

    /// Asks, and once more from the size that the witness names.
    async fn cosignature(&mut self, head: &SignedHead) -> Result<NoteSignature, AskFailure> {
        for _ in 0..SIZES_CAP {
            let request = self.request(head).map_err(|fault| AskFailure::Unreachable(fault.to_string()))?;
            let now = (self.parts.now)().map_err(|error| AskFailure::Unreachable(error.to_string()))?;
            match self.client.ask(&request, &self.peer.keys, now).await {
                Err(AskFailure::Holds(size)) if size <= head.size => self.held = size,
                Ok(signature) => {
                    self.held = head.size;
                    return Ok(signature);
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(AskFailure::Holds(self.held))
    }

    fn request(&self, head: &SignedHead) -> Result<AddCheckpoint, StoreError> {
        let old = self.held.min(head.size);
        let proof =
            if old == 0 || old == head.size { Vec::new() } else { self.parts.log.prove_between(old, head.size)? };
        Ok(AddCheckpoint { old, proof, note: head.note.clone() })
    }

    fn report(&self, failure: &AskFailure, head: &SignedHead) {
        let witness = &self.peer.domain;
        match failure {
            AskFailure::Holds(size) if *size > self.parts.log.size() => tracing::error!(
                %witness, held = size, ours = self.parts.log.size(),
                "ALARM: a witness cosigned more of our log than there is: it was rolled back"
            ),
            AskFailure::Contradicts(_) => {
                tracing::error!(%witness, size = head.size, "ALARM: a witness cosigned another history of our log");
            }
            AskFailure::Holds(_)
            | AskFailure::Unreachable(_)
            | AskFailure::Status { .. }
            | AskFailure::NotCosigned(_) => tracing::warn!(%witness, %failure, "no cosignature"),
        }
    }
}

/// A size is learnt once; it may have moved meanwhile.
const SIZES_CAP: usize = 3;

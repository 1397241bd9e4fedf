//! The end of everything on this node, and the way back.
//!
//! In force in memory first, so that nothing new starts; then durable and killed, side by side, because neither may wait
//! for the other; then recorded, kept for every domain, and told.

use std::sync::Arc;
use std::time::Duration;

use evidence::digest::Sha256Digest;
use evidence::time::UnixSeconds;
use governance::halt::{HALT_LIST_CAP, HALT_VERSION, HaltReason, HaltRecord, Killed, KilledBy};
use governance::on_halt::OnHalt;
use governance::revocation::{Revocation, RevocationList, Revoked};
use governance::text::Text;
use governance::trust_bundle::Role;
use tokio::sync::{Mutex, broadcast, oneshot};
use tokio::time::timeout;
use wire::bounded::verifier::Push;

use super::domain::{Domain, Seen};
use super::execution::{Order, Stopped};
use super::refused::Refused;
use super::{Authorizations, DomainName, Ending, Executions, Node, lock};
use crate::clock::unix_now;
use crate::halt_store::StoredHalt;
use crate::outbox::{RecordKind, Unsent};

impl Node {
    /// Halts without waiting for the end of it.
    pub(super) fn trip(self: &Arc<Self>, reason: HaltReason) {
        let node = Arc::clone(self);
        tokio::spawn(async move { node.halt(reason).await });
    }

    /// Halts this node. The first reason stands.
    pub(crate) async fn halt(self: &Arc<Self>, reason: HaltReason) {
        self.halt_as(reason, None).await;
    }

    /// The same; an operator may say what becomes of the executions instead of their intents.
    pub(super) async fn halt_as(self: &Arc<Self>, reason: HaltReason, instead: Option<OnHalt>) {
        let first = self.halted.send_if_modified(|halted| {
            let first = halted.is_none();
            halted.get_or_insert_with(|| reason.clone());
            first
        });
        if !first {
            return;
        }
        tracing::error!(code = reason.code(), ?reason, "halted");
        let halted_at = unix_now();
        let ((), stopped) =
            tokio::join!(self.make_halt_durable(&reason, halted_at), self.stop_executions(&reason, instead));
        self.record_halt(reason, halted_at, stopped).await;
    }

    /// Accounts for what an earlier life of the daemon left: executions that died with it, a halt whose record is missing or
    /// not acknowledged everywhere.
    pub(super) async fn resume(&self) {
        self.resume_halt().await;
        for (intent, begun) in self.journal.begun() {
            tracing::warn!(%intent, "an execution died with the daemon");
            let ending = Ending {
                intent,
                artifacts: begun.artifacts,
                authorizations: Authorizations::new(),
                exit_code: KILLED_EXIT_CODE,
                keys_wiped: begun.keys_held,
            };
            let kept =
                begun.domains.iter().map(|domain| self.end_record(&ending, domain)).collect::<Result<Vec<_>, _>>();
            match kept {
                Ok(_) => self.forget_begun([intent]),
                Err(refused) => tracing::error!(%refused, "the end record could not be kept"),
            }
        }
    }

    /// Takes up a halt that an earlier life of the daemon left: its record may be missing, or not acknowledged everywhere.
    async fn resume_halt(&self) {
        let Some(halt) = self.halts.lock().await.current().cloned() else { return };
        tracing::warn!(code = halt.reason.code(), halted_at = %halt.halted_at, "this node is halted until it is readmitted");
        match &halt.record {
            None => {
                let died = self.journal.begun().into_iter().map(|(intent, begun)| Stopped {
                    artifacts: begun.artifacts,
                    authorizations: Authorizations::new(),
                    killed: Killed { intent, by: KilledBy::AlreadyEnded, processes: 0 },
                    keys_wiped: begun.keys_held,
                });
                self.record_halt(halt.reason.clone(), halt.halted_at, died.collect()).await;
            }
            Some(_) if self.outbox.holds(RecordKind::Halt) => {}
            Some(_) => {
                for domain in self.domains.keys().filter(|domain| !halt.acknowledged.contains(*domain)) {
                    self.keep_halt_record(domain, &halt);
                }
            }
        }
    }

    async fn make_halt_durable(&self, reason: &HaltReason, halted_at: UnixSeconds) {
        let epochs = lock(&self.seen).epochs();
        loop {
            let begun = self.halts.lock().await.begin(reason.clone(), halted_at, epochs.clone());
            match begun {
                Ok(_) => return,
                Err(error) => tracing::error!(%error, "the halt is in force but not durable"),
            }
            // Nobody is told meanwhile, nothing is started, and a restart finds an unfinished execution at worst.
            tokio::time::sleep(DURABLE_AGAIN_AFTER).await;
        }
    }

    async fn stop_executions(&self, reason: &HaltReason, instead: Option<OnHalt>) -> Vec<Stopped> {
        let orders: Vec<_> = lock(&self.executions).orders.values().cloned().collect();
        let mut answers = Vec::new();
        for order in orders {
            let (done, stopped) = oneshot::channel();
            if order.send(Order::Halt(reason.clone(), instead, done)).await.is_ok() {
                answers.push(stopped);
            }
        }
        let mut stopped = Vec::new();
        for answer in answers {
            stopped.extend(answer.await.ok());
        }
        stopped
    }

    async fn record_halt(&self, reason: HaltReason, halted_at: UnixSeconds, stopped: Vec<Stopped>) {
        let keys_wiped = stopped.iter().fold(0_u32, |sum, stopped| sum.saturating_add(stopped.keys_wiped));
        let record = HaltRecord {
            version: HALT_VERSION,
            domain: self.home.clone(),
            node: self.id().clone(),
            reason,
            authorizations: authorizations(&stopped),
            artifacts: stopped.iter().flat_map(|stopped| stopped.artifacts.clone()).take(HALT_LIST_CAP).collect(),
            last_evidence: *lock(&self.last_evidence),
            killed: stopped.into_iter().map(|stopped| stopped.killed).take(HALT_LIST_CAP).collect(),
            keys_wiped,
            keys_wiped_at: unix_now(),
            halted_at,
            lineage_head: self.halt_follows(&self.home),
        };
        let others = self.domains.keys().filter(|domain| **domain != self.home).map(|domain| HaltRecord {
            domain: domain.clone(),
            lineage_head: self.halt_follows(domain),
            ..record.clone()
        });
        match self.halts.lock().await.complete(&record, &others.collect::<Vec<_>>(), &self.record_key) {
            Ok(halt) => {
                for domain in self.domains.keys() {
                    self.keep_halt_record(domain, &halt);
                }
                self.forget_begun(record.killed.iter().map(|killed| killed.intent));
            }
            // The halt itself is durable; the record is made again at the next start.
            Err(error) => tracing::error!(%error, "the halt record could not be made durable"),
        }
    }

    /// The newest record of a domain's lineage that a halt can name.
    fn halt_follows(&self, domain: &DomainName) -> Sha256Digest {
        self.state.lineage_head(domain).unwrap_or_else(|error| {
            tracing::error!(%domain, %error, "the halt record names no lineage head");
            Sha256Digest::ZERO
        })
    }

    fn keep_halt_record(&self, domain: &DomainName, halt: &StoredHalt) {
        let Some(cose) = halt.told(domain).map(|record| record.cose.clone()) else { return };
        match self.outbox.add(Unsent { domain: domain.clone(), kind: RecordKind::Halt, cose }) {
            Ok(number) if *domain == self.home => {
                self.halt_record.send_replace(Some(number));
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%domain, %error, "the halt record could not be kept"),
        }
    }

    /// Resolves with the halt record's index in the home domain's log, or with none if it is not acknowledged soon.
    /// Subscribed when called, not when polled.
    pub(super) fn halt_recorded(&self) -> impl Future<Output = Option<u64>> + use<> {
        let acknowledged = self.acknowledged.subscribe();
        let mut halt_record = self.halt_record.subscribe();
        async move {
            let number = timeout(RECORDED_WITHIN, halt_record.wait_for(Option::is_some)).await;
            let number = number.ok().and_then(Result::ok).and_then(|number| *number)?;
            first_acknowledged(acknowledged, &[number]).await
        }
    }

    /// A domain will not have this node until it is readmitted: that is a halt, whether or not anything runs.
    pub(super) fn quarantined_by(self: &Arc<Self>, domain: &DomainName, code: &str) {
        match Text::new(code) {
            Ok(code) => self.trip(HaltReason::Revoked { domain: domain.clone(), code }),
            Err(error) => tracing::error!(%error, "a code of the verifier's is no text"),
        }
    }

    /// Follows what a verifier sent unasked.
    pub(super) async fn pushed(
        self: &Arc<Self>,
        domain: &Domain,
        push: Push,
        seen: &Mutex<Seen>,
    ) -> Result<(), Refused> {
        match push {
            Push::Halt { code, reason } => {
                tracing::warn!(domain = %domain.name, code, reason, "the verifier pushed a halt");
                self.quarantined_by(&domain.name, &code);
            }
            Push::Revocation(cose) => {
                let issuer_keys = domain.keys(unix_now())?.keys(Role::Issuer, unix_now());
                let revocation = Revocation::verify(&cose, &domain.name, &issuer_keys)
                    .map_err(|denial| Refused::denied(denial.code(), &denial))?;
                self.revoked(domain, revocation).await;
            }
            Push::ParentOver { artifact, code } => self.parent_over(domain, artifact, &code).await,
            Push::WitnessPolicy(statements) => {
                let mut seen = seen.lock().await;
                let judged = domain.witnessed_by(&statements, &mut seen, unix_now());
                self.judged(domain, judged).await?;
                self.remember_seen(&domain.name, &seen)?;
            }
            Push::Checkpoint(note) => {
                let mut seen = seen.lock().await;
                let judged = domain.checkpointed(&note, &mut seen, unix_now());
                self.judged(domain, judged).await?;
                self.remember_seen(&domain.name, &seen)?;
            }
            Push::TrustBundle(signatures) => self.follow_bundle(domain, &signatures)?,
            Push::ClientCertificate(pem) => self.show_certificate(&domain.name, pem)?,
        }
        Ok(())
    }

    /// Comes back when what depended on it is over.
    async fn revoked(self: &Arc<Self>, domain: &Domain, revocation: Revocation) {
        tracing::warn!(domain = %domain.name, revoked = %revocation.revoked.subject(), "revocation pushed");
        let list = Arc::new(RevocationList::new([(revocation.revoked, revocation.reason)]));
        if let Err(denial) = list.admits(&Revoked::Node(self.id().clone())) {
            match Text::new(denial.code()) {
                Ok(code) => self.halt(HaltReason::Revoked { domain: domain.name.clone(), code }).await,
                Err(error) => tracing::error!(%error, "a code of ours is no text"),
            }
            return;
        }
        let orders: Vec<_> = lock(&self.executions).orders.values().cloned().collect();
        let mut followed = Vec::new();
        for order in orders {
            let (done, over) = oneshot::channel();
            if order.send(Order::Revoked(domain.name.clone(), Arc::clone(&list), done)).await.is_ok() {
                followed.push(over);
            }
        }
        let all = async {
            for over in followed {
                let _ = over.await; // it may just have ended
            }
        };
        if timeout(FOLLOWED_WITHIN, all).await.is_err() {
            tracing::error!(domain = %domain.name, "an execution takes long to follow a revocation");
        }
    }

    /// Judges a readmission; only the home domain's counts.
    pub(super) async fn readmitted(
        &self,
        domain: &Domain,
        statements: &[Vec<u8>],
        seen: &Mutex<Seen>,
    ) -> Result<(), Refused> {
        let identity = self.domains.get(&domain.name).filter(|_| domain.name == self.home);
        let (Some(identity), true) = (identity, self.is_halted()) else { return Ok(()) };
        let mut halts = self.halts.lock().await;
        match halts.readmit(statements, &domain.name, self.id(), &identity.authority, unix_now()) {
            Ok(epoch) => {
                let mut seen = seen.lock().await;
                if epoch > seen.epoch {
                    (seen.epoch, seen.state) = (epoch, None);
                }
                self.remember_seen(&domain.name, &seen)?;
                self.halt_record.send_replace(None);
                self.halted.send_replace(None);
                lock(&self.halted_workloads).clear(); // dropped, so killed: nobody is to thaw what ran before
                let mut executions = lock(&self.executions);
                let Executions { orders, governed, .. } = &mut *executions;
                governed.retain(|execution, _| orders.contains_key(execution));
                drop(executions);
                lock(&self.captured).clear(); // what the machine is now, is what the domains should know
                tracing::warn!(epoch, "readmitted");
            }
            Err(error) => tracing::warn!(%error, "a readmission does not count"),
        }
        Ok(())
    }
}

/// What authorized all of it, as much as a record holds.
fn authorizations(stopped: &[Stopped]) -> Authorizations {
    let all = stopped.iter().flat_map(|stopped| &stopped.authorizations);
    let each = all.flat_map(|(domain, records)| records.iter().map(move |record| (domain, record)));
    let mut by_domain = Authorizations::new();
    for (domain, record) in each.take(HALT_LIST_CAP) {
        by_domain.entry(domain.clone()).or_default().push(*record);
    }
    by_domain
}

/// Waits a little until one of these records is acknowledged; gives its log index.
pub(super) async fn first_acknowledged(
    mut acknowledged: broadcast::Receiver<(u64, u64)>,
    numbers: &[u64],
) -> Option<u64> {
    let acknowledgement = async {
        loop {
            match acknowledged.recv().await {
                Ok((number, index)) if numbers.contains(&number) => return Some(index),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    };
    timeout(RECORDED_WITHIN, acknowledgement).await.ok().flatten()
}

/// How long a client waits to hear that the last record is logged; it is sent all the same.
const RECORDED_WITHIN: Duration = Duration::from_secs(3);
/// A workload is killed in milliseconds; its lease ends it in any case.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(2);
/// 128 + SIGKILL: what the supervisor did when the daemon was gone.
const KILLED_EXIT_CODE: i32 = 137;
const DURABLE_AGAIN_AFTER: Duration = Duration::from_millis(500);

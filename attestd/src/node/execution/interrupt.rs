//! What stops an execution short of its own end: a halt as its intent says, and an operator's pause.

use std::collections::BTreeSet;

use evidence::names::DomainName;
use governance::halt::{KilledBy, Trigger};
use governance::intent::Domains;
use governance::lease::LeaseEvent;
use governance::on_halt::OnHalt;

use super::Execution;

/// Whether an operator has it stand still.
#[derive(Debug, Default)]
pub(super) enum Pause {
    /// No.
    #[default]
    No,
    /// So many processes do; the lease is renewed all the while.
    Since(u32),
    /// They go on once enough domains have granted a renewal that was asked for after the operator was heard.
    Ending {
        /// Processes that stand still.
        processes: u32,
        /// Domains that were asked since.
        asked: BTreeSet<DomainName>,
        /// Domains that granted what they were asked.
        proven: BTreeSet<DomainName>,
    },
}

impl Pause {
    /// A domain is asked, with evidence that is collected from now on.
    pub(super) fn asked(&mut self, domain: &DomainName) {
        match self {
            Self::No | Self::Since(_) => {}
            Self::Ending { asked, .. } => drop(asked.insert(domain.clone())),
        }
    }

    /// A domain granted a renewal; says whether that is enough to go on.
    fn proven(&mut self, domain: &DomainName, needed: &Domains) -> bool {
        match self {
            Self::No | Self::Since(_) => false,
            Self::Ending { asked, proven, .. } => {
                if asked.contains(domain) {
                    proven.insert(domain.clone());
                }
                needed.met_by(proven.iter()).is_ok()
            }
        }
    }

    /// Processes that stand still.
    const fn processes(&self) -> Option<u32> {
        match self {
            Self::No => None,
            Self::Since(processes) | Self::Ending { processes, .. } => Some(*processes),
        }
    }

    /// For `status`.
    pub(super) fn shown(&self) -> serde_json::Value {
        let resuming = matches!(self, Self::Ending { .. });
        self.processes().map_or(
            serde_json::Value::Null,
            |processes| serde_json::json!({ "processes": processes, "resuming": resuming }),
        )
    }
}

impl Execution {
    /// Does to it what a halt is to do. Comes back at once where it may take its time, so that the node's halt goes on.
    pub(super) async fn interrupt(&mut self) {
        self.tell(); // before anything is done: who is to end in good order should know why
        if self.on_halt != OnHalt::Kill {
            self.node.end_children(self.number); // they have no parent any more, whatever becomes of this one
        }
        match self.on_halt {
            OnHalt::Kill => self.kill().await,
            OnHalt::Freeze => self.freeze().await,
            OnHalt::Drain { grace_ms } => {
                if let Some(running) = self.running.take() {
                    tracing::info!(grace_ms, "the workload is asked to end");
                    running.drain(grace_ms);
                    self.draining = Some(running);
                }
            }
            OnHalt::RevokeKeys => {
                if let Some(running) = self.running.take() {
                    tracing::warn!("the workload was told that its keys are gone, and ends with its lease");
                    self.halted_as = Some((KilledBy::Lease, 0));
                    self.node.keep_halted(running);
                }
            }
        }
    }

    /// Waits until a drain is over: its supervisor ends it after the grace, and if that does not, we do.
    pub(super) async fn drained(&mut self) {
        let Some(running) = self.draining.take() else { return };
        let grace = std::time::Duration::from_millis(u64::from(self.on_halt.grace_ms()));
        let ended = match tokio::time::timeout(grace.saturating_add(DRAIN_MARGIN), running.ended()).await {
            Ok(ended) => ended,
            Err(_) => running.kill().await,
        };
        self.halted_as = Some((KilledBy::Drain, ended.killed));
        self.ended = Some(ended);
    }

    async fn freeze(&mut self) {
        let Some(running) = self.running.take() else { return };
        match running.freeze().await {
            Some(processes) => {
                tracing::warn!(processes, "the workload is frozen until readmission or the end of the daemon");
                self.halted_as = Some((KilledBy::Freeze, processes));
                self.node.keep_halted(running);
            }
            None => self.ended = Some(running.ended().await),
        }
    }

    /// Has it stand still; its lease is renewed as before, and its end counts.
    pub(super) async fn pause(&mut self) -> Option<u32> {
        if let Some(processes) = self.pause.processes() {
            self.pause = Pause::Since(processes); // a resumption that was under way is taken back
            return Some(processes);
        }
        let processes = self.running.as_ref()?.pause().await?;
        tracing::warn!(processes, "the workload is paused");
        self.pause = Pause::Since(processes);
        Some(processes)
    }

    /// Lets it go on as soon as enough domains have seen new evidence; asks them at once.
    pub(super) async fn resume(&mut self) {
        let Some(processes) = self.pause.processes() else { return };
        self.pause = Pause::Ending { processes, asked: BTreeSet::new(), proven: BTreeSet::new() };
        self.step(LeaseEvent::AttestNow(Trigger::Scheduled)).await;
    }

    pub(super) async fn proven(&mut self, domain: &DomainName) {
        if !self.pause.proven(domain, &self.intent.intent.domains) || !self.lease.runs() {
            return;
        }
        let Some(running) = &self.running else { return };
        if running.resume().await {
            tracing::info!("the workload goes on");
            self.pause = Pause::No;
        } else {
            tracing::error!("the workload could not be made to go on: it stays paused");
        }
    }
}

/// A supervisor that lives reports within milliseconds of the grace.
const DRAIN_MARGIN: std::time::Duration = std::time::Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> DomainName {
        DomainName::new(name).unwrap()
    }

    #[test]
    fn only_what_was_asked_after_the_order_lets_it_go_on() {
        let both = Domains::All([domain("a.example"), domain("b.example")].into());
        let mut pause = Pause::Ending { processes: 3, asked: BTreeSet::new(), proven: BTreeSet::new() };
        assert!(!pause.proven(&domain("a.example"), &both), "a renewal that was under way before proves nothing");
        pause.asked(&domain("a.example"));
        assert!(!pause.proven(&domain("a.example"), &both));
        pause.asked(&domain("b.example"));
        assert!(pause.proven(&domain("b.example"), &both));
        assert!(!Pause::Since(3).proven(&domain("a.example"), &both));
    }
}

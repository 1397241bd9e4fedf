//! How an execution stands, for whoever asks: `status`, and its own processes.

use std::sync::Arc;

use governance::lease::LeaseState;
use governance::on_halt::OnHalt;

use super::Execution;
use crate::clock::boottime_ms;
use crate::gateway::Running;
use crate::node::governed::{InForce, Standing};

impl Execution {
    /// Tells its processes how it stands.
    pub(super) fn tell(&self) {
        let Some(governed) = &self.governed else { return };
        let over = match self.lease.state() {
            LeaseState::Halted { reason } => Some(reason.code()),
            LeaseState::Held | LeaseState::Renewing => self.finished.as_ref().map(|_| ENDED),
            LeaseState::Idle | LeaseState::Attesting => Some(self.orphaned.unwrap_or(ENDED)),
        };
        let halted = matches!(self.lease.state(), LeaseState::Halted { .. });
        let keys_revoked = halted && self.on_halt == OnHalt::RevokeKeys;
        // Of a domain whose lease has run out nothing is in force, though the others' may suffice.
        let live = self.lease.live();
        let in_force = self.accepted.iter().filter(|(domain, _)| live.contains_key(*domain));
        let in_force = in_force.map(|(domain, accepted)| {
            let terms = accepted.artifact.terms();
            let given = InForce {
                artifact: Arc::clone(&accepted.cose),
                artifact_id: terms.id,
                expires_at: terms.expires_at,
                svid: accepted.svid.clone(),
                authorities: Arc::clone(&accepted.authorities),
                jwt: Arc::clone(&accepted.jwt),
                partners: Arc::clone(&accepted.partners),
            };
            (domain.clone(), given)
        });
        let (in_force, ends_at_ms) = (in_force.collect(), self.deadline_ms);
        governed.stands(Standing { in_force, ends_at_ms, over, keys_revoked });
    }

    /// For `status`.
    pub(super) fn shown(&self) -> serde_json::Value {
        let now_ms = boottime_ms();
        let leases = self.lease.live().iter().map(|(domain, live)| {
            serde_json::json!({
                "domain": domain.as_str(),
                "artifact": live.grant.id.to_string(),
                "seq": live.grant.terms.seq,
                "epoch": live.grant.epoch,
                "renew_in_ms": live.renew_at_ms.saturating_sub(now_ms),
                "ends_in_ms": live.ends_at_ms.saturating_sub(now_ms),
            })
        });
        serde_json::json!({
            "execution": self.number,
            "parent": self.parent.shown(),
            "intent": self.intent.digest.to_string(),
            "argv": self.intent.intent.workload.argv,
            "state": state_name(self.lease.state()),
            "attached": self.intent.intent.workload.attach,
            "on_halt": self.on_halt,
            "paused": self.pause.shown(),
            "pid": self.running.as_ref().map(Running::workload_pid),
            "leases": leases.collect::<Vec<_>>(),
        })
    }
}

const fn state_name(state: &LeaseState) -> &'static str {
    match state {
        LeaseState::Idle => "idle",
        LeaseState::Attesting => "attesting",
        LeaseState::Held => "held",
        LeaseState::Renewing => "renewing",
        LeaseState::Halted { .. } => "halted",
    }
}

/// An execution that ended without a halt.
pub(super) const ENDED: &str = "ended";

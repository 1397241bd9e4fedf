//! How an execution starts once enough domains authorized it, and what is left to do when they did not.

use governance::artifact::VerifiedArtifact;

use super::{Execution, Finish, NOT_STARTED_EXIT_CODE, Prepared};
use crate::gateway::GatewayError;
use crate::journal::Begun;
use crate::node::governed::Governed;
use crate::node::refused::Refused;
use crate::node::{Ending, keys};
use crate::watch::expected;

impl Execution {
    /// Too few authorized it. One domain's own word says all there is to say of a refusal; of several, how many are missing.
    pub(super) async fn give_up_unauthorized(&mut self) {
        if !self.accepted.is_empty()
            && let Err(denial) = self.intent.intent.domains.met_by(self.accepted.keys())
        {
            self.narration.refused(&denial.into());
        }
        self.give_up().await;
    }

    /// Nothing was started. Whoever authorized it hears that it is over, and need not wait for more.
    pub(super) async fn give_up(&mut self) {
        self.keep_heard();
        self.accepted.values_mut().for_each(|accepted| accepted.keys.clear());
        if !self.accepted.is_empty() {
            let ending = Ending {
                intent: self.intent.digest,
                artifacts: self.artifacts(),
                authorizations: self.authorizations(),
                exit_code: NOT_STARTED_EXIT_CODE,
                keys_wiped: 0,
            };
            let index = self.node.record_end(ending, &self.accepted.keys().cloned().collect()).await;
            self.narration.proof_persisted("end", index);
        }
        self.finished = Some(Finish { exit_code: NOT_STARTED_EXIT_CODE, halt_code: "" });
    }

    /// Nothing waits for it; what cannot be kept now is before the next request is sent.
    pub(super) fn keep_heard(&self) {
        if let Err(fault) = self.node.keep_heard() {
            tracing::error!(%fault, "what domains said is not kept yet");
        }
    }

    /// Phase 5: opens the keys and hands everything to the gateway.
    pub(super) async fn start(&mut self) -> Result<(), Refused> {
        let prepared = self.prepared.take().ok_or_else(|| Refused::fault("fault.bug", "started twice"))?;
        let Prepared { workload, svid_key, pcrs } = prepared;
        self.node.keep_heard()?;
        let mut artifacts: Vec<VerifiedArtifact> = Vec::new();
        let mut opened = Vec::new();
        for (domain, accepted) in &mut self.accepted {
            let Some(node_key) = self.node_keys.get(domain) else { continue };
            for wrapped in std::mem::take(&mut accepted.keys) {
                opened.push(self.node.open_key(&accepted.artifact, node_key, wrapped).await?);
            }
            artifacts.push(accepted.artifact.clone());
        }
        let keys = keys::complete(&self.intent.intent.scope.keys, opened)?;
        self.keys_held = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let begun = Begun {
            artifacts: artifacts.iter().map(VerifiedArtifact::digest).collect(),
            domains: self.intent.intent.domains.named().clone(),
            keys_held: self.keys_held,
        };
        self.node.journal.begin(self.intent.digest, begun)?;
        let mut running =
            self.node.gateway.start(&artifacts, &self.intent.intent, workload, keys, self.deadline_ms).await?;
        let secrets = (svid_key, running.take_keys());
        let governed = Governed::new(self.number, &self.intent, secrets, self.node.home.clone());
        self.governed = Some(self.node.govern(governed, &running).map_err(GatewayError::from)?);
        self.tell();
        self.narration.begun(running.workload_pid());
        if let Some((stdout, stderr)) = running.take_outputs() {
            self.narration.stream(stdout, stderr);
        }
        self.running = Some(running);
        let measurements = artifacts.into_iter().flat_map(|artifact| artifact.terms().bindings.measurements.clone());
        // a TEE's report cannot be read again for less than a new one: only PCRs are watched
        let appraised = measurements.filter_map(|(register, value)| register.pcr().map(|pcr| (pcr, value)));
        self.node.watch_while_running(self.number, expected(pcrs, appraised));
        Ok(())
    }
}

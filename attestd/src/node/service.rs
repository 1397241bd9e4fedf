//! The node's life: links, local service, an orderly end.

use std::sync::Arc;
use std::time::Duration;

use governance::halt::HaltReason;
use governance::on_halt::OnHalt;
use governance::text::Text;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use wire::bounded::local::EvidenceRequest;

use super::execution::Order;
use super::refused::Refused;
use super::{Node, Parts, lock};
use crate::collect::{Inspected, InspectionFault};
use crate::gateway::{GatewayError, facilities};
use crate::local_api::{self, Caller, LocalApi, UNTOLD};
use crate::state::StateError;
use crate::systemd;
use crate::tee::detect::{self, Finding};

impl Node {
    /// Runs a node until `stop` resolves: ends its executions, gives their records a moment to be acknowledged, and returns.
    ///
    /// # Errors
    /// [`ServeFault`].
    pub async fn serve(parts: Parts, stop: impl Future<Output = ()>) -> Result<(), ServeFault> {
        if !Caller::are_told() {
            tracing::error!("{UNTOLD}");
        }
        let (node, link_tasks) = Self::new(parts)?;
        node.resume().await;
        let local_api = LocalApi::bind(&node.state.socket_path()).map_err(ServeFault::LocalApi)?;
        let workload_api = LocalApi::bind(&node.state.workload_socket_path()).map_err(ServeFault::LocalApi)?;
        local_api::name_also(&node.state.workload_socket_path(), &node.state.spiffe_socket_path())
            .map_err(ServeFault::LocalApi)?;
        let keys_api = LocalApi::bind(&node.state.keys_socket_path()).map_err(ServeFault::LocalApi)?;
        let mut links = JoinSet::new();
        for task in link_tasks {
            links.spawn(task.run(Arc::clone(&node)));
        }
        tracing::info!(node = %node.id(), "serving");
        systemd::ready();
        tokio::select! {
            () = stop => {}
            never = systemd::alive(|| node.status()) => match never {},
            served = local_api.serve(Arc::clone(&node)) => served.map_err(ServeFault::LocalApi)?,
            never = keys_api.serve_keys(Arc::clone(&node)) => match never {},
            served = workload_api.serve_workloads(Arc::clone(&node)) => served.map_err(ServeFault::LocalApi)?,
        }
        systemd::stopping();
        node.stop().await;
        links.shutdown().await;
        Ok(())
    }

    async fn stop(&self) {
        tracing::info!("stopping");
        let orders: Vec<_> = {
            let mut executions = lock(&self.executions);
            executions.stopping = true;
            executions.orders.values().cloned().collect()
        };
        for order in orders {
            let _ = order.send(Order::Stop).await; // it may just have ended
        }
        let over = async {
            while !lock(&self.executions).orders.is_empty() || (!self.outbox.is_empty() && self.is_connected()) {
                sleep(LOOK_AGAIN_AFTER).await;
            }
        };
        if timeout(STOP_WITHIN, over).await.is_err() {
            tracing::warn!(unsent = self.outbox.len(), "stopping with records unsent; they are sent at the next start");
        }
    }

    fn is_connected(&self) -> bool {
        self.links.values().any(|link| link.status.borrow().connected)
    }

    /// An operator's halt, who may say what becomes of the executions instead of their intents.
    pub(crate) async fn halt_by_operator(
        self: &Arc<Self>,
        reason: &str,
        instead: Option<OnHalt>,
    ) -> Result<(), Refused> {
        match instead {
            Some(OnHalt::Freeze) => self.gateway.freezes().map_err(GatewayError::from)?,
            Some(OnHalt::Kill | OnHalt::Drain { .. } | OnHalt::RevokeKeys) | None => {}
        }
        let reason = Text::new(reason).map_err(|error| Refused::denied("governance.field_invalid", error))?;
        let recorded = self.halt_recorded();
        if self.is_halted() {
            return Ok(());
        }
        // In a task of its own: whoever asked may be gone before it is done, and half a halt is none.
        let node = Arc::clone(self);
        let halting = tokio::spawn(async move {
            node.halt_as(HaltReason::Operator { reason }, instead).await;
            recorded.await;
        });
        halting.await.map_err(|error| Refused::fault("fault.bug", error))
    }

    /// Evidence for somebody's nonce: shown, never sent. A halted node shows its Evidence too, so that it can be seen why.
    pub(crate) async fn inspect(&self, request: &EvidenceRequest) -> Result<Inspected, InspectionFault> {
        self.collector.inspect(&self.config, request).await
    }

    /// What `attestd status` prints.
    pub(crate) async fn status(&self) -> Value {
        let executions: Vec<Value> = lock(&self.executions).shown.values().cloned().collect();
        let halt = self.halts.lock().await.current().cloned();
        let state = match (&halt, executions.is_empty()) {
            (Some(_), _) => "halted",
            (None, true) => "idle",
            (None, false) => "running",
        };
        let halt = halt.map(|halt| {
            json!({
                "code": halt.reason.code(),
                "reason": halt.reason,
                "halted_at_unix_s": halt.halted_at.0,
                "record": halt.record.map(|record| record.digest.to_string()),
                "acknowledged": halt.acknowledged,
            })
        });
        let domains: Vec<Value> = self
            .links
            .iter()
            .map(|(name, link)| {
                let status = link.status.borrow().clone();
                json!({
                    "name": name.as_str(),
                    "connected": status.connected,
                    "epoch": status.epoch,
                    "fault": status.fault,
                    "captured": lock(&self.captured).contains(name),
                    "lineage_head": self.state.lineage_head(name).ok().map(|head| head.to_string()),
                })
            })
            .collect();
        json!({
            "node": self.id().as_str(),
            "platform": self.config.identity.kind().name(),
            "machine": detect::look(&self.config).iter().map(Finding::to_json).collect::<Vec<_>>(),
            "isolation": facilities::to_json(self.config.halt.cgroup.as_deref()),
            "state": state,
            "halt": halt,
            "domains": domains,
            "executions": executions,
            "unsent_records": self.outbox.len(),
        })
    }
}

/// Why the daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeFault {
    /// Its state cannot be understood.
    #[error(transparent)]
    State(#[from] StateError),
    /// The local socket.
    #[error("local socket: {0}")]
    LocalApi(std::io::Error),
}

/// Workloads die within milliseconds; what may take longer is a verifier's acknowledgement.
const STOP_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

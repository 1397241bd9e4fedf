//! An operator's pause: executions stand still and keep their leases. It is no halt: nothing is recorded or taken away.

use std::sync::Arc;

use evidence::digest::Sha256Digest;
use tokio::sync::oneshot;

use super::execution::Order;
use super::refused::Refused;
use super::{Node, lock};
use crate::gateway::GatewayError;

impl Node {
    /// Has one execution, or each, stand still.
    ///
    /// # Errors
    /// No such execution, or this machine cannot stop a whole process tree.
    pub(crate) async fn pause(self: &Arc<Self>, intent: Option<Sha256Digest>) -> Result<(), Refused> {
        self.gateway.freezes().map_err(GatewayError::from)?;
        for orders in self.named(intent)? {
            let (done, paused) = oneshot::channel();
            let ordered = orders.send(Order::Pause(done)).await.is_ok();
            if ordered && let Ok(None) = paused.await {
                return Err(Refused::fault(
                    "fault.workload_not_paused",
                    "it does not run, or did not stand still in time",
                ));
            }
        }
        Ok(())
    }

    /// Lets one execution, or each, go on as soon as its domains have seen new evidence.
    ///
    /// # Errors
    /// No such execution.
    pub(crate) async fn resume_paused(self: &Arc<Self>, intent: Option<Sha256Digest>) -> Result<(), Refused> {
        for orders in self.named(intent)? {
            let (done, ordered) = oneshot::channel();
            if orders.send(Order::Resume(done)).await.is_ok() {
                let _ = ordered.await; // it may just have ended
            }
        }
        Ok(())
    }

    fn named(&self, intent: Option<Sha256Digest>) -> Result<Vec<tokio::sync::mpsc::Sender<Order>>, Refused> {
        let executions = lock(&self.executions);
        let shown = |number: &u64| executions.shown.get(number).and_then(|shown| shown.get("intent")?.as_str());
        let wanted = intent.map(|intent| intent.to_string());
        let named =
            executions.orders.iter().filter(|(number, _)| wanted.is_none() || shown(number) == wanted.as_deref());
        let named: Vec<_> = named.map(|(_, orders)| orders.clone()).collect();
        if wanted.is_some() && named.is_empty() {
            return Err(Refused::denied("governance.field_invalid", "no execution of this intent runs here"));
        }
        Ok(named)
    }
}

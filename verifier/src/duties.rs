//! What the service does unasked: it notices nodes that owe a halt record, passes on new checkpoints and keeps counts.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use audit::record::RecordBody;
use evidence::names::NodeId;
use evidence::time::UnixSeconds;
use serde_bytes::ByteArray;
use tracing::{error, warn};

use crate::denials::code;
use crate::desk::Desk;
use crate::fault::Fault;
use crate::leases::{self, Lease, LeaseEnd};
use crate::lineage::Chain;
use crate::live::Push;
use crate::node_shown::MISSING;
use crate::nodes;

/// How often overdue leases are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked what partners have revoked.
const PARTNERS_EVERY: Duration = Duration::from_millis(250);
/// After its lease ended, a node has this long to say how its execution ended: it may be offline, and come back.
const HALT_RECORD_GRACE_S: u64 = 30;

impl Desk {
    /// Runs until `stopped`.
    pub(crate) async fn duties(self: Arc<Self>, stopped: impl Future<Output = ()>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut partners = tokio::time::interval(PARTNERS_EVERY);
        partners.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut revoked_by_partners = BTreeMap::new();
        let mut log = self.parts.log.clone();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => return,
                _ = look.tick() => {
                    if let Err(fault) = self.look().await {
                        self.metrics().faulted(fault.code());
                        warn!(%fault, "overdue leases not looked at");
                    }
                }
                _ = partners.tick() => {
                    if let Err(fault) = self.follow_partners(&mut revoked_by_partners).await {
                        self.metrics().faulted(fault.code());
                        warn!(%fault, "what partners revoked not followed");
                    }
                }
                grown = log.grown() => {
                    if grown.is_err() {
                        // The writer has stopped: health says so, and nothing more will be logged.
                        return stopped.await;
                    }
                    self.metrics().log_size.set(log.size());
                }
            }
        }
    }

    async fn look(self: &Arc<Self>) -> Result<(), Fault> {
        self.raise_missing_halts(self.now()?.minus(HALT_RECORD_GRACE_S)).await
    }

    /// Every lease that ended before `due` without a renewal, an end or a halt record is an alarm, logged once; also where we
    /// ended it ourselves, since only the node can say that its workload is dead.
    pub async fn raise_missing_halts(self: &Arc<Self>, due: UnixSeconds) -> Result<(), Fault> {
        let overdue = leases::overdue(&self.parts.store, due.0).await?;
        for lease in overdue {
            self.raise_missing_halt(lease).await?;
        }
        let missing = leases::count_missing(&self.parts.store).await?;
        self.metrics().halt_records_missing.set(missing);
        Ok(())
    }

    async fn raise_missing_halt(self: &Arc<Self>, lease: Lease) -> Result<(), Fault> {
        error!(node = %lease.node, artifact = %lease.artifact_id, "ALARM: lease ended without a halt or end record");
        let (desk, now, code) = (self.clone(), self.now()?, code(MISSING)?);
        let (id, artifact, newest) = (lease.node, lease.artifact_id, lease.artifact);
        self.parts
            .store
            .write::<_, Fault, _>(move |transaction| {
                Box::pin(async move {
                    let node = nodes::read(transaction, &id).await?;
                    let mut chain = Chain::after(&desk.parts.issuer, &desk.parts.domain, &id, node.head_current, now);
                    let record =
                        chain.next(newest, &[], RecordBody::Alarm { code, artifact: ByteArray::new(artifact.0) })?;
                    let head = record.digest;
                    transaction.append(record.entry(&[id.to_string(), artifact.to_string()]))?;
                    leases::end(transaction, &artifact, LeaseEnd::Missing).await?;
                    Ok(nodes::note(transaction, &id, &head).await?)
                })
            })
            .await?;
        Ok(())
    }

    /// Tells a node to stop, now. True when it is connected and took it.
    pub fn push_halt(&self, node: &NodeId, code: &str, reason: &str) -> bool {
        self.live().push(node, Push::Halt { code: code.to_owned(), reason: reason.to_owned() })
    }

    /// Sends a signed revocation to every node connected; each judges whether it is concerned.
    pub fn push_revocation(&self, cose: &[u8]) -> usize {
        self.live().push_all(&Push::Revocation(cose.into()))
    }
}

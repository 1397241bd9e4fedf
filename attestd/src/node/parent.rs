//! What an execution of this node descends from, and what follows for it when that ends.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use evidence::cose;
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use governance::GovernanceDenial;
use governance::artifact::{ARTIFACT_CAP_BYTES, Artifact, ArtifactId};
use governance::isolation::Isolation;
use serde_json::{Value, json};

use super::domain::Domain;
use super::execution::Order;
use super::governed::Governed;
use super::refused::Refused;
use super::{Node, lock};

/// The parent's execution is over.
pub(super) const NOT_LIVE: &str = "governance.parent_not_live";
/// It was revoked, or something that it descends from.
pub(super) const REVOKED: &str = "governance.parent_revoked";

/// What an execution descends from.
#[derive(Debug)]
pub(crate) enum Parent {
    /// Nothing: somebody who is no workload asked for it.
    None,
    /// An execution of this node, one of whose processes asked for it.
    Here(Arc<Governed>),
    /// One that runs elsewhere: files with its newest artifacts, which whoever started it keeps current.
    Elsewhere(Vec<PathBuf>),
}

impl Parent {
    /// As whoever asked and what was asked for say.
    ///
    /// # Errors
    /// A workload's child is its own, and nobody else's.
    pub(super) fn of(caller: Option<Arc<Governed>>, files: &[String]) -> Result<Self, Refused> {
        match (caller, files) {
            (None, []) => Ok(Self::None),
            (None, files) => Ok(Self::Elsewhere(files.iter().map(PathBuf::from).collect())),
            (Some(governed), []) => Ok(Self::Here(governed)),
            (Some(_), _) => {
                let why = "a workload's child descends from that workload: no other parent can be named";
                Err(Refused::denied("governance.field_invalid", why))
            }
        }
    }

    /// Digests of its artifacts, by domain, as an intent names them. Whether they hold is for those domains' verifiers, or
    /// their partners', to say.
    pub(super) fn named(&self) -> Result<BTreeMap<DomainName, Sha256Digest>, Refused> {
        match self {
            Self::None => Ok(BTreeMap::new()),
            Self::Here(governed) => {
                let standing = governed.standing();
                let in_force = &standing.borrow().in_force;
                let named = in_force.iter().map(|(domain, given)| (domain.clone(), Sha256Digest::of(&given.artifact)));
                Ok(named.collect())
            }
            Self::Elsewhere(files) => {
                let mut named = BTreeMap::new();
                for file in files {
                    let bytes = read(file).map_err(|why| Refused::denied("governance.parent_unknown", why))?;
                    let domain = issuer(&bytes).ok_or_else(|| {
                        let why = format!("{} is no artifact", file.display());
                        Refused::denied("governance.parent_unknown", why)
                    })?;
                    named.insert(domain, Sha256Digest::of(&bytes));
                }
                Ok(named)
            }
        }
    }

    /// How a child is kept apart: as its parent on this node is. Otherwise a workload would leave its own bounds through a
    /// child. For a parent elsewhere the domains' policies say.
    pub(super) fn isolation(&self, wanted: Isolation) -> Result<Isolation, Refused> {
        match self {
            Self::None | Self::Elsewhere(_) => Ok(wanted),
            Self::Here(governed) => {
                let own = &governed.intent.intent.isolation;
                if wanted != *own && wanted != Isolation::default() {
                    let why = "a workload's child is isolated as the workload is: leave isolation out of its intent";
                    return Err(Refused::denied("governance.field_invalid", why));
                }
                Ok(own.clone())
            }
        }
    }

    /// Its newest artifacts, as signed. A file that cannot be read now is left out: whoever judges holds what came before.
    pub(super) fn newest(&self) -> Vec<Vec<u8>> {
        match self {
            Self::None => Vec::new(),
            Self::Here(governed) => {
                governed.standing().borrow().in_force.values().map(|given| given.artifact.to_vec()).collect()
            }
            Self::Elsewhere(files) => files
                .iter()
                .filter_map(|file| {
                    let read = read(file);
                    if let Err(why) = &read {
                        tracing::warn!(why, "an artifact of the parent");
                    }
                    read.ok()
                })
                .collect(),
        }
    }

    /// For `status`: the number of an execution here, or files.
    pub(super) fn shown(&self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Here(governed) => json!(governed.number),
            Self::Elsewhere(files) => json!(files),
        }
    }
}

/// A code that an execution without parent can end with.
pub(super) fn code(told: &str) -> &'static str {
    if told == REVOKED { REVOKED } else { NOT_LIVE }
}

/// Why a renewal was refused, where that is because what the execution descends from is over.
pub(super) fn over(refused: &Refused) -> Option<&'static str> {
    [NOT_LIVE, REVOKED].into_iter().find(|code| refused.is_denial() && !refused.halt && refused.code == **code)
}

impl Governed {
    /// Refuses once it is over.
    pub(super) fn goes_on(&self) -> Result<(), Refused> {
        match self.standing().borrow().over {
            None => Ok(()),
            Some(code) => Err(Refused::denied(NOT_LIVE, format_args!("the parent execution is over: {code}"))),
        }
    }
}

impl Node {
    /// Ends every execution here that descends from this one; each ends its own children in turn.
    pub(super) fn end_children(&self, execution: u64) {
        let executions = lock(&self.executions);
        let children = executions.parents.iter().filter(|(_, parent)| **parent == execution);
        for order in children.filter_map(|(child, _)| executions.orders.get(child)) {
            // One that has so many orders waiting is ended by one of them, or denied its next renewal.
            let _ = order.try_send(Order::Orphaned);
        }
    }

    /// A domain says that what one of our executions descends from is over.
    pub(super) async fn parent_over(&self, domain: &Domain, artifact: ArtifactId, told: &str) {
        tracing::warn!(domain = %domain.name, %artifact, code = told, "what it descends from is over");
        let orders: Vec<_> = lock(&self.executions).orders.values().cloned().collect();
        for order in orders {
            // It may just have ended.
            let _ = order.send(Order::ParentOver(domain.name.clone(), artifact, code(told))).await;
        }
    }
}

fn read(file: &PathBuf) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("reading {}: {error}", file.display());
    let mut bytes = Vec::new();
    let cap = u64::try_from(ARTIFACT_CAP_BYTES).unwrap_or(u64::MAX);
    std::fs::File::open(file)
        .and_then(|opened| opened.take(cap.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() > ARTIFACT_CAP_BYTES {
        return Err(format!("{} is longer than an artifact", file.display()));
    }
    Ok(bytes)
}

/// Who an artifact says that it is by.
fn issuer(bytes: &[u8]) -> Option<DomainName> {
    let payload = cose::claimed_payload(bytes).ok()?;
    let artifact = Artifact::decode(&payload).map_err(|_: GovernanceDenial| ()).ok()?;
    Some(artifact.terms().governance.domain)
}

//! The longer documents that commands answer with.

use evidence::anchors::TrustAnchors;
use evidence::names::NodeId;
use serde_json::{Value, json};

use super::{Done, OperatorParts};
use crate::governor::{Governor, OrderRefusal};
use crate::node_shown;
use crate::store::{Health, Store};

pub(super) async fn status(parts: &OperatorParts) -> Result<Done, OrderRefusal> {
    let snapshot = parts.governor.current();
    let state = snapshot.state.state();
    let health = match parts.store.health().borrow().clone() {
        Health::Serving => json!({ "status": "serving" }),
        Health::Failing(fault) => json!({ "status": "failing", "code": fault.code(), "what": fault.to_string() }),
    };
    Ok(json!({
        "domain": parts.domain,
        "now": (parts.now)()?,
        "health": health,
        "epoch": state.epoch,
        "state": snapshot.state.digest(),
        "state_expires_at": state.expires_at,
        "policy": snapshot.policy.as_ref().map(|policy| policy.name().to_string()),
        "reference_sets": snapshot.references.sets().iter().map(|set| set.name().to_string()).collect::<Vec<_>>(),
        "anchors": snapshot.anchors.as_ref().map(TrustAnchors::digest),
        "threshold": parts.governor.authority().threshold(),
        "reference_grace_s": parts.governor.reference_grace_s(),
        "next_statement": parts.governor.next_statement_sequence().await,
        "log": { "size": parts.log.size(), "root": parts.log.root() },
    })
    .into())
}

pub(super) async fn reference_set(governor: &Governor, name: &str) -> Result<Done, OrderRefusal> {
    let (listed, signed) = governor.find_reference(name).await?;
    let toml = signed.set().to_toml().map_err(|error| OrderRefusal::Bug(error.to_string()))?;
    let mut json = serde_json::to_value(listed).map_err(|error| OrderRefusal::Bug(error.to_string()))?;
    if let Value::Object(fields) = &mut json {
        fields.insert("toml".to_owned(), Value::String(toml.clone()));
        let signers: Vec<_> = signed.signers().iter().map(ToString::to_string).collect();
        fields.insert("signers".to_owned(), json!(signers));
    }
    Ok(Done { json, attachment: toml.into_bytes() })
}

pub(super) async fn captured(parts: &OperatorParts, node: &NodeId, entry: Option<u64>) -> Result<Done, OrderRefusal> {
    let (json, toml) = parts.judgements.capture(node, entry).await?;
    Ok(Done { json, attachment: toml.into_bytes() })
}

pub(super) async fn policies(governor: &Governor) -> Result<Done, OrderRefusal> {
    let snapshot = governor.current();
    let active = snapshot.policy.as_ref().map(|policy| {
        json!({
            "name": policy.name().id,
            "version": policy.name().version,
            "digest": policy.digest(),
            "cedar": policy.document().cedar,
        })
    });
    Ok(json!({ "active": active, "sets": governor.list_policies().await? }).into())
}

pub(super) async fn nodes(store: &Store) -> Result<Done, OrderRefusal> {
    Ok(json!({ "nodes": node_shown::list(store).await? }).into())
}

pub(super) async fn node(store: &Store, id: &NodeId) -> Result<Done, OrderRefusal> {
    let unknown = || OrderRefusal::Unknown { what: "node", name: id.to_string() };
    Ok(node_shown::show(store, id).await?.ok_or_else(unknown)?.into())
}

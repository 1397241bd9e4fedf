//! Each command, from the wire to the module that carries it out.

use evidence::digest::Sha256Digest;
use evidence::names::{ItemName, NodeId};
use evidence::tee::{PlatformId, PlatformIdError};
use governance::key_share::KeyShare;
use governance::rotation::OnlineRole;
use serde_json::json;
use wire::proto::operator_command::Command;
use wire::proto::{KeyRole, KeysPut, LogProve, NodeAdmit, NodeQuarantine};
use zeroize::Zeroizing;

use super::answers;
use super::{Done, OperatorParts, stopped};
use super::{endorsements, federation};
use crate::governor::{AdmittedMachine, OrderRefusal};
use crate::store::Transaction;
use crate::{keys, lineage_export, nodes, proof};

/// Name of a command in logs.
pub(super) fn name(command: &Command) -> &'static str {
    match command {
        Command::RefsImport(_) => "refs import",
        Command::RefsList(_) => "refs list",
        Command::RefsShow(_) => "refs show",
        Command::RefsHistory(_) => "refs history",
        Command::RefsCompare(_) => "refs diff",
        Command::Statements(_) => "statement",
        Command::RefsCapture(_) => "refs capture",
        Command::PolicyImport(_) => "policy import",
        Command::PolicyShow(_) => "policy show",
        Command::KeysPut(_) => "keys put",
        Command::KeysList(_) => "keys list",
        Command::KeysPrepare(_) => "keys rotate --prepare",
        Command::KeysActivate(_) => "keys rotate --activate",
        Command::NodeList(_) => "node list",
        Command::NodeShow(_) => "node show",
        Command::NodeAdmit(_) => "node admit",
        Command::NodeQuarantine(_) => "node quarantine",
        Command::LogCheckpoint(_) => "log checkpoint",
        Command::LogProve(_) => "log prove",
        Command::Explain(_) => "explain",
        Command::ResultJwt(_) => "result",
        Command::ProofExport(_) => "proof export",
        Command::ServerStatus(_) => "status",
        Command::EndorsementsImport(_) => "endorsements import",
        Command::EndorsementsList(_) => "endorsements list",
        Command::EndorsementsExport(_) => "endorsements export",
        Command::AppraiseEntry(_) | Command::AppraiseFile(_) => "appraise",
        Command::Backtest(_) => "backtest",
        Command::DomainBundle(_) => "domain bundle",
        Command::BundleImport(_) => "domain bundle renewal",
        Command::DomainTrust(_) => "domain trust",
        Command::GovernanceStatus(_) => "governance status",
        Command::GovernancePublish(_) => "governance publish",
        Command::GovernanceAcknowledged(_) => "acknowledgements",
        Command::LineageShow(_) => "lineage show",
    }
}

pub(super) async fn run(parts: &OperatorParts, command: Command) -> Result<Done, OrderRefusal> {
    let governor = &parts.governor;
    let now = (parts.now)()?;
    match command {
        Command::RefsImport(import) => document(&governor.import_references(&import.cose, now).await?),
        Command::RefsList(_) => Ok(json!({ "sets": governor.list_references().await? }).into()),
        Command::RefsShow(named) => answers::reference_set(governor, &named.name).await,
        Command::RefsHistory(named) => {
            let name = (!named.name.is_empty()).then_some(named.name.as_str());
            Ok(json!({ "history": governor.history(&parts.log, name).await? }).into())
        }
        Command::RefsCompare(compare) => {
            Ok(parts.judgements.compare(&node_id(&compare.node_id)?, &compare.set).await?.into())
        }
        Command::Statements(statements) => document(&governor.obey(&statements.cose, now).await?),
        Command::RefsCapture(capture) => answers::captured(parts, &node_id(&capture.node_id)?, capture.entry).await,
        Command::PolicyImport(import) => document(&governor.import_policy(&import.cose, now).await?),
        Command::PolicyShow(_) => answers::policies(governor).await,
        Command::KeysPut(put) => put_key(parts, put).await,
        Command::KeysList(_) => {
            let (keys, domain_keys) = (keys::list(&parts.store).await?, governor.list_keys().await?);
            Ok(json!({ "keys": keys, "domain_keys": domain_keys }).into())
        }
        Command::KeysPrepare(step) => {
            let prepared = governor.prepare_key(role(step.role())?, now).await?;
            let Done { json, .. } = document(&prepared)?;
            Ok(Done { json, attachment: prepared.public })
        }
        Command::KeysActivate(step) => document(&governor.activate_key(role(step.role())?, now).await?),
        Command::NodeList(_) => answers::nodes(&parts.store).await,
        Command::NodeShow(named) => answers::node(&parts.store, &node_id(&named.name)?).await,
        Command::NodeAdmit(admit) => admit_node(parts, admit, now).await,
        Command::NodeQuarantine(order) => quarantine(parts, order, now).await,
        Command::LogCheckpoint(_) => {
            Ok(json!({ "size": parts.log.size(), "checkpoint": parts.log.checkpoint() }).into())
        }
        Command::LogProve(prove) => prove_entry(parts, prove).await,
        Command::Explain(explain) => Ok(parts.judgements.explain(explain.entry, explain.replay).await?.into()),
        Command::ResultJwt(result) => Ok(parts.judgements.result_jwt(result.entry).await?.into()),
        Command::ProofExport(export) => {
            let cosigned = parts.quorum.counted();
            let exported = proof::export(
                (&parts.store, &parts.log),
                governor.telling_bundles(),
                &parts.domain,
                &export.subject,
                cosigned.as_deref(),
            );
            let (bundle, records) = exported.await?;
            let witnesses: Vec<_> =
                cosigned.iter().flat_map(|head| head.witnesses()).map(audit::note::NoteKey::vkey).collect();
            let json = json!({
                "subject": export.subject,
                "records": records,
                "bytes": bundle.len(),
                "witnesses": witnesses,
            });
            Ok(Done { json, attachment: bundle })
        }
        Command::ServerStatus(_) => answers::status(parts).await,
        Command::EndorsementsImport(import) => endorsements::import(parts, import).await,
        Command::EndorsementsList(list) => endorsements::page(parts, &list.after, false).await,
        Command::EndorsementsExport(export) => endorsements::page(parts, &export.after, true).await,
        Command::AppraiseEntry(saved) => Ok(parts.judgements.appraise_entry(saved.entry).await?.into()),
        Command::Backtest(asked) => Ok(parts.judgements.backtest(asked).await?.into()),
        Command::DomainBundle(_) => federation::bundle(governor),
        Command::BundleImport(import) => document(&governor.import_bundle(&import.cose, now).await?),
        Command::DomainTrust(trust) => document(&governor.obey_with(&trust.cose, &trust.bundle, now).await?),
        Command::GovernanceStatus(_) => federation::status(parts, now).await,
        Command::GovernancePublish(_) => federation::publish(parts, now).await,
        Command::GovernanceAcknowledged(of) => federation::acknowledged(parts, of.epoch).await,
        Command::LineageShow(show) => {
            let export = lineage_export::of(&parts.store, &parts.log, &show.id).await?;
            let attachment = evidence::cbor::to_vec(&export).map_err(|error| OrderRefusal::Bug(error.to_string()))?;
            Ok(Done { json: json!({ "records": export.entries.len() }), attachment })
        }
        Command::AppraiseFile(file) => {
            let nonce = file.nonce.try_into().map_err(|_| malformed("a nonce is 32 bytes"))?;
            Ok(parts.judgements.appraise_file(&node_id(&file.node_id)?, nonce, file.cmw).await?.into())
        }
    }
}

async fn put_key(parts: &OperatorParts, put: KeysPut) -> Result<Done, OrderRefusal> {
    let KeysPut { name, secret, labels, share } = put;
    let secret = Zeroizing::new(secret);
    let name = item_name(&name)?;
    if share {
        return put_share(parts, &name, &secret, labels).await;
    }
    let (kek, stored) = (parts.kek.clone(), name.clone());
    let committed = parts.store.write(move |transaction: &mut Transaction<'_>| {
        Box::pin(async move {
            let given = (!secret.is_empty()).then_some(secret.as_slice());
            keys::put(transaction, &kek, &stored, given, &labels).await
        })
    });
    let version = committed.await?.value;
    Ok(json!({ "name": name, "version": version }).into())
}

/// A share is put under the name of the key that was split, and no other.
async fn put_share(
    parts: &OperatorParts,
    name: &ItemName,
    file: &[u8],
    labels: Vec<String>,
) -> Result<Done, OrderRefusal> {
    let share = KeyShare::decode(file).map_err(|denial| malformed(&denial.to_string()))?;
    let group = share.header().group.clone();
    if group.name != *name {
        return Err(malformed(&format!("a share of key {}, not of {name}", group.name)));
    }
    let (id, index) = (group.id().map_err(|denial| malformed(&denial.to_string()))?, share.header().index);
    let kek = parts.kek.clone();
    let committed = parts.store.write(move |transaction: &mut Transaction<'_>| {
        Box::pin(async move { keys::put_share(transaction, &kek, &share, &labels).await })
    });
    let version = committed.await?.value;
    let split = json!({ "group": id, "index": index, "need": group.need, "of": group.of() });
    Ok(json!({ "name": name, "version": version, "share": split }).into())
}

async fn admit_node(
    parts: &OperatorParts,
    admit: NodeAdmit,
    now: evidence::time::UnixSeconds,
) -> Result<Done, OrderRefusal> {
    let node = node_id(&admit.node_id)?;
    let ek = match admit.ek_digest.as_slice() {
        [] => None,
        bytes => Some(Sha256Digest::try_from(bytes).map_err(|_| malformed("an EK digest is 32 bytes"))?),
    };
    let platform: Option<PlatformId> = match admit.platform.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error: PlatformIdError| malformed(&error.to_string()))?),
    };
    let machine = match (ek, platform.clone()) {
        (None, None) => None,
        (Some(ek), None) => Some(AdmittedMachine::Ek(ek)),
        (None, Some(platform)) => Some(AdmittedMachine::Platform(platform)),
        (Some(_), Some(_)) => return Err(malformed("an EK and a platform are admitted one after the other")),
    };
    let reason = reason(admit.reason)?;
    let entry = parts.governor.admit(&node, machine, &reason, now).await?;
    Ok(json!({ "node": node, "ek": ek, "platform": platform, "entry": entry }).into())
}

async fn quarantine(
    parts: &OperatorParts,
    order: NodeQuarantine,
    now: evidence::time::UnixSeconds,
) -> Result<Done, OrderRefusal> {
    let node = node_id(&order.node_id)?;
    let reason = reason(order.reason)?;
    let entry = parts.governor.quarantine(&node, &reason, now).await?;
    let known = nodes::find(&parts.store, &node).await?.ok_or_else(stopped)?;
    Ok(json!({ "node": node, "status": known.status, "entry": entry }).into())
}

async fn prove_entry(parts: &OperatorParts, prove: LogProve) -> Result<Done, OrderRefusal> {
    let unknown = || OrderRefusal::Unknown { what: "log entry", name: prove.index.to_string() };
    let entry = parts.log.entry(prove.index).await?.ok_or_else(unknown)?;
    let logged = parts.log.prove(&entry)?;
    let growth = match prove.old_size {
        0 => None,
        old => {
            let proof = parts.log.prove_growth(old)?;
            Some(json!({ "from": old, "proof": proof.iter().map(ToString::to_string).collect::<Vec<_>>() }))
        }
    };
    let receipt = logged.receipt.encode()?;
    let json = json!({
        "index": entry.index,
        "entry": entry.digest(),
        "checkpoint": logged.receipt.checkpoint.clone(),
        "proof": logged.receipt.proof.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "growth": growth,
    });
    Ok(Done { json, attachment: receipt })
}

fn document(of: &impl serde::Serialize) -> Result<Done, OrderRefusal> {
    let json = serde_json::to_value(of).map_err(|error| OrderRefusal::Bug(error.to_string()))?;
    Ok(json.into())
}

fn role(of: KeyRole) -> Result<OnlineRole, OrderRefusal> {
    match of {
        KeyRole::Issuer => Ok(OnlineRole::Issuer),
        KeyRole::Log => Ok(OnlineRole::Log),
        KeyRole::Witness => Ok(OnlineRole::Witness),
        KeyRole::Ca => Ok(OnlineRole::Ca),
        KeyRole::Jwt => Ok(OnlineRole::Jwt),
        KeyRole::Unspecified => Err(malformed("no role of a key")),
    }
}

fn node_id(text: &str) -> Result<NodeId, OrderRefusal> {
    NodeId::new(text).map_err(|error| malformed(&error.to_string()))
}

fn item_name(text: &str) -> Result<ItemName, OrderRefusal> {
    ItemName::new(text).map_err(|error| malformed(&error.to_string()))
}

/// Reasons end up in logs, in answers and on terminals.
fn reason(text: String) -> Result<String, OrderRefusal> {
    match governance::text::Text::new(text) {
        Ok(text) if !text.as_str().is_empty() => Ok(text.as_str().to_owned()),
        Ok(_) => Err(malformed("a reason is needed")),
        Err(error) => Err(malformed(&error.to_string())),
    }
}

fn malformed(what: &str) -> OrderRefusal {
    OrderRefusal::Malformed(what.to_owned())
}

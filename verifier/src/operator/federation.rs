//! What operators ask about partners, and tell them.

use std::time::Duration;

use audit::note::{NoteKey, NoteKeyKind};
use audit::proof::witness_name;
use evidence::cbor;
use evidence::cose::PublicKey;
use evidence::time::UnixSeconds;
use governance::partner::Standing;
use governance::trust_bundle::Role;
use governance::witness_policy::HeldWitnessPolicy;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};

use super::{Done, OperatorParts};
use crate::federation::HeldPartner;
use crate::governor::{Governor, OrderRefusal, WitnessesInForce};
use crate::witness;

/// How long a command waits for partners to take a new state.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The own bundle: facts about it, and the file that partners' operators are given.
pub(super) fn bundle(governor: &Governor) -> Result<Done, OrderRefusal> {
    let in_force = governor.current().bundle.clone();
    let bundle = in_force.verified.bundle();
    let signatures: Vec<_> = in_force.signatures.iter().cloned().map(ByteBuf::from).collect();
    let json = json!({
        "domain": bundle.domain,
        "bundle": in_force.verified.digest(),
        "sequence": bundle.sequence,
        "issued_at": bundle.issued_at,
        "expires_at": bundle.expires_at,
        "refresh_hint_s": bundle.refresh_hint_s,
        "log_origin": bundle.log_origin,
        "threshold": bundle.authority.threshold(),
    });
    Ok(Done { json, attachment: cbor::to_vec(&signatures)? })
}

/// The own state and every partner, one row each.
pub(super) async fn status(parts: &OperatorParts, now: UnixSeconds) -> Result<Done, OrderRefusal> {
    let snapshot = parts.governor.current();
    let (state, partners) = (snapshot.state.state(), parts.governor.partners());
    let mut rows = Vec::new();
    for held in partners.all() {
        let origin = &held.partner.bundle().bundle().log_origin;
        let ours_of_it = witness::cosigned_of(&parts.store, origin).await?;
        rows.push(row(parts, held, ours_of_it, now));
    }
    let (quorum, missing) = parts.quorum.missing();
    Ok(json!({
        "domain": parts.domain,
        "epoch": state.epoch,
        "age_s": now.0.saturating_sub(state.issued_at.0),
        "expires_in_s": state.expires_at.0.saturating_sub(now.0),
        "bundle": snapshot.bundle.verified.digest(),
        "sequence": snapshot.bundle.verified.bundle().sequence,
        "bundle_expires_in_s": snapshot.bundle.verified.bundle().expires_at.0.saturating_sub(now.0),
        "witnesses": snapshot.witnesses.as_deref().map(counted),
        "witness_quorum": quorum,
        "cosignatures_missing": missing,
        "cosigned_size": parts.quorum.counted().map(|cosigned| cosigned.size()),
        "partners": rows,
    })
    .into())
}

/// The witness policy that nodes have.
fn counted(witnesses: &WitnessesInForce) -> Value {
    let HeldWitnessPolicy { sequence, policy, .. } = &witnesses.held;
    let keys = policy.witnesses.iter().filter_map(|witness| vkey(witness.name.as_str(), &witness.key));
    json!({ "sequence": sequence, "quorum": policy.quorum, "keys": keys.collect::<Vec<_>>() })
}

fn vkey(name: &str, key: &PublicKey) -> Option<String> {
    NoteKey::new(name, NoteKeyKind::Cosignature, key).ok().map(|key| key.vkey())
}

fn row(parts: &OperatorParts, held: &HeldPartner, ours_of_it: Option<(u64, u64)>, now: UnixSeconds) -> Value {
    let (partner, followed) = (&held.partner, parts.sync.followup(held.partner.domain()));
    let (bundle, grant) = (partner.bundle().bundle(), partner.grant());
    let age_s = |at: UnixSeconds| now.0.saturating_sub(at.0);
    let acknowledged = followed.acknowledged.as_ref();
    let cosigner = parts.quorum.cosigners().of(partner.domain());
    let (name, keys) = (witness_name(partner.domain()), bundle.records(Role::Witness).iter());
    let in_force = keys.filter(|record| record.from <= now && now < record.until);
    let witness_keys = in_force.filter_map(|record| vkey(&name, &record.key));
    json!({
        "partner": partner.domain(),
        "standing": partner.standing(now).name(),
        "code": partner.fresh(now).err().map(|denial| denial.code()),
        "epoch": partner.state().map(|state| state.state().epoch),
        "age_s": partner.state().map(|state| age_s(state.state().issued_at)),
        "lag_s": partner.seen_at().map(age_s),
        "sequence": bundle.sequence,
        "bundle_expires_in_s": bundle.expires_at.0.saturating_sub(now.0),
        "log_size": partner.head().map(|head| head.size),
        "witness_keys": witness_keys.collect::<Vec<_>>(),
        "witness": if grant.witness { "granted" } else { "none" },
        "cosigned_of_ours": cosigner.as_ref().map(|cosigner| cosigner.size),
        "cosigned_ours_at": cosigner.as_ref().and_then(|cosigner| cosigner.at),
        "cosigns_not_because": cosigner.as_ref().and_then(|cosigner| cosigner.failure.clone()),
        "we_cosigned": ours_of_it.map(|(size, _)| size),
        "we_logged_that_at": ours_of_it.map(|(_, at)| at),
        "holds_epoch_of_ours": acknowledged.map(|answer| answer.epoch),
        "we_stand": acknowledged.map(|answer| answer.standing),
        "acknowledged_at": acknowledged.map(|answer| answer.at),
        "error": followed.failure,
        "url": partner.endpoint().url,
        "max_staleness_s": grant.max_staleness_s,
    })
}

/// Issues the next state, and says which partners took it within a moment.
pub(super) async fn publish(parts: &OperatorParts, now: UnixSeconds) -> Result<Done, OrderRefusal> {
    let epoch = parts.governor.publish(now).await?;
    acknowledged(parts, epoch).await
}

/// Which partners took the state of an epoch, within a moment.
pub(super) async fn acknowledged(parts: &OperatorParts, epoch: u64) -> Result<Done, OrderRefusal> {
    let partners = acknowledgements(parts, epoch).await?;
    Ok(json!({ "domain": parts.domain, "epoch": epoch, "partners": partners }).into())
}

/// Who took our state of this epoch, waiting a moment for those who have not yet.
async fn acknowledgements(parts: &OperatorParts, epoch: u64) -> Result<Vec<Value>, OrderRefusal> {
    let partners = parts.governor.partners();
    let now = (parts.now)()?;
    let told = partners.all().filter(|held| held.partner.standing(now) != Standing::Untrusted);
    let told: Vec<_> = told.map(|held| held.partner.domain().clone()).collect();
    let took = |domain| parts.sync.followup(domain).acknowledged.filter(|answer| answer.epoch >= epoch);
    let everyone = async {
        while !told.iter().all(|domain| took(domain).is_some()) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    // Whoever has not answered by then is listed without a time.
    drop(tokio::time::timeout(ACKNOWLEDGED_WITHIN, everyone).await);
    let row = |domain| json!({ "partner": domain, "acknowledged_at": took(domain).map(|answer| answer.at) });
    Ok(told.iter().map(row).collect())
}

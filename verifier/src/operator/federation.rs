//! What operators ask about partners, and tell them.

use std::time::Duration;

use evidence::cbor;
use evidence::time::UnixSeconds;
use governance::partner::Standing;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};

use super::{Done, OperatorParts};
use crate::federation::HeldPartner;
use crate::governor::{Governor, OrderRefusal};

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
pub(super) fn status(parts: &OperatorParts, now: UnixSeconds) -> Result<Done, OrderRefusal> {
    let snapshot = parts.governor.current();
    let (state, partners) = (snapshot.state.state(), parts.governor.partners());
    let rows: Vec<_> = partners.all().map(|held| row(parts, held, now)).collect();
    Ok(json!({
        "domain": parts.domain,
        "epoch": state.epoch,
        "age_s": now.0.saturating_sub(state.issued_at.0),
        "expires_in_s": state.expires_at.0.saturating_sub(now.0),
        "bundle": snapshot.bundle.verified.digest(),
        "sequence": snapshot.bundle.verified.bundle().sequence,
        "bundle_expires_in_s": snapshot.bundle.verified.bundle().expires_at.0.saturating_sub(now.0),
        "partners": rows,
    })
    .into())
}

fn row(parts: &OperatorParts, held: &HeldPartner, now: UnixSeconds) -> Value {
    let (partner, followed) = (&held.partner, parts.sync.followup(held.partner.domain()));
    let (bundle, grant) = (partner.bundle().bundle(), partner.grant());
    let age_s = |at: UnixSeconds| now.0.saturating_sub(at.0);
    let acknowledged = followed.acknowledged.as_ref();
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
        "witness": if grant.witness { "granted" } else { "none" },
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

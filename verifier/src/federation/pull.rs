//! One pull from a partner: its bundle, its newest state with the proof that it is logged, and what both name. All
//! fetching comes first; what was seen is then judged at once by the partner machine.

use audit::checkpoint::LogIdentity;
use audit::receipt::Receipt;
use audit::record::RecordBody;
use audit::tlog::{TreeHash, verify_consistency};
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::governance_state::{GovernanceState, VerifiedState};
use governance::partner::{GAP_CAP_EPOCHS, LogHead, Partner, PartnerEvent};
use governance::revocation::RevocationList;
use governance::trust_bundle::{FEDERATION_LIFETIME_CAP_S, Role, TrustBundle, VerifiedBundle};
use serde_bytes::ByteBuf;

use super::client::{ExchangeFailure, PartnerClient};
use super::messages::{
    BUNDLE_CAP_BYTES, BUNDLE_PATH, LoggedState, REVOCATIONS_CAP_BYTES, REVOCATIONS_PATH, STATE_CAP_BYTES, STATE_PATH,
    STATES_CAP_BYTES, STATES_PAGE, STATES_PATH, read, revocation_list,
};
use super::table::head_of;
use crate::governor::Seen;

/// Pulls once. What comes back is verified, but not yet judged against what is held; beside it, why the newest state was
/// not proven, if it was not.
pub(super) async fn pull(
    client: &PartnerClient,
    partner: &Partner,
    now: UnixSeconds,
) -> Result<(Seen, Option<ExchangeFailure>), ExchangeFailure> {
    let (bundle, bundle_cose) = pull_bundle(client, partner, now).await?;
    let since = partner.head();
    let path = format!("{STATE_PATH}?since={}", since.map_or(0, |head| head.size));
    let answer = LoggedState::read(&client.get(&path, STATE_CAP_BYTES).await?).map_err(ExchangeFailure::wrong)?;
    let issuer_keys = bundle.keys(Role::Issuer, now);
    let newest = GovernanceState::verify(&answer.state, partner.domain(), &issuer_keys, now)?;
    let (base, state_cose) = (partner.bundle().digest(), answer.state.to_vec());
    let head = match logged(&answer, &newest, &bundle, partner, now) {
        Ok(head) => head,
        Err(unproven) => {
            // Nothing is taken without its proof; but what was signed speaks against its signer all the same.
            let newest = PartnerEvent::State { newest: Box::new(newest), between: Vec::new() };
            let events = vec![PartnerEvent::Bundle(Box::new(bundle)), newest];
            let seen = Seen { base, events, bundle: bundle_cose, state: state_cose };
            return Ok((seen, Some(unproven)));
        }
    };
    let mut events = vec![
        PartnerEvent::Bundle(Box::new(bundle)),
        PartnerEvent::Head { head, extends: extends(since, head, &answer.growth) },
    ];
    let between = between(client, partner, &newest).await?;
    let revocations = revocations(client, partner, &newest).await?;
    let state = newest.digest();
    events.push(PartnerEvent::State { newest: Box::new(newest), between });
    events.push(PartnerEvent::Proven { state, head, revocations });
    Ok((Seen { base, events, bundle: bundle_cose, state: state_cose }, None))
}

async fn pull_bundle(
    client: &PartnerClient,
    partner: &Partner,
    now: UnixSeconds,
) -> Result<(VerifiedBundle, Vec<Vec<u8>>), ExchangeFailure> {
    let bytes = client.get(BUNDLE_PATH, BUNDLE_CAP_BYTES).await?;
    let signatures: Vec<ByteBuf> = read(&bytes, BUNDLE_CAP_BYTES).map_err(ExchangeFailure::wrong)?;
    let signatures: Vec<_> = signatures.into_iter().map(ByteBuf::into_vec).collect();
    // Who may sign the next bundle stands in the held one, and nowhere else.
    let authority = &partner.bundle().bundle().authority;
    let bundle = TrustBundle::verify(&signatures, partner.domain(), authority, FEDERATION_LIFETIME_CAP_S, now)?;
    Ok((bundle, signatures))
}

/// The head under which the state's record was proven to be in the partner's log.
fn logged(
    answer: &LoggedState,
    state: &VerifiedState,
    bundle: &VerifiedBundle,
    partner: &Partner,
    now: UnixSeconds,
) -> Result<LogHead, ExchangeFailure> {
    let records = bundle.bundle().records(Role::Log).iter();
    let keys = records.filter(|record| record.from <= now && now < record.until).map(|record| &record.key);
    let log = LogIdentity::new(&bundle.bundle().log_origin, keys)?;
    let receipt = Receipt::verify(&answer.receipt, &log, &[], 0, now)?;
    let record = receipt.record(partner.domain(), &bundle.keys(Role::Issuer, now))?;
    let named = RecordBody::GovernanceState { state: state.digest(), epoch: state.state().epoch };
    if record.record().body != named {
        let (domain, epoch) = (partner.domain().clone(), state.state().epoch);
        return Err(GovernanceDenial::StateUnlogged { domain, epoch }.into());
    }
    let head = receipt.checkpoint().checkpoint();
    Ok(head_of(head.size, head.root))
}

fn extends(since: Option<LogHead>, head: LogHead, growth: &[TreeHash]) -> bool {
    since.is_some_and(|old| {
        let (old_root, new_root) = (TreeHash(old.root.0), TreeHash(head.root.0));
        head.size > old.size && verify_consistency(old.size, &old_root, head.size, &new_root, growth).is_ok()
    })
}

/// Payloads of the states between the held one and the newest, page by page.
async fn between(
    client: &PartnerClient,
    partner: &Partner,
    newest: &VerifiedState,
) -> Result<Vec<Vec<u8>>, ExchangeFailure> {
    let (Some(known), epoch) = (partner.newest_known(), newest.state().epoch) else { return Ok(Vec::new()) };
    let mut first = known.state().epoch.saturating_add(1);
    let mut between = Vec::new();
    if epoch.saturating_sub(first) > GAP_CAP_EPOCHS {
        // The machine refuses the gap by its own code.
        return Ok(between);
    }
    while first < epoch {
        let last = epoch.saturating_sub(1).min(first.saturating_add(STATES_PAGE.saturating_sub(1)));
        let bytes = client.get(&format!("{STATES_PATH}/{first}/{last}"), STATES_CAP_BYTES).await?;
        let page: Vec<ByteBuf> = read(&bytes, STATES_CAP_BYTES).map_err(ExchangeFailure::wrong)?;
        let wanted = last.saturating_sub(first).saturating_add(1);
        if u64::try_from(page.len()) != Ok(wanted) {
            return Err(ExchangeFailure::wrong(format!("{} states where {wanted} were asked for", page.len())));
        }
        between.extend(page.into_iter().map(ByteBuf::into_vec));
        first = last.saturating_add(1);
    }
    Ok(between)
}

/// The list that the state names. Its digest is what counts: an entry may be signed by a key that was retired since.
async fn revocations(
    client: &PartnerClient,
    partner: &Partner,
    newest: &VerifiedState,
) -> Result<RevocationList, ExchangeFailure> {
    let named = newest.state().revocations;
    if let Some(held) = partner.revocations()
        && held.digest()? == named
    {
        return Ok(held.clone());
    }
    let bytes = client.get(REVOCATIONS_PATH, REVOCATIONS_CAP_BYTES).await?;
    let entries: Vec<ByteBuf> = read(&bytes, REVOCATIONS_CAP_BYTES).map_err(ExchangeFailure::wrong)?;
    revocation_list(&entries).map_err(ExchangeFailure::wrong)
}

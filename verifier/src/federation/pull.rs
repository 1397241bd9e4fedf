//! One pull from a partner: its bundle, its newest state with the proof that it is logged, and what both name. All
//! fetching comes first; what was seen is then judged at once by the partner machine.

use std::time::Duration;

use audit::AuditDenial;
use audit::checkpoint::LogIdentity;
use audit::receipt::Receipt;
use audit::record::RecordBody;
use audit::tlog::{TreeHash, committed_root, proof_base, verify_consistency};
use evidence::digest::Sha256Digest;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::governance_state::{GovernanceState, VerifiedState};
use governance::partner::{GAP_CAP_EPOCHS, Growth, LogHead, Partner, PartnerEvent};
use governance::revocation::RevocationList;
use governance::trust_bundle::{FEDERATION_LIFETIME_CAP_S, Role, TrustBundle, VerifiedBundle};
use serde_bytes::ByteBuf;

use super::client::{ExchangeFailure, PartnerClient};
use super::messages::{
    BUNDLE_CAP_BYTES, BUNDLE_PATH, LoggedState, REVOCATIONS_CAP_BYTES, REVOCATIONS_PATH, STATE_CAP_BYTES, STATE_PATH,
    STATES_CAP_BYTES, STATES_PAGE, STATES_PATH, read, revocation_list,
};
use super::partners::HeldPartner;
use super::table::head_of;
use crate::governor::Seen;

/// How often a bundle and a state are asked for that do not fit together, and how long after each other: a replica of the
/// partner may learn a moment later what another one put into force.
const FITTING_LOOKS: u32 = 5;
const FITTING_AFTER: Duration = Duration::from_millis(200);

/// Pulls once. What comes back is verified, but not yet judged against what is held; beside it, which `rumours` (heads that
/// others were shown) need not be asked about again, and why the newest state was not proven, if it was not.
pub(super) async fn pull(
    client: &PartnerClient,
    held: &HeldPartner,
    rumours: &[LogHead],
    now: UnixSeconds,
) -> Result<(Seen, Vec<LogHead>, Option<ExchangeFailure>), ExchangeFailure> {
    let partner = &held.partner;
    let Pair { bundle, bundle_cose, newest, answer } = pull_pair(client, held, now).await?;
    let (since, base, state_cose) = (partner.head(), partner.bundle().digest(), answer.state.to_vec());
    let head = match logged(&answer, &newest, &bundle, partner, now) {
        Ok(head) => head,
        Err(unproven) => {
            // Nothing is taken without its proof; but what was signed speaks against its signer all the same.
            let mut events = vec![PartnerEvent::Bundle(Box::new(bundle))];
            // The held one would count as seen.
            if partner.state().is_none_or(|held| held.digest() != newest.digest()) {
                events.push(PartnerEvent::State { newest: Box::new(newest), between: Vec::new() });
            }
            let seen = Seen { base, events, bundle: bundle_cose, state: state_cose };
            return Ok((seen, Vec::new(), Some(unproven)));
        }
    };
    let mut events = vec![
        PartnerEvent::Bundle(Box::new(bundle.clone())),
        PartnerEvent::Head { head, growth: growth(since, head, &answer.growth) },
    ];
    let settled = settle(client, partner, &bundle, rumours, now, &mut events).await;
    let between = between(client, partner, &newest).await?;
    let revocations = revocations(client, partner, &newest).await?;
    let state = newest.digest();
    events.push(PartnerEvent::State { newest: Box::new(newest), between });
    events.push(PartnerEvent::Proven { state, head, revocations });
    Ok((Seen { base, events, bundle: bundle_cose, state: state_cose }, settled, None))
}

/// A bundle and the newest state, each as it was served when it was asked for.
struct Pair {
    bundle: VerifiedBundle,
    bundle_cose: Vec<Vec<u8>>,
    newest: VerifiedState,
    answer: LoggedState,
}

/// Both, and if the partner changed its keys between the two answers, both again: only what does not fit however often it
/// is asked for speaks against the partner.
async fn pull_pair(client: &PartnerClient, held: &HeldPartner, now: UnixSeconds) -> Result<Pair, ExchangeFailure> {
    let partner = &held.partner;
    let path = format!("{STATE_PATH}?since={}", partner.head().map_or(0, |head| proof_base(head.size)));
    let mut looks = FITTING_LOOKS;
    loop {
        let (bundle, bundle_cose) = pull_bundle(client, held, now).await?;
        let answer = LoggedState::read(&client.get(&path, STATE_CAP_BYTES).await?).map_err(ExchangeFailure::wrong)?;
        let issuer_keys = bundle.keys(Role::Issuer, now);
        let newest = GovernanceState::verify(&answer.state, partner.domain(), &issuer_keys, now)?;
        looks = looks.saturating_sub(1);
        if looks == 0 || partner.fits(&newest, &bundle) {
            return Ok(Pair { bundle, bundle_cose, newest, answer });
        }
        tokio::time::sleep(FITTING_AFTER).await;
    }
}

async fn pull_bundle(
    client: &PartnerClient,
    held: &HeldPartner,
    now: UnixSeconds,
) -> Result<(VerifiedBundle, Vec<Vec<u8>>), ExchangeFailure> {
    let bytes = client.get(BUNDLE_PATH, BUNDLE_CAP_BYTES).await?;
    let signatures: Vec<ByteBuf> = read(&bytes, BUNDLE_CAP_BYTES).map_err(ExchangeFailure::wrong)?;
    let signatures: Vec<_> = signatures.into_iter().map(ByteBuf::into_vec).collect();
    let partner = &held.partner;
    if signatures == *held.bundle {
        // What is held was verified when it came; what time does to it is asked anew.
        partner.bundle().in_force(now)?;
        return Ok((partner.bundle().clone(), signatures));
    }
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
    let receipt = Receipt::verify(&answer.receipt, &log_of(bundle, now)?, &[], 0, now)?;
    let record = receipt.record(partner.domain(), &bundle.keys(Role::Issuer, now))?;
    let named = RecordBody::GovernanceState { state: state.digest(), epoch: state.state().epoch };
    if record.record().body != named {
        let (domain, epoch) = (partner.domain().clone(), state.state().epoch);
        return Err(GovernanceDenial::StateUnlogged { domain, epoch }.into());
    }
    let head = receipt.checkpoint().checkpoint();
    Ok(head_of(head.size, head.root))
}

fn log_of(bundle: &VerifiedBundle, now: UnixSeconds) -> Result<LogIdentity, AuditDenial> {
    let records = bundle.bundle().records(Role::Log).iter();
    let keys = records.filter(|record| record.from <= now && now < record.until).map(|record| &record.key);
    LogIdentity::new(&bundle.bundle().log_origin, keys)
}

/// Asks how the log goes on from each head that somebody else was shown. One that it does not lead on from is a second
/// history; one of which that was not shown lets nothing else of this pull count as seen. The others are settled.
async fn settle(
    client: &PartnerClient,
    partner: &Partner,
    bundle: &VerifiedBundle,
    rumours: &[LogHead],
    now: UnixSeconds,
    events: &mut Vec<PartnerEvent>,
) -> Vec<LogHead> {
    let mut settled = Vec::new();
    for rumour in rumours {
        match going_on(client, bundle, *rumour, now).await {
            Ok((_, Growth::Proven)) => settled.push(*rumour),
            Ok((got, Growth::Contradicted)) => {
                events.push(PartnerEvent::Equivocated { size: rumour.size, got, held: rumour.root });
            }
            Ok((_, Growth::Unproven)) => events.push(PartnerEvent::Rumoured { head: *rumour }),
            Err(failure) => {
                tracing::warn!(domain = %partner.domain(), size = rumour.size, %failure, "a head that others saw is unproven");
                events.push(PartnerEvent::Rumoured { head: *rumour });
            }
        }
    }
    settled
}

/// What the partner's newest head shows of one that somebody else was shown, and the root that it has instead.
async fn going_on(
    client: &PartnerClient,
    bundle: &VerifiedBundle,
    rumour: LogHead,
    now: UnixSeconds,
) -> Result<(Sha256Digest, Growth), ExchangeFailure> {
    let path = format!("{STATE_PATH}?since={}", proof_base(rumour.size));
    let answer = LoggedState::read(&client.get(&path, STATE_CAP_BYTES).await?).map_err(ExchangeFailure::wrong)?;
    let receipt = Receipt::verify(&answer.receipt, &log_of(bundle, now)?, &[], 0, now)?;
    let newest = receipt.checkpoint().checkpoint();
    let head = head_of(newest.size, newest.root);
    if head.size == rumour.size {
        return Ok((head.root, if head.root == rumour.root { Growth::Proven } else { Growth::Contradicted }));
    }
    let instead = committed_root(rumour.size, head.size, &newest.root, &answer.growth);
    Ok((instead.map_or(Sha256Digest::ZERO, |root| Sha256Digest(root.0)), growth(Some(rumour), head, &answer.growth)))
}

/// What the proof that came shows of the held head and the new one.
fn growth(since: Option<LogHead>, head: LogHead, proof: &[TreeHash]) -> Growth {
    let Some(old) = since.filter(|old| old.size < head.size) else { return Growth::Unproven };
    let (old_root, new_root) = (TreeHash(old.root.0), TreeHash(head.root.0));
    match committed_root(old.size, head.size, &new_root, proof) {
        Some(root) if root == old_root => Growth::Proven,
        Some(_) => Growth::Contradicted,
        // Of one or two entries a proof shows that they go on, or nothing.
        None if verify_consistency(old.size, &old_root, head.size, &new_root, proof).is_ok() => Growth::Proven,
        None => Growth::Unproven,
    }
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

//! Partner domains under the governor: trusted and distrusted by orders, followed by what is seen of them. Whatever is
//! concluded of a partner is logged and stored before anything here relies on it.

use std::sync::Arc;

use audit::record::{LineageRecord, RECORD_VERSION, RecordBody};
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::partner::{LogHead, Partner, PartnerAction, PartnerEvent, Standing};
use governance::statement::TrustedDomain;
use tokio::sync::watch;

use super::effects::Effect;
use super::orders::code;
use super::refusal::OrderRefusal;
use super::{Governor, Proposal, Rules, Said};
use crate::federation::table::{self, PartnerRow};
use crate::federation::{HeldPartner, Partners, carries};
use crate::governance_state;
use crate::store::{NewEntry, Transaction};
use crate::witness::Fork;

/// What a pull from a partner brought. All of it was verified against the bundle that was held when the pull began.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Digest of that bundle.
    pub(crate) base: Sha256Digest,
    /// What was seen, in order.
    pub(crate) events: Vec<PartnerEvent>,
    /// The bundle as it was signed.
    pub(crate) bundle: Vec<Vec<u8>>,
    /// The newest state as it was signed.
    pub(crate) state: Vec<u8>,
}

impl Governor {
    /// The partners as they are now.
    #[must_use]
    pub fn partners(&self) -> Arc<Partners> {
        self.0.partners.borrow().clone()
    }

    /// Wakes when a partner's standing, bundle or state changes, and when one is trusted or distrusted. That one was
    /// merely seen again changes the value without waking anybody.
    #[must_use]
    pub fn watch_partners(&self) -> watch::Receiver<Arc<Partners>> {
        self.0.partners.subscribe()
    }

    /// Everything that this domain revoked, as signed.
    pub(crate) async fn signed_revocations(&self) -> Result<Vec<Vec<u8>>, crate::store::StoreError> {
        super::effects::revocations(&self.0.store).await
    }

    /// Judges what was seen of a partner, and says what came of it. Nothing is judged when another bundle is held by now.
    pub(crate) async fn see(
        &self,
        domain: &DomainName,
        seen: Seen,
        now: UnixSeconds,
    ) -> Result<Vec<PartnerAction>, OrderRefusal> {
        let _turn = self.0.partner_turn.lock().await;
        let held = self.partners().partner(domain)?.clone();
        if held.partner.bundle().digest() != seen.base {
            return Ok(Vec::new());
        }
        let (mut partner, mut actions) = (held.partner.clone(), Vec::new());
        for event in seen.events {
            let (after, told) = partner.on(event, now);
            partner = after;
            actions.extend(told);
        }
        let bundle = match seen.bundle.first() {
            Some(cose) if carries(cose, partner.bundle().digest()) => Arc::new(seen.bundle),
            Some(_) | None => held.bundle.clone(),
        };
        let state = match partner.state() {
            Some(state) if carries(&seen.state, state.digest()) => Arc::new(seen.state),
            Some(_) | None => held.state.clone(),
        };
        self.conclude(HeldPartner { partner, bundle, state }, &actions, now).await?;
        Ok(actions)
    }

    /// Takes the proof that a partner's log shows two histories. What comes of it is for good.
    pub(crate) async fn partner_equivocated(&self, fork: &Fork, now: UnixSeconds) -> Result<(), OrderRefusal> {
        let held = self.partners().partner(&fork.domain)?.clone();
        let (got, before) = (Sha256Digest(fork.got.0), Sha256Digest(fork.held.0));
        let seen = Seen {
            base: held.partner.bundle().digest(),
            events: vec![PartnerEvent::Equivocated { size: fork.size, got, held: before }],
            bundle: held.bundle.to_vec(),
            state: held.state.to_vec(),
        };
        self.see(&fork.domain, seen, now).await.map(drop)
    }

    /// Lets time pass for every partner, so that one that was not seen for too long is stale for everybody at once.
    pub(crate) async fn pass_time_for_partners(&self, now: UnixSeconds) -> Result<(), OrderRefusal> {
        let _turn = self.0.partner_turn.lock().await;
        for held in self.partners().all().filter(|held| held.partner.is_due(now)) {
            let (partner, actions) = held.partner.clone().on(PartnerEvent::Tick, now);
            self.conclude(HeldPartner { partner, ..HeldPartner::clone(held) }, &actions, now).await?;
        }
        Ok(())
    }

    /// Logs and stores what the actions demand, then lets everybody see it.
    async fn conclude(
        &self,
        held: HeldPartner,
        actions: &[PartnerAction],
        now: UnixSeconds,
    ) -> Result<(), OrderRefusal> {
        let domain = held.partner.domain().clone();
        let (mut remember, mut stands, mut head) = (false, None, None);
        for action in actions {
            match action {
                PartnerAction::Remember => remember = true,
                PartnerAction::Mark(seen) => head = Some(*seen),
                PartnerAction::Stands { from, to } => stands = Some((*from, *to)),
                PartnerAction::Refused(_) | PartnerAction::Fetch { .. } => {}
            }
        }
        let logged = remember || stands.is_some();
        if logged {
            self.log_partner(&held, head, now).await?;
        } else if let Some(head) = head {
            let marked = domain.clone();
            let write = self.0.store.write(move |transaction: &mut Transaction<'_>| {
                Box::pin(async move { Ok::<_, OrderRefusal>(table::mark(transaction, &marked, head).await?) })
            });
            write.await?;
        }
        if let Some((from, to)) = stands {
            tell(&domain, from, to);
        }
        self.0.partners.send_if_modified(|partners| {
            *partners = Arc::new(partners.with(held));
            logged
        });
        Ok(())
    }

    async fn log_partner(
        &self,
        held: &HeldPartner,
        head: Option<LogHead>,
        now: UnixSeconds,
    ) -> Result<(), OrderRefusal> {
        let row = PartnerRow::of(held)?;
        let body = concluded(&held.partner, now)?;
        let (domain, issuer) = (self.0.parts.domain.clone(), self.0.parts.issuer.signing());
        let write = self.0.store.write(move |transaction: &mut Transaction<'_>| {
            Box::pin(async move {
                let state = governance_state::newest_within(transaction).await?;
                let record = LineageRecord {
                    version: RECORD_VERSION,
                    domain,
                    node: None,
                    subject: row.digest,
                    parents: state.iter().map(|state| state.record).collect(),
                    elsewhere: std::collections::BTreeMap::new(),
                    at: now,
                    body,
                };
                let entry = NewEntry::new(record.sign(&issuer)?);
                transaction.append(entry.about(table::subject(&row.domain)))?;
                if let Some(head) = head {
                    table::mark(transaction, &row.domain, head).await?;
                }
                Ok::<_, OrderRefusal>(table::keep(transaction, &row).await?)
            })
        });
        write.await.map(drop)
    }

    /// The proposal to trust a domain; `bundle` is the one that its order pins.
    pub(super) fn trust_domain(
        &self,
        rules: &Rules,
        trusted: &TrustedDomain,
        bundle: &[Vec<u8>],
        statement: Sha256Digest,
        now: UnixSeconds,
    ) -> Result<Proposal, OrderRefusal> {
        let partners = self.partners();
        if partners.len() >= crate::federation::PARTNERS_CAP && partners.partner(&trusted.domain).is_err() {
            return Err(OrderRefusal::Malformed(format!("at most {} partners", crate::federation::PARTNERS_CAP)));
        }
        let first = trusted.open(bundle, now)?;
        let partner = Partner::pinned(first, trusted.endpoint.clone(), trusted.grant.clone(), now);
        let held = HeldPartner { partner, bundle: Arc::new(bundle.to_vec()), state: Arc::default() };
        proposed(rules, held, statement, "domain trusted", now)
    }

    /// The proposal to take the trust in a domain back.
    pub(super) fn untrust_domain(
        &self,
        rules: &Rules,
        domain: &DomainName,
        statement: Sha256Digest,
        now: UnixSeconds,
    ) -> Result<Proposal, OrderRefusal> {
        let held = HeldPartner::clone(self.partners().partner(domain)?);
        if held.partner.standing(now) == Standing::Untrusted {
            let since = held.partner.since();
            return Err(GovernanceDenial::PartnerUntrusted { domain: domain.clone(), since }.into());
        }
        let (partner, _) = held.partner.on(PartnerEvent::Distrusted, now);
        proposed(rules, HeldPartner { partner, ..held }, statement, "domain untrusted", now)
    }
}

fn proposed(
    rules: &Rules,
    held: HeldPartner,
    statement: Sha256Digest,
    kind: &'static str,
    now: UnixSeconds,
) -> Result<Proposal, OrderRefusal> {
    let row = PartnerRow::of(&held)?;
    let mut proposal = Proposal::of(rules.clone(), kind);
    let about = vec![table::subject(&row.domain), statement.to_string()];
    proposal.records.push(Said { subject: row.digest, about, body: concluded(&held.partner, now)? });
    proposal.effects.push(Effect::Partner(Box::new(row)));
    proposal.partner = Some(held);
    Ok(proposal)
}

/// What the log says of a partner: its state, and the code of why it is not fresh, if it is not.
fn concluded(partner: &Partner, now: UnixSeconds) -> Result<RecordBody, OrderRefusal> {
    let code = code(partner.fresh(now).map_or_else(|denial| denial.code(), |_| FRESH))?;
    let state = partner.state().map_or(Sha256Digest::ZERO, |state| state.digest());
    Ok(RecordBody::Federation { partner: partner.domain().clone(), state, code })
}

fn tell(domain: &DomainName, from: Standing, to: Standing) {
    let (was, is) = (from.name(), to.name());
    match to {
        Standing::Forked | Standing::RolledBack | Standing::Inconsistent => {
            tracing::error!(%domain, was, is, "ALARM: a partner contradicts itself")
        }
        Standing::Stale => tracing::warn!(%domain, was, is, "a partner's standing changed"),
        Standing::Fresh | Standing::Untrusted => tracing::info!(%domain, was, is, "a partner's standing changed"),
    }
}

/// Code of a partner that nothing speaks against.
const FRESH: &str = "federation.fresh";

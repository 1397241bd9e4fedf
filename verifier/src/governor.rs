//! The rules in force, and how they change: reference values, policies,
//! revocations, admitted EKs, and the governance state that names them.
//!
//! A request takes one immutable [`Snapshot`]. A change is logged before it has
//! effect: its records, its rows and the next governance state are one commit,
//! and only then is the snapshot replaced and are nodes told.

mod effects;
mod history;
mod node_orders;
mod orders;
mod own_bundle;
mod partners;
mod refusal;
mod rotation;
mod rules;
mod sets;
mod show;
mod signers;
mod steps;
mod witnesses;

use std::collections::BTreeMap;
use std::sync::Arc;

use audit::record::{LineageRecord, RECORD_VERSION, RecordBody};
use evidence::anchors::TrustAnchors;
use evidence::cose::{KeySet, SigningKey};
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use evidence::threshold::Authority;
use evidence::time::UnixSeconds;
use firmware_refs::values::ReferenceValues;
use governance::governance_state::{GovernanceState, STATE_VERSION, VerifiedState};
use governance::revocation::RevocationList;
use governance::trust_bundle::{OWN_LIFETIME_CAP_S, TrustBundle};
use policy::set::PolicySet;
use tokio::sync::{Mutex, watch};

pub use history::Step;
pub use node_orders::AdmittedMachine;
pub use orders::Obeyed;
pub use own_bundle::{BundleInForce, BundleTaken, own_bundles};
pub use refusal::OrderRefusal;
pub use rotation::{Activated, ListedKey, PreparedKey};
pub use show::ListedSet;
pub use signers::ReferenceSigners;
pub use witnesses::WitnessesInForce;

pub(crate) use partners::Seen;

use crate::anchors::ConfiguredAnchors;
use crate::federation::table;
use crate::federation::{HeldPartner, Partners};
use crate::governance_state::{self, StateInForce};
use crate::live::{Live, Push};
use crate::log::Log;
use crate::online_keys::{ActiveKey, Authorities, Issuer, JwtKey, OnlineKeys};
use crate::state::StateFolder;
use crate::store::{Committed, NewEntry, Store, Transaction};
use effects::Effect;
use rules::Rules;

/// What a request is judged by. Never changes; a change makes another one.
#[derive(Debug)]
pub struct Snapshot {
    /// What hardware is trusted by; nothing while nobody could be.
    pub anchors: Option<TrustAnchors>,
    /// The reference values in force.
    pub references: ReferenceValues,
    /// The policy set in force; nothing before the first activation.
    pub policy: Option<PolicySet>,
    /// Everything revoked.
    pub revocations: RevocationList,
    /// The governance state that names the above.
    pub state: VerifiedState,
    /// The same, signed.
    pub state_cose: Vec<u8>,
    /// The trust bundle that the state names: what partners and nodes get.
    pub bundle: Arc<BundleInForce>,
    /// Whose cosignatures nodes count; nothing before the first order.
    pub witnesses: Option<Arc<WitnessesInForce>>,
    /// Every trust bundle of ours up to that one, ascending.
    pub bundles: Vec<Arc<BundleInForce>>,
}

/// What a governor is made of.
pub struct GovernorParts {
    /// The domain.
    pub domain: DomainName,
    /// Who may order changes.
    pub authority: Authority,
    /// The trust bundle that the domain was founded with, one COSE_Sign1 per authority key.
    pub bundle: Vec<Vec<u8>>,
    /// Signs governance states, revocations and records.
    pub issuer: Issuer,
    /// Cosigns partners' checkpoints.
    pub witness: ActiveKey,
    /// Makes certificates.
    pub ca: Authorities,
    /// Signs JWT-SVIDs.
    pub jwt: JwtKey,
    /// Where successors of these keys are made and put in their place.
    pub files: StateFolder,
    /// Length of a lease, in seconds: what a replaced key signed serves for so long.
    pub lease_s: u64,
    /// Anchors from the configuration.
    pub anchors: ConfiguredAnchors,
    /// How long a governance state is fresh.
    pub state_lifetime_s: u64,
    /// How long a superseded reference value set still matches, where the operator orders nothing else. What is in force
    /// follows from the orders alone: whoever signs one asks for this figure first.
    pub reference_grace_s: u64,
    /// Whose signatures count for reference values.
    pub reference_signers: ReferenceSigners,
    /// Who is connected.
    pub live: Live,
}

/// Holds the rules. Cheap to clone.
#[derive(Clone)]
pub struct Governor(Arc<Inner>);

struct Inner {
    parts: GovernorParts,
    keys: OnlineKeys,
    store: Store,
    current: watch::Sender<Arc<Snapshot>>,
    /// Changes happen one after the other; requests never wait for them.
    turn: Mutex<Rules>,
    partners: watch::Sender<Arc<Partners>>,
    /// What is concluded of partners is concluded one after the other.
    partner_turn: Mutex<()>,
}

impl Governor {
    /// Reads the rules from the store. Rows count only as far as the newest
    /// signed governance state names what they say.
    pub async fn open(parts: GovernorParts, store: &Store, log: &Log, now: UnixSeconds) -> Result<Self, OrderRefusal> {
        let bundles = own_bundles(&parts, store.reads()).await?;
        let keys = OnlineKeys {
            issuer: parts.issuer.clone(),
            witness: parts.witness.clone(),
            ca: parts.ca.clone(),
            jwt: parts.jwt.clone(),
            log: log.signer().clone(),
        };
        keys.learn(bundles.iter().map(|bundle| bundle.verified.bundle()));
        let rules = Rules::load(&parts, bundles, store, log).await?;
        let snapshot = rules.snapshot(&parts)?;
        let (current, _) = watch::channel(Arc::new(snapshot));
        let partners = table::load(store, log, &parts.domain, &issuer_keys(&parts), now).await?;
        let (partners, _) = watch::channel(Arc::new(partners));
        let (turn, partner_turn) = (Mutex::new(rules), Mutex::default());
        let inner = Inner { parts, keys, store: store.clone(), current, turn, partners, partner_turn };
        let governor = Self(Arc::new(inner));
        governor.refresh(now).await?;
        Ok(governor)
    }

    /// Writes the first governance state, epoch 1, in which nothing matches and
    /// nothing is permitted. For `init`.
    pub(crate) async fn found(
        parts: GovernorParts,
        store: &Store,
        log: &Log,
        now: UnixSeconds,
    ) -> Result<(), OrderRefusal> {
        let bundle = TrustBundle::verify(&parts.bundle, &parts.domain, &parts.authority, OWN_LIFETIME_CAP_S, now)?;
        let founding = BundleInForce { signatures: parts.bundle.clone(), verified: bundle };
        let rules = Rules::none(vec![Arc::new(founding)]);
        let next = next_state(&parts, &rules, now)?;
        if log.size() > 0 {
            return Err(crate::store::StoreError::AlreadyInitialised.into());
        }
        commit(store, parts.domain.clone(), parts.issuer.signing(), None, Proposal::of(rules, "founded"), next, now)
            .await
            .map(drop)
    }

    /// The snapshot in force.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.current.borrow().clone()
    }

    /// Wakes when the snapshot changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.0.current.subscribe()
    }

    /// Grace window of an order whose author names none, in seconds.
    #[must_use]
    pub fn reference_grace_s(&self) -> u64 {
        self.0.parts.reference_grace_s
    }

    /// The policy authority.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.0.parts.authority
    }

    /// The keys that sign here.
    #[must_use]
    pub fn keys(&self) -> &OnlineKeys {
        &self.0.keys
    }

    /// Issues the next governance state once half the life of the newest is
    /// over, so that nodes and partners never see a stale one from a live
    /// verifier. Says whether it did.
    pub async fn refresh(&self, now: UnixSeconds) -> Result<bool, OrderRefusal> {
        let mut rules = self.0.turn.lock().await;
        let state = self.current().state.state().clone();
        let half = state.expires_at.0.saturating_sub(state.issued_at.0) / 2;
        if now < state.issued_at.plus(half) {
            return Ok(false);
        }
        let proposal = Proposal::of(rules.clone(), "refreshed");
        self.enact(&mut rules, proposal, now).await?;
        Ok(true)
    }

    /// Issues the next governance state now, and says its epoch.
    pub async fn publish(&self, now: UnixSeconds) -> Result<u64, OrderRefusal> {
        let mut rules = self.0.turn.lock().await;
        let proposal = Proposal::of(rules.clone(), "published");
        Ok(self.enact(&mut rules, proposal, now).await?.value.epoch)
    }

    /// Commits a proposal and brings it into force.
    async fn enact(
        &self,
        rules: &mut Rules,
        proposal: Proposal,
        now: UnixSeconds,
    ) -> Result<Committed<StateInForce>, OrderRefusal> {
        let inner = &self.0;
        let mut next = proposal.rules.clone();
        let pushes = proposal.pushes.clone();
        let partner = proposal.partner.clone();
        let state = next_state(&inner.parts, &next, now)?;
        next.pass_time(now);
        let before = rules.state.as_ref().map(|state| state.record);
        let (domain, issuer) = (inner.parts.domain.clone(), inner.parts.issuer.signing());
        let committed = commit(&inner.store, domain, issuer, before, proposal, state, now).await?;
        next.state = Some(committed.value.clone());
        let snapshot = next.snapshot(&inner.parts)?;
        *rules = next;
        inner.current.send_replace(Arc::new(snapshot));
        if let Some(partner) = partner {
            inner.partners.send_modify(|partners| *partners = Arc::new(partners.with(partner)));
        }
        for push in pushes {
            inner.parts.live.push_all(&push);
        }
        Ok(committed)
    }
}

/// A change about to be made.
struct Proposal {
    /// The rules after it.
    rules: Rules,
    /// What is logged about it, before the new governance state.
    records: Vec<Said>,
    /// What it writes.
    effects: Vec<Effect>,
    /// What connected nodes are told afterwards.
    pushes: Vec<Push>,
    /// A partner as it is afterwards.
    partner: Option<HeldPartner>,
    /// Its line in the change table.
    kind: &'static str,
}

/// A record of the domain's own, not of a node's chain.
struct Said {
    subject: Sha256Digest,
    about: Vec<String>,
    body: RecordBody,
}

impl Proposal {
    fn of(rules: Rules, kind: &'static str) -> Self {
        Self { rules, records: Vec::new(), effects: Vec::new(), pushes: Vec::new(), partner: None, kind }
    }
}

/// The state that will name `rules`, one epoch after theirs.
fn next_state(parts: &GovernorParts, rules: &Rules, now: UnixSeconds) -> Result<GovernanceState, OrderRefusal> {
    let references = rules.references_at(now)?;
    let (epoch, previous) = match &rules.state {
        Some(state) => (state.epoch.saturating_add(1), Some(state.digest)),
        None => (1, None),
    };
    Ok(GovernanceState {
        version: STATE_VERSION,
        domain: parts.domain.clone(),
        epoch,
        issued_at: now,
        expires_at: now.plus(parts.state_lifetime_s),
        policy_set: rules.policy_digest(),
        reference_values: references.digest(),
        revocations: rules.revocations.digest()?,
        bundle: rules.bundle()?.verified.digest(),
        // The floors are part of the reference value sets.
        tcb_floor: references.digest(),
        previous,
    })
}

async fn commit(
    store: &Store,
    domain: DomainName,
    issuer: Arc<SigningKey>,
    before: Option<Sha256Digest>,
    proposal: Proposal,
    state: GovernanceState,
    now: UnixSeconds,
) -> Result<Committed<StateInForce>, OrderRefusal> {
    let (cose, digest) = (state.sign(&issuer)?, state.digest()?);
    let committed = store.write(move |transaction: &mut Transaction<'_>| {
        Box::pin(async move {
            let mut parents: Vec<_> = before.into_iter().collect();
            let mut first_index = None;
            for said in proposal.records {
                let record = record(&domain, &issuer, &parents, said.subject, said.body, now)?;
                parents.truncate(usize::from(before.is_some()));
                parents.push(Sha256Digest::of(&record));
                let entry = said.about.into_iter().fold(NewEntry::new(record), NewEntry::about);
                let index = transaction.append(entry)?;
                first_index.get_or_insert(index);
            }
            let body = RecordBody::GovernanceState { state: digest, epoch: state.epoch };
            let entry = record(&domain, &issuer, &parents, digest, body, now)?;
            let named = Sha256Digest::of(&entry);
            let log_index = transaction.append(NewEntry::new(entry).about(digest.to_string()))?;
            let context = effects::Within { domain: &domain, issuer: &issuer, now };
            let index = first_index.unwrap_or(log_index);
            for effect in proposal.effects {
                effects::apply(transaction, &context, effect, index).await?;
            }
            effects::note_change(transaction, proposal.kind, &digest.to_string(), index).await?;
            let state = StateInForce { epoch: state.epoch, digest, cose, record: named, log_index };
            governance_state::advance(transaction, &state).await?;
            Ok(state)
        })
    });
    committed.await
}

/// A signed record of the domain's own.
fn record(
    domain: &DomainName,
    issuer: &SigningKey,
    parents: &[Sha256Digest],
    subject: Sha256Digest,
    body: RecordBody,
    at: UnixSeconds,
) -> Result<Vec<u8>, OrderRefusal> {
    let parents = parents.to_vec();
    let record = LineageRecord {
        version: RECORD_VERSION,
        domain: domain.clone(),
        node: None,
        subject,
        parents,
        elsewhere: BTreeMap::new(),
        at,
        body,
    };
    Ok(record.sign(issuer)?)
}

fn issuer_keys(parts: &GovernorParts) -> Arc<KeySet> {
    parts.issuer.known()
}

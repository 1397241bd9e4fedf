//! Everything that a partner could ever serve, signed once: an honest history, a second one that branches off, and what
//! a thief of a retired key would add.

use std::collections::{BTreeMap, HashMap, HashSet};

use audit::{
    checkpoint::Checkpoint,
    tlog::{CompactRange, NodeId, ProofPlan, TreeHash, leaf_hash, verify_consistency},
};
use evidence::{
    cose::{KeySet, Purpose, SigningKey, verify1},
    digest::Sha256Digest,
    kind::EvidenceKind,
    names::DomainName,
    threshold::Authority,
    time::UnixSeconds,
};
use governance::{
    federation_grant::FederationGrant,
    governance_state::{GovernanceState, STATE_VERSION, VerifiedState},
    partner::{LogHead, Partner},
    partner_endpoint::{EndpointProfile, PartnerEndpoint},
    revocation::{RevocationList, Revoked},
    text::Text,
    trust_bundle::{BUNDLE_VERSION, FEDERATION_LIFETIME_CAP_S, KeyRecord, Role, TrustBundle, VerifiedBundle},
};

/// One unit of time, in seconds: how often a partner is asked.
pub(crate) const UNIT_S: u64 = 60;
const BEGIN: UnixSeconds = UnixSeconds(1_000_000);
/// A partner that was not seen for this many units is stale.
pub(crate) const STALENESS_UNITS: u64 = 2;
/// Issuer keys rotate: the new one is active from here on, the old one is retired from there on.
pub(crate) const NEW_KEY_FROM: u8 = 2;
pub(crate) const OLD_KEY_UNTIL: u8 = 3;

const OLD_KEY: u8 = 20;
const NEW_KEY: u8 = 21;

pub(crate) fn at(unit: u8) -> UnixSeconds {
    BEGIN.plus(u64::from(unit) * UNIT_S)
}

/// Which history something belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Branch {
    Honest,
    /// Signed by the same keys, from step 2 on.
    Twin,
    /// Step 3 once more, signed by the key that was retired.
    Stolen,
    /// The honest step, beside the bundle of the step before it. Nothing of it is signed anew.
    Torn,
}

/// All that a partner serves at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Served {
    pub(crate) branch: Branch,
    pub(crate) step: u8,
}

impl Served {
    /// Whose bundle is served.
    pub(crate) fn bundle(self) -> Self {
        match self.branch {
            Branch::Honest | Branch::Twin | Branch::Stolen => self,
            Branch::Torn => Self { branch: Branch::Honest, step: self.step.saturating_sub(1) },
        }
    }

    /// Whose state, proofs and log are served.
    pub(crate) fn rest(self) -> Self {
        let branch = if self.branch == Branch::Torn { Branch::Honest } else { self.branch };
        Self { branch, ..self }
    }
}

pub(crate) const LAST_STEP: u8 = 3;

struct Parts {
    bundle_signed: Vec<Vec<u8>>,
    state: GovernanceState,
    state_signed: Vec<u8>,
    revocations: RevocationList,
    log: Vec<Vec<u8>>,
}

pub(crate) struct Universe {
    pub(crate) domain: DomainName,
    authority: Authority,
    parts: BTreeMap<Served, Parts>,
    heads: BTreeMap<Served, Checkpoint>,
    nodes: BTreeMap<Served, BTreeMap<NodeId, TreeHash>>,
    /// By what is served, digest of the bundle that is held, unit of time.
    states: HashMap<(Served, Sha256Digest, u8), VerifiedState>,
    bundles: HashMap<(Served, u8), VerifiedBundle>,
    by_state: HashMap<Sha256Digest, Served>,
    by_head: HashMap<LogHead, Served>,
    extends: HashSet<(Served, Served)>,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).expect("key")
}

fn record(seed: u8, from: u8, until: u8) -> KeyRecord {
    KeyRecord { key: key(seed).public().clone(), from: at(from), until: at(until) }
}

fn authority() -> Authority {
    Authority::new((11..=13).map(|seed| key(seed).public().clone()).collect(), 2).expect("authority")
}

/// How long a bundle and a state of this step live, in units.
const BUNDLE_UNITS: [u8; 4] = [5, 7, 7, 100];
const STATE_UNITS: [u8; 4] = [4, 5, 7, 100];

fn bundle_of(domain: &DomainName, served: Served) -> TrustBundle {
    let Served { branch, step } = served;
    let issuer = match step {
        0 => vec![record(OLD_KEY, 0, 100)],
        1 | 2 => vec![record(OLD_KEY, 0, OLD_KEY_UNTIL), record(NEW_KEY, NEW_KEY_FROM, 100)],
        _ => vec![record(NEW_KEY, NEW_KEY_FROM, 100)],
    };
    // Steps 1 and 2 serve one bundle: a state may move on without it.
    let sequence = [1, 2, 2, 3][usize::from(step)];
    let twin = u64::from(branch == Branch::Twin && step == LAST_STEP);
    TrustBundle {
        version: BUNDLE_VERSION,
        domain: domain.clone(),
        sequence,
        issued_at: BEGIN.minus(1),
        expires_at: at(BUNDLE_UNITS[usize::from(step)]),
        refresh_hint_s: UNIT_S + twin,
        issuer,
        log_origin: "p.example/log".into(),
        log: vec![record(30, 0, 100)],
        witness: vec![],
        jwt: vec![],
        ca: vec![],
        authority: authority(),
    }
}

impl Universe {
    pub(crate) fn of(domain: &str) -> Self {
        let domain = DomainName::new(domain).expect("name");
        let mut universe = Self {
            domain,
            authority: authority(),
            parts: BTreeMap::new(),
            heads: BTreeMap::new(),
            nodes: BTreeMap::new(),
            states: HashMap::new(),
            bundles: HashMap::new(),
            by_state: HashMap::new(),
            by_head: HashMap::new(),
            extends: HashSet::new(),
        };
        for served in Self::all() {
            universe.make(served);
        }
        universe.judge();
        universe.compare();
        universe
    }

    pub(crate) fn all() -> impl Iterator<Item = Served> {
        let honest = (0..=LAST_STEP).map(|step| Served { branch: Branch::Honest, step });
        let twin = (2..=LAST_STEP).map(|step| Served { branch: Branch::Twin, step });
        honest.chain(twin).chain([Served { branch: Branch::Stolen, step: LAST_STEP }])
    }

    fn before(served: Served) -> Option<Served> {
        let step = served.step.checked_sub(1)?;
        let branch = if served.branch == Branch::Twin && step >= 2 { Branch::Twin } else { Branch::Honest };
        Some(Served { branch, step })
    }

    fn make(&mut self, served: Served) {
        let Served { branch, step } = served;
        let before = Self::before(served).map(|before| &self.parts[&before]);
        let bundle = bundle_of(&self.domain, served);
        let bundle_signed: Vec<_> = [11, 13].map(|seed| bundle.sign(&key(seed)).expect("signed")).into();
        let verified =
            TrustBundle::verify(&bundle_signed, &self.domain, &self.authority, FEDERATION_LIFETIME_CAP_S, BEGIN);
        let mut revocations = RevocationList::default();
        if step >= 2 {
            let name = evidence::names::ItemName::new("db").expect("name");
            revocations.revoke(Revoked::Key(name), Text::new("leaked").expect("text"));
        }
        let state = GovernanceState {
            version: STATE_VERSION,
            domain: self.domain.clone(),
            epoch: u64::from(step) + 1,
            issued_at: BEGIN.minus(1),
            expires_at: at(STATE_UNITS[usize::from(step)]),
            policy_set: Sha256Digest::of(format!("{branch:?}").as_bytes()),
            reference_values: Sha256Digest::ZERO,
            revocations: revocations.digest().expect("digest"),
            bundle: verified.expect("verified").digest(),
            tcb_floor: Sha256Digest::ZERO,
            previous: before.map(|before| before.state.digest().expect("digest")),
        };
        let signer = if step < 2 || branch == Branch::Stolen { OLD_KEY } else { NEW_KEY };
        let state_signed = state.sign(&key(signer)).expect("signed");
        let mut log = before.map(|before| before.log.clone()).unwrap_or_default();
        log.push(state_signed.clone());
        let (mut tree, mut nodes) = (CompactRange::empty(), BTreeMap::new());
        for entry in &log {
            nodes.extend(tree.append(leaf_hash(entry)).expect("appended"));
        }
        let head = Checkpoint { origin: "p.example/log".into(), size: tree.size(), root: tree.root() };
        self.heads.insert(served, head);
        self.nodes.insert(served, nodes);
        self.parts.insert(served, Parts { bundle_signed, state, state_signed, revocations, log });
    }

    /// Judges everything at every time with the real readers, once.
    fn judge(&mut self) {
        for unit in 0..=super::HORIZON_CAP {
            for (served, parts) in &self.parts {
                let bundle = TrustBundle::verify(
                    &parts.bundle_signed,
                    &self.domain,
                    &self.authority,
                    FEDERATION_LIFETIME_CAP_S,
                    at(unit),
                );
                if let Ok(bundle) = bundle {
                    self.bundles.insert((*served, unit), bundle);
                }
            }
            for bundle in Self::all().filter_map(|held| self.bundles.get(&(held, unit))) {
                let keys = bundle.keys(Role::Issuer, at(unit));
                for (served, parts) in &self.parts {
                    let state = GovernanceState::verify(&parts.state_signed, &self.domain, &keys, at(unit));
                    if let Ok(state) = state {
                        self.states.insert((*served, bundle.digest(), unit), state);
                    }
                }
            }
        }
    }

    fn compare(&mut self) {
        for served in Self::all() {
            self.by_state.insert(self.state_digest(served), served);
            self.by_head.insert(self.head(served), served);
        }
        for (held, served) in Self::all().flat_map(|held| Self::all().map(move |served| (held, served))) {
            let (old, new) = (self.checkpoint(held), self.checkpoint(served));
            let proof = self.proof(old.size, served);
            if verify_consistency(old.size, &old.root, new.size, &new.root, &proof).is_ok() {
                self.extends.insert((held, served));
            }
        }
    }

    /// The served bundle, if the pinned authority's signatures and its window hold now.
    pub(crate) fn bundle(&self, served: Served, unit: u8) -> Option<VerifiedBundle> {
        self.bundles.get(&(served, unit)).cloned()
    }

    /// Digest of the bundle that a served state names.
    pub(crate) fn named_by(&self, served: Served) -> Sha256Digest {
        self.parts[&served].state.bundle
    }

    /// The served state, if a key of the held bundle that is in force now signed it; whoever forgets about windows asks
    /// all bundles at all times.
    pub(crate) fn state(
        &self,
        served: Served,
        held: &VerifiedBundle,
        unit: u8,
        any_key: bool,
    ) -> Option<VerifiedState> {
        if any_key {
            let mut known = self.states.iter().filter(|((state, ..), _)| *state == served);
            return known.next().map(|(_, state)| state.clone());
        }
        self.states.get(&(served, held.digest(), unit)).cloned()
    }

    /// Payloads of the states of these epochs on the way to what is served.
    pub(crate) fn between(&self, served: Served, from: u64, to: u64) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        let mut at = Self::before(served);
        while let Some(step) = at {
            let state = &self.parts[&step].state;
            if (from..=to).contains(&state.epoch) {
                payloads.insert(0, self.payload(step));
            }
            at = Self::before(step);
        }
        payloads
    }

    fn payload(&self, served: Served) -> Vec<u8> {
        let keys: Vec<_> = [OLD_KEY, NEW_KEY].map(key).iter().map(|key| key.public().clone()).collect();
        let signed = &self.parts[&served].state_signed;
        let signed = verify1(Purpose::GovernanceState, &self.domain, signed, &KeySet::new(&keys));
        signed.expect("signed by one of them").payload().to_vec()
    }

    pub(crate) fn revocations(&self, served: Served) -> RevocationList {
        self.parts[&served].revocations.clone()
    }

    pub(crate) fn checkpoint(&self, served: Served) -> &Checkpoint {
        &self.heads[&served]
    }

    pub(crate) fn head(&self, served: Served) -> LogHead {
        let checkpoint = self.checkpoint(served);
        LogHead { size: checkpoint.size, root: Sha256Digest(checkpoint.root.0) }
    }

    /// The proof that a log would give from a size to what it serves.
    pub(crate) fn proof(&self, old: u64, served: Served) -> Vec<TreeHash> {
        let new = self.checkpoint(served).size;
        let plan = ProofPlan::consistency(old, new).ok();
        plan.and_then(|plan| plan.build(&self.nodes[&served]).ok()).unwrap_or_default()
    }

    /// Whether what is served was proven to go on from this head.
    pub(crate) fn extends(&self, held: LogHead, served: Served) -> bool {
        self.extends.contains(&(self.of_head(held), served))
    }

    /// Whether one of the two goes on from the other.
    pub(crate) fn agree(&self, one: Served, other: Served) -> bool {
        self.extends.contains(&(one, other)) || self.extends.contains(&(other, one))
    }

    /// Which step a held state is.
    pub(crate) fn of_state(&self, digest: Sha256Digest) -> Served {
        self.by_state[&digest]
    }

    /// Which step a head is.
    pub(crate) fn of_head(&self, head: LogHead) -> Served {
        self.by_head[&head]
    }

    pub(crate) fn state_digest(&self, served: Served) -> Sha256Digest {
        self.parts[&served].state.digest().expect("digest")
    }

    pub(crate) fn pinned(&self) -> VerifiedBundle {
        self.bundle(Served { branch: Branch::Honest, step: 0 }, 0).expect("in force at first")
    }

    /// The partner as an operator begins it.
    pub(crate) fn begun(&self, bundle: VerifiedBundle, now: UnixSeconds) -> Partner {
        let url = Text::new(format!("https://{}", self.domain)).expect("text");
        let endpoint = PartnerEndpoint { url, profile: EndpointProfile::HttpsSpiffe };
        Partner::pinned(bundle, endpoint, self.grant(), now)
    }

    fn grant(&self) -> FederationGrant {
        FederationGrant {
            path_prefix: Text::new("/node/").expect("text"),
            kinds: [EvidenceKind::Tpm].into(),
            lease_ms: 30_000,
            rate_per_minute: 60,
            witness: true,
            results: true,
            max_staleness_s: STALENESS_UNITS * UNIT_S,
        }
    }
}

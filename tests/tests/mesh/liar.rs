//! A domain whose verifier has its real keys, store and log, and lies in one thing: served from this process, on the state
//! that its own verifier left.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use evidence::cose::{KeySet, SigningKey};
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::governance_state::{GovernanceState, VerifiedState};
use governance::partner::Standing;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use verifier::ca::CertificateAuthority;
use verifier::clock::Clock;
use verifier::config::Config;
use verifier::desk::{Desk, DeskParts, LeaseLengths};
use verifier::federation::PublicListener;
use verifier::federation::surface::{self, Surface};
use verifier::federation::sync::Following;
use verifier::governor::Governor;
use verifier::listen::ConnectionCaps;
use verifier::live::Live;
use verifier::online_keys::{Authorities, Issuer};
use verifier::open::{OpenVerifier, endorsement_store, open_store, parts};
use verifier::serve::{Addresses, Bound, Listeners};
use verifier::state::{KeyFile, StateFolder};
use verifier::trust::{Trust, TrustParts, TrustSource};
use verifier::witness::Quorum;

use crate::bed::{Bed, DOMAINS};

/// In what it lies.
pub(crate) enum Lie {
    /// Artifacts are signed by a key that is not in its bundle.
    Signature,
    /// Artifacts name another governance state of the epoch than the one that it shows.
    State,
    /// Partners are given this bundle, which its governance state does not name.
    Bundle(Vec<u8>),
    /// Answers do not wait for witnesses, whatever was ordered.
    Witnesses,
}

/// While it serves.
pub(crate) struct Liar {
    pub(crate) addresses: Addresses,
    _stop: oneshot::Sender<()>,
    following: JoinHandle<()>,
    serving: JoinHandle<()>,
    _open: OpenVerifier,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.following.abort();
        self.serving.abort();
    }
}

impl Bed {
    /// Puts a liar in the place of a domain's verifier, behind the proxies.
    pub(crate) async fn lies(&mut self, at: usize, lie: Lie) -> Liar {
        let stopped = self.mesh.stop(DOMAINS[at]).await;
        self.explained(stopped);
        let liar = Liar::of(&self.mesh.path(DOMAINS[at]), lie).await;
        self.proxies[at].retarget(&liar.addresses.nodes.to_string());
        self.surfaces[at].retarget(&liar.addresses.public.unwrap().to_string());
        liar
    }
}

impl Liar {
    async fn of(folder: &std::path::Path, lie: Lie) -> Self {
        let state = StateFolder::open(folder).unwrap();
        let config = Config::load(&state.config_path(), std::iter::empty()).unwrap();
        let open = open_store(&state, &config).await.unwrap();
        let (store, log) = (open.opened.store.clone(), open.opened.log.clone());
        let live = Live::default();
        let of_folder = parts(&state, &config, live.clone()).unwrap();
        let governor = Governor::open(of_folder, &store, &log, wall()).await.unwrap();
        let now: verifier::federation::sync::Now = Arc::new(|| Ok(wall()));
        let sync = Following::new(config.domain.clone(), governor.clone(), now, Vec::new());
        let following = tokio::spawn(sync.clone().run(std::future::pending()));
        until_partners_are_fresh(&governor, &config.domain).await;
        let genuine =
            Surface { governor: governor.clone(), store: store.clone(), log: log.clone(), tiles: state.tiles(), sync };
        let routes = match &lie {
            Lie::Bundle(bundle) => {
                let bundle = bundle.clone();
                let lying = get(move || async move { bundle });
                Router::new().route("/governance/bundle", lying).fallback_service(surface::routes(genuine))
            }
            Lie::Signature | Lie::State | Lie::Witnesses => surface::routes(genuine),
        };
        let issuer = state.key(KeyFile::Issuer).unwrap();
        let shown = matches!(lie, Lie::State).then(|| other_state(&governor, &issuer));
        let signs = if matches!(lie, Lie::Signature) { SigningKey::from_seed(&[7; 32]).unwrap() } else { issuer };
        let (certificate, key) = state.certificate_authority().unwrap();
        let partners = governor.clone();
        let desk = Desk::new(DeskParts {
            domain: config.domain.clone(),
            store: store.clone(),
            log,
            issuer: Issuer::new(signs),
            ear: state.ear_key().unwrap(),
            jwt: governor.keys().jwt.clone(),
            kek: state.key_encryption_key().unwrap(),
            ca: Authorities::new(CertificateAuthority::open(config.domain.clone(), &certificate, &key).unwrap()),
            trust: trust(&governor, shown).with_partners(move || partners.partners()),
            clock: Clock::starting_at(UnixSeconds(0)),
            live,
            lease: LeaseLengths { duration_ms: 4_000, renew_after_ms: 1_333 },
            admission: config.nodes.admission,
            endorsements: endorsement_store(&config, &store).unwrap(),
            quorum: Quorum::of(0, Duration::ZERO, tokio::sync::watch::channel(None).1),
            gossip: verifier::federation::gossip::gossip().0,
            appraisals: 4,
        });
        let any = "127.0.0.1:0".parse().unwrap();
        let federation = config.federation.unwrap();
        let bound = Bound::bind(Listeners {
            enrolment: any,
            nodes: any,
            admin: None,
            public: Some(PublicListener {
                at: any,
                names: federation.names,
                web: None,
                routes: surface::guarded(routes),
            }),
            names: config.listen.names,
            caps: ConnectionCaps { total: 64, per_address: 64 },
            state: folder.to_owned(),
        });
        let bound = bound.await.unwrap();
        let addresses = bound.addresses();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            bound.serve(Arc::new(desk), |_| {}, async move { drop(stopped.await) }).await.unwrap();
        });
        Self { addresses, _stop: stop, following, serving, _open: open }
    }
}

/// It stands with its partners as they do with it, or it would refuse for that.
async fn until_partners_are_fresh(governor: &Governor, own: &DomainName) {
    let fresh = async {
        loop {
            let partners = governor.partners();
            let mut others = DOMAINS.into_iter().filter(|name| *name != own.as_str());
            let stands = |name: &str| {
                let name = DomainName::new(name).unwrap();
                partners.partner(&name).is_ok_and(|held| held.partner.standing(wall()) == Standing::Fresh)
            };
            if others.all(stands) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), fresh).await.expect("partners are fresh");
}

/// Another governance state of the same epoch, as well signed.
fn other_state(governor: &Governor, issuer: &SigningKey) -> VerifiedState {
    let held = governor.current().state.state().clone();
    let other = GovernanceState { expires_at: held.expires_at.plus(1), ..held };
    let cose = other.sign(issuer).unwrap();
    GovernanceState::verify(&cose, &other.domain, &KeySet::new([issuer.public()]), wall()).unwrap()
}

/// What requests are judged by; artifacts name the given state, if any, and nodes are shown the one in force.
fn trust(governor: &Governor, named: Option<VerifiedState>) -> TrustSource {
    let snapshot = governor.current();
    let trust = Arc::new(Trust::of(TrustParts {
        anchors: snapshot.anchors.clone().unwrap(),
        lab: true,
        references: snapshot.references.clone(),
        policy: snapshot.policy.clone().unwrap(),
        revocations: snapshot.revocations.clone(),
        state: named.unwrap_or_else(|| snapshot.state.clone()),
        state_cose: snapshot.state_cose.clone(),
        bundle: snapshot.bundle.signatures.clone(),
        witnesses: snapshot.witnesses.as_ref().map_or_else(Vec::new, |ordered| ordered.signatures.clone()),
        authority: governor.authority().clone(),
    }));
    TrustSource::new(move || Ok(trust.clone()))
}

fn wall() -> UnixSeconds {
    UnixSeconds(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
}

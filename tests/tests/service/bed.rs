//! A verifier in this process: real store, log, TLS listeners and desk; its domain's keys are the test's.

use std::sync::{Arc, Mutex};

use evidence::{
    cose::SigningKey,
    digest::Sha256Digest,
    names::{DomainName, ItemName},
    threshold::Authority,
    time::UnixSeconds,
    verify,
};
use firmware_refs::{
    InForce, ReferenceValues,
    capture::{Capture, CaptureHeader, capture},
    observed::{Observed, ObservedTpm},
    signed::{SignedSet, sign},
};
use governance::{
    governance_state::{GovernanceState, STATE_VERSION},
    revocation::{RevocationList, Revoked},
    text::Text,
};
use policy::set::{PolicyDocument, PolicySet};
use rustls::pki_types::CertificateDer;
use tests::genuine::Machine;
use tokio::{sync::oneshot, task::JoinHandle};
use verifier::online_keys::{Authorities, Issuer, JwtKey};
use verifier::{
    ca::CertificateAuthority,
    clock::Clock,
    config::{Admission, EndorsementsConfig},
    desk::{Desk, DeskParts, LeaseLengths},
    ear_key::EarKey,
    endorsements::{
        EndorsementStore,
        recognise::{Pile, Recognised, Sorted},
        table::Source,
    },
    es256::Es256Key,
    federation::Partners,
    governance_state::{self, StateInForce},
    keys::{self, KeyEncryptionKey},
    listen::ConnectionCaps,
    live::Live,
    log::{CheckpointSigner, OpenOptions, open},
    serve::{Addresses, Bound, Listeners, ServeError},
    store::{Database, NewEntry, StoreError, create},
    trust::{Trust, TrustParts, TrustSource},
    witness::{GatherParts, Quorum, WitnessPeer, gather},
};

pub(crate) const ORIGIN: &str = "log.a.example";

pub(crate) fn now() -> UnixSeconds {
    UnixSeconds(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
}

pub(crate) fn domain() -> DomainName {
    DomainName::new("a.example").unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}

pub(crate) fn issuer() -> SigningKey {
    key(1)
}

pub(crate) fn log_signer() -> CheckpointSigner {
    CheckpointSigner::new(ORIGIN, Arc::new(key(2))).unwrap()
}

fn authority_key() -> SigningKey {
    key(3)
}

fn authority() -> Authority {
    Authority::new(vec![authority_key().public().clone()], 1).unwrap()
}

/// What the rules are made from; a test changes them and calls [`Bed::govern`].
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) references: Vec<InForce>,
    pub(crate) cedar: String,
    pub(crate) revoked: Vec<Revoked>,
}

pub(crate) struct Bed {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) desk: Arc<Desk>,
    pub(crate) addresses: Addresses,
    pub(crate) rules: Rules,
    pub(crate) lease: LeaseLengths,
    /// Signs JWT-SVIDs; nothing until a key is activated.
    pub(crate) jwt: JwtKey,
    pub(crate) endorsements: EndorsementStore,
    admission: Admission,
    anchors: evidence::TrustAnchors,
    ca: (Vec<u8>, Vec<u8>),
    trust: Arc<Mutex<Arc<Trust>>>,
    partners: Arc<Mutex<Arc<Partners>>>,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<Result<(), ServeError>>>,
    opened: verifier::log::Opened,
    state: Option<governance::governance_state::VerifiedState>,
    witnesses: Witnesses,
}

/// Who must cosign before anything is released.
#[derive(Clone)]
pub(crate) struct Witnesses {
    pub(crate) needed: usize,
    pub(crate) within: std::time::Duration,
    pub(crate) peers: tokio::sync::watch::Sender<Arc<Vec<WitnessPeer>>>,
}

impl Witnesses {
    pub(crate) fn none() -> Self {
        Self { needed: 0, within: std::time::Duration::ZERO, peers: tokio::sync::watch::channel(Arc::default()).0 }
    }
}

impl Bed {
    /// A domain that knows `machine` and nothing else.
    pub(crate) async fn knowing(machine: &Machine) -> Self {
        Self::with(machine, vec![InForce::active(reference_set(machine))], Admission::Endorsed).await
    }

    pub(crate) async fn with(machine: &Machine, references: Vec<InForce>, admission: Admission) -> Self {
        Self::trusting(machine.anchors(), references, admission).await
    }

    /// As [`Self::knowing`], and nothing is released that too few witnesses cosigned.
    pub(crate) async fn witnessed(machine: &Machine, witnesses: Witnesses) -> Self {
        let references = vec![InForce::active(reference_set(machine))];
        Self::begun(machine.anchors(), references, Admission::Endorsed, witnesses).await
    }

    /// A domain that trusts hardware by these anchors.
    pub(crate) async fn trusting(
        anchors: evidence::TrustAnchors,
        references: Vec<InForce>,
        admission: Admission,
    ) -> Self {
        Self::begun(anchors, references, admission, Witnesses::none()).await
    }

    async fn begun(
        anchors: evidence::TrustAnchors,
        references: Vec<InForce>,
        admission: Admission,
        witnesses: Witnesses,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::at(&url(&folder)).unwrap();
        create(&database, "a.example", "instance-1").await.unwrap();
        std::fs::create_dir(folder.path().join("tiles")).unwrap();
        let (certificate, ca_key) = CertificateAuthority::create(&domain(), now()).unwrap();
        let cedar = include_str!("../../../policy/lab.cedar").to_owned();
        let rules = Rules { references, cedar, revoked: Vec::new() };
        let lease = LeaseLengths { duration_ms: 30_000, renew_after_ms: 10_000 };
        let parts = (certificate, ca_key.to_vec());
        Self::start(folder, anchors, parts, rules, admission, lease, None, witnesses).await
    }

    /// Stops this one and starts another on the same state.
    pub(crate) async fn restarted(mut self) -> Self {
        self.halt().await;
        let Self { folder, desk, rules, lease, endorsements, admission, anchors, ca, opened, state, witnesses, .. } =
            self;
        // As a stopped process has: its tasks must not write to the state that the next one opens.
        drop((desk, endorsements));
        opened.close().await;
        Self::start(folder, anchors, ca, rules, admission, lease, state, witnesses).await
    }

    async fn halt(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap();
            self.served.take().unwrap().await.unwrap().unwrap();
        }
    }

    #[allow(clippy::too_many_arguments, reason = "all that outlives a restart")]
    async fn start(
        folder: tempfile::TempDir,
        anchors: evidence::TrustAnchors,
        ca: (Vec<u8>, Vec<u8>),
        rules: Rules,
        admission: Admission,
        lease: LeaseLengths,
        state: Option<governance::governance_state::VerifiedState>,
        witnesses: Witnesses,
    ) -> Self {
        static HOLDERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let opened = open(OpenOptions {
            database: Database::at(&url(&folder)).unwrap(),
            instance: "instance-1".to_owned(),
            holder: format!("holder-{}", HOLDERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
            tiles: folder.path().join("tiles"),
            signer: log_signer(),
        })
        .await
        .unwrap();
        let (state, trust) = govern(&opened.store, &anchors, &rules, state).await;
        let trust = Arc::new(Mutex::new(Arc::new(trust)));
        let source = trust.clone();
        let partners = Arc::new(Mutex::new(Arc::<Partners>::default()));
        let known = partners.clone();
        let endorsements = EndorsementStore::new(opened.store.clone(), &EndorsementsConfig::default(), &[]).unwrap();
        let (cosigned, newest) = tokio::sync::watch::channel(None);
        let quorum = Quorum::of(witnesses.needed, witnesses.within, newest);
        let gathering = GatherParts {
            store: opened.store.clone(),
            log: opened.log.clone(),
            peers: witnesses.peers.subscribe(),
            quorum: witnesses.needed.into(),
            cosigners: quorum.cosigners().clone(),
            now: Arc::new(|| Ok(now())),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let gathering = tokio::spawn(gather(gathering, cosigned, async move { drop(stopped.await) }));
        let jwt = JwtKey::default();
        let desk = Arc::new(Desk::new(DeskParts {
            domain: domain(),
            store: opened.store.clone(),
            log: opened.log.clone(),
            issuer: Issuer::new(issuer()),
            ear: EarKey::from_pkcs8(&Es256Key::generate().unwrap()).unwrap(),
            jwt: jwt.clone(),
            kek: KeyEncryptionKey::new(&[9; 32]).unwrap(),
            ca: Authorities::new(CertificateAuthority::open(domain(), &ca.0, &ca.1).unwrap()),
            trust: TrustSource::new(move || Ok(source.lock().unwrap().clone()))
                .with_partners(move || known.lock().unwrap().clone()),
            clock: Clock::starting_at(UnixSeconds(0)),
            live: Live::default(),
            lease,
            admission,
            endorsements: endorsements.clone(),
            quorum,
            gossip: verifier::federation::gossip::gossip().0,
            appraisals: 8,
        }));
        let loopback = "127.0.0.1:0".parse().unwrap();
        let bound = Bound::bind(Listeners {
            enrolment: loopback,
            nodes: loopback,
            admin: Some(loopback),
            public: None,
            names: vec!["localhost".to_owned()],
            caps: ConnectionCaps { total: 2_048, per_address: 2_048 },
            state: folder.path().to_owned(),
        })
        .await
        .unwrap();
        let addresses = bound.addresses();
        let (halt, halted) = oneshot::channel::<()>();
        let (ready, is_ready) = oneshot::channel();
        let serving = desk.clone();
        let served = tokio::spawn(async move {
            let ready = |_: &Addresses| ready.send(()).unwrap();
            let served = bound.serve(serving, ready, async move { halted.await.unwrap() }).await;
            drop(stop);
            gathering.await.unwrap();
            served
        });
        is_ready.await.unwrap();
        let (stop, served) = (Some(halt), Some(served));
        let state = Some(state);
        Self {
            folder,
            desk,
            addresses,
            rules,
            lease,
            jwt,
            endorsements,
            admission,
            anchors,
            ca,
            trust,
            partners,
            stop,
            served,
            opened,
            state,
            witnesses,
        }
    }

    /// Brings changed rules into force: the next epoch.
    pub(crate) async fn govern(&mut self) {
        let (state, trust) = govern(&self.opened.store, &self.anchors, &self.rules, self.state.take()).await;
        *self.trust.lock().unwrap() = Arc::new(trust);
        self.state = Some(state);
    }

    /// From now on these are the partners.
    pub(crate) fn partner_with(&self, partners: Arc<Partners>) {
        *self.partners.lock().unwrap() = partners;
    }

    /// Puts the next epoch into the store alone, as another replica would: this one has not heard of it yet.
    pub(crate) async fn govern_elsewhere(&mut self) {
        let (state, _) = govern(&self.opened.store, &self.anchors, &self.rules, self.state.take()).await;
        self.state = Some(state);
    }

    pub(crate) async fn put_key(&self, name: &str, secret: &'static [u8]) {
        let (kek, name) = (KeyEncryptionKey::new(&[9; 32]).unwrap(), ItemName::new(name).unwrap());
        let put = self.opened.store.write::<_, keys::KeyFault, _>(move |transaction| {
            Box::pin(async move { keys::put(transaction, &kek, &name, Some(secret), &[]).await })
        });
        put.await.unwrap();
    }

    /// Imports vendors' certificates and lists, as an operator does.
    pub(crate) async fn import(&self, documents: &[&[u8]]) {
        let found = documents.iter().map(|document| Recognised::from_document(document).unwrap()).collect();
        self.endorsements.put(found, Source::Directory, "test").await.unwrap();
    }

    /// Imports files as they come from a vendor, chains and statements in whatever form; all of them must be of use.
    pub(crate) async fn import_files(&self, files: &[&[u8]]) {
        let mut pile = Pile::default();
        files.iter().for_each(|file| pile.add("test", file));
        let Sorted { found, skipped } = pile.sorted();
        assert!(skipped.is_empty(), "{skipped:?}");
        self.endorsements.put(found, Source::Directory, "test").await.unwrap();
    }

    /// Changes the tables behind the service's back.
    pub(crate) async fn sql(&self, statement: &'static str) {
        use sqlx::Connection as _;
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&url(&self.folder)).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.ca.0.clone())
    }

    pub(crate) fn store(&self) -> &verifier::store::Store {
        &self.opened.store
    }

    pub(crate) fn log(&self) -> &verifier::log::Log {
        &self.opened.log
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut tcp = tokio::net::TcpStream::connect(self.addresses.admin.unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Stops the service and checks the whole log: hashes, signatures, and that every record stands where it may.
    pub(crate) async fn finish(mut self) {
        self.halt().await;
        let database = Database::at(&url(&self.folder)).unwrap();
        let (tiles, signer) = (self.folder.path().join("tiles"), log_signer());
        let records = audit::fsck::LogAudit::new(domain(), evidence::cose::KeySet::new([issuer().public()]));
        let report =
            verifier::log::audit_whole_log(&database, &tiles, &signer, Some(records), |_, _| {}).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}

fn url(folder: &tempfile::TempDir) -> String {
    format!("sqlite://{}", folder.path().join("verifier.db").display())
}

/// The set that knows exactly this machine as it booted.
pub(crate) fn reference_set(machine: &Machine) -> SignedSet {
    named_reference_set(machine, "node-1", 1)
}

pub(crate) fn named_reference_set(machine: &Machine, id: &str, version: u64) -> SignedSet {
    signed_set(&captured(machine, id, version))
}

/// The same set, not signed.
pub(crate) fn captured(machine: &Machine, id: &str, version: u64) -> Capture {
    let mut challenge = machine.challenge();
    let demands = challenge.demands.tpm_mut().unwrap();
    demands.pcrs = vec![0, 1, 2, 3, 4, 5, 6, 7];
    demands.node_key_pcrs = demands.pcrs.clone();
    demands.ima_log = false;
    let evidence = machine.answer(&challenge).evidence();
    let endorsements = machine.endorsements();
    let bound = verify(&evidence, &endorsements, &machine.anchors(), machine.now).unwrap();
    let bound = bound.bind(&challenge, machine.now).unwrap();
    let evidence::Claims::Tpm(claims) = bound.claims() else { panic!("not of a TPM") };
    let header = CaptureHeader {
        id: ItemName::new(id).unwrap(),
        version,
        domain: domain(),
        environment: ItemName::new("lab").unwrap(),
        node: machine.node_id.to_string(),
        now: machine.now.minus(60),
        lifetime_s: 3600 * 24,
    };
    capture(&Observed::Tpm(ObservedTpm::of(claims)), header).unwrap()
}

pub(crate) fn signed_set(captured: &Capture) -> SignedSet {
    let signature = sign(captured.set(), &authority_key()).unwrap();
    SignedSet::open(&[signature], &domain(), &authority()).unwrap()
}

async fn govern(
    store: &verifier::store::Store,
    anchors: &evidence::TrustAnchors,
    rules: &Rules,
    held: Option<governance::governance_state::VerifiedState>,
) -> (governance::governance_state::VerifiedState, Trust) {
    let references = ReferenceValues::new(rules.references.clone()).unwrap();
    let document = PolicyDocument {
        id: ItemName::new("lab").unwrap(),
        version: 1,
        domain: domain(),
        issued_at: now().into(),
        not_after: now().plus(3600).into(),
        reason: "test".to_owned().try_into().unwrap(),
        cedar: rules.cedar.clone(),
    };
    let unsigned = PolicySet::from_document(document).unwrap();
    let policy = PolicySet::open(&[unsigned.sign(&authority_key()).unwrap()], &domain(), &authority()).unwrap();
    let reason = Text::new("test").unwrap();
    let revocations = RevocationList::new(rules.revoked.iter().map(|thing| (thing.clone(), reason.clone())));
    let state = GovernanceState {
        version: STATE_VERSION,
        domain: domain(),
        epoch: held.as_ref().map_or(1, |held| held.state().epoch + 1),
        issued_at: now(),
        expires_at: now().plus(600),
        policy_set: policy.digest(),
        reference_values: references.digest(),
        revocations: revocations.digest().unwrap(),
        bundle: Sha256Digest::ZERO,
        tcb_floor: Sha256Digest::ZERO,
        previous: held.as_ref().map(|held| held.digest()),
    };
    let cose = state.sign(&issuer()).unwrap();
    let verified =
        GovernanceState::verify(&cose, &domain(), &evidence::cose::KeySet::new([issuer().public()]), now()).unwrap();
    log_state(store, &verified, cose.clone()).await;
    let trust = Trust::of(TrustParts {
        anchors: anchors.clone(),
        lab: true,
        references,
        policy,
        revocations,
        state: verified.clone(),
        state_cose: cose,
        bundle: vec![vec![1]],
        witnesses: vec![],
        authority: authority(),
    });
    (verified, trust)
}

async fn log_state(store: &verifier::store::Store, state: &governance::governance_state::VerifiedState, cose: Vec<u8>) {
    use audit::record::{LineageRecord, RECORD_VERSION, RecordBody};
    let (digest, epoch) = (state.digest(), state.state().epoch);
    let record = LineageRecord {
        version: RECORD_VERSION,
        domain: domain(),
        node: None,
        subject: digest,
        parents: Vec::new(),
        elsewhere: std::collections::BTreeMap::new(),
        at: now(),
        body: RecordBody::GovernanceState { state: digest, epoch },
    };
    let record = record.sign(&issuer()).unwrap();
    let advanced = store.write::<_, StoreError, _>(move |transaction| {
        Box::pin(async move {
            let named = Sha256Digest::of(&record);
            let log_index = transaction.append(NewEntry::new(record))?;
            let next = StateInForce { epoch, digest, cose, record: named, log_index };
            governance_state::advance(transaction, &next).await
        })
    });
    advanced.await.unwrap();
}

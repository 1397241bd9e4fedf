//! One domain of a mesh, in this process: store, log, rules, public listener and what follows partners. Its clock is real
//! time and what a test adds to it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use evidence::cose::SigningKey;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::federation_grant::FederationGrant;
use governance::partner::Standing;
use governance::partner_endpoint::{EndpointProfile, PartnerEndpoint};
use governance::statement::{Order, STATEMENT_VERSION, Statement, TrustedDomain};
use governance::text::Text;
use governance::trust_bundle::TrustBundle;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use verifier::ca::CertificateAuthority;
use verifier::config::{Config, ListenConfig, SnpConfig, TdxConfig};
use verifier::federation::listener;
use verifier::federation::surface::{self, Surface};
use verifier::federation::sync::Following;
use verifier::governor::{Governor, Obeyed, OrderRefusal};
use verifier::init::{InitOptions, init};
use verifier::listen::ConnectionCaps;
use verifier::live::Live;
use verifier::open::{OpenVerifier, open_store, parts};
use verifier::state::{StateFolder, read_signing_key};
use verifier::tls::ServingCertificate;

/// Longest that anything takes.
const WITHIN: Duration = Duration::from_secs(20);
const CAPS: ConnectionCaps = ConnectionCaps { total: 64, per_address: 64 };

pub(crate) fn name(text: &str) -> DomainName {
    DomainName::new(text).unwrap()
}

fn wall() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn grant() -> FederationGrant {
    FederationGrant {
        path_prefix: Text::new("/node/").unwrap(),
        kinds: [evidence::kind::EvidenceKind::Tpm].into(),
        lease_ms: 30_000,
        rate_per_minute: 60,
        witness: true,
        results: false,
        max_staleness_s: 300,
    }
}

/// The listener that was there before may be letting go of the address still.
async fn bound(at: SocketAddr) -> TcpListener {
    let free = async {
        loop {
            match TcpListener::bind(at).await {
                Ok(tcp) => return tcp,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(WITHIN, free).await.unwrap()
}

/// Something running that ends when it is told to.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn ended(self) {
        self.stop.send(()).unwrap_or_default();
        self.task.await.unwrap();
    }
}

pub(crate) struct Member {
    pub(crate) domain: DomainName,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) key: SigningKey,
    pub(crate) governor: Governor,
    pub(crate) following: Following,
    pub(crate) address: SocketAddr,
    ahead_s: Arc<AtomicU64>,
    open: OpenVerifier,
    follows: Option<Running>,
    serves: Option<Running>,
}

impl Member {
    /// Founded, with a bundle for partners, published and following nobody.
    pub(crate) async fn founded(domain: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let options = InitOptions {
            domain: name(domain),
            state: folder.path().join("state"),
            lab: true,
            store: None,
            authority_folder: None,
            threshold: 1,
            listen: ListenConfig { enrolment: any, nodes: any, admin: None, names: vec!["localhost".to_owned()] },
            federation: None,
            witness_quorum: 0,
            tpm_roots: Vec::new(),
            simulated_roots: Vec::new(),
            snp: SnpConfig::default(),
            tdx: TdxConfig::default(),
        };
        init(options, UnixSeconds(wall())).await.unwrap();
        let member = Self::opened(name(domain), folder, None, 0).await;
        member.renew(1).await.unwrap();
        member
    }

    /// Opened on what is in the folder, at an address that it had before.
    async fn opened(domain: DomainName, folder: tempfile::TempDir, at: Option<SocketAddr>, ahead_s: u64) -> Self {
        let state = StateFolder::open(&folder.path().join("state")).unwrap();
        let config = Config::load(&state.config_path(), []).unwrap();
        let open = open_store(&state, &config).await.unwrap();
        let ahead_s = Arc::new(AtomicU64::new(ahead_s));
        let ahead = ahead_s.clone();
        let now = Arc::new(move || Ok(UnixSeconds(wall() + ahead.load(Ordering::Relaxed))));
        let parts = parts(&state, &config, Live::default()).unwrap();
        let governor = Governor::open(parts, &open.opened.store, &open.opened.log, now().unwrap()).await.unwrap();
        let following = Following::new(domain.clone(), governor.clone(), now, Vec::new());
        let key = read_signing_key(&folder.path().join("state/authority/authority-1.key")).unwrap();
        let address = at.unwrap_or("127.0.0.1:0".parse().unwrap());
        let mut member =
            Self { domain, folder, key, governor, following, address, ahead_s, open, follows: None, serves: None };
        member.serve(|routes| routes).await;
        let (stop, stopped) = oneshot::channel();
        let run = member.following.clone().run(async move { drop(stopped.await) });
        member.follows = Some(Running { stop, task: tokio::spawn(run) });
        member
    }

    /// Serves, with these routes around the genuine ones.
    pub(crate) async fn serve(&mut self, bent: impl FnOnce(Router) -> Router) {
        let tcp = bound(self.address).await;
        self.address = tcp.local_addr().unwrap();
        let state = self.state();
        let (certificate, key) = state.certificate_authority().unwrap();
        let ca = CertificateAuthority::open(self.domain.clone(), &certificate, &key).unwrap();
        let serving = ca.server_key(&["localhost".to_owned()], [7; 16], UnixSeconds(wall())).unwrap();
        let routes = surface::routes(Surface {
            governor: self.governor.clone(),
            store: self.open.opened.store.clone(),
            log: self.open.opened.log.clone(),
            tiles: state.tiles(),
            sync: self.following.clone(),
        });
        let (stop, stopped) = oneshot::channel();
        let routes = surface::guarded(bent(routes));
        let stopped = async move { drop(stopped.await) };
        let task = tokio::spawn(async move {
            listener::serve(tcp, ServingCertificate::new(serving), CAPS, routes, stopped).await.unwrap();
        });
        self.serves = Some(Running { stop, task });
    }

    /// Nobody answers at its address any more.
    pub(crate) async fn unreachable(&mut self) {
        self.serves.take().unwrap().ended().await;
    }

    /// Ends; the folder stays.
    pub(crate) async fn stopped(mut self) -> Stopped {
        self.unreachable().await;
        self.follows.take().unwrap().ended().await;
        let Self { domain, folder, governor, following, address, ahead_s, open, .. } = self;
        // Tasks of the partners hold the store until they have ended.
        drop((governor, following));
        open.opened.close().await;
        Stopped { domain, folder, address, ahead_s: ahead_s.load(Ordering::Relaxed) }
    }

    /// Store and log.
    pub(crate) fn tables(&self) -> &verifier::log::Opened {
        &self.open.opened
    }

    /// The clock as its tasks read it.
    pub(crate) fn clock(&self) -> verifier::federation::sync::Now {
        let ahead = self.ahead_s.clone();
        Arc::new(move || Ok(UnixSeconds(wall() + ahead.load(Ordering::Relaxed))))
    }

    pub(crate) fn now(&self) -> UnixSeconds {
        UnixSeconds(wall() + self.ahead_s.load(Ordering::Relaxed))
    }

    /// Its clock goes on by that much at once.
    pub(crate) fn later_s(&self, seconds: u64) {
        self.ahead_s.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> StateFolder {
        StateFolder::open(&self.folder.path().join("state")).unwrap()
    }

    /// Signs and takes the next bundle.
    pub(crate) async fn renew(&self, refresh_hint_s: u64) -> Result<Vec<Vec<u8>>, OrderRefusal> {
        let held = self.governor.current().bundle.verified.bundle().clone();
        let now = self.now();
        let (sequence, expires_at) = (held.sequence + 1, now.plus(3600));
        let next = TrustBundle { sequence, issued_at: now, expires_at, refresh_hint_s, ..held };
        let signed = vec![next.sign(&self.key).unwrap()];
        self.governor.import_bundle(&signed, now).await?;
        Ok(signed)
    }

    pub(crate) async fn order(&self, order: Order, bundle: &[Vec<u8>]) -> Result<Obeyed, OrderRefusal> {
        let now = self.now();
        let statement = Statement {
            version: STATEMENT_VERSION,
            domain: self.domain.clone(),
            sequence: self.governor.next_statement_sequence().await,
            order,
            reason: Text::new("test").unwrap(),
            issued_at: now,
            expires_at: now.plus(600),
        };
        self.governor.obey_with(&[statement.sign(&self.key).unwrap()], bundle, now).await
    }

    pub(crate) fn trusted(&self, other: &Self) -> TrustedDomain {
        TrustedDomain {
            domain: other.domain.clone(),
            bundle: other.governor.current().bundle.verified.digest(),
            endpoint: PartnerEndpoint {
                url: Text::new(format!("https://{}", other.address)).unwrap(),
                profile: EndpointProfile::HttpsSpiffe,
            },
            grant: grant(),
        }
    }

    pub(crate) async fn trust(&self, other: &Self) {
        let bundle = other.governor.current().bundle.signatures.clone();
        self.order(Order::TrustDomain(Box::new(self.trusted(other))), &bundle).await.unwrap();
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.governor.current().state.state().epoch
    }

    /// What the other stands for here, now.
    pub(crate) fn standing(&self, other: &str) -> Standing {
        self.governor.partners().partner(&name(other)).unwrap().partner.standing(self.now())
    }

    /// Why nothing of the other may be relied on now.
    pub(crate) fn denial(&self, other: &str) -> GovernanceDenial {
        self.governor.partners().partner(&name(other)).unwrap().fresh(self.now()).unwrap_err()
    }

    /// Epoch of the other that is held here.
    pub(crate) fn held_epoch(&self, other: &str) -> u64 {
        let partners = self.governor.partners();
        partners.partner(&name(other)).unwrap().partner.state().map_or(0, |state| state.state().epoch)
    }

    /// Waits until it is so.
    pub(crate) async fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let waited = async {
            while !so(self) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(WITHIN, waited).await.is_err() {
            let partners = self.governor.partners();
            let now = self.now();
            let told: Vec<_> = partners
                .all()
                .map(|held| {
                    let domain = held.partner.domain();
                    (domain.clone(), held.partner.standing(now), self.following.followup(domain))
                })
                .collect();
            panic!("{}: {what} did not come about: {told:#?}", self.domain);
        }
    }

    /// What a stranger gets who knows the CA and asks by HTTP/1.1: status and body.
    pub(crate) async fn get(&self, request: &[u8]) -> (u16, Vec<u8>) {
        use rustls::pki_types::{CertificateDer, ServerName};
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut roots = rustls::RootCertStore::empty();
        let (certificate, _) = self.state().certificate_authority().unwrap();
        roots.add(CertificateDer::from(certificate)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        let tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let server = ServerName::try_from("localhost").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(server, tcp).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        (status, answer.split_off(end + 4))
    }

    /// Codes of what was logged of the other, oldest first.
    pub(crate) async fn logged(&self, other: &str) -> Vec<String> {
        let entries = self.open.opened.log.entries_about(&format!("partner:{other}")).await.unwrap();
        let keys = evidence::cose::KeySet::new([self.state().key(verifier::state::KeyFile::Issuer).unwrap().public()]);
        let code = |entry: verifier::log::Entry| {
            let record = audit::record::VerifiedRecord::verify(&entry.bytes, &self.domain, &keys).unwrap();
            let audit::record::RecordBody::Federation { code, .. } = record.record().body.clone() else {
                panic!("{:?}", record.record())
            };
            code.to_string()
        };
        entries.into_iter().map(code).collect()
    }
}

/// A domain that is not running.
pub(crate) struct Stopped {
    domain: DomainName,
    folder: tempfile::TempDir,
    address: SocketAddr,
    ahead_s: u64,
}

impl Stopped {
    /// A copy of everything that it has, as a backup holds it.
    pub(crate) async fn backup(&self) -> tempfile::TempDir {
        // Nobody writes any more, but the last reader takes the write-ahead log with it: then it is copied once more.
        let copied = async {
            loop {
                let copy = tempfile::tempdir().unwrap();
                if copy_folder(&self.folder.path().join("state"), &copy.path().join("state")).is_ok() {
                    return copy;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let copy = tokio::time::timeout(WITHIN, copied).await.unwrap();
        // The configuration names the store by its place.
        let config = copy.path().join("state/verifier.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let (from, to) = (self.folder.path().display().to_string(), copy.path().display().to_string());
        std::fs::write(&config, text.replace(&from, &to)).unwrap();
        copy
    }

    /// Changes its tables behind its back.
    pub(crate) async fn bent(&self, statement: &'static str) {
        use sqlx::Connection as _;
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}", self.folder.path().join("state/verifier.db").display());
        let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// Why it does not start.
    pub(crate) async fn refusal(&self) -> OrderRefusal {
        let state = StateFolder::open(&self.folder.path().join("state")).unwrap();
        let config = Config::load(&state.config_path(), []).unwrap();
        let open = open_store(&state, &config).await.unwrap();
        let parts = parts(&state, &config, Live::default()).unwrap();
        let opened = Governor::open(parts, &open.opened.store, &open.opened.log, UnixSeconds(wall())).await;
        let refusal = opened.err().unwrap();
        open.opened.close().await;
        refusal
    }

    pub(crate) async fn started(self) -> Member {
        Member::opened(self.domain, self.folder, Some(self.address), self.ahead_s).await
    }

    /// Started with what a backup holds in the place of what it has.
    pub(crate) async fn restored(self, backup: tempfile::TempDir) -> Member {
        Member::opened(self.domain, backup, Some(self.address), self.ahead_s).await
    }
}

fn copy_folder(from: &std::path::Path, to: &PathBuf) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

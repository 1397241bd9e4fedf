//! `verifier init`: everything that `serve` needs and will not make by itself. The
//! only place where keys come into being, and it overwrites nothing.

use std::path::{Path, PathBuf};

use evidence::cbor;
use evidence::cose::{PublicKey, SigningKey};
use evidence::names::DomainName;
use evidence::threshold::{Authority, AuthorityError};
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::trust_bundle::{BUNDLE_VERSION, KeyRecord, TrustBundle};
use serde_bytes::ByteBuf;

use crate::ca::{CaError, CertificateAuthority};
use crate::config::{
    Admission, AuthorityConfig, Config, EndorsementsConfig, FederationConfig, GovernanceConfig, LeaseConfig,
    LimitsConfig, ListenConfig, LogConfig, NodesConfig, SnpConfig, TdxConfig, TpmConfig,
};
use crate::governor::OrderRefusal;
use crate::open::OpenError;
use crate::pin::PinFile;
use crate::state::{KeyFile, StateError, StateFolder, fresh_secret, fresh_signing_key, write_new, write_signing_key};
use crate::store::{Database, StoreError, create};

mod found;

/// What to make.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The domain.
    pub domain: DomainName,
    /// Where: must not exist, or be empty.
    pub state: PathBuf,
    /// A lab: one authority key, made here, threshold 1.
    pub lab: bool,
    /// Where the tables go; an SQLite file in the state folder when not given.
    pub store: Option<String>,
    /// A folder, not in the state folder, in which to make the policy authority's keys.
    pub authority_folder: Option<PathBuf>,
    /// How many of them must sign.
    pub threshold: u8,
    /// How many partners' witnesses must have cosigned the log before anything is released; 0 for a lab alone.
    pub witness_quorum: usize,
    /// Where to listen.
    pub listen: ListenConfig,
    /// What to publish for other domains, and where.
    pub federation: Option<FederationConfig>,
    /// Manufacturer root certificates.
    pub tpm_roots: Vec<PathBuf>,
    /// Software TPM root certificates; lab only.
    pub simulated_roots: Vec<PathBuf>,
    /// What SNP guests are trusted by.
    pub snp: SnpConfig,
    /// What trust domains are trusted by.
    pub tdx: TdxConfig,
}

/// Why nothing, or not everything, was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Options that contradict each other.
    #[error("{0}")]
    Usage(String),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Opening what was just made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The certificate authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The trust bundle or the first governance state.
    #[error(transparent)]
    Governance(#[from] GovernanceDenial),
    /// The policy authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The first governance state.
    #[error(transparent)]
    Order(#[from] OrderRefusal),
    /// A record could not be encoded.
    #[error(transparent)]
    Encoding(#[from] cbor::CborError),
    /// The policy set that a new domain starts with.
    #[error(transparent)]
    Policy(#[from] policy::set::PolicySetError),
    /// A signature.
    #[error(transparent)]
    Signature(#[from] evidence::cose::CoseDenial),
    /// The configuration could not be written.
    #[error("writing the configuration: {0}")]
    Config(#[from] toml::ser::Error),
}

/// What was made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Initialised {
    /// The domain.
    pub domain: DomainName,
    /// The state folder.
    pub state: PathBuf,
    /// The configuration.
    pub config: PathBuf,
    /// The CA certificate that nodes are given (PEM).
    pub ca: PathBuf,
    /// Private keys of the policy authority.
    pub authority_keys: Vec<PathBuf>,
    /// How many of the authority's keys must sign.
    pub threshold: u8,
}

/// Makes a domain's state.
pub async fn init(options: InitOptions, now: UnixSeconds) -> Result<Initialised, InitError> {
    if options.witness_quorum == 0 && !options.lab {
        return Err(InitError::Usage("only a lab releases what no witness cosigned: --witness-quorum 1".to_owned()));
    }
    let state = StateFolder::create(&options.state)?;
    let authority = AuthorityKeys::of(&options, &state)?;
    for folder in ["keys", "tiles"] {
        state.make(folder)?;
    }
    let issuer = fresh_signing_key()?;
    let log_key = fresh_signing_key()?;
    let witness = fresh_signing_key()?;
    state.write_key(KeyFile::Issuer, &issuer)?;
    state.write_key(KeyFile::Log, &log_key)?;
    state.write_key(KeyFile::Witness, &witness)?;
    state.make_ear_key()?;
    let jwt = state.make_jwt_key()?;
    let (ca, ca_key) = CertificateAuthority::create(&options.domain, now)?;
    write_new(&state.join("keys/ca.key"), &ca_key, 0o600)?;
    write_new(&state.join("ca.der"), &ca, 0o644)?;
    write_new(&state.join("ca.pem"), pem(&ca).as_bytes(), 0o644)?;
    write_new(&state.join("kek"), fresh_secret()?.as_slice(), 0o600)?;
    let instance = hex::encode(fresh_secret()?.as_slice());
    write_new(&state.join("instance"), instance.as_bytes(), 0o600)?;

    let config = config(&options, &state, &authority);
    let text = toml::to_string(&config)?;
    write_new(&state.config_path(), format!("{CONFIG_HEAD}{text}").as_bytes(), 0o600)?;
    let pin = toml::to_string(&PinFile::of(&options.domain, &authority.authority))?;
    write_new(&state.join("pin.toml"), pin.as_bytes(), 0o644)?;
    let bundle = bundle(
        &options.domain,
        &authority.authority,
        [issuer.public(), log_key.public(), witness.public(), jwt.public()],
        ca,
        &config.log.origin,
        now,
    );
    let signatures = authority.keys.iter().map(|key| bundle.sign(key)).collect::<Result<Vec<_>, _>>()?;
    create(&Database::at(&config.store)?, options.domain.as_str(), &instance).await?;
    found::finish(&state, &config, signatures, &authority.keys, now).await?;
    Ok(Initialised {
        domain: options.domain,
        config: state.config_path(),
        ca: state.join("ca.pem"),
        state: options.state,
        authority_keys: authority.files,
        threshold: authority.authority.threshold().get(),
    })
}

/// The policy authority, with the private keys that were made for it.
struct AuthorityKeys {
    authority: Authority,
    keys: Vec<SigningKey>,
    files: Vec<PathBuf>,
}

impl AuthorityKeys {
    fn of(options: &InitOptions, state: &StateFolder) -> Result<Self, InitError> {
        let usage = |text: &str| Err(InitError::Usage(text.to_owned()));
        if options.lab {
            let folder = state.make("authority")?;
            return Self::made(&folder, 1, 1);
        }
        if options.threshold < 2 {
            return usage("outside a lab at least two authority keys must sign: --threshold 2");
        }
        let (snp, tdx) = (&options.snp.simulated_roots, &options.tdx.simulated_roots);
        if !(options.simulated_roots.is_empty() && snp.is_empty() && tdx.is_empty()) {
            return usage("roots of software TPMs and simulated processors are for a lab: --lab");
        }
        match &options.authority_folder {
            None => usage("name a folder for the policy authority's keys: --authority-dir DIR"),
            Some(folder) if folder.starts_with(&options.state) => {
                usage("the authority's keys do not belong in the verifier's state folder")
            }
            Some(folder) => {
                let folder = StateFolder::create(folder)?;
                Self::made(folder.path(), options.threshold, options.threshold.saturating_add(1))
            }
        }
    }

    fn made(folder: &Path, threshold: u8, count: u8) -> Result<Self, InitError> {
        let (mut keys, mut files) = (Vec::new(), Vec::new());
        for number in 1..=count {
            let key = fresh_signing_key()?;
            let file = folder.join(format!("authority-{number}.key"));
            write_signing_key(&file, &key)?;
            let public = format!("{}\n", hex::encode(key.public().cose_key()));
            write_new(&folder.join(format!("authority-{number}.pub")), public.as_bytes(), 0o644)?;
            keys.push(key);
            files.push(file);
        }
        let authority = Authority::new(keys.iter().map(|key| key.public().clone()).collect(), threshold)?;
        Ok(Self { authority, keys, files })
    }
}

fn config(options: &InitOptions, state: &StateFolder, authority: &AuthorityKeys) -> Config {
    let store = options.store.clone();
    let store = store.unwrap_or_else(|| format!("sqlite://{}", state.join("verifier.db").display()));
    Config {
        domain: options.domain.clone(),
        lab: options.lab,
        store,
        listen: options.listen.clone(),
        authority: AuthorityConfig {
            threshold: authority.authority.threshold(),
            keys: authority.authority.keys().to_vec(),
        },
        tpm: TpmConfig {
            roots: options.tpm_roots.clone(),
            simulated_roots: options.simulated_roots.clone(),
            intermediates: Vec::new(),
            revoked: std::collections::BTreeSet::new(),
        },
        snp: options.snp.clone(),
        tdx: options.tdx.clone(),
        nodes: NodesConfig { admission: Admission::Endorsed },
        lease: LeaseConfig { length_ms: 30_000 },
        governance: GovernanceConfig { state_lifetime_s: 3_600, reference_grace_s: 0 },
        references: None,
        log: LogConfig { origin: format!("{}/log", options.domain), witness_quorum: options.witness_quorum },
        limits: LimitsConfig::default(),
        endorsements: EndorsementsConfig::default(),
        federation: options.federation.clone(),
    }
}

fn bundle(
    domain: &DomainName,
    authority: &Authority,
    [issuer, log, witness, jwt]: [&PublicKey; 4],
    ca: Vec<u8>,
    log_origin: &str,
    now: UnixSeconds,
) -> TrustBundle {
    let until = now.plus(BUNDLE_LIFETIME_S);
    let record = |key: &PublicKey| vec![KeyRecord { key: key.clone(), from: now, until }];
    TrustBundle {
        version: BUNDLE_VERSION,
        domain: domain.clone(),
        sequence: 1,
        issued_at: now,
        expires_at: until,
        refresh_hint_s: 300,
        issuer: record(issuer),
        log_origin: log_origin.to_owned(),
        log: record(log),
        witness: record(witness),
        jwt: record(jwt),
        ca: vec![ByteBuf::from(ca)],
        authority: authority.clone(),
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = encoded.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

const CONFIG_HEAD: &str = "\
# What this domain trusts and enforces. `verifier config check` says it in words.
# Unknown keys are refused; nothing that decides whom to trust has a default.

";

/// The domain's own keys: replaced by rotation, not by expiry.
const BUNDLE_LIFETIME_S: u64 = 365 * 24 * 3600;

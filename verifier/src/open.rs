//! From a state folder to an open verifier: lock, store, log, rules. Whatever is
//! missing, readable by others or older than what was published refuses here.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

pub(crate) use crate::anchors::certificates;
use crate::anchors::{AnchorsFault, ConfiguredAnchors};
use crate::ca::{CaError, CertificateAuthority};
use crate::config::{Config, ConfigError, WebConfig};
use crate::endorsements::EndorsementStore;
use crate::governor::GovernorParts;
use crate::live::Live;
use crate::log::{CheckpointSigner, OpenOptions, Opened, open};
use crate::online_keys::{ActiveKey, Authorities, Issuer, JwtKey};
use crate::state::{KeyFile, StateError, StateFolder, fresh_secret, read_secret};
use crate::store::{Database, StateLock, Store, StoreError};

/// Why a verifier does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store or the log.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The trust anchors.
    #[error(transparent)]
    Anchors(#[from] AnchorsFault),
    /// The certificate authority.
    #[error(transparent)]
    Authority(#[from] CaError),
    /// The certificates that endorsement caches are known by.
    #[error("endorsements.cache_roots: {0}")]
    CacheRoots(String),
    /// The certificate that the public listener serves with.
    #[error("federation.web: {0}")]
    Web(String),
    /// The store belongs to another domain.
    #[error("the store is of domain {store}, the configuration says {config}")]
    OtherDomain {
        /// Domain in the store.
        store: String,
        /// Domain configured.
        config: String,
    },
}

/// An open store with the lock that keeps others off it.
#[derive(Debug)]
pub struct OpenVerifier {
    /// Held until the process ends or the store is closed.
    pub lock: StateLock,
    /// The store and its log.
    pub opened: Opened,
}

/// Takes the lock and opens store and log.
pub async fn open_store(state: &StateFolder, config: &Config) -> Result<OpenVerifier, OpenError> {
    let lock = StateLock::take(state.path())?;
    let options = OpenOptions {
        database: Database::at(&config.store)?,
        instance: state.instance()?,
        holder: hex::encode(fresh_secret()?.as_slice()),
        tiles: state.tiles(),
        signer: checkpoint_signer(state, config)?,
    };
    let opened = open(options).await?;
    if opened.settings.domain != config.domain.as_str() {
        let (store, config) = (opened.settings.domain.clone(), config.domain.to_string());
        opened.close().await;
        return Err(OpenError::OtherDomain { store, config });
    }
    Ok(OpenVerifier { lock, opened })
}

/// The endorsement store over open tables.
pub fn endorsement_store(config: &Config, store: &Store) -> Result<EndorsementStore, OpenError> {
    let roots = config.endorsements.cache_roots.iter().map(|path| certificates(path));
    let roots = roots.collect::<Result<Vec<_>, _>>()?.concat();
    EndorsementStore::new(store.clone(), &config.endorsements, &roots).map_err(OpenError::CacheRoots)
}

/// The certificate of the web's PKI that the public listener serves with.
pub(crate) fn web_key(web: &WebConfig) -> Result<Arc<CertifiedKey>, OpenError> {
    let unusable = |what: String| OpenError::Web(what);
    let chain = certificates(&web.certificate)?.into_iter().map(CertificateDer::from).collect();
    let pem = read_secret(&web.key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unusable(error.to_string()))?;
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|error| unusable(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| unusable(error.to_string()))?;
    Ok(Arc::new(certified))
}

/// The log key, with its origin line.
pub fn checkpoint_signer(state: &StateFolder, config: &Config) -> Result<CheckpointSigner, OpenError> {
    let signer = CheckpointSigner::new(&config.log.origin, Arc::new(state.key(KeyFile::Log)?))?;
    // The published checkpoint may still be of the key before.
    signer.learn(state.previous_key(KeyFile::Log)?.iter());
    Ok(signer)
}

/// What a governor is made of, from the state folder and the configuration.
pub fn parts(state: &StateFolder, config: &Config, live: Live) -> Result<GovernorParts, OpenError> {
    let (certificate, key) = state.certificate_authority()?;
    Ok(GovernorParts {
        domain: config.domain.clone(),
        authority: config.authority()?,
        bundle: state.trust_bundle()?,
        issuer: Issuer::new(state.key(KeyFile::Issuer)?),
        witness: ActiveKey::new(state.key(KeyFile::Witness)?),
        ca: Authorities::new(CertificateAuthority::open(config.domain.clone(), &certificate, &key)?),
        jwt: JwtKey::new(state.jwt_key()?),
        files: state.clone(),
        lease_s: config.lease.length_ms.div_ceil(1000),
        anchors: ConfiguredAnchors::read(config)?,
        state_lifetime_s: config.governance.state_lifetime_s,
        reference_grace_s: config.governance.reference_grace_s,
        reference_signers: config.reference_signers()?,
        live,
    })
}

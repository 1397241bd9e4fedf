//! The keys that this service signs with. They are replaced while it serves: whoever signs takes the active one at that
//! moment, and whoever reads what we once signed knows all that ever were.

use std::sync::{Arc, PoisonError, RwLock};

use evidence::cose::{KeySet, PublicKey, SigningKey};
use governance::rotation::{OnlineRole, authority_name};
use rustls::pki_types::CertificateDer;
use serde_bytes::ByteBuf;
use tokio::sync::watch;

use crate::ca::CertificateAuthority;
use crate::es256::Es256Key;
use crate::log::CheckpointSigner;

/// A key that signs until another takes its place. Clones share it.
#[derive(Clone)]
pub struct ActiveKey(Arc<RwLock<Arc<SigningKey>>>);

impl ActiveKey {
    /// Signs with `key` from now on.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(key))))
    }

    /// The key that signs now.
    #[must_use]
    pub fn signing(&self) -> Arc<SigningKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Signs with another key from now on.
    pub(crate) fn activate(&self, key: SigningKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }

    fn kid(&self) -> String {
        self.signing().public().kid().to_string()
    }
}

/// The issuer: its key, and every key that ever was, by which our own records are read. Clones share both.
#[derive(Clone)]
pub struct Issuer {
    active: ActiveKey,
    known: Arc<RwLock<Arc<KeySet>>>,
}

impl Issuer {
    /// An issuer that never had another key.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        let known = Arc::new(RwLock::new(Arc::new(KeySet::new([key.public()]))));
        Self { active: ActiveKey::new(key), known }
    }

    /// The key that signs now.
    #[must_use]
    pub fn signing(&self) -> Arc<SigningKey> {
        self.active.signing()
    }

    /// Every key that signed, or was announced: for reading what we keep, never for what comes from elsewhere.
    #[must_use]
    pub fn known(&self) -> Arc<KeySet> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn<'k>(&self, keys: impl Iterator<Item = &'k PublicKey>) {
        let mut known: Vec<PublicKey> = keys.cloned().collect();
        known.push(self.signing().public().clone());
        let known = KeySet::new(&known);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
    }
}

/// The CA as it is now.
#[derive(Clone)]
pub struct AuthorityNow {
    /// Makes certificates.
    pub active: Arc<CertificateAuthority>,
    /// Whose certificates are accepted.
    pub trusted: Arc<Vec<CertificateDer<'static>>>,
}

/// The CA, and those whose certificates are still accepted, or already. Clones share it.
#[derive(Clone)]
pub struct Authorities(Arc<watch::Sender<AuthorityNow>>);

impl Authorities {
    /// A CA that never had another key.
    #[must_use]
    pub fn new(active: CertificateAuthority) -> Self {
        let trusted = Arc::new(vec![active.certificate().clone()]);
        Self(Arc::new(watch::Sender::new(AuthorityNow { active: Arc::new(active), trusted })))
    }

    /// The one that makes certificates now.
    #[must_use]
    pub fn active(&self) -> Arc<CertificateAuthority> {
        self.0.borrow().active.clone()
    }

    /// Wakes when any of it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<AuthorityNow> {
        self.0.subscribe()
    }

    fn trust(&self, certificates: &[ByteBuf]) {
        let trusted: Vec<_> =
            certificates.iter().map(|der| CertificateDer::from(der.as_slice()).into_owned()).collect();
        self.0.send_if_modified(|now| {
            let differs = *now.trusted != trusted;
            if differs {
                now.trusted = Arc::new(trusted);
            }
            differs
        });
    }

    /// Makes certificates by another key from now on.
    pub(crate) fn activate(&self, authority: CertificateAuthority) {
        self.0.send_modify(|now| now.active = Arc::new(authority));
    }
}

/// The key that signs JWT-SVIDs; none in a domain from before there were any, until one is activated. Clones share it.
#[derive(Clone, Default)]
pub struct JwtKey(Arc<RwLock<Option<Arc<Es256Key>>>>);

impl JwtKey {
    /// Signs with `key` from now on.
    #[must_use]
    pub fn new(key: Option<Es256Key>) -> Self {
        Self(Arc::new(RwLock::new(key.map(Arc::new))))
    }

    /// The key that signs now.
    #[must_use]
    pub fn signing(&self) -> Option<Arc<Es256Key>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Signs with another key from now on.
    pub fn activate(&self, key: Es256Key) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key));
    }
}

/// All of them. Clones share them.
#[derive(Clone)]
pub struct OnlineKeys {
    /// Signs artifacts, results, governance states and records.
    pub issuer: Issuer,
    /// Cosigns partners' checkpoints.
    pub witness: ActiveKey,
    /// Makes certificates.
    pub ca: Authorities,
    /// Signs our log's checkpoints.
    pub log: CheckpointSigner,
    /// Signs JWT-SVIDs.
    pub jwt: JwtKey,
}

impl OnlineKeys {
    /// What the active key of a role is called in bundles; none where no key was ever active.
    #[must_use]
    pub fn active(&self, role: OnlineRole) -> Option<String> {
        match role {
            OnlineRole::Issuer => Some(self.issuer.active.kid()),
            OnlineRole::Log => Some(self.log.signing().public().kid().to_string()),
            OnlineRole::Witness => Some(self.witness.kid()),
            OnlineRole::Ca => Some(authority_name(self.ca.active().certificate())),
            OnlineRole::Jwt => self.jwt.signing().map(|key| key.public().kid().to_string()),
        }
    }

    /// Learns what our bundles say, ascending: every key that ever was in one, and whose certificates count now.
    pub(crate) fn learn<'b>(&self, bundles: impl Iterator<Item = &'b governance::trust_bundle::TrustBundle> + Clone) {
        self.issuer.learn(bundles.clone().flat_map(|bundle| &bundle.issuer).map(|record| &record.key));
        self.log.learn(bundles.clone().flat_map(|bundle| &bundle.log).map(|record| &record.key));
        if let Some(newest) = bundles.last() {
            self.ca.trust(&newest.ca);
        }
    }
}

impl Issuer {
    /// Signs with another key from now on, which was announced and so is known.
    pub(crate) fn activate(&self, key: SigningKey) {
        self.active.activate(key);
    }
}

impl std::fmt::Debug for OnlineKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnlineKeys(..)")
    }
}

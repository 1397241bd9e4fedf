//! `[federation]`: what this domain publishes for others, and where. Whom it trusts is never configured: that takes an
//! order of the policy authority.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, value_error};

/// `[federation]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FederationConfig {
    /// Where bundles, states and the log are served to everybody, by HTTPS.
    pub listen: SocketAddr,
    /// DNS names and addresses in the certificate that our own CA makes for it.
    pub names: Vec<String>,
    /// A certificate chain of the web's PKI to serve with in its place (PEM file), and its private key (PKCS#8 PEM file).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<WebConfig>,
    /// CA certificates (PEM or DER files) by which partners with an endpoint of profile `https_web` are known.
    #[serde(default)]
    pub web_roots: Vec<PathBuf>,
}

/// `[federation.web]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebConfig {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key; readable by this user alone.
    pub key: PathBuf,
}

impl FederationConfig {
    pub(super) fn anchor_paths(&mut self, base: &Path) {
        let web = self.web.iter_mut().flat_map(|web| [&mut web.certificate, &mut web.key]);
        for path in self.web_roots.iter_mut().chain(web) {
            *path = base.join(&*path);
        }
    }

    pub(super) fn refuse_contradictions(&self) -> Result<(), ConfigError> {
        if self.names.is_empty() {
            return Err(value_error("federation.names", "a server certificate needs at least one name"));
        }
        Ok(())
    }

    pub(super) fn in_words(&self) -> Vec<String> {
        let by = match &self.web {
            Some(_) => "a certificate of the web's PKI",
            None => "a certificate of the domain's own CA with the verifier's SPIFFE ID",
        };
        vec![format!(
            "Trust bundle, governance states, revocations and log are published to everybody on {} as {}, with {by}.",
            self.listen,
            self.names.join(", ")
        )]
    }
}

//! `verifier.toml`: unknown keys are refused, and whatever decides whom or what this domain trusts has no default.
//!
//! Caps and deadlines have defaults; they can make the service refuse more, never accept more.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

use evidence::cose::PublicKey;
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use evidence::threshold::Authority;
use serde::{Deserialize, Serialize};

use crate::governor::ReferenceSigners;

mod endorsements;
mod federation;
mod overrides;
mod references;
mod snp;
mod tdx;
mod words;

pub use endorsements::{CacheUrl, EndorsementsConfig};
pub use federation::{FederationConfig, WebConfig};
pub use references::ReferencesConfig;
pub use snp::SnpConfig;
pub use tdx::TdxConfig;

/// Largest configuration file.
pub const CONFIG_CAP_BYTES: u64 = 256 * 1024;

/// Why a configuration was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("reading configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is larger than [`CONFIG_CAP_BYTES`].
    #[error("configuration {path} has {got_bytes} bytes, at most {CONFIG_CAP_BYTES} are read")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        got_bytes: u64,
    },
    /// Not TOML, an unknown key, a missing key or a value of another type.
    #[error("configuration {path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value contradicts the rules written next to it.
    #[error("configuration key {key}: {why}")]
    Value {
        /// The key, dotted.
        key: String,
        /// The rule.
        why: String,
    },
    /// A `VERIFIER_*` variable names no key.
    #[error("environment variable {name} overrides no configuration key")]
    UnknownOverride {
        /// Its name.
        name: String,
    },
}

/// The whole configuration of one domain's verifier.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The domain.
    pub domain: DomainName,
    /// DANGER: a lab domain accepts software TPMs under `tpm.simulated_roots`.
    pub lab: bool,
    /// Where the tables are: `sqlite:///path` or `postgres://…`.
    pub store: String,
    /// Where peers are served.
    pub listen: ListenConfig,
    /// The policy authority.
    pub authority: AuthorityConfig,
    /// What TPMs are trusted by.
    pub tpm: TpmConfig,
    /// What SNP guests are trusted by.
    #[serde(default)]
    pub snp: SnpConfig,
    /// What trust domains are trusted by.
    #[serde(default)]
    pub tdx: TdxConfig,
    /// Who may attest after enrolment.
    pub nodes: NodesConfig,
    /// Authorizations and leases.
    pub lease: LeaseConfig,
    /// The domain's governance state.
    pub governance: GovernanceConfig,
    /// Who may sign reference values for which environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub references: Option<ReferencesConfig>,
    /// The transparency log.
    pub log: LogConfig,
    /// Caps against overload.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Vendors' certificates and collateral.
    #[serde(default)]
    pub endorsements: EndorsementsConfig,
    /// What is published for other domains; nothing without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation: Option<FederationConfig>,
}

/// `[listen]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// Any client, server TLS only: enrolment.
    pub enrolment: SocketAddr,
    /// Client certificate demanded: attestation.
    pub nodes: SocketAddr,
    /// Health and metrics; none without it.
    pub admin: Option<SocketAddr>,
    /// DNS names and addresses in the server's certificate.
    pub names: Vec<String>,
}

/// `[authority]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityConfig {
    /// How many distinct keys must sign.
    pub threshold: NonZeroU8,
    /// The keys (COSE_Key, hexadecimal).
    pub keys: Vec<PublicKey>,
}

/// `[tpm]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmConfig {
    /// Manufacturer root certificates (PEM or DER files).
    pub roots: Vec<PathBuf>,
    /// Root certificates of software TPMs (PEM or DER files); only with `lab = true`.
    pub simulated_roots: Vec<PathBuf>,
    /// Intermediate certificates for nodes that send only their EK certificate (PEM or DER files).
    #[serde(default)]
    pub intermediates: Vec<PathBuf>,
    /// SHA-256 of certificates, public keys or EKs that are never trusted again.
    pub revoked: BTreeSet<Sha256Digest>,
}

/// `[nodes]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodesConfig {
    /// Who decides that an enrolled node may attest.
    pub admission: Admission,
}

/// Who decides that an enrolled node may attest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// A manufacturer's chain, or an operator's `node admit` of its EK.
    Endorsed,
    /// An operator's `node admit`, in every case.
    Operator,
}

/// `[lease]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseConfig {
    /// How long a node may run without fresh evidence.
    pub length_ms: u64,
}

/// `[governance]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GovernanceConfig {
    /// How long a governance state is fresh; renewed at half of it.
    pub state_lifetime_s: u64,
    /// How long a superseded reference value set still matches, where the operator orders nothing else.
    pub reference_grace_s: u64,
}

/// `[log]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Origin line of the checkpoints.
    pub origin: String,
    /// How many partners' witnesses must have cosigned a checkpoint before anything under it is released.
    pub witness_quorum: usize,
}

/// Most witnesses that may be demanded.
pub const WITNESS_QUORUM_CAP: usize = 16;

/// `[limits]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Connections in all, per listener.
    pub connections: usize,
    /// Connections from one address, per listener.
    pub connections_per_address: usize,
    /// Appraisals at once.
    pub appraisals: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { connections: 4096, connections_per_address: 256, appraisals: 64 }
    }
}

impl Config {
    /// Reads `path`, applies `VERIFIER_*` overrides from `environment` and checks the whole.
    ///
    /// Relative paths in the file are relative to the file's folder.
    pub fn load(path: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
        let got_bytes = std::fs::metadata(path).map_err(read_error)?.len();
        if got_bytes > CONFIG_CAP_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned(), got_bytes });
        }
        let text = std::fs::read_to_string(path).map_err(read_error)?;
        let parse_error = |source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) };
        let mut table: toml::Table = toml::from_str(&text).map_err(parse_error)?;
        for (name, value) in environment {
            overrides::apply(&mut table, &name, &value)?;
        }
        let mut config: Self = table.try_into().map_err(parse_error)?;
        config.anchor_paths(path.parent().unwrap_or(Path::new(".")));
        config.refuse_contradictions()?;
        Ok(config)
    }

    /// The policy authority, checked.
    pub fn authority(&self) -> Result<Authority, ConfigError> {
        Authority::new(self.authority.keys.clone(), self.authority.threshold.get())
            .map_err(|error| value_error("authority", error.to_string()))
    }

    /// Whose signatures count for reference values.
    pub fn reference_signers(&self) -> Result<ReferenceSigners, ConfigError> {
        let authority = self.authority()?;
        self.references.as_ref().map_or(Ok(ReferenceSigners::Authority), |references| references.signers(&authority))
    }

    fn anchor_paths(&mut self, base: &Path) {
        let lists = [&mut self.tpm.roots, &mut self.tpm.simulated_roots, &mut self.tpm.intermediates];
        for path in lists.into_iter().flatten().chain(&mut self.endorsements.cache_roots) {
            *path = base.join(&*path);
        }
        self.snp.anchor_paths(base);
        self.tdx.anchor_paths(base);
        if let Some(federation) = &mut self.federation {
            federation.anchor_paths(base);
        }
    }

    fn refuse_contradictions(&self) -> Result<(), ConfigError> {
        self.reference_signers()?;
        if !self.lab && self.authority.threshold.get() < 2 {
            return Err(value_error("authority.threshold", "one signer alone may decide only in a lab domain"));
        }
        if !self.lab && !self.tpm.simulated_roots.is_empty() {
            return Err(value_error("tpm.simulated_roots", "software TPMs are trusted only in a lab domain"));
        }
        if !self.lab && self.log.witness_quorum == 0 {
            return Err(value_error("log.witness_quorum", "only a lab domain may release what no witness cosigned"));
        }
        if self.log.witness_quorum > WITNESS_QUORUM_CAP {
            return Err(value_error("log.witness_quorum", format!("must be at most {WITNESS_QUORUM_CAP}")));
        }
        self.snp.refuse_contradictions(self.lab)?;
        self.tdx.refuse_contradictions(self.lab)?;
        if crate::store::Engine::of(&self.store).is_none() {
            return Err(value_error("store", "must be sqlite:///PATH or postgres://…"));
        }
        if self.listen.names.is_empty() {
            return Err(value_error("listen.names", "a server certificate needs at least one name"));
        }
        let ranges = [
            ("lease.length_ms", self.lease.length_ms, 1_000, governance::artifact::LEASE_CAP_MS),
            ("governance.state_lifetime_s", self.governance.state_lifetime_s, 10, 24 * 3600),
            (
                "governance.reference_grace_s",
                self.governance.reference_grace_s,
                0,
                firmware_refs::lifecycle::GRACE_CAP_S,
            ),
        ];
        if let Some((key, got, min, max)) = ranges.into_iter().find(|(_, got, min, max)| got < min || got > max) {
            return Err(value_error(key, format!("is {got}, must be {min} to {max}")));
        }
        let limits = [
            ("limits.connections", self.limits.connections),
            ("limits.connections_per_address", self.limits.connections_per_address),
            ("limits.appraisals", self.limits.appraisals),
        ];
        if let Some((key, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
            return Err(value_error(key, "must not be 0"));
        }
        self.federation.as_ref().map_or(Ok(()), FederationConfig::refuse_contradictions)?;
        self.endorsements.refuse_contradictions()
    }
}

fn value_error(key: &str, why: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: key.to_owned(), why: why.into() }
}

//! `attestd.toml`: unknown keys are refused, and whatever decides whom or what this node trusts has no default.
//!
//! Operational keys (deadlines, intervals) have defaults; they can make the node slower or halt later within a lease,
//! never make it accept something.

mod identity;
mod overrides;
mod tpm;
mod words;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use evidence::kind::EvidenceKind;
use evidence::names::{DomainName, NodeId};
use governance::on_halt::OnHalt;
use serde::Deserialize;

pub use identity::{Identity, ReportsSource, TeeConfig};
pub use tpm::{EkKind, Tcti, TpmConfig};

/// Largest configuration file.
pub const CONFIG_CAP_BYTES: u64 = 64 * 1024;
/// PCRs that can be reset or are written at run time: never watched or bound to (APPRAISAL T11).
pub const UNBOUND_PCRS: [u8; 4] = [10, 14, 16, 23];

/// Why a configuration was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("reading configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
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
    /// An `ATTESTD_*` variable names no key.
    #[error("environment variable {name} overrides no configuration key")]
    UnknownOverride {
        /// Its name.
        name: String,
    },
}

fn value_error(key: &str, why: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: key.to_owned(), why: why.into() }
}

/// The whole configuration of one node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this node within its domains.
    pub node_id: NodeId,
    /// The TPM, the TEE or both that are this node's identity.
    pub identity: Identity,
    /// Measurement logs that go with a quote.
    pub logs: LogsConfig,
    /// Domains whose verifiers authorize executions here.
    pub domains: Vec<DomainConfig>,
    /// Local watch between renewals.
    pub watch: WatchConfig,
    /// What a halt does to running workloads.
    pub halt: HaltConfig,
    /// How workloads are started.
    pub gateway: GatewayConfig,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    node_id: NodeId,
    platform: Option<EvidenceKind>,
    tpm: Option<TpmConfig>,
    tee: Option<TeeConfig>,
    #[serde(default)]
    logs: LogsConfig,
    #[serde(rename = "domain")]
    domains: Vec<DomainConfig>,
    #[serde(default)]
    watch: WatchConfig,
    halt: HaltConfig,
    #[serde(default)]
    gateway: GatewayConfig,
}

/// `[logs]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogsConfig {
    /// TCG event log of this boot.
    pub event_log: Option<PathBuf>,
    /// IMA measurement list (ascii or binary).
    pub ima_log: Option<PathBuf>,
}

/// `[[domain]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainConfig {
    /// The domain; its verifier's SPIFFE ID follows from it.
    pub name: DomainName,
    /// `HOST:PORT` of the listener for enrolled nodes.
    pub nodes: String,
    /// `HOST:PORT` of the listener for enrolment.
    pub enrolment: String,
    /// DNS name or address that the verifier's certificate must carry.
    pub server_name: String,
    /// The domain's CA certificate (PEM): the only root accepted for this domain.
    pub ca: PathBuf,
}

/// `[watch]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// PCRs whose change halts at once (SHA-256 bank); none for a TEE without a TPM.
    #[serde(default)]
    pub pcrs: BTreeSet<u8>,
    /// How often the TPM's PCRs are read, or the TEE is looked for.
    #[serde(default = "default_watch_interval_ms")]
    pub interval_ms: u64,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { pcrs: BTreeSet::new(), interval_ms: default_watch_interval_ms() }
    }
}

/// `[halt]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaltConfig {
    /// What a halt does to an execution whose intent does not say.
    pub action: OnHalt,
    /// cgroup v2 directory, delegated to this user, under which each workload gets its own; without it, process groups.
    pub cgroup: Option<PathBuf>,
}

/// `[gateway]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Environment variables that a client may pass to a workload; none by default.
    pub environment: BTreeSet<String>,
    /// Most memory that the files of an image may take, in bytes, and most that one of its layers may hold.
    pub image_cap_bytes: u64,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self { environment: BTreeSet::new(), image_cap_bytes: 1024 * 1024 * 1024 }
    }
}

const fn default_watch_interval_ms() -> u64 {
    1_000
}

impl Config {
    /// Reads `path`, applies `ATTESTD_*` overrides from `environment` and checks the whole.
    ///
    /// Relative paths in the file are relative to the file's directory.
    ///
    /// # Errors
    /// [`ConfigError`]; nothing is corrected or guessed.
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
            overrides::apply_override(&mut table, &name, &value)?;
        }
        let written: Written = table.try_into().map_err(parse_error)?;
        let identity = Identity::choose(written.platform, written.tpm, written.tee)?;
        let Written { node_id, logs, domains, watch, halt, gateway, .. } = written;
        let mut config = Self { node_id, identity, logs, domains, watch, halt, gateway };
        config.anchor_paths(path.parent().unwrap_or(Path::new(".")));
        config.refuse_contradictions()?;
        Ok(config)
    }

    /// The configuration of `domain`, if this node has one.
    #[must_use]
    pub fn domain(&self, domain: &DomainName) -> Option<&DomainConfig> {
        self.domains.iter().find(|d| d.name == *domain)
    }

    fn anchor_paths(&mut self, base: &Path) {
        self.identity.anchor_paths(base);
        let optional = [&mut self.logs.event_log, &mut self.logs.ima_log, &mut self.halt.cgroup];
        for path in optional.into_iter().flatten().chain(self.domains.iter_mut().map(|d| &mut d.ca)) {
            *path = base.join(&*path);
        }
    }

    fn refuse_contradictions(&self) -> Result<(), ConfigError> {
        if self.domains.is_empty() {
            return Err(value_error("domain", "at least one [[domain]] is needed"));
        }
        let names: BTreeSet<_> = self.domains.iter().map(|d| &d.name).collect();
        if names.len() != self.domains.len() {
            return Err(value_error("domain.name", "each domain may be named once"));
        }
        for domain in &self.domains {
            for (key, address) in [("domain.nodes", &domain.nodes), ("domain.enrolment", &domain.enrolment)] {
                if !address.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok()) {
                    return Err(value_error(key, "must be HOST:PORT"));
                }
            }
        }
        self.identity.refuse_contradictions(&self.logs, &self.watch)?;
        if let Some(pcr) = self.watch.pcrs.iter().find(|p| **p > 23 || UNBOUND_PCRS.contains(*p)) {
            return Err(value_error(
                "watch.pcrs",
                format!("PCR {pcr} does not exist, is resettable or changes at run time"),
            ));
        }
        let deadlines = self.identity.deadlines_ms().chain([("watch.interval_ms", self.watch.interval_ms)]);
        for (key, ms) in deadlines {
            if ms == 0 || ms > 600_000 {
                return Err(value_error(key, "must be 1 to 600000"));
            }
        }
        if self.halt.action == OnHalt::Freeze && self.halt.cgroup.is_none() {
            return Err(value_error("halt.action", "freeze needs halt.cgroup"));
        }
        self.halt.action.bounded("halt").map_err(|denial| value_error("halt.action", denial.to_string()))?;
        if let Some(name) = self.gateway.environment.iter().find(|n| is_loader_variable(n)) {
            return Err(value_error("gateway.environment", format!("{name} changes what code a program loads")));
        }
        if !IMAGE_CAPS_BYTES.contains(&self.gateway.image_cap_bytes) {
            return Err(value_error("gateway.image_cap_bytes", "must be 1048576 to 1099511627776"));
        }
        Ok(())
    }
}

/// From a MiB to a TiB: none would be no limit (tmpfs(5), "size").
const IMAGE_CAPS_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 40;

/// Variables of the dynamic loader and of interpreters: passing them on would let a client run other code than measured.
fn is_loader_variable(name: &str) -> bool {
    name.starts_with("LD_")
        || name.starts_with("ATTESTD_")
        || [
            "BASH_ENV",
            "ENV",
            "GCONV_PATH",
            "NODE_OPTIONS",
            "PERL5LIB",
            "PERL5OPT",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "RUBYOPT",
        ]
        .contains(&name)
}

#[cfg(test)]
mod tests;

//! `attestd.toml`: unknown keys are refused, and whatever decides whom or what this node trusts has no default.
//!
//! Operational keys (deadlines, intervals) have defaults; they can make the node slower or halt later within a lease,
//! never make it accept something.

mod overrides;
mod words;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use evidence::names::{DomainName, NodeId};
use serde::Deserialize;

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
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of this node within its domains.
    pub node_id: NodeId,
    /// The TPM that is this node's identity.
    pub tpm: TpmConfig,
    /// Measurement logs that go with a quote.
    #[serde(default)]
    pub logs: LogsConfig,
    /// Domains whose verifiers authorize executions here.
    #[serde(rename = "domain")]
    pub domains: Vec<DomainConfig>,
    /// Local watch between renewals.
    pub watch: WatchConfig,
    /// What a halt does to running workloads.
    pub halt: HaltConfig,
    /// How workloads are started.
    #[serde(default)]
    pub gateway: GatewayConfig,
}

/// `[tpm]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmConfig {
    /// How the TPM is reached: `device:PATH`, `swtpm:host=IP,port=N` or `mssim:host=IP,port=N`.
    pub tcti: Tcti,
    /// Which endorsement key identifies this TPM.
    pub ek: EkKind,
    /// EK certificate (DER or PEM) when it is not in the TPM's NV memory.
    pub ek_certificate: Option<PathBuf>,
    /// Issuers of the EK certificate up to, without, the root (PEM, leaf side first).
    pub ek_intermediates: Option<PathBuf>,
    /// A command that takes longer means the TPM hangs.
    #[serde(default = "default_command_deadline_ms")]
    pub command_deadline_ms: u64,
    /// The same for commands that make keys, which take long on hardware.
    #[serde(default = "default_key_deadline_ms")]
    pub key_deadline_ms: u64,
}

/// How the TPM is reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Tcti {
    /// A character device; `/dev/tpmrm0` has the kernel's resource manager in front.
    Device(PathBuf),
    /// swtpm's TCP socket (control channel on the next port).
    Swtpm {
        /// Address; no names, so that reaching the TPM never waits for DNS.
        host: IpAddr,
        /// Data port.
        port: u16,
    },
    /// The reference simulator's TCP socket (platform channel on the next port).
    Mssim {
        /// Address.
        host: IpAddr,
        /// Data port.
        port: u16,
    },
}

impl FromStr for Tcti {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORMS: &str = "must be device:PATH, swtpm:host=IP,port=N or mssim:host=IP,port=N";
        let (kind, rest) = text.split_once(':').ok_or(FORMS)?;
        match kind {
            "device" if rest.starts_with('/') => Ok(Self::Device(PathBuf::from(rest))),
            "swtpm" | "mssim" => {
                let (host, port) = rest.split_once(',').ok_or(FORMS)?;
                let host: IpAddr = host.strip_prefix("host=").and_then(|h| h.parse().ok()).ok_or(FORMS)?;
                let port: u16 = port.strip_prefix("port=").and_then(|p| p.parse().ok()).ok_or(FORMS)?;
                if port == 0 || port == u16::MAX {
                    return Err("port must be 1 to 65534 (the next port is the control channel)".to_owned());
                }
                Ok(if kind == "swtpm" { Self::Swtpm { host, port } } else { Self::Mssim { host, port } })
            }
            _ => Err(FORMS.to_owned()),
        }
    }
}

impl TryFrom<String> for Tcti {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::fmt::Display for Tcti {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::Swtpm { host, port } => write!(f, "swtpm:host={host},port={port}"),
            Self::Mssim { host, port } => write!(f, "mssim:host={host},port={port}"),
        }
    }
}

/// Endorsement key templates of the TCG EK Credential Profile, low range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum EkKind {
    /// Template L-1.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// Template L-2.
    #[serde(rename = "ecc-p256")]
    EccP256,
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
    /// PCRs whose change halts at once (SHA-256 bank).
    pub pcrs: BTreeSet<u8>,
    /// How often they are read.
    #[serde(default = "default_watch_interval_ms")]
    pub interval_ms: u64,
}

/// `[halt]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaltConfig {
    /// What happens to a running workload.
    pub action: HaltAction,
    /// cgroup v2 directory, delegated to this user, under which each workload gets its own; without it, process groups.
    pub cgroup: Option<PathBuf>,
}

/// What a halt does to a running workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HaltAction {
    /// Kill every process of it.
    Kill,
    /// Freeze its cgroup, for forensics; needs `halt.cgroup`.
    Freeze,
}

/// `[gateway]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Environment variables that a client may pass to a workload; none by default.
    #[serde(default)]
    pub environment: BTreeSet<String>,
}

const fn default_command_deadline_ms() -> u64 {
    5_000
}
const fn default_key_deadline_ms() -> u64 {
    90_000
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
        let mut config: Self = table.try_into().map_err(parse_error)?;
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
        let optional = [
            &mut self.tpm.ek_certificate,
            &mut self.tpm.ek_intermediates,
            &mut self.logs.event_log,
            &mut self.logs.ima_log,
            &mut self.halt.cgroup,
        ];
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
        if self.watch.pcrs.is_empty() {
            return Err(value_error(
                "watch.pcrs",
                "must not be empty: an unwatched node would run on until its lease ends",
            ));
        }
        if let Some(pcr) = self.watch.pcrs.iter().find(|p| **p > 23 || UNBOUND_PCRS.contains(*p)) {
            return Err(value_error(
                "watch.pcrs",
                format!("PCR {pcr} does not exist, is resettable or changes at run time"),
            ));
        }
        let positive = [
            ("watch.interval_ms", self.watch.interval_ms),
            ("tpm.command_deadline_ms", self.tpm.command_deadline_ms),
            ("tpm.key_deadline_ms", self.tpm.key_deadline_ms),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, ms)| *ms == 0 || *ms > 600_000) {
            return Err(value_error(key, "must be 1 to 600000"));
        }
        if self.halt.action == HaltAction::Freeze && self.halt.cgroup.is_none() {
            return Err(value_error("halt.action", "freeze needs halt.cgroup"));
        }
        if let Some(name) = self.gateway.environment.iter().find(|n| is_loader_variable(n)) {
            return Err(value_error("gateway.environment", format!("{name} changes what code a program loads")));
        }
        Ok(())
    }
}

impl TpmConfig {
    /// Deadline of an ordinary command.
    #[must_use]
    pub const fn command_deadline(&self) -> Duration {
        Duration::from_millis(self.command_deadline_ms)
    }

    /// Deadline of a command that makes a key.
    #[must_use]
    pub const fn key_deadline(&self) -> Duration {
        Duration::from_millis(self.key_deadline_ms)
    }
}

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
mod tests {
    use super::*;

    const GENUINE: &str = r#"
node_id = "node-1"
[tpm]
tcti = "swtpm:host=127.0.0.1,port=2321"
ek = "ecc-p256"
[logs]
event_log = "log.bin"
[[domain]]
name = "a.example"
nodes = "127.0.0.1:7443"
enrolment = "127.0.0.1:7444"
server_name = "verifier.a.example"
ca = "ca.pem"
[watch]
pcrs = [0, 1, 2, 3, 4, 7]
[halt]
action = "kill"
"#;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attestd.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path, environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_genuine_configuration_is_read_and_said_in_words() {
        let config = load(GENUINE, &[]).unwrap();
        assert!(config.logs.event_log.as_ref().unwrap().is_absolute());
        let words = config.in_words();
        for part in ["node-1", "ECC P-256", "a.example", "0, 1, 2, 3, 4, 7", "1000 ms", "kills"] {
            assert!(words.contains(part), "{part} in {words}");
        }
    }

    #[test]
    fn one_defect_each_is_refused() {
        let cases = [
            ("node_id = \"node-1\"", "node_id = \"node-1\"\ncolour = 1", "unknown field"),
            ("node_id = \"node-1\"", "", "missing field"),
            ("node_id = \"node-1\"", "node_id = \"../x\"", "node id"),
            ("ek = \"ecc-p256\"", "", "missing field"),
            ("ek = \"ecc-p256\"", "ek = \"any\"", "unknown variant"),
            ("swtpm:host=127.0.0.1,port=2321", "swtpm:host=localhost,port=2321", "must be device"),
            ("swtpm:host=127.0.0.1,port=2321", "swtpm:host=127.0.0.1,port=65535", "control channel"),
            ("swtpm:host=127.0.0.1,port=2321", "device:tpm0", "must be device"),
            ("pcrs = [0, 1, 2, 3, 4, 7]", "", "missing field"),
            ("pcrs = [0, 1, 2, 3, 4, 7]", "pcrs = []", "must not be empty"),
            ("pcrs = [0, 1, 2, 3, 4, 7]", "pcrs = [16]", "resettable"),
            ("pcrs = [0, 1, 2, 3, 4, 7]", "pcrs = [24]", "does not exist"),
            ("action = \"kill\"", "", "missing field"),
            ("action = \"kill\"", "action = \"freeze\"", "halt.cgroup"),
            ("ca = \"ca.pem\"", "", "missing field"),
            ("nodes = \"127.0.0.1:7443\"", "nodes = \"nowhere\"", "HOST:PORT"),
            ("[halt]", "[gateway]\nenvironment = [\"LD_PRELOAD\"]\n[halt]", "what code"),
        ];
        for (from, to, expected) in cases {
            let error = load(&GENUINE.replace(from, to), &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{to:?}: {error}");
        }
    }

    #[test]
    fn overrides_replace_and_unknown_ones_are_refused() {
        let config = load(
            GENUINE,
            &[("ATTESTD_WATCH_INTERVAL_MS", "50"), ("ATTESTD_TPM_TCTI", "device:/dev/tpmrm0"), ("PATH", "/bin")],
        )
        .unwrap();
        assert_eq!(config.watch.interval_ms, 50);
        assert_eq!(config.tpm.tcti, Tcti::Device("/dev/tpmrm0".into()));
        assert!(matches!(load(GENUINE, &[("ATTESTD_WATCH_PCRS", "0")]), Err(ConfigError::UnknownOverride { .. })));
        assert!(matches!(load(GENUINE, &[("ATTESTD_WATCH_INTERVAL_MS", "x")]), Err(ConfigError::Value { .. })));
    }
}

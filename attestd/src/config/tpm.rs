//! `[tpm]`

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

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

const fn default_command_deadline_ms() -> u64 {
    5_000
}
const fn default_key_deadline_ms() -> u64 {
    90_000
}

//! `platform`, `[tpm]` and `[tee]`: what this node proves itself by.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use evidence::kind::EvidenceKind;
use serde::Deserialize;

use super::{ConfigError, EkKind, LogsConfig, TpmConfig, WatchConfig, value_error};
use crate::tee::{TeeKind, guest_device};

/// What this node proves itself by.
#[derive(Clone, Debug)]
pub enum Identity {
    /// A TPM.
    Tpm(TpmConfig),
    /// A TEE without a TPM.
    Tee(TeeKind, TeeConfig),
    /// A vTPM in a confidential VM, each bound to the other.
    TpmOnTee(TpmConfig, TeeKind, TeeConfig),
}

/// `[tee]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeeConfig {
    /// Where reports come from: `configfs:DIR`, `sev-guest:/dev/sev-guest` or `socket:PATH` (a simulator).
    pub reports: ReportsSource,
    /// VMPL that reports are asked for (SEV-SNP, 0 to 3); the source's own unless given.
    pub privlevel: Option<u32>,
    /// Service whose manifest the report shall cover, as configfs-tsm names it (`svsm`).
    pub service_provider: Option<String>,
    /// CCEL event log of a TD (`/sys/firmware/acpi/tables/data/CCEL`).
    pub ccel: Option<PathBuf>,
    /// A report that takes longer means the TEE hangs.
    #[serde(default = "default_deadline_ms")]
    pub deadline_ms: u64,
}

const fn default_deadline_ms() -> u64 {
    5_000
}

/// Where reports come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ReportsSource {
    /// A directory in the form of configfs-tsm.
    Configfs(PathBuf),
    /// The kernel's device for SEV-SNP guests.
    SevGuest,
    /// A simulator's Unix socket: nothing that it says is genuine.
    Socket(PathBuf),
}

impl FromStr for ReportsSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORMS: &str = "must be configfs:DIR, sev-guest:/dev/sev-guest or socket:PATH, with absolute paths";
        let (kind, path) = text.split_once(':').filter(|(_, path)| path.starts_with('/')).ok_or(FORMS)?;
        match kind {
            "configfs" => Ok(Self::Configfs(PathBuf::from(path))),
            "sev-guest" if path == guest_device::PLACE => Ok(Self::SevGuest),
            "socket" => Ok(Self::Socket(PathBuf::from(path))),
            _ => Err(FORMS.to_owned()),
        }
    }
}

impl TryFrom<String> for ReportsSource {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::fmt::Display for ReportsSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configfs(path) => write!(f, "configfs:{}", path.display()),
            Self::SevGuest => write!(f, "sev-guest:{}", guest_device::PLACE),
            Self::Socket(path) => write!(f, "socket:{}", path.display()),
        }
    }
}

impl TeeConfig {
    /// Deadline of one report.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}

impl Identity {
    /// The identity that `platform` names, a TPM unless it does, from exactly the sections that it needs.
    pub(super) fn choose(
        platform: Option<EvidenceKind>,
        tpm: Option<TpmConfig>,
        tee: Option<TeeConfig>,
    ) -> Result<Self, ConfigError> {
        let kind = platform.unwrap_or(EvidenceKind::Tpm);
        let needs = |section: &str| value_error(section, format!("missing: platform \"{kind}\" needs it"));
        let refuses = |section: &str| {
            Err(value_error(section, format!("platform \"{kind}\" has none; say what this node is with platform")))
        };
        let tee_kind = match kind {
            EvidenceKind::Tpm => {
                return if tee.is_some() { refuses("tee") } else { tpm.map(Self::Tpm).ok_or_else(|| needs("tpm")) };
            }
            EvidenceKind::SevSnp | EvidenceKind::TpmOnSevSnp => TeeKind::SevSnp,
            EvidenceKind::Tdx | EvidenceKind::TpmOnTdx => TeeKind::Tdx,
        };
        let tee = tee.ok_or_else(|| needs("tee"))?;
        match (kind.has_tpm(), tpm) {
            (true, Some(tpm)) => Ok(Self::TpmOnTee(tpm, tee_kind, tee)),
            (true, None) => Err(needs("tpm")),
            (false, None) => Ok(Self::Tee(tee_kind, tee)),
            (false, Some(_)) => refuses("tpm"),
        }
    }

    /// As in `platform`.
    #[must_use]
    pub const fn kind(&self) -> EvidenceKind {
        match self {
            Self::Tpm(_) => EvidenceKind::Tpm,
            Self::Tee(TeeKind::SevSnp, _) => EvidenceKind::SevSnp,
            Self::Tee(TeeKind::Tdx, _) => EvidenceKind::Tdx,
            Self::TpmOnTee(_, TeeKind::SevSnp, _) => EvidenceKind::TpmOnSevSnp,
            Self::TpmOnTee(_, TeeKind::Tdx, _) => EvidenceKind::TpmOnTdx,
        }
    }

    /// The TPM, if there is one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmConfig> {
        match self {
            Self::Tpm(tpm) | Self::TpmOnTee(tpm, ..) => Some(tpm),
            Self::Tee(..) => None,
        }
    }

    /// The TEE, if there is one.
    #[must_use]
    pub const fn tee(&self) -> Option<(TeeKind, &TeeConfig)> {
        match self {
            Self::Tee(kind, tee) | Self::TpmOnTee(_, kind, tee) => Some((*kind, tee)),
            Self::Tpm(_) => None,
        }
    }

    pub(super) fn anchor_paths(&mut self, base: &Path) {
        let (tpm, tee) = match self {
            Self::Tpm(tpm) => (Some(tpm), None),
            Self::Tee(_, tee) => (None, Some(tee)),
            Self::TpmOnTee(tpm, _, tee) => (Some(tpm), Some(tee)),
        };
        let certificates = tpm.into_iter().flat_map(|tpm| [&mut tpm.ek_certificate, &mut tpm.ek_intermediates]);
        for path in certificates.chain(tee.map(|tee| &mut tee.ccel)).flatten() {
            *path = base.join(&*path);
        }
    }

    pub(super) fn refuse_contradictions(&self, logs: &LogsConfig, watch: &WatchConfig) -> Result<(), ConfigError> {
        match (self.tpm().is_some(), watch.pcrs.is_empty()) {
            (true, true) => {
                let why = "must not be empty: an unwatched node would run on until its lease ends";
                return Err(value_error("watch.pcrs", why));
            }
            (false, false) => return Err(value_error("watch.pcrs", "this platform has no TPM, so no PCRs")),
            (true, false) | (false, true) => {}
        }
        if logs.event_log.is_some() && !self.sends_logs() {
            return Err(value_error("logs.event_log", "is the TPM's, and there is none; a TD's is tee.ccel"));
        }
        if logs.ima_log.is_some() && !self.sends_logs() {
            return Err(value_error("logs.ima_log", "evidence of a TEE without a TPM holds no IMA log"));
        }
        let Some((kind, tee)) = self.tee() else { return Ok(()) };
        let snp = kind == TeeKind::SevSnp;
        if tee.ccel.is_some() && snp {
            return Err(value_error("tee.ccel", "is the event log of a TD; an SEV-SNP guest has none"));
        }
        if tee.privlevel.is_some_and(|level| !snp || level > 3) {
            return Err(value_error("tee.privlevel", "is a VMPL of SEV-SNP, 0 to 3"));
        }
        if tee.reports == ReportsSource::SevGuest && !snp {
            return Err(value_error("tee.reports", "/dev/sev-guest has no reports of a TD"));
        }
        let configfs = matches!(tee.reports, ReportsSource::Configfs(_));
        if let Some(service) = &tee.service_provider {
            if !configfs {
                return Err(value_error("tee.service_provider", "is asked for through configfs alone"));
            }
            let sound = !service.is_empty() && service.len() <= 32;
            if !(sound && service.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')) {
                return Err(value_error("tee.service_provider", "must be a provider's name, such as svsm"));
            }
        }
        Ok(())
    }

    /// Every deadline and its key.
    pub(super) fn deadlines_ms(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let tpm = self.tpm().into_iter().flat_map(|tpm| {
            [("tpm.command_deadline_ms", tpm.command_deadline_ms), ("tpm.key_deadline_ms", tpm.key_deadline_ms)]
        });
        tpm.chain(self.tee().map(|(_, tee)| ("tee.deadline_ms", tee.deadline_ms)))
    }

    /// Whether evidence of this platform may hold the logs of `[logs]`: they lead to a TPM's registers. A TD's is
    /// `tee.ccel`.
    pub(super) const fn sends_logs(&self) -> bool {
        self.tpm().is_some()
    }

    pub(super) fn in_words(&self, line: &mut dyn FnMut(std::fmt::Arguments<'_>)) {
        if let Some(tpm) = self.tpm() {
            let whose = if self.tee().is_some() { "the confidential VM's TPM" } else { "the TPM" };
            let ek = match tpm.ek {
                EkKind::Rsa2048 => "RSA-2048",
                EkKind::EccP256 => "ECC P-256",
            };
            let from =
                tpm.ek_certificate.as_ref().map_or("the TPM's NV memory".to_owned(), |p| p.display().to_string());
            line(format_args!(
                "Its identity is {whose} at {} with an {ek} endorsement key; its certificate comes from {from}.",
                tpm.tcti
            ));
            line(format_args!(
                "A TPM command that takes longer than {} ms (key generation: {} ms) is a fault.",
                tpm.command_deadline_ms, tpm.key_deadline_ms
            ));
        }
        let Some((kind, tee)) = self.tee() else { return };
        match self.tpm() {
            Some(_) => line(format_args!(
                "That TPM is bound to the {kind} guest it runs in; reports come from {}.",
                tee.reports
            )),
            None => line(format_args!(
                "Its identity is this {kind} guest; reports come from {}. Its node key is X-Wing, in locked memory, and ends with the daemon.",
                tee.reports
            )),
        }
        if let ReportsSource::Socket(_) = tee.reports {
            line(format_args!("These reports are a simulator's: only a lab domain accepts them."));
        }
        if let Some(level) = tee.privlevel {
            line(format_args!("Reports are asked for VMPL {level}."));
        }
        if let Some(service) = &tee.service_provider {
            line(format_args!("Reports cover the manifest of \"{service}\"."));
        }
        line(format_args!("A report that takes longer than {} ms is a fault.", tee.deadline_ms));
        match &tee.ccel {
            Some(path) => line(format_args!("The TD's event log sent with evidence is {}.", path.display())),
            None if kind == TeeKind::Tdx => {
                line(format_args!("No event log of the TD is sent; a verifier that asks for one is told a fault."));
            }
            None => {}
        }
    }
}

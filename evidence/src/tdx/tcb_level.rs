//! What security versions are worth: the levels of Intel's lists, their statuses, and the worse of several
//! (Intel QVL, steps 4.1.2.4.15 and 4.1.2.4.17; PCS API v4, "TCB status").

use std::collections::BTreeSet;

use serde::Deserialize;
use strum::{EnumIter, IntoEnumIterator as _};

use super::json::{Instant, capped};
use crate::EvidenceDenial;

/// Every status that a level or a verdict may have. What is accepted beyond [`TcbStatus::UpToDate`] is for policy;
/// revoked platforms are denied here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter)]
pub enum TcbStatus {
    /// Nothing known is amiss.
    UpToDate,
    /// Software in the enclave or trust domain must mitigate something itself.
    SwHardeningNeeded,
    /// The platform must be configured otherwise.
    ConfigurationNeeded,
    /// Both of the above.
    ConfigurationAndSwHardeningNeeded,
    /// A security update is missing.
    OutOfDate,
    /// A security update is missing, and the platform must be configured otherwise.
    OutOfDateConfigurationNeeded,
    /// The TDX module was updated after the trust domain started: start it again.
    TdRelaunchAdvised,
    /// As before, and the platform must be configured otherwise.
    TdRelaunchAdvisedConfigurationNeeded,
    /// Not to be trusted again.
    Revoked,
}

impl TcbStatus {
    /// Intel's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SwHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::TdRelaunchAdvised => "TDRelaunchAdvised",
            Self::TdRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
            Self::Revoked => "Revoked",
        }
    }

    /// The status of this name; `None` for any other text.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::iter().find(|status| status.name() == name)
    }

    /// Whether a security update is missing.
    #[must_use]
    pub const fn is_out_of_date(self) -> bool {
        match self {
            Self::OutOfDate | Self::OutOfDateConfigurationNeeded => true,
            Self::UpToDate
            | Self::SwHardeningNeeded
            | Self::ConfigurationNeeded
            | Self::ConfigurationAndSwHardeningNeeded
            | Self::TdRelaunchAdvised
            | Self::TdRelaunchAdvisedConfigurationNeeded
            | Self::Revoked => false,
        }
    }

    /// Whether the platform must be configured otherwise.
    #[must_use]
    pub const fn needs_configuration(self) -> bool {
        match self {
            Self::ConfigurationNeeded
            | Self::ConfigurationAndSwHardeningNeeded
            | Self::OutOfDateConfigurationNeeded
            | Self::TdRelaunchAdvisedConfigurationNeeded => true,
            Self::UpToDate | Self::SwHardeningNeeded | Self::OutOfDate | Self::TdRelaunchAdvised | Self::Revoked => {
                false
            }
        }
    }

    const fn needs_hardening(self) -> bool {
        matches!(self, Self::SwHardeningNeeded | Self::ConfigurationAndSwHardeningNeeded)
    }

    const fn advises_relaunch(self) -> bool {
        matches!(self, Self::TdRelaunchAdvised | Self::TdRelaunchAdvisedConfigurationNeeded)
    }

    /// The worse of two: what either says is wrong is wrong of both together. A missing update hides that software
    /// must be hardened, since hardening would not help.
    #[must_use]
    pub const fn worse(self, other: Self) -> Self {
        if matches!(self, Self::Revoked) || matches!(other, Self::Revoked) {
            return Self::Revoked;
        }
        let configuration = self.needs_configuration() || other.needs_configuration();
        let hardening = self.needs_hardening() || other.needs_hardening();
        let relaunch = self.advises_relaunch() || other.advises_relaunch();
        match (self.is_out_of_date() || other.is_out_of_date(), relaunch, configuration, hardening) {
            (true, _, false, _) => Self::OutOfDate,
            (true, _, true, _) => Self::OutOfDateConfigurationNeeded,
            (false, true, false, _) => Self::TdRelaunchAdvised,
            (false, true, true, _) => Self::TdRelaunchAdvisedConfigurationNeeded,
            (false, false, true, true) => Self::ConfigurationAndSwHardeningNeeded,
            (false, false, true, false) => Self::ConfigurationNeeded,
            (false, false, false, true) => Self::SwHardeningNeeded,
            (false, false, false, false) => Self::UpToDate,
        }
    }
}

impl std::fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A status and the advisories that explain it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The status.
    pub status: TcbStatus,
    /// Identifiers of Intel's advisories, such as `INTEL-SA-00615`.
    pub advisory_ids: BTreeSet<String>,
}

impl Standing {
    /// From a level of a signed text.
    pub(super) fn read(of: &'static str, status: &str, advisory_ids: Vec<String>) -> Result<Self, EvidenceDenial> {
        let shown = || status.escape_default().take(64).collect();
        let status =
            TcbStatus::from_name(status).ok_or_else(|| EvidenceDenial::TcbStatusUnknown { of, got: shown() })?;
        let is_id =
            |id: &String| id.len() <= ADVISORY_CAP_BYTES && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !advisory_ids.iter().all(is_id) {
            return Err(EvidenceDenial::Malformed { structure: of, offset: 0, what: "advisory identifiers" });
        }
        Ok(Self { status, advisory_ids: advisory_ids.into_iter().collect() })
    }

    /// The worse status and the advisories of both.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        Self {
            status: self.status.worse(other.status),
            advisory_ids: self.advisory_ids.union(&other.advisory_ids).cloned().collect(),
        }
    }
}

/// Longest advisory identifier.
const ADVISORY_CAP_BYTES: usize = 32;

/// A level of an enclave or of the TDX module: what one ISVSVN is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsvLevel {
    /// Lowest version of this level.
    pub isv_svn: u16,
    /// What it is worth.
    pub standing: Standing,
}

/// Levels of one enclave or module, greatest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsvLevels(Vec<IsvLevel>);

impl IsvLevels {
    pub(super) fn read(of: &'static str, texts: Vec<IsvLevelText>) -> Result<Self, EvidenceDenial> {
        let read = |text: IsvLevelText| {
            let standing = Standing::read(of, &text.tcb_status, text.advisory_ids)?;
            Ok(IsvLevel { isv_svn: text.tcb.isvsvn, standing })
        };
        let mut levels = texts.into_iter().map(read).collect::<Result<Vec<_>, EvidenceDenial>>()?;
        levels.sort_by_key(|level| std::cmp::Reverse(level.isv_svn));
        let repeated = levels.windows(2).any(|pair| matches!(pair, [a, b] if a.isv_svn == b.isv_svn));
        if levels.is_empty() || repeated {
            return Err(EvidenceDenial::Malformed { structure: of, offset: 0, what: "levels, none twice" });
        }
        Ok(Self(levels))
    }

    /// What `isv_svn` is worth: the first level that it reaches.
    pub(super) fn standing(&self, of: &'static str, isv_svn: u16) -> Result<&Standing, EvidenceDenial> {
        let reached = self.0.iter().find(|level| isv_svn >= level.isv_svn);
        reached.map(|level| &level.standing).ok_or(EvidenceDenial::TcbLevelMissing { of })
    }

    /// The greatest version listed.
    pub(super) fn greatest(&self) -> u16 {
        self.0.first().map_or(u16::MAX, |level| level.isv_svn)
    }
}

/// A level as it stands in the text.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IsvLevelText {
    tcb: IsvTcbText,
    #[serde(rename = "tcbDate")]
    _tcb_date: Instant,
    tcb_status: String,
    #[serde(rename = "advisoryIDs", default, deserialize_with = "capped")]
    advisory_ids: Vec<String>,
}

#[derive(Deserialize)]
struct IsvTcbText {
    isvsvn: u16,
}

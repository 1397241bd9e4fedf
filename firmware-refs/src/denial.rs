//! Why evidence did not match reference values: one variant a fact, both sides
//! in it, and the set that judged.

use std::fmt;
use std::sync::Arc;

use evidence::{
    cose::KeyId,
    digest::{Digest, HashAlg, Sha256Digest},
    names::ItemName,
    time::UnixSeconds,
};
use strum::{EnumDiscriminants, EnumIter};

use crate::document::MakerName;
use crate::text::{FirmwareVersion, KeyName, Moment, Text};

/// Most accepted values that a denial carries. The rest are counted, not copied.
pub const ACCEPTED_CAP: usize = 16;

/// The set that judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceName {
    /// Name of the set.
    pub id: ItemName,
    /// Its version.
    pub version: u64,
    /// Who signed it.
    pub signers: Vec<KeyId>,
}

impl ReferenceName {
    /// The signers in one text.
    #[must_use]
    pub fn signer(&self) -> String {
        self.signers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for ReferenceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}", self.id, self.version)
    }
}

/// The first event of a PCR's log that the set does not know, or that it misses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Position in the log, from 0; absent when something known did not come, or came without being logged.
    pub event: Option<usize>,
    /// Type as TCG names it.
    pub kind: Text,
    /// What it is: the log's own words for an unknown event, the set's for a missing one.
    pub description: Text,
    /// Its digest, where there is one.
    pub digest: Option<Digest>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event {
            Some(event) => write!(f, "event {event} {} \"{}\"", self.kind, self.description),
            None => write!(f, "{} \"{}\"", self.kind, self.description),
        }
    }
}

/// The evidence was judged against reference values, and refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(
    name(ReferenceDenialKind),
    derive(EnumIter, Hash, PartialOrd, Ord),
    doc = "The variants of [`ReferenceDenial`], to enumerate them."
)]
pub enum ReferenceDenial {
    /// No set is active: nothing is known, so nothing matches.
    #[error("no reference value set is active")]
    NoneActive,
    /// The set is not in force yet.
    #[error("reference values {reference} begin at {not_before}, it is {now}")]
    NotYetInForce {
        /// The set.
        reference: Arc<ReferenceName>,
        /// When it begins.
        not_before: Moment,
        /// When it was judged.
        now: Moment,
    },
    /// The set, or its grace window, is over.
    #[error("reference values {reference} ended at {ended}, it is {now}")]
    Expired {
        /// The set.
        reference: Arc<ReferenceName>,
        /// When it ended.
        ended: Moment,
        /// When it was judged.
        now: Moment,
    },
    /// Another PCR bank than the set's values are of.
    #[error("PCR bank {got} was quoted, {reference} has values of {accepted}")]
    Bank {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Bank quoted.
        got: HashAlg,
        /// Bank of the set.
        accepted: HashAlg,
    },
    /// A PCR that the set requires was not quoted.
    #[error("PCR {pcr} was not quoted, {reference} requires it")]
    PcrAbsent {
        /// The set.
        reference: Arc<ReferenceName>,
        /// The PCR.
        pcr: u8,
    },
    /// A PCR that can be reset was given as evidence.
    #[error("PCR {pcr} can be reset and is not evidence")]
    PcrResettable {
        /// The PCR.
        pcr: u8,
    },
    /// A PCR has a value that the set does not know.
    #[error("PCR {pcr} is {got}, unknown to {reference}{}", first_divergence(.diverges))]
    PcrUnknown {
        /// The set.
        reference: Arc<ReferenceName>,
        /// The PCR.
        pcr: u8,
        /// Its value.
        got: Digest,
        /// Known values, at most [`ACCEPTED_CAP`].
        accepted: Vec<Digest>,
        /// First event that the set does not know.
        diverges: Option<Box<Divergence>>,
    },
    /// The event log is required and did not come.
    #[error("{reference} requires the event log")]
    EventLogAbsent {
        /// The set.
        reference: Arc<ReferenceName>,
    },
    /// An event was measured that the set does not know.
    #[error("PCR {pcr}: {diverges} is unknown to {reference}")]
    EventUnknown {
        /// The set.
        reference: Arc<ReferenceName>,
        /// The PCR.
        pcr: u8,
        /// The event.
        diverges: Box<Divergence>,
        /// Known digests of events of this PCR, at most [`ACCEPTED_CAP`].
        accepted: Vec<Digest>,
    },
    /// An event that the set requires was not measured.
    #[error("PCR {pcr}: {missing} was not measured, {reference} requires it")]
    EventMissing {
        /// The set.
        reference: Arc<ReferenceName>,
        /// The PCR.
        pcr: u8,
        /// The event, in the set's words.
        missing: Box<Divergence>,
        /// Its known digests, at most [`ACCEPTED_CAP`].
        accepted: Vec<Digest>,
    },
    /// The IMA log is required and did not come.
    #[error("{reference} requires the IMA log")]
    ImaLogAbsent {
        /// The set.
        reference: Arc<ReferenceName>,
    },
    /// A file was measured that the set does not name.
    #[error("file {path} is unknown to {reference}")]
    FileUnknown {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Its path as IMA recorded it.
        path: Text,
        /// Its digest, as the log gives it.
        got: Text,
    },
    /// A file was measured with contents that the set does not know.
    #[error("file {path} is {got}, unknown to {reference}")]
    FileChanged {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Its path as IMA recorded it.
        path: Text,
        /// Its digest, as the log gives it.
        got: Text,
        /// Known digests, at most [`ACCEPTED_CAP`].
        accepted: Vec<Digest>,
    },
    /// The TPM's EK is not listed.
    #[error("EK {got} is not listed in {reference}")]
    EkNotListed {
        /// The set.
        reference: Arc<ReferenceName>,
        /// SHA-256 of the EK's public area.
        got: Sha256Digest,
    },
    /// The TPM's AK is not listed.
    #[error("AK {got} is not listed in {reference}")]
    AkNotListed {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Name of the AK.
        got: KeyName,
    },
    /// The TPM's manufacturer has no floor in the set.
    #[error("TPM manufacturer {got} is unknown to {reference}")]
    ManufacturerUnknown {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Manufacturer in the EK certificate.
        got: MakerName,
        /// Known manufacturers, at most [`ACCEPTED_CAP`].
        accepted: Vec<MakerName>,
    },
    /// The TPM's firmware is too old.
    #[error("TPM firmware {got} of {manufacturer} is below {floor} of {reference}")]
    FirmwareTooOld {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Manufacturer.
        manufacturer: MakerName,
        /// Version in the quote.
        got: FirmwareVersion,
        /// Oldest acceptable.
        floor: FirmwareVersion,
    },
    /// The TPM's firmware is known to be broken.
    #[error("TPM firmware {got} of {manufacturer} is affected by {advisory} ({reference})")]
    FirmwareDenied {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Manufacturer.
        manufacturer: MakerName,
        /// Version in the quote.
        got: FirmwareVersion,
        /// The advisory.
        advisory: Text,
    },
}

fn first_divergence(diverges: &Option<Box<Divergence>>) -> String {
    diverges.as_ref().map_or_else(String::new, |d| format!("; first unknown: {d}"))
}

impl ReferenceDenialKind {
    /// Stable code, `reference.<fact>`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoneActive => "reference.none_active",
            Self::NotYetInForce => "reference.not_yet_in_force",
            Self::Expired => "reference.expired",
            Self::Bank => "reference.bank",
            Self::PcrAbsent => "reference.pcr_absent",
            Self::PcrResettable => "reference.pcr_resettable",
            Self::PcrUnknown => "reference.pcr_unknown",
            Self::EventLogAbsent => "reference.event_log_absent",
            Self::EventUnknown => "reference.event_unknown",
            Self::EventMissing => "reference.event_missing",
            Self::ImaLogAbsent => "reference.ima_log_absent",
            Self::FileUnknown => "reference.file_unknown",
            Self::FileChanged => "reference.file_changed",
            Self::EkNotListed => "reference.ek_not_listed",
            Self::AkNotListed => "reference.ak_not_listed",
            Self::ManufacturerUnknown => "reference.manufacturer_unknown",
            Self::FirmwareTooOld => "reference.firmware_too_old",
            Self::FirmwareDenied => "reference.firmware_denied",
        }
    }

    /// Every kind of denial.
    pub fn all() -> impl Iterator<Item = Self> {
        use strum::IntoEnumIterator as _;
        Self::iter()
    }
}

impl ReferenceDenial {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        ReferenceDenialKind::from(self).code()
    }

    /// Path of the claim that did not match.
    #[must_use]
    pub fn claim(&self) -> String {
        match self {
            Self::NoneActive => "reference_values".to_owned(),
            Self::NotYetInForce { .. } | Self::Expired { .. } => "reference_values.validity".to_owned(),
            Self::Bank { .. } => "tpm.quote.bank".to_owned(),
            Self::PcrAbsent { .. } => "tpm.quote.pcrs".to_owned(),
            Self::PcrResettable { pcr } | Self::PcrUnknown { pcr, .. } => format!("tpm.pcr.{pcr}"),
            Self::EventLogAbsent { .. } => "tpm.event_log".to_owned(),
            Self::EventUnknown { pcr, diverges, .. } => match diverges.event {
                Some(event) => format!("tpm.event_log.pcr{pcr}.event{event}"),
                None => format!("tpm.event_log.pcr{pcr}"),
            },
            Self::EventMissing { pcr, .. } => format!("tpm.event_log.pcr{pcr}"),
            Self::ImaLogAbsent { .. } => "tpm.ima_log".to_owned(),
            Self::FileUnknown { path, .. } | Self::FileChanged { path, .. } => format!("tpm.ima_log.{path}"),
            Self::EkNotListed { .. } => "tpm.ek".to_owned(),
            Self::AkNotListed { .. } => "tpm.ak".to_owned(),
            Self::ManufacturerUnknown { .. } => "tpm.manufacturer".to_owned(),
            Self::FirmwareTooOld { .. } | Self::FirmwareDenied { .. } => "tpm.firmware".to_owned(),
        }
    }

    /// What the evidence said.
    #[must_use]
    pub fn got(&self) -> String {
        match self {
            Self::NoneActive => "no active set".to_owned(),
            Self::NotYetInForce { now, .. } | Self::Expired { now, .. } => now.to_string(),
            Self::Bank { got, .. } => got.to_string(),
            Self::PcrAbsent { pcr, .. } => format!("PCR {pcr} not quoted"),
            Self::PcrResettable { pcr } => format!("PCR {pcr}"),
            Self::PcrUnknown { got, diverges: None, .. } => got.to_string(),
            Self::PcrUnknown { got, diverges: Some(diverges), .. } => format!("{got}; first unknown: {diverges}"),
            Self::EventLogAbsent { .. } | Self::ImaLogAbsent { .. } => "absent".to_owned(),
            Self::EventUnknown { diverges, .. } => {
                let digest = diverges.digest.map_or_else(String::new, |d| format!(" {d}"));
                format!("{diverges}{digest}")
            }
            Self::EventMissing { missing, .. } => format!("{missing} not measured"),
            Self::FileUnknown { got, .. } | Self::FileChanged { got, .. } => got.to_string(),
            Self::EkNotListed { got, .. } => got.to_string(),
            Self::AkNotListed { got, .. } => got.to_string(),
            Self::ManufacturerUnknown { got, .. } => got.to_string(),
            Self::FirmwareTooOld { got, .. } | Self::FirmwareDenied { got, .. } => got.to_string(),
        }
    }

    /// What the set would have accepted.
    #[must_use]
    pub fn accepted(&self) -> Vec<String> {
        fn texts<T: ToString>(of: &[T]) -> Vec<String> {
            of.iter().map(ToString::to_string).collect()
        }
        match self {
            Self::NoneActive
            | Self::PcrResettable { .. }
            | Self::FileUnknown { .. }
            | Self::EkNotListed { .. }
            | Self::AkNotListed { .. } => Vec::new(),
            Self::NotYetInForce { not_before, .. } => vec![format!("from {not_before}")],
            Self::Expired { ended, .. } => vec![format!("before {ended}")],
            Self::Bank { accepted, .. } => vec![accepted.to_string()],
            Self::PcrAbsent { pcr, .. } => vec![format!("PCR {pcr} quoted")],
            Self::EventLogAbsent { .. } | Self::ImaLogAbsent { .. } => vec!["present".to_owned()],
            Self::PcrUnknown { accepted, .. }
            | Self::EventUnknown { accepted, .. }
            | Self::EventMissing { accepted, .. }
            | Self::FileChanged { accepted, .. } => texts(accepted),
            Self::ManufacturerUnknown { accepted, .. } => texts(accepted),
            Self::FirmwareTooOld { floor, .. } => vec![format!("{floor} or later")],
            Self::FirmwareDenied { advisory, .. } => vec![format!("firmware not affected by {advisory}")],
        }
    }

    /// The set that judged, where one did.
    #[must_use]
    pub fn reference(&self) -> Option<&ReferenceName> {
        match self {
            Self::NoneActive | Self::PcrResettable { .. } => None,
            Self::NotYetInForce { reference, .. }
            | Self::Expired { reference, .. }
            | Self::Bank { reference, .. }
            | Self::PcrAbsent { reference, .. }
            | Self::PcrUnknown { reference, .. }
            | Self::EventLogAbsent { reference }
            | Self::EventUnknown { reference, .. }
            | Self::EventMissing { reference, .. }
            | Self::ImaLogAbsent { reference }
            | Self::FileUnknown { reference, .. }
            | Self::FileChanged { reference, .. }
            | Self::EkNotListed { reference, .. }
            | Self::AkNotListed { reference, .. }
            | Self::ManufacturerUnknown { reference, .. }
            | Self::FirmwareTooOld { reference, .. }
            | Self::FirmwareDenied { reference, .. } => Some(reference),
        }
    }

    /// What an operator can do about it, if the machine is as it should be.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoneActive => "activate a signed reference value set",
            Self::NotYetInForce { .. } => "wait, or activate a set that is in force",
            Self::Expired { .. } => "activate a newer version of the set",
            Self::Bank { .. } => "quote the bank that the reference values are of",
            Self::PcrAbsent { .. } => "the challenge and the set disagree: restart the verifier on one snapshot",
            Self::PcrResettable { .. } => "remove the PCR from the selection",
            Self::PcrUnknown { diverges: Some(_), .. } | Self::EventUnknown { .. } => {
                "if the named component was changed on purpose, capture the node and stage a new version of the set"
            }
            Self::PcrUnknown { diverges: None, .. } => {
                "if the machine was changed on purpose, capture the node and stage a new version of the set"
            }
            Self::EventLogAbsent { .. } => "let the node read its event log (binary_bios_measurements)",
            Self::EventMissing { .. } => {
                "the machine started without the named component: restore it, or mark it optional in a new version"
            }
            Self::ImaLogAbsent { .. } => "let the node read its IMA log (binary_runtime_measurements)",
            Self::FileUnknown { .. } => "add the file to the set, or exclude its directory",
            Self::FileChanged { .. } => "if the file was updated on purpose, stage a new version of the set",
            Self::EkNotListed { .. } | Self::AkNotListed { .. } => {
                "list the TPM in the set, if it is the one you expect"
            }
            Self::ManufacturerUnknown { .. } => "add a firmware floor for this manufacturer, if you trust its TPMs",
            Self::FirmwareTooOld { .. } | Self::FirmwareDenied { .. } => "update the TPM's firmware",
        }
    }
}

/// The first few of `all`, in order, for a denial.
pub(crate) fn some<T: Copy + Ord>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.into_iter().collect();
    all.sort_unstable();
    all.truncate(ACCEPTED_CAP);
    all
}

pub(crate) fn moment(at: UnixSeconds) -> Moment {
    Moment::from(at)
}

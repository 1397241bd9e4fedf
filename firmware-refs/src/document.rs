//! The written form of a reference value set: what an author types as TOML and
//! what is signed as deterministic CBOR. Reading it checks each value alone;
//! [`crate::set`] checks that together they mean something.

pub mod derivation;
pub mod snp;
pub mod tdx;

use std::fmt;

use evidence::{
    digest::{Digest, HashAlg, Sha256Digest},
    names::{DomainName, ItemName},
};
use serde::{Deserialize, Serialize};

use self::{
    derivation::{Derivation, ImportedTag},
    snp::SnpDocument,
    tdx::TdxDocument,
};
use crate::text::{FirmwareVersion, KeyName, Manufacturer, Moment, Text};

/// Largest authored or signed set, before anything in it is read.
pub const SET_CAP_BYTES: usize = 4 << 20;

/// A reference value set as written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetDocument {
    /// Name; versions of one name supersede each other.
    pub id: ItemName,
    /// Version, from 1, never reused.
    pub version: u64,
    /// The domain whose policy authority signs the set.
    pub domain: DomainName,
    /// What the values are for (`lab`, `production`), given to policies.
    pub environment: ItemName,
    /// When the set was written.
    pub issued_at: Moment,
    /// First moment at which the set matches anything.
    pub not_before: Moment,
    /// First moment at which it no longer does.
    pub not_after: Moment,
    /// Why this version exists.
    pub reason: Text,
    /// Values for TPM evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmDocument>,
    /// Values for SEV-SNP reports. Beside `tpm`, the set is for a vTPM in an SNP guest, and for nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snp: Option<SnpDocument>,
    /// Values for TDX quotes. Beside `tpm`, the set is for a vTPM in a trust domain, and for nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tdx: Option<TdxDocument>,
    /// Calculations that values of the set came out of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derivation: Vec<Derivation>,
    /// CoRIM tags that values of the set were taken from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<ImportedTag>,
}

/// Reference values for TPM evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmDocument {
    /// The PCR bank that is quoted.
    pub bank: HashAlg,
    /// The PCRs that are quoted, ascending; every one needs a reference below.
    pub pcrs: Vec<u8>,
    /// Whether the TCG event log must come with the quote.
    pub require_event_log: bool,
    /// Whether the IMA log must come with the quote.
    pub require_ima_log: bool,
    /// Which TPMs.
    pub platforms: Platforms,
    /// TPM manufacturers accepted, each with its oldest acceptable firmware.
    pub firmware: Vec<FirmwareFloor>,
    /// TPM firmware known to be broken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<FirmwareDeny>,
    /// Whole PCR values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pcr: Vec<PcrReference>,
    /// Measured events, for PCRs judged by their log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event: Vec<EventReference>,
    /// Files measured by IMA into PCR 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ima: Option<ImaReferences>,
}

/// Which TPMs the set is for. The choice is written out: leaving it open is not a choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PlatformsText", into = "PlatformsText")]
pub enum Platforms {
    /// Every TPM that was enrolled in this domain: EK proved by certificate or operator, AK by activation.
    Enrolled,
    /// Only these.
    Listed {
        /// SHA-256 of each EK's TPM2B_PUBLIC.
        ek: Vec<Sha256Digest>,
        /// Names of AKs; narrows further where it stands.
        ak: Option<Vec<KeyName>>,
    },
}

/// `{ accept = "enrolled" }` or `{ accept = "listed", ek = [...], ak = [...] }`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlatformsText {
    accept: PlatformsChoice,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ek: Option<Vec<Sha256Digest>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ak: Option<Vec<KeyName>>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PlatformsChoice {
    Enrolled,
    Listed,
}

impl TryFrom<PlatformsText> for Platforms {
    type Error = &'static str;

    fn try_from(text: PlatformsText) -> Result<Self, Self::Error> {
        match (text.accept, text.ek, text.ak) {
            (PlatformsChoice::Enrolled, None, None) => Ok(Self::Enrolled),
            (PlatformsChoice::Enrolled, _, _) => Err("accept = \"enrolled\" takes no lists"),
            (PlatformsChoice::Listed, Some(ek), ak) => Ok(Self::Listed { ek, ak }),
            (PlatformsChoice::Listed, None, _) => Err("accept = \"listed\" needs ek, a list of EK digests"),
        }
    }
}

impl From<Platforms> for PlatformsText {
    fn from(platforms: Platforms) -> Self {
        match platforms {
            Platforms::Enrolled => Self { accept: PlatformsChoice::Enrolled, ek: None, ak: None },
            Platforms::Listed { ek, ak } => Self { accept: PlatformsChoice::Listed, ek: Some(ek), ak },
        }
    }
}

/// The oldest acceptable firmware of one TPM manufacturer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareFloor {
    /// Manufacturer as in the EK certificate; `none` stands for an EK pinned without certificate.
    pub manufacturer: MakerName,
    /// Oldest acceptable firmware version.
    pub floor: FirmwareVersion,
    /// Where the floor comes from.
    pub source: Text,
}

/// A manufacturer, or the spelled-out absence of a certificate that names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MakerName {
    /// Named by the EK certificate.
    Named(Manufacturer),
    /// The EK was pinned by an operator: nothing names its maker.
    None,
}

impl TryFrom<String> for MakerName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "none" => Ok(Self::None),
            _ => Manufacturer::try_from(text).map(Self::Named),
        }
    }
}

impl From<MakerName> for String {
    fn from(name: MakerName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for MakerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(manufacturer) => manufacturer.fmt(f),
            Self::None => f.write_str("none"),
        }
    }
}

/// Firmware that an advisory says not to trust. Dated: the list is data and grows old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareDeny {
    /// Manufacturer.
    pub manufacturer: MakerName,
    /// First affected version.
    pub from: FirmwareVersion,
    /// Last affected version, inclusive.
    pub to: FirmwareVersion,
    /// The advisory (`CVE-2025-2884`).
    pub advisory: Text,
    /// When this row was confirmed against the vendor's bulletin.
    pub dated: Moment,
}

/// One digest and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The digest.
    pub digest: Digest,
    /// Computed from which artifact, captured from which node, imported from which file.
    pub source: Text,
    /// The calculation that it came out of, by the id of a [`Derivation`] of the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ItemName>,
}

/// Accepted values of one PCR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PcrReference {
    /// The PCR.
    pub index: u8,
    /// Its accepted values.
    pub accept: Vec<Accepted>,
}

/// One event that a PCR's log must (or may) hold. A PCR that has any is judged
/// event by event: every event must be referenced, every reference must occur. Order and repetition are not judged
/// so; where they matter, the PCR has a whole value as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventReference {
    /// The PCR it is measured into.
    pub pcr: u8,
    /// Its type as TCG names it. Shown, never compared: the type is not hashed into a PCR.
    #[serde(rename = "type")]
    pub kind: Text,
    /// What it is, in words.
    pub description: Text,
    /// Accepted digests.
    pub accept: Vec<Accepted>,
    /// Whether a log without it is accepted too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
}

/// Files that IMA may measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImaReferences {
    /// Paths not judged at all: exact, or a directory ending in `/`. Whoever can write there runs what they like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Allowed files.
    pub file: Vec<ImaFile>,
    /// Allowed buffers: what is measured of no file, such as keys loaded onto keyrings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buffer: Vec<ImaBuffer>,
}

/// One kind of buffer (template `ima-buf`) and its accepted contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImaBuffer {
    /// Name under which IMA records it: the keyring (`.ima`) for keys, else what the kernel calls it
    /// (`kexec-cmdline`). Never a path.
    pub name: String,
    /// Accepted digests of its content: of the certificate in DER for keys of keyrings.
    pub accept: Vec<Accepted>,
}

/// One file and its accepted contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImaFile {
    /// Absolute path as IMA records it.
    pub path: String,
    /// Accepted digests of its content.
    pub accept: Vec<Accepted>,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

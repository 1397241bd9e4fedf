//! Why evidence did not match reference values: one variant a fact, both sides
//! in it, and the set that judged.

mod code;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use evidence::{
    EvidenceKind,
    cose::KeyId,
    digest::{Digest, HashAlg, Sha256Digest},
    names::ItemName,
    register::Register,
    sev_snp::{Product, TcbVersion},
    tdx::TcbStatus,
    tee::CspId,
    time::UnixSeconds,
};
use strum::{EnumDiscriminants, EnumIter};

use crate::document::MakerName;
use crate::fields::{Hex, Mask, SevFirmware};
use crate::signed::SignedSet;
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
    /// Of a signed set.
    #[must_use]
    pub fn of(set: &SignedSet) -> Self {
        let (id, version) = (set.set().id().clone(), set.set().version());
        Self { id, version, signers: set.signers().to_vec() }
    }

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
    /// The machine is as a set describes that was revoked.
    #[error("reference values {reference} were revoked at {revoked_at}: {reason} (statement {statement})")]
    Revoked {
        /// The set.
        reference: Arc<ReferenceName>,
        /// When it was revoked.
        revoked_at: Moment,
        /// Why, as the statement says.
        reason: Text,
        /// Digest of the statement.
        statement: Sha256Digest,
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
        /// Part of the evidence that it belongs to, as claims are named: `tpm` or `tdx`.
        part: &'static str,
    },
    /// An event was measured that the set does not know.
    #[error("{register}: {diverges} is unknown to {reference}")]
    EventUnknown {
        /// The set.
        reference: Arc<ReferenceName>,
        /// The register it was measured into.
        register: Register,
        /// The event.
        diverges: Box<Divergence>,
        /// Known digests of events of this register, at most [`ACCEPTED_CAP`].
        accepted: Vec<Digest>,
    },
    /// An event that the set requires was not measured.
    #[error("{register}: {missing} was not measured, {reference} requires it")]
    EventMissing {
        /// The set.
        reference: Arc<ReferenceName>,
        /// The register it is measured into.
        register: Register,
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
    /// A file or buffer was measured that the set does not name.
    #[error("file {path} is unknown to {reference}")]
    FileUnknown {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Its path, or the buffer's name, as IMA recorded it.
        path: Text,
        /// Its digest, as the log gives it.
        got: Text,
    },
    /// A file or buffer was measured with contents that the set does not know.
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
    /// The set is for another kind of machine.
    #[error("evidence is of kind {got}, {reference} is for {accepted}")]
    KindUnknown {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Kind of the evidence.
        got: EvidenceKind,
        /// Kind of the set.
        accepted: EvidenceKind,
    },
    /// A register of a TEE's report has a value that the set does not know.
    #[error("{register} is {got}, unknown to {reference}{}", first_divergence(.diverges))]
    MeasurementUnknown {
        /// The set.
        reference: Arc<ReferenceName>,
        /// The register.
        register: Register,
        /// Its value.
        got: Digest,
        /// Known values, at most [`ACCEPTED_CAP`].
        accepted: Vec<Digest>,
        /// First event that the set does not know, where a log came.
        diverges: Option<Box<Divergence>>,
    },
    /// FAMILY_ID or IMAGE_ID of an SNP report is not a known one.
    #[error("{field} is {got}, unknown to {reference}")]
    GuestIdUnknown {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Which of them, as a claim's path.
        field: &'static str,
        /// Its value.
        got: Hex<16>,
        /// Known values, at most [`ACCEPTED_CAP`].
        accepted: Vec<Hex<16>>,
    },
    /// The guest was launched with an ID block, and the set has none.
    #[error("the guest has an ID block signed by {got}, {reference} is for guests without one")]
    IdBlockRefused {
        /// The set.
        reference: Arc<ReferenceName>,
        /// ID_KEY_DIGEST.
        got: Digest,
    },
    /// GUEST_SVN is below the floor.
    #[error("GUEST_SVN {got} is below {floor} of {reference}")]
    GuestSvnTooLow {
        /// The set.
        reference: Arc<ReferenceName>,
        /// In the report.
        got: u32,
        /// Lowest acceptable.
        floor: u32,
    },
    /// A migration agent may move the guest.
    #[error("the guest has migration agent {got}, which {reference} does not know")]
    MigrationAgent {
        /// The set.
        reference: Arc<ReferenceName>,
        /// REPORT_ID_MA.
        got: Hex<32>,
    },
    /// The report was asked for by another privilege level.
    #[error("the report is of VMPL {got}, {reference} accepts others")]
    Vmpl {
        /// The set.
        reference: Arc<ReferenceName>,
        /// In the report.
        got: u32,
        /// Accepted levels.
        accepted: Vec<u32>,
    },
    /// The report is of a version that the set does not accept.
    #[error("the report is of version {got}, {reference} accepts others")]
    ReportVersion {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Of the report.
        got: u32,
        /// Accepted versions.
        accepted: Vec<u32>,
    },
    /// The product has no floors in the set.
    #[error("product {got} is unknown to {reference}")]
    ProductUnknown {
        /// The set.
        reference: Arc<ReferenceName>,
        /// The product.
        got: Product,
        /// Known products.
        accepted: Vec<Product>,
    },
    /// A component of a TCB version is below its floor.
    #[error("{tcb} TCB: {component} {got} is below {floor} of {reference}")]
    TcbTooLow {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Which TCB version.
        tcb: TcbKind,
        /// Which component.
        component: &'static str,
        /// Its security patch level.
        got: u8,
        /// Lowest acceptable.
        floor: u8,
    },
    /// What is current can still be rolled back.
    #[error("committed TCB ({committed}) is not the current one ({current}), as {reference} requires")]
    TcbNotCommitted {
        /// The set.
        reference: Arc<ReferenceName>,
        /// COMMITTED_TCB.
        committed: Box<TcbVersion>,
        /// CURRENT_TCB.
        current: Box<TcbVersion>,
    },
    /// The SEV firmware is too old.
    #[error("{firmware} SEV firmware {got} is below {floor} of {reference}")]
    SevFirmwareTooOld {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Which firmware version.
        firmware: FirmwareKind,
        /// Its version.
        got: SevFirmware,
        /// Oldest acceptable.
        floor: SevFirmware,
    },
    /// A mitigation that the set requires is not in force.
    #[error("{tcb} mitigations are {got}, {reference} requires {required}")]
    MitigationMissing {
        /// The set.
        reference: Arc<ReferenceName>,
        /// At launch, or currently.
        tcb: TcbKind,
        /// The vector; zero where the report has none.
        got: Mask,
        /// Bits that it must have.
        required: Mask,
    },
    /// A bit of a policy or platform field is not as the set requires.
    #[error("{field}.{bit} is {}, {reference} requires the opposite", u8::from(!*.required))]
    BitRefused {
        /// The set.
        reference: Arc<ReferenceName>,
        /// The field, as a claim's path.
        field: &'static str,
        /// The bit's name.
        bit: &'static str,
        /// What it must be.
        required: bool,
    },
    /// The chip is not listed.
    #[error("chip {got} is not listed in {reference}")]
    ChipNotListed {
        /// The set.
        reference: Arc<ReferenceName>,
        /// CHIP_ID.
        got: Box<Hex<64>>,
    },
    /// A VLEK is of a provider that is not listed.
    #[error("the VLEK is of {got}, which is not listed in {reference}")]
    ProviderUnknown {
        /// The set.
        reference: Arc<ReferenceName>,
        /// CSP_ID.
        got: CspId,
        /// Listed ones, at most [`ACCEPTED_CAP`].
        accepted: Vec<CspId>,
    },
    /// The collateral is older than the set allows.
    #[error("TCB evaluation data number {got} is below {floor} of {reference}")]
    EvaluationTooOld {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Lower of the TCB info's and the QE identity's.
        got: u32,
        /// Lowest acceptable.
        floor: u32,
    },
    /// The platform's TCB status is not an accepted one.
    #[error("TCB status is {got}, {reference} accepts others")]
    TcbStatusRefused {
        /// The set.
        reference: Arc<ReferenceName>,
        /// The status.
        got: TcbStatus,
        /// Accepted statuses.
        accepted: Vec<TcbStatus>,
    },
    /// An advisory stands against the platform that the set does not bear.
    #[error("advisory {got} stands against the platform, {reference} does not bear it")]
    AdvisoryRefused {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Its id.
        got: Text,
        /// Borne advisories, at most [`ACCEPTED_CAP`].
        accepted: Vec<Text>,
    },
    /// An advisory was borne for a time, which is over.
    #[error("advisory {advisory} was borne until {until} by {reference}, it is {now}")]
    AdvisoryExpired {
        /// The set.
        reference: Arc<ReferenceName>,
        /// Its id.
        advisory: Text,
        /// When that ended.
        until: Moment,
        /// When it was judged.
        now: Moment,
    },
    /// The trust domain may use a feature that the set does not allow.
    #[error("XFAM is {got}, {reference} allows {allowed}")]
    XfamRefused {
        /// The set.
        reference: Arc<ReferenceName>,
        /// In the TD report.
        got: Mask,
        /// Bits that may be set.
        allowed: Mask,
    },
    /// The platform is not listed.
    #[error("platform {got} is not listed in {reference}")]
    PpidNotListed {
        /// The set.
        reference: Arc<ReferenceName>,
        /// PPID.
        got: Hex<16>,
    },
}

/// One of a report's TCB versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcbKind {
    /// REPORTED_TCB.
    Reported,
    /// COMMITTED_TCB.
    Committed,
    /// CURRENT_TCB.
    Current,
    /// LAUNCH_TCB.
    Launch,
}

impl fmt::Display for TcbKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reported => "reported",
            Self::Committed => "committed",
            Self::Current => "current",
            Self::Launch => "launch",
        })
    }
}

/// One of a report's firmware versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareKind {
    /// CURRENT_MAJOR, CURRENT_MINOR and CURRENT_BUILD.
    Current,
    /// COMMITTED_MAJOR, COMMITTED_MINOR and COMMITTED_BUILD.
    Committed,
}

impl fmt::Display for FirmwareKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current",
            Self::Committed => "committed",
        })
    }
}

fn first_divergence(diverges: &Option<Box<Divergence>>) -> String {
    diverges.as_ref().map_or_else(String::new, |d| format!("; first unknown: {d}"))
}

/// The first few of `all`, in order, for a denial.
pub(crate) fn some<T: Copy + Ord>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.into_iter().collect();
    all.sort_unstable();
    all.truncate(ACCEPTED_CAP);
    all
}

/// The same of a set that is in order: however many it holds, only these are looked at.
pub(crate) fn some_of<T: Copy>(all: &BTreeSet<T>) -> Vec<T> {
    all.iter().copied().take(ACCEPTED_CAP).collect()
}

pub(crate) fn moment(at: UnixSeconds) -> Moment {
    Moment::from(at)
}

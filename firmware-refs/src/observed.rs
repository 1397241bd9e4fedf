//! What was observed about a machine: the view of its evidence that reference
//! values are compared with, and captured from.

mod tee;

use evidence::{
    Claims, EvidenceKind,
    digest::{Digest, HashAlg, Sha256Digest},
    event_log::EventLog,
    ima::ImaEntry,
    time::UnixSeconds,
    tpm::{PcrSet, appraisal::TpmClaims, ek::EkEndorser},
};

pub use self::tee::{ObservedCcel, ObservedSnp, ObservedTdx};
use crate::document::MakerName;
use crate::text::{FirmwareVersion, KeyName, Manufacturer};

/// A machine's evidence, by its kind.
#[derive(Clone, Debug)]
pub enum Observed<'a> {
    /// Of a TPM.
    Tpm(ObservedTpm<'a>),
    /// Of an SNP guest.
    SevSnp(ObservedSnp),
    /// Of a trust domain.
    Tdx(ObservedTdx<'a>),
    /// Of a vTPM in an SNP guest.
    TpmOnSevSnp(ObservedTpm<'a>, ObservedSnp),
    /// Of a vTPM in a trust domain.
    TpmOnTdx(ObservedTpm<'a>, ObservedTdx<'a>),
}

impl<'a> Observed<'a> {
    /// The view of claims that were proven.
    #[must_use]
    pub fn of(claims: &'a Claims<'a>, judged_at: UnixSeconds) -> Self {
        match claims {
            Claims::Tpm(tpm) => Self::Tpm(ObservedTpm::of(tpm)),
            Claims::SevSnp(snp) => Self::SevSnp(ObservedSnp::of(snp)),
            Claims::Tdx(tdx) => Self::Tdx(ObservedTdx::of(tdx, judged_at)),
            Claims::TpmOnSevSnp(tpm, snp) => Self::TpmOnSevSnp(ObservedTpm::of(tpm), ObservedSnp::of(snp)),
            Claims::TpmOnTdx(tpm, tdx) => Self::TpmOnTdx(ObservedTpm::of(tpm), ObservedTdx::of(tdx, judged_at)),
        }
    }

    /// The kind of evidence.
    #[must_use]
    pub const fn kind(&self) -> EvidenceKind {
        match self {
            Self::Tpm(_) => EvidenceKind::Tpm,
            Self::SevSnp(_) => EvidenceKind::SevSnp,
            Self::Tdx(_) => EvidenceKind::Tdx,
            Self::TpmOnSevSnp(..) => EvidenceKind::TpmOnSevSnp,
            Self::TpmOnTdx(..) => EvidenceKind::TpmOnTdx,
        }
    }

    /// What was observed of a TPM, if the kind has one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&ObservedTpm<'a>> {
        match self {
            Self::Tpm(tpm) | Self::TpmOnSevSnp(tpm, _) | Self::TpmOnTdx(tpm, _) => Some(tpm),
            Self::SevSnp(_) | Self::Tdx(_) => None,
        }
    }

    /// What was observed of an SNP guest, if the kind is one.
    #[must_use]
    pub const fn snp(&self) -> Option<&ObservedSnp> {
        match self {
            Self::SevSnp(snp) | Self::TpmOnSevSnp(_, snp) => Some(snp),
            Self::Tpm(_) | Self::Tdx(_) | Self::TpmOnTdx(..) => None,
        }
    }

    /// What was observed of a trust domain, if the kind is one.
    #[must_use]
    pub const fn tdx(&self) -> Option<&ObservedTdx<'a>> {
        match self {
            Self::Tdx(tdx) | Self::TpmOnTdx(_, tdx) => Some(tdx),
            Self::Tpm(_) | Self::SevSnp(_) | Self::TpmOnSevSnp(..) => None,
        }
    }
}

/// A TPM's evidence, as far as reference values speak about it.
///
/// It says nothing about authenticity: a verdict is only ever given on one made from a proof type,
/// `explain` may look at one that failed.
#[derive(Clone, Debug)]
pub struct ObservedTpm<'a> {
    /// Bank that was quoted.
    pub bank: HashAlg,
    /// PCRs that were quoted, ascending, with their values.
    pub pcrs: Vec<(u8, Digest)>,
    /// The event log, where one came.
    pub event_log: Option<ObservedLog<'a>>,
    /// What IMA measured, in order, where its log came: only entries that the quote covers.
    pub files: Option<&'a [ImaEntry<'a>]>,
    /// SHA-256 of the EK's TPM2B_PUBLIC.
    pub ek: Sha256Digest,
    /// Name of the AK.
    pub ak: KeyName,
    /// Manufacturer, where a certificate names one.
    pub manufacturer: MakerName,
    /// firmwareVersion of the quote.
    pub firmware: FirmwareVersion,
}

/// An event log, and the registers that it leads to.
#[derive(Clone, Copy, Debug)]
pub struct ObservedLog<'a> {
    /// The log.
    pub log: &'a EventLog<'a>,
    /// Registers whose quoted value it explains.
    pub proven: PcrSet,
}

impl<'a> ObservedTpm<'a> {
    /// The view of claims that were proven.
    #[must_use]
    pub fn of(claims: &'a TpmClaims<'a>) -> Self {
        Self {
            bank: claims.pcrs().bank(),
            pcrs: claims.pcrs().iter().map(|(pcr, value)| (pcr, *value)).collect(),
            event_log: claims.event_log().map(|log| ObservedLog { log: log.log(), proven: log.proven() }),
            files: claims.ima_log().map(|log| log.covered()),
            ek: claims.ek_digest(),
            ak: KeyName::from_bytes(&claims.ak_name().to_bytes()),
            manufacturer: maker(claims.endorsement().endorser()),
            firmware: FirmwareVersion(claims.firmware_version()),
        }
    }

    /// The value of one PCR, where it was quoted.
    #[must_use]
    pub fn pcr(&self, index: u8) -> Option<Digest> {
        self.pcrs.iter().find(|(pcr, _)| *pcr == index).map(|(_, value)| *value)
    }
}

/// Who made the TPM, as far as somebody vouches for it. A name that does not read is no name.
#[must_use]
pub fn maker(endorser: &EkEndorser) -> MakerName {
    match endorser {
        EkEndorser::Manufacturer(make) | EkEndorser::Simulated(make) => {
            Manufacturer::try_from(make.manufacturer.clone()).map_or(MakerName::None, MakerName::Named)
        }
        EkEndorser::Operator => MakerName::None,
    }
}

//! TPMS_ATTEST (TPM2 Library Part 2, Attestation Structures): what a TPM signs. Strict: every byte is accounted for.

use super::{pcr::PcrSelection, wire::Reader};
use crate::EvidenceDenial;

/// Longest TPMS_ATTEST accepted. Names and digests are at most 66 bytes; a real quote is about 145.
pub const ATTEST_CAP_BYTES: usize = 1024;

/// A TPMS_ATTEST, borrowed from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Attest<'a> {
    /// Qualified Name of the signing key: its Name hashed with its ancestors'. Not comparable with a Name.
    pub qualified_signer: &'a [u8],
    /// extraData: the qualifying data of the caller.
    pub extra_data: &'a [u8],
    /// Clock and counters at signing.
    pub clock: ClockInfo,
    /// firmwareVersion, two vendor-defined halves (TPM_PT_FIRMWARE_VERSION_1 and _2).
    pub firmware_version: u64,
    /// What was attested.
    pub attested: Attested<'a>,
}

/// TPMU_ATTEST, as far as we ask for it.
#[derive(Clone, Copy, Debug)]
pub enum Attested<'a> {
    /// TPM2_Quote.
    Quote(QuoteInfo<'a>),
    /// TPM2_Certify.
    Certify(CertifyInfo<'a>),
}

/// TPMS_QUOTE_INFO.
#[derive(Clone, Copy, Debug)]
pub struct QuoteInfo<'a> {
    /// The one bank and its PCRs.
    pub selection: PcrSelection,
    /// Digest over the selected values, by the hash of the signing scheme.
    pub pcr_digest: &'a [u8],
}

/// TPMS_CERTIFY_INFO.
#[derive(Clone, Copy, Debug)]
pub struct CertifyInfo<'a> {
    /// Name of the certified object.
    pub name: &'a [u8],
    /// Its qualified Name.
    pub qualified_name: &'a [u8],
}

/// TPMS_CLOCK_INFO (TPM2 Library Part 2 §10.11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds that the TPM has been powered, over its life.
    pub clock_ms: u64,
    /// TPM resets (restarts of the machine) so far.
    pub reset_count: u32,
    /// TPM restarts and resumes since the last reset.
    pub restart_count: u32,
    /// No greater value of `clock_ms` was reported before.
    pub safe: bool,
}

impl<'a> Attest<'a> {
    /// Reads exactly one TPMS_ATTEST.
    ///
    /// # Errors
    /// [`EvidenceDenial::Malformed`] for anything but a quote or certification made by a TPM, and for bytes left over.
    pub fn read(bytes: &'a [u8]) -> Result<Self, EvidenceDenial> {
        let mut reader = Reader::new(STRUCTURE, bytes);
        let start = reader;
        if reader.u32(MAGIC)? != TPM_GENERATED_VALUE {
            return Err(start.malformed(MAGIC));
        }
        let at_type = reader;
        let kind = reader.u16(TYPE)?;
        let qualified_signer = reader.sized("qualifiedSigner", CAP_NAME_BYTES)?;
        let extra_data = reader.sized("extraData", CAP_DATA_BYTES)?;
        let clock = ClockInfo::read(&mut reader)?;
        let firmware_version = reader.u64("firmwareVersion")?;
        let attested = match kind {
            TPM_ST_ATTEST_QUOTE => Attested::Quote(QuoteInfo::read(&mut reader)?),
            TPM_ST_ATTEST_CERTIFY => Attested::Certify(CertifyInfo::read(&mut reader)?),
            _ => return Err(at_type.malformed(TYPE)),
        };
        reader.finish()?;
        Ok(Self { qualified_signer, extra_data, clock, firmware_version, attested })
    }

    /// The quote in it.
    ///
    /// # Errors
    /// [`EvidenceDenial::Malformed`] when it is a certification.
    pub fn quote(&self) -> Result<QuoteInfo<'a>, EvidenceDenial> {
        match self.attested {
            Attested::Quote(quote) => Ok(quote),
            Attested::Certify(_) => Err(EvidenceDenial::Malformed { structure: STRUCTURE, offset: 4, what: TYPE }),
        }
    }

    /// The certification in it.
    ///
    /// # Errors
    /// [`EvidenceDenial::Malformed`] when it is a quote.
    pub fn certification(&self) -> Result<CertifyInfo<'a>, EvidenceDenial> {
        match self.attested {
            Attested::Certify(info) => Ok(info),
            Attested::Quote(_) => Err(EvidenceDenial::Malformed { structure: STRUCTURE, offset: 4, what: TYPE }),
        }
    }
}

impl ClockInfo {
    fn read(reader: &mut Reader<'_>) -> Result<Self, EvidenceDenial> {
        Ok(Self {
            clock_ms: reader.u64("clock")?,
            reset_count: reader.u32("resetCount")?,
            restart_count: reader.u32("restartCount")?,
            // TPMI_YES_NO: 0 or 1 and nothing else
            safe: match reader.u8("safe")? {
                0 => false,
                1 => true,
                _ => return Err(reader.malformed("safe")),
            },
        })
    }
}

impl<'a> QuoteInfo<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, EvidenceDenial> {
        let selection = PcrSelection::read(reader)?;
        let pcr_digest = reader.sized("pcrDigest", CAP_DIGEST_BYTES)?;
        Ok(Self { selection, pcr_digest })
    }
}

impl<'a> CertifyInfo<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, EvidenceDenial> {
        Ok(Self {
            name: reader.sized("name", CAP_NAME_BYTES)?,
            qualified_name: reader.sized("qualifiedName", CAP_NAME_BYTES)?,
        })
    }
}

const STRUCTURE: &str = "TPMS_ATTEST";
const MAGIC: &str = "magic";
const TYPE: &str = "type";
const TPM_GENERATED_VALUE: u32 = 0xff54_4347;
const TPM_ST_ATTEST_CERTIFY: u16 = 0x8017;
const TPM_ST_ATTEST_QUOTE: u16 = 0x8018;
const CAP_DIGEST_BYTES: usize = 64;
const CAP_NAME_BYTES: usize = 66; // nameAlg and the longest digest (TPMU_NAME)
const CAP_DATA_BYTES: usize = 66; // TPM2B_DATA: sizeof(TPMT_HA)

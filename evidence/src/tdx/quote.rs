//! DCAP quotes of versions 3, 4 and 5, borrowed from their bytes (Intel DCAP Quoting Library API, appendices A.3,
//! A.4 and "Quote format"). All numbers are little-endian.

use super::{
    body::{Body, EnclaveReport, TdReport, TdReport15},
    pem,
};
use crate::{EvidenceDenial, digest::Sha256Digest, reader::Reader};

/// Longest quote, padding included: one page for the quote and one for what a certificate chain may grow to.
pub const QUOTE_CAP_BYTES: usize = 32 * 1024;
/// Header (A.3.1, A.4.1).
const HEADER_BYTES: usize = 48;
/// Body descriptor of version 5: type and size.
const DESCRIPTOR_BYTES: usize = 6;
/// Header's attestation key type: ECDSA over P-256 (A.3.1).
const ECDSA_P256: u16 = 2;
/// UUID of Intel's quoting enclave, 939a7233-f79c-4ca9-940a-0db3957f0607 (A.3.1).
const INTEL_QE_VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
/// Certification data that is a PCK certificate chain in PEM (A.3.9).
const PCK_CHAIN: u16 = 5;
/// Certification data that is the QE report with its own certification data (A.4.9).
const QE_REPORT: u16 = 6;

/// TEE types (A.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeeType {
    /// 0x00: an SGX enclave.
    Sgx,
    /// 0x81: a TDX trust domain.
    Tdx,
}

/// A quote that reads as one. Nothing of it is verified.
#[derive(Clone, Copy, Debug)]
pub struct Quote<'a> {
    /// 3, 4 or 5.
    pub version: u16,
    /// Header offset 28: chosen by the quoting enclave.
    pub user_data: &'a [u8; 20],
    /// What was measured.
    pub body: Body<'a>,
    /// Report of the quoting enclave.
    pub qe_report: EnclaveReport<'a>,
    /// Header and body: what the attestation key signed.
    pub(super) signed: &'a [u8],
    /// r and s over it, each 32 bytes big-endian.
    pub(super) signature: &'a [u8; 64],
    /// x and y of the attestation key, each 32 bytes big-endian.
    pub(super) attestation_key: &'a [u8; 64],
    /// r and s over the QE report by the PCK.
    pub(super) qe_report_signature: &'a [u8; 64],
    /// Bytes that the QE report data covers beside the attestation key.
    pub(super) qe_authentication: &'a [u8],
    /// PCK certificate chain as it stands: PEM text.
    pub(super) pck_chain: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Reads exactly one quote, as evidence carries it.
    ///
    /// # Errors
    /// [`EvidenceDenial`] for the first byte that is out of place; [`EvidenceDenial::TrailingBytes`] for bytes after
    /// the declared end.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EvidenceDenial> {
        let (quote, rest) = Self::split(bytes)?;
        match rest {
            [] => Ok(quote),
            extra => Err(EvidenceDenial::TrailingBytes { structure: "quote", extra_bytes: extra.len() }),
        }
    }

    /// Reads a quote as a file holds it: with what follows its declared end, which no signature covers.
    ///
    /// # Errors
    /// [`EvidenceDenial`] for the first byte that is out of place.
    pub fn parse_prefix(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), EvidenceDenial> {
        Self::split(bytes)
    }

    /// The quote in `bytes` without zero padding after its declared end: what a node sends of what its device gave.
    ///
    /// # Errors
    /// As [`Quote::parse`], for bytes other than zero after the declared end.
    pub fn trimmed(bytes: &'a [u8]) -> Result<&'a [u8], EvidenceDenial> {
        let (_, rest) = Self::split(bytes)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(EvidenceDenial::TrailingBytes { structure: "quote", extra_bytes: rest.len() });
        }
        Ok(bytes.get(..bytes.len().saturating_sub(rest.len())).unwrap_or(bytes))
    }

    /// SHA-256 of the PCK certificate chain as it stands in the quote: the key under which a verified chain is kept.
    #[must_use]
    pub fn pck_chain_digest(&self) -> Sha256Digest {
        Sha256Digest::of(self.pck_chain)
    }

    /// The PCK certificate chain as it stands: PEM text, not verified.
    #[must_use]
    pub const fn pck_chain(&self) -> &'a [u8] {
        self.pck_chain
    }

    /// DER of the PCK certificate, its issuer and the root, as the chain has them. Nothing of them is verified.
    ///
    /// # Errors
    /// [`EvidenceDenial`] when the chain is not three certificates in PEM.
    pub fn pck_certificates(&self) -> Result<[Vec<u8>; 3], EvidenceDenial> {
        pem::read_chain(self.pck_chain)
    }

    /// Whether this is of a trust domain or of an enclave.
    #[must_use]
    pub const fn tee_type(&self) -> TeeType {
        match self.body {
            Body::Sgx(_) => TeeType::Sgx,
            Body::Td10(_) | Body::Td15(_) => TeeType::Tdx,
        }
    }

    /// The trust domain's report.
    ///
    /// # Errors
    /// [`EvidenceDenial::QuoteField`] when the quote is of an enclave.
    pub fn td_report(&self) -> Result<&TdReport<'a>, EvidenceDenial> {
        match &self.body {
            Body::Td10(report) => Ok(report),
            Body::Td15(report) => Ok(&report.td10),
            Body::Sgx(_) => Err(refused("tee_type", 0, "0x81 (TDX)")),
        }
    }

    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), EvidenceDenial> {
        if bytes.len() > QUOTE_CAP_BYTES {
            let (got_bytes, cap_bytes) = (bytes.len(), QUOTE_CAP_BYTES);
            return Err(EvidenceDenial::TooLarge { part: "quote", got_bytes, cap_bytes });
        }
        let mut reader = Reader::new("quote", bytes);
        let header = Header::read(&mut reader)?;
        let body = read_body(&mut reader, &header)?;
        let signed = bytes.get(..reader.offset()).unwrap_or(&[]);
        let signature_bytes = reader.length_u32()?;
        let mut data = Reader::new("quote signature data", reader.take(signature_bytes)?);
        let quote = read_signature_data(&mut data, &header, body, signed)?;
        if !data.is_at_end() {
            return Err(EvidenceDenial::TrailingBytes { structure: "quote signature data", extra_bytes: data.left() });
        }
        let rest = reader.take(reader.left())?;
        Ok((quote, rest))
    }
}

struct Header<'a> {
    version: u16,
    tee_type: TeeType,
    user_data: &'a [u8; 20],
}

impl<'a> Header<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, EvidenceDenial> {
        let version = reader.u16()?;
        if !(3..=5).contains(&version) {
            return Err(refused("version", version.into(), "3, 4 or 5"));
        }
        let key_type = reader.u16()?;
        if key_type != ECDSA_P256 {
            return Err(refused("att_key_type", key_type.into(), "2 (ECDSA P-256)"));
        }
        // version 3 is of enclaves alone; the field was reserved then
        let tee_type = match (reader.u32()?, version) {
            (0, _) => TeeType::Sgx,
            (0x81, 4 | 5) => TeeType::Tdx,
            (other, _) => return Err(refused("tee_type", other, "0x00 (SGX), or 0x81 (TDX) from version 4")),
        };
        // offset 8: security versions of QE and PCE in version 3, reserved later; both stand in other places too
        reader.take(4)?;
        if *reader.field::<16>()? != INTEL_QE_VENDOR {
            return Err(reader.malformed("QE vendor id is not Intel's"));
        }
        let user_data = reader.field()?;
        debug_assert_eq!(reader.offset(), HEADER_BYTES);
        Ok(Self { version, tee_type, user_data })
    }
}

fn read_body<'a>(reader: &mut Reader<'a>, header: &Header<'_>) -> Result<Body<'a>, EvidenceDenial> {
    let kind = match (header.version, header.tee_type) {
        (5, _) => {
            let kind = reader.u16()?;
            let size = reader.length_u32()?;
            let (want_bytes, is_td) = match kind {
                1 => (EnclaveReport::BYTES, false),
                2 => (TdReport::BYTES, true),
                3 => (TdReport15::BYTES, true),
                other => return Err(refused("body type", other.into(), "1 (SGX), 2 (TD 1.0) or 3 (TD 1.5)")),
            };
            if is_td != (header.tee_type == TeeType::Tdx) {
                return Err(refused("body type", kind.into(), "the TEE type's"));
            }
            if size != want_bytes {
                return Err(reader.malformed("body size is not its type's"));
            }
            debug_assert_eq!(reader.offset(), HEADER_BYTES.saturating_add(DESCRIPTOR_BYTES));
            kind
        }
        (_, TeeType::Sgx) => 1,
        (_, TeeType::Tdx) => 2,
    };
    match kind {
        1 => EnclaveReport::read(reader).map(Body::Sgx),
        2 => TdReport::read(reader).map(Body::Td10),
        _ => TdReport15::read(reader).map(Body::Td15),
    }
}

/// ECDSA P-256 quote signature data: A.3.4 in version 3, A.4.4 with the QE report one level deeper later.
fn read_signature_data<'a>(
    reader: &mut Reader<'a>,
    header: &Header<'a>,
    body: Body<'a>,
    signed: &'a [u8],
) -> Result<Quote<'a>, EvidenceDenial> {
    let signature = reader.field()?;
    let attestation_key = reader.field()?;
    if header.version == 3 {
        return read_qe_report(reader, |parts| parts.quote(header, body, signed, signature, attestation_key));
    }
    let kind = reader.u16()?;
    if kind != QE_REPORT {
        return Err(refused("certification data type", kind.into(), "6 (QE report certification data)"));
    }
    let size = reader.length_u32()?;
    let mut inner = Reader::new("QE report certification data", reader.take(size)?);
    let quote = read_qe_report(&mut inner, |parts| parts.quote(header, body, signed, signature, attestation_key))?;
    if !inner.is_at_end() {
        let extra_bytes = inner.left();
        return Err(EvidenceDenial::TrailingBytes { structure: "QE report certification data", extra_bytes });
    }
    Ok(quote)
}

struct QeParts<'a> {
    report: EnclaveReport<'a>,
    signature: &'a [u8; 64],
    authentication: &'a [u8],
    pck_chain: &'a [u8],
}

impl<'a> QeParts<'a> {
    const fn quote(
        self,
        header: &Header<'a>,
        body: Body<'a>,
        signed: &'a [u8],
        signature: &'a [u8; 64],
        attestation_key: &'a [u8; 64],
    ) -> Quote<'a> {
        Quote {
            version: header.version,
            user_data: header.user_data,
            body,
            qe_report: self.report,
            signed,
            signature,
            attestation_key,
            qe_report_signature: self.signature,
            qe_authentication: self.authentication,
            pck_chain: self.pck_chain,
        }
    }
}

/// QE report, its signature, authentication data (A.3.8) and certification data (A.3.9).
fn read_qe_report<'a>(
    reader: &mut Reader<'a>,
    quote: impl FnOnce(QeParts<'a>) -> Quote<'a>,
) -> Result<Quote<'a>, EvidenceDenial> {
    let report = EnclaveReport::read(reader)?;
    let signature = reader.field()?;
    let authentication_bytes = usize::from(reader.u16()?);
    let authentication = reader.take(authentication_bytes)?;
    let kind = reader.u16()?;
    if kind != PCK_CHAIN {
        return Err(refused("certification data type", kind.into(), "5 (PCK certificate chain)"));
    }
    let size = reader.length_u32()?;
    let pck_chain = reader.take(size)?;
    Ok(quote(QeParts { report, signature, authentication, pck_chain }))
}

const fn refused(field: &'static str, got: u32, accepted: &'static str) -> EvidenceDenial {
    EvidenceDenial::QuoteField { field, got, accepted }
}

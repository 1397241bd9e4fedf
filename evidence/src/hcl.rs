//! The report that Azure's paravisor (the host compatibility layer) keeps in its vTPM, at NV index 0x01400001: a
//! hardware report whose report data is the hash of JSON claims, which name the vTPM's attestation key.
//!
//! Layout as in Microsoft's "Virtual TPMs in Azure confidential VMs" and the open paravisor's attestation messages:
//! a header of 32 bytes, 1184 bytes of hardware report, 20 bytes of runtime data header, the claims, zero padding.
//! Only the hardware report is signed, and by it the claims; the rest merely says where they are.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use der::{
    Encode as _,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef},
};
use serde::Deserialize;
use x509_cert::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use crate::{
    EvidenceDenial,
    digest::{HashAlg, Sha256Digest},
    tdx::body::TdReport,
};

/// Longest report.
pub const HCL_REPORT_CAP_BYTES: usize = 64 * 1024;
/// Longest claims.
const CLAIMS_CAP_BYTES: usize = 16 * 1024;
/// Most keys in the claims.
const KEYS_CAP: usize = 16;

/// A report that reads as one. Nothing of it is verified.
#[derive(Clone, Copy, Debug)]
pub struct HclReport<'a> {
    /// Version of the header.
    pub version: u32,
    /// The hardware report.
    pub hardware: HardwareReport<'a>,
    hash: HashAlg,
    claims: &'a [u8],
}

/// The hardware report in it.
#[derive(Clone, Copy, Debug)]
pub enum HardwareReport<'a> {
    /// ATTESTATION_REPORT of SEV-SNP.
    Snp(&'a [u8]),
    /// TDREPORT of TDX. Only the machine itself could verify its MAC: what it says counts when a quote says it too.
    Tdx(TdReportStruct<'a>),
}

/// TDREPORT_STRUCT (Intel TDX Module ABI), the parts that a quote repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdReportStruct<'a> {
    /// REPORTMACSTRUCT.REPORTDATA, at 128.
    pub report_data: &'a [u8; 64],
    /// TDINFO from ATTRIBUTES to RTMR3, at 512: as in a quote's TD report from `td_attributes` on.
    pub td_info: &'a [u8; TD_INFO_BYTES],
}

/// Length of TDINFO from ATTRIBUTES to RTMR3.
pub const TD_INFO_BYTES: usize = 400;

impl TdReportStruct<'_> {
    /// Is it the report that was quoted, register for register?
    ///
    /// # Errors
    /// [`EvidenceDenial::TdReportMismatch`].
    pub fn verify_quoted(&self, quoted: &TdReport<'_>) -> Result<(), EvidenceDenial> {
        let [rtmr0, rtmr1, rtmr2, rtmr3] = quoted.rtmrs;
        let fields: [&[u8]; 10] = [
            quoted.td_attributes,
            quoted.xfam,
            quoted.mr_td,
            quoted.mr_config_id,
            quoted.mr_owner,
            quoted.mr_owner_config,
            rtmr0,
            rtmr1,
            rtmr2,
            rtmr3,
        ];
        let quoted = fields.concat();
        if quoted == self.td_info {
            return Ok(());
        }
        let (got, quoted) = (Sha256Digest::of(self.td_info), Sha256Digest::of(&quoted));
        Err(EvidenceDenial::TdReportMismatch { got, quoted })
    }
}

/// The claims that a hardware report signed for. Made only by [`HclReport::runtime_claims`].
#[derive(Clone, Debug)]
pub struct RuntimeClaims {
    ak_spki: Vec<u8>,
    user_data: Option<String>,
}

impl<'a> HclReport<'a> {
    /// Reads exactly one report.
    ///
    /// # Errors
    /// [`EvidenceDenial::TooLarge`], [`EvidenceDenial::Malformed`] with the offset of the field, or
    /// [`EvidenceDenial::TrailingBytes`] for anything but zeros behind the claims.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EvidenceDenial> {
        if bytes.len() > HCL_REPORT_CAP_BYTES {
            let (got_bytes, cap_bytes) = (bytes.len(), HCL_REPORT_CAP_BYTES);
            return Err(EvidenceDenial::TooLarge { part: "HCL report", got_bytes, cap_bytes });
        }
        if !bytes.starts_with(b"HCLA") {
            return Err(malformed(0, "HCLA"));
        }
        let version = u32_at(bytes, 4)?;
        if !matches!(version, 1 | 2) {
            return Err(malformed(4, "header version 1 or 2"));
        }
        if u32_at(bytes, 16)? != 0 {
            return Err(malformed(16, "status of success"));
        }
        let claims_bytes = length_at(bytes, CLAIMS_LENGTH_AT)?;
        let data_bytes = length_at(bytes, DATA_AT)?;
        if claims_bytes > CLAIMS_CAP_BYTES || Some(data_bytes) != claims_bytes.checked_add(DATA_HEADER_BYTES) {
            return Err(malformed(CLAIMS_LENGTH_AT, "claims that fill the runtime data"));
        }
        if Some(length_at(bytes, 8)?) != DATA_AT.checked_add(data_bytes) {
            return Err(malformed(8, "a size of header, hardware report and runtime data"));
        }
        if u32_at(bytes, DATA_AT.saturating_add(4))? != 1 {
            return Err(malformed(DATA_AT.saturating_add(4), "runtime data version 1"));
        }
        let hardware = read_hardware(bytes)?;
        let hash = match u32_at(bytes, HASH_TYPE_AT)? {
            1 => HashAlg::Sha256,
            2 => HashAlg::Sha384,
            3 => HashAlg::Sha512,
            _ => return Err(malformed(HASH_TYPE_AT, "hash type 1 to 3")),
        };
        let (claims, padding) = bytes
            .get(CLAIMS_AT..)
            .and_then(|rest| rest.split_at_checked(claims_bytes))
            .ok_or_else(|| malformed(bytes.len(), "ends early"))?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(EvidenceDenial::TrailingBytes { structure: "HCL report", extra_bytes: padding.len() });
        }
        Ok(Self { version, hardware, hash, claims })
    }

    /// The hash of the claims.
    #[must_use]
    pub const fn hash(&self) -> HashAlg {
        self.hash
    }

    /// The claims, if `report_data` of the verified hardware report is their hash and then zeros.
    ///
    /// # Errors
    /// [`EvidenceDenial::RuntimeClaimsMismatch`]; [`EvidenceDenial::Malformed`] when they name no AK, or two.
    pub fn runtime_claims(&self, report_data: &[u8; 64]) -> Result<RuntimeClaims, EvidenceDenial> {
        let digest = self.hash.hash(&[self.claims]);
        let mut expected = [0u8; 64];
        expected.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
        if expected != *report_data {
            let (got, expected) = (hex::encode(expected), hex::encode(report_data));
            return Err(EvidenceDenial::RuntimeClaimsMismatch { got, expected });
        }
        RuntimeClaims::read(self.claims)
    }
}

impl RuntimeClaims {
    fn read(claims: &[u8]) -> Result<Self, EvidenceDenial> {
        let document: Document = serde_json::from_slice(claims).map_err(|error| EvidenceDenial::Malformed {
            structure: "runtime claims",
            offset: error.column(),
            what: "JSON with a list of keys",
        })?;
        if document.keys.len() > KEYS_CAP {
            return Err(EvidenceDenial::TooMany { part: "keys in runtime claims", cap: KEYS_CAP });
        }
        let refused = |what| EvidenceDenial::Malformed { structure: "runtime claims", offset: 0, what };
        let mut named = document.keys.iter().filter(|key| key.kid == "HCLAkPub");
        let (Some(ak), None) = (named.next(), named.next()) else { return Err(refused("one key HCLAkPub")) };
        let spki = ak.spki().ok_or_else(|| refused("HCLAkPub as an RSA key"))?;
        Ok(Self { ak_spki: spki, user_data: document.user_data })
    }

    /// SubjectPublicKeyInfo of the vTPM's attestation key (HCLAkPub), an RSA key.
    #[must_use]
    pub fn ak_spki(&self) -> &[u8] {
        &self.ak_spki
    }

    /// What the guest had put in, as it stands.
    #[must_use]
    pub fn user_data(&self) -> Option<&str> {
        self.user_data.as_deref()
    }
}

/// Claims as Azure writes them. What else they say is about the machine's configuration and decides nothing.
#[derive(Deserialize)]
struct Document {
    keys: Vec<Jwk>,
    #[serde(default, rename = "user-data")]
    user_data: Option<String>,
}

/// JSON Web Key (RFC 7517).
#[derive(Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

impl Jwk {
    /// SubjectPublicKeyInfo of an RSA key; `None` when it is none.
    fn spki(&self) -> Option<Vec<u8>> {
        if self.kty != "RSA" {
            return None;
        }
        let (modulus, exponent) = (URL_SAFE_NO_PAD.decode(&self.n).ok()?, URL_SAFE_NO_PAD.decode(&self.e).ok()?);
        let key = vec![UintRef::new(&modulus).ok()?, UintRef::new(&exponent).ok()?].to_der().ok()?;
        let algorithm = AlgorithmIdentifierRef { oid: RSA_ENCRYPTION, parameters: Some(AnyRef::NULL) };
        let subject_public_key = BitStringRef::from_bytes(&key).ok()?;
        SubjectPublicKeyInfoRef { algorithm, subject_public_key }.to_der().ok()
    }
}

fn read_hardware(bytes: &[u8]) -> Result<HardwareReport<'_>, EvidenceDenial> {
    let early = || malformed(bytes.len(), "ends early");
    let report = bytes.get(HARDWARE_AT..DATA_AT).ok_or_else(early)?;
    match u32_at(bytes, REPORT_TYPE_AT)? {
        2 => Ok(HardwareReport::Snp(report)),
        4 => {
            let report_data = report.get(128..).and_then(<[u8]>::first_chunk).ok_or_else(early)?;
            let td_info = report.get(512..).and_then(<[u8]>::first_chunk).ok_or_else(early)?;
            if report.get(TD_REPORT_BYTES..).is_some_and(|rest| rest.iter().any(|byte| *byte != 0)) {
                let offset = HARDWARE_AT.saturating_add(TD_REPORT_BYTES);
                return Err(malformed(offset, "zeros behind the TDREPORT"));
            }
            Ok(HardwareReport::Tdx(TdReportStruct { report_data, td_info }))
        }
        _ => Err(malformed(REPORT_TYPE_AT, "report type 2 (SNP) or 4 (TDX)")),
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, EvidenceDenial> {
    let field = bytes.get(offset..).and_then(<[u8]>::first_chunk::<4>);
    field.map(|field| u32::from_le_bytes(*field)).ok_or_else(|| malformed(bytes.len(), "ends early"))
}

fn length_at(bytes: &[u8], offset: usize) -> Result<usize, EvidenceDenial> {
    usize::try_from(u32_at(bytes, offset)?).map_err(|_| malformed(offset, "a length that can be counted"))
}

const fn malformed(offset: usize, what: &'static str) -> EvidenceDenial {
    EvidenceDenial::Malformed { structure: "HCL report", offset, what }
}

/// Hardware report, behind the header.
const HARDWARE_AT: usize = 32;
/// Runtime data header: size, version, report type, hash type, length of the claims; 32 bits each.
const DATA_AT: usize = 1216;
const REPORT_TYPE_AT: usize = DATA_AT + 8;
const HASH_TYPE_AT: usize = DATA_AT + 12;
const CLAIMS_LENGTH_AT: usize = DATA_AT + 16;
const DATA_HEADER_BYTES: usize = 20;
const CLAIMS_AT: usize = DATA_AT + DATA_HEADER_BYTES;
/// Length of TDREPORT_STRUCT.
const TD_REPORT_BYTES: usize = 1024;
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

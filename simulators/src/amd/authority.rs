//! ARK, ASK, ASVK and the CRL.

use std::sync::{Arc, OnceLock};

use super::{ProductLine, VekFields, vek::Vek};
use crate::{
    SimulatorError,
    keys::{RsaKey, Signer},
    x509::{self, CertificateFields, CrlFields, Extension, NamePart},
};

/// The three CA keys of one product line.
#[derive(Debug)]
pub struct AmdKeys {
    /// AMD Root Key.
    pub ark: RsaKey,
    /// AMD SEV Key: signs VCEKs.
    pub ask: RsaKey,
    /// AMD SEV VLEK Key: signs VLEKs.
    pub asvk: RsaKey,
}

impl AmdKeys {
    /// The keys in this crate's `keys` folder: public, they protect nothing. Read once per process.
    pub fn published(line: ProductLine) -> Result<Arc<Self>, SimulatorError> {
        static READ: [OnceLock<Arc<AmdKeys>>; 3] = [const { OnceLock::new() }; 3];
        let [milan, genoa, turin] = &READ;
        let (slot, [ark, ask, asvk]) = match line {
            ProductLine::Milan => (milan, MILAN),
            ProductLine::Genoa => (genoa, GENOA),
            ProductLine::Turin => (turin, TURIN),
        };
        if let Some(keys) = slot.get() {
            return Ok(Arc::clone(keys));
        }
        let keys =
            Self { ark: RsaKey::from_pkcs8(ark)?, ask: RsaKey::from_pkcs8(ask)?, asvk: RsaKey::from_pkcs8(asvk)? };
        Ok(Arc::clone(slot.get_or_init(|| Arc::new(keys))))
    }

    /// A published RSA-4096 key that belongs to no authority: for wrong signatures.
    pub fn foreign() -> Result<RsaKey, SimulatorError> {
        RsaKey::from_pkcs8(include_bytes!("../../keys/foreign.pk8"))
    }
}

const MILAN: [&[u8]; 3] = [
    include_bytes!("../../keys/milan-ark.pk8"),
    include_bytes!("../../keys/milan-ask.pk8"),
    include_bytes!("../../keys/milan-asvk.pk8"),
];
const GENOA: [&[u8]; 3] = [
    include_bytes!("../../keys/genoa-ark.pk8"),
    include_bytes!("../../keys/genoa-ask.pk8"),
    include_bytes!("../../keys/genoa-asvk.pk8"),
];
const TURIN: [&[u8]; 3] = [
    include_bytes!("../../keys/turin-ark.pk8"),
    include_bytes!("../../keys/turin-ask.pk8"),
    include_bytes!("../../keys/turin-asvk.pk8"),
];

/// One product line's CA: its certificates are signed once, so that they stay the same bytes for its life.
#[derive(Clone, Debug)]
pub struct AmdAuthority {
    /// Whose.
    pub line: ProductLine,
    /// Keys.
    pub keys: Arc<AmdKeys>,
    /// Dates of leaves and CRL are taken from it, Unix seconds.
    pub now: u64,
    /// ARK certificate, DER.
    pub ark: Vec<u8>,
    /// ASK certificate, DER.
    pub ask: Vec<u8>,
    /// ASVK certificate, DER.
    pub asvk: Vec<u8>,
    /// CRL signed by the ARK, DER.
    pub crl: Vec<u8>,
}

impl AmdAuthority {
    /// With the published keys; `now` in Unix seconds.
    pub fn published(line: ProductLine, now: u64) -> Result<Self, SimulatorError> {
        Self::new(line, AmdKeys::published(line)?, now)
    }

    /// With `keys`: signs the three CA certificates and an empty CRL.
    pub fn new(line: ProductLine, keys: Arc<AmdKeys>, now: u64) -> Result<Self, SimulatorError> {
        let mut authority = Self { line, keys, now, ark: vec![], ask: vec![], asvk: vec![], crl: vec![] };
        authority.ark = authority.ark_fields().sign(Signer::RsaPssTrailer(&authority.keys.ark))?;
        authority.ask = authority.ask_fields().sign(Signer::RsaPssTrailer(&authority.keys.ark))?;
        authority.asvk = authority.asvk_fields().sign(Signer::RsaPssTrailer(&authority.keys.ark))?;
        authority.crl = authority.crl_fields().sign(Signer::RsaPssTrailer(&authority.keys.ark))?;
        Ok(authority)
    }

    /// The root's fields, as its certificate has them.
    pub fn ark_fields(&self) -> CertificateFields {
        let key = &self.keys.ark;
        let extensions = vec![
            x509::key_usage(1, 0x06),
            x509::subject_key_id(&key.key_id()),
            x509::basic_constraints(Some(None)),
            self.distribution_point("vcek"),
        ];
        self.ca_fields("ARK-", [0, 0], key, extensions)
    }

    /// The VCEK CA's fields; the ARK signs.
    pub fn ask_fields(&self) -> CertificateFields {
        let extensions = self.intermediate_extensions(&self.keys.ask, "vcek");
        self.ca_fields("SEV-", [0, self.intermediate_serial()], &self.keys.ask, extensions)
    }

    /// The VLEK CA's fields; the ARK signs.
    pub fn asvk_fields(&self) -> CertificateFields {
        let extensions = self.intermediate_extensions(&self.keys.asvk, "vlek");
        self.ca_fields("SEV-VLEK-", [1, 1], &self.keys.asvk, extensions)
    }

    /// An empty CRL, one day old and good for a year; the ARK signs.
    pub fn crl_fields(&self) -> CrlFields {
        CrlFields {
            issuer: amd_name(&format!("ARK-{}", self.line.name())),
            this_update: self.now.saturating_sub(DAY),
            next_update: self.now.saturating_add(YEAR),
            revoked: vec![],
            extensions: vec![x509::authority_key_id(&self.keys.ark.key_id()), x509::crl_number(1)],
        }
    }

    /// Issues a VCEK or VLEK as `fields` say, from the CA of its kind.
    pub fn issue(&self, fields: &VekFields) -> Result<Vek, SimulatorError> {
        let key = fields.derive_key()?;
        let certificate = fields.certificate_fields(self, &key).sign(fields.signer(self))?;
        Ok(Vek { key, certificate })
    }

    fn ca_fields(&self, prefix: &str, serial: [u8; 2], key: &RsaKey, extensions: Vec<Extension>) -> CertificateFields {
        let [kind, number] = serial;
        CertificateFields {
            serial: vec![self.line.serial(), kind, number],
            issuer: amd_name(&format!("ARK-{}", self.line.name())),
            not_before: CA_NOT_BEFORE,
            not_after: CA_NOT_AFTER,
            subject: amd_name(&format!("{prefix}{}", self.line.name())),
            public_key_info: key.public_key_info(),
            extensions,
        }
    }

    fn intermediate_extensions(&self, key: &RsaKey, kind: &str) -> Vec<Extension> {
        vec![
            x509::subject_key_id(&key.key_id()),
            x509::authority_key_id(&self.keys.ark.key_id()),
            x509::basic_constraints(Some(Some(0))),
            x509::key_usage(2, 0x04),
            self.distribution_point(kind),
        ]
    }

    /// Genoa's second ASK took the number 2.
    fn intermediate_serial(&self) -> u8 {
        match self.line {
            ProductLine::Milan | ProductLine::Turin => 1,
            ProductLine::Genoa => 2,
        }
    }

    fn distribution_point(&self, kind: &str) -> Extension {
        x509::crl_distribution_point(&format!("https://kdsintf.amd.com/{kind}/v1/{}/crl", self.line.name()))
    }
}

/// The name AMD's certificates bear, with that common name.
pub fn amd_name(common_name: &str) -> Vec<NamePart> {
    [
        (x509::ORGANIZATIONAL_UNIT, "Engineering"),
        (x509::COUNTRY, "US"),
        (x509::LOCALITY, "Santa Clara"),
        (x509::STATE, "CA"),
        (x509::ORGANIZATION, "Advanced Micro Devices"),
        (x509::COMMON_NAME, common_name),
    ]
    .map(|(oid, value)| NamePart { oid, value: value.to_owned() })
    .to_vec()
}

pub(super) const DAY: u64 = 24 * 60 * 60;
pub(super) const YEAR: u64 = 365 * DAY;
/// 2020-10-22T17:23:05Z.
const CA_NOT_BEFORE: u64 = 1_603_387_385;
/// 2045-10-22T17:23:05Z.
const CA_NOT_AFTER: u64 = 2_392_305_785;

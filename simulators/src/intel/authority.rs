//! SGX Root CA, PCK Platform and Processor CA, TCB Signing certificate, and the two CRLs.

use std::sync::Arc;

use super::PckFields;
use crate::{
    SimulatorError,
    keys::{Curve, EcKey, Signer},
    x509::{self, CertificateFields, CrlFields, Extension, NamePart, certificate_pem},
};

/// Keys, all P-256 and derived from one seed.
#[derive(Debug)]
pub struct IntelKeys {
    /// SGX Root CA.
    pub root: EcKey,
    /// PCK Platform CA.
    pub platform_ca: EcKey,
    /// PCK Processor CA.
    pub processor_ca: EcKey,
    /// TCB Signing: TCB info and QE identity.
    pub tcb_signing: EcKey,
    seed: Vec<u8>,
}

impl IntelKeys {
    /// From a seed: the published one protects nothing.
    pub fn from_seed(seed: &[u8]) -> Result<Self, SimulatorError> {
        let key = |role: &[u8]| EcKey::derive(Curve::P256, &[b"simulated SGX PKI", seed, role]);
        Ok(Self {
            root: key(b"root")?,
            platform_ca: key(b"platform CA")?,
            processor_ca: key(b"processor CA")?,
            tcb_signing: key(b"TCB signing")?,
            seed: seed.to_vec(),
        })
    }

    /// A key of the same seed for another role, such as a PCK.
    pub fn derive(&self, role: &[&[u8]]) -> Result<EcKey, SimulatorError> {
        let mut parts: Vec<&[u8]> = vec![b"simulated SGX key", &self.seed];
        parts.extend_from_slice(role);
        EcKey::derive(Curve::P256, &parts)
    }
}

/// Which CA issues a PCK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PckCa {
    /// Multi-socket platforms; all TDX machines.
    Platform,
    /// Single-socket processors.
    Processor,
}

impl PckCa {
    fn common_name(self) -> &'static str {
        match self {
            Self::Platform => "Intel SGX PCK Platform CA",
            Self::Processor => "Intel SGX PCK Processor CA",
        }
    }

    fn query(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }
}

/// A PCK with its certificate and the chain above it.
#[derive(Debug)]
pub struct PckChain {
    /// Signs the QE's report.
    pub key: EcKey,
    /// DER.
    pub certificate: Vec<u8>,
    /// Leaf, intermediate and root in PEM, as quotes carry them (certification data type 5).
    pub pem: String,
}

/// The PKI: certificates are signed once, so that they stay the same bytes for its life.
#[derive(Clone, Debug)]
pub struct IntelAuthority {
    /// Keys.
    pub keys: Arc<IntelKeys>,
    /// Dates of leaves, CRLs and collateral are taken from it, Unix seconds.
    pub now: u64,
    /// SGX Root CA, DER.
    pub root: Vec<u8>,
    /// PCK Platform CA, DER.
    pub platform_ca: Vec<u8>,
    /// PCK Processor CA, DER.
    pub processor_ca: Vec<u8>,
    /// TCB Signing, DER.
    pub tcb_signing: Vec<u8>,
}

impl IntelAuthority {
    /// With the published seed; `now` in Unix seconds.
    pub fn published(now: u64) -> Result<Self, SimulatorError> {
        Self::new(Arc::new(IntelKeys::from_seed(PUBLISHED_SEED)?), now)
    }

    /// With `keys`: signs the four certificates.
    pub fn new(keys: Arc<IntelKeys>, now: u64) -> Result<Self, SimulatorError> {
        let mut authority =
            Self { keys, now, root: vec![], platform_ca: vec![], processor_ca: vec![], tcb_signing: vec![] };
        let root = Arc::clone(&authority.keys);
        let signer = Signer::Ec(&root.root);
        authority.root = authority.root_fields().sign(signer)?;
        authority.platform_ca = authority.pck_ca_fields(PckCa::Platform).sign(signer)?;
        authority.processor_ca = authority.pck_ca_fields(PckCa::Processor).sign(signer)?;
        authority.tcb_signing = authority.tcb_signing_fields().sign(signer)?;
        Ok(authority)
    }

    /// SGX Root CA; signs itself.
    pub fn root_fields(&self) -> CertificateFields {
        let key = &self.keys.root;
        self.fields(ROOT_NAME, key, 0x06, Some(Some(1)), 31 * YEAR)
    }

    /// PCK Platform or Processor CA; the root signs.
    pub fn pck_ca_fields(&self, ca: PckCa) -> CertificateFields {
        self.fields(ca.common_name(), self.pck_ca_key(ca), 0x06, Some(Some(0)), 15 * YEAR)
    }

    /// TCB Signing; the root signs.
    pub fn tcb_signing_fields(&self) -> CertificateFields {
        let mut fields = self.fields("Intel SGX TCB Signing", &self.keys.tcb_signing, 0xc0, None, 7 * YEAR);
        fields.not_before = self.now.saturating_sub(YEAR);
        fields.not_after = fields.not_before.saturating_add(7 * YEAR);
        fields
    }

    /// A PCK certificate's fields; the CA that `pck` names signs.
    pub fn pck_fields(&self, pck: &PckFields, key: &EcKey) -> CertificateFields {
        let ca = self.pck_ca_key(pck.ca);
        let uri = format!("{PCK_CRL_URI}?ca={}&encoding=der", pck.ca.query());
        CertificateFields {
            serial: pck.serial.clone(),
            issuer: intel_name(pck.ca.common_name()),
            not_before: pck.not_before,
            not_after: pck.not_after,
            subject: intel_name("Intel SGX PCK Certificate"),
            public_key_info: key.public_key_info(),
            extensions: vec![
                x509::authority_key_id(&ca.key_id()),
                x509::crl_distribution_point(&uri),
                x509::subject_key_id(&key.key_id()),
                x509::key_usage(6, 0xc0),
                x509::basic_constraints(None),
                pck.sgx_extensions(),
            ],
        }
    }

    /// Issues a PCK; its key is always the same for the same platform.
    pub fn issue(&self, pck: &PckFields) -> Result<PckChain, SimulatorError> {
        let key = self.keys.derive(&[b"PCK", &pck.ppid])?;
        let certificate = self.pck_fields(pck, &key).sign(Signer::Ec(self.pck_ca_key(pck.ca)))?;
        let pem = [&certificate, self.pck_ca(pck.ca), &self.root].map(certificate_pem).concat();
        Ok(PckChain { key, certificate, pem })
    }

    /// The root's CRL, empty, good for a year; the root signs.
    pub fn root_crl_fields(&self) -> CrlFields {
        self.crl(ROOT_NAME, &self.keys.root, YEAR)
    }

    /// A PCK CA's CRL, empty, good for thirty days; that CA signs.
    pub fn pck_crl_fields(&self, ca: PckCa) -> CrlFields {
        self.crl(ca.common_name(), self.pck_ca_key(ca), 30 * DAY)
    }

    /// The key of a PCK CA.
    pub fn pck_ca_key(&self, ca: PckCa) -> &EcKey {
        match ca {
            PckCa::Platform => &self.keys.platform_ca,
            PckCa::Processor => &self.keys.processor_ca,
        }
    }

    /// The certificate of a PCK CA, DER.
    pub fn pck_ca(&self, ca: PckCa) -> &[u8] {
        match ca {
            PckCa::Platform => &self.platform_ca,
            PckCa::Processor => &self.processor_ca,
        }
    }

    fn fields(&self, name: &str, key: &EcKey, usage: u8, ca: Option<Option<u64>>, life: u64) -> CertificateFields {
        CertificateFields {
            serial: key.key_id(),
            issuer: intel_name(ROOT_NAME),
            not_before: CA_NOT_BEFORE,
            not_after: CA_NOT_BEFORE.saturating_add(life),
            subject: intel_name(name),
            public_key_info: key.public_key_info(),
            extensions: self.extensions(key, usage, ca),
        }
    }

    fn extensions(&self, key: &EcKey, usage: u8, ca: Option<Option<u64>>) -> Vec<Extension> {
        vec![
            x509::authority_key_id(&self.keys.root.key_id()),
            x509::crl_distribution_point(ROOT_CRL_URI),
            x509::subject_key_id(&key.key_id()),
            x509::key_usage(if ca.is_some() { 1 } else { 6 }, usage),
            x509::basic_constraints(ca),
        ]
    }

    fn crl(&self, issuer: &str, key: &EcKey, life: u64) -> CrlFields {
        let this_update = self.now.saturating_sub(DAY);
        CrlFields {
            issuer: intel_name(issuer),
            this_update,
            next_update: this_update.saturating_add(life),
            revoked: vec![],
            extensions: vec![x509::crl_number(1), x509::authority_key_id(&key.key_id())],
        }
    }
}

/// The name Intel's certificates bear, with that common name.
pub fn intel_name(common_name: &str) -> Vec<NamePart> {
    [
        (x509::COMMON_NAME, common_name),
        (x509::ORGANIZATION, "Intel Corporation"),
        (x509::LOCALITY, "Santa Clara"),
        (x509::STATE, "CA"),
        (x509::COUNTRY, "US"),
    ]
    .map(|(oid, value)| NamePart { oid, value: value.to_owned() })
    .to_vec()
}

const PUBLISHED_SEED: &[u8] = b"published: protects nothing";
const ROOT_NAME: &str = "Intel SGX Root CA";
const ROOT_CRL_URI: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";
const PCK_CRL_URI: &str = "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl";
pub(super) const DAY: u64 = 24 * 60 * 60;
pub(super) const YEAR: u64 = 365 * DAY;
/// 2018-05-21T10:45:10Z.
const CA_NOT_BEFORE: u64 = 1_526_899_510;

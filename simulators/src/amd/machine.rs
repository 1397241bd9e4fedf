//! One simulated SEV-SNP machine with a guest on it.

use super::{AmdAuthority, CertificateTable, Product, SigningKey, SnpReportFields, Tcb, Vek, VekFields, guid};
use crate::{SimulatorError, x509::certificate_pem};

/// Which key signs the machine's reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndorsementKey {
    /// The chip's.
    Vcek,
    /// The provider's.
    Vlek {
        /// CSP_ID of the certificate.
        csp_id: String,
    },
}

/// What a guest's request returns.
#[derive(Clone, Debug)]
pub struct SnpEvidence {
    /// 1184 bytes.
    pub report: Vec<u8>,
    /// GHCB certificate table: ARK, ASK or ASVK, and the leaf; empty where the host gives none.
    pub certificates: Vec<u8>,
}

/// A machine: change its fields, then ask for reports.
#[derive(Clone, Debug)]
pub struct SnpMachine {
    /// Product; [`SnpReportFields::cpuid`] in `fields` says what the report says.
    pub product: Product,
    /// Its vendor.
    pub authority: AmdAuthority,
    /// The chip's identity, which the VCEK bears (Turin: its first eight bytes; the rest must be zero).
    pub chip_id: [u8; 64],
    /// Signing key.
    pub endorsement_key: EndorsementKey,
    /// The level that the endorsement key is made for; [`SnpMachine::set_tcb`] moves it with the report's fields.
    pub vek_tcb: Tcb,
    /// Everything a report says but its report data.
    pub fields: SnpReportFields,
    /// The host provides certificates with the report.
    pub provides_certificates: bool,
    /// Certificates are PEM, as some hosts have them, instead of DER.
    pub pem_certificates: bool,
}

impl SnpMachine {
    /// An up-to-date machine of `product` under the published roots, with report version 3, on Turin 5; `now` in Unix
    /// seconds.
    pub fn new(product: Product, now: u64) -> Result<Self, SimulatorError> {
        Ok(Self::with_authority(product, AmdAuthority::published(product.line(), now)?))
    }

    /// The same under an authority of one's own.
    pub fn with_authority(product: Product, authority: AmdAuthority) -> Self {
        let chip_id = default_chip_id(product);
        let version = match product {
            Product::Turin => 5,
            Product::Milan | Product::Genoa | Product::Bergamo | Product::Siena => 3,
        };
        Self {
            product,
            authority,
            chip_id,
            endorsement_key: EndorsementKey::Vcek,
            vek_tcb: product.current_tcb(),
            fields: SnpReportFields::new(product, version, chip_id),
            provides_certificates: true,
            pem_certificates: false,
        }
    }

    /// Signs with a VLEK from now on: CHIP_ID is masked, as providers do.
    pub fn use_vlek(&mut self, csp_id: &str) {
        self.endorsement_key = EndorsementKey::Vlek { csp_id: csp_id.to_owned() };
        self.fields.key_info.signing_key = SigningKey::Vlek;
        self.fields.chip_id = [0; 64];
    }

    /// Moves the whole machine, its endorsement key included, to that level.
    pub fn set_tcb(&mut self, tcb: Tcb) {
        self.vek_tcb = tcb;
        self.fields.set_tcb(self.product, tcb);
    }

    /// Another chip: report and VCEK alike. On Turin all but the first eight bytes must be zero.
    pub fn set_chip_id(&mut self, chip_id: [u8; 64]) {
        self.chip_id = chip_id;
        self.fields.chip_id = chip_id;
    }

    /// What its endorsement key's certificate says.
    pub fn vek_fields(&self) -> VekFields {
        match &self.endorsement_key {
            EndorsementKey::Vcek => VekFields::vcek(&self.authority, &self.chip_id, self.vek_tcb),
            EndorsementKey::Vlek { csp_id } => VekFields::vlek(&self.authority, csp_id, self.vek_tcb),
        }
    }

    /// Its endorsement key with a certificate. The key is always the same, the certificate signed anew at each call.
    pub fn vek(&self) -> Result<Vek, SimulatorError> {
        self.authority.issue(&self.vek_fields())
    }

    /// A report over `report_data`, and the certificates that the host gives.
    pub fn report(&self, report_data: [u8; 64]) -> Result<SnpEvidence, SimulatorError> {
        self.report_with(report_data, &self.vek()?)
    }

    /// The same with an endorsement key at hand.
    pub fn report_with(&self, report_data: [u8; 64], vek: &Vek) -> Result<SnpEvidence, SimulatorError> {
        let fields = SnpReportFields { report_data, ..self.fields.clone() };
        let certificates = if self.provides_certificates { self.certificate_table(vek).encode() } else { vec![] };
        Ok(SnpEvidence { report: fields.sign(&vek.key)?, certificates })
    }

    /// ARK, ASK or ASVK, leaf.
    pub fn certificate_table(&self, vek: &Vek) -> CertificateTable {
        let (intermediate, leaf) = match self.endorsement_key {
            EndorsementKey::Vcek => (&self.authority.ask, guid::VCEK),
            EndorsementKey::Vlek { .. } => (&self.authority.asvk, guid::VLEK),
        };
        let form = |der: &[u8]| if self.pem_certificates { certificate_pem(der).into_bytes() } else { der.to_vec() };
        CertificateTable::new(&[
            (guid::ARK, &form(&self.authority.ark)),
            (guid::ASK, &form(intermediate)),
            (leaf, &form(&vek.certificate)),
        ])
    }
}

/// 64 bytes, on Turin 8 and then zeros.
fn default_chip_id(product: Product) -> [u8; 64] {
    let len = product.line().hwid_len();
    std::array::from_fn(|index| match u8::try_from(index) {
        Ok(byte) if index < len => byte.wrapping_mul(37) ^ 0xc5,
        Ok(_) | Err(_) => 0,
    })
}

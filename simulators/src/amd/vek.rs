//! Leaf certificates: VCEK (per chip and TCB) and VLEK (per cloud provider and TCB).

use super::{
    AmdAuthority, ProductLine, Tcb, amd_name,
    authority::{DAY, YEAR},
};
use crate::{
    SimulatorError, asn1,
    keys::{Curve, EcKey, Signer},
    x509::{CertificateFields, Extension},
};

/// What the key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VekKind {
    /// A chip, by the HWID of its certificate: 64 bytes, on Turin 8.
    Vcek {
        /// Raw bytes of the extension.
        hwid: Vec<u8>,
    },
    /// A cloud provider.
    Vlek {
        /// CSP_ID.
        csp_id: String,
    },
}

/// A leaf key and its certificate.
#[derive(Debug)]
pub struct Vek {
    /// Signs reports.
    pub key: EcKey,
    /// DER.
    pub certificate: Vec<u8>,
}

/// What a leaf certificate says.
#[derive(Clone, Debug)]
pub struct VekFields {
    /// Whose, and with which identity.
    pub kind: VekKind,
    /// Decides which extensions stand in which order.
    pub line: ProductLine,
    /// productName.
    pub product_name: String,
    /// structVersion.
    pub struct_version: u8,
    /// The security patch levels it is for.
    pub tcb: Tcb,
    /// The four spare levels (spl4 to spl7), zero in all real ones.
    pub spare: [u8; 4],
    /// notBefore, Unix seconds.
    pub not_before: u64,
    /// notAfter, Unix seconds.
    pub not_after: u64,
    /// Write out the PSS trailer field, as certificates before 2024 do.
    pub pss_trailer: bool,
}

impl VekFields {
    /// A VCEK three months old and good for seven years in all.
    pub fn vcek(authority: &AmdAuthority, chip_id: &[u8; 64], tcb: Tcb) -> Self {
        let hwid = chip_id.iter().copied().take(authority.line.hwid_len()).collect();
        let not_before = authority.now.saturating_sub(90 * DAY);
        Self {
            kind: VekKind::Vcek { hwid },
            line: authority.line,
            product_name: authority.line.vcek_product_name().to_owned(),
            struct_version: authority.line.struct_version(),
            tcb,
            spare: [0; 4],
            not_before,
            not_after: not_before.saturating_add(7 * YEAR),
            pss_trailer: false,
        }
    }

    /// A VLEK three months old and good for one year in all.
    pub fn vlek(authority: &AmdAuthority, csp_id: &str, tcb: Tcb) -> Self {
        let not_before = authority.now.saturating_sub(90 * DAY);
        Self {
            kind: VekKind::Vlek { csp_id: csp_id.to_owned() },
            line: authority.line,
            product_name: authority.line.name().to_owned(),
            struct_version: authority.line.struct_version(),
            tcb,
            spare: [0; 4],
            not_before,
            not_after: not_before.saturating_add(YEAR),
            pss_trailer: false,
        }
    }

    /// Each identity and each TCB has a key of its own, as in hardware.
    pub fn derive_key(&self) -> Result<EcKey, SimulatorError> {
        let (kind, identity): (&[u8], &[u8]) = match &self.kind {
            VekKind::Vcek { hwid } => (b"VCEK", hwid),
            VekKind::Vlek { csp_id } => (b"VLEK", csp_id.as_bytes()),
        };
        let tcb = self.tcb.encode(self.line);
        EcKey::derive(Curve::P384, &[b"simulated endorsement key", kind, self.line.name().as_bytes(), identity, &tcb])
    }

    /// The certificate's fields, to be signed as they are or with a defect.
    pub fn certificate_fields(&self, authority: &AmdAuthority, key: &EcKey) -> CertificateFields {
        let line = authority.line.name();
        let (issuer, subject) = match &self.kind {
            VekKind::Vcek { .. } => (format!("SEV-{line}"), "SEV-VCEK"),
            VekKind::Vlek { .. } => (format!("SEV-VLEK-{line}"), "SEV-VLEK"),
        };
        CertificateFields {
            serial: vec![0],
            issuer: amd_name(&issuer),
            not_before: self.not_before,
            not_after: self.not_after,
            subject: amd_name(subject),
            public_key_info: key.public_key_info(),
            extensions: self.extensions(),
        }
    }

    /// The CA that signs this kind.
    pub fn signer<'a>(&self, authority: &'a AmdAuthority) -> Signer<'a> {
        let key = match &self.kind {
            VekKind::Vcek { .. } => &authority.keys.ask,
            VekKind::Vlek { .. } => &authority.keys.asvk,
        };
        if self.pss_trailer { Signer::RsaPssTrailer(key) } else { Signer::RsaPss(key) }
    }

    /// AMD 57230, 3.1, table of extensions; the order is the one real certificates have.
    fn extensions(&self) -> Vec<Extension> {
        let [spl4, spl5, spl6, spl7] = self.spare;
        let Tcb { fmc, boot_loader, tee, snp, microcode } = self.tcb;
        let levels = match self.line {
            ProductLine::Milan | ProductLine::Genoa => vec![
                (oids::BOOT_LOADER, boot_loader),
                (oids::TEE, tee),
                (oids::SPL4, spl4),
                (oids::SPL5, spl5),
                (oids::SPL6, spl6),
                (oids::SPL7, spl7),
                (oids::SNP, snp),
                (oids::MICROCODE, microcode),
            ],
            ProductLine::Turin => vec![
                (oids::FMC, fmc),
                (oids::BOOT_LOADER, boot_loader),
                (oids::TEE, tee),
                (oids::SNP, snp),
                (oids::SPL5, spl5),
                (oids::SPL6, spl6),
                (oids::SPL7, spl7),
                (oids::MICROCODE, microcode),
            ],
        };
        let plain = |oid, value| Extension { oid, critical: false, value };
        let mut extensions = vec![
            plain(oids::STRUCT_VERSION, asn1::small(u64::from(self.struct_version))),
            plain(oids::PRODUCT_NAME, asn1::ia5(&self.product_name)),
        ];
        extensions.extend(levels.into_iter().map(|(oid, level)| plain(oid, asn1::small(u64::from(level)))));
        extensions.push(match &self.kind {
            VekKind::Vcek { hwid } => plain(oids::HWID, hwid.clone()),
            VekKind::Vlek { csp_id } => plain(oids::CSP_ID, asn1::ia5(csp_id)),
        });
        extensions
    }
}

/// Extension types of AMD's leaf certificates (AMD 57230, 3.1).
pub mod oids {
    use der::oid::ObjectIdentifier;

    /// structVersion.
    pub const STRUCT_VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.1");
    /// productName.
    pub const PRODUCT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
    /// blSPL.
    pub const BOOT_LOADER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
    /// teeSPL.
    pub const TEE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
    /// snpSPL.
    pub const SNP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
    /// spl4.
    pub const SPL4: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.4");
    /// spl5.
    pub const SPL5: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.5");
    /// spl6.
    pub const SPL6: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.6");
    /// spl7.
    pub const SPL7: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.7");
    /// ucodeSPL.
    pub const MICROCODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
    /// fmcSPL, Turin only.
    pub const FMC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
    /// hwID, VCEK only: raw bytes.
    pub const HWID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
    /// cspID, VLEK only.
    pub const CSP_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");
}

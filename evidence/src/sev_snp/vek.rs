//! Certificates of endorsement keys: whose key it is, and for which TCB (AMD 57230 §3.1).

use der::{Decode as _, asn1::Ia5StringRef, asn1::ObjectIdentifier};

use super::{
    product::{Product, ProductLine},
    tcb::TcbVersion,
};
use crate::{
    EvidenceDenial,
    tee::CspId,
    x509::{CURVE_P384, Certificate, SubjectKey, name_attributes},
};

/// Whom an endorsement key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VekIdentity {
    /// A VCEK: one chip, by its hwID. 64 bytes, on Turin eight.
    Chip(Box<[u8]>),
    /// A VLEK: a cloud provider's machines.
    Provider(CspId),
}

impl VekIdentity {
    /// VCEK or VLEK.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Chip(_) => "VCEK",
            Self::Provider(_) => "VLEK",
        }
    }
}

/// The place of a certificate in AMD's hierarchy, by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Ark(ProductLine),
    /// Issues VCEKs.
    Ask(ProductLine),
    /// Issues VLEKs.
    Asvk(ProductLine),
    Vcek,
    Vlek,
}

impl Role {
    /// Reads a Name that must be AMD's (AMD 57230 §2.1, §3.1).
    pub(super) fn of(name: &[u8], position: usize) -> Result<Self, EvidenceDenial> {
        let attributes = name_attributes(name)?;
        let value = |oid| attributes.iter().find(|attribute| attribute.oid == oid).map(|found| found.value);
        let is_amd = value(ORGANIZATION) == Some("Advanced Micro Devices") && value(UNIT) == Some("Engineering");
        let common_name = value(COMMON_NAME).filter(|_| is_amd).unwrap_or_default();
        let role = match common_name {
            "SEV-VCEK" => Some(Self::Vcek),
            "SEV-VLEK" => Some(Self::Vlek),
            _ => None,
        };
        let line_after = |prefix| common_name.strip_prefix(prefix).and_then(ProductLine::from_name);
        role.or_else(|| line_after("ARK-").map(Self::Ark))
            .or_else(|| line_after("SEV-VLEK-").map(Self::Asvk))
            .or_else(|| line_after("SEV-").map(Self::Ask))
            .ok_or(EvidenceDenial::CertificateConstraint { position, what: "a name of AMD's hierarchy" })
    }
}

/// What a leaf certificate says, its signature aside.
pub(super) struct VekClaims<'a> {
    pub(super) identity: VekIdentity,
    pub(super) product: Product,
    pub(super) tcb: TcbVersion,
    /// Uncompressed point of P-384.
    pub(super) point: &'a [u8],
}

impl<'a> VekClaims<'a> {
    /// Reads a leaf under the root of `line` (S5). All extensions of its kind must be there, and none of the other's.
    pub(super) fn read(leaf: &Certificate<'a>, role: Role, line: ProductLine) -> Result<Self, EvidenceDenial> {
        let extensions = Extensions(leaf);
        judge_use(leaf)?;
        let (struct_version, has_fmc) = (extensions.integer(STRUCT_VERSION)?, line == ProductLine::Turin);
        if struct_version != u8::from(has_fmc) {
            return unmet("structVersion 0, on Turin 1");
        }
        let product = Product::from_product_name(extensions.text(PRODUCT_NAME)?)
            .filter(|product| product.line() == line)
            .map_or_else(|| unmet("productName of its root's product line"), Ok)?;
        let tcb = extensions.tcb(has_fmc)?;
        let identity = match role {
            Role::Vcek => {
                extensions.refuse(CSP_ID)?;
                VekIdentity::Chip(extensions.hwid(line)?.into())
            }
            Role::Vlek => {
                extensions.refuse(HWID)?;
                let csp_id = CspId::try_from(extensions.text(CSP_ID)?.to_owned());
                VekIdentity::Provider(csp_id.map_or_else(|_| unmet("cspID of 1 to 64 printable characters"), Ok)?)
            }
            Role::Ark(_) | Role::Ask(_) | Role::Asvk(_) => return unmet("subject SEV-VCEK or SEV-VLEK"),
        };
        match leaf.subject_key()? {
            SubjectKey::Ecc { curve: CURVE_P384, point } if point.len() == 97 && point.first() == Some(&4) => {
                Ok(Self { identity, product, tcb, point })
            }
            SubjectKey::Ecc { .. } | SubjectKey::Rsa { .. } => unmet("an uncompressed point of P-384 as key"),
        }
    }
}

fn unmet<T>(what: &'static str) -> Result<T, EvidenceDenial> {
    Err(EvidenceDenial::CertificateConstraint { position: 0, what })
}

/// AMD's leaves carry neither extension; one that does must not claim to be an authority.
fn judge_use(leaf: &Certificate<'_>) -> Result<(), EvidenceDenial> {
    let extensions = &leaf.extensions;
    if extensions.basic_constraints.as_ref().is_some_and(|constraints| constraints.ca) {
        return unmet("no cA");
    }
    let usage = extensions.key_usage.as_ref();
    if usage.is_some_and(|usage| !usage.digital_signature() || usage.key_cert_sign() || usage.crl_sign()) {
        return unmet("keyUsage digitalSignature, and none of an authority");
    }
    Ok(())
}

/// AMD's extensions of a leaf. The reader of certificates refuses one that is there twice.
struct Extensions<'c, 'a>(&'c Certificate<'a>);

impl<'c> Extensions<'c, '_> {
    fn find(&self, oid: ObjectIdentifier) -> Option<&'c [u8]> {
        self.0.extensions.vendor(oid)
    }

    fn value(&self, oid: ObjectIdentifier) -> Result<&'c [u8], EvidenceDenial> {
        self.find(oid).map_or_else(|| unmet("every extension of an endorsement key"), Ok)
    }

    fn refuse(&self, oid: ObjectIdentifier) -> Result<(), EvidenceDenial> {
        if self.find(oid).is_some() { unmet("no extension of the other kind of endorsement key") } else { Ok(()) }
    }

    fn integer(&self, oid: ObjectIdentifier) -> Result<u8, EvidenceDenial> {
        u8::from_der(self.value(oid)?).map_or_else(|_| unmet("an INTEGER from 0 to 255 as level"), Ok)
    }

    fn text(&self, oid: ObjectIdentifier) -> Result<&'c str, EvidenceDenial> {
        let text = Ia5StringRef::from_der(self.value(oid)?);
        text.map_or_else(|_| unmet("an IA5String as name"), |text| Ok(text.as_str()))
    }

    /// blSPL, teeSPL, snpSPL and ucodeSPL, fmcSPL where there is one; the spare levels are zero.
    fn tcb(&self, has_fmc: bool) -> Result<TcbVersion, EvidenceDenial> {
        let fmc = if has_fmc {
            Some(self.integer(FMC_SPL)?)
        } else {
            self.refuse(FMC_SPL)?;
            None
        };
        // Turin's layout has three spare bytes where the older one has four, so its certificates name one fewer
        let spare: &[ObjectIdentifier] = if has_fmc { &[SPL5, SPL6, SPL7] } else { &[SPL4, SPL5, SPL6, SPL7] };
        for oid in spare {
            if self.integer(*oid)? != 0 {
                return unmet("spare levels that are zero");
            }
        }
        Ok(TcbVersion {
            fmc,
            boot_loader: self.integer(BOOT_LOADER_SPL)?,
            tee: self.integer(TEE_SPL)?,
            snp: self.integer(SNP_SPL)?,
            microcode: self.integer(MICROCODE_SPL)?,
        })
    }

    /// hwID: the bytes alone, or in an OCTET STRING as the specification's type says.
    fn hwid(&self, line: ProductLine) -> Result<&'c [u8], EvidenceDenial> {
        let value = self.value(HWID)?;
        let bytes = match value.split_first_chunk::<2>() {
            Some(([0x04, len], wrapped)) if usize::from(*len) == wrapped.len() && value.len() != line.hwid_bytes() => {
                wrapped
            }
            Some(_) | None => value,
        };
        if bytes.len() == line.hwid_bytes() { Ok(bytes) } else { unmet("hwID of 64 bytes, on Turin eight") }
    }
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
const UNIT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.11");
const STRUCT_VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.1");
const PRODUCT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
const BOOT_LOADER_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const TEE_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SNP_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const SPL4: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.4");
const SPL5: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.5");
const SPL6: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.6");
const SPL7: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.7");
const MICROCODE_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const FMC_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
const HWID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
const CSP_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");

//! What the public areas of EK, AK and node key must say (T2, T3, T10).

use super::public::{Attributes, Curve, Public, PublicKey, Scheme, SignatureScheme, Symmetric};
use crate::{EvidenceDenial, digest::HashAlg};

/// Judges an EK's public area against the default templates of the TCG EK Credential Profile (T2).
///
/// L-1, L-2 (low range: policy A, no userWithAuth) and H-1, H-2, H-3, H-6, H-7 (high range: policy B,
/// userWithAuth). A key of another template could have a policy that its owner satisfies elsewhere.
///
/// # Errors
/// [`EvidenceDenial::EkTemplate`] when no template fits.
pub fn ek_template(public: &Public<'_>) -> Result<(), EvidenceDenial> {
    let known = EK_TEMPLATES.iter().any(|template| {
        template.name_alg == public.name_alg
            && template.attributes == public.attributes
            && template.auth_policy == public.auth_policy
            && template.symmetric == public.symmetric
            && public.scheme == Scheme::None
            && template.key.fits(&public.key)
    });
    if known { Ok(()) } else { Err(EvidenceDenial::EkTemplate { attributes: public.attributes.0 }) }
}

/// Judges an AK's public area (T3).
///
/// restricted and sign together make the TPM refuse to sign anything that looks like its own structures but is not.
///
/// # Errors
/// [`EvidenceDenial::AkTemplate`] with the first requirement that is not met.
pub fn ak_template(public: &Public<'_>) -> Result<SignatureScheme, EvidenceDenial> {
    let unmet = |what| Err(EvidenceDenial::AkTemplate { what });
    let must = [
        (Attributes::FIXED_TPM, "fixedTPM set"),
        (Attributes::FIXED_PARENT, "fixedParent set"),
        (Attributes::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin set"),
        (Attributes::RESTRICTED, "restricted set"),
        (Attributes::SIGN, "sign set"),
    ];
    if let Some((_, what)) = must.iter().find(|(attribute, _)| !public.attributes.has(*attribute)) {
        return unmet(what);
    }
    if !public.attributes.lacks(Attributes::DECRYPT.and(Attributes::X509_SIGN)) {
        return unmet("decrypt and x509sign clear");
    }
    if matches!(public.name_alg, HashAlg::Sha1) {
        return unmet("nameAlg at least SHA-256");
    }
    if public.symmetric != Symmetric::None {
        return unmet("no symmetric algorithm");
    }
    match (public.scheme, &public.key) {
        (Scheme::Sign(scheme @ (SignatureScheme::RsaSsa(_) | SignatureScheme::RsaPss(_))), PublicKey::Rsa { .. })
        | (Scheme::Sign(scheme @ SignatureScheme::EcDsa(_)), PublicKey::Ecc { .. }) => Ok(scheme),
        (Scheme::Sign(_) | Scheme::None | Scheme::Ecdh(_), _) => unmet("signing scheme fixed, of the key's kind"),
    }
}

/// Judges a node key's public area apart from its policy (T10).
///
/// Without userWithAuth only the policy opens it; without adminWithPolicy nothing can certify or change it by
/// another policy; with noDA an unclean stop cannot lock it out.
///
/// # Errors
/// [`EvidenceDenial::NodeKeyTemplate`] with the first requirement that is not met.
pub fn node_key_template(public: &Public<'_>) -> Result<(), EvidenceDenial> {
    let unmet = |what| Err(EvidenceDenial::NodeKeyTemplate { what });
    let must = [
        (Attributes::FIXED_TPM, "fixedTPM set"),
        (Attributes::FIXED_PARENT, "fixedParent set"),
        (Attributes::SENSITIVE_DATA_ORIGIN, "sensitiveDataOrigin set"),
        (Attributes::DECRYPT, "decrypt set"),
        (Attributes::NO_DA, "noDA set"),
    ];
    if let Some((_, what)) = must.iter().find(|(attribute, _)| !public.attributes.has(*attribute)) {
        return unmet(what);
    }
    let must_not = [
        (Attributes::USER_WITH_AUTH, "userWithAuth clear"),
        (Attributes::ADMIN_WITH_POLICY, "adminWithPolicy clear"),
        (Attributes::RESTRICTED, "restricted clear"),
        (Attributes::SIGN, "sign clear"),
        (Attributes::X509_SIGN, "x509sign clear"),
        (Attributes::ENCRYPTED_DUPLICATION, "encryptedDuplication clear"),
    ];
    if let Some((_, what)) = must_not.iter().find(|(attribute, _)| !public.attributes.lacks(*attribute)) {
        return unmet(what);
    }
    if !matches!(public.name_alg, HashAlg::Sha256 | HashAlg::Sha384) {
        return unmet("nameAlg SHA-256 or SHA-384");
    }
    if public.symmetric != Symmetric::None || !matches!(public.scheme, Scheme::None | Scheme::Ecdh(_)) {
        return unmet("no symmetric algorithm, scheme none or ECDH");
    }
    match public.key {
        PublicKey::Ecc { curve: Curve::P256, .. } => Ok(()),
        PublicKey::Ecc { curve: Curve::P384, .. } | PublicKey::Rsa { .. } => unmet("P-256"),
    }
}

struct EkTemplate {
    name_alg: HashAlg,
    attributes: Attributes,
    auth_policy: &'static [u8],
    symmetric: Symmetric,
    key: EkKey,
}

enum EkKey {
    Rsa(u16),
    Ecc(Curve),
}

impl EkKey {
    fn fits(&self, key: &PublicKey<'_>) -> bool {
        match (self, key) {
            (Self::Rsa(want), PublicKey::Rsa { key_bits, exponent, .. }) => want == key_bits && *exponent == 0,
            (Self::Ecc(want), PublicKey::Ecc { curve, .. }) => want == curve,
            (Self::Rsa(_), PublicKey::Ecc { .. }) | (Self::Ecc(_), PublicKey::Rsa { .. }) => false,
        }
    }
}

/// TCG EK Credential Profile for TPM 2.0, version 2.5, annex B.3 and B.4.
const EK_TEMPLATES: [EkTemplate; 7] = [
    EkTemplate::low(EkKey::Rsa(2048)),                                          // L-1
    EkTemplate::low(EkKey::Ecc(Curve::P256)),                                   // L-2
    EkTemplate::high(EkKey::Rsa(2048), HashAlg::Sha256, &POLICY_B_SHA256, 128), // H-1
    EkTemplate::high(EkKey::Ecc(Curve::P256), HashAlg::Sha256, &POLICY_B_SHA256, 128), // H-2
    EkTemplate::high(EkKey::Ecc(Curve::P384), HashAlg::Sha384, &POLICY_B_SHA384, 256), // H-3
    EkTemplate::high(EkKey::Rsa(3072), HashAlg::Sha384, &POLICY_B_SHA384, 256), // H-6
    EkTemplate::high(EkKey::Rsa(4096), HashAlg::Sha384, &POLICY_B_SHA384, 256), // H-7
];

impl EkTemplate {
    const fn low(key: EkKey) -> Self {
        let (name_alg, symmetric) = (HashAlg::Sha256, Symmetric::AesCfb(128));
        Self { name_alg, attributes: Attributes(0x0003_00b2), auth_policy: &POLICY_A_SHA256, symmetric, key }
    }

    const fn high(key: EkKey, name_alg: HashAlg, auth_policy: &'static [u8], aes_bits: u16) -> Self {
        let symmetric = Symmetric::AesCfb(aes_bits);
        Self { name_alg, attributes: Attributes(0x0003_00f2), auth_policy, symmetric, key }
    }
}

/// PolicySecret(TPM_RH_ENDORSEMENT).
const POLICY_A_SHA256: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, //
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// PolicyOR of PolicyA and PolicyC.
const POLICY_B_SHA256: [u8; 32] = [
    0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf, 0xb3, //
    0xa3, 0x85, 0xd4, 0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0,
];
const POLICY_B_SHA384: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a, //
    0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, //
    0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];

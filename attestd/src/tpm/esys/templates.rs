//! Public templates of the keys that this node makes.

use tss_esapi::abstraction::ek;
use tss_esapi::attributes::{ObjectAttributes, ObjectAttributesBuilder};
use tss_esapi::interface_types::algorithm::{AsymmetricAlgorithm, HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::structures::{
    Digest, EccParameter, EccPoint, EccScheme, HashScheme, KeyDerivationFunctionScheme, Public, PublicBuilder,
    PublicEccParametersBuilder, SymmetricDefinitionObject,
};

use crate::config::EkKind;

/// Endorsement key, templates L-1 and L-2 (TCG EK Credential Profile 2.3, B.3.3 and B.3.4).
pub(super) fn ek(kind: EkKind) -> tss_esapi::Result<Public> {
    let algorithm = match kind {
        EkKind::Rsa2048 => AsymmetricAlgorithm::Rsa,
        EkKind::EccP256 => AsymmetricAlgorithm::Ecc,
    };
    ek::create_ek_public_from_default_template(algorithm, None)
}

/// Parent of our keys: a storage key under the endorsement hierarchy, so that clocks in its children's signatures are
/// not obfuscated (Part 1, 36.7). noDA: an unclean stop must not count as an attack.
pub(super) fn parent() -> tss_esapi::Result<Public> {
    let attributes = own_key().with_user_with_auth(true).with_restricted(true).with_decrypt(true).build()?;
    let parameters = PublicEccParametersBuilder::new_restricted_decryption_key(
        SymmetricDefinitionObject::AES_128_CFB,
        EccCurve::NistP256,
    );
    p256(attributes, parameters, None)
}

/// Attestation key: signs only what the TPM itself states.
pub(super) fn ak() -> tss_esapi::Result<Public> {
    let attributes = own_key().with_user_with_auth(true).with_restricted(true).with_sign_encrypt(true).build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_restricted(true)
        .with_is_signing_key(true);
    p256(attributes, parameters, None)
}

/// Node key: HPKE recipient that works only while the PCRs satisfy `policy`.
/// Unrestricted, because a restricted decryption key refuses ECDH_ZGen; userWithAuth clear, so that only the policy
/// opens it; adminWithPolicy clear, so that the AK can certify it whatever the PCRs are.
pub(super) fn node_key(policy: &[u8; 32]) -> tss_esapi::Result<Public> {
    let attributes = own_key().with_decrypt(true).build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_symmetric(SymmetricDefinitionObject::Null)
        .with_ecc_scheme(EccScheme::Null)
        .with_curve(EccCurve::NistP256)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .with_is_decryption_key(true);
    p256(attributes, parameters, Some(Digest::try_from(policy.as_slice())?))
}

fn own_key() -> ObjectAttributesBuilder {
    ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_no_da(true)
}

fn p256(
    attributes: ObjectAttributes,
    parameters: PublicEccParametersBuilder,
    policy: Option<Digest>,
) -> tss_esapi::Result<Public> {
    let template = PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters.build()?)
        .with_ecc_unique_identifier(EccPoint::new(EccParameter::default(), EccParameter::default()));
    match policy {
        Some(policy) => template.with_auth_policy(policy).build(),
        None => template.build(),
    }
}

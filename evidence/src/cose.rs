//! COSE_Sign1 (RFC 9052 §4.2), read strictly: tag 18, deterministic bytes, one protected header map of
//! exactly {alg, content type, kid}, nothing unprotected, payload attached.
//!
//! The algorithm comes from the key's record, never from the header; the header must agree. The external
//! AAD names purpose, domain and version, so that a statement of one kind or domain is never one of another.

mod key;

use coset::{
    CborSerializable as _, CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _, iana::EnumI64 as _,
};

pub use self::key::{Alg, KeyId, KeySet, PublicKey, SigningKey, p256_cose_key};
use crate::{
    cbor::{self, Caps, CborError},
    names::DomainName,
};

/// Longest COSE_Sign1 that is read where no smaller cap is named, in bytes.
pub const STATEMENT_CAP_BYTES: usize = 4 << 20;

/// Version of the signing context, last part of the external AAD.
const CONTEXT_VERSION: &[u8] = b"1";

/// What a signature is for. A signature made for one purpose never verifies for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::EnumIter)]
pub enum Purpose {
    /// Authorization artifact, by a domain's issuer key.
    Artifact,
    /// Attestation Result (EAR), by a domain's issuer key.
    AttestationResult,
    /// Reference value set, by policy-authority keys.
    ReferenceValues,
    /// Policy set, by policy-authority keys.
    PolicySet,
    /// Trust bundle, by policy-authority keys.
    TrustBundle,
    /// Governance state, by the issuer key.
    GovernanceState,
    /// Threshold-signed operator statement, by policy-authority keys.
    Statement,
    /// Revocation, by the issuer key; a threshold-signed one is a [`Purpose::Statement`].
    Revocation,
    /// Lineage record of a domain, by its issuer key.
    LineageRecord,
    /// Intent, by a node's record key.
    Intent,
    /// Halt record, by a node's record key.
    HaltRecord,
    /// End record, by a node's record key.
    EndRecord,
    /// A partner's artifact and result, presented by a node's record key.
    Passport,
    /// Bundle of hardware vendors' certificates and collateral, by whoever exported it.
    EndorsementBundle,
}

impl Purpose {
    /// The content type header, also the first part of the external AAD.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Artifact => "application/attestd-artifact+cbor",
            // RFC 9782 §4; its eat_profile parameter stays in the claim: with a profile URI, which has a slash, the
            // header could be written but no longer be read by coset.
            Self::AttestationResult => "application/eat+cwt",
            Self::ReferenceValues => "application/attestd-reference-values+cbor",
            Self::PolicySet => "application/attestd-policy-set+cbor",
            Self::TrustBundle => "application/attestd-trust-bundle+cbor",
            Self::GovernanceState => "application/attestd-governance-state+cbor",
            Self::Statement => "application/attestd-statement+cbor",
            Self::Revocation => "application/attestd-revocation+cbor",
            Self::LineageRecord => "application/attestd-lineage-record+cbor",
            Self::Intent => "application/attestd-intent+cbor",
            Self::HaltRecord => "application/attestd-halt-record+cbor",
            Self::EndRecord => "application/attestd-end-record+cbor",
            Self::Passport => "application/attestd-passport+cbor",
            Self::EndorsementBundle => "application/attestd-endorsement-bundle+cbor",
        }
    }
}

/// Why a COSE_Sign1 is not a statement we accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoseDenial {
    /// Not deterministic CBOR, or beyond its caps.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// Not a tagged COSE_Sign1 of the one shape we write.
    #[error("not a COSE_Sign1 in the accepted form: {what}")]
    Form {
        /// Which rule.
        what: &'static str,
    },
    /// The content type names another purpose.
    #[error("COSE content type is not {wanted}")]
    Purpose {
        /// The purpose that was asked for.
        wanted: &'static str,
    },
    /// No key with this key id may sign here.
    #[error("no accepted key has key id {kid}")]
    UnknownKey {
        /// The key id in the header, hexadecimal.
        kid: String,
    },
    /// The header's algorithm is not the key's.
    #[error("COSE algorithm {got} in the header, the key's is {wanted}")]
    Algorithm {
        /// COSE algorithm number in the header.
        got: i64,
        /// COSE algorithm number of the key.
        wanted: i64,
    },
    /// The signature does not verify.
    #[error("COSE signature does not verify under key {kid}")]
    Signature {
        /// Key id, hexadecimal.
        kid: String,
    },
    /// A public key is not one of the two kinds we use.
    #[error("not an accepted COSE_Key: {what}")]
    Key {
        /// Which rule.
        what: &'static str,
    },
}

/// A payload whose signature verified.
#[derive(Clone, Debug)]
pub struct Signed {
    payload: Vec<u8>,
    signer: KeyId,
}

impl Signed {
    /// The signed bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whose key signed.
    #[must_use]
    pub const fn signer(&self) -> KeyId {
        self.signer
    }
}

/// External AAD: purpose, domain and context version, each preceded by its length (8 bytes, big-endian).
fn external_aad(purpose: Purpose, domain: &DomainName) -> Vec<u8> {
    let mut aad = Vec::new();
    for part in [purpose.content_type().as_bytes(), domain.as_str().as_bytes(), CONTEXT_VERSION] {
        aad.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        aad.extend_from_slice(part);
    }
    aad
}

/// Signs `payload` for `purpose` within `domain`. Same inputs, same bytes.
///
/// # Errors
/// [`CoseDenial::Form`] when the structure cannot be encoded.
pub fn sign1(purpose: Purpose, domain: &DomainName, payload: &[u8], key: &SigningKey) -> Result<Vec<u8>, CoseDenial> {
    let protected = HeaderBuilder::new()
        .algorithm(key.public().alg().cose())
        .content_type(purpose.content_type().to_owned())
        .key_id(key.public().kid().0.to_vec())
        .build();
    let unsigned = CoseSign1Builder::new().protected(protected).payload(payload.to_vec());
    let signed = unsigned.create_signature(&external_aad(purpose, domain), |message| key.sign_raw(message)).build();
    signed.to_tagged_vec().map_err(|_| CoseDenial::Form { what: "cannot be encoded" })
}

/// Verifies a COSE_Sign1 for `purpose` within `domain` by one of `keys`, at most [`STATEMENT_CAP_BYTES`] long.
///
/// # Errors
/// The first rule that the bytes break.
pub fn verify1(purpose: Purpose, domain: &DomainName, bytes: &[u8], keys: &KeySet) -> Result<Signed, CoseDenial> {
    let message = read(bytes)?;
    let (kid, key) = admitted(&message, purpose, keys)?;
    let payload = message.payload.clone().unwrap_or_default();
    message
        .verify_signature(
            &external_aad(purpose, domain),
            |signature, data| {
                if key.verifies(data, signature) { Ok(()) } else { Err(()) }
            },
        )
        .map_err(|()| CoseDenial::Signature { kid: kid.to_string() })?;
    Ok(Signed { payload, signer: kid })
}

/// The payload of a COSE_Sign1 in the accepted form, its signature NOT verified: only to find out which
/// domain or key a statement claims, before [`verify1`] is asked about that claim.
///
/// # Errors
/// The first rule of form that the bytes break.
pub fn claimed_payload(bytes: &[u8]) -> Result<Vec<u8>, CoseDenial> {
    read(bytes)?.payload.ok_or(CoseDenial::Form { what: "payload detached" })
}

/// Checks the outer form: one canonical tagged COSE_Sign1 that this module would have written.
fn read(bytes: &[u8]) -> Result<CoseSign1, CoseDenial> {
    cbor::inspect(bytes, Caps::bytes(STATEMENT_CAP_BYTES))?;
    let message =
        CoseSign1::from_tagged_slice(bytes).map_err(|_| CoseDenial::Form { what: "not a tagged COSE_Sign1" })?;
    if !message.unprotected.is_empty() {
        return Err(CoseDenial::Form { what: "unprotected headers" });
    }
    if message.payload.is_none() {
        return Err(CoseDenial::Form { what: "payload detached" });
    }
    // The bstr around the protected map hides it from the walk above; re-encoding shows every other form.
    let original = message.protected.original_data.clone().unwrap_or_default();
    cbor::inspect(&original, Caps::bytes(512))?;
    let rewritten =
        message.protected.header.clone().to_vec().map_err(|_| CoseDenial::Form { what: "protected headers" })?;
    let same = cbor::from_slice::<ciborium::Value>(&original, Caps::bytes(512))?
        == ciborium::from_reader::<ciborium::Value, _>(rewritten.as_slice())
            .map_err(|_| CoseDenial::Form { what: "protected headers" })?;
    if same { Ok(message) } else { Err(CoseDenial::Form { what: "protected headers" }) }
}

fn admitted<'k>(message: &CoseSign1, purpose: Purpose, keys: &'k KeySet) -> Result<(KeyId, &'k PublicKey), CoseDenial> {
    let header = &message.protected.header;
    let only_ours = header.crit.is_empty()
        && header.iv.is_empty()
        && header.partial_iv.is_empty()
        && header.counter_signatures.is_empty()
        && header.rest.is_empty();
    if !only_ours {
        return Err(CoseDenial::Form { what: "headers other than alg, content type and kid" });
    }
    let wanted = purpose.content_type();
    if header.content_type != Some(coset::ContentType::Text(wanted.to_owned())) {
        return Err(CoseDenial::Purpose { wanted });
    }
    let kid = <[u8; 16]>::try_from(header.key_id.as_slice())
        .map(KeyId)
        .map_err(|_| CoseDenial::Form { what: "kid is not 16 bytes" })?;
    let key = keys.get(&kid).ok_or_else(|| CoseDenial::UnknownKey { kid: kid.to_string() })?;
    let wanted = key.alg().cose();
    match &header.alg {
        Some(coset::RegisteredLabelWithPrivate::Assigned(got)) if *got == wanted => Ok((kid, key)),
        Some(coset::RegisteredLabelWithPrivate::Assigned(got)) => {
            Err(CoseDenial::Algorithm { got: got.to_i64(), wanted: wanted.to_i64() })
        }
        _ => Err(CoseDenial::Form { what: "alg missing or private" }),
    }
}

#[cfg(test)]
mod tests;

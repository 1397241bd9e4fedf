//! Between our plain values and tss-esapi's.

use evidence::digest::{Digest, HashAlg};
use evidence::tpm::pcr::PcrSelection;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{
    Attest, DigestValues, PcrSelectionList, PcrSlot, Private, Public, Signature, SignatureScheme,
};
use tss_esapi::traits::{Marshall as _, UnMarshall as _};

use super::rc;
use crate::tpm::error::TpmError;
use crate::tpm::types::{KeyBlob, Signed};

/// The AK's own scheme, fixed in its public area.
pub(super) const KEY_SCHEME: SignatureScheme = SignatureScheme::Null;

pub(super) fn malformed(command: &'static str, what: impl Into<String>) -> TpmError {
    TpmError::Malformed { command, what: what.into() }
}

pub(super) const fn hashing(alg: HashAlg) -> HashingAlgorithm {
    match alg {
        HashAlg::Sha1 => HashingAlgorithm::Sha1,
        HashAlg::Sha256 => HashingAlgorithm::Sha256,
        HashAlg::Sha384 => HashingAlgorithm::Sha384,
        HashAlg::Sha512 => HashingAlgorithm::Sha512,
    }
}

pub(super) fn slots(pcrs: impl IntoIterator<Item = u8>) -> Result<Vec<PcrSlot>, TpmError> {
    pcrs.into_iter()
        .map(|pcr| {
            let bit = 1u32.checked_shl(u32::from(pcr)).unwrap_or(0);
            PcrSlot::try_from(bit).map_err(|_| malformed("PCR selection", format!("PCR {pcr} does not exist")))
        })
        .collect()
}

pub(super) fn selection_list(bank: HashAlg, pcrs: impl IntoIterator<Item = u8>) -> Result<PcrSelectionList, TpmError> {
    PcrSelectionList::builder()
        .with_selection(hashing(bank), &slots(pcrs)?)
        .build()
        .map_err(|e| rc::sort("PCR selection", e))
}

pub(super) fn selection(selection: &PcrSelection) -> Result<PcrSelectionList, TpmError> {
    selection_list(selection.bank, selection.pcrs.iter())
}

pub(super) fn digest_values(digests: &[Digest]) -> Result<DigestValues, TpmError> {
    let mut values = DigestValues::new();
    for digest in digests {
        let bytes = tss_esapi::structures::Digest::try_from(digest.as_bytes()).map_err(|e| rc::sort("digest", e))?;
        values.set(hashing(digest.alg()), bytes);
    }
    Ok(values)
}

pub(super) fn signed(command: &'static str, (attest, signature): (Attest, Signature)) -> Result<Signed, TpmError> {
    Ok(Signed {
        attest: attest.marshall().map_err(|e| rc::sort(command, e))?,
        signature: signature.marshall().map_err(|e| rc::sort(command, e))?,
    })
}

/// TPM2B_x: the length in front (Part 2, 10.4).
pub(super) fn sized(command: &'static str, bytes: &[u8]) -> Result<Vec<u8>, TpmError> {
    let length = u16::try_from(bytes.len()).map_err(|_| malformed(command, "longer than 65535 bytes"))?;
    Ok([&length.to_be_bytes(), bytes].concat())
}

/// The contents of a TPM2B_x that fills `bytes`.
pub(super) fn unsized_part<'a>(command: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], TpmError> {
    match bytes.split_first_chunk::<2>() {
        Some((length, rest)) if usize::from(u16::from_be_bytes(*length)) == rest.len() => Ok(rest),
        Some(_) | None => Err(malformed(command, "length in front does not match")),
    }
}

pub(super) fn public_bytes(command: &'static str, public: &Public) -> Result<Vec<u8>, TpmError> {
    sized(command, &public.marshall().map_err(|e| rc::sort(command, e))?)
}

pub(super) fn blob(command: &'static str, public: &Public, private: &Private) -> Result<KeyBlob, TpmError> {
    Ok(KeyBlob { public: public_bytes(command, public)?, private: sized(command, private.value())? })
}

pub(super) fn unblob(command: &'static str, key: &KeyBlob) -> Result<(Public, Private), TpmError> {
    let public = Public::unmarshall(unsized_part(command, &key.public)?).map_err(|e| rc::sort(command, e))?;
    let private = Private::try_from(unsized_part(command, &key.private)?).map_err(|e| rc::sort(command, e))?;
    Ok((public, private))
}

//! A signed CoRIM (draft-ietf-rats-corim-11 §4.2): COSE_Sign1 with content type, and corim-meta in the protected header.
//!
//! Not read by [`evidence::cose`]: that reader takes one form, our own, whose external AAD names purpose and domain.
//! Here the AAD is empty, the key id is its author's and headers beyond ours are allowed.

use evidence::{cbor as strict, cose::Alg, names::ItemName, time::UnixSeconds};

use super::{TAG_ANY, TAG_COSE_SIGN1, TAG_SIGNED, TAG_UNSIGNED, model::validity};
use crate::exchange::{
    ImportDenial,
    cbor::{self, Budget, Item},
    signers::{AllowedSigner, By, verified},
};
use crate::text::Text;

/// Content type of a CoRIM payload; a profile may follow as a parameter.
pub(super) const CONTENT_TYPE: &str = "application/rim+cbor";
/// Labels of the protected header (RFC 9052 §3.1; corim-meta and hash envelope: the draft).
pub(super) const ALG: i128 = 1;
const CRIT: i128 = 2;
pub(super) const CONTENT: i128 = 3;
pub(super) const META: i128 = 8;
const PAYLOAD_HASH_ALG: i128 = 258;
/// Most bytes of the protected header.
const HEADER_CAP_BYTES: usize = 64 << 10;

/// A signed message: its payload, whose signature over it verified, and when it holds.
pub(super) struct Message<'a, 's> {
    pub(super) payload: &'a [u8],
    pub(super) by: By<'s>,
    pub(super) not_before: Option<UnixSeconds>,
    pub(super) not_after: Option<UnixSeconds>,
}

pub(super) fn open<'a, 's>(
    bytes: &'a [u8],
    budget: &mut Budget,
    signers: &'s [AllowedSigner],
    environment: &ItemName,
) -> Result<Message<'a, 's>, ImportDenial> {
    let item = cbor::read(bytes, budget)?;
    let inner = item.tagged(TAG_ANY).unwrap_or(&item);
    let inner = inner.tagged(TAG_SIGNED).unwrap_or(inner);
    if inner.tagged(TAG_UNSIGNED).is_some() {
        return Err(ImportDenial::Unsigned);
    }
    let message = inner.tagged(TAG_COSE_SIGN1).ok_or_else(|| inner.wrong("not a tagged COSE_Sign1"))?;
    let [protected, unprotected, payload, signature] = message.array("a COSE_Sign1 is an array")? else {
        return Err(message.wrong("a COSE_Sign1 has four parts"));
    };
    unprotected.map("the unprotected header is not a map")?;
    let header_bytes = protected.bytes().ok_or_else(|| protected.wrong("the protected header is not a byte string"))?;
    let payload_bytes = payload.bytes().ok_or_else(|| payload.wrong("the payload is detached"))?;
    let signature_bytes = signature.bytes().ok_or_else(|| signature.wrong("the signature is not a byte string"))?;
    if header_bytes.len() > HEADER_CAP_BYTES {
        return Err(ImportDenial::TooLarge { got_bytes: header_bytes.len(), cap_bytes: HEADER_CAP_BYTES });
    }
    let header = cbor::read(header_bytes, budget)?;
    let alg = algorithm(&header)?;
    let by = verified(
        signers,
        environment,
        Some(alg),
        &to_be_signed(header_bytes, payload_bytes)?,
        &[signature_bytes.to_vec()],
    )?;
    let (not_before, not_after) = times(&header, budget)?;
    Ok(Message { payload: payload_bytes, by, not_before, not_after })
}

/// The header is read before the signature is verified: nothing of it but the algorithm decides anything until then.
fn algorithm(header: &Item<'_>) -> Result<Alg, ImportDenial> {
    header.map("the protected header is not a map")?;
    if header.get(CRIT).is_some() {
        return Err(header.wrong("critical headers that are not known"));
    }
    if header.get(PAYLOAD_HASH_ALG).is_some() {
        return Err(header.wrong("a hash envelope: the CoRIM itself is not in it"));
    }
    let content = header.get(CONTENT).and_then(Item::text).ok_or_else(|| header.wrong("no content type"))?;
    let rest = content.strip_prefix(CONTENT_TYPE).ok_or_else(|| header.wrong("content type of something else"))?;
    if !rest.is_empty() && !rest.trim_start().starts_with(';') {
        return Err(header.wrong("content type of something else"));
    }
    let alg = header.get(ALG).ok_or_else(|| header.wrong("no algorithm"))?;
    match alg.int() {
        Some(-7) => Ok(Alg::Es256),
        Some(-8) => Ok(Alg::Ed25519),
        Some(other) => Err(ImportDenial::Algorithm { got: Text::lossy(&format!("COSE {other}")) }),
        None => Err(ImportDenial::Algorithm { got: Text::lossy(alg.text().unwrap_or("of another form")) }),
    }
}

/// Validity in corim-meta, if the header has one (draft-ietf-rats-corim-11 §4.2.2).
fn times(header: &Item<'_>, budget: &mut Budget) -> Result<(Option<UnixSeconds>, Option<UnixSeconds>), ImportDenial> {
    let Some(meta) = header.get(META) else { return Ok((None, None)) };
    let bytes = meta.bytes().ok_or_else(|| meta.wrong("corim-meta is not a byte string"))?;
    let meta = cbor::read(bytes, budget)?;
    meta.map("corim-meta is not a map")?;
    meta.get(1).map_or(Ok((None, None)), validity)
}

/// Sig_structure of a COSE_Sign1 without external data (RFC 9052 §4.4).
pub(super) fn to_be_signed(header: &[u8], payload: &[u8]) -> Result<Vec<u8>, ImportDenial> {
    use serde_bytes::Bytes;
    let structure = ("Signature1", Bytes::new(header), Bytes::new(&[]), Bytes::new(payload));
    strict::to_vec(&structure).map_err(|e| ImportDenial::SetUnusable(e.into()))
}

//! One endorsement as bytes that stand for themselves: a certificate or CRL as it was signed, or a JSON statement with
//! its signature and signing chain. Its digest names it in results and logs.

use evidence::cbor::{self, Caps};
use evidence::digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Longest endorsement, in bytes. Intel's revocation list of platforms is the largest that exists; it has 4 KiB.
pub const DOCUMENT_CAP_BYTES: usize = 512 * 1024;
/// Most certificates in a signing chain.
const CHAIN_CAP: usize = 4;
/// r and s of a P-256 signature, as Intel writes them (PCS v4 `signature`).
pub(super) const SIGNATURE_BYTES: usize = 64;

/// The parts of an endorsement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// DER of a certificate or a revocation list.
    Der(Vec<u8>),
    /// A JSON statement.
    Signed(SignedText),
}

/// Text that Intel's TCB signing key signed, exactly as signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText {
    /// The signed text.
    pub text: String,
    /// r and s, 32 bytes each, big-endian.
    pub signature: [u8; SIGNATURE_BYTES],
    /// DER of the signing certificate, then its issuers.
    pub chain: Vec<Vec<u8>>,
}

/// Bytes are not one endorsement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an endorsement: {what}")]
pub struct Malformed {
    /// Which rule.
    pub(super) what: String,
}

pub(super) fn malformed(what: impl Into<String>) -> Malformed {
    Malformed { what: what.into() }
}

#[derive(Serialize, Deserialize)]
struct Row(ByteBuf, ByteBuf, Vec<ByteBuf>);

impl Document {
    /// The bytes that are stored, exchanged and named by digest: DER as it is; else the deterministic CBOR array of
    /// text, signature and chain.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Malformed> {
        match self {
            Self::Der(der) => Ok(der.clone()),
            Self::Signed(SignedText { text, signature, chain }) => {
                let chain = chain.iter().cloned().map(ByteBuf::from).collect();
                let row = Row(ByteBuf::from(text.as_bytes()), ByteBuf::from(signature.as_slice()), chain);
                cbor::to_vec(&row).map_err(|error| malformed(error.to_string()))
            }
        }
    }

    /// Reads those bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > DOCUMENT_CAP_BYTES {
            return Err(malformed(format!("{} bytes, at most {DOCUMENT_CAP_BYTES} are kept", bytes.len())));
        }
        // DER of every certificate and list begins with a SEQUENCE; the array of three with 0x83.
        if bytes.first() == Some(&DER_SEQUENCE) {
            return Ok(Self::Der(bytes.to_vec()));
        }
        let Row(text, signature, chain) = cbor::from_slice(bytes, Caps::bytes(DOCUMENT_CAP_BYTES).items(16))
            .map_err(|error| malformed(error.to_string()))?;
        if chain.len() > CHAIN_CAP {
            return Err(malformed("its signing chain is too long"));
        }
        Ok(Self::Signed(SignedText {
            text: String::from_utf8(text.into_vec()).map_err(|_| malformed("its text is not UTF-8"))?,
            signature: signature.as_slice().try_into().map_err(|_| malformed("its signature is not 64 bytes"))?,
            chain: chain.into_iter().map(ByteBuf::into_vec).collect(),
        }))
    }
}

/// SHA-256 of the bytes that stand for an endorsement.
pub(super) fn digest(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest::of(bytes)
}

/// Tag of a SEQUENCE (X.690 §8.9).
pub(super) const DER_SEQUENCE: u8 = 0x30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_back_and_nothing_else_is() {
        let der = Document::Der(vec![0x30, 0x00]);
        let signed = Document::Signed(SignedText {
            text: "{\"id\":\"TDX\"}".to_owned(),
            signature: [9; 64],
            chain: vec![vec![0x30, 0x00], vec![0x30, 0x01, 0x02]],
        });
        for document in [der, signed.clone()] {
            assert_eq!(Document::from_bytes(&document.to_bytes().unwrap()).unwrap(), document);
        }
        let bytes = signed.to_bytes().unwrap();
        assert!(Document::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err(), "trailing");
        assert!(Document::from_bytes(&bytes[..bytes.len() - 1]).is_err(), "truncated");
        assert!(Document::from_bytes(&[]).is_err());
        assert!(Document::from_bytes(&vec![0x30; DOCUMENT_CAP_BYTES + 1]).is_err(), "too long");
        let Document::Signed(mut long) = signed else { panic!() };
        long.chain = vec![vec![0x30]; 5];
        assert!(Document::from_bytes(&Document::Signed(long).to_bytes().unwrap()).is_err(), "chain");
    }
}

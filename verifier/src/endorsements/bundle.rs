//! Endorsements in one file, to carry to where nothing is online: a deterministic CBOR document, alone or signed
//! (COSE_Sign1) by whoever exported it.
//!
//! A signature says who collected the endorsements; what each is worth is said by its vendor's. The keys they are stored
//! under are read out of them again, never taken from the file.

use evidence::cbor::{self, Caps};
use evidence::cose::{self, KeyId, KeySet, Purpose, SigningKey};
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::recognise::{PILE_CAP, Pile};

/// Largest bundle, in bytes: what a COSE_Sign1 may be.
pub const BUNDLE_CAP_BYTES: usize = cose::STATEMENT_CAP_BYTES;
/// Form of the document.
const VERSION: u8 = 1;

/// Endorsements that are carried together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    version: u8,
    /// Domain that exported it.
    pub domain: DomainName,
    /// When.
    pub made_at: UnixSeconds,
    documents: Vec<ByteBuf>,
}

/// Bytes are not a bundle that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleDenial {
    /// Not the document, or beyond its caps.
    #[error("not a bundle of endorsements: {0}")]
    Form(String),
    /// Signed, and no key was named that may sign.
    #[error("the bundle is signed: name the public key of its signer")]
    SignerNotNamed,
    /// A signer was named, and the bundle is not signed.
    #[error("the bundle is not signed")]
    NotSigned,
    /// The signature does not verify under the named keys.
    #[error("the bundle's signature is not accepted: {0}")]
    Signature(#[from] cose::CoseDenial),
}

impl Bundle {
    /// A bundle of documents.
    #[must_use]
    pub fn new(domain: DomainName, made_at: UnixSeconds, documents: Vec<Vec<u8>>) -> Self {
        Self { version: VERSION, domain, made_at, documents: documents.into_iter().map(ByteBuf::from).collect() }
    }

    /// Its bytes: signed where there is a key.
    pub fn to_bytes(&self, signer: Option<&SigningKey>) -> Result<Vec<u8>, BundleDenial> {
        let form = |error: cbor::CborError| BundleDenial::Form(error.to_string());
        let bytes = cbor::to_vec(self).map_err(form)?;
        let bytes = match signer {
            Some(key) => cose::sign1(Purpose::EndorsementBundle, &self.domain, &bytes, key)?,
            None => bytes,
        };
        if bytes.len() > BUNDLE_CAP_BYTES {
            let (got, cap) = (bytes.len(), BUNDLE_CAP_BYTES);
            return Err(BundleDenial::Form(format!("it would have {got} bytes, a bundle has at most {cap}")));
        }
        Ok(bytes)
    }

    /// Whether bytes look like a bundle of either form, and not like another file.
    #[must_use]
    pub fn is_like(bytes: &[u8]) -> bool {
        // tag 18 (RFC 9052 §4.2), or the map of four
        matches!(bytes.first(), Some(0xd2 | 0xa4))
    }

    /// Reads a bundle. A signed one must be signed by one of `signers`, an unsigned one is read only when there are none.
    pub fn from_bytes(bytes: &[u8], signers: &KeySet) -> Result<(Self, Option<KeyId>), BundleDenial> {
        if bytes.first() != Some(&SIGNED) {
            return if signers.is_empty() { Ok((Self::decode(bytes)?, None)) } else { Err(BundleDenial::NotSigned) };
        }
        if signers.is_empty() {
            return Err(BundleDenial::SignerNotNamed);
        }
        let claimed = Self::decode(&cose::claimed_payload(bytes)?)?;
        let signed = cose::verify1(Purpose::EndorsementBundle, &claimed.domain, bytes, signers)?;
        Ok((Self::decode(signed.payload())?, Some(signed.signer())))
    }

    fn decode(bytes: &[u8]) -> Result<Self, BundleDenial> {
        let form = |error: cbor::CborError| BundleDenial::Form(error.to_string());
        let caps = Caps::bytes(BUNDLE_CAP_BYTES).items(PILE_CAP);
        let bundle: Self = cbor::from_slice(bytes, caps).map_err(form)?;
        if bundle.version == VERSION {
            Ok(bundle)
        } else {
            Err(BundleDenial::Form(format!("version {} is not known", bundle.version)))
        }
    }

    /// Adds what it holds to a pile.
    pub fn add_to(&self, pile: &mut Pile, file: &str) {
        self.documents.iter().for_each(|document| pile.add_document(file, document));
    }
}

/// Tag 18: COSE_Sign1.
const SIGNED: u8 = 0xd2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endorsements::document::{Document, SignedText};

    fn bundle() -> Bundle {
        let text =
            r#"{"id":"TD_QE","issueDate":"2026-03-16T00:00:00Z","nextUpdate":"2026-04-15T00:00:00Z"}"#.to_owned();
        let document = Document::Signed(SignedText { text, signature: [1; 64], chain: vec![vec![0x30, 0]] });
        let documents = vec![document.to_bytes().unwrap(), vec![0x30, 0]];
        Bundle::new(DomainName::new("a.example").unwrap(), UnixSeconds(5), documents)
    }

    #[test]
    fn a_bundle_is_read_back_and_what_is_no_endorsement_is_named() {
        let bundle = bundle();
        let bytes = bundle.to_bytes(None).unwrap();
        assert!(Bundle::is_like(&bytes));
        let (read, signer) = Bundle::from_bytes(&bytes, &KeySet::default()).unwrap();
        assert_eq!((&read, signer), (&bundle, None));
        let mut pile = Pile::default();
        read.add_to(&mut pile, "file");
        let sorted = pile.sorted();
        assert_eq!((sorted.found.len(), sorted.skipped.len()), (1, 1));
        assert!(Bundle::from_bytes(&[bytes.as_slice(), &[0]].concat(), &KeySet::default()).is_err());
    }

    #[test]
    fn only_the_named_signer_is_believed() {
        let [key, other] = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]).unwrap());
        let keys = |key: &SigningKey| KeySet::new([key.public()]);
        let signed = bundle().to_bytes(Some(&key)).unwrap();
        assert!(Bundle::is_like(&signed));
        let (read, signer) = Bundle::from_bytes(&signed, &keys(&key)).unwrap();
        assert_eq!((read, signer), (bundle(), Some(key.public().kid())));
        assert!(matches!(Bundle::from_bytes(&signed, &keys(&other)), Err(BundleDenial::Signature(_))));
        assert_eq!(Bundle::from_bytes(&signed, &KeySet::default()), Err(BundleDenial::SignerNotNamed));
        let unsigned = bundle().to_bytes(None).unwrap();
        assert_eq!(Bundle::from_bytes(&unsigned, &keys(&key)), Err(BundleDenial::NotSigned));
        let at = signed.windows(6).position(|window| window == b"issueD").unwrap();
        let mut altered = signed;
        altered[at] ^= 1;
        assert!(matches!(Bundle::from_bytes(&altered, &keys(&key)), Err(BundleDenial::Signature(_))));
    }
}

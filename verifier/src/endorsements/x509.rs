//! As much of certificates and revocation lists as it takes to know what they are about. Nothing is verified here:
//! signatures, names and extensions are judged by appraisal, from the same bytes.

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use x509_cert::der::asn1::{AnyRef, BitStringRef, ContextSpecific, ObjectIdentifier};
use x509_cert::der::{self, Decode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _};
use x509_cert::ext::Extension;
use x509_cert::spki::AlgorithmIdentifierRef;
use x509_cert::time::Time;

use super::document::{Malformed, malformed};
use super::recognise::Window;

/// Facts of one certificate.
pub(super) struct CertificateFacts {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) window: Window,
    pub(super) extensions: Vec<Extension>,
}

/// Facts of one revocation list.
pub(super) struct CrlFacts {
    pub(super) issuer: String,
    pub(super) window: Window,
}

/// A certificate or a list, told apart by the first field of what is signed (RFC 5280 §4.1, §5.1).
pub(super) enum Facts {
    Certificate(CertificateFacts),
    Crl(CrlFacts),
}

impl Facts {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        decode(bytes).map_err(|error| malformed(format!("neither a certificate nor a revocation list: {error}")))
    }
}

fn decode(bytes: &[u8]) -> der::Result<Facts> {
    let mut reader = SliceReader::new(bytes)?;
    let facts = reader.sequence(|outer| {
        let signed = outer.tlv_bytes()?;
        outer.tlv_bytes()?;
        outer.tlv_bytes()?;
        let mut signed = SliceReader::new(signed)?;
        let facts = signed.sequence(|body| {
            // version 2 of a list; certificates tag theirs
            let is_crl = Tag::peek(body)? == Tag::Integer;
            if is_crl { crl(body).map(Facts::Crl) } else { certificate(body).map(Facts::Certificate) }
        })?;
        signed.finish()?;
        Ok::<_, der::Error>(facts)
    })?;
    reader.finish()?;
    Ok(facts)
}

fn certificate(body: &mut SliceReader<'_>) -> der::Result<CertificateFacts> {
    let version = ContextSpecific::<u8>::decode_explicit(body, TagNumber(0))?.map(|version| version.value);
    if version != Some(2) {
        return Err(Tag::Integer.value_error().into());
    }
    // serial number (zero in AMD's leaf certificates) and signature algorithm
    body.tlv_bytes()?;
    body.tlv_bytes()?;
    let issuer = common_name(body.tlv_bytes()?)?;
    let window = body.sequence(|validity| window(Time::decode(validity)?, Time::decode(validity)?))?;
    let subject = common_name(body.tlv_bytes()?)?;
    body.tlv_bytes()?;
    let extensions = ContextSpecific::<Vec<Extension>>::decode_explicit(body, TagNumber(3))?;
    let extensions = extensions.map(|extensions| extensions.value).unwrap_or_default();
    Ok(CertificateFacts { issuer, subject, window, extensions })
}

fn crl(body: &mut SliceReader<'_>) -> der::Result<CrlFacts> {
    body.tlv_bytes()?;
    body.tlv_bytes()?;
    let issuer = common_name(body.tlv_bytes()?)?;
    // A list without nextUpdate would never be known to be stale: both vendors date theirs.
    let window = window(Time::decode(body)?, Time::decode(body)?)?;
    while !body.is_finished() {
        body.tlv_bytes()?;
    }
    Ok(CrlFacts { issuer, window })
}

fn window(from: Time, until: Time) -> der::Result<Window> {
    let seconds = |time: Time| time.to_unix_duration().as_secs();
    Ok(Window { issued_at: seconds(from), ends_at: seconds(until) })
}

/// Whether `issuer`'s key made the signature of `signed`, a certificate or a list. It decides only which of several
/// candidates is offered to appraisal, which verifies again and by its own rules.
pub(super) fn is_signed_by(signed: &[u8], issuer: &[u8]) -> bool {
    let read = || {
        let (to_be_signed, algorithm, signature) = outer(signed).ok()?;
        let key = ParsedPublicKey::new(algorithm, public_key_info(issuer).ok()?).ok()?;
        key.verify_sig(to_be_signed, signature).ok()
    };
    read().is_some()
}

/// Whether `signer`'s key made `signature` (r and s, 32 bytes each) over `text`.
pub(super) fn has_signed(signer: &[u8], text: &[u8], signature: &[u8]) -> bool {
    let key = public_key_info(signer)
        .ok()
        .and_then(|info| ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, info).ok());
    key.is_some_and(|key| key.verify_sig(text, signature).is_ok())
}

type Outer<'a> = (&'a [u8], &'static dyn VerificationAlgorithm, &'a [u8]);

/// What is signed, by which algorithm (of those that the two vendors use), and the signature.
fn outer(der: &[u8]) -> der::Result<Outer<'_>> {
    let mut reader = SliceReader::new(der)?;
    reader.sequence(|body| {
        let to_be_signed = body.tlv_bytes()?;
        let algorithm = AlgorithmIdentifierRef::decode(body)?.oid;
        let signature = BitStringRef::decode(body)?.as_bytes().ok_or_else(|| Tag::BitString.value_error())?;
        let algorithm: &'static dyn VerificationAlgorithm = match algorithm {
            RSASSA_PSS => &signature::RSA_PSS_2048_8192_SHA384,
            ECDSA_WITH_SHA256 => &signature::ECDSA_P256_SHA256_ASN1,
            _ => return Err(Tag::Sequence.value_error().into()),
        };
        Ok::<_, der::Error>((to_be_signed, algorithm, signature))
    })
}

/// SubjectPublicKeyInfo of a certificate.
fn public_key_info(der: &[u8]) -> der::Result<&[u8]> {
    let mut reader = SliceReader::new(der)?;
    let to_be_signed = reader.sequence(|body| {
        let to_be_signed = body.tlv_bytes()?;
        body.tlv_bytes()?;
        body.tlv_bytes()?;
        Ok::<_, der::Error>(to_be_signed)
    })?;
    let mut reader = SliceReader::new(to_be_signed)?;
    reader.sequence(|body| {
        // version, serial number, algorithm, issuer, validity, subject
        for _ in 0..6 {
            body.tlv_bytes()?;
        }
        let info = body.tlv_bytes()?;
        while !body.is_finished() {
            body.tlv_bytes()?;
        }
        Ok::<_, der::Error>(info)
    })
}

/// The common name (RFC 5280 §4.1.2.4) if there is exactly one of at most 64 printable characters; else nothing that
/// any authority is called.
fn common_name(name: &[u8]) -> der::Result<String> {
    let mut found = Vec::new();
    let mut reader = SliceReader::new(name)?;
    reader.sequence(|rdns| {
        while !rdns.is_finished() {
            let mut set = SliceReader::new(AnyRef::decode(rdns)?.value())?;
            while !set.is_finished() {
                set.sequence(|attribute| {
                    let oid = ObjectIdentifier::decode(attribute)?;
                    let value = AnyRef::decode(attribute)?;
                    if oid == COMMON_NAME && matches!(value.tag(), Tag::Utf8String | Tag::PrintableString) {
                        found.push(String::from_utf8_lossy(value.value()).into_owned());
                    }
                    Ok::<_, der::Error>(())
                })?;
            }
        }
        Ok::<_, der::Error>(())
    })?;
    match found.as_slice() {
        [one] if one.len() <= 64 && one.bytes().all(|byte| (0x20..0x7f).contains(&byte)) => Ok(one.clone()),
        _ => Ok(String::new()),
    }
}

/// RFC 4055 §3.1; AMD's parameters are SHA-384, MGF1 with SHA-384, salt of 48 bytes.
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

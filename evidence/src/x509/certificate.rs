//! One certificate, borrowed from its DER (RFC 5280 §4.1).

use der::{
    Decode as _, Reader as _, SliceReader, Tag, TagNumber,
    asn1::{BitStringRef, ContextSpecific, ObjectIdentifier, UintRef},
};
use x509_cert::{
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage},
    spki::AlgorithmIdentifierRef,
    time::Time,
};

use super::{CERTIFICATE_CAP_BYTES, extension::Extension, signed::Signed};
use crate::{EvidenceDenial, digest::Sha256Digest, time::UnixSeconds};

/// A certificate that reads as one. Nothing of it is verified.
#[derive(Clone, Debug)]
pub(crate) struct Certificate<'a> {
    /// SHA-256 of its DER, and of its SubjectPublicKeyInfo: a chain asks for them many times.
    digests: [Sha256Digest; 2],
    signed: Signed<'a>,
    /// Contents of the serial number's INTEGER. Vendors ship zero, negative and overlong ones.
    pub(crate) serial: &'a [u8],
    /// Issuer's Name, as it stands.
    pub(crate) issuer: &'a [u8],
    /// Subject's Name, as it stands.
    pub(crate) subject: &'a [u8],
    pub(crate) not_before: UnixSeconds,
    pub(crate) not_after: UnixSeconds,
    /// SubjectPublicKeyInfo, as it stands.
    pub(crate) public_key_info: &'a [u8],
    pub(crate) extensions: Extensions<'a>,
}

/// Extensions that some place in a chain is judged by; the others only by whether they are critical.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extensions<'a> {
    pub(crate) basic_constraints: Option<BasicConstraints>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) extended_key_usage: Vec<ObjectIdentifier>,
    /// GeneralNames of subjectAltName.
    pub(crate) subject_alt_name: Option<&'a [u8]>,
    /// Extensions that are neither critical nor any of the above: what vendors say of their hardware.
    vendor: Vec<(ObjectIdentifier, &'a [u8])>,
    /// First critical extension that is not processed here.
    pub(crate) unknown_critical: Option<ObjectIdentifier>,
}

/// A subject's key, in the parts that a TPM public area has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubjectKey<'a> {
    /// Modulus without leading zeros, and exponent.
    Rsa { modulus: &'a [u8], exponent: &'a [u8] },
    /// Named curve and uncompressed point.
    Ecc { curve: ObjectIdentifier, point: &'a [u8] },
}

impl<'a> Certificate<'a> {
    /// Reads exactly one certificate.
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, EvidenceDenial> {
        if der.len() > CERTIFICATE_CAP_BYTES {
            let (got_bytes, cap_bytes) = (der.len(), CERTIFICATE_CAP_BYTES);
            return Err(EvidenceDenial::TooLarge { part: "certificate", got_bytes, cap_bytes });
        }
        Self::decode(der).map_err(|error| malformed(&error))
    }

    /// Reads a certificate as a TPM's NV index holds it: padded with 0x00 or 0xff to the size of the index.
    pub(crate) fn read_padded(bytes: &'a [u8]) -> Result<Self, EvidenceDenial> {
        let mut reader = SliceReader::new(bytes).map_err(|error| malformed(&error))?;
        let der = reader.tlv_bytes().map_err(|error| malformed(&error))?;
        let padding = bytes.get(der.len()..).unwrap_or(&[]);
        let is_padding = |octet: u8| padding.iter().all(|b| *b == octet);
        if !is_padding(0x00) && !is_padding(0xff) {
            return Err(EvidenceDenial::TrailingBytes { structure: "Certificate", extra_bytes: padding.len() });
        }
        Self::read(der)
    }

    fn decode(der: &'a [u8]) -> der::Result<Self> {
        let signed = Signed::decode(der)?;
        let mut reader = SliceReader::new(signed.to_be_signed)?;
        let tbs = reader.sequence(Tbs::decode)?;
        reader.finish()?;
        // RFC 5280 §4.1.1.2: the unsigned copy of the algorithm says the same as the signed one
        if tbs.signature_algorithm != signed.algorithm {
            return Err(Tag::Sequence.value_error().into());
        }
        Ok(Self {
            digests: [Sha256Digest::of(der), Sha256Digest::of(tbs.public_key_info)],
            signed,
            serial: tbs.serial,
            issuer: tbs.issuer,
            subject: tbs.subject,
            not_before: UnixSeconds(tbs.not_before.to_unix_duration().as_secs()),
            not_after: UnixSeconds(tbs.not_after.to_unix_duration().as_secs()),
            public_key_info: tbs.public_key_info,
            extensions: Extensions::read(&tbs.extensions)?,
        })
    }

    /// SHA-256 of its DER.
    pub(crate) const fn digest(&self) -> Sha256Digest {
        let [of_der, _] = self.digests;
        of_der
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    pub(crate) const fn key_digest(&self) -> Sha256Digest {
        let [_, of_key] = self.digests;
        of_key
    }

    /// Serial number without leading zeros.
    pub(crate) fn serial_digits(&self) -> &'a [u8] {
        super::crl::without_leading_zeros(self.serial)
    }

    /// The subject's key in parts.
    pub(crate) fn subject_key(&self) -> Result<SubjectKey<'a>, EvidenceDenial> {
        SubjectKey::read(self.public_key_info).map_err(|error| malformed(&error))
    }

    /// Does `issuer`'s key verify this certificate's signature? Says why not.
    pub(crate) fn is_signed_by(&self, issuer: &Certificate<'_>) -> Result<(), &'static str> {
        self.signed.is_signed_by(issuer)
    }
}

struct Tbs<'a> {
    serial: &'a [u8],
    signature_algorithm: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    not_before: Time,
    not_after: Time,
    public_key_info: &'a [u8],
    extensions: Vec<Extension<'a>>,
}

impl<'a> Tbs<'a> {
    /// TBSCertificate of a version 3 certificate. Unique identifiers (RFC 5280 §4.1.2.8) are refused.
    fn decode(reader: &mut SliceReader<'a>) -> der::Result<Self> {
        let version = ContextSpecific::<u8>::decode_explicit(reader, TagNumber(0))?.map(|version| version.value);
        if version != Some(2) {
            return Err(Tag::Integer.value_error().into());
        }
        let serial = read_serial(reader)?;
        let signature_algorithm = reader.tlv_bytes()?;
        let issuer = reader.tlv_bytes()?;
        let (not_before, not_after) =
            reader.sequence(|validity| Ok::<_, der::Error>((Time::decode(validity)?, Time::decode(validity)?)))?;
        let subject = reader.tlv_bytes()?;
        let public_key_info = reader.tlv_bytes()?;
        let extensions = Extension::read_field(reader, TagNumber(3))?;
        Ok(Self { serial, signature_algorithm, issuer, subject, not_before, not_after, public_key_info, extensions })
    }
}

/// Contents of an INTEGER that need not be minimal.
pub(super) fn read_serial<'a>(reader: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    let header = der::Header::decode(reader)?;
    header.tag().assert_eq(Tag::Integer)?;
    reader.read_slice(header.length())
}

impl<'a> Extensions<'a> {
    fn read(all: &[Extension<'a>]) -> der::Result<Self> {
        let mut out = Self::default();
        for (position, extension) in all.iter().enumerate() {
            let Extension { oid, is_critical, value } = *extension;
            // RFC 5280 §4.2: no extension twice
            if all.iter().take(position).any(|other| other.oid == oid) {
                return Err(Tag::Sequence.value_error().into());
            }
            match oid {
                BASIC_CONSTRAINTS => out.basic_constraints = Some(BasicConstraints::from_der(value)?),
                KEY_USAGE => out.key_usage = Some(KeyUsage::from_der(value)?),
                EXTENDED_KEY_USAGE => out.extended_key_usage = ExtendedKeyUsage::from_der(value)?.0,
                SUBJECT_ALT_NAME => out.subject_alt_name = Some(value),
                // no policy is required of these chains, so any policy will do (RFC 5280 §6.1.1 (c))
                CERTIFICATE_POLICIES => {}
                _ if is_critical => out.unknown_critical = out.unknown_critical.or(Some(oid)),
                _ => out.vendor.push((oid, value)),
            }
        }
        Ok(out)
    }

    /// Value of an extension that is neither critical nor processed here.
    pub(crate) fn vendor(&self, wanted: ObjectIdentifier) -> Option<&'a [u8]> {
        self.vendor.iter().find(|(oid, _)| *oid == wanted).map(|(_, value)| *value)
    }
}

impl<'a> SubjectKey<'a> {
    fn read(public_key_info: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(public_key_info)?;
        let (algorithm, key) = reader.sequence(|body| {
            Ok::<_, der::Error>((AlgorithmIdentifierRef::decode(body)?, BitStringRef::decode(body)?))
        })?;
        reader.finish()?;
        let key = key.as_bytes().ok_or_else(|| Tag::BitString.value_error())?;
        match algorithm.oid {
            // some vendors name the padding that the EK decrypts with instead of the key
            RSA_ENCRYPTION | RSAES_OAEP => {
                let mut reader = SliceReader::new(key)?;
                let (modulus, exponent) =
                    reader.sequence(|body| Ok::<_, der::Error>((UintRef::decode(body)?, UintRef::decode(body)?)))?;
                reader.finish()?;
                Ok(Self::Rsa { modulus: modulus.as_bytes(), exponent: exponent.as_bytes() })
            }
            EC_PUBLIC_KEY => {
                let curve = algorithm.parameters_oid().map_err(|_| Tag::ObjectIdentifier.value_error())?;
                Ok(Self::Ecc { curve, point: key })
            }
            _ => Err(Tag::ObjectIdentifier.value_error().into()),
        }
    }
}

pub(super) fn malformed(error: &der::Error) -> EvidenceDenial {
    let offset = error.position().and_then(|at| usize::try_from(u32::from(at)).ok()).unwrap_or(0);
    EvidenceDenial::Malformed { structure: "Certificate", offset, what: "DER of an X.509 v3 certificate" }
}

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSAES_OAEP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.7");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(crate) const CURVE_P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(crate) const CURVE_P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const CERTIFICATE_POLICIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.32");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

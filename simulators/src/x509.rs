//! Certificates and CRLs with every field open, signed with any key: also the ones no CA would issue.

use base64::{Engine, engine::general_purpose::STANDARD};
use der::oid::ObjectIdentifier;

use crate::{SimulatorError, asn1, keys::Signer};

/// One relative distinguished name of one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePart {
    /// Attribute type.
    pub oid: ObjectIdentifier,
    /// Its value; countryName is written as PrintableString, all others as UTF8String.
    pub value: String,
}

/// One extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// extnID.
    pub oid: ObjectIdentifier,
    /// Written only where true, as DER asks.
    pub critical: bool,
    /// What stands in the OCTET STRING; DER for most, raw bytes for AMD's HWID.
    pub value: Vec<u8>,
}

/// All fields of an X.509 v3 certificate. Change any, then sign.
#[derive(Clone, Debug)]
pub struct CertificateFields {
    /// Big-endian; leading zeros are dropped.
    pub serial: Vec<u8>,
    /// Issuer, in order.
    pub issuer: Vec<NamePart>,
    /// notBefore, Unix seconds.
    pub not_before: u64,
    /// notAfter, Unix seconds.
    pub not_after: u64,
    /// Subject, in order.
    pub subject: Vec<NamePart>,
    /// SubjectPublicKeyInfo DER.
    pub public_key_info: Vec<u8>,
    /// In order.
    pub extensions: Vec<Extension>,
}

impl CertificateFields {
    /// The certificate's DER.
    pub fn sign(&self, signer: Signer<'_>) -> Result<Vec<u8>, SimulatorError> {
        let validity = asn1::sequence(&[asn1::time(self.not_before)?, asn1::time(self.not_after)?]);
        let body = asn1::sequence(&[
            asn1::explicit(0, &asn1::small(2)),
            asn1::unsigned(&self.serial),
            signer.algorithm(),
            name(&self.issuer),
            validity,
            name(&self.subject),
            self.public_key_info.clone(),
            asn1::explicit(3, &extensions(&self.extensions)),
        ]);
        signed(body, signer)
    }

    /// The extension of that type, for a test to change.
    pub fn extension_mut(&mut self, oid: ObjectIdentifier) -> Option<&mut Extension> {
        self.extensions.iter_mut().find(|extension| extension.oid == oid)
    }

    /// Leaves out the extension of that type.
    pub fn remove_extension(&mut self, oid: ObjectIdentifier) {
        self.extensions.retain(|extension| extension.oid != oid);
    }
}

/// One entry of a CRL.
#[derive(Clone, Debug)]
pub struct RevokedCertificate {
    /// Serial number, big-endian.
    pub serial: Vec<u8>,
    /// revocationDate, Unix seconds.
    pub at: u64,
    /// CRLReason (1: key compromise).
    pub reason: u8,
}

/// All fields of a v2 CRL.
#[derive(Clone, Debug)]
pub struct CrlFields {
    /// Issuer, in order.
    pub issuer: Vec<NamePart>,
    /// thisUpdate, Unix seconds.
    pub this_update: u64,
    /// nextUpdate, Unix seconds.
    pub next_update: u64,
    /// In order; where there is none the list is left out, as DER asks.
    pub revoked: Vec<RevokedCertificate>,
    /// crlExtensions, in order.
    pub extensions: Vec<Extension>,
}

impl CrlFields {
    /// The CRL's DER.
    pub fn sign(&self, signer: Signer<'_>) -> Result<Vec<u8>, SimulatorError> {
        let mut parts = vec![
            asn1::small(1),
            signer.algorithm(),
            name(&self.issuer),
            asn1::time(self.this_update)?,
            asn1::time(self.next_update)?,
        ];
        if !self.revoked.is_empty() {
            let entries = self.revoked.iter().map(revoked_entry).collect::<Result<Vec<_>, _>>()?;
            parts.push(asn1::sequence(&entries));
        }
        parts.push(asn1::explicit(0, &extensions(&self.extensions)));
        signed(asn1::sequence(&parts), signer)
    }
}

/// PEM with lines of 64 characters and a final newline.
pub fn certificate_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at_checked(64).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// subjectKeyIdentifier.
pub fn subject_key_id(key_id: &[u8]) -> Extension {
    Extension { oid: SUBJECT_KEY_ID, critical: false, value: asn1::octets(key_id) }
}

/// authorityKeyIdentifier with the key identifier alone.
pub fn authority_key_id(key_id: &[u8]) -> Extension {
    Extension { oid: AUTHORITY_KEY_ID, critical: false, value: asn1::sequence(&[asn1::tlv(0x80, key_id)]) }
}

/// keyUsage, critical: `unused` low bits of `bits` are unused (RFC 5280, 4.2.1.3).
pub fn key_usage(unused: u8, bits: u8) -> Extension {
    Extension { oid: KEY_USAGE, critical: true, value: asn1::tlv(0x03, &[unused, bits]) }
}

/// basicConstraints, critical: an end entity, or a CA with its path length where it has one.
pub fn basic_constraints(ca: Option<Option<u64>>) -> Extension {
    let mut parts = Vec::new();
    if let Some(path_length) = ca {
        parts.push(asn1::boolean(true));
        parts.extend(path_length.map(asn1::small));
    }
    Extension { oid: BASIC_CONSTRAINTS, critical: true, value: asn1::sequence(&parts) }
}

/// cRLDistributionPoints with one URI.
pub fn crl_distribution_point(uri: &str) -> Extension {
    let full_name = asn1::explicit(0, &asn1::tlv(0x86, uri.as_bytes()));
    let point = asn1::sequence(&[asn1::explicit(0, &full_name)]);
    Extension { oid: CRL_DISTRIBUTION_POINTS, critical: false, value: asn1::sequence(&[point]) }
}

/// cRLNumber.
pub fn crl_number(number: u64) -> Extension {
    Extension { oid: CRL_NUMBER, critical: false, value: asn1::small(number) }
}

fn signed(body: Vec<u8>, signer: Signer<'_>) -> Result<Vec<u8>, SimulatorError> {
    let signature = signer.sign(&body)?;
    Ok(asn1::sequence(&[body, signer.algorithm(), asn1::bits(&signature)]))
}

fn name(parts: &[NamePart]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = parts
        .iter()
        .map(|part| {
            let value = if part.oid == COUNTRY { asn1::printable(&part.value) } else { asn1::utf8(&part.value) };
            asn1::set(&[asn1::sequence(&[asn1::oid(part.oid), value])])
        })
        .collect();
    asn1::sequence(&parts)
}

fn extensions(list: &[Extension]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = list
        .iter()
        .map(|extension| {
            let mut parts = vec![asn1::oid(extension.oid)];
            if extension.critical {
                parts.push(asn1::boolean(true));
            }
            parts.push(asn1::octets(&extension.value));
            asn1::sequence(&parts)
        })
        .collect();
    asn1::sequence(&parts)
}

fn revoked_entry(entry: &RevokedCertificate) -> Result<Vec<u8>, SimulatorError> {
    let reason = Extension { oid: CRL_REASON, critical: false, value: asn1::tlv(0x0a, &[entry.reason]) };
    Ok(asn1::sequence(&[asn1::unsigned(&entry.serial), asn1::time(entry.at)?, extensions(&[reason])]))
}

/// commonName.
pub const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// countryName.
pub const COUNTRY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.6");
/// localityName.
pub const LOCALITY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.7");
/// stateOrProvinceName.
pub const STATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.8");
/// organizationName.
pub const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
/// organizationalUnitName.
pub const ORGANIZATIONAL_UNIT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.11");
/// subjectKeyIdentifier.
pub const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
/// keyUsage.
pub const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
/// basicConstraints.
pub const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
/// cRLNumber.
pub const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
/// cRLReason.
pub const CRL_REASON: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
/// cRLDistributionPoints.
pub const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
/// authorityKeyIdentifier.
pub const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");

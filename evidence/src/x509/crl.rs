//! Certificate revocation lists (RFC 5280 §5): complete ones, issued by the authority whose certificates they are of.

use der::{Decode as _, Reader as _, SliceReader, Tag, TagNumber, asn1::ObjectIdentifier};
use x509_cert::time::Time;

use super::{Certificate, certificate::read_serial, extension::Extension, signed::Signed};
use crate::{EvidenceDenial, digest::Sha256Digest, time::UnixSeconds};

/// Longest revocation list.
pub const CRL_CAP_BYTES: usize = 1024 * 1024;

/// A revocation list that reads as one. Nothing of it is verified before [`Crl::verify`].
#[derive(Clone, Debug)]
pub(crate) struct Crl<'a> {
    der: &'a [u8],
    signed: Signed<'a>,
    /// Issuer's Name, as it stands.
    pub(crate) issuer: &'a [u8],
    pub(crate) this_update: UnixSeconds,
    pub(crate) next_update: UnixSeconds,
    /// Serial numbers without leading zeros.
    revoked: Vec<&'a [u8]>,
}

impl<'a> Crl<'a> {
    /// Reads exactly one list.
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, EvidenceDenial> {
        if der.len() > CRL_CAP_BYTES {
            let (got_bytes, cap_bytes) = (der.len(), CRL_CAP_BYTES);
            return Err(EvidenceDenial::TooLarge { part: "revocation list", got_bytes, cap_bytes });
        }
        Self::decode(der).map_err(|error| {
            let offset = error.position().and_then(|at| usize::try_from(u32::from(at)).ok()).unwrap_or(0);
            let what = "DER of a complete X.509 revocation list with nextUpdate";
            EvidenceDenial::Malformed { structure: "CertificateList", offset, what }
        })
    }

    fn decode(der: &'a [u8]) -> der::Result<Self> {
        let signed = Signed::decode(der)?;
        let mut reader = SliceReader::new(signed.to_be_signed)?;
        let list = reader.sequence(|body| {
            if Tag::peek(body)? == Tag::Integer && u8::decode(body)? != 1 {
                return Err(Tag::Integer.value_error().into());
            }
            // RFC 5280 §5.1.1.2: the unsigned copy of the algorithm says the same as the signed one
            if body.tlv_bytes()? != signed.algorithm {
                return Err(Tag::Sequence.value_error().into());
            }
            let issuer = body.tlv_bytes()?;
            let (this_update, next_update) = (Time::decode(body)?, Time::decode(body)?);
            let mut revoked = Vec::new();
            if !body.is_finished() && Tag::peek(body)? == Tag::Sequence {
                body.sequence(|entries| {
                    while !entries.is_finished() {
                        revoked.push(entries.sequence(read_entry)?);
                    }
                    Ok::<_, der::Error>(())
                })?;
            }
            // one that is critical changes what the list covers (§5.2): a delta, one distribution point, another issuer
            refuse_critical(&Extension::read_field(body, TagNumber(0))?)?;
            Ok::<_, der::Error>((issuer, this_update, next_update, revoked))
        })?;
        reader.finish()?;
        let (issuer, this_update, next_update, revoked) = list;
        Ok(Self {
            der,
            signed,
            issuer,
            this_update: UnixSeconds(this_update.to_unix_duration().as_secs()),
            next_update: UnixSeconds(next_update.to_unix_duration().as_secs()),
            revoked,
        })
    }

    /// SHA-256 of its DER.
    pub(crate) fn digest(&self) -> Sha256Digest {
        Sha256Digest::of(self.der)
    }

    /// Is it by `issuer`, and the newest at `now`?
    pub(crate) fn verify(&self, issuer: &Certificate<'_>, now: UnixSeconds) -> Result<(), EvidenceDenial> {
        let refused = |what| EvidenceDenial::CertificateListSignature { what };
        if self.issuer != issuer.subject {
            return Err(refused("issued under another name"));
        }
        if issuer.extensions.key_usage.as_ref().is_some_and(|usage| !usage.crl_sign()) {
            return Err(refused("issuer may not sign lists"));
        }
        self.signed.is_signed_by(issuer).map_err(refused)?;
        let (this_update, next_update) = (self.this_update, self.next_update);
        if this_update <= now && now <= next_update {
            Ok(())
        } else {
            Err(EvidenceDenial::CertificateListValidity { this_update, next_update, now })
        }
    }

    /// Serial numbers listed, without leading zeros.
    pub(crate) fn serials(&self) -> impl Iterator<Item = &'a [u8]> {
        self.revoked.iter().copied()
    }

    /// Refuses a certificate of the same issuer that is listed.
    pub(crate) fn refuse_listed(&self, certificate: &Certificate<'_>) -> Result<(), EvidenceDenial> {
        let serial = without_leading_zeros(certificate.serial);
        if self.revoked.contains(&serial) {
            Err(EvidenceDenial::Revoked { sha256: certificate.digest() })
        } else {
            Ok(())
        }
    }
}

/// Serial number of one revoked certificate. Whatever the reason, it stays revoked.
fn read_entry<'a>(reader: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    let serial = read_serial(reader)?;
    Time::decode(reader)?;
    if !reader.is_finished() {
        refuse_critical(&Extension::read_all(reader)?)?;
    }
    Ok(without_leading_zeros(serial))
}

fn refuse_critical(extensions: &[Extension<'_>]) -> der::Result<()> {
    match extensions.iter().any(|extension| extension.is_critical && extension.oid != CRL_REASON) {
        true => Err(Tag::Boolean.value_error().into()),
        false => Ok(()),
    }
}

pub(super) fn without_leading_zeros(serial: &[u8]) -> &[u8] {
    let start = serial.iter().position(|byte| *byte != 0).unwrap_or(serial.len());
    serial.get(start..).unwrap_or(&[])
}

/// reasonCode (§5.3.1) says why, which decides nothing here.
const CRL_REASON: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");

//! Intel's chains of fixed shape: a leaf under the root, or under one intermediate of it (Intel SGX PCK Certificate
//! and CRL specification §1.2; PCS API v4 for the issuer chains of collateral). No path is searched for.

use std::collections::BTreeSet;

use super::roots::{RootAnchor, TdxRoots};
use crate::{
    EvidenceDenial,
    digest::Sha256Digest,
    time::UnixSeconds,
    x509::{Certificate, SubjectKey, name_attributes},
};

/// What a certificate's common name must contain.
pub(super) const ROOT_CA: &str = "SGX Root CA";
pub(super) const PCK_CA: &str = "CA";
pub(super) const PCK: &str = "SGX PCK Certificate";
pub(super) const TCB_SIGNING: &str = "SGX TCB Signing";

/// When every certificate of some chains is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Latest beginning.
    pub(super) from: UnixSeconds,
    /// Earliest end.
    pub(super) until: UnixSeconds,
}

impl Window {
    pub(super) const ALWAYS: Self = Self { from: UnixSeconds(0), until: UnixSeconds(u64::MAX) };

    pub(super) fn narrow(&mut self, from: UnixSeconds, until: UnixSeconds) {
        (self.from, self.until) = (self.from.max(from), self.until.min(until));
    }

    pub(super) fn contains(&self, now: UnixSeconds) -> bool {
        self.from <= now && now <= self.until
    }
}

/// Signatures of certificates that were verified, each by digest of the whole certificate and of its issuer's key.
///
/// Intel's chains share certificates: with this, each signature costs once. All else is judged in every chain.
#[derive(Clone, Debug, Default)]
pub(super) struct Signatures(BTreeSet<(Sha256Digest, Sha256Digest)>);

impl Signatures {
    /// Does `issuer`'s key verify `certificate`'s signature? Says why not.
    pub(super) fn verify(
        &mut self,
        certificate: &Certificate<'_>,
        issuer: &Certificate<'_>,
    ) -> Result<(), &'static str> {
        let pair = (certificate.digest(), issuer.key_digest());
        if !self.0.contains(&pair) {
            certificate.is_signed_by(issuer)?;
            self.0.insert(pair);
        }
        Ok(())
    }
}

/// A chain verified to a pinned root.
pub(super) struct Chain {
    pub(super) anchor: RootAnchor,
    pub(super) window: Window,
    /// SHA-256 of every certificate and of every key in it: what a revocation in the anchors may name.
    pub(super) digests: Vec<Sha256Digest>,
}

/// Verifies `[leaf, …, root]` with the common name that each must have. `leaf_is_authority`: the leaf issues
/// certificates or lists itself.
pub(super) fn verify(
    certificates: &[(&Certificate<'_>, &str)],
    leaf_is_authority: bool,
    signatures: &mut Signatures,
    roots: &TdxRoots<'_>,
    now: UnixSeconds,
) -> Result<Chain, EvidenceDenial> {
    let unmet = |position, what| EvidenceDenial::CertificateConstraint { position, what };
    let mut window = Window::ALWAYS;
    let mut digests = Vec::new();
    for (position, (certificate, phrase)) in certificates.iter().enumerate() {
        judge(certificate, position, phrase, now)?;
        if position > 0 || leaf_is_authority {
            judge_authority(certificate, position, usize::from(leaf_is_authority))?;
        } else if certificate.extensions.basic_constraints.as_ref().is_some_and(|constraints| constraints.ca) {
            return Err(unmet(position, "no authority to issue certificates"));
        }
        window.narrow(certificate.not_before, certificate.not_after);
        digests.extend([certificate.digest(), certificate.key_digest()]);
        let Some((issuer, _)) = certificates.get(position.saturating_add(1)) else {
            let unanchored = EvidenceDenial::ChainUnanchored { position, sha256: certificate.digest() };
            roots.pin(certificate, signatures).ok_or(unanchored)?;
            digests.iter().try_for_each(|digest| roots.refuse_revoked(*digest))?;
            return Ok(Chain { anchor: RootAnchor::of(certificate), window, digests });
        };
        if certificate.issuer != issuer.subject {
            return Err(unmet(position, "the next certificate's subject as issuer"));
        }
        let denied = |what| EvidenceDenial::CertificateSignature { position, what };
        signatures.verify(certificate, issuer).map_err(denied)?;
    }
    Err(EvidenceDenial::Missing { part: "certificate chain" })
}

fn judge(certificate: &Certificate<'_>, position: usize, phrase: &str, now: UnixSeconds) -> Result<(), EvidenceDenial> {
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    if now < not_before || not_after < now {
        return Err(EvidenceDenial::CertificateValidity { position, not_before, not_after, now });
    }
    if let Some(oid) = certificate.extensions.unknown_critical {
        return Err(EvidenceDenial::CertificateExtension { position, oid: oid.to_string() });
    }
    if !common_name(certificate.subject)?.contains(phrase) {
        return Err(EvidenceDenial::CertificateConstraint { position, what: "the common name of its place" });
    }
    match certificate.subject_key()? {
        SubjectKey::Ecc { curve: crate::x509::CURVE_P256, .. } => Ok(()),
        SubjectKey::Ecc { .. } | SubjectKey::Rsa { .. } => {
            Err(EvidenceDenial::CertificateConstraint { position, what: "a key on P-256" })
        }
    }
}

/// RFC 5280 §6.1.4 (k)-(n).
fn judge_authority(certificate: &Certificate<'_>, position: usize, own: usize) -> Result<(), EvidenceDenial> {
    let unmet = |what| Err(EvidenceDenial::CertificateConstraint { position, what });
    let Some(constraints) = certificate.extensions.basic_constraints.as_ref().filter(|constraints| constraints.ca)
    else {
        return unmet("basicConstraints with cA");
    };
    // authorities between this one and what it or they issue for end use
    let below = position.saturating_sub(1).saturating_add(own).min(position);
    if constraints.path_len_constraint.is_some_and(|allowed| below > usize::from(allowed)) {
        return unmet("no more authorities below than pathLenConstraint");
    }
    if !certificate.extensions.key_usage.as_ref().is_some_and(x509_cert::ext::pkix::KeyUsage::key_cert_sign) {
        return unmet("keyUsage with keyCertSign");
    }
    Ok(())
}

/// The common name in a Name; empty if it has none.
pub(super) fn common_name(name: &[u8]) -> Result<&str, EvidenceDenial> {
    let attributes = name_attributes(name)?;
    let found = attributes.into_iter().find(|attribute| attribute.oid == COMMON_NAME);
    Ok(found.map(|attribute| attribute.value).unwrap_or_default())
}

const COMMON_NAME: der::asn1::ObjectIdentifier = der::asn1::ObjectIdentifier::new_unwrap("2.5.4.3");

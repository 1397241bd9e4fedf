//! A chain of fixed shape: each certificate issued by the next, the last one pinned. No path is searched for.

use super::{CHAIN_CAP, Certificate};
use crate::{
    EvidenceDenial,
    anchors::{RootPin, TrustAnchors},
    digest::Sha256Digest,
    time::UnixSeconds,
};

/// Where a chain ended, and when all of it is valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchor {
    /// SHA-256 of the pinned certificate.
    pub(crate) root: Sha256Digest,
    /// Pinned as the root of a software TPM.
    pub(crate) is_simulated: bool,
    /// Latest notBefore of the chain.
    pub(crate) not_before: UnixSeconds,
    /// Earliest notAfter of the chain.
    pub(crate) not_after: UnixSeconds,
}

/// Walks from the first of `offered` to a pinned root. Where nothing more was offered, the issuer is looked for
/// among the certificates that came with the anchors, by its name.
///
/// The first certificate is judged here as what it is signed by and when, not for what it may be used.
pub(crate) fn walk(
    leaf: &Certificate<'_>,
    offered: &[Certificate<'_>],
    anchors: &TrustAnchors,
    now: UnixSeconds,
) -> Result<Anchor, EvidenceDenial> {
    let known =
        anchors.set().ca_certificates.iter().map(|der| Certificate::read(der)).collect::<Result<Vec<_>, _>>()?;
    let mut at = leaf;
    let mut issuers = offered.iter();
    let (mut not_before, mut not_after) = (UnixSeconds(0), UnixSeconds(u64::MAX));
    for position in 0..CHAIN_CAP {
        judge_time(at, position, now)?;
        anchors.refuse_revoked(at.digest())?;
        anchors.refuse_revoked(at.key_digest())?;
        if let Some(oid) = at.extensions.unknown_critical {
            return Err(EvidenceDenial::CertificateExtension { position, oid: oid.to_string() });
        }
        (not_before, not_after) = (not_before.max(at.not_before), not_after.min(at.not_after));
        if position > 0 {
            judge_authority(at, position)?;
            if let Some(is_simulated) = pinned(at, anchors) {
                // what follows would never be looked at: refuse it instead
                return match issuers.len() {
                    0 => Ok(Anchor { root: at.digest(), is_simulated, not_before, not_after }),
                    _ => Err(EvidenceDenial::CertificateConstraint {
                        position,
                        what: "no certificate after the pinned root",
                    }),
                };
            }
        }
        let unanchored = EvidenceDenial::ChainUnanchored { position, sha256: at.digest() };
        // a root that is not pinned: nothing above it could be
        if at.issuer == at.subject {
            return Err(unanchored);
        }
        let issuer = match issuers.next() {
            Some(issuer) => issuer,
            None => issuer_among(&known, at).ok_or(unanchored)?,
        };
        if issuer.subject != at.issuer {
            return Err(EvidenceDenial::CertificateConstraint {
                position,
                what: "the next certificate's subject as issuer",
            });
        }
        at.is_signed_by(issuer).map_err(|what| EvidenceDenial::CertificateSignature { position, what })?;
        at = issuer;
    }
    Err(EvidenceDenial::TooMany { part: "certificates in a chain", cap: CHAIN_CAP })
}

fn judge_time(at: &Certificate<'_>, position: usize, now: UnixSeconds) -> Result<(), EvidenceDenial> {
    let (not_before, not_after) = (at.not_before, at.not_after);
    if not_before <= now && now <= not_after {
        Ok(())
    } else {
        Err(EvidenceDenial::CertificateValidity { position, not_before, not_after, now })
    }
}

/// RFC 5280 §6.1.4 (k)-(n): may it issue, and with so many authorities below it?
fn judge_authority(at: &Certificate<'_>, position: usize) -> Result<(), EvidenceDenial> {
    let unmet = |what| Err(EvidenceDenial::CertificateConstraint { position, what });
    let Some(constraints) = at.extensions.basic_constraints.as_ref().filter(|constraints| constraints.ca) else {
        return unmet("basicConstraints with cA");
    };
    let below = position.saturating_sub(1);
    if constraints.path_len_constraint.is_some_and(|allowed| below > usize::from(allowed)) {
        return unmet("no more authorities below than pathLenConstraint");
    }
    if !at.extensions.key_usage.as_ref().is_some_and(x509_cert::ext::pkix::KeyUsage::key_cert_sign) {
        return unmet("keyUsage with keyCertSign");
    }
    Ok(())
}

/// Whether it is pinned, and if so whether only as the root of simulated TPMs.
fn pinned(at: &Certificate<'_>, anchors: &TrustAnchors) -> Option<bool> {
    let set = anchors.set();
    let by_certificate = RootPin::Certificate(at.digest());
    let by_key = RootPin::PublicKey(at.key_digest());
    let is_self_signed = at.issuer == at.subject && at.is_signed_by(at).is_ok();
    let is_in = |roots: &std::collections::BTreeSet<RootPin>| {
        roots.contains(&by_certificate) || (roots.contains(&by_key) && is_self_signed)
    };
    if is_in(&set.tpm_roots) {
        Some(false)
    } else if is_in(&set.simulated_tpm_roots) {
        Some(true)
    } else {
        None
    }
}

fn issuer_among<'k, 'd>(known: &'k [Certificate<'d>], at: &Certificate<'_>) -> Option<&'k Certificate<'d>> {
    let mut named = known.iter().filter(|issuer| issuer.subject == at.issuer).peekable();
    // two authorities of one name: a renewed key; only then does the signature choose
    let first = named.next()?;
    if named.peek().is_none() {
        return Some(first);
    }
    std::iter::once(first).chain(named).take(CHAIN_CAP).find(|issuer| at.is_signed_by(issuer).is_ok())
}

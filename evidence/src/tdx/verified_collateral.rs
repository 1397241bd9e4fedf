//! Collateral verified once, to judge many quotes by.

use std::collections::BTreeSet;

use aws_lc_rs::signature::ParsedPublicKey;

use super::{
    chain::{self, Signatures, Window},
    collateral::Collateral,
    json::TEXT_CAP_BYTES,
    pck::{VerifiedPck, p256_key},
    pem,
    qe_identity::{QE_IDENTITY, QeIdentity},
    roots::{RootAnchor, TdxRoots},
    tcb_info::{TCB_INFO, TcbInfo},
};
use crate::{
    EvidenceDenial,
    digest::Sha256Digest,
    time::UnixSeconds,
    x509::{Certificate, Crl},
};

/// Collateral whose every signature leads to a pinned root. Kept by [`VerifiedCollateral::digest`]; judged again by
/// [`VerifiedCollateral::current`].
#[derive(Debug)]
pub struct VerifiedCollateral {
    digest: Sha256Digest,
    tcb_info: TcbInfo,
    qe_identity: QeIdentity,
    pck_crl: RevocationList,
    root_crl: RevocationList,
    anchor: RootAnchor,
    certificates: Window,
    /// SHA-256 of every certificate and key.
    digests: Vec<Sha256Digest>,
    signatures: Signatures,
}

/// What of a verified list is used.
#[derive(Debug)]
struct RevocationList {
    /// Issuer's Name, as it stands.
    issuer: Vec<u8>,
    serials: BTreeSet<Vec<u8>>,
    this_update: UnixSeconds,
    next_update: UnixSeconds,
}

impl VerifiedCollateral {
    /// X6 and the collateral's part of X2 and X4: chains, signatures over the texts as received, lists, dates.
    ///
    /// # Errors
    /// [`EvidenceDenial`] for the first part that does not hold at `now`.
    pub fn verify(collateral: &Collateral, roots: &TdxRoots<'_>, now: UnixSeconds) -> Result<Self, EvidenceDenial> {
        let [pck_ca, root] = pem::read_chain(collateral.pck_crl_issuer_chain.as_bytes())?;
        let (pck_ca, root) = (Certificate::read(&pck_ca)?, Certificate::read(&root)?);
        let issuers = [(&pck_ca, chain::PCK_CA), (&root, chain::ROOT_CA)];
        let mut signatures = Signatures::default();
        let verified = chain::verify(&issuers, true, &mut signatures, roots, now)?;
        let (mut certificates, mut digests) = (verified.window, verified.digests);
        let root_crl = Crl::read(&collateral.root_ca_crl)?;
        root_crl.verify(&root, now)?;
        root_crl.refuse_listed(&pck_ca)?;
        let pck_crl = Crl::read(&collateral.pck_crl)?;
        pck_crl.verify(&pck_ca, now)?;

        let mut signer = Signers { root: &root, root_crl: &root_crl, signatures, roots, now };
        let tcb_info_signer = signer.read(&collateral.tcb_info_issuer_chain)?;
        tcb_info_signer.verify(TCB_INFO, &collateral.tcb_info, &collateral.tcb_info_signature)?;
        let tcb_info = TcbInfo::read(&collateral.tcb_info)?;
        // Intel signs both by one key and sends its chain twice
        let is_same = collateral.qe_identity_issuer_chain == collateral.tcb_info_issuer_chain;
        let other = (!is_same).then(|| signer.read(&collateral.qe_identity_issuer_chain)).transpose()?;
        let (text, signature) = (&collateral.qe_identity, &collateral.qe_identity_signature);
        other.as_ref().unwrap_or(&tcb_info_signer).verify(QE_IDENTITY, text, signature)?;
        let qe_identity = QeIdentity::read(text)?;
        for TextSigner { chain, .. } in std::iter::once(tcb_info_signer).chain(other) {
            certificates.narrow(chain.window.from, chain.window.until);
            digests.extend(chain.digests);
        }
        if tcb_info.tee_type != qe_identity.tee_type {
            let (structure, got) = (QE_IDENTITY, format!("{:?}", qe_identity.tee_type));
            return Err(EvidenceDenial::CollateralField { structure, field: "id", got, accepted: "the TCB info's" });
        }
        let verified = Self {
            digest: collateral.digest(),
            tcb_info,
            qe_identity,
            pck_crl: RevocationList::of(&pck_crl),
            root_crl: RevocationList::of(&root_crl),
            anchor: verified.anchor,
            certificates,
            digests,
            signatures: signer.signatures,
        };
        verified.judge_texts(now)?;
        Ok(verified)
    }

    /// Whether it still holds: everything in it valid at `now`, the root still pinned in `roots`, nothing of it taken
    /// back.
    ///
    /// # Errors
    /// [`EvidenceDenial`] for the first part that does not.
    pub fn current(&self, roots: &TdxRoots<'_>, now: UnixSeconds) -> Result<(), EvidenceDenial> {
        if !self.certificates.contains(now) {
            let (not_before, not_after) = (self.certificates.from, self.certificates.until);
            return Err(EvidenceDenial::CertificateValidity { position: 0, not_before, not_after, now });
        }
        let unanchored = EvidenceDenial::ChainUnanchored { position: 1, sha256: self.anchor.certificate };
        roots.hold(&self.anchor).ok_or(unanchored)?;
        self.digests.iter().try_for_each(|digest| roots.refuse_revoked(*digest))?;
        for list in [&self.root_crl, &self.pck_crl] {
            let (this_update, next_update) = (list.this_update, list.next_update);
            if now < this_update || next_update < now {
                return Err(EvidenceDenial::CertificateListValidity { this_update, next_update, now });
            }
        }
        self.judge_texts(now)
    }

    fn judge_texts(&self, now: UnixSeconds) -> Result<(), EvidenceDenial> {
        let texts = [
            (TCB_INFO, self.tcb_info.issued_at, self.tcb_info.next_update),
            (QE_IDENTITY, self.qe_identity.issued_at, self.qe_identity.next_update),
        ];
        for (structure, issued_at, next_update) in texts {
            if now < issued_at || next_update < now {
                return Err(EvidenceDenial::CollateralValidity { structure, issued_at, next_update, now });
            }
        }
        Ok(())
    }

    /// X2's revocation: the lists are by the authorities of this chain, and list none of its certificates.
    pub(super) fn refuse_revoked(&self, pck: &VerifiedPck) -> Result<(), EvidenceDenial> {
        if self.pck_crl.issuer != pck.issuer {
            let name = |name: &[u8]| chain::common_name(name).unwrap_or_default().to_owned();
            return Err(EvidenceDenial::CollateralMismatch {
                field: "issuer of the PCK revocation list",
                collateral: name(&self.pck_crl.issuer),
                pck: name(&pck.issuer),
            });
        }
        if self.anchor.key != pck.anchor().key {
            return Err(EvidenceDenial::CollateralMismatch {
                field: "root",
                collateral: self.anchor.key.to_string(),
                pck: pck.anchor().key.to_string(),
            });
        }
        let (intermediate, sha256) = &pck.intermediate;
        if self.root_crl.serials.contains(intermediate) {
            return Err(EvidenceDenial::Revoked { sha256: *sha256 });
        }
        if self.pck_crl.serials.contains(&pck.serial) {
            return Err(EvidenceDenial::Revoked { sha256: pck.certificate });
        }
        Ok(())
    }

    pub(super) const fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// SHA-256 of the collateral, as [`Collateral::digest`].
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// The TCB Info.
    #[must_use]
    pub const fn tcb_info(&self) -> &TcbInfo {
        &self.tcb_info
    }

    /// The identity of the quoting enclave.
    #[must_use]
    pub const fn qe_identity(&self) -> &QeIdentity {
        &self.qe_identity
    }

    /// The earliest of all its ends: fetch anew before.
    #[must_use]
    pub fn current_until(&self) -> UnixSeconds {
        let ends = [self.qe_identity.next_update, self.root_crl.next_update, self.pck_crl.next_update];
        ends.into_iter().fold(self.certificates.until.min(self.tcb_info.next_update), UnixSeconds::min)
    }

    /// The latest of all its beginnings: what in it is newest was issued then.
    #[must_use]
    pub fn issued_at(&self) -> UnixSeconds {
        let starts = [self.qe_identity.issued_at, self.root_crl.this_update, self.pck_crl.this_update];
        starts.into_iter().fold(self.tcb_info.issued_at, UnixSeconds::max)
    }
}

/// Verifies signers of texts under the one root that the revocation list is of.
struct Signers<'a> {
    root: &'a Certificate<'a>,
    root_crl: &'a Crl<'a>,
    signatures: Signatures,
    roots: &'a TdxRoots<'a>,
    now: UnixSeconds,
}

/// Who may sign texts.
struct TextSigner {
    chain: chain::Chain,
    key: ParsedPublicKey,
}

impl Signers<'_> {
    fn read(&mut self, issuer_chain: &str) -> Result<TextSigner, EvidenceDenial> {
        let [leaf, root] = pem::read_chain(issuer_chain.as_bytes())?;
        let (leaf, root) = (Certificate::read(&leaf)?, Certificate::read(&root)?);
        let certificates = [(&leaf, chain::TCB_SIGNING), (&root, chain::ROOT_CA)];
        let chain = chain::verify(&certificates, false, &mut self.signatures, self.roots, self.now)?;
        if root.digest() != self.root.digest() {
            let what = "the root that the revocation list is of";
            return Err(EvidenceDenial::CertificateConstraint { position: 1, what });
        }
        self.root_crl.refuse_listed(&leaf)?;
        Ok(TextSigner { chain, key: p256_key(&leaf)? })
    }
}

impl TextSigner {
    fn verify(&self, over: &'static str, text: &str, signature: &[u8]) -> Result<(), EvidenceDenial> {
        if text.len() > TEXT_CAP_BYTES {
            return Err(EvidenceDenial::TooLarge { part: over, got_bytes: text.len(), cap_bytes: TEXT_CAP_BYTES });
        }
        let verified = self.key.verify_sig(text.as_bytes(), signature);
        verified.map_err(|_| EvidenceDenial::CollateralSignature { over })
    }
}

impl RevocationList {
    fn of(list: &Crl<'_>) -> Self {
        Self {
            issuer: list.issuer.to_vec(),
            serials: list.serials().map(<[u8]>::to_vec).collect(),
            this_update: list.this_update,
            next_update: list.next_update,
        }
    }
}

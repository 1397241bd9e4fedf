//! What a batch verified of vendors' chains and collateral, so that each costs its signatures once and not in every
//! case.
//!
//! Kept under the digest of all bytes that it was made from: one byte changed is another key. Whether a kept one
//! holds at the time of a case is asked of it in every case; one that does not is verified anew, so that the denial
//! is the one that a case by itself has. Nothing that was denied is kept.

use std::sync::Arc;

use evidence::{
    EvidenceDenial,
    digest::Sha256Digest,
    sev_snp::{Revocation, SnpRoots, VerifiedVek},
    tdx::{Collateral, Quote, TdxRoots, VerifiedCollateral, VerifiedPck},
    time::UnixSeconds,
};

use crate::platforms::chains::Verified;

/// Chains of platforms kept at once, a few KiB each.
const CHAINS_CAP: usize = 4 * 1024;
/// Collateral kept at once: one for each kind of platform and issue, tens of KiB each.
const COLLATERALS_CAP: usize = 256;

/// What was verified in earlier cases.
#[derive(Debug)]
pub struct Known {
    veks: Verified<Sha256Digest, VerifiedVek>,
    pcks: Verified<Sha256Digest, VerifiedPck>,
    collaterals: Verified<Sha256Digest, VerifiedCollateral>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            veks: Verified::keeping(CHAINS_CAP),
            pcks: Verified::keeping(CHAINS_CAP),
            collaterals: Verified::keeping(COLLATERALS_CAP),
        }
    }
}

/// Certificates that lead to the key of an SNP report, and the revocation list they are judged by, DER.
#[derive(Clone, Copy)]
pub(super) struct VekChain<'a> {
    pub(super) leaf: &'a [u8],
    pub(super) issuer: Option<&'a [u8]>,
    pub(super) root: Option<&'a [u8]>,
    pub(super) list: Option<&'a [u8]>,
}

impl VekChain<'_> {
    fn digest(&self) -> Sha256Digest {
        let Self { leaf, issuer, root, list } = *self;
        let present = [issuer, root, list].map(|part| u8::from(part.is_some()));
        let [issuer, root, list] = [issuer, root, list].map(Option::unwrap_or_default);
        Sha256Digest::labelled("attestd/batch-vek-chain/1", &[&present, leaf, issuer, root, list])
    }
}

impl Known {
    /// The key that `chain` vouches for at `now`.
    pub(super) fn vek(&self, chain: VekChain<'_>, now: UnixSeconds) -> Result<Arc<VerifiedVek>, EvidenceDenial> {
        let roots = SnpRoots::genuine();
        let revocation = chain.list.map_or(Revocation::Unjudged, Revocation::List);
        self.veks.get(
            chain.digest(),
            |vek| vek.current(&roots, now).is_ok(),
            || VerifiedVek::verify(chain.leaf, chain.issuer, chain.root, revocation, &roots, now),
        )
    }

    /// The PCK chain in `quote` at `now`. `beside` is collateral that was verified, which shares certificates with it.
    pub(super) fn pck(
        &self,
        quote: &Quote<'_>,
        beside: Option<&VerifiedCollateral>,
        now: UnixSeconds,
    ) -> Result<Arc<VerifiedPck>, EvidenceDenial> {
        let roots = TdxRoots::genuine();
        self.pcks.get(
            quote.pck_chain_digest(),
            |pck| pck.current(&roots, now).is_ok(),
            || match beside {
                Some(collateral) => VerifiedPck::verify_beside(collateral, quote.pck_chain(), &roots, now),
                None => VerifiedPck::verify(quote.pck_chain(), &roots, now),
            },
        )
    }

    /// The collateral that a file holds, at `now`.
    pub(super) fn collateral(&self, json: &[u8], now: UnixSeconds) -> Result<Arc<VerifiedCollateral>, EvidenceDenial> {
        let roots = TdxRoots::genuine();
        self.collaterals.get(
            Sha256Digest::of(json),
            |collateral| collateral.current(&roots, now).is_ok(),
            || VerifiedCollateral::verify(&Collateral::from_json(json)?, &roots, now),
        )
    }
}

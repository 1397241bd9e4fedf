//! A quote whose signature, bank and PCR values are one consistent statement (T5, T7, T11).

use std::borrow::Cow;

use super::{
    attest::ClockInfo,
    pcr::{PcrSelection, PcrValues, RESETTABLE},
    signature::{SignedAttest, VerifyingKey},
};
use crate::{
    EvidenceDenial,
    digest::{Digest, HashAlg},
};

/// A verified quote with the values it covers. Made only by [`Quoted::verify`].
#[derive(Clone, Debug)]
pub struct Quoted<'a> {
    signed: SignedAttest<'a>,
    selection: PcrSelection,
    values: Cow<'a, PcrValues>,
    pcr_digest: Digest,
}

impl<'a> Quoted<'a> {
    /// Verifies the signature over `message` and that `values` are what was quoted.
    ///
    /// The bank is not judged here: a SHA-1 quote can be genuine, see [`Quoted::refuse_weak`].
    ///
    /// # Errors
    /// What [`VerifyingKey::verify`] finds; [`EvidenceDenial::Malformed`] when it is not a quote;
    /// [`EvidenceDenial::PcrDigestMismatch`] when a value is missing or another.
    pub fn verify(
        message: &'a [u8],
        signature: &[u8],
        key: &VerifyingKey,
        values: &'a PcrValues,
    ) -> Result<Self, EvidenceDenial> {
        let signed = key.verify(message, signature)?;
        let quote = signed.attest().quote()?;
        let selection = quote.selection;
        let bank_fits = values.bank() == selection.bank;
        let computed = values.digest(selection.pcrs, signed.scheme().hash()).filter(|_| bank_fits);
        let Some(pcr_digest) = computed.filter(|digest| digest.as_bytes() == quote.pcr_digest) else {
            let got = computed.map_or_else(|| "nothing: values are missing".to_owned(), |digest| digest.hex());
            return Err(EvidenceDenial::PcrDigestMismatch { got, quoted: hex::encode(quote.pcr_digest) });
        };
        Ok(Self { signed, selection, values: values.restricted_to(selection.pcrs), pcr_digest })
    }

    /// Refuses what no evidence may rest on: a SHA-1 or SHA-512 bank (T7) and resettable PCRs (T11).
    ///
    /// # Errors
    /// [`EvidenceDenial::WeakHash`] or [`EvidenceDenial::ResettablePcr`].
    pub fn refuse_weak(&self) -> Result<(), EvidenceDenial> {
        let bank = self.selection.bank;
        if !matches!(bank, HashAlg::Sha256 | HashAlg::Sha384) {
            return Err(EvidenceDenial::WeakHash { what: "PCR bank", alg: bank });
        }
        match self.selection.pcrs.intersection(RESETTABLE).iter().next() {
            Some(pcr) => Err(EvidenceDenial::ResettablePcr { pcr }),
            None => Ok(()),
        }
    }

    /// Bank and PCRs quoted.
    #[must_use]
    pub const fn selection(&self) -> PcrSelection {
        self.selection
    }

    /// The quoted values; nothing that was not quoted is in them.
    #[must_use]
    pub fn values(&self) -> &PcrValues {
        &self.values
    }

    /// The quoted value of one PCR.
    #[must_use]
    pub fn pcr(&self, index: u8) -> Option<&Digest> {
        self.values.get(index)
    }

    /// Digest over the quoted values.
    #[must_use]
    pub const fn pcr_digest(&self) -> Digest {
        self.pcr_digest
    }

    /// Qualifying data.
    #[must_use]
    pub const fn extra_data(&self) -> &'a [u8] {
        self.signed.attest().extra_data
    }

    /// Clock and counters.
    #[must_use]
    pub const fn clock(&self) -> ClockInfo {
        self.signed.attest().clock
    }

    /// firmwareVersion.
    #[must_use]
    pub const fn firmware_version(&self) -> u64 {
        self.signed.attest().firmware_version
    }
}

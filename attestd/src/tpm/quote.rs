//! PCR values and quotes that agree with them.

use evidence::digest::{Digest, HashAlg};
use evidence::tpm::attest::{Attest, ClockInfo};
use evidence::tpm::pcr::{PcrSelection, PcrSet, PcrValues};

use super::actor::Tpm;
use super::device::TpmDevice;
use super::error::TpmError;
use super::types::{HandleCounts, KeyBlob, Signed};

/// How often a quote is tried again because a PCR changed between reading and quoting: each race needs an extend
/// within about a millisecond.
const ATTEMPTS: u32 = 8;
/// Hash of the AK's scheme, which is the one that pcrDigest is made with, whatever the bank (Part 1, 17.5).
const AK_HASH: HashAlg = HashAlg::Sha256;

/// A quote and the values that it covers.
#[derive(Clone, Debug)]
pub struct Quote {
    /// TPMS_ATTEST and TPMT_SIGNATURE.
    pub signed: Signed,
    /// What was quoted.
    pub values: PcrValues,
    /// The TPM's clock in it.
    pub clock: ClockInfo,
}

impl Tpm {
    /// Quotes `selection` and reads the values that the quote covers.
    ///
    /// # Errors
    /// [`TpmError::PcrsUnstable`] if a PCR changed during every attempt, or a fault.
    pub async fn quote(&self, ak: KeyBlob, qualifying: [u8; 32], selection: PcrSelection) -> Result<Quote, TpmError> {
        self.call(move |device| quote_once_stable(device, &ak, &qualifying, &selection)).await
    }

    /// The TPM's clock, signed for by the AK so that it is in the scale of its quotes.
    ///
    /// # Errors
    /// [`TpmError`].
    pub async fn clock(&self, ak: KeyBlob) -> Result<ClockInfo, TpmError> {
        self.call(move |device| {
            // Any quote carries the clock; which PCR is in it does not matter.
            let pcrs = PcrSet::EMPTY.with(0).unwrap_or(PcrSet::EMPTY);
            let signed = device.quote(&ak, &[], &PcrSelection { bank: HashAlg::Sha256, pcrs })?;
            Ok(read_quote(&signed)?.0)
        })
        .await
    }

    /// Values of the selected PCRs; not atomic.
    ///
    /// # Errors
    /// [`TpmError`].
    pub async fn pcrs(&self, selection: PcrSelection) -> Result<PcrValues, TpmError> {
        self.call(move |device| device.pcr_read(&selection)).await
    }

    /// Extends a PCR. For the demo and tests: a daemon that measures changes what it is judged by.
    ///
    /// # Errors
    /// [`TpmError`].
    pub async fn extend(&self, pcr: u8, digests: Vec<Digest>) -> Result<(), TpmError> {
        self.call(move |device| device.pcr_extend(pcr, &digests)).await
    }

    /// Handles in use in the TPM.
    ///
    /// # Errors
    /// [`TpmError`].
    pub async fn handles(&self) -> Result<HandleCounts, TpmError> {
        self.call(|device| device.handles()).await
    }
}

fn quote_once_stable(
    device: &mut dyn TpmDevice,
    ak: &KeyBlob,
    qualifying: &[u8],
    selection: &PcrSelection,
) -> Result<Quote, TpmError> {
    for _ in 0..ATTEMPTS {
        let values = device.pcr_read(selection)?;
        let signed = device.quote(ak, qualifying, selection)?;
        let (clock, pcr_digest) = read_quote(&signed)?;
        let expected = values.digest(selection.pcrs, AK_HASH);
        if expected.is_some_and(|d| d.as_bytes() == pcr_digest) {
            return Ok(Quote { signed, values, clock });
        }
    }
    Err(TpmError::PcrsUnstable { command: "Quote", attempts: ATTEMPTS })
}

fn read_quote(signed: &Signed) -> Result<(ClockInfo, Vec<u8>), TpmError> {
    let malformed =
        |denial: evidence::EvidenceDenial| TpmError::Malformed { command: "Quote", what: denial.to_string() };
    let attest = Attest::read(&signed.attest).map_err(malformed)?;
    let quote = attest.quote().map_err(malformed)?;
    Ok((attest.clock, quote.pcr_digest.to_vec()))
}

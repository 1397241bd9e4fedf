//! One simulated TDX machine with a trust domain on it.

use super::{Collateral, CollateralFields, IntelAuthority, PckChain, PckFields, QuoteSigning, TdQuoteFields};
use crate::{SimulatorError, ccel::EventLog, keys::EcKey};

/// A machine: change its fields, then ask for quotes.
#[derive(Clone, Debug)]
pub struct TdxMachine {
    /// Its vendor.
    pub authority: IntelAuthority,
    /// The platform, as its PCK certificate tells it.
    pub pck: PckFields,
    /// Everything a quote says but its report data.
    pub quote: TdQuoteFields,
    /// What Intel says of such platforms.
    pub collateral: CollateralFields,
    /// What was measured; [`TdxMachine::set_event_log`] keeps the RTMRs with it.
    pub event_log: EventLog,
}

impl TdxMachine {
    /// An up-to-date machine under the published root, quotes in format `version` (4 or 5); `now` in Unix seconds.
    pub fn new(version: u16, now: u64) -> Result<Self, SimulatorError> {
        Self::with_authority(version, IntelAuthority::published(now)?)
    }

    /// The same under an authority of one's own.
    pub fn with_authority(version: u16, authority: IntelAuthority) -> Result<Self, SimulatorError> {
        let pck = PckFields::new(&authority);
        let collateral = CollateralFields::new(&authority, &pck)?;
        let quote = TdQuoteFields::new(version);
        let mut machine = Self { authority, pck, quote, collateral, event_log: EventLog::default() };
        machine.set_event_log(EventLog::booted());
        Ok(machine)
    }

    /// Another boot: RTMRs become what the log replays to.
    pub fn set_event_log(&mut self, event_log: EventLog) {
        self.quote.body.rtmrs = event_log.rtmrs();
        self.event_log = event_log;
    }

    /// The platform's PCK with its certificate chain; the key is always the same, the certificate signed anew.
    pub fn pck_chain(&self) -> Result<PckChain, SimulatorError> {
        self.authority.issue(&self.pck)
    }

    /// The quoting enclave's attestation key.
    pub fn attestation_key(&self) -> Result<EcKey, SimulatorError> {
        self.authority.keys.derive(&[b"attestation key", &self.pck.ppid])
    }

    /// A quote over `report_data`.
    pub fn quote(&self, report_data: [u8; 64]) -> Result<Vec<u8>, SimulatorError> {
        self.quote_with(report_data, &self.pck_chain()?)
    }

    /// The same with a PCK at hand.
    pub fn quote_with(&self, report_data: [u8; 64], pck: &PckChain) -> Result<Vec<u8>, SimulatorError> {
        let mut fields = self.quote.clone();
        fields.body.report_data = report_data;
        let attestation = self.attestation_key()?;
        fields.sign(QuoteSigning {
            attestation: &attestation,
            named_attestation: &attestation,
            pck: &pck.key,
            chain_pem: &pck.pem,
        })
    }

    /// Signed collateral.
    pub fn collateral(&self) -> Result<Collateral, SimulatorError> {
        self.collateral.sign(&self.authority)
    }
}

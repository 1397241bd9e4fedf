//! What was observed about a machine: the view of its evidence that reference
//! values are compared with, and captured from.

use evidence::{
    digest::{Digest, HashAlg, Sha256Digest},
    event_log::EventLog,
};

use crate::document::MakerName;
use crate::text::FirmwareVersion;

/// A TPM's evidence, as far as reference values speak about it.
///
/// It says nothing about authenticity: `compare` only ever sees one made from a
/// [`evidence`] proof type, `explain` may look at one that failed.
#[derive(Clone, Debug)]
pub struct ObservedTpm<'a> {
    /// Bank that was quoted.
    pub bank: HashAlg,
    /// PCRs that were quoted, ascending, with their values.
    pub pcrs: &'a [(u8, Digest)],
    /// The event log, where one came.
    pub event_log: Option<&'a EventLog<'a>>,
    /// Files that IMA measured, in order, where its log came.
    pub files: Option<Vec<MeasuredFile<'a>>>,
    /// SHA-256 of the EK's TPM2B_PUBLIC.
    pub ek: Sha256Digest,
    /// SHA-256 of the AK's TPM2B_PUBLIC.
    pub ak: Sha256Digest,
    /// Manufacturer, where a certificate names one.
    pub manufacturer: MakerName,
    /// firmwareVersion of the quote.
    pub firmware: FirmwareVersion,
}

/// One file that IMA measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeasuredFile<'a> {
    /// Path as IMA recorded it.
    pub path: &'a str,
    /// Digest of its contents.
    pub digest: Digest,
}

impl ObservedTpm<'_> {
    /// The value of one PCR, where it was quoted.
    #[must_use]
    pub fn pcr(&self, index: u8) -> Option<Digest> {
        self.pcrs.iter().find(|(pcr, _)| *pcr == index).map(|(_, value)| *value)
    }
}

//! What a source of reports gives, and what is taken of it.

use std::ops::Range;

use super::error::TeeError;
use super::quote;

/// Bytes of ours that a report covers (SEV-SNP ABI, MSG_REPORT_REQ, REPORT_DATA; Intel TDX Module ABI, REPORTDATA).
pub const REPORT_DATA_BYTES: usize = 64;
/// ATTESTATION_REPORT with its signature (SEV-SNP Firmware ABI, table 23): 0x2A0 signed bytes and 512 of signature.
pub const SNP_REPORT_BYTES: usize = 1184;
/// REPORT_DATA in it.
const SNP_REPORT_DATA: Range<usize> = 0x50..0x90;
/// Longest report or quote that is read from a source: a TDX quote with its certificate chain has about 5 KiB.
pub const REPORT_CAP_BYTES: usize = 64 * 1024;
/// Longest certificate table (GHCB, SNP_GET_EXT_REPORT: four certificates and their headers in whole pages).
pub const CERTIFICATES_CAP_BYTES: usize = 32 * 1024;
/// Longest manifest of a service that the report covers (SVSM).
pub const MANIFEST_CAP_BYTES: usize = 64 * 1024;
/// How often a report is asked for again because another writer changed the request meanwhile.
pub const ATTEMPTS: u32 = 8;

/// The TEEs that this node can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeeKind {
    /// AMD SEV-SNP.
    SevSnp,
    /// Intel TDX.
    Tdx,
}

impl TeeKind {
    /// As configfs-tsm names its provider.
    #[must_use]
    pub const fn provider(self) -> &'static str {
        match self {
            Self::SevSnp => "sev_guest",
            Self::Tdx => "tdx_guest",
        }
    }
}

impl std::fmt::Display for TeeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SevSnp => "SEV-SNP",
            Self::Tdx => "TDX",
        })
    }
}

/// What a source of reports answered, unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawReport {
    /// Who made it, as configfs-tsm names it.
    pub provider: String,
    /// Report or quote.
    pub outblob: Vec<u8>,
    /// What came with it; empty if nothing did.
    pub auxblob: Vec<u8>,
    /// Manifest of the services that it covers; empty if none was asked for.
    pub manifestblob: Vec<u8>,
}

/// Asks one TEE for reports. Used by one thread; may block, the deadline is kept outside.
pub trait TeeReports: Send + 'static {
    /// A report over `data`.
    ///
    /// # Errors
    /// [`TeeError`]; [`TeeError::Raced`] if asking again may help.
    fn report(&mut self, data: &[u8; REPORT_DATA_BYTES]) -> Result<RawReport, TeeError>;

    /// Whether there still is something to ask, without having a report made.
    ///
    /// # Errors
    /// [`TeeError`].
    fn probe(&mut self) -> Result<(), TeeError>;
}

/// A report that is about what was asked. Whether it is genuine is for a verifier to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeeReport {
    kind: TeeKind,
    report: Vec<u8>,
    certificates: Option<Vec<u8>>,
    manifest: Option<Vec<u8>>,
}

impl TeeReport {
    /// Takes what a source answered, if it is `kind`'s and covers `data`.
    ///
    /// # Errors
    /// [`TeeError::OtherPlatform`], [`TeeError::TooLarge`], [`TeeError::Malformed`], or [`TeeError::Raced`] when it
    /// covers other data.
    pub fn accept(kind: TeeKind, raw: RawReport, data: &[u8; REPORT_DATA_BYTES]) -> Result<Self, TeeError> {
        if raw.provider != kind.provider() {
            return Err(TeeError::OtherPlatform { got: raw.provider, want: kind.provider() });
        }
        let caps = [
            ("report", &raw.outblob, REPORT_CAP_BYTES),
            ("certificate table", &raw.auxblob, CERTIFICATES_CAP_BYTES),
            ("manifest", &raw.manifestblob, MANIFEST_CAP_BYTES),
        ];
        if let Some((what, _, cap_bytes)) = caps.into_iter().find(|(_, bytes, cap_bytes)| bytes.len() > *cap_bytes) {
            return Err(TeeError::TooLarge { what, cap_bytes });
        }
        let mut report = raw.outblob;
        let covers = match kind {
            TeeKind::SevSnp => {
                if report.len() != SNP_REPORT_BYTES {
                    let why = format!("{} bytes, a report has {SNP_REPORT_BYTES}", report.len());
                    return Err(TeeError::Malformed { what: "report", why });
                }
                SNP_REPORT_DATA
            }
            TeeKind::Tdx => {
                let (end, report_data) = quote::declared(&report)?;
                report.truncate(end);
                report_data
            }
        };
        if report.get(covers) != Some(data.as_slice()) {
            return Err(TeeError::Raced);
        }
        let present = |bytes: Vec<u8>| Some(bytes).filter(|bytes| bytes.iter().any(|byte| *byte != 0));
        Ok(Self { kind, report, certificates: present(raw.auxblob), manifest: present(raw.manifestblob) })
    }

    /// Asks `reports` until an answer is about `data`, a bounded number of times.
    ///
    /// # Errors
    /// [`TeeError`].
    pub(super) fn obtain(
        kind: TeeKind,
        reports: &mut dyn TeeReports,
        data: &[u8; REPORT_DATA_BYTES],
    ) -> Result<Self, TeeError> {
        for _ in 0..ATTEMPTS {
            match reports.report(data).and_then(|raw| Self::accept(kind, raw, data)) {
                Err(TeeError::Raced) => {}
                outcome => return outcome,
            }
        }
        Err(TeeError::Unstable { attempts: ATTEMPTS })
    }

    /// Which TEE's.
    #[must_use]
    pub const fn kind(&self) -> TeeKind {
        self.kind
    }

    /// SNP report, or TDX quote without what was behind its declared end.
    #[must_use]
    pub fn report(&self) -> &[u8] {
        &self.report
    }

    /// The certificate table that the host gave with it, as it came.
    #[must_use]
    pub fn certificates(&self) -> Option<&[u8]> {
        self.certificates.as_deref()
    }

    /// The manifest of the services that it covers.
    #[must_use]
    pub fn manifest(&self) -> Option<&[u8]> {
        self.manifest.as_deref()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Right in every field that is looked at here, signed by nobody.
    pub(in crate::tee) fn snp(data: &[u8; 64]) -> RawReport {
        let mut outblob = vec![0; SNP_REPORT_BYTES];
        outblob[SNP_REPORT_DATA].copy_from_slice(data);
        RawReport { provider: "sev_guest".to_owned(), outblob, auxblob: vec![0; 4096], manifestblob: Vec::new() }
    }

    #[test]
    fn a_report_about_what_was_asked_is_taken() {
        let report = TeeReport::accept(TeeKind::SevSnp, snp(&[7; 64]), &[7; 64]).unwrap();
        assert_eq!(
            (report.report().len(), report.certificates()),
            (SNP_REPORT_BYTES, None),
            "a table of zeros is none"
        );
        let mut with_table = snp(&[7; 64]);
        with_table.auxblob[0] = 1;
        let report = TeeReport::accept(TeeKind::SevSnp, with_table, &[7; 64]).unwrap();
        assert_eq!(report.certificates().map(<[u8]>::len), Some(4096));
    }

    #[test]
    fn one_defect_each_is_refused() {
        type Defect = (fn(&mut RawReport), &'static str);
        let defects: [Defect; 7] = [
            (|raw| raw.provider = "tdx_guest".to_owned(), "fault.tee_other_platform"),
            (|raw| raw.outblob[0x50] ^= 1, "fault.tee_unstable"),
            (|raw| raw.outblob[0x8f] ^= 1, "fault.tee_unstable"),
            (|raw| raw.outblob.push(0), "fault.tee_malformed"),
            (|raw| raw.outblob.truncate(SNP_REPORT_BYTES - 1), "fault.tee_malformed"),
            (|raw| raw.auxblob = vec![1; CERTIFICATES_CAP_BYTES + 1], "fault.tee_malformed"),
            (|raw| raw.manifestblob = vec![1; MANIFEST_CAP_BYTES + 1], "fault.tee_malformed"),
        ];
        for (n, (defect, code)) in defects.into_iter().enumerate() {
            let mut raw = snp(&[7; 64]);
            defect(&mut raw);
            let error = TeeReport::accept(TeeKind::SevSnp, raw, &[7; 64]).unwrap_err();
            assert_eq!(error.code(), code, "defect {n}");
        }
    }

    #[test]
    fn a_race_is_tried_again_but_not_for_ever() {
        struct Racing(u32);
        impl TeeReports for Racing {
            fn report(&mut self, data: &[u8; 64]) -> Result<RawReport, TeeError> {
                self.0 = self.0.saturating_sub(1);
                match self.0 {
                    0 => Ok(snp(data)),
                    left if left % 2 == 0 => Ok(snp(&[9; 64])),
                    _ => Err(TeeError::Raced),
                }
            }
            fn probe(&mut self) -> Result<(), TeeError> {
                Ok(())
            }
        }
        TeeReport::obtain(TeeKind::SevSnp, &mut Racing(ATTEMPTS), &[7; 64]).unwrap();
        let lost = TeeReport::obtain(TeeKind::SevSnp, &mut Racing(ATTEMPTS + 1), &[7; 64]);
        assert_eq!(lost, Err(TeeError::Unstable { attempts: ATTEMPTS }));
    }
}

//! What a TEE without a TPM gives: a report that covers the node key in its memory, and logs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evidence::evidence::Evidence;
use evidence::sev_snp::evidence::{SnpEvidence, SnpParts};
use evidence::tdx::{TdxEvidence, TdxParts};

use super::demand::{Demand, Wanted};
use super::fault::CollectFault;
use super::logs::{self, CCEL};
use super::{Collected, HeldKey};
use crate::tee::node_key::{XWingKey, XWingKeyError};
use crate::tee::{Tee, TeeKind, TeeReport};

/// A TEE and the node key that it answers with.
#[derive(Debug)]
pub struct TeeCollector {
    tee: Tee,
    node_key: Arc<XWingKey>,
    ccel: Option<PathBuf>,
}

impl TeeCollector {
    /// Makes the node key: it lives as long as this value. With the TD's event log, if one is configured.
    ///
    /// # Errors
    /// [`XWingKeyError`].
    pub fn new(tee: Tee, ccel: Option<PathBuf>) -> Result<Self, XWingKeyError> {
        Ok(Self { tee, node_key: Arc::new(XWingKey::generate()?), ccel })
    }

    /// The TEE.
    #[must_use]
    pub const fn tee(&self) -> &Tee {
        &self.tee
    }

    pub(super) async fn collect(&self, demand: &Demand) -> Result<Collected, CollectFault> {
        let node_key = self.node_key.public().cose_key();
        let data = demand.binding(node_key, None).report_data()?;
        let evidence = match (&demand.wanted, self.tee.kind()) {
            (Wanted::SevSnp, TeeKind::SevSnp) => {
                let report = self.tee.report(data).await?;
                let certificates = report.certificates();
                Evidence::SevSnp(SnpEvidence::assemble(SnpParts { report: report.report(), certificates, node_key })?)
            }
            (Wanted::Tdx(with_ccel), TeeKind::Tdx) => {
                let (report, ccel) = report_and_log(&self.tee, data, *with_ccel, self.ccel.as_deref()).await?;
                let parts = TdxParts { quote: report.report(), node_key, event_log: ccel.as_deref() };
                Evidence::Tdx(TdxEvidence::assemble(parts)?)
            }
            (
                Wanted::Tpm(_) | Wanted::SevSnp | Wanted::Tdx(_) | Wanted::TpmOnSevSnp(_) | Wanted::TpmOnTdx(..),
                TeeKind::SevSnp | TeeKind::Tdx,
            ) => return Err(CollectFault::OtherKind),
        };
        Ok(Collected { evidence, node_key: HeldKey::XWing(Arc::clone(&self.node_key)), quoted: None })
    }
}

/// The TEE that a vTPM runs in: its reports cover what the TPM's quote covers.
#[derive(Debug)]
pub struct BesideTpm {
    tee: Tee,
    ccel: Option<PathBuf>,
}

impl BesideTpm {
    /// With the TD's event log, if one is configured.
    #[must_use]
    pub const fn new(tee: Tee, ccel: Option<PathBuf>) -> Self {
        Self { tee, ccel }
    }

    pub(super) const fn tee(&self) -> &Tee {
        &self.tee
    }

    pub(super) const fn kind(&self) -> TeeKind {
        self.tee.kind()
    }

    pub(super) async fn report(
        &self,
        data: [u8; 64],
        with_ccel: bool,
    ) -> Result<(TeeReport, Option<Vec<u8>>), CollectFault> {
        report_and_log(&self.tee, data, with_ccel, self.ccel.as_deref()).await
    }
}

/// The log is read after the report, so that it holds at least what the report covers.
async fn report_and_log(
    tee: &Tee,
    data: [u8; 64],
    with_ccel: bool,
    ccel: Option<&Path>,
) -> Result<(TeeReport, Option<Vec<u8>>), CollectFault> {
    logs::require(&[(with_ccel, &CCEL, ccel)])?;
    let report = tee.report(data).await?;
    let log = logs::read(with_ccel, &CCEL, ccel).await?;
    Ok((report, log.map(logs::without_padding).transpose()?))
}

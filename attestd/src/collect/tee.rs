//! What a TEE without a TPM gives: a report that covers the node key in its memory, and logs.

use std::path::PathBuf;
use std::sync::Arc;

use evidence::evidence::Evidence;
use evidence::sev_snp::evidence::{SnpEvidence, SnpParts};

use super::demand::{Demand, Wanted};
use super::fault::CollectFault;
use super::logs::{self, CCEL, IMA_LOG};
use super::{Collected, HeldKey};
use crate::tee::node_key::{XWingKey, XWingKeyError};
use crate::tee::{Tee, TeeKind, TeeReport};

/// A TEE and the node key that it answers with.
#[derive(Debug)]
pub struct TeeCollector {
    tee: Tee,
    node_key: Arc<XWingKey>,
    ccel: Option<PathBuf>,
    ima_log: Option<PathBuf>,
}

impl TeeCollector {
    /// Makes the node key: it lives as long as this value.
    ///
    /// # Errors
    /// [`XWingKeyError`].
    pub fn new(tee: Tee, ccel: Option<PathBuf>, ima_log: Option<PathBuf>) -> Result<Self, XWingKeyError> {
        Ok(Self { tee, node_key: Arc::new(XWingKey::generate()?), ccel, ima_log })
    }

    /// The TEE.
    #[must_use]
    pub const fn tee(&self) -> &Tee {
        &self.tee
    }

    pub(super) async fn collect(&self, demand: &Demand) -> Result<Collected, CollectFault> {
        let (ccel, ima_log) = match (&demand.wanted, self.tee.kind()) {
            (Wanted::SevSnp, TeeKind::SevSnp) => (false, false),
            (Wanted::Tdx { ccel, ima_log }, TeeKind::Tdx) => (*ccel, *ima_log),
            (
                Wanted::Tpm(_) | Wanted::SevSnp | Wanted::Tdx { .. } | Wanted::TpmOnSevSnp(_) | Wanted::TpmOnTdx(..),
                TeeKind::SevSnp | TeeKind::Tdx,
            ) => return Err(CollectFault::OtherKind),
        };
        let (ccel_path, ima_path) = (self.ccel.as_deref(), self.ima_log.as_deref());
        logs::require(&[(ccel, &CCEL, ccel_path), (ima_log, &IMA_LOG, ima_path)])?;
        let node_key = self.node_key.public().cose_key();
        let report = self.tee.report(demand.binding(node_key, None).report_data()?).await?;
        // After the report, so that they hold at least what it covers.
        let _event_log = logs::read(ccel, &CCEL, ccel_path).await?;
        let _ima_log = logs::read(ima_log, &IMA_LOG, ima_path).await?;
        let evidence = match self.tee.kind() {
            TeeKind::SevSnp => {
                let certificates = report.certificates();
                Evidence::SevSnp(SnpEvidence::assemble(SnpParts { report: report.report(), certificates, node_key })?)
            }
            TeeKind::Tdx => return Err(CollectFault::NotCollected { kind: "tdx" }),
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

    pub(super) const fn kind(&self) -> TeeKind {
        self.tee.kind()
    }

    pub(super) async fn report(
        &self,
        data: [u8; 64],
        with_ccel: bool,
    ) -> Result<(TeeReport, Option<Vec<u8>>), CollectFault> {
        logs::require(&[(with_ccel, &CCEL, self.ccel.as_deref())])?;
        let report = self.tee.report(data).await?;
        Ok((report, logs::read(with_ccel, &CCEL, self.ccel.as_deref()).await?))
    }
}

//! From a challenge to Evidence: node key, binding, quote or report, logs.

mod demand;
mod fault;
mod inspect;
mod logs;
mod tee;
mod tpm;

use std::sync::Arc;
use std::time::Duration;

use evidence::binding::Binding;
use evidence::digest::HashAlg;
use evidence::evidence::Evidence;
use evidence::tpm::pcr::{PcrSelection, PcrSet};
use evidence::tpm::{TpmOnSnpEvidence, TpmOnSnpParts, TpmOnTdxEvidence, TpmOnTdxParts};
use tokio::sync::Mutex;

pub use demand::{Asked, ChallengeDenial, Demand, Wanted, WantedOfTpm, WithCcel};
pub use fault::CollectFault;
pub use inspect::{Inspected, InspectionFault, NamedPart};
pub use tee::{BesideTpm, TeeCollector};
pub use tpm::{Quoted, TpmCollector};

use self::tpm::OfTpm;
use crate::config::Config;
use crate::tee::TeeKind;
use crate::tee::node_key::XWingKey;
use crate::tpm::objects::NodeKey;
use crate::watch::{Clocks, TeeWatch, TpmWatch, Watch};

/// Evidence and what the node needs to know of it.
#[derive(Clone, Debug)]
pub struct Collected {
    /// The CMW collection to send.
    pub evidence: Evidence,
    /// The key that it names: execution keys come wrapped to it.
    pub node_key: HeldKey,
    /// What the TPM quoted, if there is one.
    pub quoted: Option<Quoted>,
}

/// A node key, by where its private part is.
#[derive(Clone, Debug)]
pub enum HeldKey {
    /// In the TPM.
    Tpm(Arc<NodeKey>),
    /// In locked memory of a TEE.
    XWing(Arc<XWingKey>),
}

impl HeldKey {
    /// Its deterministic COSE_Key.
    #[must_use]
    pub fn cose_key(&self) -> &[u8] {
        match self {
            Self::Tpm(key) => key.cose_key(),
            Self::XWing(key) => key.public().cose_key(),
        }
    }
}

/// Collects this node's Evidence.
#[derive(Debug)]
pub struct Collector {
    of: Of,
    /// One at a time: two collections at once would make two node keys for the same values.
    turn: Mutex<()>,
}

#[derive(Debug)]
enum Of {
    Tpm(TpmCollector),
    Tee(TeeCollector),
    TpmOnTee(TpmCollector, BesideTpm),
}

impl Collector {
    /// Of a TPM.
    #[must_use]
    pub fn of_tpm(tpm: TpmCollector) -> Self {
        Self { of: Of::Tpm(tpm), turn: Mutex::new(()) }
    }

    /// Of a TEE without a TPM.
    #[must_use]
    pub fn of_tee(tee: TeeCollector) -> Self {
        Self { of: Of::Tee(tee), turn: Mutex::new(()) }
    }

    /// Of a vTPM in a confidential VM.
    #[must_use]
    pub fn of_tpm_on_tee(tpm: TpmCollector, tee: BesideTpm) -> Self {
        Self { of: Of::TpmOnTee(tpm, tee), turn: Mutex::new(()) }
    }

    /// The TPM, if there is one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmCollector> {
        match &self.of {
            Of::Tpm(tpm) | Of::TpmOnTee(tpm, _) => Some(tpm),
            Of::Tee(_) => None,
        }
    }

    /// What is looked at between renewals: PCRs wherever there are any, and the IMA log if one is configured. `None` for
    /// PCRs that do not exist.
    #[must_use]
    pub fn watch(&self, config: &Config) -> Option<Watch> {
        let (tpm, tee) = match &self.of {
            Of::Tpm(tpm) => (Some(tpm), None),
            Of::Tee(tee) => (None, Some(tee.tee())),
            Of::TpmOnTee(tpm, tee) => (Some(tpm), Some(tee.tee())),
        };
        let pcrs = config.watch.pcrs.iter().try_fold(PcrSet::EMPTY, |pcrs, pcr| pcrs.with(*pcr))?;
        let selection = PcrSelection { bank: HashAlg::Sha256, pcrs };
        Some(Watch {
            tpm: tpm.map(|tpm| TpmWatch::new(tpm.tpm().clone(), tpm.ak().blob().clone(), selection)),
            tee: tee.map(|tee| TeeWatch::new(tee.clone())),
            ima_log: config.logs.ima_log.clone(),
            interval: Duration::from_millis(config.watch.interval_ms),
            clocks: Clocks::read,
        })
    }

    /// Answers a challenge.
    ///
    /// # Errors
    /// [`CollectFault`].
    pub async fn collect(&self, demand: &Demand) -> Result<Collected, CollectFault> {
        let _turn = self.turn.lock().await;
        match (&self.of, &demand.wanted) {
            (Of::Tpm(tpm), Wanted::Tpm(wanted)) => {
                let of_tpm = tpm.collect(demand, wanted).await?;
                Ok(collected(Evidence::Tpm(of_tpm.evidence()?), of_tpm))
            }
            (Of::Tee(tee), Wanted::SevSnp | Wanted::Tdx(_)) => tee.collect(demand).await,
            (Of::TpmOnTee(tpm, tee), Wanted::TpmOnSevSnp(wanted)) if tee.kind() == TeeKind::SevSnp => {
                let of_tpm = tpm.collect(demand, wanted).await?;
                let (report, _) = tee.report(of_tpm.report_data, false).await?;
                let (certificates, report) = (report.certificates(), report.report());
                let parts = TpmOnSnpParts { tpm: of_tpm.parts(), report, certificates };
                Ok(collected(Evidence::TpmOnSevSnp(TpmOnSnpEvidence::assemble(parts)?), of_tpm))
            }
            (Of::TpmOnTee(tpm, tee), Wanted::TpmOnTdx(wanted, with_ccel)) if tee.kind() == TeeKind::Tdx => {
                let of_tpm = tpm.collect(demand, wanted).await?;
                let (report, ccel) = tee.report(of_tpm.report_data, *with_ccel).await?;
                let parts = TpmOnTdxParts { tpm: of_tpm.parts(), quote: report.report(), ccel: ccel.as_deref() };
                Ok(collected(Evidence::TpmOnTdx(TpmOnTdxEvidence::assemble(parts)?), of_tpm))
            }
            (
                Of::Tpm(_) | Of::Tee(_) | Of::TpmOnTee(..),
                Wanted::Tpm(_) | Wanted::SevSnp | Wanted::Tdx(_) | Wanted::TpmOnSevSnp(_) | Wanted::TpmOnTdx(..),
            ) => Err(CollectFault::OtherKind),
        }
    }
}

/// What a TPM is part of goes with its node key and its quote.
fn collected(evidence: Evidence, of_tpm: OfTpm) -> Collected {
    let node_key = HeldKey::Tpm(Arc::clone(&of_tpm.node_key));
    Collected { evidence, node_key, quoted: Some(of_tpm.quoted()) }
}

impl Demand {
    /// What Evidence must cover to answer this demand with this node key.
    fn binding<'a>(&'a self, node_key: &'a [u8], ak_name: Option<&'a [u8]>) -> Binding<'a> {
        Binding {
            nonce: &self.nonce,
            node_key,
            channel: &self.asked.channel,
            audience: &self.asked.audience,
            epoch: self.epoch,
            subject: &self.asked.subject,
            lineage_head: &self.asked.lineage_head,
            ak_name,
        }
    }
}

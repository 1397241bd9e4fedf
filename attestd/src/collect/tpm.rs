//! What a TPM gives: node key, quote, logs.

use std::sync::Arc;

use evidence::digest::{Digest, HashAlg};
use evidence::tpm::attest::ClockInfo;
use evidence::tpm::evidence::{TpmEvidence, TpmParts};
use evidence::tpm::pcr::PcrValues;

use super::demand::{Demand, WantedOfTpm};
use super::fault::CollectFault;
use super::logs::{self, EVENT_LOG, IMA_LOG};
use crate::config::LogsConfig;
use crate::state::StateDir;
use crate::tpm::Tpm;
use crate::tpm::objects::{AttestationKey, NodeKey};
use crate::tpm::quote::Quote;

/// A TPM and the keys that it answers with.
#[derive(Debug)]
pub struct TpmCollector {
    tpm: Tpm,
    ak: AttestationKey,
    state: Arc<StateDir>,
    logs: LogsConfig,
}

/// What is known of a quote besides the Evidence.
#[derive(Clone, Debug)]
pub struct Quoted {
    /// The TPM's clock when it was quoted.
    pub clock: ClockInfo,
    /// The quoted values.
    pub values: PcrValues,
    /// Digest over them, as in the quote.
    pub pcr_digest: Digest,
    /// How long the IMA log was before it was quoted, in bytes, if it goes with the Evidence: what the quote covers at least.
    pub ima_bytes: Option<u64>,
}

/// Everything that a TPM gave for one demand.
pub(super) struct OfTpm {
    pub(super) node_key: Arc<NodeKey>,
    /// What a TEE's report must cover when it is bound to this quote.
    pub(super) report_data: [u8; 64],
    quote: Quote,
    pcr_digest: Digest,
    event_log: Option<Vec<u8>>,
    ima_log: Option<Vec<u8>>,
    ima_bytes: Option<u64>,
}

impl TpmCollector {
    /// With the enrolled attestation key.
    #[must_use]
    pub const fn new(tpm: Tpm, ak: AttestationKey, state: Arc<StateDir>, logs: LogsConfig) -> Self {
        Self { tpm, ak, state, logs }
    }

    /// The attestation key.
    #[must_use]
    pub const fn ak(&self) -> &AttestationKey {
        &self.ak
    }

    /// The TPM.
    #[must_use]
    pub const fn tpm(&self) -> &Tpm {
        &self.tpm
    }

    /// The node key exists before the quote that names it (SECURITY.md P5); logs are read after it, so that they hold at
    /// least what was quoted.
    pub(super) async fn collect(&self, demand: &Demand, wanted: &WantedOfTpm) -> Result<OfTpm, CollectFault> {
        let (event_log, ima_log) = (self.logs.event_log.as_deref(), self.logs.ima_log.as_deref());
        logs::require(&[(wanted.event_log, &EVENT_LOG, event_log), (wanted.ima_log, &IMA_LOG, ima_log)])?;
        let node_key = NodeKey::for_present_pcrs(&self.tpm, &self.state, &self.ak, wanted.node_key_bound_to).await?;
        let ak_name = self.ak.name().to_bytes();
        let binding = demand.binding(node_key.cose_key(), Some(&ak_name));
        let (qualifying, report_data) = (binding.qualifying_data()?, binding.report_data()?);
        let before = logs::read(wanted.ima_log, &IMA_LOG, ima_log).await?;
        let ima_bytes = before.map(|log| u64::try_from(log.len()).unwrap_or(u64::MAX));
        let quote = self.tpm.quote(self.ak.blob().clone(), qualifying, wanted.quoted).await?;
        let pcr_digest = quote.values.digest(wanted.quoted.pcrs, HashAlg::Sha256);
        let pcr_digest = pcr_digest.ok_or_else(|| CollectFault::Assembly("a quoted PCR has no value".to_owned()))?;
        let event_log = logs::read(wanted.event_log, &EVENT_LOG, event_log).await?;
        let ima_log = logs::read(wanted.ima_log, &IMA_LOG, ima_log).await?;
        Ok(OfTpm { node_key: Arc::new(node_key), report_data, quote, pcr_digest, event_log, ima_log, ima_bytes })
    }
}

impl OfTpm {
    pub(super) fn parts(&self) -> TpmParts<'_> {
        TpmParts {
            quote: &self.quote.signed.attest,
            signature: &self.quote.signed.signature,
            pcrs: &self.quote.values,
            node_key: self.node_key.public(),
            certification: self.node_key.certification(),
            certification_signature: self.node_key.certification_signature(),
            event_log: self.event_log.as_deref(),
            ima_log: self.ima_log.as_deref(),
        }
    }

    pub(super) fn evidence(&self) -> Result<TpmEvidence, CollectFault> {
        Ok(TpmEvidence::assemble(self.parts())?)
    }

    pub(super) fn quoted(self) -> Quoted {
        Quoted {
            clock: self.quote.clock,
            values: self.quote.values,
            pcr_digest: self.pcr_digest,
            ima_bytes: self.ima_bytes,
        }
    }
}

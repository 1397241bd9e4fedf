//! From a challenge to Evidence: node key, binding, quote or report, logs.

mod demand;
mod fault;
mod inspect;
mod logs;
mod tpm;

use std::sync::Arc;

use evidence::binding::Binding;
use evidence::evidence::Evidence;
use tokio::sync::Mutex;

pub use demand::{Asked, ChallengeDenial, Demand, Wanted, WantedOfTpm, WithCcel};
pub use fault::CollectFault;
pub use inspect::NamedPart;
pub use tpm::{Quoted, TpmCollector};

use crate::tpm::objects::NodeKey;

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
}

impl HeldKey {
    /// Its deterministic COSE_Key.
    #[must_use]
    pub fn cose_key(&self) -> &[u8] {
        match self {
            Self::Tpm(key) => key.cose_key(),
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
}

impl Collector {
    /// Of a TPM.
    #[must_use]
    pub fn of_tpm(tpm: TpmCollector) -> Self {
        Self { of: Of::Tpm(tpm), turn: Mutex::new(()) }
    }

    /// The TPM, if there is one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmCollector> {
        match &self.of {
            Of::Tpm(tpm) => Some(tpm),
        }
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
                let (evidence, node_key) =
                    (Evidence::Tpm(of_tpm.evidence()?), HeldKey::Tpm(Arc::clone(&of_tpm.node_key)));
                Ok(Collected { evidence, node_key, quoted: Some(of_tpm.quoted()) })
            }
            (Of::Tpm(_), Wanted::SevSnp | Wanted::Tdx { .. } | Wanted::TpmOnSevSnp(_) | Wanted::TpmOnTdx(..)) => {
                Err(CollectFault::OtherKind)
            }
        }
    }
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

//! What this node proves itself by, opened: its TPM, its TEE, or both.

use std::path::PathBuf;
use std::sync::Arc;

use crate::collect::{BesideTpm, CollectFault, Collector, TeeCollector, TpmCollector};
use crate::config::{Config, Identity};
use crate::state::StateDir;
use crate::tee::{Tee, TeeError};
use crate::tpm::objects::AttestationKey;
use crate::tpm::{Tpm, TpmError};

/// What this node proves itself by.
#[derive(Clone, Debug)]
pub enum Machine {
    /// A TPM.
    Tpm(Tpm),
    /// A TEE without a TPM.
    Tee(Tee),
    /// A vTPM in a confidential VM.
    TpmOnTee(Tpm, Tee),
}

/// Why a machine cannot be opened: no thread can be started for it. Neither TPM nor TEE is asked yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MachineFault {
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The TEE.
    #[error(transparent)]
    Tee(#[from] TeeError),
}

impl MachineFault {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Tpm(error) => error.code(),
            Self::Tee(error) => error.code(),
        }
    }
}

impl Machine {
    /// The machine of the configuration.
    ///
    /// # Errors
    /// [`MachineFault`].
    pub fn open(identity: &Identity) -> Result<Self, MachineFault> {
        Ok(match identity {
            Identity::Tpm(tpm) => Self::Tpm(Tpm::open(tpm)?),
            Identity::Tee(kind, tee) => Self::Tee(Tee::open(*kind, tee)?),
            Identity::TpmOnTee(tpm, kind, tee) => Self::TpmOnTee(Tpm::open(tpm)?, Tee::open(*kind, tee)?),
        })
    }

    /// Its collector, with the keys that it has; a TEE's node key is made here. Neither TPM nor TEE is asked: a node
    /// that lost its own can still report the halt that this was.
    ///
    /// # Errors
    /// [`CollectFault`]: a TPM without a saved attestation key is not enrolled.
    pub fn with_saved_keys(&self, config: &Config, state: &Arc<StateDir>) -> Result<Collector, CollectFault> {
        match self {
            Self::Tpm(tpm) => Ok(Collector::of_tpm(of_tpm(tpm, AttestationKey::saved(state)?, config, state))),
            Self::Tee(tee) => Ok(Collector::of_tee(of_tee(tee, config)?)),
            Self::TpmOnTee(tpm, tee) => {
                let of_tpm = of_tpm(tpm, AttestationKey::saved(state)?, config, state);
                Ok(Collector::of_tpm_on_tee(of_tpm, beside_tpm(tee, config)))
            }
        }
    }

    /// Its collector; a TPM without an attestation key makes and saves one.
    ///
    /// # Errors
    /// [`CollectFault`].
    pub async fn with_keys(&self, config: &Config, state: &Arc<StateDir>) -> Result<Collector, CollectFault> {
        match self {
            Self::Tpm(tpm) | Self::TpmOnTee(tpm, _) => drop(AttestationKey::load_or_create(tpm, state).await?),
            Self::Tee(_) => {}
        }
        self.with_saved_keys(config, state)
    }
}

fn of_tpm(tpm: &Tpm, ak: AttestationKey, config: &Config, state: &Arc<StateDir>) -> TpmCollector {
    TpmCollector::new(tpm.clone(), ak, Arc::clone(state), config.logs.clone())
}

fn of_tee(tee: &Tee, config: &Config) -> Result<TeeCollector, CollectFault> {
    Ok(TeeCollector::new(tee.clone(), ccel(config))?)
}

fn beside_tpm(tee: &Tee, config: &Config) -> BesideTpm {
    BesideTpm::new(tee.clone(), ccel(config))
}

fn ccel(config: &Config) -> Option<PathBuf> {
    config.identity.tee().and_then(|(_, tee)| tee.ccel.clone())
}

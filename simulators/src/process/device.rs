//! The simulated guest device, whichever way it is reached.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::Knobs;
use crate::{
    amd::{SnpMachine, Vek},
    intel::{PckChain, TdxMachine},
};

/// The machine behind the device, with its endorsement key issued once.
#[derive(Debug)]
pub enum Machine {
    /// AMD.
    Snp {
        /// Machine.
        machine: Box<SnpMachine>,
        /// Its VCEK or VLEK.
        vek: Box<Vek>,
    },
    /// Intel.
    Tdx {
        /// Machine.
        machine: Box<TdxMachine>,
        /// Its PCK.
        pck: Box<PckChain>,
    },
}

impl Machine {
    /// Issues the endorsement key.
    pub fn snp(machine: SnpMachine) -> Result<Self, crate::SimulatorError> {
        let vek = Box::new(machine.vek()?);
        Ok(Self::Snp { machine: Box::new(machine), vek })
    }

    /// Issues the PCK.
    pub fn tdx(machine: TdxMachine) -> Result<Self, crate::SimulatorError> {
        let pck = Box::new(machine.pck_chain()?);
        Ok(Self::Tdx { machine: Box::new(machine), pck })
    }

    /// As configfs-tsm names it.
    pub fn provider(&self) -> &'static str {
        match self {
            Self::Snp { .. } => "sev_guest",
            Self::Tdx { .. } => "tdx_guest",
        }
    }
}

/// What a guest asks for. Other keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Report data, up to 64 bytes in hex; shorter ones are filled with zeros.
    pub inblob: String,
    /// VMPL, 0 to 3; SNP only.
    pub privlevel: Option<u32>,
}

/// What it gets.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// `sev_guest` or `tdx_guest`.
    pub provider: &'static str,
    /// Report or quote, hex.
    pub outblob: String,
    /// Certificate table, hex; empty where there is none.
    pub auxblob: String,
    /// SVSM manifest: always empty.
    pub manifestblob: String,
    /// Grows with each request and each change through the control socket.
    pub generation: u64,
}

/// Report and certificates as bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Blobs {
    pub(super) outblob: Vec<u8>,
    pub(super) auxblob: Vec<u8>,
}

/// One device; shared by the sockets and the mounted folder.
#[derive(Debug)]
pub struct Device {
    state: Mutex<DeviceState>,
}

#[derive(Debug)]
struct DeviceState {
    machine: Machine,
    generation: u64,
}

impl Device {
    /// Over `machine`.
    pub fn new(machine: Machine) -> Self {
        Self { state: Mutex::new(DeviceState { machine, generation: 0 }) }
    }

    /// Answers one request, or says why not.
    pub fn answer(&self, request: &Request) -> Result<Answer, String> {
        if request.inblob.len() > INBLOB_CAP.saturating_mul(2) {
            return Err(format!("inblob is longer than {INBLOB_CAP} bytes"));
        }
        let inblob = hex::decode(&request.inblob).map_err(|error| format!("inblob: {error}"))?;
        if inblob.is_empty() {
            return Err("inblob is empty".to_owned());
        }
        let blobs = self.report(&inblob, request.privlevel)?;
        let mut state = self.lock();
        state.generation = state.generation.saturating_add(1);
        Ok(Answer {
            provider: state.machine.provider(),
            outblob: hex::encode(blobs.outblob),
            auxblob: hex::encode(blobs.auxblob),
            manifestblob: String::new(),
            generation: state.generation,
        })
    }

    /// Changes what later reports say: all of it, or nothing and a reason.
    pub fn set(&self, knobs: &Knobs) -> Result<u64, String> {
        let mut state = self.lock();
        state.machine = match &state.machine {
            Machine::Snp { machine, .. } => {
                let mut machine = machine.as_ref().clone();
                knobs.apply_snp(&mut machine)?;
                Machine::snp(machine).map_err(|error| error.to_string())?
            }
            Machine::Tdx { machine, .. } => {
                let mut machine = machine.as_ref().clone();
                knobs.apply_tdx(&mut machine)?;
                Machine::tdx(machine).map_err(|error| error.to_string())?
            }
        };
        state.generation = state.generation.saturating_add(1);
        Ok(state.generation)
    }

    /// As configfs-tsm names it.
    pub(super) fn provider(&self) -> &'static str {
        self.lock().machine.provider()
    }

    /// A report over `inblob`, zero-filled to 64 bytes.
    pub(super) fn report(&self, inblob: &[u8], privlevel: Option<u32>) -> Result<Blobs, String> {
        let mut report_data = [0; INBLOB_CAP];
        let slot =
            report_data.get_mut(..inblob.len()).ok_or_else(|| format!("inblob is longer than {INBLOB_CAP} bytes"))?;
        slot.copy_from_slice(inblob);
        let state = self.lock();
        match &state.machine {
            Machine::Snp { machine, vek } => {
                let mut machine = machine.as_ref().clone();
                if let Some(level) = privlevel {
                    if level > PRIVLEVEL_MAX {
                        return Err(format!("privlevel {level} is above {PRIVLEVEL_MAX}"));
                    }
                    machine.fields.vmpl = level;
                }
                let evidence = machine.report_with(report_data, vek).map_err(|error| error.to_string())?;
                Ok(Blobs { outblob: evidence.report, auxblob: evidence.certificates })
            }
            Machine::Tdx { machine, pck } => {
                if privlevel.is_some_and(|level| level != 0) {
                    return Err("a trust domain has no privlevel".to_owned());
                }
                let outblob = machine.quote_with(report_data, pck).map_err(|error| error.to_string())?;
                Ok(Blobs { outblob, auxblob: vec![] })
            }
        }
    }

    /// Looks at the machine.
    pub(super) fn with_machine<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.lock().machine)
    }

    /// A machine is replaced whole, never left half changed: a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, DeviceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of report data.
pub(super) const INBLOB_CAP: usize = 64;
/// VMPLs are 0 to 3.
pub(super) const PRIVLEVEL_MAX: u32 = 3;

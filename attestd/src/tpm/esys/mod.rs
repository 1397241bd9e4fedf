//! A TPM through libtss2's ESYS.
//!
//! Objects are loaded for one call and flushed at its end. What makes that cheap are saved contexts, kept in memory:
//! they survive as long as the TPM is not reset, after which the blobs are loaded anew.

mod convert;
mod device;
mod rc;
mod templates;

use std::collections::HashMap;
use std::str::FromStr as _;

use tss_esapi::constants::{CapabilityType, SessionType};
use tss_esapi::handles::{KeyHandle, ObjectHandle, SessionHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{CapabilityData, Public, SymmetricDefinition};
use tss_esapi::tcti_ldr::{DeviceConfig, NetworkTPMConfig, TctiNameConf};
use tss_esapi::utils::TpmsContext;
use tss_esapi::{Context, WrapperErrorKind};

use self::convert::{malformed, unblob};
use super::actor::Pulse;
use super::device::{TpmDevice, TpmTransport};
use super::error::TpmError;
use super::types::{HandleCounts, KeyBlob};
use crate::config::Tcti;

/// Connects to the TPM that the configuration names.
#[derive(Clone, Debug)]
pub struct EsysTransport {
    /// How it is reached.
    pub tcti: Tcti,
    /// What becomes of handles that are in use.
    pub leftovers: Leftovers,
}

/// Handles that are in use in a TPM when somebody connects to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// A predecessor's, which did not get to flush them. Only this daemon may use the TPM without a resource manager in
    /// between; behind one, other programs' handles are not seen.
    Flushed,
    /// Those of a daemon that runs: whoever connects beside it may not touch them.
    Left,
}

impl EsysTransport {
    fn name_conf(&self) -> Result<TctiNameConf, TpmError> {
        let network = |host: &std::net::IpAddr, port: u16| {
            NetworkTPMConfig::from_str(&format!("host={host},port={port}")).map_err(|e| rc::sort("TCTI", e))
        };
        Ok(match &self.tcti {
            Tcti::Device(path) => {
                TctiNameConf::Device(DeviceConfig::from_str(&path.to_string_lossy()).map_err(|e| rc::sort("TCTI", e))?)
            }
            Tcti::Swtpm { host, port } => TctiNameConf::Swtpm(network(host, *port)?),
            Tcti::Mssim { host, port } => TctiNameConf::Mssim(network(host, *port)?),
        })
    }
}

impl TpmTransport for EsysTransport {
    fn connect(&self, pulse: &Pulse) -> Result<Box<dyn TpmDevice>, TpmError> {
        let name_conf = self.name_conf()?;
        let context = pulse.command("connect", || {
            Context::new(name_conf).map_err(|e| unreachable_unless_tpm(rc::sort("connect", e)))
        })?;
        let mut device = EsysDevice { context, pulse: pulse.clone(), saved: HashMap::new() };
        match self.leftovers {
            Leftovers::Flushed => device.flush_leftovers()?,
            Leftovers::Left => {}
        }
        Ok(Box::new(device))
    }
}

/// While connecting, whatever is not an answer of the TPM means that there is none.
fn unreachable_unless_tpm(error: TpmError) -> TpmError {
    if let TpmError::Malformed { command, .. } = error { TpmError::Unreachable { command, rc: 0 } } else { error }
}

/// A connected TPM.
struct EsysDevice {
    context: Context,
    pulse: Pulse,
    /// Saved contexts by public area.
    saved: HashMap<Vec<u8>, TpmsContext>,
}

const PASSWORD: Option<AuthSession> = Some(AuthSession::Password);

/// First handle of each kind (Part 2, 7.2) and how many are asked for at once.
const LOADED_SESSION_FIRST: u32 = 0x0200_0000;
const SAVED_SESSION_FIRST: u32 = 0x0300_0000;
const TRANSIENT_FIRST: u32 = 0x8000_0000;
const HANDLES_AT_ONCE: u32 = 128;

impl EsysDevice {
    /// One command with up to three sessions.
    fn run<T>(
        &mut self,
        command: &'static str,
        sessions: (Option<AuthSession>, Option<AuthSession>, Option<AuthSession>),
        send: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, TpmError> {
        let context = &mut self.context;
        self.pulse.command(command, || context.execute_with_sessions(sessions, send).map_err(|e| rc::sort(command, e)))
    }

    /// One command that makes a key.
    fn run_key<T>(
        &mut self,
        command: &'static str,
        send: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, TpmError> {
        let context = &mut self.context;
        self.pulse
            .key_command(command, || context.execute_with_session(PASSWORD, send).map_err(|e| rc::sort(command, e)))
    }

    /// Lets `work` use `handle` and flushes it, whatever the outcome.
    fn with_handle<T>(
        &mut self,
        handle: ObjectHandle,
        work: impl FnOnce(&mut Self) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let outcome = work(self);
        let flushed = self.run("FlushContext", (None, None, None), |c| c.flush_context(handle));
        let value = outcome?;
        flushed.map(|()| value)
    }

    /// Lets `work` use a new primary key.
    fn with_primary<T>(
        &mut self,
        template: Public,
        work: impl FnOnce(&mut Self, KeyHandle, Public) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let made = self
            .run_key("CreatePrimary", |c| c.create_primary(Hierarchy::Endorsement, template, None, None, None, None))?;
        self.with_handle(made.key_handle.into(), |d| work(d, made.key_handle, made.out_public))
    }

    /// Lets `work` use the parent of our keys.
    fn with_parent<T>(
        &mut self,
        work: impl FnOnce(&mut Self, KeyHandle) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        if let Some(handle) = self.load_saved(PARENT)? {
            return self.with_handle(handle.into(), |d| work(d, handle));
        }
        let template = templates::parent().map_err(|e| rc::sort("parent template", e))?;
        self.with_primary(template, |d, handle, _| {
            d.save(PARENT, handle)?;
            work(d, handle)
        })
    }

    /// Lets `work` use one of our keys.
    fn with_key<T>(
        &mut self,
        what: &'static str,
        key: &KeyBlob,
        work: impl FnOnce(&mut Self, KeyHandle) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let handle = match self.load_saved(&key.public)? {
            Some(handle) => handle,
            None => self.load_blob(what, key)?,
        };
        self.with_handle(handle.into(), |d| work(d, handle))
    }

    fn load_blob(&mut self, what: &'static str, key: &KeyBlob) -> Result<KeyHandle, TpmError> {
        let (public, private) = unblob(what, key)?;
        let handle = self.with_parent(|d, parent| {
            d.run("Load", (PASSWORD, None, None), |c| c.load(parent, private, public)).map_err(|e| {
                match e.refused_rc() {
                    // A format-one code is about what was given: it is not a child of this TPM's parent key.
                    Some(rc) if rc & 0x80 != 0 => TpmError::KeyLost { key: what, rc },
                    Some(_) | None => e,
                }
            })
        })?;
        match self.save(&key.public, handle) {
            Ok(()) => Ok(handle),
            Err(error) => self.with_handle(handle.into(), |_| Err(error)),
        }
    }

    /// Loads a saved context; one that the TPM no longer takes is forgotten.
    fn load_saved(&mut self, public: &[u8]) -> Result<Option<KeyHandle>, TpmError> {
        let Some(saved) = self.saved.get(public).cloned() else { return Ok(None) };
        match self.run("ContextLoad", (None, None, None), |c| c.context_load(saved)) {
            Ok(handle) => Ok(Some(handle.into())),
            Err(TpmError::Refused { .. }) => {
                self.saved.remove(public);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn save(&mut self, public: &[u8], handle: KeyHandle) -> Result<(), TpmError> {
        // Node keys come and go with PCR values; a handful of contexts serves all that are in use.
        if self.saved.len() >= SAVED_CONTEXTS_CAP {
            self.saved.clear();
        }
        let saved = self.run("ContextSave", (None, None, None), |c| c.context_save(handle.into()))?;
        self.saved.insert(public.to_vec(), saved);
        Ok(())
    }

    /// Lets `work` use a policy session, salted by `salt` so that what it encrypts cannot be read on the bus.
    fn with_policy_session<T>(
        &mut self,
        salt: KeyHandle,
        work: impl FnOnce(&mut Self, AuthSession, PolicySession) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let session = self
            .run("StartAuthSession", (None, None, None), |c| {
                c.start_auth_session(
                    Some(salt),
                    None,
                    None,
                    SessionType::Policy,
                    SymmetricDefinition::AES_128_CFB,
                    HashingAlgorithm::Sha256,
                )
            })?
            .ok_or_else(|| malformed("StartAuthSession", "no session"))?;
        self.with_handle(SessionHandle::from(session).into(), |d| {
            let policy = PolicySession::try_from(session).map_err(|e| rc::sort("StartAuthSession", e))?;
            work(d, session, policy)
        })
    }

    /// Flushes what a predecessor left that did not get to it.
    fn flush_leftovers(&mut self) -> Result<(), TpmError> {
        for first in [TRANSIENT_FIRST, LOADED_SESSION_FIRST, SAVED_SESSION_FIRST] {
            for handle in self.handles_from(first)? {
                let object = self.run("ReadPublic", (None, None, None), |c| c.tr_from_tpm_public(handle))?;
                let flushed = self.run("FlushContext", (None, None, None), |c| c.flush_context(object));
                match flushed {
                    Ok(()) => {}
                    // tss-esapi books policy sessions as "not to be flushed" and says so after having flushed them.
                    Err(TpmError::Malformed { what, .. })
                        if what == WrapperErrorKind::InvalidHandleState.to_string() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn handles_from(&mut self, first: u32) -> Result<Vec<TpmHandle>, TpmError> {
        let (found, _more) = self.run("GetCapability", (None, None, None), |c| {
            c.get_capability(CapabilityType::Handles, first, HANDLES_AT_ONCE)
        })?;
        let CapabilityData::Handles(handles) = found else {
            return Err(malformed("GetCapability", "not a list of handles"));
        };
        Ok(handles.iter().copied().filter(|h| u32::from(*h) >> 24 == first >> 24).collect())
    }

    fn count_handles(&mut self) -> Result<HandleCounts, TpmError> {
        Ok(HandleCounts {
            transient: self.handles_from(TRANSIENT_FIRST)?.len(),
            loaded_sessions: self.handles_from(LOADED_SESSION_FIRST)?.len(),
            saved_sessions: self.handles_from(SAVED_SESSION_FIRST)?.len(),
        })
    }
}

/// Where the parent's context is kept; no public area is this short.
const PARENT: &[u8] = b"parent";
const SAVED_CONTEXTS_CAP: usize = 8;

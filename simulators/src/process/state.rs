//! The state folder: what machine it is and the certificates of its vendor, so that pins outlive a restart.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{digest, rand};
use serde::{Deserialize, Serialize};

use super::{Machine, ProcessError, doing};
use crate::{
    SimulatorError,
    amd::{AmdAuthority, AmdKeys, Product, SnpMachine},
    intel::{IntelAuthority, IntelKeys, TdxMachine},
    keys::RsaKey,
};

/// Vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
}

/// What a new state is made for; an existing one must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Vendor.
    pub platform: Platform,
    /// Lower-case name; SNP only.
    pub product: Option<String>,
    /// Make keys of one's own instead of the published ones.
    pub fresh_keys: bool,
}

/// An opened state folder.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    record: Record,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    platform: Platform,
    product: Option<String>,
    /// Whether vendor keys are of this folder alone.
    fresh_keys: bool,
    /// 32 bytes in hex: the chip's identity, and the seed of fresh Intel keys, are derived from it.
    machine: String,
}

impl State {
    /// Opens `folder`; makes it (mode 0700) and its machine where there is none and `choice` says which.
    pub fn open(folder: &Path, choice: Option<&Choice>) -> Result<Self, ProcessError> {
        let path = folder.join(RECORD);
        if path.exists() {
            let text = std::fs::read(&path).map_err(doing("reading", &path))?;
            let record: Record = serde_json::from_slice(&text)
                .map_err(|error| ProcessError::State(format!("{}: {error}", path.display())))?;
            let state = Self { folder: folder.to_owned(), record };
            return match choice {
                Some(choice) if *choice != state.choice() => {
                    Err(ProcessError::State(format!("{} holds {:?}", folder.display(), state.choice())))
                }
                Some(_) | None => Ok(state),
            };
        }
        let choice = choice
            .ok_or_else(|| ProcessError::State(format!("{} holds no machine: say which platform", folder.display())))?;
        if choice.platform == Platform::Snp {
            named_product(choice.product.as_deref())?;
        } else if choice.product.is_some() {
            return Err(ProcessError::State("a TDX machine has no product".to_owned()));
        }
        if !folder.exists() {
            std::fs::DirBuilder::new().mode(0o700).recursive(true).create(folder).map_err(doing("making", folder))?;
        }
        let mut machine = [0; 32];
        rand::fill(&mut machine).map_err(|_| SimulatorError::Key("randomness"))?;
        let record = Record {
            platform: choice.platform,
            product: choice.product.clone(),
            fresh_keys: choice.fresh_keys,
            machine: hex::encode(machine),
        };
        let text = serde_json::to_vec_pretty(&record).map_err(|_| SimulatorError::Text("state"))?;
        write_private(&path, &text)?;
        Ok(Self { folder: folder.to_owned(), record })
    }

    /// The machine, booted anew: an SNP guest has a new REPORT_ID.
    pub fn machine(&self) -> Result<Machine, ProcessError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or(0);
        Ok(match self.record.platform {
            Platform::Snp => Machine::snp(self.snp_machine(now)?)?,
            Platform::Tdx => Machine::tdx(self.tdx_machine(now)?)?,
        })
    }

    fn snp_machine(&self, now: u64) -> Result<SnpMachine, ProcessError> {
        let product = named_product(self.record.product.as_deref())?;
        let keys = if self.record.fresh_keys {
            Arc::new(AmdKeys { ark: self.rsa("ark")?, ask: self.rsa("ask")?, asvk: self.rsa("asvk")? })
        } else {
            AmdKeys::published(product.line())?
        };
        let mut authority = AmdAuthority::new(product.line(), keys, now)?;
        self.keep("ark.der", &mut authority.ark)?;
        self.keep("ask.der", &mut authority.ask)?;
        self.keep("asvk.der", &mut authority.asvk)?;
        let hwid_len = product.line().hwid_len();
        let mut machine = SnpMachine::with_authority(product, authority);
        let identity = digest::digest(&digest::SHA512, &self.secret("chip"));
        let mut chip_id = [0; 64];
        for (to, from) in chip_id.iter_mut().zip(identity.as_ref()).take(hwid_len) {
            *to = *from;
        }
        machine.set_chip_id(chip_id);
        rand::fill(&mut machine.fields.report_id).map_err(|_| SimulatorError::Key("randomness"))?;
        Ok(machine)
    }

    fn tdx_machine(&self, now: u64) -> Result<TdxMachine, ProcessError> {
        let mut authority = if self.record.fresh_keys {
            IntelAuthority::new(Arc::new(IntelKeys::from_seed(&self.secret("intel keys"))?), now)?
        } else {
            IntelAuthority::published(now)?
        };
        self.keep("root.der", &mut authority.root)?;
        self.keep("pck-platform-ca.der", &mut authority.platform_ca)?;
        self.keep("pck-processor-ca.der", &mut authority.processor_ca)?;
        self.keep("tcb-signing.der", &mut authority.tcb_signing)?;
        let mut machine = TdxMachine::with_authority(QUOTE_VERSION, authority)?;
        let identity = digest::digest(&digest::SHA256, &self.secret("platform"));
        for (to, from) in machine.pck.ppid.iter_mut().zip(identity.as_ref()) {
            *to = *from;
        }
        if let Some(configuration) = &mut machine.pck.configuration {
            configuration.instance_id = machine.pck.ppid;
        }
        Ok(machine)
    }

    fn choice(&self) -> Choice {
        Choice {
            platform: self.record.platform,
            product: self.record.product.clone(),
            fresh_keys: self.record.fresh_keys,
        }
    }

    fn secret(&self, purpose: &str) -> Vec<u8> {
        [self.record.machine.as_bytes(), purpose.as_bytes()].concat()
    }

    /// Takes the file's certificate where there is one, else writes it.
    fn keep(&self, name: &str, certificate: &mut Vec<u8>) -> Result<(), ProcessError> {
        let path = self.folder.join(name);
        if path.exists() {
            *certificate = std::fs::read(&path).map_err(doing("reading", &path))?;
            return Ok(());
        }
        write_private(&path, certificate)
    }

    /// A fresh RSA key, made once.
    fn rsa(&self, name: &str) -> Result<RsaKey, ProcessError> {
        let path = self.folder.join(format!("{name}.pk8"));
        if path.exists() {
            return Ok(RsaKey::from_pkcs8(&std::fs::read(&path).map_err(doing("reading", &path))?)?);
        }
        let (key, pkcs8) = RsaKey::generate()?;
        write_private(&path, &pkcs8)?;
        Ok(key)
    }
}

fn named_product(name: Option<&str>) -> Result<Product, ProcessError> {
    let name = name.ok_or_else(|| ProcessError::State("an SNP machine needs a product".to_owned()))?;
    Product::from_name(name).ok_or_else(|| ProcessError::State(format!("no product {name}")))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ProcessError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(doing("making", path))?;
    file.write_all(bytes).map_err(doing("writing", path))
}

const RECORD: &str = "machine.json";
/// Format 4 is what most guests get.
const QUOTE_VERSION: u16 = 4;

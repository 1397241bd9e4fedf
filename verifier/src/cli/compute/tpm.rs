//! `verifier refs compute tpm`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use evidence::digest::{Digest, HashAlg};
use evidence::event_log::LOG_CAP_BYTES;
use evidence::register::Register;
use firmware_refs::compute::ArtifactError;
use firmware_refs::compute::proposal::ComputedValue;
use firmware_refs::compute::tpm::{
    Boot, Image, InnerKernel, PHASES, PeImage, SecureBoot, SecureBootVariables, SignatureDatabase, Uki, from_event_log,
    load_options, pcr4, pcr7, pcr9,
};
use serde_json::Value;

use super::CommandError;
use super::artifact::{Artifacts, KERNEL_CAP_BYTES, cap, refused};
use super::proposal::{Calculated, SetArgs};
use super::registers::{self, NotDerivable};
use crate::evidence_cli::pem_block;

/// Largest Secure Boot variable or certificate.
const VARIABLE_CAP_BYTES: u64 = 1 << 20;

/// Arguments of `verifier refs compute tpm`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["uki", "kernel", "secure_boot", "event_log"]))]
pub(in crate::cli) struct TpmArgs {
    /// Bank of PCRs.
    #[arg(long, value_enum, default_value_t)]
    bank: Bank,
    /// Unified kernel image (systemd-stub): PCR 4, 9 and 11.
    #[arg(long, value_name = "FILE", requires = "secure_boot", conflicts_with_all = ["kernel", "initrd", "cmdline", "direct"])]
    uki: Option<PathBuf>,
    /// Kernel that is started as an EFI image: PCR 4 and 9.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initrd that the kernel is handed, as one file: PCR 9.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Command line that the kernel is handed, exactly: PCR 9.
    #[arg(long, alias = "append", value_name = "TEXT", requires = "kernel", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// QEMU hands the kernel to OVMF (-kernel) instead of a boot loader starting it from a disk.
    #[arg(long, requires = "kernel")]
    direct: bool,
    /// EFI image that is loaded before the kernel (shim, systemd-boot); repeat in the order of loading.
    #[arg(long, value_name = "FILE")]
    loader: Vec<PathBuf>,
    /// Phases of systemd's boot that PCR 11 is extended with, separated by colons; an empty one for none.
    #[arg(long, value_name = "PATH", requires = "uki", default_value_t = PHASES.join(":"))]
    phase: String,
    /// State of Secure Boot: PCR 7. It decides as well whether the kernel inside a unified image is measured.
    #[arg(long, value_enum)]
    secure_boot: Option<SecureBootState>,
    /// Platform key: signature lists (.esl) or a file of efivarfs; empty if not given, as the following.
    #[arg(long, value_name = "FILE", requires = "secure_boot", required_if_eq("secure_boot", "on"))]
    pk: Option<PathBuf>,
    /// Key exchange keys.
    #[arg(long, value_name = "FILE", requires = "secure_boot")]
    kek: Option<PathBuf>,
    /// What may run.
    #[arg(long, value_name = "FILE", requires = "secure_boot", required_if_eq("secure_boot", "on"))]
    db: Option<PathBuf>,
    /// What may not.
    #[arg(long, value_name = "FILE", requires = "secure_boot")]
    dbx: Option<PathBuf>,
    /// Certificate of db that verifies what is loaded; repeat in the order in which each is first needed.
    #[arg(long, value_name = "FILE", requires = "db")]
    authority: Vec<PathBuf>,
    /// Event log of a machine: those of PCR 0 to 7 that are not derived.
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    #[command(flatten)]
    set: SetArgs,
}

/// Banks of PCRs that values are calculated for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Bank {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// What the variable SecureBoot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SecureBootState {
    /// Images are verified.
    On,
    /// Images are not verified.
    Off,
    /// The firmware has no such variable.
    Absent,
}

impl SecureBootState {
    const fn named(self) -> (SecureBoot, &'static str) {
        match self {
            Self::On => (SecureBoot::On, "on"),
            Self::Off => (SecureBoot::Off, "off"),
            Self::Absent => (SecureBoot::Absent, "absent"),
        }
    }
}

/// What is found while reading, for the answer.
#[derive(Default)]
struct Found {
    artifacts: Artifacts,
    values: Vec<ComputedValue>,
    missing: Vec<NotDerivable>,
    parameters: Vec<String>,
}

impl TpmArgs {
    pub(super) fn answer(&self) -> Result<Value, CommandError> {
        let mut found = Found::default();
        found.parameters.push(format!("bank {}", self.alg()));
        self.uki(&mut found)?;
        self.kernel(&mut found)?;
        self.secure_boot(&mut found)?;
        self.replayed(&mut found)?;
        found.values.sort_by_key(|value| value.register);
        let Found { artifacts, values, missing, parameters } = found;
        let mut document = registers::document(&values, &missing, &parameters, &artifacts);
        let calculated = Calculated::of_registers("tpm", parameters, artifacts, values);
        document.extend(self.set.write(calculated)?.map(|set| ("set".to_owned(), set)));
        Ok(Value::Object(document))
    }

    const fn alg(&self) -> HashAlg {
        match self.bank {
            Bank::Sha256 => HashAlg::Sha256,
            Bank::Sha384 => HashAlg::Sha384,
            Bank::Sha512 => HashAlg::Sha512,
        }
    }

    fn uki(&self, found: &mut Found) -> Result<(), CommandError> {
        let Some(path) = &self.uki else { return Ok(()) };
        let bytes = found.artifacts.read("unified kernel image", path, KERNEL_CAP_BYTES)?;
        let uki = Uki::parse(&bytes).map_err(refused(path))?;
        let kernel = uki.kernel().and_then(PeImage::parse).map_err(refused(path))?;
        let state = self.secure_boot.map_or(SecureBoot::Absent, |state| state.named().0);
        let inner = match uki.inner_kernel(state) {
            InnerKernel::Measured => Some(Image { name: "kernel of the unified kernel image", image: &kernel }),
            InnerKernel::Unmeasured => None,
        };
        let images = [Some(Image { name: "unified kernel image", image: uki.image() }), inner];
        self.started(found, Boot::Disk, &images.into_iter().flatten().collect::<Vec<_>>())?;
        match handed_on(&uki, self.alg()) {
            Ok(value) => found.values.push(value),
            Err(why) => found.missing.push(NotDerivable { register: Register::Pcr(9), why: why.to_string() }),
        }
        let phases: Vec<&str> = self.phase.split(':').filter(|phase| !phase.is_empty()).collect();
        found.parameters.push(format!("phase {}", phases.join(":")));
        found.values.push(uki.pcr11(self.alg(), &phases));
        Ok(())
    }

    fn kernel(&self, found: &mut Found) -> Result<(), CommandError> {
        let Some(path) = &self.kernel else { return Ok(()) };
        let boot = if self.direct { Boot::Direct } else { Boot::Disk };
        let bytes = found.artifacts.read("kernel", path, KERNEL_CAP_BYTES)?;
        let kernel = PeImage::parse(&bytes).map_err(refused(path))?;
        if self.direct {
            let why = "QEMU writes addresses into the header of the kernel before OVMF measures it".to_owned();
            found.missing.push(NotDerivable { register: Register::Pcr(4), why });
            found.parameters.push("direct".into());
        } else {
            self.started(found, boot, &[Image { name: "kernel", image: &kernel }])?;
        }
        let initrd = found.artifacts.hash_one("initrd", self.initrd.as_deref(), self.alg())?;
        let options = self.cmdline.as_ref().map(|cmdline| load_options(boot, cmdline, initrd.is_some()));
        found.parameters.extend(self.cmdline.as_ref().map(|cmdline| format!("cmdline {cmdline}")));
        found.values.push(pcr9(self.alg(), options.as_ref(), initrd));
        Ok(())
    }

    /// PCR 4: the loaders, and what they start.
    fn started(&self, found: &mut Found, boot: Boot, last: &[Image<'_>]) -> Result<(), CommandError> {
        let mut files = Vec::new();
        for path in &self.loader {
            files.push((path, found.artifacts.read("loader", path, KERNEL_CAP_BYTES)?));
        }
        let loaders: Vec<(String, PeImage<'_>)> = files
            .iter()
            .map(|(path, bytes)| Ok((name(path), PeImage::parse(bytes).map_err(refused(path))?)))
            .collect::<Result<_, CommandError>>()?;
        let loaders = loaders.iter().map(|(name, image)| Image { name, image });
        let images: Vec<Image<'_>> = loaders.chain(last.iter().copied()).collect();
        found.values.push(pcr4(self.alg(), boot, &images).map_err(CommandError::usage)?);
        Ok(())
    }

    fn secure_boot(&self, found: &mut Found) -> Result<(), CommandError> {
        let Some(state) = self.secure_boot else { return Ok(()) };
        let (state, word) = state.named();
        found.parameters.push(format!("secure-boot {word}"));
        let mut read = |role, path: &Option<PathBuf>| match path {
            Some(path) => found.artifacts.read(role, path, VARIABLE_CAP_BYTES),
            None => Ok(Vec::new()),
        };
        let (pk, kek) = (read("PK", &self.pk)?, read("KEK", &self.kek)?);
        let (db, dbx) = (read("db", &self.db)?, read("dbx", &self.dbx)?);
        let variables = SecureBootVariables {
            pk: database(&pk, self.pk.as_deref())?,
            kek: database(&kek, self.kek.as_deref())?,
            db: database(&db, self.db.as_deref())?,
            dbx: database(&dbx, self.dbx.as_deref())?,
        };
        let mut authorities = Vec::new();
        for path in &self.authority {
            let bytes = found.artifacts.read("authority", path, VARIABLE_CAP_BYTES)?;
            authorities.push(pem_block(&bytes, &["CERTIFICATE"]).map_or(bytes, |(_, der)| der));
        }
        let authorities: Vec<&[u8]> = authorities.iter().map(Vec::as_slice).collect();
        found.values.push(pcr7(self.alg(), state, &variables, &authorities).map_err(CommandError::usage)?);
        Ok(())
    }

    /// Registers of the log that were not derived.
    fn replayed(&self, found: &mut Found) -> Result<(), CommandError> {
        let Some(path) = &self.event_log else { return Ok(()) };
        let log = found.artifacts.read("event log", path, cap(LOG_CAP_BYTES))?;
        let values = from_event_log(&log, self.alg()).map_err(refused(path))?;
        let derived: Vec<_> = found.values.iter().map(|value| value.register).collect();
        found.values.extend(values.into_iter().filter(|value| !derived.contains(&value.register)));
        let values = &found.values;
        found.missing.retain(|missing| !values.iter().any(|value| Register::from(value.register) == missing.register));
        Ok(())
    }
}

/// PCR 9 of a unified kernel image.
fn handed_on(uki: &Uki<'_>, alg: HashAlg) -> Result<ComputedValue, ArtifactError> {
    let (cmdline, initrd) = (uki.cmdline()?, uki.initrd()?);
    let initrd: Option<Digest> = initrd.map(|initrd| alg.hash(&[initrd]));
    let options = (!cmdline.is_empty()).then(|| load_options(Boot::Disk, cmdline, initrd.is_some()));
    Ok(pcr9(alg, options.as_ref(), initrd))
}

fn database<'a>(file: &'a [u8], path: Option<&Path>) -> Result<SignatureDatabase<'a>, CommandError> {
    SignatureDatabase::parse(file).map_err(refused(path.unwrap_or(Path::new("empty variable"))))
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

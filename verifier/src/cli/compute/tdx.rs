//! `verifier refs compute tdx`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use evidence::digest::HashAlg;
use evidence::event_log::LOG_CAP_BYTES;
use evidence::register::Register;
use firmware_refs::compute::ovmf::{IMAGE_CAP_BYTES, Ovmf};
use firmware_refs::compute::proposal::{ComputedRegister, ComputedValue, Origin};
use firmware_refs::compute::tdx::{ExtendOrder, SeparatorIn, from_cc_log, mrtd, rtmr1, rtmr2};
use firmware_refs::compute::tpm::{Boot, PeImage, load_options};
use serde_json::Value;

use super::CommandError;
use super::artifact::{Artifacts, KERNEL_CAP_BYTES, cap, refused};
use super::proposal::{Calculated, SetArgs};
use super::registers::{self, NotDerivable};

/// Arguments of `verifier refs compute tdx`.
#[derive(Args, Debug)]
pub(in crate::cli) struct TdxArgs {
    /// Firmware image (TDVF, OVMF): MRTD follows from it alone.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["kernel", "ccel"])]
    ovmf: Option<PathBuf>,
    /// When the hypervisor has a page measured.
    #[arg(long, value_enum, default_value_t)]
    extend: Extend,
    /// Kernel that QEMU hands to the firmware and leaves as it is: RTMR 1.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Its initrd: RTMR 2.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Its command line, as QEMU's -append gets it: RTMR 2.
    #[arg(long, value_name = "TEXT", requires = "kernel", allow_hyphen_values = true)]
    append: Option<String>,
    /// Register that the firmware measures its last separator into.
    #[arg(long, value_enum, default_value_t)]
    separator: Separator,
    /// Event log of a machine (CCEL): the registers that no artifact tells.
    #[arg(long, value_name = "FILE")]
    ccel: Option<PathBuf>,
    #[command(flatten)]
    set: SetArgs,
}

/// When the hypervisor has a page measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Extend {
    /// Right after it was added: QEMU 9 and later.
    #[default]
    AfterPage,
    /// Once its whole section was added: QEMU 8 with the patches of distributions.
    AfterSection,
}

/// Register that the firmware measures its last separator into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Separator {
    /// Firmware of 2023.
    Rtmr0,
    /// Firmware since.
    #[default]
    Rtmr1,
}

impl TdxArgs {
    pub(super) fn answer(&self) -> Result<Value, CommandError> {
        let mut artifacts = Artifacts::default();
        let mut parameters = Vec::new();
        let mut values = Vec::new();
        values.extend(self.mrtd(&mut artifacts, &mut parameters)?);
        values.extend(self.kernel(&mut artifacts, &mut parameters)?);
        values.extend(self.replayed(&mut artifacts, &values)?);
        let missing = missing(&values);
        let mut document = registers::document(&values, &missing, &parameters, &artifacts);
        let calculated = Calculated::of_registers("tdx", parameters, artifacts, values);
        document.extend(self.set.write(calculated)?.map(|set| ("set".to_owned(), set)));
        Ok(Value::Object(document))
    }

    fn mrtd(
        &self,
        artifacts: &mut Artifacts,
        parameters: &mut Vec<String>,
    ) -> Result<Option<ComputedValue>, CommandError> {
        let Some(path) = &self.ovmf else { return Ok(None) };
        let image = artifacts.read("ovmf", path, cap(IMAGE_CAP_BYTES))?;
        let (order, name) = match self.extend {
            Extend::AfterPage => (ExtendOrder::AfterPage, "after-page"),
            Extend::AfterSection => (ExtendOrder::AfterSection, "after-section"),
        };
        parameters.push(format!("extend {name}"));
        let value = Ovmf::parse(&image).and_then(|ovmf| mrtd(&ovmf, order)).map_err(refused(path))?;
        let register = ComputedRegister::MrTd;
        Ok(Some(ComputedValue { register, value, origin: Origin::Derived, events: Vec::new() }))
    }

    fn kernel(
        &self,
        artifacts: &mut Artifacts,
        parameters: &mut Vec<String>,
    ) -> Result<Vec<ComputedValue>, CommandError> {
        let Some(path) = &self.kernel else { return Ok(Vec::new()) };
        let (separator, name) = match self.separator {
            Separator::Rtmr0 => (SeparatorIn::Rtmr0, "rtmr0"),
            Separator::Rtmr1 => (SeparatorIn::Rtmr1, "rtmr1"),
        };
        parameters.push(format!("separator {name}"));
        let kernel = artifacts.read("kernel", path, KERNEL_CAP_BYTES)?;
        let hash = PeImage::parse(&kernel).and_then(|kernel| kernel.authenticode(HashAlg::Sha384));
        let hash = hash.map_err(refused(path))?;
        let initrd = artifacts.hash_one("initrd", self.initrd.as_deref(), HashAlg::Sha384)?;
        let append = self.append.as_deref().unwrap_or_default();
        parameters.push(format!("append {append}"));
        let options = load_options(Boot::Direct, append, initrd.is_some());
        Ok(vec![rtmr1(hash, separator), rtmr2(Some(&options), initrd)])
    }

    /// Registers of the log that were not derived.
    fn replayed(
        &self,
        artifacts: &mut Artifacts,
        derived: &[ComputedValue],
    ) -> Result<Vec<ComputedValue>, CommandError> {
        let Some(path) = &self.ccel else { return Ok(Vec::new()) };
        let log = artifacts.read("event log", path, cap(LOG_CAP_BYTES))?;
        let values = from_cc_log(&log).map_err(refused(path))?;
        let is_new = |value: &ComputedValue| !derived.iter().any(|derived| derived.register == value.register);
        Ok(values.into_iter().filter(is_new).collect())
    }
}

fn missing(values: &[ComputedValue]) -> Vec<NotDerivable> {
    let why = [
        (ComputedRegister::MrTd, "give --ovmf"),
        (ComputedRegister::Rtmr(0), "the hypervisor makes up its memory layout and ACPI tables: give --ccel"),
        (ComputedRegister::Rtmr(1), "give --kernel for a kernel that QEMU hands over unchanged, or --ccel"),
        (ComputedRegister::Rtmr(2), "give --kernel, --initrd and --append, or --ccel"),
        (ComputedRegister::Rtmr(3), "zero until software extends it: only the workload's author knows"),
    ];
    let is_missing = |register: &ComputedRegister| !values.iter().any(|value| value.register == *register);
    why.into_iter()
        .filter(|(register, _)| is_missing(register))
        .map(|(register, why)| NotDerivable { register: Register::from(register), why: why.to_owned() })
        .collect()
}

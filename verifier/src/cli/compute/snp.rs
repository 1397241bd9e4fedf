//! `verifier refs compute snp`. Flags are those of `sev-snp-measure`.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, ValueEnum};
use firmware_refs::compute::ovmf::{IMAGE_CAP_BYTES, Ovmf};
use firmware_refs::compute::proposal::{ComputedRegister, ComputedValue, Origin};
use firmware_refs::compute::snp::{
    CpuSignature, ID_AUTH_BYTES, ID_BLOCK_BYTES, IdAuth, IdBlock, KernelHashes, Launch, Vmm,
};
use serde_json::{Value, json};

use super::CommandError;
use super::artifact::{Artifacts, cap, refused};
use super::proposal::{Calculated, SetArgs};

/// Arguments of `verifier refs compute snp`.
#[derive(Args, Debug)]
pub(in crate::cli) struct SnpArgs {
    /// Firmware image.
    #[arg(long, value_name = "FILE")]
    ovmf: PathBuf,
    /// Number of vCPUs.
    #[arg(long, value_name = "N")]
    vcpus: u32,
    /// Who launches the guest.
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    vmm_type: VmmType,
    /// QEMU's vCPU model (EPYC-v4, EPYC-Milan, EPYC-Genoa, ...).
    #[arg(long, value_name = "NAME", conflicts_with_all = ["vcpu_sig", "vcpu_family"])]
    vcpu_type: Option<String>,
    /// CPUID signature of the vCPU model, instead of its name.
    #[arg(long, value_name = "HEX", value_parser = number_u32, conflicts_with = "vcpu_family")]
    vcpu_sig: Option<u32>,
    /// Family of the vCPU model, instead of its name.
    #[arg(long, value_name = "N", requires_all = ["vcpu_model", "vcpu_stepping"])]
    vcpu_family: Option<u32>,
    /// Model number.
    #[arg(long, value_name = "N", requires = "vcpu_family")]
    vcpu_model: Option<u32>,
    /// Stepping.
    #[arg(long, value_name = "N", requires = "vcpu_family")]
    vcpu_stepping: Option<u32>,
    /// SEV_FEATURES of the vCPUs: 0x1 is SNP, 0x20 adds debug swap.
    #[arg(long, value_name = "HEX", value_parser = number_u64, default_value = "0x1")]
    guest_features: u64,
    /// Kernel that QEMU hands to the firmware (-kernel, with kernel-hashes=on).
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Its initrd.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Its command line, as QEMU's -append gets it.
    #[arg(long, value_name = "TEXT", requires = "kernel", allow_hyphen_values = true)]
    append: Option<String>,
    /// ID block that the guest is launched with, 96 bytes or their base64: its launch digest must be the calculated one.
    #[arg(long, value_name = "FILE")]
    id_block: Option<PathBuf>,
    /// ID authentication information beside it, 4096 bytes or their base64: its signatures are verified.
    #[arg(long, value_name = "FILE", requires = "id_block")]
    id_auth: Option<PathBuf>,
    #[command(flatten)]
    set: SetArgs,
}

/// Hypervisors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum VmmType {
    /// QEMU with KVM.
    #[default]
    Qemu,
    /// Amazon EC2.
    Ec2,
    /// Google Compute Engine.
    Gce,
}

impl SnpArgs {
    pub(super) fn answer(&self) -> Result<Value, CommandError> {
        let mut artifacts = Artifacts::default();
        let image = artifacts.read("ovmf", &self.ovmf, cap(IMAGE_CAP_BYTES))?;
        let ovmf = Ovmf::parse(&image).map_err(refused(&self.ovmf))?;
        let kernel = self.kernel(&mut artifacts)?;
        let launch = Launch { vcpus: self.vcpus, vmm: self.vmm()?, guest_features: self.guest_features, kernel };
        let digest = launch.digest(&ovmf).map_err(refused(&self.ovmf))?;
        let id = self.id(&mut artifacts)?;
        if let Some((block, _)) = &id {
            block.is_for(digest).map_err(CommandError::usage)?;
        }
        let mut document = json!({
            "measurement": digest.hex(),
            "parameters": self.parameters(),
            "artifacts": artifacts.document(),
        });
        if let (Some((block, auth)), Some(fields)) = (&id, document.as_object_mut()) {
            fields.insert("id_block".into(), id_document(block, auth.as_ref()));
        }
        let values = vec![ComputedValue {
            register: ComputedRegister::Measurement,
            value: digest,
            origin: Origin::Derived,
            events: Vec::new(),
        }];
        let id_block = id.and_then(|(block, auth)| Some((block, auth?)));
        let registers = Calculated::of_registers("snp", self.parameters(), artifacts, values);
        let calculated = Calculated { id_block, ..registers };
        if let (Some(set), Some(fields)) = (self.set.write(calculated)?, document.as_object_mut()) {
            fields.insert("set".into(), set);
        }
        Ok(document)
    }

    fn vmm(&self) -> Result<Vmm, CommandError> {
        match self.vmm_type {
            VmmType::Qemu => Ok(Vmm::Qemu { vcpu: self.vcpu()? }),
            VmmType::Ec2 => Ok(Vmm::Ec2),
            VmmType::Gce => Ok(Vmm::Gce),
        }
    }

    fn vcpu(&self) -> Result<CpuSignature, CommandError> {
        let numbers = self.vcpu_family.zip(self.vcpu_model).zip(self.vcpu_stepping);
        if let Some(((family, model), stepping)) = numbers {
            return Ok(CpuSignature::new(family, model, stepping));
        }
        if let Some(signature) = self.vcpu_sig {
            return Ok(CpuSignature(signature));
        }
        let missing = "QEMU's vCPUs tell their model: give --vcpu-type, --vcpu-sig or --vcpu-family";
        let name = self.vcpu_type.as_ref().ok_or_else(|| CommandError::usage(missing))?;
        CpuSignature::of_type(name).map_err(CommandError::usage)
    }

    fn kernel(&self, artifacts: &mut Artifacts) -> Result<Option<KernelHashes>, CommandError> {
        let Some(kernel) = &self.kernel else { return Ok(None) };
        let (kernel, _) = artifacts.hash("kernel", kernel, &[])?;
        let initrd = self.initrd.as_ref().map(|path| artifacts.hash("initrd", path, &[])).transpose()?;
        let append = self.append.as_deref().unwrap_or_default();
        Ok(Some(KernelHashes::new(kernel, initrd.map(|(initrd, _)| initrd), append)))
    }

    fn id(&self, artifacts: &mut Artifacts) -> Result<Option<(IdBlock, Option<IdAuth>)>, CommandError> {
        let Some(path) = &self.id_block else { return Ok(None) };
        let bytes = decoded(artifacts.read("ID block", path, TEXT_CAP_BYTES)?, ID_BLOCK_BYTES);
        let block = IdBlock::parse(&bytes).map_err(refused(path))?;
        let Some(path) = &self.id_auth else { return Ok(Some((block, None))) };
        let bytes = decoded(artifacts.read("ID authentication", path, TEXT_CAP_BYTES)?, ID_AUTH_BYTES);
        let auth = IdAuth::verify(&bytes, &block).map_err(refused(path))?;
        Ok(Some((block, Some(auth))))
    }

    fn parameters(&self) -> Vec<String> {
        let mut parameters = vec![format!("vcpus {}", self.vcpus)];
        match self.vmm_type {
            VmmType::Qemu => {
                parameters.push("vmm-type QEMU".into());
                let signature = self.vcpu().map(|signature| format!("vcpu-sig {:#x}", signature.0));
                parameters.extend(self.vcpu_type.as_ref().map(|name| format!("vcpu-type {name}")));
                parameters.extend(signature);
            }
            VmmType::Ec2 => parameters.push("vmm-type ec2".into()),
            VmmType::Gce => parameters.push("vmm-type gce".into()),
        }
        parameters.push(format!("guest-features {:#x}", self.guest_features));
        parameters.extend(self.append.as_ref().map(|append| format!("append {append}")));
        parameters
    }
}

/// Longest file of 4096 bytes in base64.
const TEXT_CAP_BYTES: u64 = 16 << 10;

/// The bytes, of which there must be `length`, or what they are the base64 of.
fn decoded(bytes: Vec<u8>, length: usize) -> Vec<u8> {
    if bytes.len() == length {
        return bytes;
    }
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(text).unwrap_or(bytes)
}

fn id_document(block: &IdBlock, auth: Option<&IdAuth>) -> Value {
    json!({
        "family_id": hex::encode(block.family_id),
        "image_id": hex::encode(block.image_id),
        "guest_svn": block.guest_svn,
        "policy": format!("{:#x}", block.policy),
        "id_key_digest": auth.map(|auth| auth.id_key.hex()),
        "author_key_digest": auth.and_then(|auth| auth.author_key).map(|key| key.hex()),
    })
}

/// A number in decimal, or in hexadecimal after `0x`.
fn number_u64(text: &str) -> Result<u64, String> {
    let read = text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    read.map_err(|error| error.to_string())
}

fn number_u32(text: &str) -> Result<u32, String> {
    number_u64(text).and_then(|number| u32::try_from(number).map_err(|error| error.to_string()))
}

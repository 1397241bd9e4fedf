//! Launch digest of an SEV-SNP guest (AMD 56860, SEV-SNP firmware ABI, §8.17 SNP_LAUNCH_UPDATE): every page that the
//! hypervisor puts into the guest before it runs, in the order in which it does.

mod context;
mod id_block;
mod kernel;
mod metadata;
mod vcpu;
mod vmsa;

use evidence::digest::{Digest, HashAlg};

use self::{
    context::{LaunchContext, PageKind},
    metadata::{Section, SectionKind, SevMetadata},
    vmsa::Vmsa,
};
pub use self::{
    id_block::{ID_AUTH_BYTES, ID_BLOCK_BYTES, IdAuth, IdBlock},
    kernel::KernelHashes,
    vcpu::{CpuSignature, VCPU_TYPES},
};
use super::{
    ArtifactError,
    ovmf::{Ovmf, PAGE_BYTES},
};

/// Most vCPUs: each one's state is a page of the measurement.
pub const VCPUS_CAP: u32 = 4096;

/// Which hypervisor launches the guest. They put the vCPUs into different states, and pages in different orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vmm {
    /// QEMU, whose vCPUs tell their model at reset.
    Qemu {
        /// CPUID signature of the model.
        vcpu: CpuSignature,
    },
    /// Amazon EC2.
    Ec2,
    /// Google Compute Engine.
    Gce,
}

/// Everything that decides the launch digest of a guest.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Number of vCPUs at launch.
    pub vcpus: u32,
    /// Who launches it.
    pub vmm: Vmm,
    /// SEV_FEATURES of every vCPU (AMD64 APM volume 2, table B-4): 0x1 is SNP alone.
    pub guest_features: u64,
    /// Hashes of a kernel that is handed to the firmware (QEMU's `-kernel` with `kernel-hashes=on`).
    pub kernel: Option<KernelHashes>,
}

impl Launch {
    /// The launch digest with `ovmf` as the firmware: MEASUREMENT of the guest's reports.
    ///
    /// # Errors
    /// What in the image cannot be measured; [`ArtifactError::Count`] for a number of vCPUs that cannot be.
    pub fn digest(&self, ovmf: &Ovmf<'_>) -> Result<Digest, ArtifactError> {
        if self.vcpus == 0 || self.vcpus > VCPUS_CAP {
            let (got, cap) = (u64::from(self.vcpus), u64::from(VCPUS_CAP));
            return Err(ArtifactError::Count { what: "vCPUs", got, min: 1, cap });
        }
        let metadata = SevMetadata::read(ovmf)?;
        let mut context = LaunchContext::new();
        context.image(ovmf);
        for section in metadata.sections() {
            self.section(&mut context, section, &metadata)?;
        }
        if self.vmm == Vmm::Ec2 {
            // EC2 adds its CPUID page after all others.
            for section in metadata.sections().iter().filter(|section| section.kind == SectionKind::Cpuid) {
                context.empty_page(PageKind::Cpuid, section.gpa);
            }
        }
        if self.kernel.is_some() && !metadata.has(SectionKind::KernelHashes) {
            return Err(ArtifactError::Missing { what: "section for kernel hashes, so no kernel is measured" });
        }
        self.vcpus(&mut context, &metadata)?;
        Ok(context.digest())
    }

    fn section(
        &self,
        context: &mut LaunchContext,
        section: &Section,
        metadata: &SevMetadata,
    ) -> Result<(), ArtifactError> {
        match section.kind {
            SectionKind::SecMemory => {
                let kind = if self.vmm == Vmm::Gce { PageKind::Unmeasured } else { PageKind::Zero };
                context.empty_pages(kind, section);
            }
            SectionKind::Secrets => context.empty_page(PageKind::Secrets, section.gpa),
            SectionKind::Cpuid if self.vmm == Vmm::Ec2 => {}
            SectionKind::Cpuid => context.empty_page(PageKind::Cpuid, section.gpa),
            SectionKind::SvsmCaa => context.empty_pages(PageKind::Zero, section),
            SectionKind::KernelHashes => match &self.kernel {
                Some(hashes) => {
                    let page = hashes.page(metadata.kernel_hashes_offset(section)?)?;
                    context.page(PageKind::Normal, section.gpa, HashAlg::Sha384.hash(&[&page]));
                }
                None => context.empty_pages(PageKind::Zero, section),
            },
        }
        Ok(())
    }

    /// The save area of each vCPU: the first starts at the reset vector, the others where the firmware says.
    fn vcpus(&self, context: &mut LaunchContext, metadata: &SevMetadata) -> Result<(), ArtifactError> {
        let first = Vmsa { eip: vmsa::RESET_VECTOR, vmm: self.vmm, sev_features: self.guest_features };
        context.vcpu(first.page_digest());
        if self.vcpus == 1 {
            return Ok(());
        }
        let other = Vmsa { eip: metadata.ap_reset_vector()?, ..first }.page_digest();
        for _ in 1..self.vcpus {
            context.vcpu(other);
        }
        Ok(())
    }
}

const _: () = assert!(PAGE_BYTES == 4096, "PAGE_INFO describes pages of 4 KiB");

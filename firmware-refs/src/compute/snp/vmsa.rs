//! The state of a vCPU at launch (AMD64 APM volume 2, table B-4, VMCB save state area for SEV-ES), as each hypervisor
//! sets it up. What is not written is zero.

use evidence::digest::{Digest, HashAlg};

use super::Vmm;
use crate::compute::ovmf::PAGE_BYTES;

/// EIP at which the first vCPU starts.
pub(super) const RESET_VECTOR: u32 = 0xffff_fff0;

/// What distinguishes one save area from another.
#[derive(Clone, Copy)]
pub(super) struct Vmsa {
    pub(super) eip: u32,
    pub(super) vmm: Vmm,
    pub(super) sev_features: u64,
}

/// The registers that hypervisors disagree about.
struct Differences {
    cs_attributes: u16,
    ss_attributes: u16,
    tr_attributes: u16,
    g_pat: u64,
    rdx: u64,
    mxcsr: u32,
    x87_fcw: u16,
}

/// G_PAT after reset (AMD64 APM volume 2, §A.3).
const PAT_RESET: u64 = 0x0007_0406_0007_0406;

impl Vmsa {
    /// SHA-384 of the save area's page.
    pub(super) fn page_digest(self) -> Digest {
        let mut page = Page(vec![0; PAGE_BYTES]);
        let set = self.differences();
        let [rip_low, rip_high, base_low, base_high] = self.eip.to_le_bytes();
        let cs_base = u64::from(u32::from_le_bytes([0, 0, base_low, base_high]));
        page.segment(0x00, 0, 0x93, 0); // ES
        page.segment(0x10, 0xf000, set.cs_attributes, cs_base);
        page.segment(0x20, 0, set.ss_attributes, 0);
        page.segment(0x30, 0, 0x93, 0); // DS
        page.segment(0x40, 0, 0x93, 0); // FS
        page.segment(0x50, 0, 0x93, 0); // GS
        page.segment(0x60, 0, 0, 0); // GDTR
        page.segment(0x70, 0, 0x82, 0); // LDTR
        page.segment(0x80, 0, 0, 0); // IDTR
        page.segment(0x90, 0, set.tr_attributes, 0);
        page.put(0x0d0, &0x1000u64.to_le_bytes()); // EFER.SVME, by KVM
        page.put(0x148, &0x40u64.to_le_bytes()); // CR4.MCE, by KVM
        page.put(0x158, &0x10u64.to_le_bytes()); // CR0.ET
        page.put(0x160, &0x400u64.to_le_bytes()); // DR7
        page.put(0x168, &0xffff_0ff0u64.to_le_bytes()); // DR6
        page.put(0x170, &0x2u64.to_le_bytes()); // RFLAGS
        page.put(0x178, &u64::from(u16::from_le_bytes([rip_low, rip_high])).to_le_bytes()); // RIP
        page.put(0x268, &set.g_pat.to_le_bytes());
        page.put(0x310, &set.rdx.to_le_bytes());
        page.put(0x3b0, &self.sev_features.to_le_bytes());
        page.put(0x3e8, &1u64.to_le_bytes()); // XCR0
        page.put(0x408, &set.mxcsr.to_le_bytes());
        page.put(0x410, &set.x87_fcw.to_le_bytes());
        HashAlg::Sha384.hash(&[&page.0])
    }

    /// EC2's RDX is 0x600 on its present hosts; guests that were launched on older ones had 0.
    fn differences(&self) -> Differences {
        match self.vmm {
            Vmm::Qemu { vcpu } => Differences {
                cs_attributes: 0x9b,
                ss_attributes: 0x93,
                tr_attributes: 0x8b,
                g_pat: PAT_RESET,
                rdx: vcpu.0.into(),
                mxcsr: 0x1f80,
                x87_fcw: 0x37f,
            },
            Vmm::Ec2 => Differences {
                cs_attributes: if self.eip == RESET_VECTOR { 0x9a } else { 0x9b },
                ss_attributes: 0x92,
                tr_attributes: 0x83,
                g_pat: PAT_RESET,
                rdx: 0x600,
                mxcsr: 0,
                x87_fcw: 0,
            },
            Vmm::Gce => Differences {
                cs_attributes: 0x9b,
                ss_attributes: 0x93,
                tr_attributes: 0x8b,
                g_pat: 0x0007_0106,
                rdx: 0x600,
                mxcsr: 0,
                x87_fcw: 0,
            },
        }
    }
}

struct Page(Vec<u8>);

impl Page {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        for (to, from) in self.0.iter_mut().skip(offset).zip(bytes) {
            *to = *from;
        }
    }

    /// Selector, attributes, limit 0xffff and base.
    fn segment(&mut self, offset: usize, selector: u16, attributes: u16, base: u64) {
        self.put(offset, &selector.to_le_bytes());
        self.put(offset.saturating_add(2), &attributes.to_le_bytes());
        self.put(offset.saturating_add(4), &0xffffu32.to_le_bytes());
        self.put(offset.saturating_add(8), &base.to_le_bytes());
    }
}

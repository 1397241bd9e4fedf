//! The part of a captured set that is about an SNP guest.

use evidence::{digest::Digest, sev_snp::TcbVersion, tee::PlatformId};

use super::Draft;
use crate::document::snp::{
    GuestPolicyRules, IdBlock, PlatformInfoRules, ProductReference, SnpDocument, SnpPlatforms, TcbFloor,
};
use crate::fields::{BitRule, Hex};
use crate::observed::ObservedSnp;
use crate::text::Text;

impl Draft {
    /// Exactly this guest on this chip, no firmware older than its own, every bit as it is. Nothing of a report can
    /// be derived from anything else, so all of it was only seen.
    pub(super) fn snp(&mut self, observed: &ObservedSnp) -> SnpDocument {
        let source = Text::lossy(&format!("observed on {}", self.node));
        let zero = |digest: &Digest| digest.as_bytes().iter().all(|byte| *byte == 0);
        let id_block = if zero(&observed.id_key_digest) && zero(&observed.author_key_digest) {
            IdBlock::None
        } else {
            let author = Some(observed.author_key_digest).filter(|digest| !zero(digest));
            IdBlock::Signed {
                id_key: self.accepted(observed.id_key_digest, None),
                author_key: author.map_or_else(Vec::new, |digest| self.accepted(digest, None)),
            }
        };
        SnpDocument {
            report_versions: vec![observed.report_version],
            vlek_csp_ids: match &observed.platform {
                PlatformId::AmdVlek { csp_id } => vec![csp_id.clone()],
                PlatformId::AmdChip(_) | PlatformId::IntelPpid(_) => Vec::new(),
            },
            vmpl: vec![observed.vmpl],
            guest_svn: observed.guest_svn,
            family_id: vec![observed.family_id],
            image_id: vec![observed.image_id],
            platforms: if observed.chip_id == Hex([0; 64]) {
                SnpPlatforms::Any
            } else {
                SnpPlatforms::Listed { chip_id: vec![observed.chip_id] }
            },
            id_block,
            policy: policy(observed.policy),
            platform_info: platform_info(observed.platform_info),
            product: vec![ProductReference {
                product: observed.product,
                source,
                firmware: observed.current_firmware.min(observed.committed_firmware),
                mitigations: observed.mitigations,
                reported: floor(observed.reported),
                committed: floor(observed.committed),
                current: floor(observed.current),
                launch: floor(observed.launch),
            }],
            measurement: self.accepted(observed.measurement, None),
            host_data: self.accepted(observed.host_data, None),
        }
    }
}

fn floor(tcb: TcbVersion) -> TcbFloor {
    let TcbVersion { fmc, boot_loader, tee, snp, microcode } = tcb;
    TcbFloor { fmc, boot_loader, tee, snp, microcode }
}

const fn as_it_is(bits: u64, bit: u32) -> BitRule {
    if bits.wrapping_shr(bit) & 1 == 1 { BitRule::Required } else { BitRule::Forbidden }
}

const fn policy(bits: u64) -> GuestPolicyRules {
    GuestPolicyRules {
        smt: as_it_is(bits, 16),
        single_socket: as_it_is(bits, 20),
        cxl: as_it_is(bits, 21),
        aes_256_xts: as_it_is(bits, 22),
        rapl_disabled: as_it_is(bits, 23),
        ciphertext_hiding: as_it_is(bits, 24),
        page_swap_disabled: as_it_is(bits, 25),
    }
}

const fn platform_info(bits: u64) -> PlatformInfoRules {
    PlatformInfoRules {
        smt: as_it_is(bits, 0),
        tsme: as_it_is(bits, 1),
        ecc: as_it_is(bits, 2),
        rapl_disabled: as_it_is(bits, 3),
        ciphertext_hiding: as_it_is(bits, 4),
        alias_check: as_it_is(bits, 5),
        iommu_write_safe: as_it_is(bits, 6),
        tio: as_it_is(bits, 7),
    }
}

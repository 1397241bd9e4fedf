//! Reference values for SEV-SNP reports: checked as a whole, and indexed.

use std::collections::{BTreeMap, BTreeSet};

use evidence::{
    digest::{Digest, HashAlg},
    sev_snp::{Product, ProductLine},
    tee::CspId,
};

use super::{Machines, Problems, digests};
use crate::document::snp::{IdBlock, ProductReference, SnpDocument, SnpPlatforms, TcbFloor};
use crate::fields::{BitRule, Hex};

/// Versions of the report that can be read at all.
const REPORT_VERSIONS: std::ops::RangeInclusive<u32> = 2..=5;
/// The report version that carries mitigation vectors.
const MITIGATIONS_VERSION: u32 = 5;
/// Highest VMPL.
const LAST_VMPL: u32 = 3;

/// Reference values for SEV-SNP reports, indexed.
#[derive(Clone, Debug)]
pub struct SnpReferences {
    pub(crate) report_versions: BTreeSet<u32>,
    pub(crate) vlek_csp_ids: BTreeSet<CspId>,
    pub(crate) vmpl: BTreeSet<u32>,
    pub(crate) guest_svn: u32,
    pub(crate) family_id: BTreeSet<Hex<16>>,
    pub(crate) image_id: BTreeSet<Hex<16>>,
    pub(crate) platforms: Machines<Hex<64>>,
    pub(crate) id_block: KnownIdBlock,
    pub(crate) policy: [(&'static str, u32, BitRule); 7],
    pub(crate) platform_info: [(&'static str, u32, BitRule); 8],
    pub(crate) products: BTreeMap<Product, ProductReference>,
    pub(crate) measurement: BTreeSet<Digest>,
    pub(crate) host_data: BTreeSet<Digest>,
}

/// What the ID block must be.
#[derive(Clone, Debug)]
pub(crate) enum KnownIdBlock {
    /// There is none.
    None,
    /// Signed by one of these keys, by digest.
    Signed {
        /// ID keys.
        id_key: BTreeSet<Digest>,
        /// Author keys; none may stand where this is empty.
        author_key: BTreeSet<Digest>,
    },
}

impl SnpReferences {
    pub(super) fn index(snp: &SnpDocument) -> Self {
        Self {
            report_versions: snp.report_versions.iter().copied().collect(),
            vlek_csp_ids: snp.vlek_csp_ids.iter().cloned().collect(),
            vmpl: snp.vmpl.iter().copied().collect(),
            guest_svn: snp.guest_svn,
            family_id: snp.family_id.iter().copied().collect(),
            image_id: snp.image_id.iter().copied().collect(),
            platforms: match &snp.platforms {
                SnpPlatforms::Any => Machines::Any,
                SnpPlatforms::Listed { chip_id } => Machines::Listed(chip_id.iter().copied().collect()),
            },
            id_block: match &snp.id_block {
                IdBlock::None => KnownIdBlock::None,
                IdBlock::Signed { id_key, author_key } => {
                    KnownIdBlock::Signed { id_key: digests(id_key), author_key: digests(author_key) }
                }
            },
            policy: snp.policy.rules(),
            platform_info: snp.platform_info.rules(),
            products: snp.product.iter().map(|product| (product.product, product.clone())).collect(),
            measurement: digests(&snp.measurement),
            host_data: digests(&snp.host_data),
        }
    }
}

impl Problems {
    pub(super) fn snp(&mut self, snp: &SnpDocument) {
        let empty = "an empty list accepts nothing";
        self.unless(!snp.report_versions.is_empty(), "snp.report_versions", empty);
        let readable = snp.report_versions.iter().all(|version| REPORT_VERSIONS.contains(version));
        self.unless(readable, "snp.report_versions", "only versions 2 to 5 are known");
        self.unless(!snp.vmpl.is_empty(), "snp.vmpl", empty);
        let levels = snp.vmpl.iter().all(|vmpl| *vmpl <= LAST_VMPL);
        self.unless(levels, "snp.vmpl", "a guest's VMPL is 0 to 3");
        self.unless(!snp.family_id.is_empty(), "snp.family_id", empty);
        self.unless(!snp.image_id.is_empty(), "snp.image_id", empty);
        match &snp.platforms {
            SnpPlatforms::Any => {}
            SnpPlatforms::Listed { chip_id } => {
                self.unless(!chip_id.is_empty(), "snp.platforms.chip_id", empty);
                let named = !chip_id.contains(&Hex([0; 64]));
                self.unless(named, "snp.platforms.chip_id", "all zero is every chip whose host masks it");
            }
        }
        match &snp.id_block {
            IdBlock::None => {}
            IdBlock::Signed { id_key, author_key } => {
                self.register("snp.id_block.id_key", id_key, HashAlg::Sha384);
                if !author_key.is_empty() {
                    self.register("snp.id_block.author_key", author_key, HashAlg::Sha384);
                }
            }
        }
        self.products(snp);
        self.register("snp.measurement", &snp.measurement, HashAlg::Sha384);
        self.register("snp.host_data", &snp.host_data, HashAlg::Sha256);
    }

    fn products(&mut self, snp: &SnpDocument) {
        self.unless(!snp.product.is_empty(), "snp.product", "no product is accepted");
        let distinct: BTreeSet<_> = snp.product.iter().map(|product| product.product).collect();
        self.unless(distinct.len() == snp.product.len(), "snp.product", "one entry for each product");
        for product in &snp.product {
            let at = format!("snp.product[{}]", product.product);
            self.unless(!product.source.as_str().is_empty(), at.as_str(), "say where the floors come from");
            let told = product.mitigations.is_some() || !snp.report_versions.contains(&MITIGATIONS_VERSION);
            self.unless(told, at.as_str(), "version 5 of the report carries mitigations: say which are required");
            for (name, floor) in product.floors() {
                let fmc = floor.fmc.is_some() == has_fmc(product.product);
                self.unless(fmc, format!("{at}.{name}.fmc"), "stands for products with an FMC (Turin), and only there");
            }
        }
    }
}

const fn has_fmc(product: Product) -> bool {
    match product.line() {
        ProductLine::Turin => true,
        ProductLine::Milan | ProductLine::Genoa => false,
    }
}

impl ProductReference {
    const fn floors(&self) -> [(&'static str, &TcbFloor); 4] {
        [
            ("reported", &self.reported),
            ("committed", &self.committed),
            ("current", &self.current),
            ("launch", &self.launch),
        ]
    }
}

//! SEV-SNP guests: AMD's profile (draft-deeglaze-amd-sev-snp-corim-profile-02). Each field of the report is one
//! measurement, by the numbers below; numbers stand big-endian in raw values.

use std::collections::BTreeMap;

use evidence::{
    digest::{Digest, HashAlg},
    sev_snp::{ProductLine, TcbVersion},
};

use super::{Values, add, model::Measurement, profile::Profile, profile::Svn};
use crate::document::{
    SetDocument,
    snp::{IdBlock, ProductReference, SnpDocument, SnpPlatforms, TcbFloor},
};
use crate::exchange::{ImportDenial, Losses, accepted, cbor::Item};
use crate::fields::{BitRule, Hex, SevFirmware};
use crate::text::Text;

/// Tag of an OID, and OID 1.3.6.1.4.1.3704.3.1, the class of a report signed by a VCEK.
const OID: u64 = 111;
pub(super) const CLASS: [u8; 9] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x03, 0x01];

/// Keys of the profile's measurements.
pub(super) const REPORT_VERSION: u64 = 0;
pub(super) const GUEST_SVN: u64 = 1;
pub(super) const POLICY: u64 = 2;
pub(super) const FAMILY_ID: u64 = 3;
pub(super) const IMAGE_ID: u64 = 4;
pub(super) const VMPL: u64 = 5;
pub(super) const CURRENT_TCB: u64 = 6;
pub(super) const PLATFORM_INFO: u64 = 7;
const REPORT_DATA: u64 = 640;
pub(super) const MEASUREMENT: u64 = 641;
pub(super) const HOST_DATA: u64 = 642;
pub(super) const ID_KEY: u64 = 643;
pub(super) const AUTHOR_KEY: u64 = 644;
const REPORT_ID: u64 = 645;
const REPORT_ID_MA: u64 = 646;
pub(super) const REPORTED_TCB: u64 = 647;
pub(super) const CHIP_ID: u64 = 3328;
pub(super) const COMMITTED_TCB: u64 = 3329;
pub(super) const CURRENT_VERSION: u64 = 3330;
pub(super) const COMMITTED_VERSION: u64 = 3936;
pub(super) const LAUNCH_TCB: u64 = 3968;

/// Bits of POLICY that no set accepts: MIGRATE_MA and DEBUG (AMD 56860).
const REFUSED_POLICY: u64 = 1 << 18 | 1 << 19;
/// Bits of POLICY that are not rules of a set: ABI versions, the reserved one that is always set.
const POLICY_BEYOND_RULES: u64 = 0xffff | 1 << 17;

/// What the file says, field by field; an empty list says nothing.
#[derive(Default)]
struct Found {
    report_versions: Vec<u32>,
    guest_svn: Option<u32>,
    policy: Option<u64>,
    platform_info: Option<u64>,
    family_id: Vec<Hex<16>>,
    image_id: Vec<Hex<16>>,
    vmpl: Vec<u32>,
    chip_id: Vec<Hex<64>>,
    tcb: BTreeMap<u64, u64>,
    firmware: Option<SevFirmware>,
    measurement: BTreeMap<Digest, Text>,
    host_data: BTreeMap<Digest, Text>,
    id_key: BTreeMap<Digest, Text>,
    author_key: BTreeMap<Digest, Text>,
}

impl Values<'_> {
    pub(super) fn snp(self, base: &mut SetDocument) -> Result<(), ImportDenial> {
        let snp = base.snp.as_mut().ok_or(ImportDenial::BaseLacks { section: "snp" })?;
        let mut found = Found::default();
        for comid in self.comids {
            let source = self.origin.source(&format!(" tag {}", comid.id));
            for triple in &comid.triples {
                if triple.environment.class_id != Some((OID, CLASS.as_slice())) {
                    return Err(Profile::Snp.elsewhere(&triple.environment));
                }
                if triple.environment.narrowed {
                    self.losses.add("instance", "values of one guest or chip: kept for every guest of the set");
                }
                for measurement in &triple.measurements {
                    if measurement.authorized {
                        self.losses.add("authorized-by", "the signer of the file decides, not this key");
                    }
                    found.field(measurement, &source, self.losses)?;
                }
            }
        }
        found.into_set(snp, self.losses)
    }
}

fn push<T: PartialEq>(to: &mut Vec<T>, value: T) {
    if !to.contains(&value) {
        to.push(value);
    }
}

impl Found {
    fn field(&mut self, measurement: &Measurement<'_>, source: &Text, losses: &mut Losses) -> Result<(), ImportDenial> {
        let key = measurement.number_key()?;
        let at = format!("key {key}");
        match key {
            REPORT_VERSION => {
                let version = measurement.only(0, &at)?.get(0).and_then(Item::text).and_then(|text| text.parse().ok());
                push(&mut self.report_versions, version.ok_or_else(|| inexpressible(&at, "no version of the report"))?);
            }
            GUEST_SVN => {
                let svn = Svn::read(measurement.only(1, &at)?, "GUEST_SVN", losses)?.floor;
                let svn = u32::try_from(svn).map_err(|_| inexpressible(&at, "GUEST_SVN is of 32 bits"))?;
                self.guest_svn = Some(self.guest_svn.map_or(svn, |known| known.min(svn)));
            }
            POLICY => same(&mut self.policy, u64::from_be_bytes(measurement.raw(&at)?), &at)?,
            PLATFORM_INFO => same(&mut self.platform_info, u64::from_be_bytes(measurement.raw(&at)?), &at)?,
            FAMILY_ID => push(&mut self.family_id, Hex(measurement.raw(&at)?)),
            IMAGE_ID => push(&mut self.image_id, Hex(measurement.raw(&at)?)),
            VMPL => push(&mut self.vmpl, u32::from_be_bytes(measurement.raw(&at)?)),
            CHIP_ID => push(&mut self.chip_id, Hex(measurement.raw(&at)?)),
            CURRENT_TCB | REPORTED_TCB | COMMITTED_TCB | LAUNCH_TCB => {
                let tcb = Svn::read(measurement.only(1, &at)?, &at, losses)?.floor;
                if *self.tcb.entry(key).or_insert(tcb) != tcb {
                    return Err(inexpressible(&at, "two values: a set has one floor"));
                }
            }
            CURRENT_VERSION | COMMITTED_VERSION => {
                losses.add(&at, "one firmware version alone: kept as a floor, which newer versions pass too");
                let text = measurement.only(0, &at)?.get(0).and_then(Item::text).unwrap_or_default();
                let version = SevFirmware::try_from(text.to_owned()).map_err(|e| inexpressible(&at, &e))?;
                self.firmware = Some(self.firmware.map_or(version, |known| known.min(version)));
            }
            MEASUREMENT => self.digests(measurement, &at, source, losses)?,
            HOST_DATA => {
                let digest = Digest::from_bytes(HashAlg::Sha256, &measurement.raw::<32>(&at)?);
                digest.into_iter().for_each(|digest| self.host_data(digest, source));
            }
            ID_KEY | AUTHOR_KEY => {
                let digests = measurement.digests_of(HashAlg::Sha384, &at, losses)?;
                let known = if key == ID_KEY { &mut self.id_key } else { &mut self.author_key };
                digests.into_iter().for_each(|digest| add(known, digest, source));
            }
            REPORT_DATA => losses.add("REPORT_DATA", "of one report: here it answers a challenge instead"),
            REPORT_ID => losses.add("REPORT_ID", "of one launch: not compared"),
            REPORT_ID_MA => losses.add("REPORT_ID_MA", "a guest with a migration agent is refused whatever a set says"),
            _ => return Err(inexpressible(&at, "not a key of the profile")),
        }
        Ok(())
    }

    fn digests(
        &mut self,
        measurement: &Measurement<'_>,
        at: &str,
        source: &Text,
        losses: &mut Losses,
    ) -> Result<(), ImportDenial> {
        measurement.only(2, at)?;
        for digest in measurement.digests_of(HashAlg::Sha384, at, losses)? {
            add(&mut self.measurement, digest, source);
        }
        Ok(())
    }

    fn host_data(&mut self, digest: Digest, source: &Text) {
        add(&mut self.host_data, digest, source);
    }

    fn into_set(self, snp: &mut SnpDocument, losses: &mut Losses) -> Result<(), ImportDenial> {
        if let Some(policy) = self.policy {
            apply_policy(policy, snp)?;
        }
        if let Some(bits) = self.platform_info {
            apply_platform_info(bits, snp)?;
        }
        for product in &mut snp.product {
            floors(&self.tcb, self.firmware, product)?;
        }
        if snp.product.len() > 1 && !self.tcb.is_empty() {
            losses.add("TCB", "one value, used for every product of the base");
        }
        snp.guest_svn = self.guest_svn.unwrap_or(snp.guest_svn);
        replace(&mut snp.report_versions, self.report_versions);
        replace(&mut snp.family_id, self.family_id);
        replace(&mut snp.image_id, self.image_id);
        replace(&mut snp.vmpl, self.vmpl);
        replace(&mut snp.measurement, accepted(self.measurement));
        replace(&mut snp.host_data, accepted(self.host_data));
        if !self.chip_id.is_empty() {
            snp.platforms = SnpPlatforms::Listed { chip_id: self.chip_id };
        }
        if !self.id_key.is_empty() {
            snp.id_block = IdBlock::Signed { id_key: accepted(self.id_key), author_key: accepted(self.author_key) };
        } else if !self.author_key.is_empty() {
            return Err(inexpressible("key 644", "an author key without ID key"));
        }
        Ok(())
    }
}

fn replace<T>(base: &mut Vec<T>, found: Vec<T>) {
    if !found.is_empty() {
        *base = found;
    }
}

fn inexpressible(at: &str, what: &str) -> ImportDenial {
    ImportDenial::inexpressible(at, what)
}

fn same(known: &mut Option<u64>, value: u64, at: &str) -> Result<(), ImportDenial> {
    if *known.get_or_insert(value) == value {
        Ok(())
    } else {
        Err(inexpressible(at, "two values: a set has one rule for each bit"))
    }
}

const fn as_it_is(bits: u64, bit: u32) -> BitRule {
    if bits.wrapping_shr(bit) & 1 == 1 { BitRule::Required } else { BitRule::Forbidden }
}

/// Bits that a set has rules for.
fn ruled(rules: &[(&str, u32, BitRule)]) -> u64 {
    rules.iter().fold(0, |all, (_, bit, _)| all | 1u64.wrapping_shl(*bit))
}

fn apply_policy(bits: u64, snp: &mut SnpDocument) -> Result<(), ImportDenial> {
    if bits & REFUSED_POLICY != 0 {
        return Err(inexpressible("POLICY", "DEBUG and MIGRATE_MA are refused whatever a set says"));
    }
    if bits & !(ruled(&snp.policy.rules()) | POLICY_BEYOND_RULES) != 0 {
        return Err(inexpressible("POLICY", "a bit that is not known"));
    }
    snp.policy.smt = as_it_is(bits, 16);
    snp.policy.single_socket = as_it_is(bits, 20);
    snp.policy.cxl = as_it_is(bits, 21);
    snp.policy.aes_256_xts = as_it_is(bits, 22);
    snp.policy.rapl_disabled = as_it_is(bits, 23);
    snp.policy.ciphertext_hiding = as_it_is(bits, 24);
    snp.policy.page_swap_disabled = as_it_is(bits, 25);
    Ok(())
}

fn apply_platform_info(bits: u64, snp: &mut SnpDocument) -> Result<(), ImportDenial> {
    if bits & !ruled(&snp.platform_info.rules()) != 0 {
        return Err(inexpressible("PLATFORM_INFO", "a bit that is not known"));
    }
    snp.platform_info.smt = as_it_is(bits, 0);
    snp.platform_info.tsme = as_it_is(bits, 1);
    snp.platform_info.ecc = as_it_is(bits, 2);
    snp.platform_info.rapl_disabled = as_it_is(bits, 3);
    snp.platform_info.ciphertext_hiding = as_it_is(bits, 4);
    snp.platform_info.alias_check = as_it_is(bits, 5);
    snp.platform_info.iommu_write_safe = as_it_is(bits, 6);
    snp.platform_info.tio = as_it_is(bits, 7);
    Ok(())
}

fn floors(
    tcb: &BTreeMap<u64, u64>,
    firmware: Option<SevFirmware>,
    product: &mut ProductReference,
) -> Result<(), ImportDenial> {
    let line: ProductLine = product.product.line();
    for (key, floor) in [
        (REPORTED_TCB, &mut product.reported),
        (COMMITTED_TCB, &mut product.committed),
        (CURRENT_TCB, &mut product.current),
        (LAUNCH_TCB, &mut product.launch),
    ] {
        let Some(bits) = tcb.get(&key) else { continue };
        let read = TcbVersion::read(line, "TCB_VERSION", &bits.to_le_bytes());
        let what = format!("not a TCB version of {}", product.product);
        let TcbVersion { fmc, boot_loader, tee, snp, microcode } =
            read.map_err(|_| inexpressible(&format!("key {key}"), &what))?;
        *floor = TcbFloor { fmc, boot_loader, tee, snp, microcode };
    }
    product.firmware = firmware.unwrap_or(product.firmware);
    Ok(())
}

//! A genuine SNP guest and the set captured from it; then one thing changes, and exactly one denial follows.

use evidence::{Bound, verify};
use firmware_refs::{
    ReferenceDenial,
    capture::{CaptureHeader, capture},
    denial::ReferenceDenialKind as Kind,
    document::{
        SetDocument,
        snp::{IdBlock, Mitigations, SnpDocument, SnpPlatforms},
    },
    fields::{BitRule, Hex, Mask},
    observed::Observed,
};
use tests::genuine_snp::{Product, SnpGuest};

use super::{domain, values};

pub(crate) fn with_bound<T>(guest: &SnpGuest, run: impl FnOnce(&Bound<'_>) -> T) -> T {
    let challenge = guest.challenge();
    let (evidence, endorsements) = (guest.evidence(&challenge), guest.endorsements());
    let authentic = verify(&evidence, &endorsements, &guest.anchors(), guest.now).expect("authentic");
    run(&authentic.bind(&challenge, guest.now).expect("bound"))
}

pub(crate) fn captured(guest: &SnpGuest) -> SetDocument {
    let header = CaptureHeader {
        id: "guests".parse().unwrap(),
        version: 1,
        domain: domain(),
        environment: "lab".parse().unwrap(),
        node: "guest-1".into(),
        now: guest.now.minus(60),
        lifetime_s: 86_400,
    };
    with_bound(guest, |bound| {
        capture(&Observed::of(bound.claims(), guest.now), header).unwrap().set().document().clone()
    })
}

fn judged(guest: &SnpGuest, document: SetDocument) -> Vec<ReferenceDenial> {
    with_bound(guest, |bound| values(document).all_failures(&Observed::of(bound.claims(), guest.now), guest.now))
}

/// The genuine guest against a set with one change.
fn against(change: impl FnOnce(&mut SnpDocument)) -> Vec<ReferenceDenial> {
    let guest = SnpGuest::default();
    let mut document = captured(&guest);
    change(document.snp.as_mut().unwrap());
    judged(&guest, document)
}

/// A guest with one change against the set of the genuine one.
fn changed(change: impl FnOnce(&mut SnpGuest)) -> Vec<ReferenceDenial> {
    let mut guest = SnpGuest::default();
    let document = captured(&guest);
    change(&mut guest);
    judged(&guest, document)
}

/// One case for each fact about SNP guests, and for some more than one.
pub(crate) fn cases() -> Vec<(Kind, Vec<ReferenceDenial>)> {
    let of_turin = {
        let mut guest = SnpGuest::new(Product::Turin);
        let mut document = captured(&guest);
        let product = &mut document.snp.as_mut().unwrap().product[0];
        product.mitigations = Some(Mitigations { launch: Mask(0), current: Mask(1 << 2) });
        guest.machine.fields.current_mit_vector = 0b1011;
        judged(&guest, document)
    };
    vec![
        (Kind::MeasurementUnknown, changed(|g| g.machine.fields.measurement[0] ^= 1)),
        (Kind::MeasurementUnknown, changed(|g| g.machine.fields.host_data[31] ^= 1)),
        (Kind::MeasurementUnknown, {
            against(|d| {
                let id_key = vec![d.measurement[0].clone()];
                d.id_block = IdBlock::Signed { id_key, author_key: Vec::new() };
            })
        }),
        (Kind::IdBlockRefused, changed(|g| g.machine.fields.id_key_digest = [1; 48])),
        (Kind::IdBlockRefused, changed(|g| g.machine.fields.author_key_digest = [1; 48])),
        (Kind::GuestIdUnknown, changed(|g| g.machine.fields.family_id = [1; 16])),
        (Kind::GuestIdUnknown, changed(|g| g.machine.fields.image_id = [1; 16])),
        (Kind::GuestSvnTooLow, against(|d| d.guest_svn += 1)),
        (Kind::MigrationAgent, changed(|g| g.machine.fields.report_id_ma = [0; 32])),
        (Kind::Vmpl, changed(|g| g.machine.fields.vmpl = 1)),
        (Kind::ReportVersion, changed(|g| g.machine.fields.version = 4)),
        (Kind::ProductUnknown, against(|d| d.product[0].product = evidence::sev_snp::Product::Milan)),
        (Kind::TcbTooLow, against(|d| d.product[0].reported.snp += 1)),
        (Kind::TcbTooLow, against(|d| d.product[0].committed.boot_loader += 1)),
        (Kind::TcbTooLow, against(|d| d.product[0].current.tee += 1)),
        (Kind::TcbTooLow, against(|d| d.product[0].launch.microcode += 1)),
        (Kind::TcbNotCommitted, {
            changed(|g| {
                // a newer microcode that runs and can still be taken back
                g.machine.fields.current_tcb[7] += 1;
            })
        }),
        (Kind::SevFirmwareTooOld, changed(|g| g.machine.fields.committed_version[0] -= 1)),
        (Kind::SevFirmwareTooOld, changed(|g| g.machine.fields.current_version[0] -= 1)),
        (Kind::MitigationMissing, of_turin),
        (Kind::MitigationMissing, {
            against(|d| d.product[0].mitigations = Some(Mitigations { launch: Mask(1), current: Mask(0) }))
        }),
        (Kind::BitRefused, changed(|g| g.machine.fields.policy ^= 1 << 16)),
        (Kind::BitRefused, changed(|g| g.machine.fields.policy ^= 1 << 20)),
        (Kind::BitRefused, changed(|g| g.machine.fields.policy ^= 1 << 21)),
        (Kind::BitRefused, changed(|g| g.machine.fields.policy ^= 1 << 25)),
        (Kind::BitRefused, changed(|g| g.machine.fields.platform_info ^= 1)),
        (Kind::BitRefused, changed(|g| g.machine.fields.platform_info ^= 1 << 5)),
        (Kind::BitRefused, against(|d| d.platform_info.iommu_write_safe = opposite(d.platform_info.iommu_write_safe))),
        (Kind::ChipNotListed, against(|d| d.platforms = SnpPlatforms::Listed { chip_id: vec![Hex([9; 64])] })),
        (Kind::ProviderUnknown, {
            let mut guest = SnpGuest::default();
            guest.use_vlek("CN=simulated.example");
            let mut document = captured(&guest);
            document.snp.as_mut().unwrap().vlek_csp_ids.clear();
            judged(&guest, document)
        }),
        (Kind::KindUnknown, {
            let document = super::captured(&tests::genuine::Machine::default());
            let guest = SnpGuest::default();
            with_bound(&guest, |bound| {
                let now = tests::genuine::Machine::default().now;
                values(document).all_failures(&Observed::of(bound.claims(), now), now)
            })
        }),
    ]
}

fn opposite(rule: BitRule) -> BitRule {
    match rule {
        BitRule::Required => BitRule::Forbidden,
        BitRule::Forbidden | BitRule::Any => BitRule::Required,
    }
}

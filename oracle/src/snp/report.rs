//! Mutants of a report, field by field (AMD 56860, table "ATTESTATION_REPORT structure").

use simulators::amd::{REPORT_LEN, SIGNED_LEN, little_endian_signature};

use super::{SnpCase, World};
use crate::{
    Mutant,
    pick::{Pick, WAYS, change},
};

/// Name, offset, length: all 1184 bytes.
const FIELDS: &[(&str, usize, usize)] = &[
    ("version", 0x000, 4),
    ("guest_svn", 0x004, 4),
    ("policy", 0x008, 8),
    ("policy.abi", 0x008, 2),
    ("policy.flags", 0x00a, 2),
    ("policy.reserved", 0x00c, 4),
    ("family_id", 0x010, 16),
    ("image_id", 0x020, 16),
    ("vmpl", 0x030, 4),
    ("vmpl", 0x030, 1),
    ("signature_algo", 0x034, 4),
    ("current_tcb", 0x038, 8),
    ("platform_info", 0x040, 8),
    ("platform_info", 0x040, 1),
    ("key_info", 0x048, 4),
    ("key_info", 0x048, 1),
    ("reserved_04c", 0x04c, 4),
    ("report_data", 0x050, 64),
    ("measurement", 0x090, 48),
    ("host_data", 0x0c0, 32),
    ("id_key_digest", 0x0e0, 48),
    ("author_key_digest", 0x110, 48),
    ("report_id", 0x140, 32),
    ("report_id_ma", 0x160, 32),
    ("reported_tcb", 0x180, 8),
    ("cpuid", 0x188, 3),
    ("cpuid.family", 0x188, 1),
    ("cpuid.model", 0x189, 1),
    ("cpuid.stepping", 0x18a, 1),
    ("reserved_18b", 0x18b, 21),
    ("chip_id", 0x1a0, 64),
    ("chip_id.tail", 0x1a8, 56),
    ("committed_tcb", 0x1e0, 8),
    ("current_version", 0x1e8, 3),
    ("reserved_1eb", 0x1eb, 1),
    ("committed_version", 0x1ec, 3),
    ("reserved_1ef", 0x1ef, 1),
    ("launch_tcb", 0x1f0, 8),
    ("mitigations", 0x1f8, 16),
    ("reserved_208", 0x208, 152),
    ("signature.r", 0x2a0, 48),
    ("signature.r.high", 0x2d0, 24),
    ("signature.s", 0x2e8, 48),
    ("signature.s.high", 0x318, 24),
    ("signature.reserved", 0x330, 368),
];

/// Mutant `at` of the reports: every field in every way on every base, signed again and not; then combinations.
pub(super) fn mutant(world: &World, pick: &mut Pick, at: usize) -> (usize, Mutant<SnpCase>) {
    let bases = world.bases.len();
    let (base, rest) = (at % bases, at / bases);
    let (field, rest) = (rest % (FIELDS.len() + 1), rest / (FIELDS.len() + 1));
    let (is_resigned, way) = (rest % 2 == 0, rest / 2);
    let of = &world.bases[base];
    let other = &world.bases[pick.below(bases)].genuine.report;
    let mut report = of.genuine.report.clone();
    let Some((name, offset, len)) = FIELDS.get(field) else {
        return (
            base,
            Mutant {
                field: "report.length".into(),
                how: resize(pick, way, &mut report),
                evidence: SnpCase { report, ..of.genuine.clone() },
            },
        );
    };
    let (name, mut how) = if way < WAYS {
        let how = change(pick, way, &mut report, *offset, *len, &other[*offset..*offset + *len]);
        (format!("report.{name}"), how.to_owned())
    } else {
        // the same field in a random way, or the bytes of another field of this report
        let (from, at, _) = *pick.one(FIELDS);
        let moved: Vec<u8> = report.iter().copied().cycle().skip(at).take(*len).collect();
        if pick.once_in(2) {
            report[*offset..*offset + *len].copy_from_slice(&moved);
            (format!("report.{name}"), format!("bytes of {from}"))
        } else {
            let how = change(pick, 0, &mut report, *offset, *len, &moved);
            (format!("report.{name}"), how.to_owned())
        }
    };
    if is_resigned && *offset < SIGNED_LEN {
        let signature = of.vek.key.sign_fixed(&report[..SIGNED_LEN]).expect("signed");
        report[SIGNED_LEN..SIGNED_LEN + 144].copy_from_slice(&little_endian_signature(&signature));
        how.push_str(", signed again");
    }
    (base, Mutant { field: name, how, evidence: SnpCase { report, ..of.genuine.clone() } })
}

fn resize(pick: &mut Pick, way: usize, report: &mut Vec<u8>) -> String {
    let len = match way % 6 {
        0 => 0,
        1 => REPORT_LEN - 1,
        2 => REPORT_LEN + 1,
        3 => SIGNED_LEN,
        4 => REPORT_LEN * 2,
        _ => pick.below(REPORT_LEN * 2),
    };
    report.resize(len, 0);
    format!("{len} bytes")
}

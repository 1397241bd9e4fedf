//! SNP reports, certificate tables of hosts and Azure's HCL reports.
#![no_main]

use std::sync::LazyLock;

use evidence::{
    hcl::HclReport,
    sev_snp::{CertificateTable, Revocation, SnpReport, VerifiedVek, cert_table::CertificateKind},
    time::UnixSeconds,
};
use fuzz::{NOW, Roots, patched};
use libfuzzer_sys::fuzz_target;
use simulators::amd::{Product, SnpMachine, Vek};

struct Genuine {
    vek: Vek,
    verified: VerifiedVek,
    report: Vec<u8>,
    table: Vec<u8>,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let machine = SnpMachine::new(Product::Turin, NOW).unwrap();
    let vek = machine.vek().unwrap();
    let simulators::amd::SnpEvidence { report, certificates } = machine.report_with([7; 64], &vek).unwrap();
    let authority = &machine.authority;
    let roots = Roots::of("Turin", &authority.ark);
    let (ask, ark, list) = (Some(&*authority.ask), Some(&*authority.ark), Revocation::List(&authority.crl));
    let verified = VerifiedVek::verify(&vek.certificate, ask, ark, list, &roots.snp(), UnixSeconds(NOW)).unwrap();
    Genuine { vek, verified, report, table: certificates }
});

fuzz_target!(|bytes: &[u8]| {
    let Some((way, bytes)) = bytes.split_first() else { return };
    match way % 5 {
        0 => {
            let report = patched(&GENUINE.report, bytes);
            if let Ok(read) = SnpReport::parse(&report)
                && GENUINE.verified.authenticate(&read).is_ok()
            {
                assert_eq!(report, GENUINE.report, "nothing of a report is free");
            }
        }
        // signed again: what is judged after the signature
        1 => {
            let mut report = patched(&GENUINE.report, bytes);
            let Some((signed, rest)) = report.split_at_mut_checked(0x2a0) else { return };
            let signature = simulators::amd::little_endian_signature(&GENUINE.vek.key.sign_fixed(signed).unwrap());
            rest[..144].copy_from_slice(&signature);
            if let Ok(read) = SnpReport::parse(&report) {
                let _ = GENUINE.verified.authenticate(&read);
            }
        }
        2 => table(&patched(&GENUINE.table, bytes)),
        3 => table(bytes),
        _ => {
            if let Ok(report) = HclReport::parse(bytes) {
                let mut data = [0; 64];
                // the claims are the last of a report and its length is at 0x4a0 + 0x20 + 16
                let claims = bytes.get(1236..).unwrap_or(&[]);
                let digest = report.hash().hash(&[claims]);
                data.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
                let _ = report.runtime_claims(&data);
            }
        }
    }
});

fn table(bytes: &[u8]) {
    let Ok(table) = CertificateTable::parse(bytes) else { return };
    let _ = table.vek();
    for entry in table.entries() {
        let _ = entry.kind().map(|kind: CertificateKind| table.der(kind));
    }
}

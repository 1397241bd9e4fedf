//! The reader of SNP evidence takes what the fake AMD makes, of every product and with either endorsement key, in a lab
//! that pinned its root, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use evidence::{
    anchors::RootPin,
    digest::Sha256Digest,
    sev_snp::{Revocation, SnpReport, SnpRoots, VerifiedVek},
    time::UnixSeconds,
};
use simulators::amd::{Product, SnpMachine};

/// 2026-11-22T05:15:00Z.
const NOW: u64 = 1_795_324_500;

#[test]
fn evidence_of_every_product_and_key_is_authentic_in_its_lab_alone() {
    for (product, vlek) in Product::ALL.into_iter().flat_map(|product| [(product, false), (product, true)]) {
        let mut machine = SnpMachine::new(product, NOW).unwrap();
        if vlek {
            machine.use_vlek("CN=simulated.example");
        }
        let authority = &machine.authority;
        let intermediate = if vlek { &authority.asvk } else { &authority.ask };
        let ark = Sha256Digest(sha256(&authority.ark));
        let pins = BTreeMap::from([(authority.line.name().to_owned(), BTreeSet::from([RootPin::Certificate(ark)]))]);
        let (none, nothing) = (BTreeMap::new(), BTreeSet::new());
        let lab = SnpRoots::lab_accepting_simulated(&none, &pins, &nothing);
        let vek = machine.vek().unwrap();
        let verify = |roots: &SnpRoots<'_>| {
            VerifiedVek::verify(
                &vek.certificate,
                Some(intermediate),
                Some(&authority.ark),
                Revocation::List(&authority.crl),
                roots,
                UnixSeconds(NOW),
            )
        };
        let verified = verify(&lab).unwrap_or_else(|denial| panic!("{product:?}, VLEK {vlek}: {denial}"));
        let evidence = machine.report_with([0x42; 64], &vek).unwrap();
        let report = SnpReport::parse(&evidence.report).unwrap();
        if let Err(denial) = verified.authenticate(&report) {
            panic!("{product:?}, VLEK {vlek}: {denial}");
        }
        assert!(verify(&SnpRoots::genuine()).is_err(), "{product:?}: AMD's roots vouch for no simulator");
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().try_into().unwrap()
}

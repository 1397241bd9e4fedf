//! The fake AMD against openssl and against genuine evidence.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout
)]

mod support;

use std::{collections::BTreeMap, path::Path};

use simulators::{
    amd::{
        AmdAuthority, AmdKeys, EndorsementKey, KeyInfo, Product, ProductLine, REPORT_LEN, SIGNED_LEN, SigningKey,
        SnpMachine, SnpReportFields, VekFields, oids,
    },
    keys::Signer,
    layout::flip,
    x509::{RevokedCertificate, certificate_pem},
};
use support::{NOW, corpus, der_of, genuine_cases, hex_of, openssl, shape};

fn write_chain(folder: &Path, authority: &AmdAuthority, intermediate: &[u8], leaf: &[u8]) {
    std::fs::write(folder.join("ark.pem"), certificate_pem(&authority.ark)).unwrap();
    std::fs::write(folder.join("intermediate.pem"), certificate_pem(intermediate)).unwrap();
    std::fs::write(folder.join("leaf.pem"), certificate_pem(leaf)).unwrap();
    std::fs::write(folder.join("crl.der"), &authority.crl).unwrap();
    let (done, said) = openssl(folder, &["crl", "-inform", "der", "-in", "crl.der", "-out", "crl.pem"]);
    assert!(done, "{said}");
}

fn verify(folder: &Path) -> (bool, String) {
    let at = NOW.to_string();
    openssl(folder, &["verify", "-attime", &at, "-CAfile", "ark.pem", "-untrusted", "intermediate.pem", "leaf.pem"])
}

#[test]
fn openssl_takes_both_chains_of_every_line() {
    for product in [Product::Milan, Product::Genoa, Product::Turin] {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = SnpMachine::new(product, NOW).unwrap();
        let authority = machine.authority.clone();
        write_chain(folder.path(), &authority, &authority.ask, &machine.vek().unwrap().certificate);
        let (good, said) = verify(folder.path());
        assert!(good, "{product:?}: {said}");

        machine.use_vlek("CN=simulated.example");
        write_chain(folder.path(), &authority, &authority.asvk, &machine.vek().unwrap().certificate);
        let (good, said) = verify(folder.path());
        assert!(good, "{product:?}: {said}");
    }
}

#[test]
fn openssl_refuses_a_leaf_signed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let machine = SnpMachine::new(Product::Genoa, NOW).unwrap();
    let fields = machine.vek_fields();
    let key = fields.derive_key().unwrap();
    let forged =
        fields.certificate_fields(&machine.authority, &key).sign(Signer::RsaPss(&AmdKeys::foreign().unwrap())).unwrap();
    write_chain(folder.path(), &machine.authority, &machine.authority.ask, &forged);
    let (good, said) = verify(folder.path());
    assert!(!good, "{said}");
}

#[test]
fn openssl_takes_the_crl_and_sees_a_revoked_ask() {
    let folder = tempfile::tempdir().unwrap();
    let mut authority = AmdAuthority::published(ProductLine::Milan, NOW).unwrap();
    let leaf = authority.issue(&VekFields::vcek(&authority, &[9; 64], Product::Milan.current_tcb())).unwrap();
    let ask = authority.ask.clone();
    write_chain(folder.path(), &authority, &ask, &leaf.certificate);
    let (good, said) = openssl(folder.path(), &["crl", "-in", "crl.pem", "-CAfile", "ark.pem", "-noout"]);
    assert!(good && said.contains("verify OK"), "{said}");
    let at = NOW.to_string();
    let check =
        ["verify", "-attime", &at, "-crl_check", "-CRLfile", "crl.pem", "-CAfile", "ark.pem", "intermediate.pem"];
    let (good, said) = openssl(folder.path(), &check);
    assert!(good, "{said}");

    let mut fields = authority.crl_fields();
    fields.revoked = vec![RevokedCertificate { serial: authority.ask_fields().serial, at: NOW - 60, reason: 1 }];
    authority.crl = fields.sign(Signer::RsaPssTrailer(&authority.keys.ark)).unwrap();
    write_chain(folder.path(), &authority, &ask, &leaf.certificate);
    let (good, said) = openssl(folder.path(), &check);
    assert!(!good && said.contains("certificate revoked"), "{said}");
}

#[test]
fn openssl_verifies_the_report_with_the_leaf_key() {
    for product in Product::ALL {
        let folder = tempfile::tempdir().unwrap();
        let machine = SnpMachine::new(product, NOW).unwrap();
        let vek = machine.vek().unwrap();
        let mut report = machine.report_with([7; 64], &vek).unwrap().report;
        assert_eq!(report.len(), REPORT_LEN);
        assert!(openssl_takes_report(folder.path(), &vek.certificate, &report), "{product:?}");
        assert!(flip(&mut report, 0x90, 1));
        assert!(!openssl_takes_report(folder.path(), &vek.certificate, &report), "{product:?}");
    }
}

fn openssl_takes_report(folder: &Path, certificate: &[u8], report: &[u8]) -> bool {
    let big_endian = |range: std::ops::Range<usize>| {
        let bytes: Vec<u8> = report[range].iter().rev().copied().collect();
        simulators::asn1::unsigned(&bytes)
    };
    let signature = simulators::asn1::sequence(&[big_endian(0x2a0..0x2e8), big_endian(0x2e8..0x330)]);
    std::fs::write(folder.join("body"), &report[..SIGNED_LEN]).unwrap();
    std::fs::write(folder.join("signature"), signature).unwrap();
    std::fs::write(folder.join("leaf.pem"), certificate_pem(certificate)).unwrap();
    let (done, said) = openssl(folder, &["x509", "-in", "leaf.pem", "-noout", "-pubkey", "-out", "key.pem"]);
    assert!(done, "{said}");
    openssl(folder, &["dgst", "-sha384", "-verify", "key.pem", "-signature", "signature", "body"]).0
}

#[test]
fn endorsement_keys_differ_by_chip_and_tcb_and_repeat() {
    let mut machine = SnpMachine::new(Product::Genoa, NOW).unwrap();
    let key = |machine: &SnpMachine| machine.vek_fields().derive_key().unwrap().public_point().to_vec();
    let first = key(&machine);
    assert_eq!(first, key(&machine));
    machine.set_chip_id([3; 64]);
    let other_chip = key(&machine);
    let mut tcb = Product::Genoa.current_tcb();
    tcb.snp -= 1;
    machine.set_tcb(tcb);
    assert_ne!(first, other_chip);
    assert_ne!(other_chip, key(&machine));
}

#[test]
fn certificates_have_the_shape_of_genuine_ones() {
    let Some(root) = corpus() else { return };
    for (line, name) in [(ProductLine::Milan, "milan"), (ProductLine::Genoa, "genoa"), (ProductLine::Turin, "turin")] {
        let authority = AmdAuthority::published(line, NOW).unwrap();
        for (kind, simulated) in [("ark", &authority.ark), ("ask", &authority.ask), ("asvk", &authority.asvk)] {
            let genuine = der_of(&root.join(format!("roots/amd-{name}-{kind}.pem")));
            assert_eq!(shape(simulated), shape(&genuine), "{name} {kind}");
            assert_eq!(serial(simulated), serial(&genuine), "{name} {kind}");
            assert_eq!(simulated.len(), genuine.len(), "{name} {kind}");
        }
    }
    for (product, file) in [
        (Product::Milan, "milan-aci-vcek.pem"),
        (Product::Genoa, "genoa-aci-vcek.pem"),
        (Product::Genoa, "genoa-v3-tsm-vcek.pem"),
        (Product::Turin, "turin-aci-vcek.pem"),
    ] {
        let genuine = der_of(&root.join("snp").join(file));
        let simulated = SnpMachine::new(product, NOW).unwrap().vek().unwrap().certificate;
        assert_eq!(shape(&simulated), shape(&genuine), "{file}");
        assert_eq!(simulated.len(), genuine.len(), "{file}");
    }
    let genuine = der_of(&root.join("snp/milan-v3-vlek.der"));
    let mut machine = SnpMachine::new(Product::Milan, NOW).unwrap();
    machine.use_vlek("CN=cc-us-east-2.amazonaws.com");
    assert_eq!(shape(&machine.vek().unwrap().certificate), shape(&genuine));
    let mut old = SnpMachine::new(Product::Milan, NOW).unwrap().vek_fields();
    old.pss_trailer = true;
    old.tcb.microcode = 0x73;
    let authority = AmdAuthority::published(ProductLine::Milan, NOW).unwrap();
    assert_eq!(shape(&authority.issue(&old).unwrap().certificate), shape(&der_of(&root.join("snp/milan-v2-vcek.der"))));
}

fn serial(certificate: &[u8]) -> Vec<u8> {
    let body = support::element(support::element(certificate).1).1;
    let after_version = support::element(body).2;
    support::element(after_version).1.to_vec()
}

/// Fields named by the corpus, written by this crate, give the genuine bytes: so each stands at its offset.
#[test]
fn genuine_reports_are_rebuilt_from_their_fields() {
    let Some(root) = corpus() else { return };
    let mut versions = BTreeMap::new();
    for case in genuine_cases(&root, "snp-report") {
        let genuine = std::fs::read(root.join(case["files"]["report"].as_str().unwrap())).unwrap();
        let said = &case["expected"]["report"];
        let bytes = |name: &str| hex_of(&said[name]);
        let number = |name: &str| u64::from_str_radix(&said[name].as_str().unwrap()[2..], 16).unwrap();
        let small = |name: &str| u32::try_from(said[name].as_u64().unwrap()).unwrap();
        let version = small("version");
        let signing_key = match said["signing_key"].as_str().unwrap() {
            "VCEK" => SigningKey::Vcek,
            "VLEK" => SigningKey::Vlek,
            other => panic!("{other}"),
        };
        let fields = SnpReportFields {
            version,
            guest_svn: small("guest_svn"),
            policy: number("policy"),
            // The corpus names the fields that verifiers report; the others are taken over.
            family_id: genuine[0x10..0x20].try_into().unwrap(),
            image_id: genuine[0x20..0x30].try_into().unwrap(),
            vmpl: small("vmpl"),
            signature_algo: 1,
            current_tcb: bytes("current_tcb").try_into().unwrap(),
            platform_info: number("platform_info"),
            key_info: KeyInfo { author_key_en: genuine[0x48] & 1 != 0, mask_chip_key: false, signing_key, reserved: 0 },
            report_data: bytes("report_data").try_into().unwrap(),
            measurement: bytes("measurement").try_into().unwrap(),
            host_data: bytes("host_data").try_into().unwrap(),
            id_key_digest: bytes("id_key_digest").try_into().unwrap(),
            author_key_digest: bytes("author_key_digest").try_into().unwrap(),
            report_id: genuine[0x140..0x160].try_into().unwrap(),
            report_id_ma: [0xff; 32],
            reported_tcb: bytes("reported_tcb").try_into().unwrap(),
            cpuid: bytes("cpuid_fam_mod_step").try_into().unwrap(),
            chip_id: bytes("chip_id").try_into().unwrap(),
            committed_tcb: bytes("committed_tcb").try_into().unwrap(),
            current_version: genuine[0x1e8..0x1eb].try_into().unwrap(),
            committed_version: genuine[0x1ec..0x1ef].try_into().unwrap(),
            launch_tcb: bytes("launch_tcb").try_into().unwrap(),
            launch_mit_vector: if version >= 5 { 0x3f } else { 0 },
            current_mit_vector: if version >= 5 { 0x3f } else { 0 },
            overlay: vec![],
        };
        assert_eq!(hex::encode(fields.body()), hex::encode(&genuine[..SIGNED_LEN]), "{}", case["id"]);
        *versions.entry(version).or_insert(0) += 1;
    }
    assert!(versions.keys().copied().eq([2, 3, 5]), "{versions:?}");
}

#[test]
fn a_genuine_tcb_is_encoded_alike() {
    let Some(root) = corpus() else { return };
    for case in genuine_cases(&root, "snp-report") {
        let said = &case["expected"]["tcb"];
        let level = |name: &str| u8::try_from(said[name].as_u64().unwrap_or(0)).unwrap();
        let line = if said["fmcSPL"].is_null() { ProductLine::Genoa } else { ProductLine::Turin };
        let tcb = simulators::amd::Tcb {
            fmc: level("fmcSPL"),
            boot_loader: level("blSPL"),
            tee: level("teeSPL"),
            snp: level("snpSPL"),
            microcode: level("ucodeSPL"),
        };
        assert_eq!(hex::encode(tcb.encode(line)), case["expected"]["report"]["reported_tcb"], "{}", case["id"]);
    }
}

#[test]
fn the_certificate_table_is_laid_out_as_a_genuine_one() {
    let Some(root) = corpus() else { return };
    let genuine = std::fs::read(root.join("snp/genoa-v3-tsm-auxblob.bin")).unwrap();
    let mut machine = SnpMachine::new(Product::Genoa, NOW).unwrap();
    machine.pem_certificates = true;
    let simulated = machine.report([0; 64]).unwrap().certificates;
    // Three entries of 24 bytes and the zero entry. The genuine PEM has no newline at its end.
    assert_eq!(guids(&simulated), guids(&genuine));
    assert_eq!(simulated[16..20], genuine[16..20], "the first certificate's offset");
    assert_eq!(simulated[72..96], [0; 24]);
    for table in [&simulated, &genuine] {
        let mut end = 96;
        for row in 0..3 {
            let word = |at: usize| usize::try_from(u32::from_le_bytes(table[at..at + 4].try_into().unwrap())).unwrap();
            assert_eq!(word(row * 24 + 16), end);
            end += word(row * 24 + 20);
            assert!(table[word(row * 24 + 16)..].starts_with(b"-----BEGIN CERTIFICATE-----\n"));
        }
        assert_eq!(end, table.len());
    }
}

fn guids(table: &[u8]) -> Vec<&[u8]> {
    table.chunks(24).take(4).map(|row| &row[..16]).collect()
}

#[test]
fn a_vlek_machine_masks_its_chip() {
    let mut machine = SnpMachine::new(Product::Genoa, NOW).unwrap();
    machine.use_vlek("CN=simulated.example");
    assert_eq!(machine.endorsement_key, EndorsementKey::Vlek { csp_id: "CN=simulated.example".to_owned() });
    let evidence = machine.report([1; 64]).unwrap();
    assert_eq!(evidence.report[0x48], 0b100);
    assert_eq!(evidence.report[0x1a0..0x1e0], [0; 64]);
    let fields = machine.vek_fields().certificate_fields(&machine.authority, &machine.vek().unwrap().key);
    assert!(fields.extensions.iter().any(|extension| extension.oid == oids::CSP_ID));
    assert!(!fields.extensions.iter().any(|extension| extension.oid == oids::HWID));
}

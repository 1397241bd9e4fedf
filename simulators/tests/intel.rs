//! The fake Intel against openssl and against genuine evidence.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout
)]

mod support;

use std::path::Path;

use serde_json::Value;
use simulators::{
    asn1,
    ccel::EventLog,
    intel::{IntelAuthority, PckCa, TdBody, TdQuoteFields, TdxMachine, sign_text},
    keys::Signer,
    layout::flip,
    x509::{RevokedCertificate, certificate_pem},
};
use support::{NOW, corpus, genuine_cases, hex_of, openssl, pem_blocks, shape};

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn openssl_takes_the_pck_chain_with_both_crls_and_sees_a_revoked_pck() {
    for ca in [PckCa::Platform, PckCa::Processor] {
        let folder = tempfile::tempdir().unwrap();
        let authority = IntelAuthority::published(NOW).unwrap();
        let mut machine = TdxMachine::with_authority(4, authority.clone()).unwrap();
        machine.pck.ca = ca;
        let pck = machine.pck_chain().unwrap();
        let certificates = pem_blocks(pck.pem.as_bytes());
        assert_eq!(certificates, [&pck.certificate, authority.pck_ca(ca), &authority.root].map(<[u8]>::to_vec));
        for (name, der) in ["leaf.pem", "ca.pem", "root.pem"].iter().zip(&certificates) {
            std::fs::write(folder.path().join(name), certificate_pem(der)).unwrap();
        }
        let mut pck_crl = authority.pck_crl_fields(ca);
        let signer = Signer::Ec(authority.pck_ca_key(ca));
        let root_crl = authority.root_crl_fields().sign(Signer::Ec(&authority.keys.root)).unwrap();
        let (good, said) = verify_with_crls(folder.path(), &root_crl, &pck_crl.sign(signer).unwrap());
        assert!(good, "{said}");
        pck_crl.revoked = vec![RevokedCertificate { serial: machine.pck.serial.clone(), at: NOW - 60, reason: 1 }];
        let (good, said) = verify_with_crls(folder.path(), &root_crl, &pck_crl.sign(signer).unwrap());
        assert!(!good && said.contains("certificate revoked"), "{said}");
    }
}

fn verify_with_crls(folder: &Path, root_crl: &[u8], pck_crl: &[u8]) -> (bool, String) {
    for (name, der) in [("root", root_crl), ("pck", pck_crl)] {
        std::fs::write(folder.join(name), der).unwrap();
        let (done, said) = openssl(folder, &["crl", "-inform", "der", "-in", name, "-out", &format!("{name}.crl")]);
        assert!(done, "{said}");
    }
    let at = NOW.to_string();
    let mut args = vec!["verify", "-attime", &at, "-crl_check_all", "-CRLfile", "root.crl", "-CRLfile", "pck.crl"];
    args.extend(["-CAfile", "root.pem", "-untrusted", "ca.pem", "leaf.pem"]);
    openssl(folder, &args)
}

#[test]
fn openssl_verifies_every_signature_of_a_quote() {
    for version in [4, 5] {
        let machine = TdxMachine::new(version, NOW).unwrap();
        let mut quote = machine.quote([9; 64]).unwrap();
        assert_eq!(quote_signatures(&machine, &quote), [true, true]);
        assert!(flip(&mut quote, 200, 1), "MRTD or near");
        assert_eq!(quote_signatures(&machine, &quote), [false, true]);
    }
}

/// Of header and body by the attestation key, of the QE report by the PCK.
fn quote_signatures(machine: &TdxMachine, quote: &[u8]) -> [bool; 2] {
    let signed = if machine.quote.version == 4 { 48 + 584 } else { 48 + 6 + 648 };
    let data = &quote[signed + 4..];
    let qe_report = &data[128 + 6..128 + 6 + 384];
    let pck = machine.pck_chain().unwrap();
    let attestation = machine.attestation_key().unwrap();
    assert_eq!(data[64..128], attestation.public_point()[1..]);
    [
        openssl_takes(&attestation.public_key_info(), &data[..64], &quote[..signed]),
        openssl_takes(&pck.key.public_key_info(), &data[128 + 6 + 384..128 + 6 + 384 + 64], qe_report),
    ]
}

fn openssl_takes(public_key_info: &[u8], signature: &[u8], message: &[u8]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (r, s) = signature.split_at(32);
    let der = asn1::sequence(&[asn1::unsigned(r), asn1::unsigned(s)]);
    for (name, bytes) in [("key", public_key_info), ("signature", &der), ("message", message)] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let args = ["dgst", "-sha256", "-keyform", "der", "-verify", "key", "-signature", "signature", "message"];
    openssl(folder.path(), &args).0
}

#[test]
fn collateral_is_signed_as_text() {
    let machine = TdxMachine::new(5, NOW).unwrap();
    let collateral = machine.collateral().unwrap();
    let key = machine.authority.keys.tcb_signing.public_key_info();
    for (text, signature) in [
        (&collateral.tcb_info, &collateral.tcb_info_signature),
        (&collateral.qe_identity, &collateral.qe_identity_signature),
    ] {
        assert!(openssl_takes(&key, &hex::decode(signature).unwrap(), text.as_bytes()));
        let respaced = text.replacen(':', ": ", 1);
        assert!(!openssl_takes(&key, &hex::decode(signature).unwrap(), respaced.as_bytes()));
    }
    let other = sign_text(&machine.authority.keys.root, &collateral.tcb_info).unwrap();
    assert!(!openssl_takes(&key, &hex::decode(other).unwrap(), collateral.tcb_info.as_bytes()));
}

#[test]
fn certificates_and_collateral_have_the_shape_of_genuine_ones() {
    let Some(root) = corpus() else { return };
    let genuine = read_json(&root.join("dcap/collateral-90c06f-tdx-2026-03.json"));
    let machine = TdxMachine::new(5, NOW).unwrap();
    let simulated: Value = serde_json::from_str(&machine.collateral().unwrap().to_json().unwrap()).unwrap();
    assert!(genuine.as_object().unwrap().keys().eq(simulated.as_object().unwrap().keys()));
    for chain in ["tcb_info_issuer_chain", "pck_crl_issuer_chain", "qe_identity_issuer_chain"] {
        let blocks = |json: &Value| pem_blocks(json[chain].as_str().unwrap().as_bytes());
        let [genuine, simulated] = [blocks(&genuine), blocks(&simulated)];
        assert_eq!(genuine.len(), simulated.len(), "{chain}");
        for (genuine, simulated) in genuine.iter().zip(&simulated) {
            assert_eq!(shape(simulated), shape(genuine), "{chain}");
        }
    }
    assert_eq!(shape(&hex_of(&simulated["root_ca_crl"])), shape(&hex_of(&genuine["root_ca_crl"])));
    for text in ["tcb_info", "qe_identity"] {
        let keys = |json: &Value| key_paths(json[text].as_str().unwrap());
        assert_eq!(keys(&simulated), keys(&genuine), "{text}");
    }
    let quote = std::fs::read(root.join("dcap/tdx-v5-90c06f-2026-quote.bin")).unwrap();
    let pck =
        pem_blocks(&quote[quote.windows(10).position(|window| window == b"-----BEGIN").unwrap()..quote.len() - 1]);
    let chain = pem_blocks(machine.pck_chain().unwrap().pem.as_bytes());
    for (simulated, genuine) in chain.iter().zip(&pck) {
        assert_eq!(shape(simulated), shape(genuine));
    }
    let sgx = machine.pck.sgx_extensions().value;
    let genuine_sgx = octet_string_of(&pck[0], 554);
    assert_eq!(shape(&sgx), shape(&genuine_sgx));
}

/// The octet string of that length in a certificate.
fn octet_string_of(certificate: &[u8], len: u16) -> Vec<u8> {
    let header = [&[0x04, 0x82], len.to_be_bytes().as_slice()].concat();
    let at = certificate.windows(4).position(|window| window == header).unwrap() + 4;
    certificate[at..at + usize::from(len)].to_vec()
}

/// The keys in the order of the text, values left out. Advisories differ in number.
fn key_paths(text: &str) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for part in text.split("\":") {
        let key = part.rsplit('"').next().unwrap().to_owned();
        if keys.last() != Some(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Fields named by the corpus, written by this crate, give the genuine header and body: so each stands at its offset.
#[test]
fn genuine_quotes_are_rebuilt_from_their_fields() {
    let Some(root) = corpus() else { return };
    let mut seen = Vec::new();
    for case in genuine_cases(&root, "dcap-quote") {
        let said = &case["expected"]["quote"];
        if said["tee_type"] != "0x81" {
            continue;
        }
        let genuine = std::fs::read(root.join(case["files"]["quote"].as_str().unwrap())).unwrap();
        let bytes48 = |name: &str| -> [u8; 48] { hex_of(&said[name]).try_into().unwrap() };
        let word = |name: &str| u64::from_le_bytes(hex_of(&said[name]).try_into().unwrap());
        let version = u16::try_from(said["version"].as_u64().unwrap()).unwrap();
        let tail = if version == 5 { &genuine[54 + 584..54 + 648] } else { &[0; 64] };
        let mut fields = TdQuoteFields::new(version);
        fields.user_data = genuine[28..48].try_into().unwrap();
        fields.body = TdBody {
            tee_tcb_svn: hex_of(&said["tee_tcb_svn"]).try_into().unwrap(),
            mr_seam: bytes48("mrseam"),
            mr_signer_seam: bytes48("mrsignerseam"),
            seam_attributes: 0,
            td_attributes: word("td_attributes"),
            xfam: word("xfam"),
            mr_td: bytes48("mr_td"),
            mr_config_id: bytes48("mr_config_id"),
            mr_owner: bytes48("mr_owner"),
            mr_owner_config: bytes48("mr_owner_config"),
            rtmrs: ["rtmr0", "rtmr1", "rtmr2", "rtmr3"].map(bytes48),
            report_data: hex_of(&said["report_data"]).try_into().unwrap(),
            // The corpus names no field of TDX 1.5: taken over.
            tee_tcb_svn_2: tail[..16].try_into().unwrap(),
            mr_service_td: tail[16..].try_into().unwrap(),
        };
        let signed = fields.signed_part();
        assert_eq!(hex::encode(&signed), hex::encode(&genuine[..signed.len()]), "{}", case["id"]);
        seen.push(version);
    }
    assert!(seen.contains(&4) && seen.contains(&5), "{seen:?}");
}

#[test]
fn a_quote_is_as_long_as_a_genuine_one() {
    let machine = TdxMachine::new(5, NOW).unwrap();
    let quote = machine.quote([1; 64]).unwrap();
    let word = |at: usize| usize::try_from(u32::from_le_bytes(quote[at..at + 4].try_into().unwrap())).unwrap();
    assert_eq!(word(50), 648);
    let data = 48 + 6 + 648 + 4;
    assert_eq!(word(data - 4), quote.len() - data);
    assert_eq!(word(data + 130), quote.len() - data - 134, "certification data runs to the end");
    // Signatures in certificates vary by a few bytes.
    assert!((5000..=5016).contains(&quote.len()), "{}", quote.len());
}

#[test]
fn the_event_log_replays_to_the_rtmrs_and_reads_as_a_genuine_one() {
    let machine = TdxMachine::new(4, NOW).unwrap();
    assert_eq!(machine.quote.body.rtmrs, machine.event_log.rtmrs());
    assert_ne!(machine.event_log.rtmrs()[..3], [[0; 48]; 3]);
    assert_eq!(machine.event_log.rtmrs()[3], [0; 48]);
    let mut later = machine.event_log.clone();
    later.extend_runtime(b"runtime");
    assert_eq!(later.rtmrs()[..3], machine.event_log.rtmrs()[..3]);
    assert_ne!(later.rtmrs()[3], [0; 48]);

    let Some(root) = corpus() else { return };
    let genuine = std::fs::read(root.join("eventlog/intel-ccel-unpadded.bin")).unwrap();
    let log = EventLog::booted().encode();
    assert_eq!(log[..32 + 33], genuine[..32 + 33], "the Spec ID event");
    let (ours, theirs) = (kinds(&log), kinds(&genuine));
    for kind in &ours {
        assert!(theirs.contains(kind), "{kind:?}");
    }
}

/// Register and type of each event after the Spec ID event.
fn kinds(log: &[u8]) -> Vec<(u32, u32)> {
    let word = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().unwrap());
    let mut kinds = Vec::new();
    let mut at = 32 + usize::try_from(word(28)).unwrap();
    while at < log.len() {
        kinds.push((word(at), word(at + 4)));
        assert_eq!(word(at + 8), 1);
        at += 12 + 2 + 48;
        at += 4 + usize::try_from(word(at)).unwrap();
    }
    kinds
}

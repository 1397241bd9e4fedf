//! The TPM actor against a real software TPM.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stderr
)]

use std::collections::BTreeSet;
use std::time::Instant;

use attestd::config::{EkKind, TpmConfig};
use attestd::demo::swtpm::Swtpm;
use attestd::tpm::esys::EsysTransport;
use attestd::tpm::{HandleCounts, PcrSelection, Tpm};
use evidence::digest::{Digest, HashAlg};

fn config(tpm: &Swtpm) -> TpmConfig {
    toml::from_str(&format!("tcti = \"{}\"\nek = \"ecc-p256\"", tpm.tcti())).unwrap()
}

fn start() -> (tempfile::TempDir, Swtpm, Tpm) {
    let dir = tempfile::tempdir().unwrap();
    let swtpm = Swtpm::start(dir.path()).unwrap();
    let config = config(&swtpm);
    let tpm = Tpm::start(EsysTransport { tcti: config.tcti.clone() }, &config).unwrap();
    (dir, swtpm, tpm)
}

#[tokio::test]
async fn commands_leave_no_handle() {
    let (_dir, swtpm, tpm) = start();
    let t = Instant::now();
    let time = |what: &str, t: Instant| eprintln!("{what}: {:?}", t.elapsed());
    let all = PcrSelection { bank: HashAlg::Sha256, pcrs: (0..24).collect::<BTreeSet<u8>>() };
    let wanted = all.clone();
    let values = tpm.call(move |d| d.pcr_read(&wanted)).await.unwrap();
    time("connect+pcr_read 24", t);
    assert_eq!(values.len(), 24);
    let t = Instant::now();
    tpm.call(|d| d.pcr_extend(4, &[HashAlg::Sha256.hash(&[b"x"])])).await.unwrap();
    time("extend", t);
    let t = Instant::now();
    let ak = tpm.call(|d| d.create_ak()).await.unwrap();
    time("create_ak", t);
    for kind in [EkKind::EccP256, EkKind::Rsa2048] {
        let t = Instant::now();
        tpm.call(move |d| d.ek_public(kind)).await.unwrap();
        time("ek", t);
    }
    for _ in 0..3 {
        let t = Instant::now();
        let (ak, sel) = (ak.clone(), all.clone());
        tpm.call(move |d| d.quote(&ak, b"q", &sel)).await.unwrap();
        time("quote", t);
    }
    let t = Instant::now();
    let ak1 = ak.clone();
    tpm.call(move |d| d.time(&ak1, b"q")).await.unwrap();
    time("time", t);
    let none = tpm.call(|d| d.nv_read(0x01c0_000a)).await.unwrap();
    assert_eq!(none, None);
    let t = Instant::now();
    let nk = tpm.call(|d| d.create_node_key(&[0; 32])).await.unwrap();
    time("node key", t);
    for _ in 0..2 {
        let t = Instant::now();
        let (ak, nk) = (ak.clone(), nk.clone());
        tpm.call(move |d| d.certify(&nk, &ak, b"q")).await.unwrap();
        time("certify", t);
    }
    assert_eq!(tpm.call(|d| d.handles()).await.unwrap(), HandleCounts::default());
    let t = Instant::now();
    assert!(tpm.call(|d| d.banks()).await.unwrap().contains(&HashAlg::Sha256));
    time("banks", t);
    drop(tpm);
    swtpm.stop().unwrap();
    let _: Option<Digest> = None;
}

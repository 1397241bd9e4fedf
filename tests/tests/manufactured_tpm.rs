//! A software TPM as swtpm's own tools manufacture it: EK certificates by swtpm-localca in NV memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stderr)]

use std::path::Path;
use std::process::{Command, Stdio};

use attestd::config::EkKind;
use attestd::demo::swtpm::Swtpm;
use attestd::state::StateDir;
use attestd::tpm::Tpm;
use attestd::tpm::objects::{AttestationKey, Endorsement};
use evidence::anchors::{AnchorSet, RootPin, TrustAnchors};
use evidence::cose::SigningKey;
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::time::UnixSeconds;
use evidence::tpm::ek::EkEndorser;
use evidence::tpm::{Candidate, Identity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_bytes::ByteBuf;

/// Manufactures as an ordinary user would, with a CA of its own under `home`; false where the tools are not installed.
fn manufacture(home: &Path) -> bool {
    let run = |arguments: &[&str]| {
        let mut command = Command::new("swtpm_setup");
        command.args(arguments).env("XDG_CONFIG_HOME", home).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    std::fs::create_dir(home.join("tpm")).unwrap();
    let state = home.join("tpm");
    run(&["--create-config-files", "overwrite,root"])
        && run(&["--tpm2", "--tpmstate", state.to_str().unwrap(), "--create-ek-cert", "--overwrite"])
}

fn authority_file(home: &Path, name: &str) -> Vec<u8> {
    let path = home.join("var/lib/swtpm-localca").join(name);
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

#[tokio::test]
async fn its_ek_certificate_is_read_from_nv_and_chains_to_its_makers_root() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().canonicalize().unwrap();
    if !manufacture(&home) {
        eprintln!("swtpm_setup and swtpm_localca are not at hand: not tested");
        return;
    }
    let swtpm = Swtpm::start(&home.join("tpm")).unwrap();
    let config = toml::from_str(&format!("tcti = \"{}\"\nek = \"rsa-2048\"\n", swtpm.tcti())).unwrap();
    let tpm = Tpm::open(&config).unwrap();
    std::fs::create_dir(home.join("state")).unwrap();
    std::fs::set_permissions(home.join("state"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let state = StateDir::open(&home.join("state")).unwrap();

    let endorsement = Endorsement::read(&tpm, EkKind::Rsa2048).await.unwrap();
    let certificate = endorsement.certificate.expect("an EK certificate in NV");
    assert_eq!(Endorsement::read(&tpm, EkKind::EccP256).await.unwrap().certificate, None, "P-384 was manufactured");
    let ak = AttestationKey::load_or_create(&tpm, &state).await.unwrap();
    let root = authority_file(&home, "swtpm-localca-rootca-cert.pem");
    let identity = Identity {
        node_id: NodeId::new("node-1").unwrap(),
        ek_public: ByteBuf::from(endorsement.public),
        ek_chain: [certificate, authority_file(&home, "issuercert.pem"), root.clone()].map(ByteBuf::from).into(),
        ak_public: ByteBuf::from(ak.public()),
        record_key: ByteBuf::from(SigningKey::from_seed(&[1; 32]).unwrap().public().cose_key()),
    };
    let now = UnixSeconds(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
    let pin = RootPin::Certificate(Sha256Digest::of(&root));
    let lab = AnchorSet { simulated_tpm_roots: [pin].into(), ..AnchorSet::default() };
    let lab = TrustAnchors::lab_accepting_simulated(lab).unwrap();
    let candidate = Candidate::verify(&identity, &lab, now).unwrap();
    assert!(matches!(candidate.endorsement().endorser(), EkEndorser::Simulated(_)));
    let other = TrustAnchors::new(AnchorSet { pinned_eks: [Sha256Digest::ZERO].into(), ..AnchorSet::default() });
    assert!(Candidate::verify(&identity, &other.unwrap(), now).is_err());
    drop(tpm);
    swtpm.stop().unwrap();
}

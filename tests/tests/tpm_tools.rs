//! A second opinion: swtpm makes the structures and tpm2-tools drives it; our readers, policy digests and
//! MakeCredential must agree with them. Skipped, saying so, where the tools are not installed.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use attestd::{config::Tcti, demo::swtpm::Swtpm};
use der::Document;
use evidence::{
    TrustAnchors,
    anchors::{AnchorSet, RootPin},
    digest::{Digest, HashAlg, Sha256Digest},
    time::UnixSeconds,
    tpm::{
        CertifiedNodeKey, PcrSet, PcrValues, Public, Quoted, VerifyingKey,
        ek::{EkCertificate, EkEndorser},
        make_credential, policy_pcr_digest,
        template::{ak_template, ek_template},
    },
};
use zeroize::Zeroizing;

struct Tools {
    folder: tempfile::TempDir,
    tpm: Swtpm,
}

impl Tools {
    fn start() -> Option<Self> {
        Self::start_with(|_| {})
    }

    /// Starts swtpm on a state folder that `prepare` may fill first.
    fn start_with(prepare: impl FnOnce(&Path)) -> Option<Self> {
        let there =
            |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if there("swtpm").is_err() || there("tpm2_activatecredential").is_err() {
            println!("skipped: swtpm or tpm2-tools are not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        prepare(folder.path());
        let tpm = Swtpm::start(&state).unwrap();
        Some(Self { folder, tpm })
    }

    /// Runs a tool in the folder, then frees the transient objects it left.
    fn run(&self, line: &str) {
        self.tool(line);
        self.tool("tpm2_flushcontext -t");
    }

    fn tool(&self, line: &str) {
        let Tcti::Swtpm { host, port } = self.tpm.tcti() else { panic!("swtpm is reached as swtpm") };
        let mut words = line.split_whitespace();
        let output = Command::new(words.next().unwrap())
            .args(words)
            .current_dir(self.folder.path())
            .env("TPM2TOOLS_TCTI", format!("swtpm:host={host},port={port}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    /// Values of the PCRs 0 to 7 of the SHA-256 bank.
    fn pcrs(&self) -> PcrValues {
        self.run("tpm2_pcrread sha256:0,1,2,3,4,5,6,7 -o pcrs.bin");
        let values = self
            .read("pcrs.bin")
            .chunks(32)
            .map(|value| Digest::from_bytes(HashAlg::Sha256, value).unwrap())
            .collect::<Vec<_>>();
        PcrValues::new(HashAlg::Sha256, (0..8).zip(values).collect()).unwrap()
    }
}

/// tpm2-tools' file of a credential: magic, version, TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET.
fn credential_file(blob: &[u8], encrypted_secret: &[u8]) -> Vec<u8> {
    [&0xbadc_c0deu32.to_be_bytes()[..], &1u32.to_be_bytes(), blob, encrypted_secret].concat()
}

#[test]
fn a_tpm_activates_the_credentials_we_make_for_every_kind_of_ek() {
    let Some(tools) = Tools::start() else { return };
    for (algorithm, is_high_range) in [("rsa", false), ("ecc", false), ("ecc384", true)] {
        tools.run(&format!("tpm2_createek -G {algorithm} -c ek.ctx -u ek.pub"));
        tools.run("tpm2_createak -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -n ak.name");
        let (ek, ak) = (tools.read("ek.pub"), tools.read("ak.pub"));
        let (ek, ak) = (Public::read(&ek).unwrap(), Public::read(&ak).unwrap());
        ek_template(&ek).unwrap();
        ak_template(&ak).unwrap();
        assert!(ak.name().is(&tools.read("ak.name")), "{algorithm}");
        for secret in [&b"short"[..], &[0x5c; 32]] {
            let credential = make_credential(&ek, &ak.name(), secret, &Zeroizing::new([0x42; 48])).unwrap();
            fs::write(tools.path("credential"), credential_file(&credential.blob, &credential.encrypted_secret))
                .unwrap();
            if is_high_range {
                // userWithAuth: the empty password is enough
                tools.run("tpm2_activatecredential -c ak.ctx -C ek.ctx -i credential -o secret");
            } else {
                tools.tool("tpm2_startauthsession --policy-session -S session.ctx");
                tools.tool("tpm2_policysecret -S session.ctx -c e");
                tools.run("tpm2_activatecredential -c ak.ctx -C ek.ctx -i credential -o secret -P session:session.ctx");
                tools.tool("tpm2_flushcontext session.ctx");
            }
            assert_eq!(tools.read("secret"), secret, "{algorithm}");
        }
    }
}

#[test]
fn a_tpm_does_not_activate_a_credential_for_another_object() {
    let Some(tools) = Tools::start() else { return };
    tools.run("tpm2_createek -G ecc384 -c ek.ctx -u ek.pub");
    tools.run("tpm2_createak -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -n ak.name");
    tools.run("tpm2_createak -C ek.ctx -c other.ctx -G rsa -g sha256 -s rsassa -u other.pub -n other.name");
    let (ek, other) = (tools.read("ek.pub"), tools.read("other.pub"));
    let name = Public::read(&other).unwrap().name();
    let credential =
        make_credential(&Public::read(&ek).unwrap(), &name, &[1; 32], &Zeroizing::new([0x42; 48])).unwrap();
    fs::write(tools.path("credential"), credential_file(&credential.blob, &credential.encrypted_secret)).unwrap();
    let line = "tpm2_activatecredential -c ak.ctx -C ek.ctx -i credential -o secret";
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tools.run(line))).is_err());
    assert!(!tools.path("secret").exists() || tools.read("secret").is_empty());
}

#[test]
fn quotes_of_a_tpm_verify_for_every_scheme() {
    let Some(tools) = Tools::start() else { return };
    tools.run("tpm2_createek -G rsa -c ek.ctx -u ek.pub");
    tools.run("tpm2_pcrextend 4:sha256=1111111111111111111111111111111111111111111111111111111111111111");
    let values = tools.pcrs();
    for (algorithm, hash, scheme) in [
        ("ecc", "sha256", "ecdsa"),
        ("ecc384", "sha384", "ecdsa"),
        ("rsa", "sha256", "rsassa"),
        ("rsa", "sha256", "rsapss"),
    ] {
        tools.run(&format!(
            "tpm2_createak -C ek.ctx -c ak.ctx -G {algorithm} -g {hash} -s {scheme} -u ak.pub -n ak.name"
        ));
        let nonce = "00112233445566778899";
        tools.run(&format!("tpm2_quote -c ak.ctx -l sha256:0,1,2,3,4,5,6,7 -g {hash} --scheme {scheme} -q {nonce} -m quote -s signature"));
        let ak = tools.read("ak.pub");
        let key = VerifyingKey::from_public(&Public::read(&ak).unwrap()).unwrap();
        let (message, signature) = (tools.read("quote"), tools.read("signature"));
        let quoted = Quoted::verify(&message, &signature, &key, &values).unwrap();
        assert_eq!(hex::encode(quoted.extra_data()), nonce, "{algorithm} {scheme}");
        assert!(quoted.clock().safe || quoted.clock().clock_ms > 0);
        quoted.refuse_weak().unwrap();
    }
}

#[test]
fn a_node_key_of_a_tpm_is_certified_and_bound_to_the_policy_we_compute() {
    let Some(tools) = Tools::start() else { return };
    tools.run("tpm2_createek -G ecc -c ek.ctx -u ek.pub");
    tools.run("tpm2_createak -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -n ak.name");
    tools.run("tpm2_pcrextend 7:sha256=2222222222222222222222222222222222222222222222222222222222222222");
    let values = tools.pcrs();
    tools.tool("tpm2_startauthsession -S trial.ctx");
    tools.tool("tpm2_policypcr -S trial.ctx -l sha256:0,1,2,3,4,5,6,7 -L policy");
    tools.tool("tpm2_flushcontext trial.ctx");
    let pcrs = PcrSet::of(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    assert_eq!(policy_pcr_digest(&values, pcrs, HashAlg::Sha256).unwrap().as_bytes(), tools.read("policy"));
    tools.run("tpm2_createprimary -C o -g sha256 -G ecc -c parent.ctx");
    tools.run("tpm2_create -C parent.ctx -G ecc256 -u key.pub -r key.priv -L policy -a fixedtpm|fixedparent|sensitivedataorigin|decrypt|noda -c key.ctx");
    tools.run("tpm2_certify -c key.ctx -C ak.ctx -g sha256 -o certification -s signature --scheme ecdsa");
    let ak = tools.read("ak.pub");
    let ak = Public::read(&ak).unwrap();
    let key = VerifyingKey::from_public(&ak).unwrap();
    let (public, certification, signature) =
        (tools.read("key.pub"), tools.read("certification"), tools.read("signature"));
    let node_key = CertifiedNodeKey::verify(&public, &certification, &signature, &ak.name(), &key).unwrap();
    node_key.opens_only_at(&values, pcrs).unwrap();
    tools.run("tpm2_pcrextend 7:sha256=3333333333333333333333333333333333333333333333333333333333333333");
    assert_eq!(node_key.opens_only_at(&tools.pcrs(), pcrs).unwrap_err().code(), "evidence.node_key_policy");
}

/// Has swtpm_setup make EKs in `folder/state`, certified by an authority of its own in `folder/ca`.
fn manufacture(folder: &Path) {
    let path = folder.display();
    fs::create_dir(folder.join("ca")).unwrap();
    let authority = format!(
        "statedir = {path}/ca\nsigningkey = {path}/ca/key.pem\nissuercert = {path}/ca/cert.pem\ncertserial = {path}/ca/serial\n"
    );
    fs::write(folder.join("localca.conf"), authority).unwrap();
    fs::write(
        folder.join("localca.options"),
        "--platform-manufacturer test\n--platform-version 1\n--platform-model test\n",
    )
    .unwrap();
    let setup = format!(
        "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {path}/localca.conf\n\
         create_certs_tool_options = {path}/localca.options\n"
    );
    fs::write(folder.join("setup.conf"), setup).unwrap();
    let output = Command::new("swtpm_setup")
        .args(["--tpm2", "--create-ek-cert", "--overwrite", "--tpmstate"])
        .arg(folder.join("state"))
        .arg("--config")
        .arg(folder.join("setup.conf"))
        .output()
        .unwrap();
    assert!(output.status.success(), "swtpm_setup: {}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn ek_certificates_that_swtpm_manufactures_are_accepted_in_a_lab_and_nowhere_else() {
    if !Path::new("/usr/bin/swtpm_localca").exists() {
        println!("skipped: swtpm-tools are not installed");
        return;
    }
    let Some(tools) = Tools::start_with(manufacture) else { return };
    let der = |name: &str| Document::from_pem(&String::from_utf8(tools.read(name)).unwrap()).unwrap().1.into_vec();
    let (intermediate, root) = (der("ca/cert.pem"), der("ca/swtpm-localca-rootca-cert.pem"));
    let pins = BTreeSet::from([RootPin::Certificate(Sha256Digest::of(&root))]);
    let lab = AnchorSet { simulated_tpm_roots: pins.clone(), ..AnchorSet::default() };
    assert!(TrustAnchors::new(lab.clone()).is_err());
    let lab = TrustAnchors::lab_accepting_simulated(lab).unwrap();
    let real = TrustAnchors::new(AnchorSet { tpm_roots: pins, ..AnchorSet::default() }).unwrap();
    let at = UnixSeconds(4_102_444_800); // 2100: these certificates do not end
    for (index, algorithm) in [("0x1c00002", "rsa"), ("0x1c00016", "ecc384")] {
        tools.run(&format!("tpm2_nvread {index} -o ek.der"));
        tools.run(&format!("tpm2_createek -G {algorithm} -c ek.ctx -u ek.pub"));
        let (certificate, ek) = (tools.read("ek.der"), tools.read("ek.pub"));
        let chain = [&certificate[..], &intermediate, &root];
        let judged = EkCertificate::verify(&chain, &lab, at).unwrap();
        judged.is_for(&Public::read(&ek).unwrap()).unwrap();
        assert!(matches!(judged.endorsement().endorser(), EkEndorser::Simulated(_)), "{algorithm}");
        assert_eq!(EkCertificate::verify(&chain, &real, at).unwrap_err().code(), "evidence.simulated_tpm");
    }
}

//! Runtime policies of Keylime.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use firmware_refs::exchange::{ImportDenial, Imported, Loss, keylime};

use super::*;

fn policy() -> String {
    let (sha256, sha1) = ("3".repeat(64), "1".repeat(40));
    format!(
        r#"{{"meta": {{"version": 1, "generator": 3, "timestamp": "2023-11-01 10:00:00"}}, "release": 0,
        "digests": {{"/usr/bin/true": ["{sha256}", "{sha1}"], "/usr/bin/old": ["{sha1}"], "boot_aggregate": ["{sha256}"]}},
        "excludes": ["^/run/.*", "/tmp/", "/etc/mtab$", "/var/lib/a\\.b$", "/usr/(local|share)/.*", "/opt"],
        "keyrings": {{".ima": ["{sha256}"]}}, "ima-buf": {{"kexec-cmdline": ["{sha256}"], "/path": ["{sha256}"]}}, "verification-keys": "",
        "ima": {{"ignored_keyrings": ["*"], "log_hash_alg": "sha1", "dm_policy": null}}}}"#
    )
}

fn envelope(policy: &str, payload_type: &str) -> String {
    let message = format!("DSSEv1 {} {payload_type} {} {policy}", payload_type.len(), policy.len());
    let sig = STANDARD.encode(signing_key().sign_raw(message.as_bytes()));
    let payload = STANDARD.encode(policy);
    format!(
        r#"{{"payload": "{payload}", "payloadType": "{payload_type}", "signatures": [{{"keyid": "k", "sig": "{sig}"}}]}}"#
    )
}

const TYPE: &str = "application/vnd.keylime+json";

fn unsigned(policy: &str) -> Result<Imported, ImportDenial> {
    keylime::import_unsigned(policy.as_bytes(), document(TPM, ""), NOW)
}

fn code(result: Result<Imported, ImportDenial>) -> &'static str {
    result.map(|_| ()).unwrap_err().code()
}

#[test]
fn files_and_plain_exclusions_are_taken_and_the_rest_is_told() {
    let imported = unsigned(&policy()).unwrap();
    let tpm = imported.set.document().tpm.as_ref().unwrap();
    let ima = tpm.ima.as_ref().unwrap();
    assert_eq!((tpm.require_ima_log, tpm.pcrs.as_slice()), (true, &[7, 10][..]));
    assert_eq!(ima.exclude, ["/run/", "/tmp/", "/etc/mtab", "/var/lib/a.b"]);
    let files: Vec<_> = ima.file.iter().map(|file| (file.path.as_str(), file.accept.len())).collect();
    assert_eq!(files, [("/usr/bin/true", 1)]);
    let buffers: Vec<_> = ima.buffer.iter().map(|buffer| (buffer.name.as_str(), buffer.accept.len())).collect();
    assert_eq!(buffers, [(".ima", 1), ("kexec-cmdline", 1)]);
    let told: Vec<_> = imported.losses.iter().map(|Loss { at, .. }| at.to_string()).collect();
    let wanted = [
        "buffer /path",
        "digests /usr/bin/old",
        "digests boot_aggregate",
        "digests of SHA-1",
        "excludes /opt",
        "excludes /usr/(local|share)/.*",
        "ima.ignored_keyrings *",
    ];
    assert_eq!(told, wanted);
}

#[test]
fn an_envelope_is_read_by_its_signature_alone() {
    let good = envelope(&policy(), TYPE);
    let import = |text: &str| keylime::import(text.as_bytes(), document(TPM, ""), &signers(), NOW);
    let imported = import(&good).unwrap();
    let source = imported.set.document().tpm.as_ref().unwrap().ima.as_ref().unwrap().file[0].accept[0].source.clone();
    assert!(source.as_str().contains(&format!("signed by {}", signing_key().public().kid())), "{source}");
    assert_eq!(code(import(&policy())), "import.unsigned");
    assert_eq!(code(import(&good.replace("eyJ", "eyK"))), "import.signature_invalid");
    assert_eq!(code(import(&envelope(&policy(), "application/x"))), "import.malformed");
    assert_eq!(code(import(&good.replace("\"keyid\"", "\"also\""))), "import.malformed");
    assert_eq!(code(import(&good[..good.len() - 1])), "import.truncated");
    assert_eq!(code(keylime::import(good.as_bytes(), document(TPM, ""), &[], NOW)), "import.signer_absent");
}

/// Signed by `openssl dgst -sha256 -sign` as Keylime does: a DER signature of P-256.
#[test]
fn an_ecdsa_signature_in_der_is_read() {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let key = PublicKey::p256(pair.public_key().as_ref()).unwrap();
    let policy = policy();
    let message = format!("DSSEv1 {} {TYPE} {} {policy}", TYPE.len(), policy.len());
    for _ in 0..16 {
        let der = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), message.as_bytes()).unwrap();
        let (sig, payload) = (STANDARD.encode(der.as_ref()), STANDARD.encode(&policy));
        let file =
            format!(r#"{{"payload": "{payload}", "payloadType": "{TYPE}", "signatures": [{{"sig": "{sig}"}}]}}"#);
        let signers = [signer(&key, &[Hardware::Tpm])];
        keylime::import(file.as_bytes(), document(TPM, ""), &signers, NOW).unwrap();
    }
}

#[test]
fn one_defect_and_a_policy_is_refused() {
    let good = policy();
    for (from, to, wanted) in [
        ("\"version\": 1", "\"version\": 2", "import.inexpressible"),
        ("\"release\"", "\"accept-all\"", "import.malformed"),
        ("\"/usr/bin/old\"", "\"/usr/bin/true\"", "import.malformed"),
        ("\"digests\"", "\"keyrings2\"", "import.malformed"),
        ("\"/usr/bin/true\"", "\"usr/bin/true\"", "import.empty"),
    ] {
        assert!(good.contains(from), "{from}");
        assert_eq!(code(unsigned(&good.replace(from, to))), wanted, "{to}");
    }
    assert_eq!(code(unsigned("{")), "import.truncated");
}

//! The TPM actor against a real software TPM, and against what is none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use attestd::config::{EkKind, Tcti, TpmConfig};
use attestd::tpm::hpke::SealedMessage;
use attestd::tpm::objects::{AttestationKey, Endorsement, NodeKey};
use attestd::tpm::{ClockBreak, HandleCounts, Tpm, TpmError};
use evidence::digest::HashAlg;
use evidence::tpm::certify::CertifiedNodeKey;
use evidence::tpm::credential::make_credential;
use evidence::tpm::pcr::{PcrSelection, PcrSet};
use evidence::tpm::public::Public;
use evidence::tpm::signature::VerifyingKey;
use rustls::crypto::hpke::{Hpke as _, HpkePublicKey};

mod common;
use common::{Node, selection};

fn boot_pcrs() -> PcrSelection {
    selection(&[0, 1, 2, 3, 4, 5, 6, 7])
}

#[tokio::test]
async fn a_quote_covers_what_is_read_and_verifies_without_libtss2() {
    let node = Node::start();
    node.tpm.extend(4, vec![HashAlg::Sha256.hash(&[b"x"])]).await.unwrap();
    let ak = AttestationKey::load_or_create(&node.tpm, &node.state).await.unwrap();
    let all = selection(&(0..24).collect::<Vec<u8>>());
    for wanted in [all, boot_pcrs(), selection(&[10]), PcrSelection { bank: HashAlg::Sha384, ..all }] {
        let quote = node.tpm.quote(ak.blob().clone(), [9; 32], wanted).await.unwrap();
        let key = VerifyingKey::from_public(&Public::read(ak.public()).unwrap()).unwrap();
        let signed = key.verify(&quote.signed.attest, &quote.signed.signature).unwrap();
        assert_eq!(signed.attest().extra_data, [9; 32]);
        assert_eq!(signed.attest().quote().unwrap().selection, wanted);
        assert_eq!(quote.values.selected(), wanted.pcrs);
    }
    assert!(matches!(
        node.tpm.quote(ak.blob().clone(), [9; 32], PcrSelection { bank: HashAlg::Sha1, ..all }).await,
        Ok(_) | Err(TpmError::BankAbsent { .. })
    ));
    node.expect_no_handles().await;
}

#[tokio::test]
async fn what_make_credential_seals_only_this_ek_and_ak_open() {
    let (node, other) = (Node::start(), Node::start());
    for kind in [EkKind::EccP256, EkKind::Rsa2048] {
        let ek = Endorsement::read(&node.tpm, kind).await.unwrap();
        assert_eq!(ek.certificate, None);
        let ak = AttestationKey::load_or_create(&node.tpm, &node.state).await.unwrap();
        let public = Public::read(&ek.public).unwrap();
        let randomness = zeroize::Zeroizing::new(std::array::from_fn(|n| n as u8 + 1));
        let credential = make_credential(&public, ak.name(), &[5; 32], &randomness).unwrap();
        let activate = |tpm: Tpm, ak: AttestationKey, blob: Vec<u8>, secret: Vec<u8>| async move {
            tpm.call(move |d| d.activate(kind, ak.blob(), &blob, &secret)).await
        };
        let (blob, secret) = (credential.blob, credential.encrypted_secret);
        let opened = activate(node.tpm.clone(), ak.clone(), blob.clone(), secret.clone()).await.unwrap();
        assert_eq!(opened.as_slice(), [5; 32]);
        let mut altered = blob.clone();
        *altered.last_mut().unwrap() ^= 1;
        assert!(activate(node.tpm.clone(), ak.clone(), altered, secret.clone()).await.is_err());
        assert!(activate(node.tpm.clone(), ak.clone(), blob[..10].to_vec(), secret.clone()).await.is_err());
        // Another AK of the same TPM, and another TPM.
        let second = node.tpm.call(|d| d.create_ak()).await.unwrap();
        let (b, s) = (blob.clone(), secret.clone());
        assert!(node.tpm.call(move |d| d.activate(kind, &second, &b, &s)).await.is_err());
        let foreign = AttestationKey::load_or_create(&other.tpm, &other.state).await.unwrap();
        assert!(activate(other.tpm.clone(), foreign, blob, secret).await.is_err());
        node.expect_no_handles().await;
    }
    other.expect_no_handles().await;
}

fn sealed_to(point: &[u8], plain: &[u8]) -> SealedMessage {
    let suite = rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_256;
    let (enc, sealed) = suite.seal(b"info", b"aad", plain, &HpkePublicKey(point.to_vec())).unwrap();
    SealedMessage { encapsulated: enc.0, sealed, info: b"info".to_vec(), aad: b"aad".to_vec() }
}

async fn open(node: &Node, key: &NodeKey, message: SealedMessage) -> Result<Vec<u8>, TpmError> {
    let opened = node.tpm.hpke_open(key.blob().clone(), key.point().to_vec(), key.bound_to(), message).await;
    opened.map(|plain| plain.as_slice().to_vec())
}

#[tokio::test]
async fn the_node_key_opens_until_a_bound_pcr_changes() {
    let node = Node::start();
    let ak = AttestationKey::load_or_create(&node.tpm, &node.state).await.unwrap();
    let bound_to = selection(&[0, 2, 4, 7]);
    let key = NodeKey::for_present_pcrs(&node.tpm, &node.state, &ak, bound_to).await.unwrap();
    let message = sealed_to(key.point(), b"execution key");
    assert_eq!(open(&node, &key, message.clone()).await.unwrap(), b"execution key");

    // The certification is what a verifier needs, and its policy is over the present values.
    let verifying = VerifyingKey::from_public(&Public::read(ak.public()).unwrap()).unwrap();
    let (attest, signature) = (key.certification(), key.certification_signature());
    let certified = CertifiedNodeKey::verify(key.public(), attest, signature, ak.name(), &verifying).unwrap();
    assert_eq!(certified.cose_key(), key.cose_key());
    certified.opens_only_at(&node.tpm.pcrs(bound_to).await.unwrap(), bound_to.pcrs).unwrap();

    // A PCR outside the policy: still opens, and the key stays.
    node.tpm.extend(10, vec![HashAlg::Sha256.hash(&[b"ima"])]).await.unwrap();
    assert_eq!(open(&node, &key, message.clone()).await.unwrap(), b"execution key");
    let again = NodeKey::for_present_pcrs(&node.tpm, &node.state, &ak, bound_to).await.unwrap();
    assert_eq!(again.public(), key.public());
    assert!(key.is_current(&node.tpm).await.unwrap());

    // Altered, and sealed to another key.
    let mut altered = message.clone();
    altered.sealed[0] ^= 1;
    assert_eq!(open(&node, &key, altered).await, Err(TpmError::NotForThisKey));
    let mut off_curve = message.clone();
    off_curve.encapsulated[64] ^= 1;
    assert_eq!(open(&node, &key, off_curve).await, Err(TpmError::NotForThisKey));

    // A PCR inside it: the TPM itself refuses, and the next key is another.
    node.tpm.extend(4, vec![HashAlg::Sha256.hash(&[b"other loader"])]).await.unwrap();
    let refused = open(&node, &key, message).await.unwrap_err();
    assert_eq!((refused.class(), refused.code()), ("denied", "evidence.node_key_policy_not_met"));
    assert!(!key.is_current(&node.tpm).await.unwrap());
    let next = NodeKey::for_present_pcrs(&node.tpm, &node.state, &ak, bound_to).await.unwrap();
    assert_ne!(next.public(), key.public());
    assert_eq!(open(&node, &next, sealed_to(next.point(), b"2")).await.unwrap(), b"2");
    node.expect_no_handles().await;
}

#[tokio::test]
async fn extends_of_other_pcrs_during_an_open_are_retried() {
    let node = Node::start();
    let ak = AttestationKey::load_or_create(&node.tpm, &node.state).await.unwrap();
    let key = NodeKey::for_present_pcrs(&node.tpm, &node.state, &ak, selection(&[0, 7])).await.unwrap();
    // A second client, without exclusion, as a kernel extending PCR 10 would be.
    let second = node.second_client();
    second.handles().await.unwrap(); // connecting flushes, which would take what the other is using
    for n in 0..20u8 {
        let extend = || second.extend(10, vec![HashAlg::Sha256.hash(&[&[n]])]);
        let (extended, opened) = tokio::join!(extend(), open(&node, &key, sealed_to(key.point(), &[n])));
        extended.unwrap();
        assert_eq!(opened.unwrap(), [n]);
        let quoting = node.tpm.quote(ak.blob().clone(), [n; 32], selection(&[0, 10]));
        let (extended, quoted) = tokio::join!(extend(), quoting);
        extended.unwrap();
        quoted.unwrap();
    }
    node.expect_no_handles().await;
}

#[tokio::test]
async fn keys_survive_a_restart_of_the_daemon_and_a_reset_of_the_tpm() {
    let mut node = Node::start();
    let ak = AttestationKey::load_or_create(&node.tpm, &node.state).await.unwrap();
    let before = node.tpm.clock(ak.blob().clone()).await.unwrap();
    let key = NodeKey::for_present_pcrs(&node.tpm, &node.state, &ak, boot_pcrs()).await.unwrap();
    node.tpm = node.second_client();
    let loaded = AttestationKey::load(&node.tpm, &node.state).await.unwrap();
    assert_eq!(loaded.public(), ak.public());
    let later = node.tpm.clock(ak.blob().clone()).await.unwrap();
    assert_eq!(ClockBreak::between(&before, &later), None);

    node.swtpm.reset().unwrap();
    let after = node.tpm.clock(ak.blob().clone()).await.unwrap();
    assert_eq!(ClockBreak::between(&before, &after), Some(ClockBreak::Reset));
    // Saved contexts are void after a reset; the blobs are not.
    let same = NodeKey::for_present_pcrs(&node.tpm, &node.state, &ak, boot_pcrs()).await.unwrap();
    assert_eq!(same.public(), key.public());
    assert_eq!(open(&node, &same, sealed_to(same.point(), b"x")).await.unwrap(), b"x");
    node.expect_no_handles().await;
}

#[tokio::test]
async fn keys_of_another_tpm_are_lost_and_said_so() {
    let (node, other) = (Node::start(), Node::start());
    AttestationKey::load_or_create(&node.tpm, &node.state).await.unwrap();
    let error = AttestationKey::load(&other.tpm, &node.state).await.unwrap_err();
    assert_eq!(error.code(), "fault.tpm_key_lost");
    let error = AttestationKey::load(&other.tpm, &other.state).await.unwrap_err();
    assert_eq!(error.code(), "fault.not_enrolled");
    other.expect_no_handles().await;
}

#[tokio::test]
async fn leftovers_of_a_crashed_client_are_flushed_at_start() {
    let mut node = Node::start();
    node.leak_sessions(3);
    assert_eq!(node.tpm.handles().await.unwrap(), HandleCounts::default(), "flushed when connecting");
    node.leak_sessions(2);
    node.tpm = node.second_client();
    node.expect_no_handles().await;
}

#[tokio::test]
async fn no_free_session_is_a_fault_of_its_own() {
    let node = Node::start();
    let ak = AttestationKey::load_or_create(&node.tpm, &node.state).await.unwrap();
    let key = NodeKey::for_present_pcrs(&node.tpm, &node.state, &ak, boot_pcrs()).await.unwrap();
    node.leak_sessions(3);
    let error = open(&node, &key, sealed_to(key.point(), b"x")).await.unwrap_err();
    assert_eq!((error.class(), error.code()), ("fault", "fault.tpm_handles_exhausted"));
    assert_eq!(node.tpm.handles().await.unwrap().transient, 0, "what was loaded for it is flushed");
}

#[tokio::test]
async fn a_killed_tpm_is_a_fault_and_a_new_one_on_the_same_port_is_not_waited_for() {
    let mut node = Node::start();
    let ak = AttestationKey::load_or_create(&node.tpm, &node.state).await.unwrap();
    node.swtpm.kill().unwrap();
    let started = Instant::now();
    for _ in 0..2 {
        let error = node.tpm.quote(ak.blob().clone(), [0; 32], boot_pcrs()).await.unwrap_err();
        assert_eq!(error.code(), "fault.tpm_unreachable", "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_tpm_that_stops_answering_is_given_up_and_nothing_more_is_sent_to_it() {
    let node = Node::start();
    let ak = AttestationKey::load_or_create(&node.tpm, &node.state).await.unwrap();
    let impatient = node.client_with_deadline(300);
    impatient.quote(ak.blob().clone(), [0; 32], boot_pcrs()).await.unwrap();
    let swtpm = rustix::process::Pid::from_raw(node.swtpm.pid().try_into().unwrap()).unwrap();
    rustix::process::kill_process(swtpm, rustix::process::Signal::STOP).unwrap();
    let started = Instant::now();
    let error = impatient.quote(ak.blob().clone(), [1; 32], boot_pcrs()).await.unwrap_err();
    assert_eq!(error.code(), "fault.tpm_hung", "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    rustix::process::kill_process(swtpm, rustix::process::Signal::CONT).unwrap();
    assert_eq!(impatient.handles().await.unwrap_err().code(), "fault.tpm_hung", "given up for good");
    // A new owner starts over.
    node.second_client().quote(ak.blob().clone(), [2; 32], boot_pcrs()).await.unwrap();
}

#[tokio::test]
async fn a_tpm_that_never_answers_is_given_up_within_the_deadline() {
    // Two consecutive ports that accept and stay silent, as a hung swtpm does.
    let (data, control, port) = loop {
        let data = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = data.local_addr().unwrap().port();
        if let Ok(control) = TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)) {
            break (data, control, port);
        }
    };
    let silent = |listener: TcpListener| {
        std::thread::spawn(move || {
            let kept: Vec<TcpStream> = listener.incoming().take(8).filter_map(Result::ok).collect();
            drop(kept);
        })
    };
    let (_data, _control) = (silent(data), silent(control));
    let tcti = Tcti::Swtpm { host: Ipv4Addr::LOCALHOST.into(), port };
    let config = TpmConfig { tcti, ..common::config("swtpm:host=127.0.0.1,port=1", 300) };
    let tpm = Tpm::open(&config).unwrap();
    let started = Instant::now();
    let first = tpm.pcrs(boot_pcrs());
    let second = tpm.handles();
    let (first, second) = tokio::join!(first, second);
    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_millis(300) && elapsed < Duration::from_secs(2), "{elapsed:?}");
    for error in [first.unwrap_err(), second.unwrap_err(), tpm.handles().await.unwrap_err()] {
        assert_eq!(error.code(), "fault.tpm_hung", "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(2), "given up for good: no second wait");
}

#[tokio::test]
async fn what_does_not_exist_is_refused_by_name() {
    let node = Node::start();
    let absent = PcrSelection { bank: HashAlg::Sha512, pcrs: PcrSet::of(&[3]).unwrap() };
    let error = node.tpm.pcrs(absent).await;
    assert!(matches!(error, Ok(_) | Err(TpmError::BankAbsent { bank: "sha512", pcr: 3 })), "{error:?}");
    assert!(node.tpm.extend(31, vec![]).await.is_err());
    assert_eq!(node.tpm.call(|d| d.nv_read(0x01c0_000a)).await.unwrap(), None);
    assert!(node.tpm.call(|d| d.nv_read(0x8100_0000)).await.is_err());
    assert!(node.tpm.call(|d| d.banks()).await.unwrap().contains(&HashAlg::Sha256));
    node.expect_no_handles().await;
}

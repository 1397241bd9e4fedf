//! What is offered of what is stored.

use evidence::time::UnixSeconds;
use verifier::config::EndorsementsConfig;
use verifier::endorsements::key::{CspId, SnpLine};
use verifier::endorsements::recognise::{Pile, Sorted};
use verifier::endorsements::table::Source;
use verifier::endorsements::{At, Csp, SnpKey, SnpSigner};

use crate::server::{Reply, Server};
use crate::vendor::{Amd, Intel, TCB, TDX, now, recognised};
use crate::{asking, store};

#[tokio::test]
async fn everything_that_is_missing_is_named_at_once() {
    let (endorsements, _open) = store(&EndorsementsConfig::default()).await;
    let at = At::Now(UnixSeconds(now()));
    let text = endorsements.snp(&Amd::key(), &[], at).await.unwrap_err().to_string();
    for what in ["VCEK of Milan", "ASK of Milan", "ARK of Milan is", "revocation list of ARK Milan"] {
        assert!(text.contains(what), "{what}: {text}");
    }
    let text = endorsements.tdx(TDX, &[], at).await.unwrap_err().to_string();
    for what in
        ["TCB info of FMSPC 90c06f000000", "TD quoting enclave", "SGX Root CA", "PCK Platform CA", "Intel SGX root CA"]
    {
        assert!(text.contains(what), "{what}: {text}");
    }
    let vlek = SnpSigner::Vlek { csp: Csp::Named(CspId::new("CN=cloud.example").unwrap()) };
    let vlek = SnpKey { line: SnpLine::Genoa, tcb: TCB, signer: vlek };
    let text = endorsements.snp(&vlek, &[], at).await.unwrap_err().to_string();
    assert!(text.contains("VLEK of Genoa for CN=cloud.example") && text.contains("ASVK of Genoa"), "{text}");
}

#[tokio::test]
async fn evidence_brings_certificates_but_never_the_list_it_is_judged_by() {
    let amd = Amd::new();
    let (endorsements, _open) = store(&EndorsementsConfig::default()).await;
    let at = At::Now(UnixSeconds(now()));
    let brought: [&[u8]; 5] = [&amd.vcek, &amd.ask.der, &amd.ark.der, &amd.crl, b"junk"];
    let text = endorsements.snp(&Amd::key(), &brought, at).await.unwrap_err().to_string();
    assert!(text.starts_with("revocation list of ARK Milan is not stored;"), "{text}");
    endorsements.put(recognised(&[&amd.crl]), Source::Directory, "").await.unwrap();
    let found = endorsements.snp(&Amd::key(), &brought, at).await.unwrap();
    assert_eq!(found.leaf.provenance.source, Source::Evidence);
    assert!(endorsements.snp(&Amd::key(), &[], at).await.is_err(), "nothing is stored by a lookup alone");
    assert_eq!(endorsements.keep_brought(found.all()).await.unwrap(), 3);
    let again = endorsements.snp(&Amd::key(), &[], at).await.unwrap();
    assert_eq!(again.all().map(|one| one.digest), found.all().map(|one| one.digest));
    assert_eq!(endorsements.keep_brought(found.all()).await.unwrap(), 0);
    endorsements.forget(found.leaf.digest).await.unwrap();
    assert!(endorsements.snp(&Amd::key(), &[], at).await.unwrap_err().to_string().starts_with("VCEK"));
}

/// Entries of GUID, offset and length, ended by zeros, and what they point to (GHCB specification §4.1.8.1).
fn host_s_table(entries: &[(u128, &[u8])]) -> Vec<u8> {
    let (mut head, mut body) = (Vec::new(), Vec::new());
    let behind = 24 * (entries.len() + 1);
    for (guid, bytes) in entries {
        head.extend(guid.to_be_bytes());
        head.extend(u32::try_from(behind + body.len()).unwrap().to_le_bytes());
        head.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        body.extend_from_slice(bytes);
    }
    [head, vec![0; 24], body].concat()
}

#[test]
fn a_host_s_certificate_table_is_imported_as_what_it_holds() {
    const VCEK: u128 = 0x63da_758d_e664_4564_adc5_f4b9_3be8_accd;
    const ASK: u128 = 0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782;
    const ARK: u128 = 0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae;
    const CRL: u128 = 0x92f8_1bc3_5811_4d3d_97ff_d19f_88dc_67ea;
    let amd = Amd::new();
    let sorted = |table: &[u8]| {
        let mut pile = Pile::default();
        pile.add("certificates.bin", table);
        pile.sorted()
    };
    let table = host_s_table(&[
        (VCEK, &amd.vcek),
        (7, b"\xffsomebody's"),
        (ASK, &amd.ask.der),
        (ARK, &amd.ark.der),
        (CRL, &amd.crl),
    ]);
    let Sorted { found, skipped } = sorted(&table);
    let mut digests: Vec<_> = found.iter().map(|one| one.digest).collect();
    let mut apart: Vec<_> =
        recognised(&[&amd.vcek, &amd.ask.der, &amd.ark.der, &amd.crl]).iter().map(|one| one.digest).collect();
    digests.sort_unstable();
    apart.sort_unstable();
    assert_eq!((digests, skipped.len()), (apart, 0));

    // One that is none, one without AMD's, one whose certificate is another vendor's.
    for (bad, why) in [
        (&table[..table.len() - 1], "certificate table"),
        (&host_s_table(&[(7, b"\xffsomebody's")]), "without a certificate of AMD's"),
        (&host_s_table(&[(VCEK, b"\xffnot DER")]), ""),
    ] {
        let Sorted { found, skipped } = sorted(bad);
        assert!(found.is_empty() && skipped.len() == 1 && skipped[0].why.contains(why), "{skipped:?}");
    }
}

#[tokio::test]
async fn of_several_only_what_the_issuer_at_hand_signed_is_offered() {
    let (genuine, stranger) = (Amd::new(), Amd::new());
    let (endorsements, _open) = store(&EndorsementsConfig::default()).await;
    endorsements.put(genuine.all(), Source::Directory, "").await.unwrap();
    // same names, other keys, newer
    let newer = recognised(&[&stranger.ask.der, &stranger.ark.der, &stranger.ark.crl(60)]);
    endorsements.put(newer, Source::Cache, "").await.unwrap();
    let at = At::Now(UnixSeconds(now()));
    let found = endorsements.snp(&Amd::key(), &[], at).await.unwrap();
    assert_eq!(found.intermediate.der(), genuine.ask.der);
    assert_eq!([found.root.der(), found.crl.der()], [&*genuine.ark.der, &*genuine.crl]);
    let (ours, theirs) = (Intel::new(), Intel::new());
    for intel in [&ours, &theirs] {
        let set = serde_json::json!({
            "tcb_info": member(&intel.tcb_info(), "tcbInfo"),
            "tcb_info_signature": signature(&intel.tcb_info()),
            "tcb_info_issuer_chain": intel.signing_chain(),
            "qe_identity": member(&intel.qe_identity(), "enclaveIdentity"),
            "qe_identity_signature": signature(&intel.qe_identity()),
            "qe_identity_issuer_chain": intel.signing_chain(),
            "pck_crl": hex::encode(intel.pck_ca.crl(60)),
            "pck_crl_issuer_chain": intel.pck_chain(),
            "root_ca_crl": hex::encode(intel.root.crl(60)),
        });
        endorsements.put(recognised(&[set.to_string().as_bytes()]), Source::Directory, "").await.unwrap();
    }
    for intel in [&ours, &theirs] {
        // the quote's own chain says under which root it stands
        let found = endorsements.tdx(TDX, &[&intel.root.der, &intel.pck_ca.der], at).await.unwrap();
        let verifier::endorsements::document::Document::Signed(signed) = &found.tcb_info.document else { panic!() };
        assert_eq!(signed.chain.last(), Some(&intel.root.der));
        assert_eq!(found.pck_ca.der(), intel.pck_ca.der);
    }
}

fn member(body: &str, name: &str) -> String {
    let body = body.strip_prefix(&format!("{{\"{name}\":")).unwrap();
    body[..body.find(",\"signature\"").unwrap()].to_owned()
}

fn signature(body: &str) -> String {
    serde_json::from_str::<serde_json::Value>(body).unwrap()["signature"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_list_is_judged_by_in_its_time_and_up_to_its_age_alone() {
    let amd = Amd::new();
    let server = Server::start(|_| Reply::Status(404, Vec::new())).await;
    let config = EndorsementsConfig { maximum_age_s: 20 * 86_400, ..asking(&server.url) };
    let (endorsements, _open) = store(&config).await;
    endorsements.put(amd.all().into_iter().take(3).collect(), Source::Directory, "").await.unwrap();
    let lists = [amd.ark.crl(86_400), amd.ark.crl(10 * 86_400)];
    endorsements.put(recognised(&[&lists[0], &lists[1]]), Source::Directory, "").await.unwrap();
    let snp = async |at| endorsements.snp(&Amd::key(), &[], at).await;
    let then = |days: u64| At::Then(UnixSeconds(now() - days * 86_400 + 3600));
    assert_eq!(snp(then(0)).await.unwrap().crl.der(), lists[0]);
    // certificates are a day old: before that nothing was valid
    let early = snp(then(5)).await.unwrap_err().to_string();
    assert!(early.contains("VCEK") && early.contains("speaks from"), "{early}");
    assert!(!early.contains("revocation list"), "{early}");
    let late = snp(At::Then(UnixSeconds(now() + 21 * 86_400))).await.unwrap_err().to_string();
    assert!(late.starts_with("revocation list of ARK Milan is ") && late.contains("at most 1728000 s"), "{late}");
    assert!(server.asked().is_empty(), "the past is judged by what is stored");
}

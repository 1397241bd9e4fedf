//! Caches that answer as the vendors do.

use std::sync::Arc;

use evidence::time::UnixSeconds;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use verifier::config::{CacheUrl, EndorsementsConfig};
use verifier::endorsements::document::Document;
use verifier::endorsements::table::Source;
use verifier::endorsements::{At, EndorsementStore};

use crate::server::{Reply, Server};
use crate::vendor::{Amd, Intel, TDX, now};
use crate::{asking, store};

pub(crate) fn amd_answers(amd: &Amd) -> impl Fn(&str) -> Reply + Send + Sync + 'static {
    let (vcek, chain, crl) = (amd.vcek.clone(), amd.chain(), amd.crl.clone());
    move |path| match path {
        _ if path.ends_with("?blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115") => Reply::Body(vcek.clone()),
        "/vcek/v1/Milan/cert_chain" => Reply::Body(chain.clone().into_bytes()),
        "/vcek/v1/Milan/crl" => Reply::Body(crl.clone()),
        _ => Reply::Status(404, Vec::new()),
    }
}

fn intel_answers(intel: &Intel) -> impl Fn(&str) -> Reply + Send + Sync + 'static {
    let (tcb_info, identity, chain) = (intel.tcb_info(), intel.qe_identity(), intel.signing_chain());
    let (pck_crl, pck_chain) = (intel.pck_ca.crl(3600), intel.pck_chain());
    let root_crl = hex::encode(intel.root.crl(3600));
    move |path| match path {
        "/tdx/certification/v4/tcb?fmspc=90c06f000000" => {
            Reply::Chained(tcb_info.clone().into_bytes(), "TCB-Info-Issuer-Chain", chain.clone())
        }
        "/tdx/certification/v4/qe/identity" => {
            Reply::Chained(identity.clone().into_bytes(), "SGX-Enclave-Identity-Issuer-Chain", chain.clone())
        }
        "/sgx/certification/v4/pckcrl?ca=platform&encoding=der" => {
            Reply::Chained(pck_crl.clone(), "SGX-PCK-CRL-Issuer-Chain", pck_chain.clone())
        }
        "/sgx/certification/v4/rootcacrl" => Reply::Body(root_crl.clone().into_bytes()),
        _ => Reply::Status(404, Vec::new()),
    }
}

#[tokio::test]
async fn what_a_report_needs_is_asked_for_once_and_then_stored() {
    let amd = Amd::new();
    let server = Server::start(amd_answers(&amd)).await;
    let (endorsements, open) = store(&asking(&server.url)).await;
    let at = At::Now(UnixSeconds(now()));
    let found = endorsements.snp(&Amd::key(), &[], at).await.unwrap();
    assert_eq!([found.leaf.der(), found.crl.der()], [&*amd.vcek, &*amd.crl]);
    assert_eq!([found.intermediate.der(), found.root.der()], [&*amd.ask.der, &*amd.ark.der]);
    assert!(found.all().iter().all(|endorsement| endorsement.provenance.source == Source::Cache));
    assert!((86_400..86_500).contains(&found.crl.age_s), "{}", found.crl.age_s);
    assert_eq!(server.asked().len(), 3, "{:?}", server.asked());
    // another process over the same tables asks nothing
    let quiet = EndorsementStore::new(open.1.store.clone(), &EndorsementsConfig::default(), &[]).unwrap();
    let again = quiet.snp(&Amd::key(), &[], at).await.unwrap();
    assert_eq!(again.all().map(|one| one.digest), found.all().map(|one| one.digest));
    endorsements.snp(&Amd::key(), &[], at).await.unwrap();
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn what_a_quote_needs_is_read_with_its_chains_from_headers() {
    let intel = Intel::new();
    let server = Server::start(intel_answers(&intel)).await;
    let (endorsements, _open) = store(&asking(&server.url)).await;
    let at = At::Now(UnixSeconds(now()));
    let found = endorsements.tdx(TDX, &[], at).await.unwrap();
    let Document::Signed(signed) = &found.tcb_info.document else { panic!("{:?}", found.tcb_info) };
    assert!(intel.tcb_info().contains(&signed.text), "{}", signed.text);
    assert_eq!(signed.chain.last(), Some(&intel.root.der));
    assert_eq!([found.root.der(), found.pck_ca.der()], [&*intel.root.der, &*intel.pck_ca.der]);
    assert_eq!(server.asked().len(), 4, "{:?}", server.asked());
    endorsements.tdx(TDX, &[], at).await.unwrap();
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn an_old_list_is_judged_by_while_it_is_asked_for_anew() {
    let amd = Amd::new();
    let server = Server::start(amd_answers(&amd)).await;
    let config = EndorsementsConfig { refresh_after_s: 60, ..asking(&server.url) };
    let (endorsements, _open) = store(&config).await;
    let (found, older) = (amd.all(), crate::vendor::recognised(&[&amd.ark.crl(10 * 86_400)]));
    let found: Vec<_> = found.into_iter().take(3).chain(older.clone()).collect();
    endorsements.put(found, Source::Directory, "").await.unwrap();
    let soon = At::Now(UnixSeconds(now() + 30));
    assert_eq!(endorsements.snp(&Amd::key(), &[], soon).await.unwrap().crl.digest, older[0].digest);
    assert!(server.asked().is_empty());
    let later = At::Now(UnixSeconds(now() + 120));
    let fresh = async {
        while endorsements.snp(&Amd::key(), &[], later).await.unwrap().crl.der() != amd.crl {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), fresh).await.unwrap();
}

/// A server with a certificate of its own, answering every request with one body.
async fn https(body: Vec<u8>) -> (String, Vec<u8>, tokio::task::JoinHandle<()>) {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = key.cert.der().to_vec();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(&[answer.as_bytes(), &body].concat()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (url, certificate, task)
}

#[tokio::test]
async fn an_https_cache_is_known_by_the_configured_certificate_alone() {
    let amd = Amd::new();
    let (url, certificate, task) = https(amd.vcek.clone()).await;
    let url = CacheUrl::try_from(url).unwrap();
    let config = EndorsementsConfig { amd_cache: Some(url), ..EndorsementsConfig::default() };
    let (_, (_bed, opened)) = store(&config).await;
    let at = At::Now(UnixSeconds(now()));
    let others = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.der().to_vec();
    let stranger = EndorsementStore::new(opened.store.clone(), &config, &[others]).unwrap();
    let refused = stranger.snp(&Amd::key(), &[], at).await.unwrap_err().to_string();
    assert!(refused.contains("VCEK of Milan") && refused.contains("certificate"), "{refused}");
    let known = EndorsementStore::new(opened.store.clone(), &config, &[certificate]).unwrap();
    known.put(amd.all().split_off(1), Source::Directory, "").await.unwrap();
    assert_eq!(known.snp(&Amd::key(), &[], at).await.unwrap().leaf.der(), amd.vcek);
    task.abort();
}

//! Caches that do not behave.

use evidence::time::UnixSeconds;
use verifier::config::EndorsementsConfig;
use verifier::endorsements::table::Source;
use verifier::endorsements::{At, EndorsementStore};
use verifier::fault::Fault;

use crate::caches::amd_answers;
use crate::server::{Reply, Server};
use crate::vendor::{Amd, now};
use crate::{asking, store};

/// Asks for a VCEK of which everything else is known.
async fn refused(endorsements: &EndorsementStore) -> String {
    let refused = endorsements.snp(&Amd::key(), &[], At::Now(UnixSeconds(now()))).await.unwrap_err();
    let fault = Fault::from(refused);
    assert_eq!(fault.code(), "fault.endorsements_unavailable");
    let text = fault.to_string();
    assert!(text.contains("VCEK of Milan chip c1c1") && text.contains("microcode 115"), "{text}");
    assert!(text.contains("verifier endorsements import FILE|DIR") && !text.contains("ARK"), "{text}");
    text
}

#[tokio::test]
async fn each_bad_answer_is_a_fault_that_says_so_and_is_remembered_briefly() {
    let amd = Amd::new();
    let other_chip = Amd::vcek(&amd.ask, &[0xdd; 64]);
    let redirect = vec![("location", "/elsewhere")];
    let cases = [
        (Reply::Endless, "longer than"),
        (Reply::Declared(600 * 1024), "longer than"),
        (Reply::Silence, "no whole answer in 300 ms"),
        (Reply::Half, "no whole answer in 300 ms"),
        (Reply::Body(b"<html>sign in</html>".to_vec()), "something else"),
        (Reply::Body(Vec::new()), "something else"),
        (Reply::Body(other_chip), "something else"),
        (Reply::Body(amd.crl.clone()), "something else"),
        (Reply::Status(404, Vec::new()), "the cache has none"),
        (Reply::Status(500, Vec::new()), "status 500"),
        (Reply::Status(302, redirect), "status 302"),
        (Reply::Status(429, vec![("retry-after", "7")]), "busy for 7 s"),
        (Reply::Status(429, vec![("retry-after", "soon")]), "busy for 60 s"),
        (Reply::Status(503, vec![("retry-after", "999999")]), "busy for 3600 s"),
    ];
    for (reply, told) in cases {
        let server = Server::start(move |_| reply.clone()).await;
        let config = EndorsementsConfig { deadline_ms: 300, ..asking(&server.url) };
        let (endorsements, _open) = store(&config).await;
        endorsements.put(amd.all().split_off(1), Source::Directory, "").await.unwrap();
        let text = refused(&endorsements).await;
        assert!(text.contains(told), "{told}: {text}");
        refused(&endorsements).await;
        assert_eq!(server.asked().len(), 1, "{told}: asked again at once");
    }
}

#[tokio::test]
async fn a_cache_that_is_not_there_is_a_fault() {
    let amd = Amd::new();
    let url = Server::start(|_| Reply::Silence).await.url.clone();
    let (endorsements, _open) = store(&asking(&url)).await;
    endorsements.put(amd.all().split_off(1), Source::Directory, "").await.unwrap();
    let text = refused(&endorsements).await;
    assert!(text.contains("cannot be reached") || text.contains("no whole answer"), "{text}");
}

#[tokio::test]
async fn the_rate_is_kept_and_many_who_want_the_same_ask_once() {
    let amd = Amd::new();
    let server = Server::start(amd_answers(&amd)).await;
    let config = EndorsementsConfig { requests_per_minute: 2, ..asking(&server.url) };
    let (endorsements, _open) = store(&config).await;
    let at = At::Now(UnixSeconds(now()));
    let wanted: Vec<_> = (0..16)
        .map(|_| {
            let endorsements = endorsements.clone();
            tokio::spawn(async move { endorsements.snp(&Amd::key(), &[], at).await })
        })
        .collect();
    for one in wanted {
        let text = one.await.unwrap().unwrap_err().to_string();
        assert!(text.contains("revocation list of ARK Milan is not stored (too many requests to the cache)"), "{text}");
        assert!(!text.contains("VCEK"), "{text}");
    }
    assert_eq!(server.asked().len(), 2, "{:?}", server.asked());
}

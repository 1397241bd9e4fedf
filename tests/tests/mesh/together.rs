//! Domains authorize together, and stop together.

use std::time::Duration;

use crate::bed::{A, B, Bed, C, DENIED, DOMAINS, HALTED, phases, refusals};
use crate::proxy::Network;

const SLEEPS: [&str; 3] = ["--", "sleep", "600"];

fn sleeping<'a>(options: &[&'a str]) -> Vec<&'a str> {
    options.iter().copied().chain(SLEEPS).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_domain_authorizes_the_same_intent_on_the_same_node_and_all_of_them_hear_its_end() {
    let bed = Bed::founded(4_000).await;
    let mut execution = bed.exec(&["--", "sh", "-c", "sleep 4; exit 7"]);
    let seen = bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    let intent = seen[0].fact("intent").to_owned();
    for domain in DOMAINS {
        assert_eq!((phases(&seen, 2, Some(domain)), phases(&seen, 3, Some(domain))), (1, 1), "{domain}");
    }
    let status = bed.status().await;
    let leases = status["executions"][0]["leases"].as_array().unwrap();
    assert_eq!(leases.len(), 3, "{status}");
    let (seen, exit_code) = bed.ended(execution).await;
    assert_eq!(exit_code, 7);
    for domain in DOMAINS {
        assert!(phases(&seen, 6, Some(domain)) >= 1, "{domain} was not asked to renew");
    }
    for domain in DOMAINS {
        let ended = async || Ok(bed.records(domain, &intent).await.contains(&"end".to_owned()).then_some(()));
        bed.explained(bed.mesh.until("each domain's record of the end", ended).await);
        let records = bed.records(domain, &intent).await;
        for kind in ["intent", "authorization", "renewal", "end"] {
            assert!(records.iter().any(|record| record == kind), "{domain}: {records:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_starts_with_two_of_three_and_ends_when_one_of_the_two_is_gone() {
    let mut bed = Bed::founded(3_000).await;
    bed.mesh.kill(C).await.unwrap();
    // All three were wanted: nothing starts.
    let (seen, exit_code) = bed.ended(bed.exec(&sleeping(&[]))).await;
    assert_eq!((phases(&seen, 5, None), exit_code), (0, DENIED));
    assert_eq!(refusals(&seen), ["fault.verifier_unreachable", "governance.missing_authorization"]);
    let mut execution = bed.exec(&sleeping(&["--need", "2"]));
    let seen = bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    assert_eq!((phases(&seen, 3, Some(A)), phases(&seen, 3, Some(B)), phases(&seen, 3, Some(C))), (1, 1, 0));
    // The one that is left is not enough; its own lease goes on being renewed until then.
    bed.mesh.kill(B).await.unwrap();
    let (seen, exit_code) = bed.ended(execution).await;
    assert_eq!((seen.last().unwrap().field("halt_code"), exit_code), ("halt.lease_ended", HALTED));
    // Who was away learns of it when it is back, by a record of its own; what nobody could cosign is shown from then on.
    bed.back(1).await;
    bed.back(2).await;
    for domain in DOMAINS {
        let halted =
            async || Ok(bed.records(domain, crate::bed::NODE).await.contains(&"halt".to_owned()).then_some(()));
        bed.explained(bed.mesh.until("the record of the halt", halted).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_domain_that_refuses_is_enough_where_all_are_needed() {
    let bed = Bed::founded(4_000).await;
    bed.explained(
        bed.mesh.rule(B, "@id(\"attest\") permit (principal, action == Action::\"attest\", resource);").await,
    );
    let (seen, exit_code) = bed.ended(bed.exec(&sleeping(&[]))).await;
    assert_eq!((phases(&seen, 5, None), exit_code), (0, DENIED));
    assert!(refusals(&seen).contains(&"policy.not_permitted"), "{:?}", refusals(&seen));
    // It permitted nothing, which is no word against it: the others suffice where two do.
    let mut execution = bed.exec(&sleeping(&["--need", "2"]));
    let seen = bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    assert_eq!(phases(&seen, 5, None), 1, "{:?}", refusals(&seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_domain_is_waited_for_and_a_silent_or_one_way_one_ends_what_needs_it() {
    let bed = Bed::founded(3_000).await;
    // One that says nothing holds up those that suffice for a moment only.
    bed.proxies[2].be(Network::Silent);
    let mut execution = bed.exec(&sleeping(&["--need", "2"]));
    let seen = bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    assert_eq!((phases(&seen, 3, Some(A)), phases(&seen, 3, Some(B))), (1, 1), "{:?}", refusals(&seen));
    bed.proxies[2].be(Network::Whole);
    bed.told(&mut execution, |seen| seen.phase() == Some(6)).await;
    drop(execution);
    bed.proxies[1].be(Network::Slow(Duration::from_millis(150)));
    let mut execution = bed.exec(&sleeping(&[]));
    let seen = bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    assert_eq!(phases(&seen, 3, None), 3, "{:?}", refusals(&seen));
    bed.proxies[1].be(Network::Whole);
    bed.told(&mut execution, |seen| seen.phase() == Some(6) && seen.fact("domain") == B).await;
    // What it says does not arrive any more: its lease is not renewed, and runs out.
    bed.proxies[1].be(Network::Deaf);
    let (seen, exit_code) = bed.ended(execution).await;
    assert_eq!((seen.last().unwrap().field("halt_code"), exit_code), ("halt.lease_ended", HALTED));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_was_away_joins_what_runs_without_it_and_carries_it_on() {
    let bed = Bed::founded(3_000).await;
    bed.proxies[2].be(Network::Refusing);
    let mut execution = bed.exec(&sleeping(&["--need", "2"]));
    bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    // It was not there at the beginning.
    bed.proxies[2].be(Network::Whole);
    bed.told(&mut execution, |seen| seen.fact("domain") == C && seen.phase() == Some(3)).await;
    // Its lease ran out beside two others.
    bed.proxies[1].be(Network::Refusing);
    let leases = async || {
        let status = bed.status().await;
        let leases = status["executions"][0]["leases"].as_array().cloned().unwrap_or_default();
        Ok(leases.iter().all(|lease| lease["domain"] != B).then_some(leases.len()))
    };
    assert_eq!(bed.explained(bed.mesh.until("the end of a lease", leases).await), 2);
    bed.proxies[1].be(Network::Whole);
    bed.told(&mut execution, |seen| seen.fact("domain") == B && seen.phase().is_some()).await;
    // What began with the first and the second goes on with the second and the third.
    bed.proxies[0].be(Network::Refusing);
    let gone = async || {
        let status = bed.status().await;
        let leases = status["executions"][0]["leases"].as_array().cloned().unwrap_or_default();
        Ok(leases.iter().all(|lease| lease["domain"] != A).then_some(leases.len()))
    };
    assert_eq!(bed.explained(bed.mesh.until("the end of the first lease", gone).await), 2);
    bed.told(&mut execution, |seen| seen.fact("domain") == B && seen.phase() == Some(6)).await;
    let seen = bed.told(&mut execution, |seen| seen.fact("domain") == C && seen.phase() == Some(6)).await;
    assert!(!seen.iter().any(|seen| seen.is("exit")), "{:?}", refusals(&seen));
}

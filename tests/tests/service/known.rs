//! What an operator is told of a machine that was refused, and of what a candidate would change: through the program's own
//! command line.

use serde_json::Value;
use tests::boot::{BootEvent, kind};

use crate::bed::captured;
use crate::domain::Domain;
use crate::node::{Node, Stream};

/// A lab whose node is known by `fleet` version 1.
async fn ready() -> (Domain, Node, Stream) {
    let mut node = Node::new();
    let domain = Domain::found(&node.machine).await;
    let set = domain.write_set(&node.machine, "fleet", 1);
    domain.stage(&set).await;
    domain.activate("fleet:1").await;
    node.enrol(&domain).await.unwrap();
    let stream = node.connect(&domain).await;
    (domain, node, stream)
}

/// The node starts with another loader from now on.
fn with_another_loader(node: &mut Node) {
    node.machine.boot.events.push(BootEvent::of_data(4, kind::IPL, b"another loader"));
    node.machine.clock.reset_count += 1;
}

async fn permitted(node: &mut Node, stream: &mut Stream) {
    let request = node.authorize(&node.intent(&[]));
    node.ask(stream, request).await.unwrap();
}

/// Log index of a denial by what is known.
async fn denied(node: &mut Node, stream: &mut Stream) -> String {
    let request = node.authorize(&node.intent(&[]));
    let refusal = node.ask(stream, request).await.unwrap_err();
    assert!(refusal.code.starts_with("reference."), "{}", refusal.code);
    refusal.entry
}

/// The hint of the failure that is about reference values.
fn hint(document: &Value) -> &str {
    let failures = document["failures"].as_array().unwrap().iter();
    let mut about = failures.filter(|failure| failure["code"].as_str().unwrap().starts_with("reference."));
    about.next().unwrap()["hint"].as_str().unwrap()
}

#[tokio::test]
async fn a_denial_names_the_nearest_set_what_differs_and_the_commands_that_mend_it() {
    let (domain, mut node, mut stream) = ready().await;
    with_another_loader(&mut node);
    let entry = denied(&mut node, &mut stream).await;

    // Nothing knows it: the nearest set, the event where the two part, and a proposal from this very evidence.
    let explained = domain.ask(&["explain", &entry], 0).await;
    assert_eq!((&explained["nearest"]["id"], &explained["nearest"]["stage"]), (&"fleet".into(), &"active".into()));
    assert_eq!(explained["nearest"]["first"]["claim"], "tpm.pcr.4");
    assert!(hint(&explained).contains("EV_IPL \"another loader\""), "{explained:#}");
    let out = domain.path("proposed.toml");
    let capture = format!("verifier refs capture node-1 --entry {entry} --out node-1.toml");
    assert_eq!(explained["next"][0]["command"], capture);
    assert!(hint(&explained).contains(&capture), "{explained:#}");
    let read = domain.read(&["explain", &entry], 0).await;
    assert!(read.contains(&capture) && read.contains("nearest is fleet version 1"), "{read}");

    // What the commands propose, once staged, is named as what would let the machine in.
    domain.ask(&["refs", "capture", "node-1", "--entry", &entry, "--out", &out], 0).await;
    domain.stage(&out).await;
    let explained = domain.ask(&["explain", &entry], 0).await;
    assert_eq!((&explained["nearest"]["stage"], &explained["nearest"]["differences"]), (&"staged".into(), &0.into()));
    assert!(hint(&explained).contains("all matches node-1 version 1, which is staged"), "{explained:#}");
    assert_eq!(explained["next"][0]["command"], "verifier refs activate node-1:1 --signer KEY");
    domain.activate("node-1:1").await;
    permitted(&mut node, &mut stream).await;
    domain.finish().await;
}

#[tokio::test]
async fn a_denial_says_that_what_was_measured_is_superseded() {
    let (domain, mut node, mut stream) = ready().await;
    let mut newer = Node::new();
    with_another_loader(&mut newer);
    let mut set = captured(&newer.machine, "fleet", 2).set().document().clone();
    set.reason = "the new loader".to_owned().try_into().unwrap();
    let set = firmware_refs::set::ReferenceValueSet::from_document(set).unwrap();
    domain.stage(&domain.write("newer.toml", &set)).await;
    domain.activate("fleet:2").await;
    // A lab has no grace window unless told, so version 1 no longer matches.
    let entry = denied(&mut node, &mut stream).await;
    let explained = domain.ask(&["explain", &entry], 0).await;
    assert_eq!(explained["nearest"]["version"], 1);
    assert!(hint(&explained).contains("superseded by fleet version 2"), "{explained:#}");
    domain.finish().await;
}

#[tokio::test]
async fn a_candidate_that_breaks_a_node_names_node_and_claim_and_one_that_breaks_none_says_so() {
    let (domain, mut node, mut stream) = ready().await;
    // Before anything was decided there is nothing to judge by, and that is no all-clear.
    let same = domain.write_set(&node.machine, "fleet", 2);
    let nothing = domain.ask(&["refs", "backtest", &same], 4).await;
    assert_eq!((&nothing["decision"], &nothing["totals"]["decisions"]), (&"fault".into(), &0.into()), "{nothing:#}");

    permitted(&mut node, &mut stream).await;
    permitted(&mut node, &mut stream).await;
    let size = |status: Value| status["size"].as_u64().unwrap();
    let before = size(domain.ask(&["log", "checkpoint"], 0).await);
    let fine = domain.ask(&["refs", "backtest", &same, "--days", "1"], 0).await;
    assert_eq!((&fine["decision"], &fine["totals"]["still_permitted"]), (&"affirmed".into(), &2.into()), "{fine:#}");
    assert_eq!(fine["candidate"]["in_place_of"][0], "fleet version 1");

    // Of the same name, it takes the place of the active version; of another, it is added and breaks nobody.
    let mut other = Node::new();
    with_another_loader(&mut other);
    let breaking = domain.write_set(&other.machine, "fleet", 2);
    let broken = domain.ask(&["refs", "backtest", &breaking], 3).await;
    let failure = &broken["failures"][0];
    assert_eq!((&failure["node"], &failure["claim"]), (&"node-1".into(), &"tpm.pcr.4".into()), "{broken:#}");
    assert_eq!((&failure["code"], &failure["decisions"]), (&"reference.pcr_unknown".into(), &2.into()), "{broken:#}");
    assert_eq!((&failure["reference"]["id"], &broken["nodes_broken"]), (&"fleet".into(), &1.into()));
    let read = domain.read(&["refs", "backtest", &breaking], 3).await;
    assert!(read.contains("node-1: reference.pcr_unknown at tpm.pcr.4, 2 decisions"), "{read}");
    let added = domain.write_set(&other.machine, "others", 1);
    assert_eq!(domain.ask(&["refs", "backtest", &added], 0).await["nodes_broken"], 0);

    // A staged set by its name, and whom it would let in.
    with_another_loader(&mut node);
    denied(&mut node, &mut stream).await;
    domain.stage(&added).await;
    let mends = domain.ask(&["refs", "backtest", "others:1"], 0).await;
    assert_eq!((&mends["totals"]["mended"], &mends["mended"][0]["node"]), (&1.into(), &"node-1".into()), "{mends:#}");
    // Looking has logged nothing: the log grew by the denial and by what follows a denial alone.
    let denials = domain.ask(&["log", "checkpoint"], 0).await;
    assert!(size(denials) <= before + 2);
    domain.finish().await;
}

#[tokio::test]
async fn a_candidate_policy_is_tried_and_what_is_no_longer_kept_is_counted() {
    let (domain, mut node, mut stream) = ready().await;
    permitted(&mut node, &mut stream).await;
    let lab = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy/lab.cedar");
    let fine = domain.ask(&["policy", "backtest", lab], 0).await;
    assert_eq!((&fine["candidate"]["kind"], &fine["totals"]["still_permitted"]), (&"policy".into(), &1.into()));
    let strict = domain.path("strict.cedar");
    std::fs::write(&strict, "@id(\"closed\") @reason(\"test\") forbid (principal, action, resource);").unwrap();
    let broken = domain.ask(&["policy", "backtest", &strict], 3).await;
    let failure = &broken["failures"][0];
    assert_eq!((&failure["code"], &failure["node"]), (&"policy.forbidden".into(), &"node-1".into()), "{broken:#}");
    // What is no policy, or not there, is misuse: nothing was judged.
    std::fs::write(&strict, "forbid principal;").unwrap();
    domain.ask(&["policy", "backtest", &strict], 2).await;
    domain.ask(&["refs", "backtest", "nothing:7"], 2).await;

    domain.sql("DELETE FROM blobs WHERE kind = 'evidence'").await;
    let gone = domain.ask(&["policy", "backtest", lab], 4).await;
    assert_eq!((&gone["decision"], &gone["totals"]["permitted_unjudged"]), (&"fault".into(), &1.into()), "{gone:#}");
    assert!(gone["unjudged"][0]["why"].as_str().unwrap().contains("no longer kept"), "{gone:#}");
    domain.finish().await;
}

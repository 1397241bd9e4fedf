//! A domain that shows one log to a node and another to its partners: found by what the node carries from the one to the
//! others, and by nothing else.

use std::process::Command;

use crate::bed::{A, B, Bed, C, NODE, phases, refusals};
use crate::proxy::Network;

/// The second face of a domain: the same keys, and from here on another history.
const TWIN: &str = "c.example-twin";

impl Bed {
    /// A copy of a stopped domain, as one more domain that can be served.
    fn twin(&mut self, domain: &str) {
        let (from, to) = (self.mesh.path(domain), self.mesh.path(TWIN));
        assert!(Command::new("cp").arg("-a").args([&from, &to]).status().unwrap().success());
        // The configuration names the store by its place.
        let config = to.join("verifier.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace(&from.display().to_string(), &to.display().to_string())).unwrap();
        self.mesh.take_in(TWIN);
    }

    async fn log_size(&self, domain: &str) -> u64 {
        let head = self.explained(self.mesh.ask(domain, &["log", "checkpoint"], 0).await);
        head["size"].as_u64().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_shows_a_node_another_history_than_the_partners_is_found_by_gossip_alone() {
    let mut bed = Bed::founded(6_000).await;
    let stopped = bed.mesh.stop(C).await;
    bed.explained(stopped);
    bed.twin(C);
    // What the node sees asks no partner for anything: neither to cosign nor to look.
    let config = bed.mesh.path(C).join("verifier.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("witness_quorum = 1", "witness_quorum = 0")).unwrap();
    // And no partner sees it, who would take the other history for a second one: neither looks at it nor is asked, until it
    // no longer knows them.
    bed.surfaces.iter().for_each(|surface| surface.be(Network::Refusing));
    bed.back(2).await;
    let signer = bed.mesh.signer(C);
    for partner in [A, B] {
        let untrust = ["domain", "untrust", partner, "--signer", &signer, "--reason", "none of their business"];
        bed.explained(bed.mesh.ask(C, &untrust, 0).await);
    }
    // What the partners see goes on as if nothing were.
    bed.surfaces[..2].iter().for_each(|surface| surface.be(Network::Whole));
    let served = bed.mesh.serve(TWIN).await;
    bed.explained(served);
    bed.surfaces[2].retarget(&bed.mesh.public(TWIN).unwrap());
    bed.surfaces[2].be(Network::Whole);
    bed.until_connected(C).await;
    let (seen, code) = bed.ended(bed.exec(&["--domain", C, "--", "true"])).await;
    assert_eq!((phases(&seen, 5, None), code), (1, 0), "{:?}", refusals(&seen));
    while bed.log_size(TWIN).await <= bed.log_size(C).await {
        bed.explained(bed.mesh.ask(TWIN, &["governance", "publish"], 0).await);
    }
    bed.until_stands(A, C, "fresh").await;
    bed.until_stands(B, C, "fresh").await;
    // The node says hello again, and brings what it saw.
    let stopped = bed.mesh.stop_node(NODE).await;
    bed.explained(stopped);
    let started = bed.mesh.start(NODE);
    bed.explained(started);
    bed.until_stands(A, C, "forked").await;
    bed.until_stands(B, C, "forked").await;
    let (seen, _) = bed.ended(bed.exec(&["--domain", A, "--domain", C, "--", "true"])).await;
    assert_eq!(phases(&seen, 5, None), 0);
    assert!(refusals(&seen).contains(&"governance.partner_forked"), "{:?}", refusals(&seen));
}

//! Whose cosignatures a node counts, whatever the verifier that answers it does.

use crate::bed::{A, B, Bed, C, phases, refusals};
use crate::liar::Lie;
use crate::proxy::Network;

impl Bed {
    /// The verifier key of a partner's witness, as a domain's operators are shown it.
    async fn vkey(&self, domain: &str, partner: &str) -> String {
        let status = self.explained(self.mesh.ask(domain, &["governance", "status"], 0).await);
        let row = status["partners"].as_array().unwrap().iter().find(|row| row["partner"] == partner).unwrap();
        row["witness_keys"][0].as_str().unwrap().to_owned()
    }

    async fn count(&self, domain: &str, quorum: &str, vkeys: &[String]) {
        let signer = self.mesh.signer(domain);
        let mut order = vec!["domain", "witnesses", "--quorum", quorum, "--signer", &signer, "--reason", "pinned"];
        vkeys.iter().for_each(|vkey| order.extend(["--witness", vkey]));
        self.explained(self.mesh.ask(domain, &order, 0).await);
    }

    /// Runs what needs domain A alone, and says why it did not, if it did not.
    async fn runs_at_a(&self) -> Vec<String> {
        let (seen, _) = self.ended(self.exec(&["--domain", A, "--", "true"])).await;
        let refused: Vec<_> = refusals(&seen).into_iter().map(str::to_owned).collect();
        assert_eq!(phases(&seen, 5, None) == 1, refused.is_empty(), "{refused:?}");
        refused
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_answers_without_its_witnesses_is_refused_by_the_node() {
    let mut bed = Bed::founded(6_000).await;
    let vkeys = [bed.vkey(A, B).await, bed.vkey(A, C).await];
    bed.count(A, "1", &vkeys[..1]).await;
    assert!(bed.runs_at_a().await.is_empty());
    // Whoever has the verifier has its keys, and not the policy authority's.
    let _liar = bed.lies(0, Lie::Witnesses).await;
    bed.until_connected(A).await;
    assert_eq!(bed.runs_at_a().await, ["audit.quorum_not_met"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_is_configured_for_fewer_witnesses_than_were_ordered_waits_for_as_many_as_were_ordered() {
    let bed = Bed::founded(6_000).await;
    let config = std::fs::read_to_string(bed.mesh.path(A).join("verifier.toml")).unwrap();
    assert!(config.contains("witness_quorum = 1"));
    let vkeys = [bed.vkey(A, B).await, bed.vkey(A, C).await];
    bed.count(A, "2", &vkeys).await;
    assert!(bed.runs_at_a().await.is_empty());
    bed.surfaces[2].be(Network::Refusing);
    assert!(bed.runs_at_a().await.contains(&"fault.witness_quorum".to_owned()));
    let status = bed.explained(bed.mesh.ask(A, &["governance", "status"], 0).await);
    assert_eq!(status["witness_quorum"], 2, "{status}");
    bed.surfaces[2].be(Network::Whole);
    let again = async || Ok(bed.runs_at_a().await.is_empty().then_some(()));
    bed.explained(bed.mesh.until("both witnesses", again).await);
}

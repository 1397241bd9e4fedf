//! Whose cosignatures a node counts, whatever the verifier that answers it does.

use crate::bed::{A, B, Bed, C, phases, refusals};

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
    // Whoever has the verifier has its configuration, and not the policy authority's keys.
    let stopped = bed.mesh.stop(A).await;
    bed.explained(stopped);
    let path = bed.mesh.path(A).join("verifier.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    assert!(config.contains("witness_quorum = 1"));
    std::fs::write(&path, config.replace("witness_quorum = 1", "witness_quorum = 0")).unwrap();
    bed.back(0).await;
    let connected = async || {
        let status = bed.mesh.status(crate::bed::NODE).await?;
        let domains = status["domains"].as_array().cloned().unwrap_or_default();
        Ok(domains.iter().any(|row| row["name"] == A && row["connected"] == true).then_some(()))
    };
    bed.explained(bed.mesh.until("the node being back", connected).await);
    assert_eq!(bed.runs_at_a().await, ["audit.quorum_not_met"]);
}

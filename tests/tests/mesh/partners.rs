//! What domains hold of each other while they authorize together: whoever does not stand any more authorizes nothing that
//! counts, and nothing that needs it goes on.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::bed::{A, B, Bed, C, NODE, phases, refusals};
use crate::proxy::Network;

/// A network that is whole again is noticed by then, without an operator.
const HEALED_WITHIN: Duration = Duration::from_secs(10);
/// Exit code of what too few domains authorize any more.
const WITHDRAWN: i32 = governance::lease::WITHDRAWN_EXIT_CODE;

impl Bed {
    /// Nothing starts that needs all three, and this is among the reasons: who restarted may not have its nodes back yet,
    /// and whose log nobody cosigns any more cannot release either.
    async fn nothing_starts(&self, code: &str) {
        let (seen, exit_code) = self.ended(self.exec(&["--", "sleep", "600"])).await;
        assert!(phases(&seen, 5, None) == 0 && exit_code != 0, "exit code {exit_code}: {:?}", refusals(&seen));
        assert!(refusals(&seen).contains(&code), "{:?}", refusals(&seen));
    }

    /// What needs all three runs, and ends by itself.
    async fn all_three_run(&self) {
        let (seen, exit_code) = self.ended(self.exec(&["--", "true"])).await;
        assert_eq!((phases(&seen, 5, None), exit_code), (1, 0), "{:?}", refusals(&seen));
    }

    /// A domain's state folder as it is now, the domain being stopped.
    fn copied(&self, domain: &str, to: &str) {
        copy(&self.mesh.path(domain), &self.mesh.path(to));
    }

    /// Puts a domain's folder back.
    fn put_back(&self, domain: &str, from: &str) {
        std::fs::remove_dir_all(self.mesh.path(domain)).unwrap();
        self.copied(from, domain);
    }

    async fn stopped(&mut self, domain: &str) {
        let stopped = self.mesh.stop(domain).await;
        self.explained(stopped);
    }

    /// Issues a domain's next state; its epoch.
    async fn publish(&self, domain: &str) -> u64 {
        let published = self.explained(self.mesh.ask(domain, &["governance", "publish"], 0).await);
        published["epoch"].as_u64().unwrap()
    }

    /// Looks until a partner is found to have gone back or forked, and says which.
    async fn until_condemned(&self, domain: &str, partner: &str) -> String {
        let condemned = async || {
            let standing = self.mesh.standing(domain, partner).await?;
            Ok(standing.filter(|standing| ["rolled_back", "forked"].contains(&standing.as_str())))
        };
        self.explained(self.mesh.until("the partner's condemnation", condemned).await)
    }

    /// Looks until both others hold a domain's state of this epoch.
    async fn until_held(&self, partner: &str, epoch: u64) {
        for domain in [A, B, C].into_iter().filter(|domain| *domain != partner) {
            let held = async || {
                let status = self.mesh.ask(domain, &["governance", "status"], 0).await?;
                let rows = status["partners"].as_array().cloned().unwrap_or_default();
                let row = rows.into_iter().find(|row| row["partner"] == partner);
                Ok(row.filter(|row| row["epoch"] == epoch).map(drop))
            };
            self.explained(self.mesh.until("the new state being held", held).await);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success(), "{} is not copied", from.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_is_silent_for_too_long_ends_what_needs_it_and_is_back_without_an_operator() {
    let bed = Bed::federated(3_000, 6).await;
    let mut two = bed.exec(&["--need", "2", "--", "sleep", "600"]);
    bed.told(&mut two, |seen| seen.phase() == Some(5)).await;
    // Its nodes still reach it; the other domains do not.
    bed.surfaces[2].be(Network::Silent);
    bed.until_stands(A, C, "stale").await;
    bed.until_stands(B, C, "stale").await;
    bed.nothing_starts("governance.partner_stale").await;
    // Two of three are enough without it, and go on being so.
    bed.told(&mut two, |seen| seen.phase() == Some(6) && seen.fact("domain") == A).await;
    bed.surfaces[2].be(Network::Whole);
    for domain in [A, B] {
        let took = bed.until_stands(domain, C, "fresh").await;
        assert!(took < HEALED_WITHIN, "{domain} took {took:?}");
    }
    bed.all_three_run().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_with_a_partner_that_falls_silent_ends_at_its_next_renewal_and_its_node_is_free_to_begin_anew() {
    // Partners look at each other every second or so: on a busy machine one that is there is not seen for two.
    let bed = Bed::federated(6_000, 8).await;
    let mut execution = bed.exec(&["--", "sleep", "600"]);
    let seen = bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    assert_eq!(phases(&seen, 5, None), 1, "{:?}", refusals(&seen));
    bed.surfaces[1].be(Network::Refusing);
    let (seen, exit_code) = bed.ended(execution).await;
    assert_eq!(exit_code, WITHDRAWN, "{:?}", refusals(&seen));
    assert!(refusals(&seen).contains(&"governance.partner_stale"), "{:?}", refusals(&seen));
    bed.nothing_starts("governance.partner_stale").await;
    // Nobody has to readmit the node, which did nothing: it goes on once the partner is seen again.
    let status = bed.status().await;
    assert!(status["halt"].is_null(), "{status}");
    for domain in [A, B, C] {
        let ended = async || Ok(bed.records(domain, NODE).await.contains(&"end".to_owned()).then_some(()));
        bed.explained(bed.mesh.until("the record of the end", ended).await);
        assert!(!bed.records(domain, NODE).await.contains(&"quarantine".to_owned()), "{domain}");
    }
    bed.surfaces[1].be(Network::Whole);
    for domain in [A, C] {
        assert!(bed.until_stands(domain, B, "fresh").await < HEALED_WITHIN);
    }
    bed.all_three_run().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_that_is_taken_back_denies_until_an_operator_trusts_anew() {
    let bed = Bed::founded(6_000).await;
    bed.all_three_run().await;
    let signer = bed.mesh.signer(A);
    let untrust = ["domain", "untrust", B, "--signer", &signer, "--reason", "an incident there"];
    bed.explained(bed.mesh.ask(A, &untrust, 0).await);
    bed.nothing_starts("governance.partner_untrusted").await;
    let at = bed.surfaces[1].address.clone();
    bed.explained(bed.mesh.trust(A, B, &at, 600).await);
    bed.until_stands(A, B, "fresh").await;
    bed.all_three_run().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_comes_back_with_an_old_database_is_denied_at_once_and_for_good() {
    let mut bed = Bed::founded(6_000).await;
    bed.stopped(B).await;
    bed.copied(B, "yesterday");
    bed.back(1).await;
    let epoch = bed.publish(B).await;
    bed.until_held(B, epoch).await;
    bed.stopped(B).await;
    bed.put_back(B, "yesterday");
    bed.back(1).await;
    // Once its log has grown beyond what was seen of it, what is seen are two histories.
    let standing = bed.until_condemned(A, B).await;
    bed.nothing_starts(&format!("governance.partner_{standing}")).await;
    // That it goes on from there changes nothing; the figures that were seen survive a restart of ours.
    bed.publish(B).await;
    bed.stopped(A).await;
    bed.back(0).await;
    bed.until_stands(A, B, &standing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_signs_two_histories_is_denied_at_once_and_for_good() {
    let mut bed = Bed::founded(6_000).await;
    bed.stopped(C).await;
    bed.copied(C, "twin");
    bed.back(2).await;
    let epoch = bed.publish(C).await;
    bed.until_held(C, epoch).await;
    bed.stopped(C).await;
    // The twin never signed that state; it signs others, up to and beyond its number.
    bed.put_back(C, "twin");
    bed.surfaces[2].be(Network::Refusing);
    bed.back(2).await;
    // Other rules, not only another time: within one second the same state would be signed alike.
    bed.explained(bed.mesh.rule(C, include_str!("../../../policy/lab.cedar")).await);
    for _ in 0..2 {
        bed.publish(C).await;
    }
    bed.surfaces[2].be(Network::Whole);
    // Whoever saw of it first what is older than before found that it went back.
    let standing = bed.until_condemned(A, C).await;
    bed.until_condemned(B, C).await;
    bed.nothing_starts(&format!("governance.partner_{standing}")).await;
}

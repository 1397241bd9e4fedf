//! The conditions of denial, each across domains, with one defect.

use crate::bed::{A, B, Bed, C, DENIED, DOMAINS, HALTED, NODE, phases, refusals};
use crate::liar::Lie;
use crate::proxy::Network;

impl Bed {
    /// An execution that all domains are asked for starts nothing; every code that was told.
    async fn starts_nothing(&self) -> Vec<String> {
        let (seen, exit_code) = self.ended(self.exec(&["--", "sleep", "600"])).await;
        assert_eq!((phases(&seen, 5, None), exit_code), (0, DENIED), "{:?}", refusals(&seen));
        refusals(&seen).into_iter().map(str::to_owned).collect()
    }

    pub(crate) async fn until_connected(&self, domain: &str) {
        let connected = async || {
            let status = self.status().await;
            let domains = status["domains"].as_array().cloned().unwrap_or_default();
            let link = domains.into_iter().find(|link| link["name"] == domain);
            Ok(link.filter(|link| link["connected"] == true).map(drop))
        };
        self.explained(self.mesh.until("a link", connected).await);
    }

    /// The link to a domain says why it is none.
    async fn cut_off(&self, domain: &str) -> String {
        let code = async || {
            let status = self.status().await;
            let domains = status["domains"].as_array().cloned().unwrap_or_default();
            let link = domains.into_iter().find(|link| link["name"] == domain);
            Ok(link.and_then(|link| link["fault"].as_str().map(str::to_owned)))
        };
        self.explained(self.mesh.until("the end of a link", code).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_authorization_denies() {
    let bed = Bed::founded(4_000).await;
    bed.proxies[1].be(Network::Refusing);
    bed.cut_off(B).await;
    assert_eq!(bed.starts_nothing().await.last().unwrap(), "governance.missing_authorization");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_of_another_domain_counts_for_nothing() {
    let bed = Bed::founded(4_000).await;
    let signer = bed.mesh.signer(A);
    let revoke = ["revoke", "--signer", &signer, "--reason", "not ours", "key", "ledger"];
    let refused = bed.explained(bed.mesh.ask(B, &revoke, DENIED).await);
    assert!(refused.to_string().contains("threshold_not_met"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_no_key_of_its_domain_signed_is_worth_nothing() {
    let mut bed = Bed::founded(4_000).await;
    let _liar = bed.lies(1, Lie::Signature).await;
    bed.until_connected(B).await;
    assert!(bed.starts_nothing().await.contains(&"governance.signature_invalid".to_owned()));
    // The others' artifacts suffice where two do.
    let mut two = bed.exec(&["--need", "2", "--", "sleep", "600"]);
    let seen = bed.told(&mut two, |seen| seen.phase() == Some(5)).await;
    assert_eq!((phases(&seen, 5, None), phases(&seen, 3, Some(B))), (1, 0), "{:?}", refusals(&seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_under_another_governance_state_than_the_domain_shows_is_worth_nothing() {
    let mut bed = Bed::founded(4_000).await;
    let _liar = bed.lies(1, Lie::State).await;
    bed.until_connected(B).await;
    assert!(bed.starts_nothing().await.contains(&"governance.state_mismatch".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_whose_bundle_is_not_the_one_that_its_state_names_is_relied_on_by_nobody() {
    let mut bed = Bed::founded(12_000).await;
    let before = std::fs::read(bed.mesh.path(&format!("{C}-for-{A}.bundle"))).unwrap();
    let mut execution = bed.exec(&["--", "sleep", "600"]);
    bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    // The partners see the state that names the new bundle only beside the old one.
    bed.surfaces[2].be(Network::Refusing);
    bed.explained(bed.mesh.renew_bundle(C).await);
    let liar = bed.lies(2, Lie::Bundle(before)).await;
    bed.surfaces[2].be(Network::Whole);
    bed.until_connected(C).await;
    for domain in [A, B] {
        let found = async || {
            let status = bed.mesh.ask(domain, &["governance", "status"], 0).await?;
            let rows = status["partners"].as_array().cloned().unwrap_or_default();
            let row = rows.into_iter().find(|row| row["partner"] == C && row["standing"] == "inconsistent");
            Ok(row.filter(|row| row["error"]["code"] == "governance.trust_inconsistent").map(drop))
        };
        bed.explained(bed.mesh.until("a state beside another bundle than its own", found).await);
    }
    // It was seen a moment ago, and what it said before has long to go: that is no matter.
    let (seen, exit_code) = bed.ended(execution).await;
    assert_eq!(exit_code, governance::lease::WITHDRAWN_EXIT_CODE, "{:?}", refusals(&seen));
    assert!(refusals(&seen).contains(&"governance.trust_inconsistent"), "{:?}", refusals(&seen));
    assert!(bed.status().await["halt"].is_null(), "its node did nothing");
    assert!(bed.starts_nothing().await.contains(&"governance.trust_inconsistent".to_owned()));
    assert_eq!(bed.ended(bed.exec(&["--domain", A, "--domain", B, "--", "true"])).await.1, 0, "nobody needs it here");
    drop(liar);
    bed.back(2).await;
    for domain in [A, B] {
        bed.until_stands(domain, C, "fresh").await;
    }
    bed.until_connected(C).await;
    assert_eq!(bed.ended(bed.exec(&["--", "true"])).await.1, 0, "both fit together again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_shows_a_bundle_from_before_is_denied_for_good() {
    let mut bed = Bed::founded(4_000).await;
    let before = std::fs::read(bed.mesh.path(&format!("{C}-for-{A}.bundle"))).unwrap();
    bed.explained(bed.mesh.renew_bundle(C).await);
    for domain in [A, B] {
        let taken = async || {
            let status = bed.mesh.ask(domain, &["governance", "status"], 0).await?;
            let rows = status["partners"].as_array().cloned().unwrap_or_default();
            let row = rows.into_iter().find(|row| row["partner"] == C);
            Ok(row.filter(|row| row["sequence"] == 3 && row["standing"] == "fresh").map(drop))
        };
        bed.explained(bed.mesh.until("the new bundle being held", taken).await);
    }
    let _liar = bed.lies(2, Lie::Bundle(before)).await;
    bed.until_connected(C).await;
    for domain in [A, B] {
        bed.explained(bed.mesh.stands(domain, C, "rolled_back").await);
    }
    assert!(bed.starts_nothing().await.contains(&"governance.partner_rolled_back".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_identity_under_a_known_name_is_denied_in_each_domain() {
    let bed = Bed::founded(4_000).await;
    let config = std::fs::read_to_string(bed.mesh.path("node-1/attestd.toml")).unwrap();
    bed.mesh.folder("again").unwrap();
    bed.mesh.write("again/attestd.toml", config.as_bytes()).unwrap();
    for domain in DOMAINS {
        let refused = bed.explained(bed.mesh.ask_node("again", &["enrol", "--domain", domain], DENIED).await);
        assert!(refused.to_string().contains("governance.node_identity"), "{domain}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_that_is_not_what_the_domains_know_is_denied_by_each() {
    let mut bed = Bed::founded(4_000).await;
    bed.mesh.change(0).await.unwrap();
    let codes = bed.starts_nothing().await;
    let of_domains = codes.iter().filter(|code| code.starts_with("reference.")).count();
    assert_eq!(of_domains, 3, "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lineage_that_one_domain_does_not_know_is_denied_there_and_halts_what_needs_it() {
    let bed = Bed::founded(4_000).await;
    let mut execution = bed.exec(&["--", "sleep", "600"]);
    bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    // One bit of what the node holds of one domain: the last one's, whose digest ends the file.
    let path = bed.mesh.path("node-1/lineage_head");
    let mut forked = std::fs::read(&path).unwrap();
    *forked.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &forked).unwrap();
    let (seen, exit_code) = bed.ended(execution).await;
    assert_eq!((seen.last().unwrap().field("halt_code"), exit_code), ("halt.refused_at_renewal", HALTED));
    assert!(refusals(&seen).contains(&"governance.lineage_discontinuous"), "{:?}", refusals(&seen));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lineage_that_one_domain_does_not_know_at_the_first_request_keeps_its_node_out_until_it_is_looked_at() {
    let bed = Bed::founded(4_000).await;
    assert_eq!(bed.ended(bed.exec(&["--", "true"])).await.1, 0);
    for domain in DOMAINS {
        let ended = async || Ok(bed.records(domain, NODE).await.contains(&"end".to_owned()).then_some(()));
        bed.explained(bed.mesh.until("the record of the end", ended).await);
    }
    let path = bed.mesh.path("node-1/lineage_head");
    let mut forked = std::fs::read(&path).unwrap();
    *forked.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &forked).unwrap();
    let (seen, exit_code) = bed.ended(bed.exec(&["--", "sleep", "600"])).await;
    assert!(phases(&seen, 5, None) == 0 && exit_code != 0, "{exit_code}");
    assert!(refusals(&seen).contains(&"governance.lineage_discontinuous"), "{:?}", refusals(&seen));
    let quarantined = async || Ok(bed.records(C, NODE).await.contains(&"quarantine".to_owned()).then_some(()));
    bed.explained(bed.mesh.until("the record of the quarantine", quarantined).await);
    // Having learnt the newest head from its denial does not make it the node again.
    let halted = async || Ok((!bed.status().await["halt"].is_null()).then_some(()));
    bed.explained(bed.mesh.until("the halt", halted).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn governance_that_went_back_in_one_domain_is_not_spoken_with() {
    let mut bed = Bed::founded(4_000).await;
    bed.mesh.stop(B).await.unwrap();
    let (state, kept) = (bed.mesh.path(B), bed.mesh.path("kept"));
    copied(&state, &kept);
    bed.mesh.serve(B).await.unwrap();
    bed.proxies[1].retarget(&bed.mesh.reach(B).unwrap().nodes);
    bed.explained(bed.mesh.rule(B, include_str!("../../../policy/lab.cedar")).await);
    // The node sees the next epoch, and then the one before it again.
    let seen = async || {
        let status = bed.status().await;
        let link = status["domains"].as_array().and_then(|all| all.iter().find(|link| link["name"] == B).cloned());
        Ok(link.filter(|link| link["connected"] == true).map(drop))
    };
    bed.explained(bed.mesh.until("the link", seen).await);
    let (_, exit_code) = bed.ended(bed.exec(&["--", "true"])).await;
    assert_eq!(exit_code, 0);
    bed.mesh.stop(B).await.unwrap();
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&kept, &state).unwrap();
    bed.mesh.serve(B).await.unwrap();
    bed.proxies[1].retarget(&bed.mesh.reach(B).unwrap().nodes);
    let rolled_back = async || Ok((bed.cut_off(B).await == "fault.store_rolled_back").then_some(()));
    bed.explained(bed.mesh.until("the refusal of what went back", rolled_back).await);
    assert_eq!(bed.starts_nothing().await.last().unwrap(), "governance.missing_authorization");
}

fn copied(from: &std::path::Path, to: &std::path::Path) {
    let copy = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copy.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_domain_revokes_is_halted_and_every_domain_hears_of_it() {
    let bed = Bed::founded(4_000).await;
    let mut execution = bed.exec(&["--", "sleep", "600"]);
    let seen = bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    let artifact = seen.iter().find(|seen| seen.phase() == Some(3) && seen.fact("domain") == C).unwrap();
    let (signer, id) = (bed.mesh.signer(C), artifact.fact("artifact").to_owned());
    let revoke = ["revoke", "--signer", &signer, "--reason", "withdrawn", "artifact", &id];
    bed.explained(bed.mesh.ask(C, &revoke, 0).await);
    let (seen, exit_code) = bed.ended(execution).await;
    assert_eq!((seen.last().unwrap().field("halt_code"), exit_code), ("halt.revoked", HALTED));
    for domain in DOMAINS {
        let halted = async || Ok(bed.records(domain, NODE).await.contains(&"halt".to_owned()).then_some(()));
        bed.explained(bed.mesh.until("the record of the halt", halted).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_cannot_prove_to_be_the_domains_is_not_spoken_with() {
    let mut bed = Bed::founded(4_000).await;
    // Where one domain was, another answers: its certificate is no word of the one that was asked.
    bed.proxies[1].retarget(&bed.mesh.reach(C).unwrap().nodes);
    bed.mesh.kill(B).await.unwrap();
    let unproven = async || Ok((bed.cut_off(B).await == "fault.verifier_unproven").then_some(()));
    bed.explained(bed.mesh.until("the refusal of another's certificate", unproven).await);
    assert_eq!(bed.starts_nothing().await.last().unwrap(), "governance.missing_authorization");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_falls_silent_is_denied_once_it_is_stale() {
    let mut bed = Bed::federated(20_000, 6).await;
    let both = ["--domain", A, "--domain", C, "--", "true"];
    assert_eq!(bed.ended(bed.exec(&both)).await.1, 0);
    bed.mesh.kill(C).await.unwrap();
    bed.explained(bed.mesh.stands(A, C, "stale").await);
    let (seen, exit_code) = bed.ended(bed.exec(&both)).await;
    assert_eq!(exit_code, DENIED);
    assert!(refusals(&seen).contains(&"governance.partner_stale"), "{:?}", refusals(&seen));
    // Who needs one of the two has this one.
    assert_eq!(bed.ended(bed.exec(&["--need", "1", "--domain", A, "--domain", C, "--", "true"])).await.1, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_says_which_nodes_followed_it_and_when() {
    let bed = Bed::founded(4_000).await;
    // A node that hears nothing is named.
    bed.proxies[0].be(Network::Silent);
    let signer = bed.mesh.signer(A);
    let revoke = ["revoke", "--signer", &signer, "--reason", "gone", "key", "ledger"];
    let answer = bed.explained(bed.mesh.ask(A, &revoke, 0).await);
    assert_eq!(answer["nodes"]["unacknowledged"][0].as_str(), Some(NODE), "{answer}");
    bed.proxies[0].be(Network::Whole);
    let mut execution = bed.exec(&["--", "sleep", "600"]);
    bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    let signer = bed.mesh.signer(B);
    let revoke = ["revoke", "--signer", &signer, "--reason", "gone", "node", NODE];
    let answer = bed.explained(bed.mesh.ask(B, &revoke, 0).await);
    let followed = answer["nodes"]["acknowledged"].as_array().unwrap();
    assert_eq!((followed.len(), followed[0]["node"].as_str()), (1, Some(NODE)), "{answer}");
    assert!(followed[0]["after_ms"].as_u64().unwrap() < 2_000, "{answer}");
    let (seen, exit_code) = bed.ended(execution).await;
    assert_eq!((seen.last().unwrap().field("halt_code"), exit_code), ("halt.revoked", HALTED));
}

//! Domains that contradict each other are not outvoted.

use crate::bed::{A, B, Bed, DENIED, HALTED, NODE, phases, refusals};

const LAB: &str = include_str!("../../../policy/lab.cedar");

fn forbidding(rule: &str) -> String {
    format!("{LAB}\n@id(\"{rule}\") forbid (principal, action == Action::\"execute\", resource);")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_domain_permits_and_another_forbids_is_a_conflict_though_enough_others_permit() {
    let bed = Bed::founded(4_000).await;
    bed.explained(bed.mesh.rule(B, &forbidding("not-here")).await);
    for options in [&[][..], &["--need", "2"]] {
        let (seen, exit_code) = bed.ended(bed.exec(&[options, &["--", "sleep", "600"]].concat())).await;
        assert_eq!((phases(&seen, 5, None), exit_code), (0, DENIED), "{:?}", refusals(&seen));
        let conflict = seen.iter().find(|seen| seen.field("code") == "policy.conflict").expect("a conflict");
        let rules = conflict.list("rules");
        assert_eq!(rules.len(), 2, "{rules:?}");
        assert!(rules[0].starts_with(A) && rules[0].contains("execute-lab"), "{rules:?}");
        assert_eq!(rules[1], format!("{B}: not-here"));
    }
    // Who authorized it was told that nothing came of it: no lease of its is missing its end.
    let ended = async || Ok(bed.records(A, NODE).await.contains(&"end".to_owned()).then_some(()));
    bed.explained(bed.mesh.until("the record of the end", ended).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_comes_to_forbid_what_runs_halts_it_though_enough_others_permit() {
    let bed = Bed::founded(3_000).await;
    let mut execution = bed.exec(&["--need", "2", "--", "sleep", "600"]);
    bed.told(&mut execution, |seen| seen.phase() == Some(5)).await;
    bed.explained(bed.mesh.rule(B, &forbidding("no-more")).await);
    let (seen, exit_code) = bed.ended(execution).await;
    assert_eq!((seen.last().unwrap().field("halt_code"), exit_code), ("halt.policy_conflict", HALTED));
    assert!(refusals(&seen).contains(&"policy.conflict"), "{:?}", refusals(&seen));
    let status = bed.status().await;
    let reason = status.pointer("/halt/reason/policy_conflict").expect("a conflict");
    assert_eq!((reason["forbidding"].as_str(), reason["forbids"][0].as_str()), (Some(B), Some("no-more")));
}

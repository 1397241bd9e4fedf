//! One domain takes another's word for a machine that it holds no reference values for.

use audit::bundle::{AttachmentKind, ProofBundle};
use evidence::names::DomainName;

use crate::bed::{A, B, Bed, C, DOMAINS, NODE, STALENESS_S, phases, refusals};

const LAB: &str = include_str!("../../../policy/lab.cedar");

/// What B permits on the word of A alone.
const ON_THE_WORD_OF_A: &str = r#"
@id("federate-a") permit (principal == Domain::"a.example", action == Action::"federate", resource is Domain)
when { context.kind == "sev-snp" && context.state_age_s < 600 };
@id("execute-a") permit (principal is Node, action == Action::"execute", resource is Scope)
when { context.claims.environment == "a.example/lab" };
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_carried_to_a_domain_that_could_not_judge_the_machine_and_all_of_it_is_proven_offline() {
    let bed = Bed::known_to(&[A, C], 6_000, STALENESS_S).await;
    // Without A's word, B has nothing to judge by.
    let (seen, _) = bed.ended(bed.exec(&["--", "true"])).await;
    assert_eq!(phases(&seen, 5, None), 0, "{:?}", refusals(&seen));
    let at = bed.surfaces[0].address.clone();
    bed.explained(bed.mesh.trust_with(B, A, &at, STALENESS_S, &["--results"]).await);
    bed.until_stands(B, A, "fresh").await;
    bed.explained(bed.mesh.rule(B, &format!("{LAB}{ON_THE_WORD_OF_A}")).await);
    let (seen, exit_code) = bed.ended(bed.exec(&["--", "sleep", "10"])).await;
    assert_eq!((phases(&seen, 5, None), exit_code), (1, 0), "{:?}", refusals(&seen));
    assert_eq!(phases(&seen, 3, Some(B)), 1);
    // It went on, on newer words.
    assert!(phases(&seen, 6, Some(B)) >= 2 && refusals(&seen).is_empty(), "{:?}", refusals(&seen));
    for domain in DOMAINS {
        let ended = async || Ok(bed.records(domain, NODE).await.contains(&"end".to_owned()).then_some(()));
        bed.explained(bed.mesh.until("each domain's record of the end", ended).await);
    }
    let granted = seen.iter().find(|seen| seen.phase() == Some(3) && seen.fact("domain") == B).unwrap();
    explained(&bed, granted.fact("log_index")).await;
    // An auditor needs nothing but the three exports and the pins; B's alone rests on a record that is not in it.
    let (mut parts, mut witnesses) = (Vec::new(), Vec::new());
    for domain in DOMAINS {
        let (part, cosigned_by) = bed.exported(domain).await;
        parts.push(part);
        witnesses.extend(cosigned_by);
    }
    let whole = bed.text("whole.proof");
    let merge = ["proof", "merge", &parts[0], &parts[1], &parts[2], "--out", &whole];
    bed.explained(bed.mesh.ask_nobody(&merge, 0).await);
    bed.verified(&whole, (&[A, B, C], &[]), None).await;
    bed.verified(&parts[1], (&[B], &witnesses), Some("audit.parent_missing")).await;
    let bytes = std::fs::read(&whole).unwrap();
    let mut without = ProofBundle::decode(&bytes).unwrap();
    without.attachments.retain(|attachment| attachment.kind != AttachmentKind::Passport);
    bed.mesh.write("without.proof", &without.encode().unwrap()).unwrap();
    bed.verified(&bed.text("without.proof"), (&[A, B, C], &[]), Some("audit.attachment_missing")).await;
    // Nor is it another domain's.
    let mut moved = ProofBundle::decode(&bytes).unwrap();
    let passport = moved.attachments.iter_mut().find(|attachment| attachment.kind == AttachmentKind::Passport).unwrap();
    passport.domain = DomainName::new(C).unwrap();
    bed.mesh.write("moved.proof", &moved.encode().unwrap()).unwrap();
    bed.verified(&bed.text("moved.proof"), (&[A, B, C], &[]), Some("audit.attachment_stray")).await;
}

/// What B says of its decision names A, and is the same again from what was kept.
async fn explained(bed: &Bed, entry: &str) {
    let told = bed.explained(bed.mesh.ask(B, &["explain", entry, "--replay"], 0).await);
    assert_eq!(told["decision"], "affirmed", "{told}");
    assert_eq!(told["vouched_by"]["domain"], A, "{told}");
    assert_eq!(told["claims"]["environment"], "a.example/lab", "{told}");
    assert_eq!(told["replay"]["same"], true, "{told}");
}

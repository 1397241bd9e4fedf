//! One history across the logs of several domains, and one proof of it.

use crate::bed::{A, B, Bed, C, DENIED, DOMAINS, NODE};

impl Bed {
    pub(crate) fn text(&self, name: &str) -> String {
        self.mesh.path(name).display().to_string()
    }

    /// A domain's export, and the verifier keys of those who cosigned its log.
    pub(crate) async fn exported(&self, domain: &str) -> (String, Vec<String>) {
        let out = self.text(&format!("{domain}.proof"));
        let made = self.explained(self.mesh.ask(domain, &["proof", "export", NODE, "--out", &out], 0).await);
        let witnesses = made["witnesses"].as_array().unwrap().iter();
        (out, witnesses.map(|vkey| vkey.as_str().unwrap().to_owned()).collect())
    }

    /// Verifies by the pins of these domains, knowing these witnesses; what was refused, by its code.
    pub(crate) async fn verified(
        &self,
        file: &str,
        known: (&[&str], &[String]),
        code: Option<&str>,
    ) -> serde_json::Value {
        let (pinned, witnesses) = known;
        let pins: Vec<String> = pinned.iter().map(|domain| self.text(&format!("{domain}/pin.toml"))).collect();
        let mut verify = vec!["proof", "verify", file];
        pins.iter().for_each(|pin| verify.extend(["--pin", pin]));
        witnesses.iter().for_each(|vkey| verify.extend(["--witness", vkey]));
        let report = self.explained(self.mesh.ask_nobody(&verify, code.map_or(0, |_| DENIED)).await);
        assert_eq!(report.pointer("/failures/0/code").and_then(|code| code.as_str()), code, "{report}");
        report
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_across_the_domains_verifies_and_neither_a_part_of_it_nor_a_changed_byte_does() {
    let bed = Bed::founded(4_000).await;
    let (seen, exit_code) = bed.ended(bed.exec(&["--", "true"])).await;
    assert_eq!(exit_code, 0);
    let (mut parts, mut witnesses) = (Vec::new(), Vec::new());
    for domain in DOMAINS {
        let ended = async || Ok(bed.records(domain, NODE).await.contains(&"end".to_owned()).then_some(()));
        bed.explained(bed.mesh.until("each domain's record of the end", ended).await);
        let (part, cosigned_by) = bed.exported(domain).await;
        assert!(!cosigned_by.is_empty(), "{domain}: nobody cosigned its log");
        parts.push(part);
        witnesses.extend(cosigned_by);
    }
    let whole = bed.text("whole.proof");
    let merge = ["proof", "merge", &parts[2], &parts[0], &parts[1], "--out", &whole];
    bed.explained(bed.mesh.ask_nobody(&merge, 0).await);
    let report = bed.verified(&whole, (&DOMAINS, &[]), None).await;
    assert_eq!(report["domains"].as_array().unwrap().len(), 3);
    // Each domain's record of the end follows from the others' authorizations: without their logs it proves nothing.
    bed.verified(&parts[0], (&[A], &witnesses), Some("audit.parent_missing")).await;
    bed.verified(&whole, (&[A, B], &[]), Some("audit.domain_not_pinned")).await;
    let two = bed.text("two.proof");
    bed.explained(bed.mesh.ask_nobody(&["proof", "merge", &parts[0], &parts[1], "--out", &two], 0).await);
    bed.verified(&two, (&[A, B, C], &witnesses), Some("audit.parent_missing")).await;
    let twice = ["proof", "merge", &parts[0], &parts[0], "--out", &bed.text("twice.proof")];
    bed.explained(bed.mesh.ask_nobody(&twice, DENIED).await);
    // Another domain's authority vouches for none of it.
    let pin = std::fs::read_to_string(bed.mesh.path("b.example/pin.toml")).unwrap();
    bed.mesh.write("swapped.toml", pin.replace(B, A).as_bytes()).unwrap();
    let swapped = bed.text("swapped.toml");
    let refused = bed.mesh.ask_nobody(&["proof", "verify", &parts[0], "--pin", &swapped], DENIED).await;
    assert!(bed.explained(refused).to_string().contains("audit.threshold_not_met"));
    drawn(&bed, &whole, seen[0].fact("intent")).await;
    let bytes = std::fs::read(&whole).unwrap();
    for step in 1..24 {
        let mut bent = bytes.clone();
        bent[step * bytes.len() / 24] ^= 1;
        let name = format!("bent-{step}.proof");
        bed.mesh.write(&name, &bent).unwrap();
        let (file, pins) = (bed.text(&name), DOMAINS.map(|domain| bed.text(&format!("{domain}/pin.toml"))));
        let verify = ["proof", "verify", &file, "--pin", &pins[0], "--pin", &pins[1], "--pin", &pins[2]];
        bed.explained(bed.mesh.ask_nobody(&verify, DENIED).await);
    }
}

/// The lineage of an execution, from one domain's log and from what all of them prove.
async fn drawn(bed: &Bed, whole: &str, intent: &str) {
    let one = bed.explained(bed.mesh.ask(A, &["lineage", "show", intent], 0).await);
    let records = |document: &serde_json::Value| document["records"].as_array().unwrap().clone();
    let kinds: Vec<_> = records(&one).iter().map(|record| record["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["enrolment", "intent", "authorization", "end"], "{one}");
    assert_eq!(records(&one)[3]["absent"].as_array().unwrap().len(), 2, "the others' logs are not here: {one}");
    assert_eq!(records(&one)[1]["command"], serde_json::json!(["true"]), "{one}");
    let svg = bed.text("whole.svg");
    let pins = DOMAINS.map(|domain| bed.text(&format!("{domain}/pin.toml")));
    let mut show = vec!["lineage", "show", intent, "--proof", whole, "--svg", &svg];
    pins.iter().for_each(|pin| show.extend(["--pin", pin]));
    let all = bed.explained(bed.mesh.ask_nobody(&show, 0).await);
    let ends: Vec<_> = records(&all).into_iter().filter(|record| record["kind"] == "end").collect();
    assert_eq!((records(&all).len(), ends.len()), (12, 3), "{all}");
    for end in ends {
        assert_eq!(
            (end["follows"].as_array().unwrap().len(), end["absent"].as_array().unwrap().len()),
            (2, 0),
            "{end}"
        );
    }
    let drawing = std::fs::read_to_string(&svg).unwrap();
    assert_eq!((drawing.matches("<text ").count(), drawing.matches("</svg>").count()), (12, 1), "{drawing}");
    let unknown = bed.mesh.ask(A, &["lineage", "show", "no-such-node"], DENIED).await;
    bed.explained(unknown);
}

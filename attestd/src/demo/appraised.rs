//! End to end, with the demo's machine: evidence collected by hand, and `verifier appraise`.

use rustix::process::{Signal, kill_process};
use serde_json::Value;
use wire::protocol::INSPECTION_AUDIENCE;

use super::faults::{Scene, running};
use super::machine::NODE;
use super::stage::{Stage, VERIFIER_STATE};
use super::watched::{Seen, Watched};
use crate::cli::DemoPlatform;

/// The end of the execution, so that nothing but the operator's commands goes on.
async fn ended(scene: Scene) -> (Stage, super::machine::Machine, tokio::process::Child, tokio::process::Child) {
    let Scene { stage, machine, _verifier: verifier, node, mut execution, workload, .. } = scene;
    kill_process(workload, Signal::KILL).unwrap();
    execution.until(|seen| seen.is("exit"), |_: &Seen| Ok(())).await.unwrap();
    (stage, machine, verifier, node)
}

async fn log_size(stage: &Stage) -> u64 {
    stage.ask_verifier(&["log", "checkpoint"], 0).await.unwrap()["size"].as_u64().unwrap()
}

/// Index of the first entry of a kind.
async fn first(stage: &Stage, kind: &str) -> String {
    for index in 0..log_size(stage).await {
        let index = index.to_string();
        if stage.ask_verifier(&["explain", &index], 0).await.unwrap()["kind"] == kind {
            return index;
        }
    }
    panic!("no {kind} in the log");
}

fn code(document: &Value) -> &str {
    document["failures"][0]["code"].as_str().unwrap_or_default()
}

async fn by_hand_and_anew(platform: DemoPlatform, register: &str, parts: &[&str]) {
    let (stage, _machine, _verifier, node) = ended(running(platform, 60_000).await).await;
    let size = log_size(&stage).await;
    let (nonce, other) = ("5a".repeat(32), "a5".repeat(32));
    let (file, folder) = (stage.text("evidence.cmw"), stage.make("parts").unwrap().display().to_string());
    let collect = ["evidence", "--nonce", &nonce, "--out", &file, "--parts", &folder];

    // From the daemon, which owns the machine.
    let shown = stage.ask_attestd(&collect, 0).await.unwrap();
    assert_eq!((&shown["nonce"], &shown["node"]), (&nonce.as_str().into(), &NODE.into()));
    assert_eq!(shown["answers"]["audience"], INSPECTION_AUDIENCE);
    assert_eq!(shown["evidence_bytes"], std::fs::metadata(&file).unwrap().len());
    for part in parts {
        assert!(std::path::Path::new(&folder).join(part).is_file(), "{part}");
    }
    let short = stage.ask_attestd(&["evidence", "--nonce", "5a"], 2).await.unwrap();
    assert_eq!(short["failures"][0]["code"], "nonce");

    let appraise = |nonce: &str, node: &str| {
        ["appraise", "--node", node, "--evidence", &file, "--nonce", nonce].map(str::to_owned)
    };
    let ask = async |arguments: [String; 7], exit| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        stage.ask_verifier(&arguments, exit).await.unwrap()
    };
    let affirmed = ask(appraise(&nonce, NODE), 0).await;
    assert_eq!((&affirmed["decision"], &affirmed["grants"]), (&"affirmed".into(), &"nothing".into()), "{affirmed:#}");
    assert!(affirmed["claims"].is_object() && affirmed["ear_trustworthiness_vector"].is_object(), "{affirmed:#}");
    let denied = ask(appraise(&other, NODE), 3).await;
    assert_eq!((&denied["decision"], code(&denied)), (&"denied".into(), "evidence.binding_mismatch"));
    ask(appraise(&nonce, "nobody"), 2).await;
    ask(appraise("5a", NODE), 2).await;

    // A logged decision, now; entries that are none.
    let authorization = first(&stage, "authorization").await;
    let anew = stage.ask_verifier(&["appraise", &authorization], 0).await.unwrap();
    assert_eq!((&anew["decision"], &anew["differs"]), (&"affirmed".into(), &false.into()), "{anew:#}");
    for entry in ["0", "100000"] {
        stage.ask_verifier(&["appraise", entry], 2).await.unwrap();
    }
    assert_eq!(log_size(&stage).await, size, "looking is not logged");

    // What it measured is revoked.
    let registers = anew["registers"].as_object().unwrap_or_else(|| panic!("{anew:#}"));
    let revoked = registers[register].as_str().unwrap().to_owned();
    let signer = stage.path(VERIFIER_STATE).join("authority/authority-1.key").display().to_string();
    let revoke = ["revoke", "--signer", &signer, "--reason", "no longer", "measurement", &revoked];
    stage.ask_verifier(&revoke, 0).await.unwrap();
    let anew = stage.ask_verifier(&["appraise", &authorization], 3).await.unwrap();
    assert_eq!((code(&anew), &anew["differs"]), ("governance.revoked", &true.into()), "{anew:#}");
    assert_eq!(code(&ask(appraise(&nonce, NODE), 3).await), "governance.revoked");

    // Who asks now is refused on the record; that decision, and the one from before, can be made again.
    let mut execution = Watched::start(&stage, &["--", "true"]).unwrap();
    let refusal = execution.until(|seen| seen.is("refusal"), |_: &Seen| Ok(())).await.unwrap();
    assert_eq!(refusal.field("code"), "governance.revoked");
    for (entry, decided) in [(refusal.field("entry"), "governance.revoked"), (&*authorization, "")] {
        let explained = stage.ask_verifier(&["explain", entry, "--replay"], 0).await.unwrap();
        assert_eq!((code(&explained), &explained["replay"]["same"]), (decided, &true.into()), "{explained:#}");
    }
    drop(execution);

    // Without a daemon the machine itself is asked.
    drop(node);
    let again = stage.until("the daemon's end", async || Ok(stage.ask_attestd(&collect, 0).await.ok())).await.unwrap();
    assert_eq!(again["kind"], shown["kind"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tpm_s_evidence_is_collected_and_appraised_by_hand() {
    by_hand_and_anew(DemoPlatform::Tpm, "pcr.4", &["quote.bin", "ak.pub", "event.log"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_snp_guest_s_evidence_is_collected_and_appraised_by_hand() {
    by_hand_and_anew(DemoPlatform::SimulatedSnp, "measurement", &["report.bin", "node-key.cose"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trust_domain_s_evidence_is_collected_and_appraised_by_hand() {
    by_hand_and_anew(DemoPlatform::SimulatedTdx, "mrtd", &["td-quote.bin", "ccel.bin", "node-key.cose"]).await;
}

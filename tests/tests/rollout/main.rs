//! A fleet of twenty machines with a software TPM each moves from one firmware to the next, and away from it again:
//! one `verifier`, twenty-one `attestd`, all of them the real programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod machine;
mod production;
mod programs;

use std::path::{Path, PathBuf};
use std::time::Instant;

use machine::{A, B, Machine};
use programs::{Domain, Execution, until};
use serde_json::Value;
use tests::authority::Authority;

const FLEET: usize = 20;
/// Renewed at a third of it: everything else on these cores must fit in between.
const LEASE_MS: u32 = 12_000;

fn pem(ders: &[&[u8]]) -> String {
    use base64::Engine as _;
    let one = |der: &&[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    ders.iter().map(one).collect()
}

/// What the node sent since the log had this size, written as that version of the set of the whole fleet.
async fn captured(domain: &Domain, place: &Path, node: &str, since: u64, version: u64) -> String {
    let mut attempt = 0;
    let proposal = until("a capture", async || {
        attempt += 1;
        let out = place.join(format!("{node}-{attempt}.toml"));
        let answer = domain.try_ask(&["refs", "capture", node, "--out", &out.display().to_string()]).await?;
        (answer["entry"].as_u64().unwrap() >= since).then_some(out)
    })
    .await;
    let text = std::fs::read_to_string(proposal).unwrap();
    let (id, first) = (format!("id = \"{node}\""), "version = 1");
    assert!(text.contains(&id) && text.contains(first), "{text}");
    let set = place.join(format!("fleet-{version}.toml"));
    let text = text.replacen(&id, "id = \"fleet\"", 1).replacen(first, &format!("version = {version}"), 1);
    std::fs::write(&set, text).unwrap();
    set.display().to_string()
}

/// Two at a time: as many as there are cores.
async fn each(machines: &mut [Machine], run: impl AsyncFn(&mut Machine)) {
    for pair in machines.chunks_mut(2) {
        let [first, rest @ ..] = pair else { continue };
        match rest {
            [second] => drop(tokio::join!(run(first), run(second))),
            _ => run(first).await,
        }
    }
}

fn refusals(execution: &Execution) -> Vec<Value> {
    execution.events().into_iter().filter(|event| event["event"] == "refusal").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_moves_to_new_firmware_without_a_halt_and_is_halted_when_that_is_revoked() {
    let begun = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    let maker = Authority::new("swtpm");
    let file = |name: &str, ders: &[&[u8]]| -> PathBuf {
        let path = place.join(name);
        std::fs::write(&path, pem(ders)).unwrap();
        path
    };
    let (root, chain) = (file("root.pem", &[&maker.root]), file("chain.pem", &[&maker.intermediate, &maker.root]));
    let domain = Domain::found(place.join("verifier"), &root, LEASE_MS).await;
    let mut fleet = Vec::new();
    for number in 1..=FLEET {
        fleet.push(Machine::manufacture(&place, &format!("node-{number}"), &maker, &A).await);
    }
    let mut canary = Machine::manufacture(&place, "canary", &maker, &A).await;
    each(&mut fleet, async |machine| {
        machine.enrol(&domain, &chain).await;
        machine.run().await;
    })
    .await;
    canary.enrol(&domain, &chain).await;
    canary.run().await;
    eprintln!("{:.1?}: {FLEET} machines and a canary enrolled and connected", begun.elapsed());

    // From nothing to an active signed set.
    let signer = domain.authority_key();
    let signed = |arguments: &[&str], reason: &str| -> Vec<String> {
        let more = ["--signer", &signer, "--reason", reason];
        arguments.iter().copied().chain(more).map(str::to_owned).collect()
    };
    let order = async |arguments: &[&str], reason: &str| {
        let all = signed(arguments, reason);
        domain.ask(&all.iter().map(String::as_str).collect::<Vec<_>>(), 0).await
    };
    let set_a = captured(&domain, &place, "node-1", 0, 1).await;
    order(&["refs", "import", &set_a], "first boot").await;
    order(&["refs", "activate", "fleet:1"], "first boot").await;
    let mut running = Vec::new();
    for machine in &fleet {
        let execution = machine.exec();
        execution.begun().await;
        running.push(execution);
    }
    eprintln!("{:.1?}: {FLEET} workloads run on firmware A", begun.elapsed());

    // The canary shows what the new firmware measures, and in what it differs.
    let since = domain.ask(&["log", "checkpoint"], 0).await["size"].as_u64().unwrap();
    canary.reboot(&B).await;
    canary.run().await;
    let set_b = captured(&domain, &place, "canary", since, 2).await;
    let differs = domain.tell(&["refs", "diff", "fleet:1", &set_b]).await;
    assert!(differs.contains("version: 1 → 2") && differs.contains("TPM, PCR 0: sha256:"), "{differs}");
    assert!(!differs.contains("PCR 4:"), "only the firmware changed: {differs}");
    let against = domain.ask(&["refs", "diff", "fleet:1", "--node", "canary"], 0).await;
    assert_eq!(against["matches"], false);
    assert!(against["differences"][0]["words"].as_str().unwrap().starts_with("PCR 0 is "), "{against}");
    order(&["refs", "stage", &set_b], "mended firmware").await;
    let against = domain.ask(&["refs", "diff", "fleet:2", "--node", "canary"], 0).await;
    assert_eq!((&against["matches"], &against["stage"]), (&Value::Bool(true), &Value::from("staged")), "{against}");
    order(&["refs", "supersede", "fleet:1", "--by", "fleet:2", "--grace", "1h"], "mended firmware").await;

    // One machine after the other is drained, started anew and put back to work, while the others go on.
    for (machine, execution) in fleet.iter_mut().zip(&mut running) {
        machine.stop_workload();
        assert_eq!(execution.ended().await, (Some(0), String::new()), "{}: {:?}", machine.id, execution.events());
        assert!(refusals(execution).is_empty(), "{}", machine.id);
        machine.reboot(&B).await;
        machine.run().await;
        let anew = machine.exec();
        anew.begun().await;
        *execution = anew;
    }
    eprintln!("{:.1?}: {FLEET} workloads run on firmware B", begun.elapsed());
    for (machine, execution) in fleet.iter().zip(&running) {
        until("a renewal on B", async || (execution.phases(6) > 0).then_some(())).await;
        assert!(refusals(execution).is_empty(), "{}: {:?}", machine.id, execution.events());
    }
    eprintln!("{:.1?}: each renewed since, nothing was refused", begun.elapsed());

    // Taken back: what runs on it is halted, and what asks hears why.
    let revoked = order(&["refs", "revoke", "fleet:2"], "the mended firmware skips its signature check").await;
    let statement = revoked["statement"].as_str().unwrap();
    for (machine, execution) in fleet.iter().zip(&mut running) {
        let ended = execution.ended().await;
        assert_eq!(ended, (Some(5), "halt.revoked".to_owned()), "{}: {:?}", machine.id, execution.events());
    }
    eprintln!("{:.1?}: {FLEET} workloads halted", begun.elapsed());
    for execution in &running {
        let mut renewals = execution.events().into_iter().filter(|event| event["number"] == 6);
        let entry = renewals.next_back().unwrap()["facts"]["log_index"].as_str().unwrap().to_owned();
        named_as_revoked(&domain.ask(&["appraise", &entry], 3).await, statement);
    }
    let mut late = canary.exec();
    late.ended().await;
    let refusal = refusals(&late).pop().unwrap_or_else(|| panic!("not refused: {:?}", late.events()));
    assert_eq!(refusal["code"], "reference.revoked", "{refusal}");
    let entry = refusal["entry"].as_str().unwrap();
    let explained = domain.ask(&["explain", entry, "--replay"], 0).await;
    named_as_revoked(&explained, statement);
    assert_eq!(explained["replay"]["same"], true, "{explained}");

    told_by_its_history(&domain, statement).await;
    drop((fleet, canary));
    domain.stop_and_check().await;
    eprintln!("{:.1?}: all of it", begun.elapsed());
}

/// The denial says which set was revoked, why, and by which statement.
fn named_as_revoked(judged: &Value, statement: &str) {
    let failure = &judged["failures"][0];
    assert_eq!(failure["code"], "reference.revoked", "{judged}");
    assert_eq!((&failure["reference"]["id"], &failure["reference"]["version"]), (&"fleet".into(), &2.into()));
    let got = failure["got"].as_str().unwrap();
    assert!(got.contains("the mended firmware skips its signature check") && got.contains(statement), "{got}");
}

/// Every step, who signed, and where the log says so.
async fn told_by_its_history(domain: &Domain, statement: &str) {
    let document = domain.ask(&["refs", "history", "fleet"], 0).await;
    let steps = document["history"].as_array().unwrap();
    let told: Vec<_> =
        steps.iter().map(|step| format!("{} {}", step["version"], step["step"].as_str().unwrap())).collect();
    assert_eq!(told, ["1 staged", "1 active", "2 staged", "2 active", "1 superseded", "2 revoked"]);
    let entries: Vec<u64> = steps.iter().map(|step| step["entry"].as_u64().unwrap()).collect();
    assert!(entries.is_sorted_by(|before, after| before < after), "{entries:?}");
    let signer = steps[0]["signers"][0].as_str().unwrap();
    for step in steps {
        assert_eq!(step["signers"], serde_json::json!([signer]));
        let ordered = if step["step"] == "staged" { serde_json::json!([]) } else { serde_json::json!([signer]) };
        assert_eq!(step["ordered_by"], ordered, "{step}");
        let proved = domain.ask(&["log", "prove", &step["entry"].to_string()], 0).await;
        assert_eq!(proved["index"], step["entry"]);
    }
    assert_eq!(steps[4]["by"], "fleet:2");
    let grace_s = steps[4]["grace_until"].as_u64().unwrap() - steps[4]["at"].as_u64().unwrap();
    assert_eq!(grace_s, 3600);
    assert_eq!(steps[5]["statement"], statement);
    let text = domain.tell(&["refs", "history", "fleet:2"]).await;
    assert!(text.contains("the mended firmware skips its signature check") && text.contains(&signer[..8]), "{text}");
}

//! What tpm2-tools say of the same evidence. Every disagreement is one of `tests/divergences.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a test that goes wrong here should stop at once"
)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use attestd::demo::swtpm::Swtpm;
use evidence::{
    EvidenceDenial,
    digest::HashAlg,
    event_log::{EventLog, EventType},
};
use tests::boot::{Boot, BootEvent, kind};
use verifier::evidence_cli::{Case, Kind, Outcome};

/// Whether tpm2-tools are here; says so in one line if not.
fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        println!("skipped: {tool} is not installed");
        return false;
    }
    true
}

/// What tpm2_eventlog makes of a log: register values by bank, or nothing when it refuses.
fn tpm2_eventlog(path: &Path) -> Option<BTreeMap<(HashAlg, u8), String>> {
    let output = Command::new("tpm2_eventlog").arg(path).output().unwrap();
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, registers) = text.rsplit_once("\npcrs:\n").unwrap_or_default();
    let mut out = BTreeMap::new();
    let mut bank = None;
    for line in registers.lines() {
        let (key, value) = line.trim().split_once(':').unwrap();
        if value.is_empty() {
            bank = HashAlg::from_name(key);
        } else if let Some(bank) = bank {
            let value = value.trim().strip_prefix("0x").unwrap();
            out.insert((bank, key.trim().parse().unwrap()), value.to_owned());
        }
    }
    Some(out)
}

/// Our replay in the same form.
fn our_registers(log: &EventLog<'_>) -> BTreeMap<(HashAlg, u8), String> {
    let replays = HashAlg::ALL.into_iter().filter_map(|alg| log.replay(alg).ok().map(|replay| (alg, replay)));
    replays
        .flat_map(|(alg, replay)| replay.extended().map(|(pcr, value)| ((alg, pcr), value.hex())).collect::<Vec<_>>())
        .collect()
}

/// D1: tpm2_eventlog 5.4 extends EV_NO_ACTION events after the first, and knows no StartupLocality.
fn is_no_action_extended(log: &EventLog<'_>, pcr: u8) -> bool {
    log.events().iter().skip(1).any(|event| event.kind() == EventType::NoAction && event.pcr() == u32::from(pcr))
}

fn compare(name: &str, path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let ours = EventLog::parse(&bytes);
    let theirs = tpm2_eventlog(path);
    match (&ours, &theirs) {
        (Ok(log), Some(theirs)) => {
            for (register, value) in our_registers(log) {
                let differs = theirs.get(&register) != Some(&value);
                assert!(!differs || is_no_action_extended(log, register.1), "{name}: {register:?}");
            }
        }
        // D2: a SHA-1-only log may begin with an informative event.
        (Ok(log), None) => {
            let first = &log.events()[0];
            let is_informative = !log.is_crypto_agile() && first.kind() == EventType::NoAction;
            assert!(is_informative, "{name}: refused by tpm2_eventlog alone");
        }
        (Err(denial), Some(_)) => panic!("{name}: refused by us alone: {denial}"),
        (Err(_), None) => {}
    }
}

#[test]
fn tpm2_eventlog_replays_logs_to_the_same_registers() {
    if !has("tpm2_eventlog") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut informative = Boot::default();
    informative.events.insert(0, BootEvent::of_data(0, kind::NO_ACTION, b"StartupLocality\0\x03"));
    let digests: Vec<Vec<u8>> =
        informative.banks.iter().map(|bank| bank.hash(&[&informative.events[0].data]).as_bytes().to_vec()).collect();
    let informative = digests.iter().fold(informative.event_log(), |log, digest| {
        let at = log.windows(digest.len()).position(|window| window == digest).unwrap();
        // What is not extended has no digest (PFP §10.4.5).
        [&log[..at], &vec![0; digest.len()], &log[at + digest.len()..]].concat()
    });
    for (name, log) in [("plain", Boot::default().event_log()), ("informative", informative)] {
        let path = folder.path().join(name);
        std::fs::write(&path, log).unwrap();
        compare(name, &path);
    }
}

#[test]
fn tpm2_eventlog_replays_genuine_logs_to_the_same_registers() {
    let Some(corpus) = std::env::var_os("ATTEST_CORPUS").map(PathBuf::from) else {
        println!("skipped: ATTEST_CORPUS names no corpus of genuine evidence");
        return;
    };
    if !has("tpm2_eventlog") {
        return;
    }
    let manifest = std::fs::read(corpus.join("MANIFEST.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let cases = manifest["cases"].as_array().unwrap().iter();
    for case in cases.filter(|case| case["kind"] == "tcg-event-log" && case["expected"]["verdict"] == "accept") {
        compare(case["id"].as_str().unwrap(), &corpus.join(case["files"]["log"].as_str().unwrap()));
    }
}

#[test]
fn tpm2_eventlog_refuses_what_we_refuse_but_for_known_leniencies() {
    if !has("tpm2_eventlog") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let genuine = Boot::default().event_log();
    for at in (0..230).chain((230..genuine.len()).step_by(11)) {
        let mut bytes = genuine.clone();
        bytes[at] ^= 0x11;
        std::fs::write(&path, &bytes).unwrap();
        let ours = EventLog::parse(&bytes)
            .and_then(|log| HashAlg::ALL.into_iter().try_for_each(|alg| log.verify_event_data(alg)).map(|()| log));
        let explained = match (&ours, tpm2_eventlog(&path)) {
            (Ok(log), Some(theirs)) => our_registers(log).into_iter().all(|((bank, pcr), value)| {
                // D4
                theirs.get(&(bank, pcr)) == Some(&value) || (17..=22).contains(&pcr)
            }),
            (Err(denial), Some(_)) => is_lenience(denial, at),
            (Ok(_), None) => false,
            (Err(_), None) => true,
        };
        assert!(explained, "byte {at}: {ours:?}");
    }
}

/// What tpm2_eventlog lets pass and we deny.
fn is_lenience(denial: &EvidenceDenial, at: usize) -> bool {
    // D3: the content of the Spec ID event, which ends at byte 73 here.
    let is_spec_id = (28..73).contains(&at);
    // D5: digests that data must hash to, and digests of events that are not extended.
    let is_digest = matches!(denial, EvidenceDenial::EventDataMismatch { .. }) || (8..28).contains(&at);
    is_spec_id || is_digest
}

/// A software TPM with an AK, reached by tpm2-tools; each tool flushes what it left.
struct Quoter {
    swtpm: Swtpm,
    folder: tempfile::TempDir,
}

impl Quoter {
    fn start(scheme: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let quoter = Self { swtpm: Swtpm::start(&state).unwrap(), folder };
        quoter.run(&["tpm2_createek", "-c", "ek.ctx", "-G", "ecc", "-u", "ek.pub"]);
        let create = ["tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-g", "sha256", "-u", "ak.tss", "-f", "tss"];
        quoter.run(&[&create[..], scheme].concat());
        quoter.run(&["tpm2_readpublic", "-c", "ak.ctx", "-f", "pem", "-o", "ak.pem"]);
        quoter.run(&["tpm2_readpublic", "-c", "ak.ctx", "-f", "der", "-o", "ak.der"]);
        quoter.run(&["tpm2_pcrextend", &format!("4:sha256={}", "ab".repeat(32))]);
        quoter
    }

    fn tool(&self, line: &[&str]) -> Result<(), String> {
        let tcti = self.swtpm.tcti().to_string();
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).current_dir(self.folder.path()).env("TPM2TOOLS_TCTI", tcti);
        let output = command.output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    fn run(&self, line: &[&str]) {
        self.tool(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        self.tool(&["tpm2_flushcontext", "-t"]).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn judge(&self, signature: &str, ak: &str, pcrs: Option<&str>, nonce: &str) -> Outcome {
        let mut case = Case::new(Kind::TpmQuote);
        let files = [("message", Some("quote")), ("signature", Some(signature)), ("ak", Some(ak)), ("pcrs", pcrs)];
        for (role, file) in files {
            case.add(role, role, file.map(|file| self.path(file)).into_iter().collect()).unwrap();
        }
        case.expect_nonce = Some(hex::decode(nonce).unwrap());
        case.judge()
    }

    fn tpm2_checkquote(&self, pcrs: &str) -> bool {
        let files = ["-u", "ak.pem", "-m", "quote", "-s", "sig", "-f", pcrs];
        self.tool(&[&["tpm2_checkquote"][..], &files, &["-q", "c0ffee", "-g", "sha256"]].concat()).is_ok()
    }
}

const PCRS: &str = "sha256:0,1,2,3,4,5,6,7,10";

#[test]
fn tpm2_checkquote_agrees_on_quotes_of_every_scheme_and_file_form() {
    if !has("tpm2_checkquote") || !has("swtpm") {
        return;
    }
    for scheme in [["-G", "ecc", "-s", "ecdsa"], ["-G", "rsa", "-s", "rsassa"], ["-G", "rsa", "-s", "rsapss"]] {
        let quoter = Quoter::start(&scheme);
        let quote = ["tpm2_quote", "-c", "ak.ctx", "-l", PCRS, "-q", "c0ffee", "-g", "sha256", "--scheme", scheme[3]];
        let files = ["-m", "quote", "-s", "sig", "-o", "serialized"];
        quoter.run(&[&quote[..], &files].concat());
        quoter.run(&["tpm2_pcrread", PCRS, "-o", "values"]);
        let text =
            Command::new("tpm2_pcrread").arg(PCRS).env("TPM2TOOLS_TCTI", quoter.swtpm.tcti().to_string()).output();
        std::fs::write(quoter.path("text"), text.unwrap().stdout).unwrap();
        let size = (std::fs::read(quoter.path("ak.tss")).unwrap().len() - 2) as u16;
        assert_eq!(std::fs::read(quoter.path("ak.tss")).unwrap()[..2], size.to_be_bytes(), "TPM2B_PUBLIC");
        for ak in ["ak.pem", "ak.der", "ak.tss"] {
            for pcrs in [None, Some("serialized"), Some("values"), Some("text")] {
                let outcome = quoter.judge("sig", ak, pcrs, "c0ffee");
                assert!(matches!(outcome, Outcome::Authentic(_)), "{scheme:?} {ak} {pcrs:?}: {outcome:?}");
            }
        }
        // D7
        assert_eq!(quoter.tpm2_checkquote("serialized"), scheme[3] != "rsapss", "{scheme:?}");
        let wrong = quoter.judge("sig", "ak.pem", Some("serialized"), "c0ffef");
        assert!(matches!(&wrong, Outcome::Denied(denial) if denial.class() == "nonce"), "{wrong:?}");
        // The raw signature beside a quote of its own.
        let files = ["-m", "quote", "-s", "raw", "-f", "plain"];
        quoter.run(&[&quote[..], &files].concat());
        if scheme[3] != "rsapss" {
            let outcome = quoter.judge("raw", "ak.pem", Some("values"), "c0ffee");
            assert!(matches!(outcome, Outcome::Authentic(_)), "{scheme:?}: {outcome:?}");
        }
        let outcome = quoter.judge("raw", "ak.tss", Some("values"), "c0ffee");
        assert!(matches!(outcome, Outcome::Authentic(_)), "{scheme:?}: {outcome:?}");
    }
}

#[test]
fn no_changed_byte_of_a_quote_passes_and_tpm2_checkquote_refuses_the_same() {
    if !has("tpm2_checkquote") || !has("swtpm") {
        return;
    }
    let quoter = Quoter::start(&["-G", "ecc", "-s", "ecdsa"]);
    let quote = ["tpm2_quote", "-c", "ak.ctx", "-l", PCRS, "-q", "c0ffee", "-g", "sha256"];
    quoter.run(&[&quote[..], &["-m", "quote", "-s", "sig", "-o", "serialized"]].concat());
    for file in ["quote", "sig", "serialized"] {
        let genuine = std::fs::read(quoter.path(file)).unwrap();
        for at in 0..genuine.len() {
            let mut changed = genuine.clone();
            changed[at] ^= 1;
            std::fs::write(quoter.path(file), &changed).unwrap();
            let outcome = quoter.judge("sig", "ak.pem", Some("serialized"), "c0ffee");
            let is_authentic = matches!(outcome, Outcome::Authentic(_));
            // Every eleventh byte is enough for a process each.
            let theirs = (at % 11 == 0).then(|| quoter.tpm2_checkquote("serialized"));
            if file == "serialized" && !is_digest_in_use(&genuine, at) {
                continue; // D6: the file's frame is nobody's statement, only its values are quoted
            }
            assert!(!is_authentic, "{file} byte {at}");
            assert_ne!(theirs, Some(true), "{file} byte {at}");
        }
        std::fs::write(quoter.path(file), &genuine).unwrap();
    }
}

/// Whether a byte of the serialized form (TPML_PCR_SELECTION, a count, TPML_DIGESTs) is of a value.
fn is_digest_in_use(file: &[u8], at: usize) -> bool {
    let Some(at) = at.checked_sub(4 + 16 * 8 + 4) else { return false };
    let list = 136 + at / 532 * 532;
    let count = u32::from_le_bytes(file[list..list + 4].try_into().unwrap()) as usize;
    (at % 532).checked_sub(4).is_some_and(|at| at / 66 < count && (2..34).contains(&(at % 66)))
}

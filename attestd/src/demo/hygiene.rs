//! End to end: no execution key is left anywhere once what ran with it was halted, however that came about. While it runs
//! the daemon holds none either: a key is opened when its workload starts and moved into sealed memory of the kernel's, which
//! the daemon never maps.
#![allow(clippy::print_stdout, reason = "the process that is looked into speaks with the one that looks")]

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use evidence::node_key::XWingPublicKey;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable as _, Kem, OpModeS, Serializable as _, single_shot_seal};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::faults::{Scene, gone, pid_of, running_with};
use super::stage::Stage;
use super::story::{HALTED_EXIT_CODE, Story, private};
use super::watched::Watched;
use crate::cli::DemoPlatform;
use crate::gateway::ExecutionKey;
use crate::locked::Locked;
use crate::tee::node_key::XWingKey;
use crate::tpm::hpke::SealedMessage;

/// A key that is told from anything else by its halves, and the forms in which half of it might be left.
struct Canary {
    key: [u8; 32],
    forms: Vec<(&'static str, Vec<u8>)>,
    /// First bytes of the forms: a table, because programs under test are not optimized.
    first: [bool; 256],
}

const MARK_BYTES: usize = 8;

impl Canary {
    fn new() -> Self {
        let (mut mark, mut rest) = ([0; MARK_BYTES], [0; 16]);
        aws_lc_rs::rand::fill(&mut mark).unwrap();
        aws_lc_rs::rand::fill(&mut rest).unwrap();
        let key: Vec<u8> = [&mark, &rest[..8], &mark, &rest[8..]].concat();
        let lower = hex::encode(mark);
        let mut forms = vec![
            ("raw", mark.to_vec()),
            ("hex", lower.clone().into_bytes()),
            ("HEX", lower.to_uppercase().into_bytes()),
        ];
        for before in 0..3 {
            // Characters that the mark alone decides, wherever in a longer text it stands.
            let encoded = BASE64.encode([vec![0; before], mark.to_vec()].concat());
            let (from, to) = ((before * 8).div_ceil(6), (before + MARK_BYTES) * 8 / 6);
            forms.push(("base64", encoded.as_bytes()[from..to].to_vec()));
        }
        let mut first = [false; 256];
        forms.iter().for_each(|(_, form)| first[usize::from(form[0])] = true);
        Self { key: key.try_into().unwrap(), forms, first }
    }

    /// Where halves of it are, and how.
    fn found_in(&self, bytes: &[u8]) -> Vec<(usize, &'static str)> {
        const PAGE: usize = 4096;
        let mut found = Vec::new();
        for (number, page) in bytes.chunks(PAGE).enumerate() {
            if page == &[0; PAGE][..page.len()] {
                continue;
            }
            for (at, byte) in page.iter().enumerate() {
                if self.first[usize::from(*byte)] {
                    let at = number * PAGE + at;
                    let is = |(_, form): &&(&str, Vec<u8>)| bytes[at..].starts_with(form);
                    found.extend(self.forms.iter().find(is).map(|(name, _)| (at, *name)));
                }
            }
        }
        found
    }

    /// Copies in the memory of a process: half-keys by the region that they are in.
    fn in_memory_of(&self, pid: Pid) -> io::Result<Vec<String>> {
        let process = format!("/proc/{}", pid.as_raw_pid());
        let maps = fs::read_to_string(format!("{process}/maps"))?;
        let mut memory = File::open(format!("{process}/mem"))?;
        let mut found = Vec::new();
        for line in maps.lines().filter(|line| !line.contains("[v")) {
            let mut words = line.split_whitespace();
            let (range, rights) = (words.next().unwrap(), words.next().unwrap());
            if !rights.starts_with('r') {
                continue;
            }
            let bound = |text: &str| u64::from_str_radix(text, 16).unwrap();
            let (from, to) = range.split_once('-').map(|(from, to)| (bound(from), bound(to))).unwrap();
            let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
            memory.seek(SeekFrom::Start(from))?;
            // A region that went meanwhile, or a mapping behind the end of its file, holds nothing.
            if memory.read_exact(&mut bytes).is_ok() {
                let places = self.found_in(&bytes);
                found.extend(places.iter().map(|(at, form)| format!("{form} at {at:#x} of {line}")));
            }
        }
        Ok(found)
    }

    /// In every file below a folder: state, database, logs.
    fn in_files_below(&self, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(about) = path.symlink_metadata() else { continue }; // it went meanwhile
            if about.is_dir() {
                self.in_files_below(&path, found);
            } else if about.is_file()
                && let Ok(bytes) = fs::read(&path)
            {
                found.extend(self.found_in(&bytes).iter().map(|(at, form)| format!("{form} at {at} of {path:?}")));
            }
        }
    }
}

#[test]
fn the_scanner_finds_half_a_key_in_every_form() {
    let canary = Canary::new();
    let half = &canary.key[16..24];
    for (form, text) in [
        ("raw", half.to_vec()),
        ("hex", hex::encode(half).into_bytes()),
        ("HEX", hex::encode_upper(half).into_bytes()),
        ("base64", BASE64.encode([b"a".as_slice(), half, b"zz"].concat()).into_bytes()),
        ("base64", BASE64.encode([b"ab".as_slice(), half, b"zz"].concat()).into_bytes()),
        ("base64", BASE64.encode([b"abc".as_slice(), half, b"zz"].concat()).into_bytes()),
    ] {
        // Across the end of a page.
        let around = [vec![0; 4090], text, vec![0; 9000]].concat();
        assert_eq!(canary.found_in(&around).iter().map(|(_, form)| *form).collect::<Vec<_>>(), [form]);
    }
    assert!(canary.found_in(&[7; 10_000]).is_empty());
}

/// Puts the canary into the place of the demo's key; the file that an operator would give it in is gone afterwards.
async fn put(stage: &Stage, canary: &Canary) {
    stage.write("canary.secret", &canary.key).unwrap();
    private(stage, "canary.secret").unwrap();
    let secret = stage.text("canary.secret");
    stage.ask_verifier(&["keys", "put", "ledger", "--secret-file", &secret], 0).await.unwrap();
    fs::remove_file(secret).unwrap();
}

/// So many executions, each with the key in its hands.
async fn executions(stage: &Stage, count: usize) -> Vec<(Watched, Pid)> {
    let script = "cat /proc/$$/fd/$ATTESTD_KEY_FD_LEDGER >/dev/null && echo held; exec sleep 600";
    let mut all = Vec::new();
    while all.len() < count {
        let batch = (count - all.len()).min(6);
        let begun: Vec<_> = (0..batch)
            .map(|_| Watched::start(stage, &["--key", "ledger", "--", "sh", "-c", script]).unwrap())
            .collect();
        for mut execution in begun {
            let started = execution.until(|seen| seen.phase() == Some(5), |_| Ok(())).await.unwrap();
            let pid = started.fact("pid").parse().ok().and_then(Pid::from_raw).unwrap();
            execution.until(|seen| seen.is("stdout"), |_| Ok(())).await.unwrap();
            all.push((execution, pid));
        }
    }
    all
}

/// In files that anything of this could have left, and in cores.
fn nothing_is_left(stage: &Stage, canary: &Canary) {
    let mut found = Vec::new();
    canary.in_files_below(&stage.path(""), &mut found);
    assert!(found.is_empty(), "{found:#?}");
    for folder in [stage.path("attestd"), std::env::current_dir().unwrap()] {
        let cores = fs::read_dir(folder).unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        assert_eq!(cores.filter(|name| name == "core" || name.starts_with("core.")).collect::<Vec<_>>(), [""; 0]);
    }
}

fn may_look_into(node: &Child) -> bool {
    // The daemon is not dumpable: its memory is for root alone.
    let may = File::open(format!("/proc/{}/mem", pid_of(node).as_raw_pid())).is_ok();
    if !may {
        eprintln!("not root: the daemon's memory is not looked into, only what it leaves on disk");
    }
    may
}

const SOON: std::time::Duration = std::time::Duration::from_secs(8);
/// Renewals of all executions fit into a third of it, also with unoptimized programs.
const LEASE_MS: u32 = 15_000;

/// Kills, crashes and halts a daemon under a third of a hundred executions each.
#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_left_after_a_hundred_halts() {
    const EACH: usize = 34;
    let Scene { stage, machine: _machine, _verifier, mut node, execution: _first, .. } =
        running_with(DemoPlatform::SimulatedSnp, 60_000, LEASE_MS).await;
    let canary = Canary::new();
    put(&stage, &canary).await;
    let looks = may_look_into(&node);
    for end in [Some(Signal::KILL), Some(Signal::ABORT), None] {
        let running = executions(&stage, EACH).await;
        let daemon = pid_of(&node);
        if looks {
            let copies = canary.in_memory_of(daemon).unwrap();
            assert!(copies.is_empty(), "{} half-keys for {EACH} executions: {copies:#?}", copies.len());
        }
        match end {
            Some(signal) => kill_process(daemon, signal).unwrap(),
            None => drop(stage.ask_attestd(&["halt", "--reason", "a test"], HALTED_EXIT_CODE).await.unwrap()),
        }
        for (_, pid) in &running {
            assert!(gone(*pid, SOON), "a workload outlived the end by {end:?}");
        }
        drop(running);
        if end.is_some() {
            node.wait().await.unwrap();
        } else if looks {
            let copies = canary.in_memory_of(daemon).unwrap();
            assert!(copies.is_empty(), "{copies:#?}");
        }
        nothing_is_left(&stage, &canary);
        if end.is_some() {
            let mut out = io::sink();
            let mut story = Story::new(&stage, &mut out);
            node = story.start_node(60_000).await.map_err(|fault| fault.with_logs(&stage)).unwrap();
        }
    }
}

/// Threads that panic with an opened key in their hands, in a process that goes on.
#[test]
fn no_key_is_left_after_panics() {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "demo::hygiene::victim", "--ignored", "--nocapture", "--test-threads=1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut to, mut from) = (victim.stdin.take().unwrap(), BufReader::new(victim.stdout.take().unwrap()));
    let public = said(&mut from, "public ");
    let public = XWingPublicKey::new(&hex::decode(public).unwrap()).unwrap();
    let recipient = <XWing as Kem>::PublicKey::from_bytes(public.public()).unwrap();
    let canary = Canary::new();
    for _ in 0..PANICS {
        let (encapsulated, sealed) =
            single_shot_seal::<AesGcm256, HkdfSha256, XWing>(&OpModeS::Base, &recipient, b"info", &canary.key, b"aad")
                .unwrap();
        writeln!(to, "{} {}", hex::encode(encapsulated.to_bytes()), hex::encode(sealed)).unwrap();
    }
    assert_eq!(said(&mut from, "panicked "), PANICS.to_string());
    let pid = Pid::from_raw(i32::try_from(victim.id()).unwrap()).unwrap();
    match canary.in_memory_of(pid) {
        Ok(copies) => assert!(copies.is_empty(), "{copies:#?}"),
        Err(error) => eprintln!("no right to look into a child's memory here ({error}): not tested"),
    }
    drop(to);
    assert!(victim.wait().unwrap().success());
}

fn said(from: &mut impl io::BufRead, prefix: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(from.read_line(&mut line).unwrap() > 0, "it ended before it said {prefix:?}");
        // The harness writes the test's name before what it prints first.
        if let Some((_, rest)) = line.trim_end().split_once(prefix) {
            return rest.to_owned();
        }
    }
}

const PANICS: usize = 32;

#[test]
#[ignore = "the process that another test looks into"]
fn victim() {
    let key = XWingKey::generate().unwrap();
    println!("public {}", hex::encode(key.public().public()));
    let mut panics = 0;
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let (encapsulated, sealed) = line.split_once(' ').unwrap();
        let (encapsulated, sealed) = (hex::decode(encapsulated).unwrap(), hex::decode(sealed).unwrap());
        let message = SealedMessage { encapsulated, sealed, info: b"info".to_vec(), aad: b"aad".to_vec() };
        let opened: Locked = key.open(&message).unwrap();
        let panicked = std::thread::spawn(move || {
            let held = ExecutionKey::new("ledger".to_owned(), opened);
            assert_eq!(held.name(), "", "to have it dropped by a panic");
        });
        panics += usize::from(panicked.join().is_err());
        if panics == PANICS {
            println!("panicked {panics}");
        }
    }
    assert_eq!(panics, PANICS);
}

//! The process `tee-simulator`: sockets, folder, state, signals.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout
)]

mod support;

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use simulators::{
    amd::{Product, REPORT_LEN, SnpMachine},
    process::{Attribute, Device, Entry, Machine, TsmErrno, exchange},
};
use support::{NOW, openssl, pem_blocks};
use tempfile::TempDir;

struct Served {
    child: Child,
    folder: TempDir,
}

impl Served {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&self, request: &Value) -> Value {
        exchange(&self.path("run/tee.sock"), request).unwrap()
    }

    fn control(&self, request: &Value) -> Value {
        exchange(&self.path("run/control.sock"), request).unwrap()
    }

    /// SIGTERM, and its end: whether it was a success.
    fn stop(&mut self) -> bool {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Already gone where a test stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn simulator(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tee-simulator"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

/// Serves in `folder`; returns once it said `ready`.
fn serve(folder: TempDir, machine: &[&str], more: &[&str]) -> Served {
    let sockets = ["--state", "state", "--socket", "run/tee.sock", "--control", "run/control.sock"];
    let args = [["serve"].as_slice(), machine, &sockets, more].concat();
    let mut child = simulator(folder.path(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n");
    Served { child, folder }
}

const GENOA: [&str; 4] = ["--platform", "snp", "--product", "genoa"];
const TDX: [&str; 2] = ["--platform", "tdx"];

fn hex_field(answer: &Value, name: &str) -> Vec<u8> {
    hex::decode(answer[name].as_str().unwrap_or_else(|| panic!("{answer}"))).unwrap()
}

#[test]
fn an_snp_machine_answers_and_follows_the_control_socket() {
    let mut served = serve(tempfile::tempdir().unwrap(), &GENOA, &[]);
    let inblob = "ab".repeat(64);
    let first = served.ask(&json!({ "inblob": inblob, "privlevel": 1 }));
    let report = hex_field(&first, "outblob");
    assert_eq!(first["provider"], "sev_guest");
    assert_eq!(report.len(), REPORT_LEN);
    assert_eq!(report[0x50..0x90], [0xab; 64]);
    assert_eq!(report[0x30], 1);
    assert!(!hex_field(&first, "auxblob").is_empty());

    let changed = served.control(&json!({ "set": { "measurement": "11".repeat(48), "tcb":
        { "boot_loader": 9, "tee": 0, "snp": 20, "microcode": 70 }, "snp": { "guest_svn": 7 } } }));
    assert!(changed["error"].is_null(), "{changed}");
    let second = served.ask(&json!({ "inblob": inblob, "privlevel": 0 }));
    let rolled_back = hex_field(&second, "outblob");
    assert_eq!(rolled_back[0x90..0xc0], [0x11; 48]);
    assert_eq!(rolled_back[0x180..0x188], [9, 0, 0, 0, 0, 0, 20, 70]);
    assert_eq!(rolled_back[4], 7);
    assert_eq!(rolled_back[0x140..0x160], report[0x140..0x160], "the same boot");
    assert!(second["generation"].as_u64() > first["generation"].as_u64());

    for refused in [
        json!({ "set": { "measurment": "" } }),
        json!({ "set": { "measurement": "11" } }),
        json!({ "set": { "tdx": { "xfam": 3 } } }),
        json!({ "sett": {} }),
    ] {
        let answer = served.control(&refused);
        assert!(answer["error"].is_string(), "{refused} gave {answer}");
    }
    for refused in [
        json!({ "inblob": "ab".repeat(65), "privlevel": 0 }),
        json!({ "inblob": "", "privlevel": 0 }),
        json!({ "inblob": "ab", "privlevel": 4 }),
        json!({ "inblob": "ab", "nonce": "" }),
    ] {
        assert!(served.ask(&refused)["error"].is_string(), "{refused}");
    }
    let kept = hex_field(&served.ask(&json!({ "inblob": inblob })), "outblob");
    assert_eq!(kept[..0x2a0], rolled_back[..0x2a0], "a refused change changes nothing");
    assert!(served.stop());
}

#[test]
fn a_tdx_machine_answers_and_measures_at_run_time() {
    let served = serve(tempfile::tempdir().unwrap(), &TDX, &[]);
    let quote = |served: &Served| hex_field(&served.ask(&json!({ "inblob": "cd".repeat(64) })), "outblob");
    let first = quote(&served);
    assert_eq!(first[..8], [4, 0, 2, 0, 0x81, 0, 0, 0]);
    assert_eq!(first[48 + 520..48 + 584], [0xcd; 64]);
    let rtmr3 = |quote: &[u8]| quote[48 + 328 + 144..48 + 328 + 192].to_vec();
    assert_eq!(rtmr3(&first), [0; 48]);
    let changed = served.control(&json!({ "set": { "tdx": { "runtime_event": "00ff" } } }));
    assert!(changed["error"].is_null(), "{changed}");
    assert_ne!(rtmr3(&quote(&served)), [0; 48]);
    assert!(served.ask(&json!({ "inblob": "cd", "privlevel": 1 }))["error"].is_string());
}

#[test]
fn sockets_are_private_and_gone_after_a_signal() {
    let mut served = serve(tempfile::tempdir().unwrap(), &GENOA, &[]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&served.path("run")), 0o700);
    assert_eq!(mode(&served.path("state")), 0o700);
    assert_eq!(mode(&served.path("run/tee.sock")), 0o600);
    assert_eq!(mode(&served.path("run/control.sock")), 0o600);
    assert_eq!(mode(&served.path("state/machine.json")), 0o600);
    assert!(served.stop());
    assert!(!served.path("run/tee.sock").exists() && !served.path("run/control.sock").exists());
}

#[test]
fn a_huge_or_malformed_frame_ends_the_connection_and_others_are_served() {
    let served = serve(tempfile::tempdir().unwrap(), &GENOA, &[]);
    let mut hostile = UnixStream::connect(served.path("run/tee.sock")).unwrap();
    hostile.write_all(&(256 * 1024_u32 + 1).to_be_bytes()).unwrap();
    let mut rest = Vec::new();
    match hostile.read_to_end(&mut rest) {
        Ok(0) => {}
        other => assert_eq!(other.unwrap_err().kind(), ErrorKind::ConnectionReset),
    }
    let mut malformed = UnixStream::connect(served.path("run/tee.sock")).unwrap();
    malformed.write_all(b"\0\0\0\x02{]").unwrap();
    let mut header = [0; 4];
    malformed.read_exact(&mut header).unwrap();
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(header)).unwrap()];
    malformed.read_exact(&mut answer).unwrap();
    assert!(String::from_utf8(answer).unwrap().contains("error"));
    assert_eq!(served.ask(&json!({ "inblob": "01" }))["provider"], "sev_guest");
}

#[test]
fn the_vendor_outlives_a_restart_and_another_choice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |out: &str, machine: &[&str]| {
        let args = [["roots", "--state", "state", "--out", out].as_slice(), machine].concat();
        simulator(folder.path(), &args).output().unwrap()
    };
    let first = write("first", &GENOA);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(write("second", &[]).status.success());
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert_eq!(read("first/ark.pem"), read("second/ark.pem"));
    assert_eq!(read("first/ask.pem"), read("second/ask.pem"));
    let other = write("third", &TDX);
    assert_eq!(other.status.code(), Some(4));
    let none = simulator(folder.path(), &["roots", "--state", "absent", "--out", "x"]).output().unwrap();
    assert_eq!(none.status.code(), Some(4));
}

#[test]
fn roots_and_evidence_are_written_for_both_vendors() {
    let folder = tempfile::tempdir().unwrap();
    for (state, machine, files) in [
        ("amd", GENOA.as_slice(), ["ark.pem", "ask.pem", "vcek.der", "crl.der", "report.bin", "certificates.bin"]),
        ("intel", &TDX, ["root.pem", "collateral.json", "ccel.bin", "pck.crl", "quote.bin", "root-ca.crl"]),
    ] {
        let roots = [["roots", "--state", state, "--out", state].as_slice(), machine].concat();
        assert!(simulator(folder.path(), &roots).status().unwrap().success());
        let evidence = ["evidence", "--state", state, "--report-data", "0102", "--out", state];
        assert!(simulator(folder.path(), &evidence).status().unwrap().success());
        for file in files {
            assert!(folder.path().join(state).join(file).is_file(), "{file}");
        }
    }
    let chain = ["verify", "-CAfile", "amd/ark.pem", "-untrusted", "amd/ask.pem", "amd/vcek.pem"];
    let (good, said) = openssl(folder.path(), &chain);
    assert!(good, "{said}");
    let collateral: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("intel/collateral.json")).unwrap()).unwrap();
    let issuers = pem_blocks(collateral["tcb_info_issuer_chain"].as_str().unwrap().as_bytes());
    let root = std::fs::read(folder.path().join("intel/root.pem")).unwrap();
    assert_eq!(issuers[1], pem_blocks(&root)[0]);
}

#[test]
fn an_entry_behaves_as_configfs_tsm() {
    let device = Device::new(Machine::snp(SnpMachine::new(Product::Turin, NOW).unwrap()).unwrap());
    let mut entry = Entry::default();
    assert_eq!(entry.read(&device, Attribute::Outblob, 0, 8), Err(TsmErrno::Invalid), "no inblob yet");
    assert_eq!(entry.read(&device, Attribute::Generation, 0, 8).unwrap(), b"0\n");
    assert_eq!(entry.write(Attribute::Inblob, 0, &[1; 65]), Err(TsmErrno::Invalid));
    entry.write(Attribute::Inblob, 0, &[1; 64]).unwrap();
    assert_eq!(entry.read(&device, Attribute::Generation, 0, 8).unwrap(), b"1\n");
    let report = entry.read(&device, Attribute::Outblob, 0, 4096).unwrap();
    assert_eq!(report.len(), REPORT_LEN);
    assert_eq!(entry.read(&device, Attribute::Outblob, 600, 4096).unwrap(), report[600..], "the same report goes on");
    assert_eq!(entry.write(Attribute::Privlevel, 0, b"4\n"), Err(TsmErrno::Invalid));
    entry.write(Attribute::Privlevel, 0, b"2\n").unwrap();
    assert_eq!(entry.read(&device, Attribute::Outblob, 600, 4096), Err(TsmErrno::WouldBlock), "a lost race");
    assert_eq!(entry.read(&device, Attribute::Outblob, 0, 4096).unwrap()[0x30], 2);
    assert_eq!(entry.read(&device, Attribute::Generation, 0, 8).unwrap(), b"2\n");
    assert_eq!(entry.read(&device, Attribute::Provider, 0, 64).unwrap(), b"sev_guest\n");
    assert_eq!(entry.write(Attribute::Outblob, 0, &[1]), Err(TsmErrno::Denied));
    assert_eq!(entry.read(&device, Attribute::Inblob, 0, 64), Err(TsmErrno::Denied));
}

#[test]
fn the_mounted_folder_serves_reports_or_says_why_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tsm")).unwrap();
    let mut served = serve(folder, &GENOA, &["--mount", "tsm"]);
    let at = served.path("tsm/one");
    let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("tsm-simulated");
    if !mounted || std::fs::create_dir(&at).is_err() {
        assert_eq!(served.ask(&json!({ "inblob": "01" }))["provider"], "sev_guest");
        assert!(served.stop());
        let mut said = String::new();
        served.child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("the folder does not: mounting"), "{said}");
        println!("skipped: FUSE cannot be mounted here");
        return;
    }
    let outblob = || std::fs::read(at.join("outblob"));
    assert_eq!(outblob().unwrap_err().kind(), ErrorKind::InvalidInput);
    std::fs::write(at.join("inblob"), [0x42; 64]).unwrap();
    let report = outblob().unwrap();
    assert_eq!(report.len(), REPORT_LEN);
    assert_eq!(report[0x50..0x90], [0x42; 64]);
    assert_eq!(std::fs::read_to_string(at.join("generation")).unwrap(), "1\n");
    assert_eq!(std::fs::read_to_string(at.join("provider")).unwrap(), "sev_guest\n");
    assert_eq!(std::fs::read_to_string(at.join("privlevel_floor")).unwrap(), "0\n");
    assert!(std::fs::read(at.join("auxblob")).unwrap().len() > 3000);
    assert!(std::fs::read(at.join("manifestblob")).unwrap().is_empty());
    std::fs::write(at.join("privlevel"), "3").unwrap();
    assert_eq!(outblob().unwrap()[0x30], 3);
    let mut names: Vec<String> =
        std::fs::read_dir(&at).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut expected: Vec<&str> = Attribute::SNP.iter().map(|attribute| attribute.name()).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert!(std::fs::create_dir(&at).is_err(), "the entry exists");
    std::fs::remove_dir(&at).unwrap();
    assert!(!at.exists());
    assert!(served.stop());
    let path = served.path("tsm");
    let left = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!left.contains(path.to_str().unwrap()), "unmounted at the end");
}

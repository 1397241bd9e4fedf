//! What an intent's isolation keeps a workload from, and what a machine that cannot give it says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod supervised;

use std::collections::BTreeSet;
use std::path::Path;

use attestd::supervise::confine::Unavailable;
use attestd::supervise::control::{Outcome, Report, StartFault};
use evidence::names::ItemName;
use governance::isolation::{Files, Isolation, Seccomp};
use governance::text::Text;
use rustix::process::geteuid;
use supervised::{Supervised, is_alive, start_program};

fn run(script: &str, isolation: Isolation) -> Supervised {
    let argv = ["workload", "-c", script].map(str::to_owned).to_vec();
    start_program("/bin/sh", argv, &[], 60_000, None, isolation)
}

/// All that a script says, once it has ended by itself.
fn said(script: &str, isolation: Isolation) -> String {
    use std::io::Read;
    let mut supervised = run(script, isolation);
    supervised.started();
    assert!(matches!(supervised.ended().outcome, Outcome::Exited(_)));
    let mut said = String::new();
    supervised.stdout.read_to_string(&mut said).unwrap();
    said
}

/// The facility that the launcher missed; none if it started the workload.
fn missed(isolation: Isolation) -> Option<Unavailable> {
    match run("echo ran", isolation).report() {
        Some(Report::NotStarted { fault: StartFault::Unavailable(unavailable) }) => Some(unavailable),
        Some(Report::Started { .. }) => None,
        other => panic!("{other:?}"),
    }
}

fn paths(paths: &[&str]) -> BTreeSet<Text> {
    paths.iter().filter(|path| Path::new(path).exists()).map(|path| Text::new(*path).unwrap()).collect()
}

/// Where a shell and its libraries are.
fn system() -> BTreeSet<Text> {
    paths(&["/bin", "/usr", "/lib", "/lib64", "/proc"])
}

fn privileges(names: &[&str]) -> BTreeSet<ItemName> {
    names.iter().map(|name| ItemName::new(*name).unwrap()).collect()
}

/// A field of `/proc/self/status`.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {status}"));
    line.split_whitespace().nth(1).unwrap()
}

/// Says on what the test depends where the machine cannot give it.
fn lacks(isolation: &Isolation) -> bool {
    let missed = missed(isolation.clone());
    if let Some(unavailable) = &missed {
        println!("not tested: {unavailable}");
    }
    missed.is_some()
}

#[test]
fn nobody_has_new_privileges_or_a_capability_that_was_not_kept() {
    let status = said("cat /proc/self/status", Isolation::default());
    assert_eq!(field(&status, "NoNewPrivs:"), "1");
    assert_eq!(field(&status, "Seccomp:"), "0");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    if geteuid().is_root() {
        assert_eq!(field(&status, "CapBnd:"), "0000000000000000");
    }
}

#[test]
fn a_capability_is_kept_by_name_or_its_absence_is_told() {
    let kept = Isolation { privileges: privileges(&["chown"]), ..Isolation::default() };
    match missed(kept.clone()) {
        None => {
            let status = said("cat /proc/self/status", kept);
            for set in ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
                assert_eq!(field(&status, set), "0000000000000001", "{set}: CAP_CHOWN is number 0");
            }
        }
        Some(unavailable) => assert_eq!(unavailable.wanted, "chown"), // an ordinary user has none to keep
    }
    let unavailable = missed(Isolation { privileges: privileges(&["fly"]), ..Isolation::default() }).unwrap();
    assert_eq!((unavailable.facility.as_str(), unavailable.wanted.as_str()), ("capabilities", "fly"));
}

#[test]
fn only_the_files_that_are_named_can_be_opened() {
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(other.path().join("secret"), "secret").unwrap();
    let write = [Text::new(own.path().to_str().unwrap()).unwrap()].into();
    let isolation = Isolation { files: Some(Files { read: system(), write }), ..Isolation::default() };
    if lacks(&isolation) {
        return;
    }
    let (own, other) = (own.path().display(), other.path().display());
    let script = format!(
        "echo mine > {own}/file && cat {own}/file; cat {other}/secret || echo unread; \
         (echo x > {other}/file) || echo unwritten; (echo x > {other}/secret) || echo untouched; ls {other} || echo unlisted"
    );
    assert_eq!(said(&script, isolation), "mine\nunread\nunwritten\nuntouched\nunlisted\n");
    assert_eq!(std::fs::read_to_string(format!("{other}/secret")).unwrap(), "secret");
}

#[test]
fn a_path_that_is_not_there_starts_nothing() {
    let read = [Text::new("/nowhere/at/all").unwrap()].into();
    let isolation = Isolation { files: Some(Files { read, ..Files::default() }), ..Isolation::default() };
    let unavailable = missed(isolation).unwrap();
    assert_eq!(unavailable.facility, "landlock");
}

#[test]
fn a_workload_whose_signals_are_confined_cannot_end_its_supervisor() {
    let isolation = Isolation { confine_signals: true, ..Isolation::default() };
    if lacks(&isolation) {
        return;
    }
    let script = "kill -KILL $PPID || echo refused; sleep 600 & kill -KILL $! && echo own; exec sleep 600";
    let mut supervised = run(script, isolation);
    supervised.started();
    assert_eq!((supervised.line(), supervised.line()), ("refused".to_owned(), "own".to_owned()));
    assert!(is_alive(&supervised.child.id().to_string()));
}

#[test]
fn the_default_filter_lets_a_shell_work_and_makes_no_namespaces() {
    let isolation = Isolation { seccomp: Seccomp::Default, ..Isolation::default() };
    if lacks(&isolation) {
        return;
    }
    let script = "grep -w Seccomp /proc/self/status; echo one | cat; unshare --user true || echo refused";
    assert_eq!(said(script, isolation), "Seccomp:\t2\none\nrefused\n");
}

#[test]
fn everything_at_once_is_inherited() {
    let files = Some(Files { read: system(), write: BTreeSet::new() });
    let isolation = Isolation { seccomp: Seccomp::Default, files, confine_signals: true, ..Isolation::default() };
    if lacks(&isolation) {
        return;
    }
    let script = "setsid sh -c 'grep -w Seccomp /proc/self/status; cat /etc/passwd || echo unread'";
    assert_eq!(said(script, isolation), "Seccomp:\t2\nunread\n");
}

#[test]
fn a_process_that_left_its_parent_and_its_session_has_no_more_than_the_first() {
    // A shell gives what it starts in the background no other input than this.
    let read = system().into_iter().chain(paths(&["/dev/null"])).collect();
    let files = Some(Files { read, write: BTreeSet::new() });
    let isolation = Isolation { seccomp: Seccomp::Default, files, confine_signals: true, ..Isolation::default() };
    if lacks(&isolation) {
        return;
    }
    let says = "grep -wE \"CapEff|NoNewPrivs|Seccomp\" /proc/self/status; cat /etc/passwd || echo unread";
    let script =
        format!("s=$PPID; (setsid sh -c '{says}; kill -KILL '$s' || echo refused; echo over' &); exec sleep 600");
    let mut supervised = run(&script, isolation);
    supervised.started();
    // As many lines as are expected: an end of file reads as empty lines without end.
    for wanted in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "unread", "refused", "over"] {
        assert_eq!(supervised.line(), wanted);
    }
    assert!(is_alive(&supervised.child.id().to_string()));
}

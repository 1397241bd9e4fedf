//! The supervisor as a process: whatever happens to its daemon, nothing of the workload is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod supervised;

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use attestd::clock::boottime_ms;
use attestd::supervise::control::{self, EndCause, Ended, Order, Outcome, Report, StartFault};
use governance::isolation::Isolation;
use supervised::{is_alive, start, start_program, writable_cgroup};

/// Shell text that leaves behind a process with another session, another parent and no open descriptor of ours.
const DAEMONIZE: &str = "setsid sh -c '(sleep 600 >/dev/null 2>&1 & echo $!) ' & wait $!; echo done; exec sleep 600";

#[test]
fn the_workload_gets_its_key_environment_and_arguments_and_nothing_else() {
    let script = "cat <&$ATTESTD_KEY_FD_K0; echo; env; echo \"$0\"; ls /proc/self/fd | tr '\\n' ' '; ulimit -c; exit 7";
    // As libtss2 leaves a TPM open: without close-on-exec.
    let left_open = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&left_open, rustix::io::FdFlags::empty()).unwrap();
    let mut supervised = start(script, &[b"key material"], 60_000, None);
    let workload = supervised.started();
    assert_ne!(workload, i32::try_from(supervised.child.id()).unwrap());
    assert_eq!(supervised.ended(), Ended { outcome: Outcome::Exited(7), cause: EndCause::WorkloadExited, killed: 0 });
    let mut output = String::new();
    supervised.stdout.read_to_string(&mut output).unwrap();
    let mut lines: Vec<_> = output.lines().collect();
    assert_eq!(lines.remove(0), "key material");
    let mut environment: Vec<_> = lines.iter().filter(|line| line.contains('=')).copied().collect();
    environment.retain(|line| !line.starts_with("PWD=") && !line.starts_with("_=")); // the shell's own
    environment.sort_unstable();
    assert_eq!(environment, ["ATTESTD_KEY_FD_K0=3", "LANG=C", "PATH=/usr/bin:/bin"]);
    assert!(lines.contains(&"workload"), "{output}");
    // Besides the usual three: the key, the workload's executable, the folder that ls reads.
    let (numbers, core_limit) = lines.last().unwrap().rsplit_once(' ').unwrap();
    let mut numbers: Vec<_> = numbers.split_whitespace().collect();
    numbers.sort_unstable();
    assert_eq!((numbers.as_slice(), core_limit), (["0", "1", "2", "3", "4", "5"].as_slice(), "0"), "{output}");
}

#[test]
fn an_order_kills_everything_that_descends_from_the_workload() {
    let mut supervised = start(DAEMONIZE, &[], 60_000, None);
    let workload = supervised.started().to_string();
    let orphan = supervised.line();
    assert_eq!(supervised.line(), "done");
    assert!(is_alive(&orphan) && is_alive(&workload));
    control::send(supervised.channel.as_ref().unwrap(), &Order::Kill, &[]).unwrap();
    let ended = supervised.ended();
    assert_eq!((ended.outcome, ended.cause), (Outcome::Signalled(9), EndCause::Killed));
    assert_eq!(ended.killed, 2);
    assert!(!is_alive(&orphan) && !is_alive(&workload));
}

#[test]
fn a_lost_daemon_ends_the_workload() {
    let mut supervised = start(DAEMONIZE, &[], 60_000, None);
    let workload = supervised.started().to_string();
    let orphan = supervised.line();
    drop(supervised.channel.take());
    supervised.child.wait().unwrap();
    assert!(!is_alive(&orphan) && !is_alive(&workload));
}

#[test]
fn the_lease_ends_by_itself_and_can_be_prolonged() {
    let supervised = start("exec sleep 600", &[], 300, None);
    let before = Instant::now();
    supervised.started();
    let at_boottime_ms = boottime_ms().checked_add(900).unwrap();
    control::send(supervised.channel.as_ref().unwrap(), &Order::Deadline { at_boottime_ms }, &[]).unwrap();
    let ended = supervised.ended();
    assert_eq!((ended.outcome, ended.cause), (Outcome::Signalled(9), EndCause::DeadlineReached));
    assert!(before.elapsed() >= Duration::from_millis(850), "{:?}", before.elapsed());
    assert!(boottime_ms() >= at_boottime_ms);
}

#[test]
fn children_left_by_a_workload_that_exits_do_not_stay() {
    let mut supervised = start("sleep 600 >/dev/null 2>&1 & echo $!", &[], 60_000, None);
    supervised.started();
    let child = supervised.line();
    let ended = supervised.ended();
    assert_eq!((ended.outcome, ended.cause, ended.killed), (Outcome::Exited(0), EndCause::WorkloadExited, 1));
    assert!(!is_alive(&child));
}

#[test]
fn a_killed_supervisor_takes_the_workload_along() {
    let mut supervised = start("echo ready; exec sleep 600", &[], 60_000, None);
    let workload = supervised.started().to_string();
    assert_eq!(supervised.line(), "ready");
    supervised.child.kill().unwrap();
    assert!(supervised.report().is_none());
    // End of file on its stdout: the workload, which alone holds the other end, is gone.
    assert_eq!(supervised.line(), "");
    while is_alive(&workload) {
        std::thread::yield_now();
    }
}

#[test]
fn what_cannot_be_executed_is_reported() {
    let supervised = start_program("/etc/passwd", vec!["passwd".into()], &[], 60_000, None, Isolation::default());
    let report = supervised.report();
    let Some(Report::NotStarted { fault: StartFault::Failed { what } }) = report else { panic!("{report:?}") };
    assert!(what.starts_with("execute:"), "{what}");
}

#[test]
fn a_script_runs_from_its_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script");
    std::fs::write(&path, "#!/bin/sh\necho from $1\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let argv = vec!["script".into(), "here".into()];
    let mut supervised = start_program(path.to_str().unwrap(), argv, &[], 60_000, None, Isolation::default());
    supervised.started();
    assert_eq!(supervised.line(), "from here");
    assert_eq!(supervised.ended().outcome, Outcome::Exited(0));
}

#[test]
fn a_cgroup_is_killed_as_a_whole_and_removed() {
    let Some(cgroup) = writable_cgroup() else {
        println!("no writable cgroup v2 here: not tested");
        return;
    };
    let mut supervised = start(DAEMONIZE, &[], 60_000, Some(cgroup.clone()));
    let workload = supervised.started().to_string();
    let orphan = supervised.line();
    let members = std::fs::read_to_string(Path::new(&cgroup).join("cgroup.procs")).unwrap();
    assert!(members.lines().any(|pid| pid == workload) && members.lines().any(|pid| pid == orphan));
    control::send(supervised.channel.as_ref().unwrap(), &Order::Kill, &[]).unwrap();
    assert_eq!(supervised.ended().cause, EndCause::Killed);
    assert!(!is_alive(&orphan) && !Path::new(&cgroup).exists());
}

#[test]
fn a_frozen_workload_stands_still_past_its_lease_until_it_is_killed() {
    let Some(cgroup) = writable_cgroup() else {
        println!("no writable cgroup v2 here: not tested");
        return;
    };
    let mut supervised = start("sleep 600 & echo $!; wait", &[], 300, Some(cgroup.clone()));
    let workload = supervised.started().to_string();
    let child = supervised.line();
    let channel = supervised.channel.as_ref().unwrap();
    control::send(channel, &Order::Freeze, &[]).unwrap();
    assert_eq!(supervised.report(), Some(Report::Frozen { processes: 2 }));
    let leased = Instant::now();
    while leased.elapsed() < Duration::from_millis(500) {
        assert!(is_alive(&workload) && is_alive(&child));
    }
    control::send(channel, &Order::Kill, &[]).unwrap();
    assert_eq!(supervised.ended().cause, EndCause::Killed);
    assert!(!is_alive(&workload) && !is_alive(&child) && !Path::new(&cgroup).exists());
}

#[test]
fn what_cannot_be_frozen_is_killed() {
    let supervised = start("exec sleep 600", &[], 60_000, None);
    let workload = supervised.started().to_string();
    control::send(supervised.channel.as_ref().unwrap(), &Order::Freeze, &[]).unwrap();
    assert_eq!(supervised.ended().cause, EndCause::Killed);
    assert!(!is_alive(&workload));
}

fn order(supervised: &supervised::Supervised, order: &Order) {
    control::send(supervised.channel.as_ref().unwrap(), order, &[]).unwrap();
}

#[test]
fn a_drained_workload_may_end_in_good_order() {
    let script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done";
    let mut supervised = start(script, &[], 60_000, None);
    supervised.started();
    assert_eq!(supervised.line(), "ready");
    order(&supervised, &Order::Drain { grace_ms: 10_000 });
    let ended = supervised.ended();
    assert_eq!((ended.outcome, ended.cause), (Outcome::Exited(3), EndCause::WorkloadExited));
    assert_eq!(supervised.line(), "bye");
}

#[test]
fn what_ignores_a_drain_is_killed_after_its_grace() {
    let script = "trap '' TERM; setsid sleep 600 >/dev/null & echo $!; while :; do sleep 0.02; done";
    let mut supervised = start(script, &[], 60_000, None);
    supervised.started();
    let child = supervised.line();
    let before = Instant::now();
    order(&supervised, &Order::Drain { grace_ms: 300 });
    // What renews the lease meanwhile does not prolong the grace.
    order(&supervised, &Order::Deadline { at_boottime_ms: boottime_ms().checked_add(60_000).unwrap() });
    let ended = supervised.ended();
    assert_eq!((ended.outcome, ended.cause), (Outcome::Signalled(9), EndCause::Killed));
    assert!(
        (Duration::from_millis(290)..Duration::from_secs(10)).contains(&before.elapsed()),
        "{:?}",
        before.elapsed()
    );
    assert!(!is_alive(&child));
}

#[test]
fn a_drain_does_not_outlive_the_lease() {
    let mut supervised = start("trap '' TERM; echo ready; while :; do sleep 0.02; done", &[], 400, None);
    supervised.started();
    assert_eq!(supervised.line(), "ready");
    order(&supervised, &Order::Drain { grace_ms: 10_000 });
    assert_eq!(supervised.ended().cause, EndCause::DeadlineReached);
}

#[test]
fn a_paused_workload_goes_on_when_told_and_its_lease_ends_it_all_the_same() {
    let Some(cgroup) = writable_cgroup() else {
        println!("no writable cgroup v2 here: not tested");
        return;
    };
    let frozen = || std::fs::read_to_string(Path::new(&cgroup).join("cgroup.freeze")).unwrap().trim().to_owned();
    let mut supervised =
        start("while read line; do :; done; echo on; exec sleep 600", &[], 60_000, Some(cgroup.clone()));
    let workload = supervised.started().to_string();
    assert_eq!(supervised.line(), "on");
    order(&supervised, &Order::Pause);
    assert_eq!((supervised.report(), frozen()), (Some(Report::Paused { processes: 1 }), "1".to_owned()));
    order(&supervised, &Order::Resume);
    assert_eq!((supervised.report(), frozen()), (Some(Report::Resumed), "0".to_owned()));
    order(&supervised, &Order::Pause);
    assert_eq!(supervised.report(), Some(Report::Paused { processes: 1 }));
    order(&supervised, &Order::Deadline { at_boottime_ms: boottime_ms().checked_add(100).unwrap() });
    assert_eq!(supervised.ended().cause, EndCause::DeadlineReached);
    assert!(!is_alive(&workload) && !Path::new(&cgroup).exists());
}

#[test]
fn without_a_cgroup_nothing_is_paused_by_halves() {
    let mut supervised = start("echo on; exec sleep 600", &[], 60_000, None);
    let workload = supervised.started().to_string();
    assert_eq!(supervised.line(), "on");
    order(&supervised, &Order::Pause);
    assert_eq!(supervised.report(), Some(Report::Resumed));
    assert!(is_alive(&workload));
}

#[test]
fn a_workload_that_forks_without_end_is_outrun_at_its_lease_s_end() {
    // Each has another session and another parent, and hears no signal that can be ignored. The odd duration is how they
    // are found again.
    let odd = format!("600.{}", std::process::id());
    let script = format!("trap '' TERM HUP INT; echo on; while :; do (setsid sleep {odd} >/dev/null 2>&1 &); done");
    let mut supervised = start(&script, &[], 400, None);
    supervised.started();
    assert_eq!(supervised.line(), "on");
    let ended = supervised.ended();
    assert_eq!(ended.cause, EndCause::DeadlineReached);
    assert!(ended.killed > 10, "{ended:?}");
    let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|process| {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("sleep\0{odd}"))
    });
    assert_eq!(left.count(), 0);
}

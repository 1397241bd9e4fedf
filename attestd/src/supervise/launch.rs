//! The process that becomes the workload: it gives up what it must not have and then execs the verified descriptor.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use governance::isolation::Isolation;
use nix::sched::{CloneFlags, setns};
use rustix::process::{Pid, Signal, getpid, getppid};
use serde::{Deserialize, Serialize};

use super::confine::confine;
use super::control::{Start, StartFault};
use super::{LAUNCH, forbid_core_dumps};

/// The launcher's command line: `__launch SUPERVISOR EXECUTABLE-FD CGROUP|- ISOLATION IMAGE ARGV…`. Its environment is already
/// the workload's, its stdin the status pipe, and every descriptor sits where the workload will find it.
pub(super) fn command(start: &Start, descriptors: Vec<OwnedFd>, status: OwnedFd) -> Result<Command, String> {
    let mut descriptors = descriptors.into_iter();
    let (Some(executable), Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next(), descriptors.next())
    else {
        return Err("descriptors are missing".to_owned());
    };
    let mut command = Command::new("/proc/self/exe");
    command.env_clear().envs(start.environment.iter().map(|(name, value)| (name, value)));

    let namespaces = match start.in_image {
        true => Some(descriptors.next().zip(descriptors.next()).ok_or("the image's namespaces are missing")?),
        false => None,
    };
    let mut mappings = Vec::new();
    let mut number = FIRST_DESCRIPTOR;
    let mut variables = start.key_variables.iter();
    for parent_fd in descriptors {
        let variable = variables.next().ok_or("more key descriptors than names")?;
        command.env(variable, number.to_string());
        mappings.push(FdMapping { parent_fd, child_fd: number });
        number = number.saturating_add(1);
    }
    if variables.next().is_some() {
        return Err("fewer key descriptors than names".to_owned());
    }
    mappings.push(FdMapping { parent_fd: executable, child_fd: number });
    let mut image = None;
    if let Some((user, mount)) = namespaces {
        let numbers = [number.saturating_add(1), number.saturating_add(2)];
        mappings.extend(
            [user, mount].into_iter().zip(numbers).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }),
        );
        image = Some(InImage { namespaces: numbers, directory: start.working_directory.clone() });
    }

    command.arg(LAUNCH).arg(getpid().as_raw_pid().to_string()).arg(number.to_string());
    let isolation = serde_json::to_string(&start.isolation).map_err(|error| error.to_string())?;
    command.arg(start.cgroup.as_deref().unwrap_or(NO_CGROUP)).arg(isolation);
    command.arg(serde_json::to_string(&image).map_err(|error| error.to_string())?).args(&start.argv);
    // That of an image is not there before the launcher is in it.
    command.current_dir(if start.in_image { "/" } else { &start.working_directory }).process_group(0);
    command.stdin(Stdio::from(status)).stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr));
    command.fd_mappings(mappings).map_err(|error| error.to_string())?;
    Ok(command)
}

/// Becomes the workload. Comes back only with a failure, which it has told the supervisor by then.
pub(super) fn launch(arguments: &[OsString]) -> ExitCode {
    // A close-on-exec copy of the status pipe: it closes when the exec succeeds, and stdin is then /dev/null.
    let Ok(status) = std::io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::FAILURE };
    let fault = match become_workload(arguments) {
        Ok(never) => match never {},
        Err(fault) => fault,
    };
    let _ = serde_json::to_writer(File::from(status), &fault);
    ExitCode::FAILURE
}

fn become_workload(arguments: &[OsString]) -> Result<Infallible, StartFault> {
    let [supervisor, executable, cgroup, isolation, image, name, rest @ ..] = arguments else {
        return Err("arguments are missing".into());
    };
    let numbers = supervisor
        .to_str()
        .and_then(|text| text.parse().ok())
        .zip(executable.to_str().and_then(|text| text.parse::<u32>().ok()));
    let Some((supervisor, executable)) = numbers else { return Err("arguments are not numbers".into()) };
    let isolation: Isolation =
        isolation.to_str().and_then(|text| serde_json::from_str(text).ok()).ok_or("no isolation")?;
    let image: Option<InImage> = image.to_str().and_then(|text| serde_json::from_str(text).ok()).ok_or("no image")?;
    if cgroup != NO_CGROUP {
        std::fs::write(Path::new(cgroup).join("cgroup.procs"), "0").map_err(|e| format!("enter the cgroup: {e}"))?;
    }
    if let Some(image) = image {
        image.enter()?;
    }
    give_up_privileges(supervisor)?; // not before: who changes namespaces may lose PDEATHSIG
    let path = format!("/proc/self/fd/{executable}");
    // Opened while that is still allowed.
    let nothing = File::open("/dev/null").map_err(|error| format!("open /dev/null: {error}"))?;
    let file = File::open(&path).map_err(|error| format!("open the executable: {error}"))?;
    confine(&isolation, &file).map_err(StartFault::Unavailable)?;
    drop(file);
    Err(format!("execute: {}", Command::new(path).arg0(name).args(rest).stdin(Stdio::from(nothing)).exec()).into())
}

/// How the launcher gets into an image.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InImage {
    /// Descriptors of its user and its mount namespace, in the order in which they must be entered.
    namespaces: [RawFd; 2],
    /// Absolute, within the image.
    directory: String,
}

impl InImage {
    /// From here on there are no files but the image's, and privileges in its user namespace alone, given up by `confine`.
    fn enter(&self) -> Result<(), String> {
        let kinds = [CloneFlags::CLONE_NEWUSER, CloneFlags::CLONE_NEWNS];
        let opened = self.namespaces.map(|number| File::open(format!("/proc/self/fd/{number}")));
        for ((number, namespace), kind) in self.namespaces.into_iter().zip(opened).zip(kinds) {
            let namespace = namespace.map_err(|error| format!("the image's namespaces: {error}"))?;
            setns(namespace, kind).map_err(|errno| format!("enter the image: {errno}"))?;
            nix::unistd::close(number).map_err(|errno| format!("the image's namespaces: {errno}"))?;
        }
        std::env::set_current_dir(&self.directory).map_err(|error| format!("{}: {error}", self.directory))
    }
}

/// What a workload must not have: a life without its supervisor, set-uid programs (they would shed PDEATHSIG and could not
/// be killed by us), core dumps with its keys.
fn give_up_privileges(supervisor: i32) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| format!("PDEATHSIG: {errno}"))?;
    // The supervisor may have died before the signal was asked for: prctl(2).
    if getppid().map(Pid::as_raw_pid) != Some(supervisor) {
        return Err("the supervisor is gone".to_owned());
    }
    rustix::thread::set_no_new_privs(true).map_err(|errno| format!("no new privileges: {errno}"))?;
    forbid_core_dumps().map_err(|errno| format!("forbid core dumps: {errno}"))
}

/// Keys come first, so that a shell's one-digit redirection reaches them.
const FIRST_DESCRIPTOR: i32 = 3;
const NO_CGROUP: &str = "-";

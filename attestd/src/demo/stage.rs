//! The demo's folder and the programs that run in it.

use std::fs::{DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::machine::EVENT_LOG;

/// What was expected, and what was seen instead.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {what}{logs}")]
pub struct DemoFault {
    doing: String,
    what: String,
    logs: String,
}

impl DemoFault {
    pub(super) fn new(doing: impl std::fmt::Display, what: impl std::fmt::Display) -> Self {
        Self { doing: doing.to_string(), what: what.to_string(), logs: String::new() }
    }

    /// Adds the last lines of every log.
    pub(super) fn with_logs(mut self, stage: &Stage) -> Self {
        for name in stage.logs() {
            let Ok(text) = std::fs::read_to_string(stage.path(&name)) else { continue };
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
            self.logs.push_str(&format!("\n--- {name}\n{}", last.join("\n")));
        }
        self
    }
}

/// The programs that play.
pub(super) struct Programs {
    pub(super) attestd: PathBuf,
    pub(super) verifier: PathBuf,
    /// None where no TEE is simulated.
    pub(super) simulator: Option<PathBuf>,
}

/// A private folder, the programs, and what was started of them. When it is dropped, whoever is still running is ended,
/// and then the folder goes, in which nobody writes any more.
pub(super) struct Stage {
    folder: PathBuf,
    keep: bool,
    programs: Programs,
    started: Mutex<Vec<Started>>,
    /// How long leases last that a domain made here gives, in milliseconds.
    pub(super) lease_ms: u32,
}

/// A child that was started and not seen to end.
struct Started {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Stage {
    pub(super) fn new(programs: Programs, keep: bool) -> Result<Self, DemoFault> {
        let mut random = [0; 6];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| DemoFault::new("naming the folder", "no randomness"))?;
        let folder = std::env::temp_dir().join(format!("attestd-demo-{}", hex::encode(random)));
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| DemoFault::new(format_args!("making {}", folder.display()), error))?;
        Ok(Self { folder, keep, programs, started: Mutex::default(), lease_ms: LEASE_MS })
    }

    /// Will have ended before the folder goes. Nothing if it has ended already and was waited for.
    pub(super) fn attend(&self, child: Option<u32>) {
        let pid = child.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let started = pid.and_then(|pid| Some(Started { pid, pidfd: pidfd_open(pid, PidfdFlags::empty()).ok()? }));
        self.started.lock().unwrap_or_else(PoisonError::into_inner).extend(started);
    }

    fn leave(&self, child: Option<u32>) {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.retain(|started| u32::try_from(started.pid.as_raw_nonzero().get()).ok() != child);
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Makes a private folder in it.
    pub(super) fn make(&self, name: &str) -> Result<PathBuf, DemoFault> {
        let path = self.path(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| DemoFault::new(format_args!("making {}", path.display()), error))?;
        Ok(path)
    }

    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, DemoFault> {
        let path = self.path(name);
        let written = std::fs::write(&path, content);
        written.map_err(|error| DemoFault::new(format_args!("writing {}", path.display()), error))?;
        Ok(path)
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, DemoFault> {
        let path = self.path(name);
        std::fs::read(&path).map_err(|error| DemoFault::new(format_args!("reading {}", path.display()), error))
    }

    /// Names of the logs in it.
    fn logs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "log"));
        names.retain(|name| name != EVENT_LOG);
        names.sort_unstable();
        names
    }

    pub(super) fn is_kept(&self) -> Option<&Path> {
        self.keep.then_some(self.folder.as_path())
    }

    /// A `verifier` command on the one domain's state.
    pub(super) fn verifier(&self, arguments: &[&str]) -> Command {
        self.verifier_of(VERIFIER_STATE, arguments)
    }

    /// A `verifier` command on a domain's state, which is in this folder.
    pub(super) fn verifier_of(&self, state: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.programs.verifier);
        command.args(arguments).arg("--state").arg(self.path(state));
        command
    }

    /// A `verifier` command on no state.
    pub(super) fn verifier_alone(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.programs.verifier);
        command.args(arguments);
        command
    }

    /// An `attestd` command on the one node's state.
    pub(super) fn attestd(&self, arguments: &[&str]) -> Command {
        self.attestd_of(ATTESTD_STATE, arguments)
    }

    /// An `attestd` command on a node's state, which is in this folder.
    pub(super) fn attestd_of(&self, state: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.programs.attestd);
        command.arg("--state").arg(self.path(state)).args(arguments);
        command
    }

    /// A `tee-simulator` command.
    pub(super) fn simulator(&self) -> Result<Command, DemoFault> {
        let program = self.programs.simulator.as_deref();
        program.map(|program| self.command(program)).ok_or_else(|| DemoFault::new("tee-simulator", "not named"))
    }

    /// Dies with its handle, so with the demo.
    fn command(&self, program: &Path) -> Command {
        let mut command = self.tool(program);
        // Settings of this shell's are not the demo's; where libtss2 logs is.
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("TSS2_LOG", "all+NONE");
        command
    }

    /// A program of the system's. In a process group of its own, so that what it starts can be ended with it, and so that
    /// an interrupt from the terminal is the demo's to pass on.
    pub(super) fn tool(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.kill_on_drop(true).process_group(0).stdin(Stdio::null()).current_dir(&self.folder);
        command.env("TMPDIR", &self.folder);
        command
    }

    /// Starts a service that logs to a file.
    pub(super) fn start(&self, mut command: Command, log: &str) -> Result<Child, DemoFault> {
        let doing = |error| DemoFault::new(format_args!("starting a program that logs to {log}"), error);
        let file = File::options().create(true).append(true).open(self.path(log)).map_err(doing)?;
        let child = command.stdout(file.try_clone().map_err(doing)?).stderr(file).spawn().map_err(doing)?;
        self.attend(child.id());
        Ok(child)
    }

    /// Runs a command to its end.
    pub(super) async fn finish(&self, mut command: Command) -> Result<Output, DemoFault> {
        let doing = format!("{:?}", command.as_std().get_program());
        let failed = |error: std::io::Error| DemoFault::new(&doing, error);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        let pid = child.id();
        self.attend(pid);
        let output = timeout(COMMAND_WITHIN, child.wait_with_output()).await;
        let output = output.map_err(|_| DemoFault::new(&doing, "took too long"))?.map_err(failed)?;
        self.leave(pid);
        Ok(output)
    }

    /// Runs a `verifier` verb to its end; its JSON if it ended with `code`.
    pub(super) async fn ask_verifier(&self, arguments: &[&str], code: i32) -> Result<Value, DemoFault> {
        self.ask(self.verifier(arguments), arguments, code).await
    }

    /// Runs a `verifier` command to its end; its JSON if it ended with `code`.
    pub(super) async fn ask(&self, mut command: Command, arguments: &[&str], code: i32) -> Result<Value, DemoFault> {
        command.args(["--format", "json"]);
        document(&format!("verifier {}", arguments.join(" ")), self.finish(command).await?, code)
    }

    /// The same for `attestd`.
    pub(super) async fn ask_attestd(&self, arguments: &[&str], code: i32) -> Result<Value, DemoFault> {
        let mut all = vec!["--format", "json"];
        all.extend(arguments);
        document(&format!("attestd {}", arguments.join(" ")), self.finish(self.attestd(&all)).await?, code)
    }

    /// Asks again until the answer satisfies, but not for ever.
    pub(super) async fn until<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<Option<T>, DemoFault>,
    ) -> Result<T, DemoFault> {
        let looking = async {
            loop {
                if let Some(seen) = look().await? {
                    return Ok(seen);
                }
                sleep(LOOK_AGAIN_AFTER).await;
            }
        };
        timeout(UNTIL_WITHIN, looking).await.map_err(|_| DemoFault::new(what, "did not happen in time"))?
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let started = std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner));
        started.iter().for_each(Started::kill);
        let until = Instant::now().checked_add(ENDED_WITHIN);
        let left = || until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        started.iter().for_each(|started| started.wait(left()));
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

impl Started {
    /// Kills it and its process group, if it has one of its own. The signal arrives as long as nobody has waited for it,
    /// and as long is its number nobody else's.
    fn kill(&self) {
        if pidfd_send_signal(&self.pidfd, Signal::KILL).is_ok() {
            let _ = kill_process_group(self.pid, Signal::KILL); // it may lead none
        }
    }

    fn wait(&self, within: Duration) {
        let within = within.try_into().unwrap_or_default();
        let _ = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&within)); // late: the folder may stay
    }
}

pub(super) fn document(doing: &str, output: Output, code: i32) -> Result<Value, DemoFault> {
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.code() != Some(code) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(DemoFault::new(
            doing,
            format_args!("ended with {}, expected {code}\n{text}{stderr}", output.status),
        ));
    }
    serde_json::from_str(&text).map_err(|error| DemoFault::new(doing, format_args!("{error} in {text:?}")))
}

/// Folder of the domain's verifier.
pub(super) const VERIFIER_STATE: &str = "verifier";
/// Folder of the node's daemon.
pub(super) const ATTESTD_STATE: &str = "attestd";
/// Long enough for a slow machine, short enough to watch.
const LEASE_MS: u32 = 2_400;
const LOG_LINES: usize = 12;
const COMMAND_WITHIN: Duration = Duration::from_secs(15);
const UNTIL_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
const ENDED_WITHIN: Duration = Duration::from_secs(5);

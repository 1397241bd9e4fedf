//! `attestd demo`: the whole path on one machine, with real processes and a software TPM or a simulated TEE, told as it happens.
//!
//! Nothing is asserted from what the demo itself did: every sentence is printed after it was seen in the output of a real
//! command. The parts are public because tests start the same ones.

#[cfg(test)]
mod appraised;
#[cfg(test)]
mod cgroups;
#[cfg(test)]
mod ended;
pub mod event_log;
mod family;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hygiene;
#[cfg(test)]
#[path = "../../tests/images/mod.rs"]
mod image_layouts;
#[cfg(test)]
mod images;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod last_words;
mod machine;
pub mod mesh;
mod simulator;
mod software_tpm;
mod stage;
mod story;
pub mod swtpm;
mod telling;
mod watched;

use std::io::Write;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{DemoArgs, DemoPlatform};

pub use stage::DemoFault;
pub use watched::{Seen, Watched};

/// Runs the demo; `Ok` only if everything was observed. Nothing is left running, whatever the outcome.
///
/// # Errors
/// [`DemoFault`]: what was expected and what was seen instead.
pub async fn run(arguments: DemoArgs, out: &mut (dyn Write + Send)) -> Result<(), DemoFault> {
    let attestd = std::env::current_exe().map_err(|error| DemoFault::new("finding this program", error))?;
    let verifier = match arguments.verifier {
        Some(path) => path,
        None => beside(&attestd, "verifier")?,
    };
    let simulator = match arguments.simulator {
        Some(path) => Some(path),
        None if arguments.platform == DemoPlatform::Tpm && !arguments.mesh => None,
        None => Some(simulator(&attestd)?),
    };
    let ended = end_signal().map_err(|error| DemoFault::new("waiting for signals", error))?;
    if let (true, Some(simulator)) = (arguments.mesh, simulator.clone()) {
        return tokio::select! {
            told = mesh::story::tell([attestd, verifier, simulator], arguments.keep, out) => told,
            by = ended => Err(DemoFault::new("the demo", format_args!("ended by {by}"))),
        };
    }
    let stage = stage::Stage::new(stage::Programs { attestd, verifier, simulator }, arguments.keep)?;
    let told = tokio::select! {
        told = story::tell(&stage, arguments.platform, arguments.svg.as_deref(), out) => told,
        by = ended => return Err(DemoFault::new("the demo", format_args!("ended by {by}"))),
    };
    told.map_err(|fault| fault.with_logs(&stage))
}

/// Resolves to the first signal that asks for the end. From here on none of them ends the process by itself.
fn end_signal() -> std::io::Result<impl Future<Output = &'static str>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "SIGHUP",
        }
    })
}

/// The simulator of TEEs: beside this program, else where programs are looked for.
fn simulator(program: &std::path::Path) -> Result<PathBuf, DemoFault> {
    const NAME: &str = "tee-simulator";
    let places = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&places).map(|folder| folder.join(NAME));
    let found = std::iter::once(program.with_file_name(NAME)).chain(folders).find(|path| path.is_file());
    let what = "none beside this one or on PATH: build it (`cargo build -p simulators`), or name one with --simulator";
    found.ok_or_else(|| DemoFault::new("finding tee-simulator", what))
}

fn beside(program: &std::path::Path, name: &str) -> Result<PathBuf, DemoFault> {
    let path = program.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    let what =
        format!("no program at {}: build it (`cargo build -p verifier`), or name one with --verifier", path.display());
    Err(DemoFault::new("finding the verifier", what))
}

//! `attestd demo`: the whole path on one machine, with real processes and a software TPM or a simulated TEE, told as it happens.
//!
//! Nothing is asserted from what the demo itself did: every sentence is printed after it was seen in the output of a real
//! command. The parts are public because tests start the same ones.

#[cfg(test)]
mod appraised;
pub mod event_log;
#[cfg(test)]
mod faults;
mod machine;
mod simulator;
mod software_tpm;
mod stage;
mod story;
pub mod swtpm;
mod watched;

use std::io::Write;
use std::path::PathBuf;

use crate::cli::{DemoArgs, DemoPlatform};

pub use stage::DemoFault;

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
        None if arguments.platform == DemoPlatform::Tpm => None,
        None => Some(simulator(&attestd)?),
    };
    let stage = stage::Stage::new(stage::Programs { attestd, verifier, simulator }, arguments.keep)?;
    let told = tokio::select! {
        told = story::tell(&stage, arguments.platform, out) => told,
        interrupted = tokio::signal::ctrl_c() => Err(match interrupted {
            Ok(()) => DemoFault::new("the demo", "interrupted"),
            Err(error) => DemoFault::new("waiting for an interrupt", error),
        }),
    };
    // Everything that was started is a child that dies with its handle, and the handles went with the story.
    told.map_err(|fault| fault.with_logs(&stage))
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

//! `attestd demo`: the whole path on one machine, with real processes and a software TPM, told as it happens.
//!
//! Nothing is asserted from what the demo itself did: every sentence is printed after it was seen in the output of a real
//! command. The parts are public because tests start the same ones.

pub mod event_log;
#[cfg(test)]
mod faults;
mod machine;
mod stage;
mod story;
pub mod swtpm;
mod watched;

use std::io::Write;
use std::path::PathBuf;

use crate::cli::DemoArgs;

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
    let stage = stage::Stage::new(attestd, verifier, arguments.keep)?;
    let told = tokio::select! {
        told = story::tell(&stage, out) => told,
        interrupted = tokio::signal::ctrl_c() => Err(match interrupted {
            Ok(()) => DemoFault::new("the demo", "interrupted"),
            Err(error) => DemoFault::new("waiting for an interrupt", error),
        }),
    };
    // Everything that was started is a child that dies with its handle, and the handles went with the story.
    told.map_err(|fault| fault.with_logs(&stage))
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

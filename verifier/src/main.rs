//! The `verifier` program.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use verifier::evidence_cli::{self, EvidenceArgs};

/// Verifies machines by the evidence they send, and authorizes what may run on them.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Saved evidence: show it, or judge whether it is authentic.
    Evidence(EvidenceArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Evidence(args) => evidence_cli::run(args),
    }
}

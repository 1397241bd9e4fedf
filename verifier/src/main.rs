//! The `verifier` program.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use verifier::cli::{
    AppraiseArgs, ArtifactArgs, ConfigArgs, DomainArgs, EndorsementsArgs, ExplainArgs, GovernanceArgs, InitArgs,
    KeysArgs, LineageArgs, LogArgs, NodeArgs, PolicyArgs, ProofArgs, RefsArgs, ResultArgs, RevokeArgs, ServeArgs,
    SignArgs,
};
use verifier::evidence_cli::{self, EvidenceArgs};

/// Verifies machines by the evidence they send, and authorizes what may run on them.
///
/// Exit codes: 0 done or affirmed, 2 usage, 3 denied, 4 fault (could not judge), 5 halted.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a domain: its keys, configuration, store and first governance state.
    Init(Box<InitArgs>),
    /// Serve nodes and operators until told to stop.
    Serve(ServeArgs),
    /// The configuration: read it as the service would.
    Config(ConfigArgs),
    /// Saved evidence: show it, or judge whether it is authentic.
    Evidence(EvidenceArgs),
    /// Saved evidence, of a logged decision or of a file, by what is trusted now; grants nothing.
    Appraise(AppraiseArgs),
    /// Reference values: what machines may have measured.
    Refs(RefsArgs),
    /// Policies: what authentic machines may do.
    Policy(PolicyArgs),
    /// Execution keys.
    Keys(KeysArgs),
    /// Hardware vendors' certificates, revocation lists and collateral.
    Endorsements(EndorsementsArgs),
    /// Nodes: identity, state, quarantine.
    Node(NodeArgs),
    /// Revoke something, by the policy authority's signatures.
    Revoke(RevokeArgs),
    /// Sign, with the policy authority's keys, what others have begun to sign (--collect); offline.
    Sign(SignArgs),
    /// This domain's trust bundle, and the domains that it trusts.
    Domain(DomainArgs),
    /// This domain's governance state, and how partners stand.
    Governance(GovernanceArgs),
    /// Artifacts that somebody comes with: judge one offline.
    Artifact(ArtifactArgs),
    /// Where executions come from and what came of them.
    Lineage(LineageArgs),
    /// The transparency log.
    Log(LogArgs),
    /// Why a logged decision was what it was.
    Explain(ExplainArgs),
    /// The Attestation Result of a logged decision, as JWT.
    Result(ResultArgs),
    /// Proof bundles: export one, or verify one offline.
    Proof(ProofArgs),
    /// Print shell completions.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one a verb, into a folder.
    #[command(hide = true)]
    Man {
        /// The folder; it must exist.
        folder: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Init(args) => args.run(),
        Command::Serve(args) => args.run(),
        Command::Config(args) => args.run(),
        Command::Evidence(args) => evidence_cli::run(args),
        Command::Appraise(args) => args.run(),
        Command::Refs(args) => args.run(),
        Command::Policy(args) => args.run(),
        Command::Keys(args) => args.run(),
        Command::Endorsements(args) => args.run(),
        Command::Node(args) => args.run(),
        Command::Revoke(args) => args.run(),
        Command::Sign(args) => args.run(),
        Command::Domain(args) => args.run(),
        Command::Governance(args) => args.run(),
        Command::Artifact(args) => args.run(),
        Command::Lineage(args) => args.run(),
        Command::Log(args) => args.run(),
        Command::Explain(args) => args.run(),
        Command::Result(args) => args.run(),
        Command::Proof(args) => args.run(),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "verifier", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::Man { folder } => match clap_mangen::generate_to(Cli::command(), &folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "verifier: {}: {error}", folder.display());
                ExitCode::from(verifier::cli::exit::FAULT)
            }
        },
    }
}

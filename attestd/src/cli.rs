//! The command line: verbs, options, exit codes. Fixed, because scripts rely on them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Outcome of a command, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, affirmed (0). `exec` passes on its workload's own code instead.
    Done,
    /// The workload's own exit code.
    Workload(u8),
    /// Misuse (2).
    Usage,
    /// Judged, and the answer is no (3).
    Denied,
    /// Could not be judged or done (4).
    Fault,
    /// Halted: the workload was killed or the node is quarantined (5).
    Halted,
}

impl Outcome {
    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Workload(code) => code,
            Self::Usage => 2,
            Self::Denied => 3,
            Self::Fault => 4,
            Self::Halted => 5,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome.code())
    }
}

/// Runs workloads only while this machine's state is proven and every domain concerned agrees.
#[derive(Debug, Parser)]
#[command(name = "attestd", version, propagate_version = true)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub common: Common,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// State directory (must exist, mode 0700).
    #[arg(long, global = true, value_name = "DIR", env = "ATTESTD_STATE", default_value = "/var/lib/attestd")]
    pub state: PathBuf,
    /// Configuration; DIR/attestd.toml unless given.
    #[arg(long, global = true, value_name = "FILE", env = "ATTESTD_CONFIG")]
    pub config: Option<PathBuf>,
    /// Form of what is printed on standard output.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// What to log on standard error, as tracing filter directives.
    #[arg(long, global = true, value_name = "FILTER", env = "ATTESTD_LOG", default_value = "info")]
    pub log: String,
}

impl Common {
    /// The configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| self.state.join("attestd.toml"))
    }
}

/// Form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document (or one a line, for events).
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the daemon.
    Run,
    /// Run a command under the daemon, once every domain concerned has authorized it.
    Exec(ExecArgs),
    /// Collect Evidence for a nonce and save it: what a verifier would see.
    ///
    /// It is bound to the nonce, to the node key, and in every other field to values that no verifier challenges with:
    /// audience urn:attestd:inspection, epoch 0, a channel of zeros, a subject of its own, a lineage head of zeros. So it
    /// can be looked at and appraised (`verifier appraise --node NODE --evidence FILE --nonce HEX`), but answers no
    /// verifier's challenge and is granted nothing. How fresh it is, the nonce alone says.
    Evidence(EvidenceArgs),
    /// Prove this TPM's EK and AK to a domain and store what it grants.
    Enrol(EnrolArgs),
    /// From within a workload: write its newest artifacts into files, to be shown to services.
    Artifacts(ArtifactsArgs),
    /// Show what the daemon holds: node, leases, halts.
    Status(StatusArgs),
    /// Halt everything running here; durable until readmission.
    Halt(HaltArgs),
    /// Have executions stand still, with their leases renewed as before; needs `halt.cgroup`.
    ///
    /// It is no halt: nothing is taken away, and the lease's end still ends them.
    Pause(PauseArgs),
    /// Let paused executions go on, once their domains have seen new evidence and renewed their leases.
    Resume(PauseArgs),
    /// Look at the configuration.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Show the whole path on this machine with a software TPM or a simulated TEE: no root, nothing left running.
    Demo(DemoArgs),
    /// Print a shell completion script.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one a verb, into a folder.
    Man {
        /// The folder; it must exist.
        folder: PathBuf,
    },
}

/// `attestd exec`
#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    /// Intent in TOML; replaces the other options.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keys", "labels", "capabilities", "environment", "domains", "need", "attach", "image", "argv"])]
    pub intent: Option<PathBuf>,
    /// Execution key that the workload needs; its descriptor is in `ATTESTD_KEY_FD_<NAME>`.
    #[arg(long = "key", value_name = "NAME")]
    pub keys: Vec<String>,
    /// Label of the intent.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Capability that the workload asks for.
    #[arg(long = "capability", value_name = "NAME")]
    pub capabilities: Vec<String>,
    /// Environment variable for the workload; the daemon passes only allow-listed names.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub environment: Vec<String>,
    /// Domain that must authorize; repeatable; every configured one unless given.
    #[arg(long = "domain", value_name = "NAME")]
    pub domains: Vec<String>,
    /// How many of the domains must authorize; all unless given.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub need: Option<u32>,
    /// From within a workload: a child execution of it, which reaches no further and ends with it. Asked for by itself where
    /// the daemon knows the caller as a workload; needed where only the workload's socket can be reached.
    #[arg(long, conflicts_with = "parents")]
    pub child: bool,
    /// Artifact of a parent that runs on another node or in another domain, in a file that whoever starts this keeps
    /// current: it is read again at each renewal. Repeatable, one for each domain.
    #[arg(long = "parent", value_name = "FILE")]
    pub parents: Vec<PathBuf>,
    /// Working directory of the workload.
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Govern the processes of this cgroup v2 directory, which run already, instead of a command.
    ///
    /// They were started before anything was proven, and get neither keys nor isolation. All of them must run one and the same
    /// executable. From then on they end with the lease, with this command and with the daemon.
    #[arg(long, value_name = "CGROUP", conflicts_with_all = ["keys", "environment", "directory", "argv"])]
    pub attach: Option<PathBuf>,
    /// Run in an OCI image: the folder of an image layout, and `@sha256:…` where it holds several. Policies see the digest of
    /// the image's manifest; the command, the directory and the environment are the image's unless given here.
    #[arg(long, value_name = "DIR[@DIGEST]", conflicts_with = "attach")]
    pub image: Option<String>,
    /// The command.
    #[arg(last = true, value_name = "CMD", required_unless_present_any = ["intent", "attach", "image"])]
    pub argv: Vec<String>,
}

/// `attestd evidence`
#[derive(Clone, Debug, Args)]
pub struct EvidenceArgs {
    /// 32 bytes that the Evidence must name.
    #[arg(long, value_name = "HEX")]
    pub nonce: String,
    /// Where to write the CMW; its parts are described on standard output either way.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Directory for the parts in their own forms (quote, signature, public areas, PCR values, logs).
    #[arg(long, value_name = "DIR")]
    pub parts: Option<PathBuf>,
    /// PCR bank, of a machine with a TPM: sha256 or sha384.
    #[arg(long, value_name = "ALG", default_value = "sha256")]
    pub bank: String,
    /// PCRs to quote, of a machine with a TPM; those that the domain's reference values are about, for `verifier appraise`.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "0,1,2,3,4,5,6,7")]
    pub pcrs: Vec<u8>,
}

/// `attestd enrol`
#[derive(Clone, Debug, Args)]
pub struct EnrolArgs {
    /// Which configured domain; needed when there are several.
    #[arg(long, value_name = "NAME")]
    pub domain: Option<String>,
}

/// `attestd artifacts`
#[derive(Clone, Debug, Args)]
pub struct ArtifactsArgs {
    /// Folder for them, which must exist: DOMAIN.cose each, replaced whole.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Keep them current until the execution is over.
    #[arg(long)]
    pub follow: bool,
}

/// `attestd status`
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Show the executions alone, each under what it descends from.
    #[arg(long)]
    pub tree: bool,
}

/// `attestd halt`
#[derive(Clone, Debug, Args)]
pub struct HaltArgs {
    /// Why; goes into the signed halt record.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// What becomes of executions, instead of what their intents say.
    #[arg(long, value_enum)]
    pub mode: Option<HaltMode>,
    /// How long a drain may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub grace_ms: u32,
}

/// What becomes of executions when an operator halts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HaltMode {
    /// Every process is killed.
    Kill,
    /// Every process stands still until readmission or the end of the daemon; needs `halt.cgroup`.
    Freeze,
    /// SIGTERM, and SIGKILL to what is left after `--grace-ms`, or at the lease's end.
    Drain,
    /// They are told, get no key any more, and end when their leases would have.
    RevokeKeys,
}

impl HaltMode {
    /// Its name in intents and requests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Drain => "drain",
            Self::RevokeKeys => "revoke_keys",
        }
    }
}

/// `attestd pause`, `attestd resume`
#[derive(Clone, Debug, Args)]
pub struct PauseArgs {
    /// Digest of one execution's intent, as `status` shows it; every execution unless given.
    #[arg(long, value_name = "HEX")]
    pub intent: Option<String>,
}

/// `attestd config`
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check the configuration and say in words what is enforced.
    Check,
}

/// `attestd demo`
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// The machine that is shown.
    #[arg(long, value_enum, default_value_t = DemoPlatform::Tpm)]
    pub platform: DemoPlatform,
    /// Three domains, a machine with a software TPM and a simulated SEV-SNP guest.
    #[arg(long, conflicts_with = "platform")]
    pub mesh: bool,
    /// The simulator of TEEs; next to this one or on PATH unless given.
    #[arg(long, value_name = "FILE")]
    pub simulator: Option<PathBuf>,
    /// The verifier program; next to this one unless given.
    #[arg(long, value_name = "FILE")]
    pub verifier: Option<PathBuf>,
    /// Also write the lineage of the run as SVG to this file, in place of one that is there. Without it, nothing is left
    /// outside the demo's folder.
    #[arg(long, value_name = "FILE", conflicts_with = "mesh")]
    pub svg: Option<PathBuf>,
    /// Keep the demo's folder instead of removing it.
    #[arg(long)]
    pub keep: bool,
}

/// The machines that the demo can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DemoPlatform {
    /// A software TPM.
    Tpm,
    /// A simulated AMD SEV-SNP guest.
    SimulatedSnp,
    /// A simulated Intel TDX guest.
    SimulatedTdx,
    /// A software TPM in a simulated SEV-SNP guest.
    #[value(name = "simulated-snp+tpm")]
    SimulatedSnpTpm,
    /// A software TPM in a simulated TDX guest.
    #[value(name = "simulated-tdx+tpm")]
    SimulatedTdxTpm,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exit_codes_are_the_fixed_ones() {
        let codes: Vec<_> =
            [Outcome::Done, Outcome::Usage, Outcome::Denied, Outcome::Fault, Outcome::Halted].map(Outcome::code).into();
        assert_eq!(codes, [0, 2, 3, 4, 5]);
    }

    #[test]
    fn exec_needs_a_command_or_an_intent() {
        assert!(Cli::try_parse_from(["attestd", "exec"]).is_err());
        let cli = Cli::try_parse_from(["attestd", "exec", "--key", "db", "--", "sh", "-c", "true"]).unwrap();
        let Verb::Exec(exec) = cli.verb else { panic!("exec expected") };
        assert_eq!(exec.argv, ["sh", "-c", "true"]);
    }
}

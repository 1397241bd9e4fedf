//! The operator's command line: what is signed is signed here, with keys that the
//! service never sees; what is known is asked of the running service.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

mod appraise;
mod artifact;
mod backtest;
mod collected;
mod compute;
mod config;
mod domain;
mod endorsements;
mod exchange;
mod explain;
mod governance;
mod init;
mod keys;
mod lineage;
mod log;
mod node;
mod output;
mod policy;
mod proof;
mod refs;
mod result;
mod revoke;
mod rotate;
mod serve;
mod service;
mod sign;
mod signing;
mod witnessing;

pub use self::{
    appraise::AppraiseArgs, artifact::ArtifactArgs, config::ConfigArgs, domain::DomainArgs,
    endorsements::EndorsementsArgs, explain::ExplainArgs, governance::GovernanceArgs, init::InitArgs, keys::KeysArgs,
    lineage::LineageArgs, log::LogArgs, node::NodeArgs, policy::PolicyArgs, proof::ProofArgs, refs::RefsArgs,
    result::ResultArgs, revoke::RevokeArgs, serve::ServeArgs, sign::SignArgs,
};

/// Exit codes, the same for every verb (0 is done or affirmed).
pub mod exit {
    /// The command line or a file given on it is not usable.
    pub const USAGE: u8 = 2;
    /// Judged, and refused.
    pub const DENIED: u8 = 3;
    /// Could not be judged or done.
    pub const FAULT: u8 = 4;
}

/// Where the service keeps its state, and how to print.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// State folder of the verifier.
    #[arg(long, global = true, env = "VERIFIER_STATE", value_name = "DIR", default_value = "/var/lib/verifier")]
    pub state: PathBuf,
    /// How to print.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub format: Format,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document on stdout.
    Json,
}

/// Why a command ended without doing what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command line or a file given on it is not usable.
    #[error("{0}")]
    Usage(String),
    /// The service, or an offline judgement, said no.
    #[error("denied ({code}){}", told(.detail))]
    Denied {
        /// Stable code.
        code: String,
        /// What is known about it.
        detail: serde_json::Value,
    },
    /// Not all of it could be judged; what was, is in the document.
    #[error("fault ({code}): {}", .document.get("error").and_then(serde_json::Value::as_str).unwrap_or_default())]
    Undecided {
        /// Stable code.
        code: String,
        /// What came of the rest.
        document: serde_json::Value,
    },
    /// It could not be judged or done.
    #[error("fault ({code}): {what}")]
    Fault {
        /// Stable code.
        code: String,
        /// What was being done, and why it failed.
        what: String,
    },
}

fn told(detail: &serde_json::Value) -> String {
    detail.as_str().map_or_else(String::new, |text| format!(": {text}"))
}

impl CommandError {
    fn usage(what: impl std::fmt::Display) -> Self {
        Self::Usage(what.to_string())
    }

    fn fault(code: &str, what: impl std::fmt::Display) -> Self {
        Self::Fault { code: code.to_owned(), what: what.to_string() }
    }

    fn report(&self, format: Format) -> ExitCode {
        let (code, document) = match self {
            Self::Usage(what) => (exit::USAGE, serde_json::json!({"decision": "usage", "error": what})),
            Self::Denied { code, detail } => (exit::DENIED, output::denied(code, detail)),
            Self::Undecided { document, .. } => (exit::FAULT, document.clone()),
            Self::Fault { code, what } => {
                (exit::FAULT, serde_json::json!({"decision": "fault", "code": code, "error": what}))
            }
        };
        match format {
            Format::Json => output::json(&document),
            Format::Text => output::complaint(&self.to_string(), &document),
        }
        ExitCode::from(code)
    }
}

/// Runs one verb to its end and turns its outcome into an exit code.
pub fn run<F>(format: Format, verb: F) -> ExitCode
where
    F: Future<Output = Result<(), CommandError>>,
{
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return CommandError::fault("fault.runtime", error).report(format),
    };
    match runtime.block_on(verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(format),
    }
}

//! `verifier appraise`: saved evidence, by what is trusted now.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use evidence::evidence::EVIDENCE_CAP_BYTES;
use serde_json::Value;
use wire::proto::{AppraiseEntry, AppraiseFile, operator_command::Command};

use super::service::{Service, text};
use super::{CommandError, Common, output};

/// Arguments of `verifier appraise`.
#[derive(Args, Debug)]
pub struct AppraiseArgs {
    #[command(flatten)]
    common: Common,
    /// Index of a decision in the log: is its evidence affirmed by what is trusted now?
    #[arg(required_unless_present = "node", conflicts_with_all = ["node", "evidence", "nonce"])]
    entry: Option<u64>,
    /// The node that a file of evidence is of.
    #[arg(long, value_name = "NODE", requires_all = ["evidence", "nonce"])]
    node: Option<String>,
    /// What `attestd evidence --out FILE` wrote. It answers no challenge of this domain: how fresh it is, only whoever
    /// chose the nonce knows.
    #[arg(long, value_name = "FILE", requires = "node")]
    evidence: Option<PathBuf>,
    /// The nonce that was given to `attestd evidence`.
    #[arg(long, value_name = "HEX", requires = "node")]
    nonce: Option<String>,
}

impl AppraiseArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let command = self.command()?;
        let mut service = Service::connect(&self.common.state).await?;
        let document = match service.ask(command).await {
            Ok(answer) => answer.document,
            // Exit code 3 says that evidence was judged: an entry that is no decision, or an unknown node, is misuse.
            Err(CommandError::Denied { code, detail }) => {
                return Err(CommandError::Usage(format!("{} ({code})", detail.as_str().unwrap_or_default())));
            }
            Err(error) => return Err(error),
        };
        match text(&document, "decision")? {
            "affirmed" => {
                output::document(&document, self.common.format);
                Ok(())
            }
            "denied" => {
                let code = document.pointer("/failures/0/code").and_then(Value::as_str).unwrap_or("denied").to_owned();
                Err(CommandError::Denied { code, detail: document })
            }
            other => Err(CommandError::fault("fault.service", format!("the service decided {other:?}"))),
        }
    }

    fn command(&self) -> Result<Command, CommandError> {
        match (self.entry, &self.node, &self.evidence, &self.nonce) {
            (Some(entry), ..) => Ok(Command::AppraiseEntry(AppraiseEntry { entry })),
            (None, Some(node), Some(evidence), Some(nonce)) => {
                let nonce = hex::decode(nonce).ok().filter(|nonce| nonce.len() == 32);
                let nonce = nonce.ok_or_else(|| CommandError::usage("--nonce must be 64 hexadecimal digits"))?;
                let cmw = read(evidence)?;
                Ok(Command::AppraiseFile(AppraiseFile { node_id: node.clone(), nonce, cmw }))
            }
            (None, ..) => Err(CommandError::usage("a log entry, or --node, --evidence and --nonce")),
        }
    }
}

/// Evidence from a file, to its cap.
fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let unread = |error| CommandError::Usage(format!("reading {}: {error}", path.display()));
    let limit = u64::try_from(EVIDENCE_CAP_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path).map_err(unread)?.take(limit).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() > EVIDENCE_CAP_BYTES {
        let what = format!("{} has more than the {EVIDENCE_CAP_BYTES} bytes of any evidence", path.display());
        return Err(CommandError::Usage(what));
    }
    Ok(bytes)
}

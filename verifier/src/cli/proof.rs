//! `verifier proof`: what happened, in one file that a stranger verifies with public keys alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use audit::AuditDenial;
use audit::bundle::ProofBundle;
use audit::note::NoteKey;
use audit::proof::{Pin, Pins, ProofReport, verify_bundle};
use clap::{Args, Subcommand};
use wire::proto::{ProofExport, operator_command::Command};

use super::service::Service;
use super::signing::{now, read_file, read_text, write_file};
use super::{CommandError, Common, output};
use crate::payloads::GovernancePayloads;
use crate::pin::PinFile;

/// Arguments of `verifier proof`.
#[derive(Args, Debug)]
pub struct ProofArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Write everything that proves one execution, node or log entry.
    Export {
        /// Artifact id, node name, or log index.
        subject: String,
        /// Where to write it.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Merge what several domains exported about the same execution or node into one bundle. Nothing is verified here.
    Merge {
        /// Bundles, each of other domains.
        #[arg(required = true, num_args = 1..)]
        files: Vec<PathBuf>,
        /// Where to write it.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Verify a proof bundle offline: needs the file and the pinned public keys, nothing else.
    Verify {
        /// The bundle.
        file: PathBuf,
        /// Public keys of the domains that may appear in it (TOML, as `init` writes to pin.toml).
        #[arg(long, value_name = "FILE", required = true)]
        pin: Vec<PathBuf>,
        /// A witness that may have cosigned, as `proof export` names it: NAME+ID+KEY (C2SP signed-note); repeatable.
        #[arg(long, value_name = "VKEY")]
        witness: Vec<String>,
        /// How many witnesses must have cosigned each checkpoint.
        #[arg(long, value_name = "COUNT", default_value_t = 0)]
        quorum: usize,
    },
}

impl ProofArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let document = match &self.verb {
            Verb::Export { subject, out } => {
                let mut service = Service::connect(&self.common.state).await?;
                let answer = service.ask(Command::ProofExport(ProofExport { subject: subject.clone() })).await?;
                write_file(out, &answer.attachment)?;
                answer.document
            }
            Verb::Merge { files, out } => merge(files, out)?,
            Verb::Verify { file, pin, witness, quorum } => {
                let domains = pin.iter().map(|path| read_pin(path)).collect::<Result<Vec<_>, _>>()?;
                let unusable = |error| CommandError::Usage(format!("--witness: {error}"));
                let witnesses = witness.iter().map(|vkey| NoteKey::from_vkey(vkey));
                let witnesses = witnesses.collect::<Result<Vec<_>, _>>().map_err(unusable)?;
                let pins = Pins { domains, witnesses, quorum: *quorum };
                let report =
                    verify_bundle(&read_file(file)?, &pins, &GovernancePayloads, now()?).map_err(|failure| {
                        CommandError::Denied {
                            code: failure.denial.code().to_owned(),
                            detail: failure.to_string().into(),
                        }
                    })?;
                shown(&report)
            }
        };
        output::document(&document, self.common.format);
        Ok(())
    }
}

fn merge(files: &[PathBuf], out: &Path) -> Result<serde_json::Value, CommandError> {
    let denied = |denial: AuditDenial| CommandError::Denied {
        code: denial.code().to_owned(),
        detail: denial.to_string().into(),
    };
    let mut bundles = Vec::with_capacity(files.len());
    for file in files {
        bundles.push(ProofBundle::decode(&read_file(file)?).map_err(denied)?);
    }
    let merged = ProofBundle::merged(bundles).map_err(denied)?;
    let domains: Vec<_> = merged.domains.iter().map(|proof| proof.domain.clone()).collect();
    let records = merged.domains.iter().map(|proof| proof.records.len()).sum::<usize>();
    write_file(out, &merged.encode().map_err(denied)?)?;
    Ok(serde_json::json!({ "domains": domains, "records": records, "out": out }))
}

pub(super) fn read_pin(path: &Path) -> Result<Pin, CommandError> {
    let unusable = |error: &dyn std::fmt::Display| CommandError::Usage(format!("{}: {error}", path.display()));
    let pin: PinFile = toml::from_str(&read_text(path)?).map_err(|error| unusable(&error))?;
    let domain = pin.domain.clone();
    Ok(Pin { domain, authority: pin.authority().map_err(|error| unusable(&error))? })
}

fn shown(report: &ProofReport) -> serde_json::Value {
    let domains: Vec<_> = report
        .domains()
        .iter()
        .map(|domain| {
            serde_json::json!({
                "domain": domain.domain,
                "origin": domain.origin,
                "log_size": domain.size,
                "cosignatures": domain.cosigned.len(),
            })
        })
        .collect();
    let steps: Vec<_> = report
        .steps()
        .iter()
        .map(|step| {
            serde_json::json!({
                "domain": step.record.domain,
                "index": step.index,
                "kind": step.record.kind().name(),
                "node": step.record.node,
                "subject": step.record.subject,
                "at": step.record.at,
            })
        })
        .collect();
    serde_json::json!({
        "decision": "affirmed",
        "attachments": report.attachments(),
        "domains": domains,
        "records": steps,
    })
}

//! `verifier refs`: reference value sets, authored as TOML, signed here, activated by statement.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use firmware_refs::set::ReferenceValueSet;
use wire::proto::{Named, RefsCapture, RefsImport, RefsList, operator_command::Command};

mod change;
mod diff;
mod history;

use change::{ActivateArgs, RevokeArgs, SupersedeArgs};
use diff::DiffArgs;
use history::HistoryArgs;

use super::backtest::BacktestArgs;
use super::collected::{Part, PartKind};
use super::compute::ComputeVerb;
use super::exchange::{ConvertArgs, ExportArgs};
use super::service::Service;
use super::signing::{SigningArgs, read_text, write_file};
use super::{CommandError, Common, output};

/// Arguments of `verifier refs`.
#[derive(Args, Debug)]
pub struct RefsArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Calculate values from firmware, kernels and command lines. Offline.
    #[command(subcommand)]
    Compute(ComputeVerb),
    /// Make a set of a file of another format: CoRIM, Keylime, sev-snp-measure. Offline; nothing is staged.
    Convert(ConvertArgs),
    /// Write a set as CoRIM. Offline.
    Export(ExportArgs),
    /// Judge the decisions of the last days again with a candidate set in the place of the version in force: who would
    /// break? Exit code 0: nobody, 3: somebody, 4: something could not be judged.
    Backtest(BacktestArgs),
    /// What tells two sets apart, or a node from a set, in words.
    Diff(DiffArgs),
    #[command(flatten)]
    OfService(OfService),
}

/// What the running service is asked.
#[derive(Subcommand, Debug)]
enum OfService {
    /// Sign a set (TOML) and stage it once enough keys signed. It matches nothing until activated.
    #[command(visible_alias = "stage")]
    Import {
        /// The set.
        file: PathBuf,
        #[command(flatten)]
        signing: SigningArgs,
    },
    /// List every set and where it stands.
    List,
    /// Show one set, with its history and signers.
    Show {
        /// NAME (its newest version), NAME:VERSION or the set's digest.
        set: String,
    },
    /// Make a staged set active; an older version of the same name stays in force for the grace period.
    Activate(ActivateArgs),
    /// Replace an active set by another, which becomes active if it is staged.
    Supersede(SupersedeArgs),
    /// Withdraw a set for ever: machines that it describes are denied from now on.
    Revoke(RevokeArgs),
    /// Everything that happened to sets: when, why, by whose order, and where the log says so.
    History(HistoryArgs),
    /// Propose a set from what a node sent when it connected. Nothing is staged: read it, then import it.
    Capture {
        /// The node.
        node: String,
        /// From the evidence of this logged decision about it instead.
        #[arg(long, value_name = "ENTRY")]
        entry: Option<u64>,
        /// Where to write the proposal (TOML).
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

impl RefsArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let verb = match &self.verb {
            Verb::Compute(compute) => return compute.run(self.common.format),
            Verb::Convert(convert) => return convert.run(self.common.format),
            Verb::Export(export) => return export.run(self.common.format),
            Verb::Backtest(backtest) => return backtest.references(&self.common).await,
            Verb::Diff(diff) => return diff.run(&self.common).await,
            Verb::OfService(verb) => verb,
        };
        // A set that does not read is the author's to mend before any service is asked.
        let authored = match verb {
            OfService::Import { file, .. } => Some(
                ReferenceValueSet::from_toml(&read_text(file)?)
                    .map_err(|error| CommandError::Usage(format!("{}: {error}", file.display())))?,
            ),
            OfService::List
            | OfService::Show { .. }
            | OfService::Activate(_)
            | OfService::Supersede(_)
            | OfService::Revoke(_)
            | OfService::History(_)
            | OfService::Capture { .. } => None,
        };
        let mut service = Service::connect(&self.common.state).await?;
        let document = match (verb, authored) {
            (OfService::Import { signing, .. }, Some(set)) => import(&mut service, &set, signing).await?,
            (OfService::Import { .. }, None) | (OfService::List, _) => {
                service.ask(Command::RefsList(RefsList {})).await?.document
            }
            (OfService::Show { set }, _) => service.ask(Command::RefsShow(Named { name: set.clone() })).await?.document,
            (OfService::Activate(activate), _) => activate.run(&mut service).await?,
            (OfService::Supersede(supersede), _) => supersede.run(&mut service).await?,
            (OfService::Revoke(revoke), _) => revoke.run(&mut service).await?,
            (OfService::History(history), _) => return history.run(&mut service, self.common.format).await,
            (OfService::Capture { node, entry, out }, _) => {
                let capture = RefsCapture { node_id: node.clone(), entry: *entry };
                let captured = service.ask(Command::RefsCapture(capture)).await?;
                write_file(out, &captured.attachment)?;
                captured.document
            }
        };
        output::document(&document, self.common.format);
        Ok(())
    }
}

/// One signature a request: the service counts distinct keys.
async fn import(
    service: &mut Service,
    set: &ReferenceValueSet,
    signing: &SigningArgs,
) -> Result<serde_json::Value, CommandError> {
    let keys = signing.keys()?;
    let signatures = keys.iter().map(|key| firmware_refs::signed::sign(set, key).map_err(CommandError::usage));
    let signatures: Vec<_> = signatures.collect::<Result<_, _>>()?;
    if signing.collects() {
        let set = Part::new(PartKind::ReferenceValues, signatures);
        return Ok(signing.collect_set(service, set, None).await?.document);
    }
    let mut document = serde_json::Value::Null;
    for cose in signatures {
        document = service.ask(Command::RefsImport(RefsImport { cose })).await?.document;
    }
    Ok(document)
}

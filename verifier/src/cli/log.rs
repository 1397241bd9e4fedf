//! `verifier log`: the transparency log, as served and as stored.

use std::process::ExitCode;

use audit::fsck::LogAudit;
use clap::{Args, Subcommand};
use evidence::cose::KeySet;
use governance::trust_bundle::TrustBundle;
use wire::proto::{LogCheckpoint, LogProve, operator_command::Command};

use super::service::Service;
use super::{CommandError, Common, output};
use crate::config::Config;
use crate::log::{CheckpointSigner, audit_whole_log};
use crate::state::{KeyFile, StateFolder};
use crate::store::Database;

/// Arguments of `verifier log`.
#[derive(Args, Debug)]
pub struct LogArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Print the newest checkpoint (C2SP signed note).
    Checkpoint,
    /// Prove that an entry stands in the log, and that the log grew from an older size.
    Prove {
        /// Index of the entry.
        index: u64,
        /// Also prove that the log of this size is a prefix of today's.
        #[arg(long, value_name = "SIZE", default_value_t = 0)]
        from_size: u64,
    },
    /// Check the whole log again: every hash, signature and parent, every published file. Reads only; the service may
    /// be running.
    Audit,
}

impl LogArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let command = match &self.verb {
            Verb::Audit => return self.audit().await,
            Verb::Checkpoint => Command::LogCheckpoint(LogCheckpoint {}),
            Verb::Prove { index, from_size } => Command::LogProve(LogProve { index: *index, old_size: *from_size }),
        };
        let mut service = Service::connect(&self.common.state).await?;
        output::document(&service.ask(command).await?.document, self.common.format);
        Ok(())
    }

    async fn audit(&self) -> Result<(), CommandError> {
        let fault = |error: &dyn std::fmt::Display| CommandError::fault("fault.log_audit", error);
        let state = StateFolder::open(&self.common.state).map_err(|error| fault(&error))?;
        let config = Config::load(&state.config_path(), std::env::vars()).map_err(|error| fault(&error))?;
        let database = Database::at(&config.store).map_err(|error| fault(&error))?;
        let key = state.key(KeyFile::Log).map_err(|error| fault(&error))?;
        let signer =
            CheckpointSigner::new(&config.log.origin, std::sync::Arc::new(key)).map_err(|error| fault(&error))?;
        let bundle = own_bundle(&state)?;
        let issuers = KeySet::new(bundle.issuer.iter().map(|record| &record.key));
        let records = LogAudit::new(config.domain.clone(), issuers);
        let bar = indicatif::ProgressBar::new(0);
        let report = audit_whole_log(&database, &state.tiles(), &signer, Some(records), |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        })
        .await
        .map_err(|error| fault(&error))?;
        bar.finish_and_clear();
        output::document(&serde_json::json!(report), self.common.format);
        if report.is_clean() {
            return Ok(());
        }
        let detail = format!("{} findings", report.findings.len()).into();
        Err(CommandError::Denied { code: "audit.log_not_clean".to_owned(), detail })
    }
}

/// The trust bundle in the state folder: whose records are audited.
fn own_bundle(state: &StateFolder) -> Result<TrustBundle, CommandError> {
    let fault = |error: &dyn std::fmt::Display| CommandError::fault("fault.log_audit", error);
    let signatures = state.trust_bundle().map_err(|error| fault(&error))?;
    let first = signatures.first().ok_or_else(|| fault(&"the trust bundle has no signature"))?;
    let payload = evidence::cose::claimed_payload(first).map_err(|error| fault(&error))?;
    TrustBundle::decode(&payload).map_err(|error| fault(&error))
}

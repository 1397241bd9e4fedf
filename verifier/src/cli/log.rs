//! `verifier log`: the transparency log, as served and as stored.

use std::process::ExitCode;

use audit::fsck::LogAudit;
use clap::{Args, Subcommand};
use evidence::cose::KeySet;
use wire::proto::{LogCheckpoint, LogProve, operator_command::Command};

use super::service::Service;
use super::{CommandError, Common, output};
use crate::config::Config;
use crate::governor::own_bundles;
use crate::live::Live;
use crate::log::audit_whole_log;
use crate::open::{checkpoint_signer, parts};
use crate::state::StateFolder;
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
        let signer = checkpoint_signer(&state, &config).map_err(|error| fault(&error))?;
        let parts = parts(&state, &config, Live::default()).map_err(|error| fault(&error))?;
        let reads = database.reads().map_err(|error| fault(&error))?;
        let bundles = own_bundles(&parts, &reads).await.map_err(|error| fault(&error))?;
        signer.learn(bundles.iter().flat_map(|bundle| &bundle.verified.bundle().log).map(|record| &record.key));
        let issuers = bundles.iter().flat_map(|bundle| &bundle.verified.bundle().issuer).map(|record| &record.key);
        let issuers = KeySet::new(issuers);
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

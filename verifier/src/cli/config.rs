//! `verifier config`: what a configuration enforces, in words.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{CommandError, Common, Format, output};
use crate::config::Config;

/// Arguments of `verifier config`.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Read the configuration as `serve` would, and say what it enforces.
    Check {
        /// A file other than the state folder's verifier.toml.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

impl ConfigArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let Verb::Check { config } = &self.verb;
        let path = config.clone().unwrap_or_else(|| self.common.state.join("verifier.toml"));
        let config = Config::load(&path, std::env::vars()).map_err(CommandError::usage)?;
        match self.common.format {
            Format::Json => output::json(&serde_json::json!({"config": config, "enforced": config.in_words()})),
            Format::Text => output::line(&config.in_words().join("\n")),
        }
        Ok(())
    }
}
